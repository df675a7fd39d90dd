"""A disk for the production journal that notes every write, and fails on demand: an SQLite VFS through apsw.

The journal speaks to the standard library's driver. For the time of a test that driver is replaced by a thin
adapter over apsw, whose files this VFS sees; what is recovered afterwards is read by the standard library again.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import apsw

from services.mcp.order_execution.journals import sqlite_schema

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Operation:
    """What the journal did to one of its files."""

    kind: str
    """write, truncate, sync or delete."""
    file: str
    at: int = 0
    data: bytes = b""


class RecordingDisk(apsw.VFS):
    """Notes what is done to its files. ``fail_from``, ``fail_times``: which operations fail, with ``error``.

    ``failing_reads``: how many of the next reads fail.
    """

    def __init__(self, name: str) -> None:
        self.vfs_name = name
        self.log: list[Operation] = []
        self.count = 0
        self.fail_from = 0
        self.fail_times = 0
        self.failing_reads = 0
        self.reads_failed = 0
        self.error: type[apsw.Error] = apsw.IOError
        super().__init__(name, "unix")

    def note(self, operation: Operation) -> None:
        """Keep one operation, or fail it."""
        self.count += 1
        if self.fail_from and self.fail_from <= self.count < self.fail_from + self.fail_times:
            raise self.error(f"injected into {operation.kind}")
        self.log.append(operation)

    def xOpen(self, name: Any, flags: list[int]) -> RecordingFile:
        return RecordingFile(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        self.log.append(Operation("delete", Path(name).name))
        super().xDelete(name, sync)


class RecordingFile(apsw.VFSFile):
    """One file on it."""

    def __init__(self, disk: RecordingDisk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.file = Path(name.filename() if hasattr(name, "filename") else str(name)).name
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        if self.disk.failing_reads > 0:
            self.disk.failing_reads -= 1
            self.disk.reads_failed += 1
            raise apsw.IOError("injected into read")
        return bytes(super().xRead(amount, offset))

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.note(Operation("write", self.file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self.disk.note(Operation("truncate", self.file, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self.disk.note(Operation("sync", self.file))


class _Cursor:
    """What the journal uses of a cursor."""

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows


class _Connection:
    """What the journal uses of a connection."""

    def __init__(self, path: str, flags: int, vfs: str) -> None:
        with _our_errors():
            self._inner = apsw.Connection(path, flags=flags, vfs=vfs)

    @property
    def in_transaction(self) -> bool:
        return bool(self._inner.in_transaction)

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> _Cursor:
        with _our_errors():
            rows = list(self._inner.execute(sql, parameters))
            return _Cursor(rows, self._inner.changes())

    def close(self) -> None:
        with suppress(apsw.Error):  # as the standard driver: a checkpoint that fails at the end is no error
            self._inner.close()


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        kind = sqlite3.OperationalError if not isinstance(error, apsw.ConstraintError) else sqlite3.IntegrityError
        told = kind(str(error))
        told.sqlite_errorcode = getattr(error, "extendedresult", 0)  # type: ignore[attr-defined]
        raise told from error


@contextmanager
def disk(name: str) -> Iterator[RecordingDisk]:
    """Let every journal that is opened meanwhile lie on a recording disk."""
    made = RecordingDisk(name)

    def connect(address: str, **options: Any) -> _Connection:
        parsed = urlparse(address)
        read_only = "mode=ro" in parsed.query
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        return _Connection(unquote(parsed.path), flags, name)

    given = sqlite_schema.sqlite3.connect
    sqlite_schema.sqlite3.connect = connect  # type: ignore[assignment]
    try:
        yield made
    finally:
        sqlite_schema.sqlite3.connect = given
        made.unregister()


def image(log: list[Operation], rng: random.Random, directory: Path, *, lying: bool = False) -> None:
    """Write the files as a power cut after these operations may have left them.

    What was synced is there. Of the rest any part may be, in any order, and torn at sectors; ``lying``: the disk
    ignored every sync.
    """
    files: dict[str, bytearray] = {}
    pending: dict[str, list[Operation]] = {}
    for operation in log:
        if operation.kind == "sync":
            if not lying:
                for done in pending.pop(operation.file, []):
                    _apply(files, done)
        elif operation.kind == "delete":
            pending.pop(operation.file, None)
            files.pop(operation.file, None)
        else:
            pending.setdefault(operation.file, []).append(operation)
    for operations in pending.values():
        for operation in _what_the_cache_wrote(operations, rng):
            _apply(files, operation)
    for name, content in files.items():
        (directory / name).write_bytes(content)


def _what_the_cache_wrote(operations: list[Operation], rng: random.Random) -> Iterator[Operation]:
    share = rng.choice((0.0, 0.5, 1.0))
    kept = [operation for operation in operations if rng.random() < share]
    if rng.random() < 0.5:
        rng.shuffle(kept)
    for operation in kept:
        if operation.kind == "write" and rng.random() < 0.3:
            for start in range(0, len(operation.data), SECTOR):
                if rng.random() < 0.5:
                    part = operation.data[start : start + SECTOR]
                    yield Operation("write", operation.file, operation.at + start, part)
        else:
            yield operation


def _apply(files: dict[str, bytearray], operation: Operation) -> None:
    content = files.setdefault(operation.file, bytearray())
    if operation.kind == "truncate":
        del content[operation.at :]
        return
    if len(content) < operation.at:
        content.extend(bytes(operation.at - len(content)))
    content[operation.at : operation.at + len(operation.data)] = operation.data


def rounds(default: int) -> int:
    """How many cuts to try; CRASH_ROUNDS asks for another number."""
    return int(os.environ.get("CRASH_ROUNDS", default))
