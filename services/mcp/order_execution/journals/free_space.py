"""The last of the disk is kept for closing what is open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..clock import Clock
from ..errors import JournalFull, JournalUnavailable

_KNOWN_SECONDS: Final = 1.0


def free_disk_bytes(directory: Path) -> int:
    """Bytes that are free for us on the disk of ``directory``."""
    return shutil.disk_usage(directory).free


class FreeSpace:
    """Refuses what needs space while less than ``min_free_bytes`` are free; looked up at most once a second."""

    def __init__(self, clock: Clock, min_free_bytes: int, free_bytes: Callable[[Path], int]) -> None:
        self._clock = clock
        self._min_free = min_free_bytes
        self._free_bytes = free_bytes
        self._known_until = float("-inf")
        self._free = 0

    def forget(self) -> None:
        """Look it up anew the next time."""
        self._known_until = float("-inf")

    def require(self, directory: Path, order_id: str) -> None:
        """Raise JournalFull where too little is free, JournalUnavailable where that is not to be learnt."""
        now = self._clock.monotonic()
        if now >= self._known_until:
            try:
                self._free = self._free_bytes(directory)
            except OSError as error:
                message = f"cannot tell how much disk is free for the journal: {error}"
                raise JournalUnavailable(message, order_id=order_id) from error
            self._known_until = now + _KNOWN_SECONDS
        if self._free < self._min_free:
            raise JournalFull(
                f"{self._free} bytes are free for the journal and {self._min_free} are kept for open orders",
                order_id=order_id,
            )
