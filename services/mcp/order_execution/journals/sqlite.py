"""The default journal: one SQLite file, one writing thread, group commit, one writer per file.

The writer keeps its own connection and thread (:mod:`.sqlite_writer`), reads have theirs
(:mod:`.sqlite_reader`). Only one connection ever writes or moves the log into the file: several at once run
into a corruption bug of SQLite 3.7.0 to 3.51.2. A local disk is needed; SQLite's log does not work on a
network share.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ..clock import Clock
from ..errors import (
    JournalError,
    JournalLagging,
    JournalReadOnly,
    JournalUnavailable,
)
from ..models import EventKind, Order, OrderEvent
from . import sqlite_reader as questions
from .base import Journal, JournalHealth
from .codec import KeptOrder, decode_order
from .file_lock import FileLock
from .free_space import FreeSpace, free_disk_bytes
from .sqlite_check import FileCheck
from .sqlite_reader import Scan, SQLiteReader
from .sqlite_schema import create_directory
from .sqlite_writer import SQLiteWriter

T = TypeVar("T")

SCAN_PAGE: Final = 500
"""Orders in one batch of ``scan``."""

_CLOSE_SECONDS: Final = 30.0
_JOIN_SECONDS: Final = 5.0
_OURS_MAX: Final = 1_000


class _Phase(Enum):
    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()


# Every order comes past these: a member of an enumeration is looked up at the price of a call.
_OPEN: Final = _Phase.OPEN
_INTENT: Final = EventKind.INTENT
_RESEND: Final = EventKind.RESEND


class SQLiteJournal(Journal):
    """Orders and events in one SQLite file.

    ``max_lag_seconds``: above this lag ``commit`` refuses. ``min_free_bytes``: below this much free disk
    intents and resends are refused; the rest goes on, to close what is open. ``lock_wait_seconds``: how
    long ``open`` tries to become the one writer. ``max_waiting``: entries that may wait at once.
    ``switch_interval`` (seconds): how often threads take turns in this *process* while the journal is open;
    0.0001 keeps a saturated event loop from starving the writer.

    After a failed append nothing further is written, neither by ``commit`` (which raises) nor by ``enqueue``
    (which drops, since the exchange can tell it again); ``health()`` and ``flush()`` say so, and reads answer
    from what the file holds. Closing and opening anew ends that state, also on
    the same object. A ``commit`` waits as long as the disk
    takes; its caller bounds it with a timeout. All methods belong to the event loop in which ``open`` ran,
    except ``close``, which any loop may call, and ``health``, which any thread may.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        read_only: bool = False,
        max_lag_seconds: float = 5.0,
        min_free_bytes: int = 64 * 2**20,
        lock_wait_seconds: float = 0.0,
        max_waiting: int = 100_000,
        free_bytes: Callable[[Path], int] = free_disk_bytes,
        switch_interval: float | None = None,
    ) -> None:
        self.read_only = read_only
        self._given_path = path
        self._path = path
        self._clock = clock
        self._max_lag = max_lag_seconds
        self._lock_wait = lock_wait_seconds
        self._max_waiting = max_waiting
        self._switch_interval = switch_interval
        self._former_interval: float | None = None
        self._phase = _Phase.CLOSED
        self._failed: str | None = None  # why the last opening ended in failure, until the next one succeeds
        self._closing = asyncio.Lock()
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._lock: FileLock | None = None
        self._writer: SQLiteWriter | None = None
        self._check: FileCheck | None = None
        self._checking: asyncio.Task[None] | None = None
        self._reader: SQLiteReader | None = None
        self._identity: tuple[int, int] | None = None
        self._space = FreeSpace(clock, min_free_bytes, free_bytes)
        self._ours: set[str] = set()
        """Orders of which the intent is durable, and after which the file was still ours."""

    async def open(self) -> None:
        """Lock, migrate and check; after an unclean end the file is read through once, a large one beside its use.

        Raises JournalLocked (another writer), JournalSchemaError (newer, or not a journal), JournalError
        (damaged, unreadable, already open). Creates the file, readable by its owner alone, and its directory.
        """
        if self._phase is not _Phase.CLOSED:
            raise JournalError(f"the journal {self._path} is already open")
        self._phase = _Phase.OPENING
        self._home = (asyncio.get_running_loop(), os.getpid())
        try:
            self._path = _resolved(self._given_path)
            if not self.read_only:
                await self._open_writer()
            self._reader = SQLiteReader(self._path)
            await self._reader.open()
            self._check_beside()
        except BaseException:
            await self._shut_down()
            raise
        self._phase = _OPEN
        self._failed = None

    async def close(self) -> None:
        """Write what waits, move the log into the file, end the threads, release the lock.

        Raises JournalError when entries that were waiting could not be made durable, or when the disk does
        not answer within 30 seconds; then the lock stays held, for the thread may still write.
        """
        async with self._closing:
            if self._phase is _Phase.CLOSED:
                return
            self._phase = _Phase.CLOSING
            writer = self._writer
            sound = writer is not None and writer.failure is None
            await self._shut_down()
            if sound and writer is not None and writer.failure is not None:
                raise JournalError(f"the journal {self._path} lost its last entries: {writer.failure}")

    async def commit(self, event: OrderEvent) -> None:
        """Append and return once it is durable. See :meth:`Journal.commit`.

        After an unclean end an intent waits until a large file has been read through.
        """
        order_id, kind = event.order.order_id, event.kind
        needs_space = kind is _INTENT or kind is _RESEND
        if needs_space and not self.is_ready:
            await self.ready()
        writer = self._sound_writer(order_id)
        if needs_space:
            self._space.require(self._path.parent, order_id)
        try:
            written = writer.append_waiting(event)
        except JournalError as error:
            raise JournalUnavailable(str(error), order_id=order_id) from error
        ours = await written
        if ours and needs_space:
            if len(self._ours) >= _OURS_MAX:
                self._ours.clear()  # of those that were never sent; they are asked for anew
            self._ours.add(order_id)

    @property
    def is_ready(self) -> bool:
        """False while a large file that was not closed is being read through."""
        return self._checking is None

    async def ready(self) -> None:
        """Return once it has been; whether it is sound, ``commit`` tells."""
        if self._checking is not None:
            await asyncio.wait({self._checking})

    def _sound_writer(self, order_id: str) -> SQLiteWriter:
        """The writer, where it may take more. Raises JournalUnavailable, JournalLagging, JournalReadOnly."""
        try:
            writer = self._require_writer()
        except JournalReadOnly:
            raise
        except JournalError as error:
            raise JournalUnavailable(str(error), order_id=order_id) from error
        if writer.failure is not None:
            why = f"the journal refuses orders until it is opened anew: {writer.failure}"
            raise JournalUnavailable(why, order_id=order_id)
        lag = writer.lag()
        if lag > self._max_lag or writer.waiting >= self._max_waiting:
            why = f"the journal lags {lag:.1f} s behind with {writer.waiting} entries"
            raise JournalLagging(why, order_id=order_id)
        return writer

    def enqueue(self, event: OrderEvent) -> None:
        """Append behind. After a failure the entry is dropped; see :meth:`Journal.enqueue`."""
        if self._failed is not None and not self.read_only:
            return  # between the failure and the next opening
        writer = self._require_writer()
        if writer.failure is not None:
            return
        if writer.waiting >= self._max_waiting:
            # Dropping one entry silently would leave a gap in its order's versions.
            writer.fail(f"more than {self._max_waiting} entries wait to be written")
            return
        writer.append(event)

    async def flush(self) -> None:
        """Return once everything appended so far is durable. Raises JournalError after any failure."""
        self._require_open()
        writer = self._writer
        if writer is None:
            return
        await writer.settled()
        if writer.failure is not None:
            raise JournalError(f"not everything is durable: {writer.failure}")

    async def get(self, order_id: str) -> Order | None:
        """Return the order, or None."""
        return await self._ask(partial(questions.get_order, order_id=order_id))

    async def find_by_exchange_id(self, exchange_order_id: str) -> Order | None:
        """Return the order that has this id at the exchange (the youngest such), or None."""
        return await self._ask(partial(questions.find_by_exchange_id, exchange_order_id=exchange_order_id))

    async def claim(self) -> list[Order]:
        """Return all unsettled orders, oldest first: the one writer is responsible for each."""
        return await self._ask(questions.open_orders)

    def owns(self, order_id: str) -> bool:
        """Whether this process is still the file's one writer.

        False also when the file or its lock was removed or replaced; then no further order is accepted.
        """
        if self._phase is not _OPEN or self._lock is None or self._writer is None:
            return False
        if not self._is_at_home():
            return False
        if order_id in self._ours:
            self._ours.discard(order_id)  # asked right after the intent had become durable; it holds for one send
            return True
        if self._is_ours():
            return True
        self._writer.fail("the file or its lock was removed or replaced while in use")
        return False

    def _is_ours(self) -> bool:
        """Whether file and lock are still those that were opened. Asks the system."""
        return self._lock is not None and self._lock.held() and _identity(self._path) == self._identity

    async def history(self, order_id: str) -> list[dict[str, object]]:
        """Return the order's events, oldest first, as ``OrderEvent.to_dict()`` wrote them."""
        return await self._ask(partial(questions.history, order_id=order_id))

    async def scan(self, since: datetime, until: datetime) -> AsyncIterator[list[Order]]:
        """All orders created in ``since <= t < until`` and all unsettled ones, in batches of at most 500."""
        pages = Scan(since, until, SCAN_PAGE, lambda body, _: decode_order(body))
        while not pages.finished:
            if batch := await self._ask(pages.next_page):
                yield batch

    async def scan_kept(self, since: datetime, until: datetime) -> AsyncIterator[list[KeptOrder]]:
        """The same without making records of them."""
        pages = Scan(since, until, SCAN_PAGE, KeptOrder)
        while not pages.finished:
            if batch := await self._ask(pages.next_page):
                yield batch

    async def count_created(self, since: datetime, until: datetime) -> int:
        """How many orders were created in ``since <= t < until``, by the index alone."""
        return await self._ask(partial(questions.count_created, since=since, until=until))

    async def count(self) -> int:
        """How many orders there are."""
        return await self._ask(questions.count)

    async def get_flag(self, name: str) -> str | None:
        """Return a durable setting, or None."""
        return await self._ask(partial(questions.get_flag, name=name))

    async def set_flag(self, name: str, value: str | None) -> None:
        """Set or clear a durable setting; neither lag nor a filling disk refuses it. Raises JournalError."""
        writer = self._require_writer()
        if writer.failure is not None:
            raise JournalError(f"the journal cannot be written until it is opened anew: {writer.failure}")
        await writer.set_flag(name, value)

    def health(self) -> JournalHealth:
        """Where the journal stands now; any thread may ask."""
        writer = self._writer
        if self._phase is not _OPEN:
            return JournalHealth(lag=0.0, failure=self._failed or "the journal is not open")
        if writer is None:
            return JournalHealth(lag=0.0)
        # In this order: the writer's thread notes a failure before it counts its entries as no longer waiting.
        waiting = writer.waiting
        return JournalHealth(lag=writer.lag(), failure=writer.failure, waiting=waiting)

    def backlog(self) -> int | None:
        """The same without looking at a clock."""
        writer = self._writer
        if self._phase is not _OPEN:
            return None
        if writer is None:
            return 0
        waiting = writer.waiting  # first: the thread notes a failure before it counts its entries
        return None if writer.failure is not None else waiting

    async def _open_writer(self) -> None:
        create_directory(self._path)
        lock = FileLock(self._path.with_name(self._path.name + ".lock"))
        await lock.acquire(self._clock, self._lock_wait)
        self._lock = lock
        owner = f"{socket.gethostname()}:{os.getpid()}"
        self._writer = SQLiteWriter(self._path, self._clock, owner, self._is_ours)
        await self._writer.open()
        self._identity = _identity(self._path)
        self._ours.clear()
        self._space.forget()
        if self._switch_interval is not None:
            self._former_interval = sys.getswitchinterval()
            sys.setswitchinterval(self._switch_interval)

    def _check_beside(self) -> None:
        """Read a large file through beside its use, where the last writer did not close it."""
        writer = self._writer
        if writer is None or not writer.unchecked:
            return
        self._check = FileCheck(self._path)
        self._checking = asyncio.get_running_loop().create_task(self._run_check(self._check, writer), name="check")

    async def _run_check(self, check: FileCheck, writer: SQLiteWriter) -> None:
        try:
            await check.run()
        except JournalError as error:
            writer.fail(str(error))
        else:
            writer.unchecked = False
            self._checking = None

    async def _end_check(self) -> None:
        """Break the check off; the next opening begins anew."""
        if self._checking is not None and self._check is not None:
            self._check.stop()
            if self._checking.get_loop() is asyncio.get_running_loop():
                await asyncio.wait({self._checking})
        self._check = self._checking = None

    async def _shut_down(self) -> None:
        """Release everything that ``open`` took, also when it failed half way; may be called again."""
        await self._end_check()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._close_connections()
        except TimeoutError as error:
            raise JournalError(
                f"the journal {self._path} did not end within {_CLOSE_SECONDS:.0f} s; it stays locked"
            ) from error
        if self._former_interval is not None:
            sys.setswitchinterval(self._former_interval)
            self._former_interval = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._phase = _Phase.CLOSED

    async def _close_connections(self) -> None:
        writer = self._writer
        if writer is not None and writer.running:
            await writer.drain()
        if writer is not None and writer.failure is not None:
            self._failed = writer.failure
            # Whoever closes last moves the log into the file, unless it may only read. After a failure the
            # log stays as it is, for the next opening to judge.
            await self._close_writer()
        await self._close_reader()
        await self._close_writer()

    async def _close_reader(self) -> None:
        if self._reader is not None:
            await _close_thread(self._reader)
            self._reader = None

    async def _close_writer(self) -> None:
        if self._writer is not None:
            await _close_thread(self._writer)
            self._writer = None

    def _require_open(self) -> None:
        if self._phase is not _OPEN:
            raise JournalError(f"the journal {self._path} is not open")
        if not self._is_at_home():
            raise JournalError(
                f"the journal {self._path} was opened in another event loop or process; open one there"
            )

    def _is_at_home(self) -> bool:
        """Whether this is the loop, and the process, in which the journal was opened."""
        try:
            return self._home == (asyncio.get_running_loop(), os.getpid())
        except RuntimeError:
            return False

    def _require_writer(self) -> SQLiteWriter:
        if self.read_only:
            raise JournalReadOnly(f"the journal {self._given_path} is open for reading only")
        self._require_open()
        if self._writer is None:
            raise JournalError(f"the journal {self._path} is not open")
        return self._writer

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask the file once it holds everything that was appended before."""
        self._require_open()
        if self._writer is not None:
            await self._writer.settled()
        if self._reader is None:
            raise JournalError(f"the journal {self._path} is closed")
        return await self._reader.ask(question)


async def _close_thread(owner: SQLiteReader | SQLiteWriter) -> None:
    if owner.running:
        await owner.close()
    if not owner.stop(_JOIN_SECONDS):
        raise TimeoutError


def _resolved(path: Path) -> Path:
    """The one name of a file, so that two names of it share one lock."""
    return path.resolve()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file the name means now; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
