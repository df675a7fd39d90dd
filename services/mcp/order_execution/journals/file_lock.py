"""One writer per journal file: a lock that the kernel drops when the process ends, however it ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from pathlib import Path
from typing import Final

from ..clock import Clock
from ..errors import JournalError, JournalLocked

_RETRY_SECONDS: Final = 0.05
_MODE: Final = 0o600


class FileLock:
    """An exclusive ``flock`` on a side file, which names its holder for the other's error message.

    The file stays when the lock is released: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    async def acquire(self, clock: Clock, wait_seconds: float) -> None:
        """Take the lock, trying for ``wait_seconds``. Raises JournalLocked, JournalError."""
        deadline = clock.monotonic() + wait_seconds
        while not self._try():
            if clock.monotonic() >= deadline:
                raise JournalLocked(
                    f"{self.path} is locked by {self._holder()}; a journal has one writer at a time: "
                    "stop that process, or open the journal read-only"
                )
            await asyncio.sleep(_RETRY_SECONDS)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def held(self) -> bool:
        """Whether the lock is held and its name still means it; not once the file was removed or replaced."""
        if self._descriptor is None:
            return False
        try:
            mine, named = os.fstat(self._descriptor), self.path.stat()
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)

    def _try(self) -> bool:
        """Try once, without waiting."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise JournalError(f"cannot create the lock {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise JournalError(f"cannot lock {self.path}: {error.strerror}") from error
        self._descriptor = descriptor
        return True

    def _holder(self) -> str:
        """Who holds the lock, as far as the file tells."""
        try:
            words = self.path.read_text(errors="replace").split()
        except OSError:
            words = []
        return f"process {words[0]} on {words[1]}" if len(words) == 2 else "another process"
