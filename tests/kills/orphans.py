"""Processes of the kill tests that may not outlive the one that started them, however that one ended."""

from __future__ import annotations

import ctypes
import os
import signal

_SET_DEATH_SIGNAL = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process, stopped or not, when ``parent`` ends; at once if it has. Linux only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
