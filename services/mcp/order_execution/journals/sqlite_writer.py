"""Group commit: whatever waits is written in one transaction, with one durable write, by one thread.

The event loop appends to a queue and the thread takes from it. One wake-up of the loop per batch, not per
entry, releases those who wait. What nobody waits for (acknowledgements, fills) does not wake the thread by itself:
it rides with the next entry that somebody waits for, or alone after a few milliseconds.
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
from ..models import EventKind, OrderEvent
from .codec import clean_text, encode_event, encode_order, to_micros
from .sqlite_batch import SUPPORTED, Change, write_together
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
FEW: Final = 2
"""Up to so many entries are written one by one: there is little to be shared."""

_INSERT_ORDER: Final = """
INSERT INTO orders
    (symbol, state, settled, exchange_order_id, updated_at, owner, epoch, body, created_at, order_id, n)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (order_id) DO NOTHING
"""
_UPDATE_ORDER: Final = """
UPDATE orders
SET symbol = ?, state = ?, settled = ?, exchange_order_id = ?, updated_at = ?, owner = ?, epoch = ?, body = ?,
    n = n + 1
WHERE order_id = ? AND n = ?
"""
_RENEW_ORDER: Final = "UPDATE orders SET created_at = ? WHERE order_id = ?"
_INSERT_EVENT: Final = """
INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES (?, ?, ?, ?, ?, ?)
"""
_SET_FLAG: Final = """
INSERT INTO flags (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_CLEAR_FLAG: Final = "DELETE FROM flags WHERE name = ?"

_Statement = tuple[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class FlagChange:
    """A durable setting, or with None its end."""

    name: str
    value: str | None


@dataclass(slots=True, eq=False)
class _Entry:
    """One thing to write, or with no payload a marker that asks when everything before it is settled."""

    payload: OrderEvent | FlagChange | None
    at: float
    future: asyncio.Future[bool] | None = None
    change: Change | None = None
    error: JournalError | None = None
    ours: bool = False
    """The file was still ours once this was durable."""


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
        self._settled: deque[_Entry] = deque()
        self._oldest: _Entry | None = None  # the first entry of the batch that the thread has in hand
        self._drain_due = False
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
        """Seconds that the oldest unsettled entry has waited."""
        oldest = self._oldest
        if oldest is None:
            try:
                oldest = self._incoming[0]
            except IndexError:
                return 0.0
        return max(0.0, self._clock.monotonic() - oldest.at)

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

    def append(self, payload: OrderEvent | FlagChange) -> None:
        """Write with the next batch, or on its own within ``BEHIND_SECONDS``."""
        self._put_behind(_Entry(payload, self._clock.monotonic()))

    async def append_and_wait(self, payload: OrderEvent | FlagChange) -> bool:
        """Write with the next batch and return once it is durable. Raises JournalError.

        True: after it the file was still ours.

        When the caller is cancelled, the entry keeps its place and is written all the same.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._put(_Entry(payload, self._clock.monotonic(), future))
        return await future

    async def settled(self) -> None:
        """Return once everything appended so far is durable or has failed."""
        if not self._incoming and self._oldest is None:
            return
        future = asyncio.get_running_loop().create_future()
        self._put(_Entry(None, self._clock.monotonic(), future))
        await future

    def fail(self, why: str) -> None:
        """Refuse everything from now on; the first reason stands."""
        if self.failure is None:
            self.failure = why
            _logger.error("the journal %s refuses further entries: %s", self._path, why)

    def _put(self, entry: _Entry) -> None:
        """Queue an entry that somebody waits for."""
        if entry.payload is not None:
            self._appended += 1
        self._incoming.append(entry)
        self._wanted += 1
        # Appended before the flag is read; the thread clears it before it takes: none is left behind.
        if not self._drain_due:
            self._drain_due = True
            self._thread.submit(self._drain_wanted_in_thread)

    def _put_behind(self, entry: _Entry) -> None:
        """Queue an entry that nobody waits for."""
        self._appended += 1
        self._incoming.append(entry)
        if not self._timer_due and self._loop is not None:
            self._timer_due = True
            self._loop.call_later(BEHIND_SECONDS, self._write_behind)

    def _write_behind(self) -> None:
        """Write what has been left behind until now; nothing to do when it found a ride."""
        self._timer_due = False
        if self._incoming:
            self._thread.submit(self._drain_in_thread)

    def _release_waiters(self) -> None:
        """Tell those who wait how their entries fared."""
        while self._settled:
            entry = self._settled.popleft()
            future = entry.future
            if future is None or future.done():
                continue
            if entry.error is None:
                future.set_result(entry.ours)
            else:
                future.set_exception(entry.error)

    def _open_in_thread(self) -> None:
        create_file(self._path)
        self._connection = connect_writer(self._path)
        try:
            self.unchecked = not was_closed(self._connection) and is_large(self._path)
            self._epoch = begin_epoch(self._connection)
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
        entries = [entry for entry in batch if entry.payload is not None]
        waited = sum(entry.future is not None for entry in batch)
        self._wanted_taken += waited
        if entries:
            self._write_in_thread(entries)
        self._written += len(entries)
        self._oldest = None
        if not waited:
            return
        self._settled.extend(batch)
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
            for entry in entries:
                self._prepare(entry)
            if not self._wrote_together(connection, entries):
                self._begin(connection)
                for entry in entries:
                    _execute(connection, entry)
            _renew(connection, entries)
            connection.execute("COMMIT")
            self._note_ours(entries)
        except Exception as error:  # noqa: BLE001 - whatever it was, the batch is in doubt and must say so
            roll_back(connection)
            self.fail(f"an append failed: {error}")
            for entry in entries:
                entry.error = _in_doubt(error)
            return
        for entry in entries:
            if entry.error is not None:
                self.fail(str(entry.error))

    def _begin(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        self._check_epoch(connection)

    def _wrote_together(self, connection: sqlite3.Connection, entries: Sequence[_Entry]) -> bool:
        """Write a batch in few statements; False, with nothing begun, where it has to be done one by one."""
        changes = [entry.change for entry in entries if entry.error is None]
        if not SUPPORTED or len(changes) <= FEW or None in changes:
            return False
        self._begin(connection)
        if write_together(connection, [change for change in changes if change is not None]):
            return True
        connection.execute("ROLLBACK")  # one by one it shows which of them is wrong
        return False

    def _note_ours(self, entries: Sequence[_Entry]) -> None:
        """Ask, once for a batch, whether the file is still ours: here, as the loop need not stop for the system."""
        waited = [entry for entry in entries if entry.future is not None]
        if waited and self._is_ours():
            for entry in waited:
                entry.ours = True

    def _check_epoch(self, connection: sqlite3.Connection) -> None:
        """Stand back from a file that somebody else opened for writing although we hold the lock."""
        if read_epoch(connection) != self._epoch:
            raise LeaseLost(f"another process has opened {self._path} for writing; was its lock file removed?")

    def _prepare(self, entry: _Entry) -> None:
        """Turn an event into values, outside of the transaction."""
        try:
            if isinstance(entry.payload, OrderEvent):
                entry.change = self._change(entry.payload)
        except (TypeError, ValueError, AttributeError) as error:
            entry.error = JournalError(f"an event cannot be written: {error}")
            entry.error.__cause__ = error

    def _change(self, event: OrderEvent) -> Change:
        order = event.order
        order_id, version = clean_text(order.order_id), order.version
        exchange_order_id = order.exchange_order_id
        record: tuple[object, ...] = (
            clean_text(order.symbol),
            order.state.value,
            int(order.is_settled),
            None if exchange_order_id is None else clean_text(exchange_order_id),
            to_micros(order.updated_at),
            self._owner,
            self._epoch,
            encode_order(order).decode(),
            to_micros(order.created_at),
            order_id,
            version,
        )
        body = encode_event(event).decode()
        return Change(
            order_id,
            version,
            record,
            (order_id, version, event.kind.value, to_micros(event.at), self._epoch, body),
        )


def _flag_statement(change: FlagChange) -> _Statement:
    if change.value is None:
        return _CLEAR_FLAG, (change.name,)
    return _SET_FLAG, (change.name, clean_text(change.value))


def _execute(connection: sqlite3.Connection, entry: _Entry) -> None:
    """Carry out one entry. The guarded statement comes first, so a wrong version leaves no trace."""
    if entry.error is not None:
        return
    if isinstance(entry.payload, FlagChange):
        connection.execute(*_flag_statement(entry.payload))
        return
    change = entry.change
    if change is None:
        return
    if change.version == 1:
        guarded = connection.execute(_INSERT_ORDER, change.record)
    else:
        guarded = connection.execute(_UPDATE_ORDER, (*change.record[:8], change.order_id, change.version - 1))
    if guarded.rowcount == 1:
        connection.execute(_INSERT_EVENT, change.event)
    elif isinstance(entry.payload, OrderEvent):
        entry.error = version_conflict(entry.payload)


def _renew(connection: sqlite3.Connection, entries: Sequence[_Entry]) -> None:
    """An order that starts afresh is created anew: periods are asked for by that. It is rare."""
    for entry in entries:
        event = entry.payload
        if isinstance(event, OrderEvent) and event.kind is EventKind.INTENT and event.order.version > 1:
            connection.execute(_RENEW_ORDER, (to_micros(event.order.created_at), clean_text(event.order_id)))


def version_conflict(event: OrderEvent) -> JournalError:
    """Make the error for an event that is not the next version of its order: memory and journal disagree."""
    return JournalError(
        f"event {event.order.version} ({event.kind}) of order {event.order_id} is not that order's next one; "
        "it was not written"
    )


def _in_doubt(error: Exception) -> JournalError:
    """Make one error per waiter, for each raises its own."""
    kind = LeaseLost if isinstance(error, LeaseLost) else JournalError
    failure = kind(f"the append failed and may or may not be on disk: {error}")
    failure.__cause__ = error
    return failure
