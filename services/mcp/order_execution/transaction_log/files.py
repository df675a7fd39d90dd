"""Append-only files, one per stream and day (UTC): ``orders-2026-01-31.jsonl``."""

from __future__ import annotations

import fcntl
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

ORDERS: Final = "orders"
FILLS: Final = "fills"
ERRORS: Final = "errors"
STREAMS: Final = (ORDERS, FILLS, ERRORS)

OPEN_FILES_MAX: Final = 6
"""Three streams on both sides of midnight."""

_WRITES_MAX: Final = 1_000


def file_name(stream: str, day: date) -> str:
    """The name of one day's file."""
    return f"{stream}-{day.isoformat()}.jsonl"


def day_of(at: datetime) -> date:
    """The day, in UTC, whose file a record of this time belongs to."""
    return at.astimezone(UTC).date()


class DayFiles:
    """Keeps the files of the present day open, and follows the records over midnight.

    Files are made readable for their owner alone. Belongs to one thread at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()

    def append(self, name: str, data: bytes) -> None:
        """Append whole lines to a file. Raises OSError; the file is then opened anew by the next append."""
        try:
            descriptor = self._descriptor(name)
            with _alone(descriptor):
                _write_all(descriptor, data)
        except OSError:
            # Part of a line may be in the file now; opening it anew starts on a fresh line.
            self._release(name, sync=False)
            raise

    def sync(self) -> None:
        """Make everything appended so far durable. Raises OSError."""
        for descriptor in self._open.values():
            os.fsync(descriptor)

    def close(self) -> None:
        """Make everything durable and release the files. Raises the first OSError, after all are released."""
        failure: OSError | None = None
        for name in list(self._open):
            try:
                self._release(name, sync=True)
            except OSError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _descriptor(self, name: str) -> int:
        descriptor = self._open.get(name)
        if descriptor is not None:
            self._open.move_to_end(name)
            return descriptor
        if len(self._open) >= OPEN_FILES_MAX:
            self._release(next(iter(self._open)), sync=True)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / name
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with _alone(descriptor):
                if _is_torn(descriptor):
                    _write_all(descriptor, b"\n")
        except OSError:
            os.close(descriptor)
            raise
        self._open[name] = descriptor
        return descriptor

    def _release(self, name: str, *, sync: bool) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is None:
            return
        try:
            if sync:
                os.fsync(descriptor)
        finally:
            with suppress(OSError):  # what was written is reported by write and fsync; closing adds nothing
                os.close(descriptor)


@contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """Keep other writers of this file out: what one of them has half written would look torn."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_torn(descriptor: int) -> bool:
    """Whether a kill has left the file's last line without its end."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    for _ in range(_WRITES_MAX):
        rest = rest[os.write(descriptor, rest) :]
        if not rest:
            return
    raise OSError(f"{len(rest)} bytes were left after {_WRITES_MAX} writes")
