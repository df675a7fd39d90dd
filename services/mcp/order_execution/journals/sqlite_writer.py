"""Group commit: whatever waits is written in one transaction, with one durable write, by one thread.

The event loop turns events into values and appends them to a queue, and the thread takes from it; so the thread
needs the interpreter only to hand a batch over to SQLite. One wake-up of the loop per batch, not per entry,
releases those who wait. What nobody waits for (acknowledgements, fills) does not wake the thread by itself: it
rides with the next entry that somebody waits for, or alone after a few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..clock import Clock
from ..errors import JournalError, LeaseLost
from ..models import OrderEvent
from .codec import clean_text, encode_event, encode_order, to_micros
from .sqlite_batch import COLUMNS, NOTHING, ROWS_MAX, ForeignEpochError, NotNextVersionError, Row, append, prepare
from .sqlite_schema import (
    begin_epoch,
    connect_writer,
    create_file,
    describe,
    end_epoch,
    is_large,
    read_epoch,
    roll_back,
    was_closed,
)
from .worker_thread import WorkerThread

_logger = logging.getLogger(__name__)

MAX_BATCH: Final = 1024
"""Entries in one transaction, so that the first of a flood does not wait for the last."""
BEHIND_SECONDS: Final = 0.01
"""How long what nobody waits for may wait for something that somebody does, to share its durable write."""

_SET_FLAG: Final = """
INSERT INTO flags (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_CLEAR_FLAG: Final = "DELETE FROM flags WHERE name = ?"


@dataclass(frozen=True, slots=True)
class FlagChange:
    """A durable setting, or with None its end."""

    name: str
    value: str | None


@dataclass(slots=True, eq=False)
class _Entry:
    """One thing to write, or with neither row nor flag a marker that asks when everything before it is settled."""

    at: float
    row: Row | None = None
    flag: FlagChange | None = None
    future: asyncio.Future[bool] | None = None
    error: JournalError | None = None

    @property
    def is_marker(self) -> bool:
        """Whether there is nothing to write."""
        return self.row is None and self.flag is None


class SQLiteWriter:
    """The one connection that writes. All methods belong to the loop; ``_in_thread`` ones to the thread.

    A failure is final: after it every further entry fails unwritten, for what the disk holds is no longer
    known. ``failure`` says what happened; None while all is well.
    """

    def __init__(self, path: Path, clock: Clock, owner: str, is_ours: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._is_ours = is_ours
        self._clock = clock
        self._owner = owner
        self._thread = WorkerThread("journal-writer")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: sqlite3.Connection | None = None
        self._epoch = 0
        self._incoming: deque[_Entry] = deque()
        self._settled: deque[list[_Entry]] = deque()
        self._oldest: _Entry | None = None  # the first entry of the batch that the thread has in hand
        self._drain_due = False
        self._waking = False  # the thread is to be woken at the end of this turn of the loop
        self._woken = float("-inf")  # when that was, the last time that it had nothing in hand
        self._timer_due = False
        self._wanted = 0  # entries that somebody waits for, and how many of them the thread has taken
        self._wanted_taken = 0
        self._appended = 0
        self._written = 0
        self.failure: str | None = None
        self.unchecked = False
        """The file was not closed by its last writer, and nobody has read it through since."""

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.running

    @property
    def waiting(self) -> int:
        """Entries that are not yet settled."""
        return self._appended - self._written

    def lag(self) -> float:
        """Seconds that the oldest unsettled entry has waited for the thread, or nearly so."""
        oldest = self._oldest
        if oldest is None:
            if self._waking:
                return 0.0  # however long this turn of the loop lasts, the thread has not been asked yet
            try:
                oldest = self._incoming[0]
            except IndexError:
                return 0.0
        return max(0.0, self._clock.monotonic() - max(oldest.at, self._woken))

    async def open(self) -> None:
        """Make, migrate and check the file. Raises JournalSchemaError, JournalError."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        await self._thread.call(self._open_in_thread)

    async def close(self) -> None:
        """Write what waits, mark the file as cleanly closed unless something failed, and end the thread."""
        await self._thread.call(self._close_in_thread)

    async def drain(self) -> None:
        """Return once everything appended so far is settled; unlike ``settled``, from any loop."""
        await self._thread.call(self._drain_in_thread)

    def stop(self, timeout: float) -> bool:
        """End the thread; False when it still works after ``timeout`` seconds."""
        return self._thread.stop(timeout)

    def append(self, event: OrderEvent) -> None:
        """Write with the next batch, or on its own within ``BEHIND_SECONDS``.

        An event that cannot be written fails the journal: it would leave a gap in its order's versions.
        """
        try:
            row = self._row(event)
        except JournalError as error:
            self.fail(str(error))
            return
        self._appended += 1
        self._incoming.append(_Entry(self._clock.monotonic(), row))
        if not self._timer_due and self._loop is not None:
            self._timer_due = True
            self._loop.call_later(BEHIND_SECONDS, self._write_behind)

    def append_waiting(self, event: OrderEvent) -> asyncio.Future[bool]:
        """Write with the next batch; the future ends once it is durable, or with a JournalError.

        True: after it the file was still ours. Whoever stops waiting leaves the entry in its place: it is written
        all the same. Raises JournalError for an event that cannot be written: nothing was appended.
        """
        return self._put(_Entry(self._clock.monotonic(), self._row(event)))

    async def set_flag(self, name: str, value: str | None) -> None:
        """Write a durable setting, or with None clear it. Raises JournalError."""
        if not (isinstance(name, str) and (value is None or isinstance(value, str))):
            raise JournalError(f"the flag {name!r} cannot hold a {type(value).__name__}; expected text or None")
        await self._put(_Entry(self._clock.monotonic(), flag=FlagChange(name, value)))

    async def settled(self) -> None:
        """Return once everything appended so far is durable or has failed."""
        if not self._incoming and self._oldest is None:
            return
        await self._put(_Entry(self._clock.monotonic()))

    def fail(self, why: str) -> None:
        """Refuse everything from now on; the first reason stands."""
        if self.failure is None:
            self.failure = why
            _logger.error("the journal %s refuses further entries: %s", self._path, why)

    def _put(self, entry: _Entry) -> asyncio.Future[bool]:
        """Queue an entry that somebody waits for."""
        loop = asyncio.get_running_loop()
        entry.future = future = loop.create_future()
        if not entry.is_marker:
            self._appended += 1
        self._incoming.append(entry)
        self._wanted += 1
        # Appended before the flag is read; the thread clears it before it takes: none is left behind.
        if not self._drain_due:
            self._drain_due = True
            # At the end of this turn of the loop: whatever else it brings shares the durable write, and the thread
            # does not wake to find the interpreter taken.
            self._waking = True
            loop.call_soon(self._wake)
        return future

    def _wake(self) -> None:
        self._waking = False
        if self._oldest is None:
            self._woken = self._clock.monotonic()
        self._thread.submit(self._drain_wanted_in_thread)

    def _write_behind(self) -> None:
        """Write what has been left behind until now; nothing to do when it found a ride."""
        self._timer_due = False
        if self._incoming:
            self._thread.submit(self._drain_in_thread)

    def _release_waiters(self) -> None:
        """Tell those who wait how their entries fared."""
        while self._settled:
            batch = self._settled.popleft()
            ours: bool | None = None  # asked of the system once for a batch, and only where something was written
            for entry in batch:
                future = entry.future
                if future is None or future.done():
                    continue
                if entry.error is not None:
                    future.set_exception(entry.error)
                    continue
                if ours is None:
                    ours = self._is_ours()
                future.set_result(ours)

    def _open_in_thread(self) -> None:
        create_file(self._path)
        self._connection = connect_writer(self._path)
        try:
            self.unchecked = not was_closed(self._connection) and is_large(self._path)
            self._epoch = begin_epoch(self._connection)
            prepare(self._connection)
        except sqlite3.Error as error:
            raise describe(error, self._path) from error

    def _close_in_thread(self) -> None:
        self._drain_in_thread()
        if self._connection is None:
            return
        try:
            if self.failure is None:
                end_epoch(self._connection, checked=not self.unchecked)
        except sqlite3.Error as error:
            # All entries are durable; only the next opening has to read the file through.
            _logger.warning("the journal %s could not be marked as closed: %s", self._path, error)
        finally:
            self._connection.close()
            self._connection = None

    def _drain_in_thread(self) -> None:
        """Write everything."""
        while self._incoming:
            self._write_batch_in_thread()

    def _drain_wanted_in_thread(self) -> None:
        """Write up to the last entry that somebody waits for, and what has come until then."""
        self._drain_due = False
        while self._incoming and self._wanted_taken != self._wanted:
            self._write_batch_in_thread()

    def _write_batch_in_thread(self) -> None:
        self._oldest = self._incoming[0]
        batch = [self._incoming.popleft() for _ in range(min(len(self._incoming), MAX_BATCH))]
        entries = [entry for entry in batch if not entry.is_marker]
        waited = sum(entry.future is not None for entry in batch)
        self._wanted_taken += waited
        if entries:
            self._write_in_thread(entries)
        self._written += len(entries)
        self._oldest = None
        if not waited:
            return
        self._settled.append(batch)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                self._loop.call_soon_threadsafe(self._release_waiters)

    def _write_in_thread(self, entries: Sequence[_Entry]) -> None:
        """Write a batch or fail it whole; an entry that is wrong in itself fails alone."""
        connection = self._connection
        if self.failure is not None or connection is None:
            for entry in entries:
                entry.error = JournalError(f"not written: {self.failure or 'the journal is closed'}")
            return
        try:
            if not self._wrote_at_once(connection, entries):
                self._write_one_by_one(connection, entries)
        except Exception as error:  # noqa: BLE001 - whatever it was, the batch is in doubt and must say so
            roll_back(connection)
            self.fail(f"an append failed: {error}")
            for entry in entries:
                entry.error = _in_doubt(error)
            return
        for entry in entries:
            if entry.error is not None:
                self.fail(str(entry.error))

    def _wrote_at_once(self, connection: sqlite3.Connection, entries: Sequence[_Entry]) -> bool:
        """Write a batch in one statement, or in few; False, with nothing written, where it has to be one by one."""
        rows = [entry.row for entry in entries if entry.row is not None]
        if len(rows) != len(entries):
            return False
        try:
            if len(rows) <= ROWS_MAX:
                append(connection, rows, self._owner, self._epoch)  # outside of a transaction it is one itself
                return True
            connection.execute("BEGIN IMMEDIATE")
            for start in range(0, len(rows), ROWS_MAX):
                append(connection, rows[start : start + ROWS_MAX], self._owner, self._epoch)
            connection.execute("COMMIT")
        except NotNextVersionError:
            roll_back(connection)  # one by one it shows which of them is wrong
            return False
        except ForeignEpochError as error:
            raise self._shut_out() from error
        return True

    def _write_one_by_one(self, connection: sqlite3.Connection, entries: Sequence[_Entry]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if read_epoch(connection) != self._epoch:
            raise self._shut_out()
        for entry in entries:
            if entry.flag is not None:
                _write_flag(connection, entry.flag)
            elif entry.row is not None:
                try:
                    append(connection, [entry.row], self._owner, self._epoch)
                except NotNextVersionError:  # it leaves no trace
                    entry.error = version_conflict(entry.row)
        connection.execute("COMMIT")

    def _shut_out(self) -> LeaseLost:
        """Stand back from a file that somebody else opened for writing although we hold the lock."""
        return LeaseLost(f"another process has opened {self._path} for writing; was its lock file removed?")

    def _row(self, event: OrderEvent) -> Row:
        """Turn an event into values. Raises JournalError where it holds what no event may."""
        order = event.order
        exchange_order_id = order.exchange_order_id
        try:
            at = to_micros(event.at)
            return (
                clean_text(order.order_id),
                order.version,
                order.state._value_,
                int(order.is_settled),
                NOTHING if exchange_order_id is None else clean_text(exchange_order_id),
                clean_text(order.symbol),
                to_micros(order.created_at),
                at if order.updated_at is event.at else to_micros(order.updated_at),
                encode_order(order).decode(),
                event.kind._value_,
                at,
                encode_event(event).decode(),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise JournalError(f"an event cannot be written: {error}") from error


def _write_flag(connection: sqlite3.Connection, change: FlagChange) -> None:
    if change.value is None:
        connection.execute(_CLEAR_FLAG, (change.name,))
    else:
        connection.execute(_SET_FLAG, (change.name, clean_text(change.value)))


def version_conflict(row: Row) -> JournalError:
    """Make the error for an event that is not the next version of its order: memory and journal disagree."""
    values = dict(zip(COLUMNS, row, strict=True))
    return JournalError(
        f"event {values['n']} ({values['kind']}) of order {values['order_id']} is not that order's next one; "
        "it was not written"
    )


def _in_doubt(error: Exception) -> JournalError:
    """Make one error per waiter, for each raises its own."""
    kind = LeaseLost if isinstance(error, LeaseLost) else JournalError
    failure = kind(f"the append failed and may or may not be on disk: {error}")
    failure.__cause__ = error
    return failure
