"""Many entries in few statements.

For every statement sqlite3 lets go of the interpreter, and has to win it back from an event loop that is busy. With
two statements for each entry it was that waiting, not the disk, that a large batch took.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

ROWS_MAX: Final = 64
"""Rows in one statement: 64 times 11 values are below the 999 that old versions of SQLite take."""
SUPPORTED: Final = sqlite3.sqlite_version_info >= (3, 33)
"""Whether this SQLite knows UPDATE … FROM."""

_INSERT_ORDERS: Final = """
INSERT INTO orders
    (symbol, state, settled, exchange_order_id, updated_at, owner, epoch, body, created_at, order_id, n)
VALUES {rows} ON CONFLICT (order_id) DO NOTHING
"""
_UPDATE_ORDERS: Final = """
UPDATE orders
SET symbol = new.column1, state = new.column2, settled = new.column3, exchange_order_id = new.column4,
    updated_at = new.column5, owner = new.column6, epoch = new.column7, body = new.column8, n = n + 1
FROM (VALUES {rows}) AS new
WHERE orders.order_id = new.column10 AND orders.n = new.column11 - 1
"""
_INSERT_EVENTS: Final = "INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES {rows}"


@dataclass(frozen=True, slots=True)
class Change:
    """One event in values: the order after it, as _INSERT_ORDERS names its columns, and the row of the event."""

    order_id: str
    version: int
    record: tuple[object, ...]
    event: tuple[object, ...]


def write_together(connection: sqlite3.Connection, changes: Sequence[Change]) -> bool:
    """Write changes in their order, within the caller's transaction.

    False: one of them is not its order's next version. Then the transaction is to be rolled back, for others may
    have been written already.
    """
    for wave in _waves(changes):
        first = [change.record for change in wave if change.version == 1]
        later = [change.record for change in wave if change.version != 1]
        if _execute(connection, _INSERT_ORDERS, first) != len(first):
            return False
        if _execute(connection, _UPDATE_ORDERS, later) != len(later):
            return False
        _execute(connection, _INSERT_EVENTS, [change.event for change in wave])
    return True


def _waves(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Cut where an order comes a second time: one statement cannot change it twice."""
    wave: list[Change] = []
    known: set[str] = set()
    for change in changes:
        if change.order_id in known:
            yield wave
            wave, known = [], set()
        wave.append(change)
        known.add(change.order_id)
    if wave:
        yield wave


def _execute(connection: sqlite3.Connection, template: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Carry a statement out for all rows; returns how many rows it changed."""
    changed, start = 0, 0
    while start < len(rows):
        # Powers of two, so that few different statements are ever prepared, and each of them once.
        size = min(ROWS_MAX, 1 << ((len(rows) - start).bit_length() - 1))
        values = [value for row in rows[start : start + size] for value in row]
        changed += connection.execute(_statement(template, len(rows[0]), size), values).rowcount
        start += size
    return changed


@cache
def _statement(template: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return template.format(rows=", ".join([row] * rows))
