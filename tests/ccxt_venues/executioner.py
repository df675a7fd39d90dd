"""Kills a bot at a moment that only the venue knows: some time after it has seen so many of its requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal


class Executioner:
    """Holds one process by a descriptor, so that no other process is ever hit. Linux only."""

    def __init__(self, pid: int, operation: str, after: int, delay: float) -> None:
        self._process: int | None = os.pidfd_open(pid)
        self._operation = operation
        self._left = after
        self._delay = delay

    def seen(self, operation: str) -> None:
        """One request of this operation has come."""
        if operation != self._operation:
            return
        self._left -= 1
        if self._left == 0:
            asyncio.get_running_loop().call_later(self._delay, self._kill)

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def dismiss(self) -> None:
        """Kill nobody any more; harmless when repeated."""
        process, self._process = self._process, None
        if process is not None:
            os.close(process)
