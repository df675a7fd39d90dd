"""What is asked of a journal file: one read-only connection in a thread of its own, and the questions.

Reads have their own thread so that none stands before a durable write: reading many orders back takes
milliseconds, an intent must not wait for that. Every question is one short transaction, so none pins the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

from ..errors import JournalError
from ..models import Order
from .codec import clean_text, decode_event, decode_order, to_micros
from .sqlite_schema import connect_reader, describe
from .worker_thread import WorkerThread

T = TypeVar("T")

Position = tuple[int, str]
"""Where a page of a scan ended: created_at in microseconds, and the order's id."""

GET: Final = "SELECT body FROM orders WHERE order_id = ?"
FIND_BY_EXCHANGE_ID: Final = """
SELECT body FROM orders WHERE exchange_order_id = ? ORDER BY created_at DESC, order_id DESC LIMIT 1
"""
# INDEXED BY makes SQLite refuse the query rather than read the whole table, should the index not fit it.
CLAIM: Final = """
SELECT body FROM orders INDEXED BY orders_open
WHERE settled = 0
ORDER BY created_at, order_id
"""
OPEN_OUTSIDE_PERIOD: Final = """
SELECT created_at, order_id, body FROM orders INDEXED BY orders_open
WHERE settled = 0
  AND (created_at, order_id) > (?, ?)
  AND NOT (created_at >= ? AND created_at < ?)
ORDER BY created_at, order_id LIMIT ?
"""
IN_PERIOD: Final = """
SELECT created_at, order_id, body FROM orders INDEXED BY orders_created
WHERE (created_at, order_id) > (?, ?) AND created_at < ?
ORDER BY created_at, order_id LIMIT ?
"""
HISTORY: Final = "SELECT body FROM order_events WHERE order_id = ? ORDER BY n"
COUNT: Final = "SELECT count(*) FROM orders"
COUNT_CREATED: Final = """
SELECT count(*) FROM orders INDEXED BY orders_created WHERE created_at >= ? AND created_at < ?
"""
GET_FLAG: Final = "SELECT value FROM flags WHERE name = ?"


def get_order(connection: sqlite3.Connection, order_id: str) -> Order | None:
    """Return the order, or None."""
    row = connection.execute(GET, (clean_text(order_id),)).fetchone()
    return None if row is None else decode_order(row[0])


def find_by_exchange_id(connection: sqlite3.Connection, exchange_order_id: str) -> Order | None:
    """Return the order with this id at the exchange, the youngest if it was used twice, or None."""
    row = connection.execute(FIND_BY_EXCHANGE_ID, (clean_text(exchange_order_id),)).fetchone()
    return None if row is None else decode_order(row[0])


def open_orders(connection: sqlite3.Connection) -> list[Order]:
    """Return the unsettled orders, oldest first."""
    return [decode_order(body) for (body,) in connection.execute(CLAIM).fetchall()]


def history(connection: sqlite3.Connection, order_id: str) -> list[dict[str, object]]:
    """Return the order's events, oldest first."""
    return [decode_event(body) for (body,) in connection.execute(HISTORY, (clean_text(order_id),)).fetchall()]


def count(connection: sqlite3.Connection) -> int:
    """Return how many orders there are."""
    return int(connection.execute(COUNT).fetchone()[0])


def count_created(connection: sqlite3.Connection, since: datetime, until: datetime) -> int:
    """Return how many orders were created in ``since <= t < until``."""
    return int(connection.execute(COUNT_CREATED, (to_micros(since), to_micros(until))).fetchone()[0])


def get_flag(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a durable setting, or None."""
    row = connection.execute(GET_FLAG, (name,)).fetchone()
    return None if row is None else str(row[0])


class Scan(Generic[T]):
    """Pages through the orders created in ``since <= t < until`` and all unsettled ones, each once.

    It goes by keys and holds nothing open between pages. First come the unsettled orders outside of the
    period, then the period itself. ``read`` makes what is returned of a body, and of the time of the order's
    creation in microseconds.
    """

    def __init__(self, since: datetime, until: datetime, page_size: int, read: Callable[[str, int], T]) -> None:
        self._read = read
        self._since = to_micros(since)
        self._until = to_micros(until)
        self._size = page_size
        self._outside: Position | None = (-(2**63), "")
        self._inside: Position | None = (self._since, "")

    @property
    def finished(self) -> bool:
        """True when the last page has been read."""
        return self._outside is None and self._inside is None

    def next_page(self, connection: sqlite3.Connection) -> list[T]:
        """Return the next orders; perhaps none."""
        if self._outside is not None:
            bounds: tuple[object, ...] = (*self._outside, self._since, self._until, self._size)
            rows = connection.execute(OPEN_OUTSIDE_PERIOD, bounds).fetchall()
            self._outside = self._end_of(rows)
        elif self._inside is not None:
            bounds = (*self._inside, self._until, self._size)
            rows = connection.execute(IN_PERIOD, bounds).fetchall()
            self._inside = self._end_of(rows)
        else:
            rows = []
        read = self._read
        return [read(body, created) for created, _, body in rows]

    def _end_of(self, rows: list[tuple[int, str, str]]) -> Position | None:
        return (rows[-1][0], rows[-1][1]) if len(rows) == self._size else None


class SQLiteReader:
    """A read-only connection and its thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = WorkerThread("journal-reader")
        self._connection: sqlite3.Connection | None = None

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread.running

    async def open(self) -> None:
        """Open the file. Raises JournalSchemaError, JournalError."""
        self._thread.start()
        await self._thread.call(self._open_in_thread)

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Answer a question. Raises JournalError."""
        return await self._thread.call(lambda: self._ask_in_thread(question))

    async def close(self) -> None:
        """Close the connection after the questions that wait."""
        await self._thread.call(self._close_in_thread)

    def stop(self, timeout: float) -> bool:
        """End the thread; False when it still works after ``timeout`` seconds."""
        return self._thread.stop(timeout)

    def _open_in_thread(self) -> None:
        self._connection = connect_reader(self._path)

    def _ask_in_thread(self, question: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise JournalError(f"the journal {self._path} is closed")
        try:
            return question(self._connection)
        except sqlite3.Error as error:
            raise describe(error, self._path) from error

    def _close_in_thread(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
