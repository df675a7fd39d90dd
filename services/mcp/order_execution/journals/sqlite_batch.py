"""Many changes in one statement, which is its own transaction.

For every statement sqlite3 lets go of the interpreter, and has to win it back from an event loop that is busy: it
was that waiting, not the disk, that a batch took. So a batch is one INSERT into a view, and what it does to the two
tables is told by triggers, within SQLite. View and triggers are the connection's alone: the file has none of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Final

ROWS_MAX: Final = 64
"""Rows in one statement: 64 times 14 values are below the 999 that old versions of SQLite take."""

Row = tuple[str | int, ...]
"""The values of ``COLUMNS``: text and numbers; ``NOTHING`` stands for NULL, which sqlite3 hands on at several times
the price."""

NOTHING: Final = 0

COLUMNS: Final = (
    *("order_id", "n", "state", "settled", "exchange_order_id", "symbol"),
    *("created_at", "updated_at", "body", "kind", "at", "event"),
)
"""The order after the change, as ``orders`` names it, and the change: kind, at and the event's own body."""

_NOT_NEXT: Final = "not the next version"
_FOREIGN: Final = "another epoch"
_APPEND: Final = "INSERT INTO appending SELECT * FROM (VALUES {rows}) WHERE typeof(column2) = 'text'"
_SETUP: Final = (
    "PRAGMA temp_store = MEMORY",  # nothing of this goes to a file
    """
    CREATE TEMP VIEW appending AS SELECT
        NULL AS first, NULL AS order_id, NULL AS n, NULL AS state, NULL AS settled, NULL AS exchange_order_id,
        NULL AS symbol, NULL AS created_at, NULL AS updated_at, NULL AS body, NULL AS kind, NULL AS at,
        NULL AS event, NULL AS owner, NULL AS epoch
    """,
    """
    CREATE TEMP TRIGGER append_checked INSTEAD OF INSERT ON appending WHEN NEW.first BEGIN
        SELECT RAISE(ABORT, 'another epoch')
        WHERE (SELECT value FROM meta WHERE name = 'epoch') IS NOT CAST(NEW.epoch AS TEXT);
    END
    """,
    """
    CREATE TEMP TRIGGER append_first INSTEAD OF INSERT ON appending WHEN NEW.n = 1 BEGIN
        INSERT INTO orders (symbol, state, settled, exchange_order_id, updated_at, owner, epoch, body,
                            created_at, order_id, n)
        VALUES (NEW.symbol, NEW.state, NEW.settled, NULLIF(NEW.exchange_order_id, 0), NEW.updated_at, NEW.owner,
                NEW.epoch, NEW.body, NEW.created_at, NEW.order_id, 1)
        ON CONFLICT (order_id) DO NOTHING;
        SELECT RAISE(ABORT, 'not the next version') WHERE changes() = 0;
        INSERT INTO order_events (order_id, n, kind, at, epoch, body)
        VALUES (NEW.order_id, NEW.n, NEW.kind, NEW.at, NEW.epoch, NEW.event);
    END
    """,
    """
    CREATE TEMP TRIGGER append_later INSTEAD OF INSERT ON appending WHEN NEW.n <> 1 BEGIN
        UPDATE orders
        SET symbol = NEW.symbol, state = NEW.state, settled = NEW.settled,
            exchange_order_id = NULLIF(NEW.exchange_order_id, 0), updated_at = NEW.updated_at, owner = NEW.owner,
            epoch = NEW.epoch, body = NEW.body, n = n + 1
        WHERE order_id = NEW.order_id AND n = NEW.n - 1;
        SELECT RAISE(ABORT, 'not the next version') WHERE changes() = 0;
        INSERT INTO order_events (order_id, n, kind, at, epoch, body)
        VALUES (NEW.order_id, NEW.n, NEW.kind, NEW.at, NEW.epoch, NEW.event);
    END
    """,
    # An order that starts afresh is created anew: periods are asked for by that.
    """
    CREATE TEMP TRIGGER append_renewed INSTEAD OF INSERT ON appending
    WHEN NEW.n <> 1 AND NEW.kind = 'intent' BEGIN
        UPDATE orders SET created_at = NEW.created_at WHERE order_id = NEW.order_id;
    END
    """,
)


class NotNextVersionError(Exception):
    """A change is not its order's next version; nothing of its statement was written."""


class ForeignEpochError(Exception):
    """Somebody else opened the file for writing; nothing was written."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make view and triggers, once for a connection."""
    for statement in _SETUP:
        connection.execute(statement)


def append(connection: sqlite3.Connection, rows: Sequence[Row], owner: str, epoch: int) -> None:
    """Write up to ``ROWS_MAX`` changes in their order, all or none; outside of a transaction durably.

    Raises NotNextVersionError, ForeignEpochError, sqlite3.Error.
    """
    size = 1 << (len(rows) - 1).bit_length()  # powers of two, so that few different statements are ever prepared
    values: list[str | int] = []
    written_by: Row = (owner, epoch)
    for row in rows:
        values += row
        values += written_by
    values += [NOTHING] * ((len(COLUMNS) + len(written_by)) * (size - len(rows)))
    try:
        connection.execute(_statement(size), values)
    except sqlite3.IntegrityError as error:
        told = str(error)
        if _NOT_NEXT in told:
            raise NotNextVersionError(told) from error
        if _FOREIGN in told:
            raise ForeignEpochError(told) from error
        raise


@cache
def _statement(size: int) -> str:
    """One INSERT of so many rows; those whose ``order_id`` is no text fill it up and are left out."""
    # Plain question marks: numbered ones Python 3.12.0 to 3.12.3 take for names, and warn of each.
    given = ", ".join("?" * (len(COLUMNS) + 2))
    lines = [f"({int(number == 0)}, {given})" for number in range(size)]
    return _APPEND.format(rows=", ".join(lines))
