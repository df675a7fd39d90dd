"""Many changes in one statement: the same rows as one by one, and none at all where one is wrong."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.journals.sqlite_batch import (
    COLUMNS,
    NOTHING,
    ROWS_MAX,
    ForeignEpochError,
    NotNextVersionError,
    Row,
    _statement,
    append,
    prepare,
)
from services.mcp.order_execution.journals.sqlite_schema import MIGRATIONS, connect_writer, create_file


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An empty journal."""
    path = tmp_path / "journal.db"
    create_file(path)
    made = connect_writer(path)
    prepare(made)
    yield made
    made.close()


def row(order_id: str, version: int, state: str = "open", *, kind: str = "updated", created_at: int = 7) -> Row:
    """One event of an order."""
    body = f"{order_id} {version}"
    return (
        order_id,
        version,
        state,
        0,
        f"X-{order_id}",
        "BTC/USD",
        created_at,
        version,
        body,
        kind,
        9,
        f"e {body}",
    )


def write(connection: sqlite3.Connection, rows: Sequence[Row], epoch: int = 0) -> None:
    append(connection, rows, "me", epoch)


def orders(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT order_id, n, state, body, created_at FROM orders ORDER BY order_id"
    ).fetchall()


def events(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT order_id, n FROM order_events ORDER BY seq").fetchall()


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, ROWS_MAX - 1, ROWS_MAX])
def test_any_number_of_orders_is_written_whole(connection: sqlite3.Connection, count: int) -> None:
    """However far a statement is filled, every row arrives, and events keep their order."""
    names = [f"o-{number:04}" for number in range(count)]
    write(connection, [row(name, 1) for name in names])
    write(connection, [row(name, 2, "filled") for name in names])
    assert not connection.in_transaction
    assert orders(connection) == [(name, 2, "filled", f"{name} 2", 7) for name in names]
    assert events(connection) == [(name, 1) for name in names] + [(name, 2) for name in names]


def test_every_value_finds_its_column(connection: sqlite3.Connection) -> None:
    """Both tables, first and later versions alike; who wrote it stands beside it."""
    first = ("o", 1, "open", 0, NOTHING, "BTC/USD", 11, 12, "body", "intent", 13, "event")
    later = ("o", 2, "filled", 1, "X1", "ETH/USD", 99, 22, "body 2", "fill", 23, "event 2")
    for given in (first, later):
        write(connection, [given])
        told = dict(zip(COLUMNS, given, strict=True))
        cursor = connection.execute("SELECT * FROM orders")
        found = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        assert found == {
            **{name: told[name] for name in COLUMNS if name not in ("kind", "at", "event")},
            "exchange_order_id": None if given is first else "X1",
            "created_at": 11,  # it never changes
            "owner": "me",
            "epoch": 0,
        }
    assert connection.execute("SELECT * FROM order_events").fetchall() == [
        (1, "o", 1, "intent", 13, 0, "event"),
        (2, "o", 2, "fill", 23, 0, "event 2"),
    ]


@pytest.mark.parametrize("name", ["0", "", "NULL"])
def test_ids_that_look_like_nothing_are_kept(connection: sqlite3.Connection, name: str) -> None:
    """Text is never taken for what fills a statement up, or for an id that is missing."""
    plain = row(name, 1)
    write(connection, [(*plain[:4], name, *plain[5:]), row("b", 1), row("c", 1)])
    found = connection.execute(
        "SELECT order_id, exchange_order_id FROM orders WHERE order_id = ?", (name,)
    ).fetchall()
    assert found == [(name, name)]
    assert len(events(connection)) == 3


def test_an_order_that_comes_twice_is_changed_twice(connection: sqlite3.Connection) -> None:
    """All versions of one order in one batch, between those of others, in their order."""
    write(connection, [row("a", 1), row("b", 1), row("a", 2), row("a", 3, "filled"), row("b", 2)])
    assert [item[:3] for item in orders(connection)] == [("a", 3, "filled"), ("b", 2, "open")]
    assert events(connection) == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]


def test_an_order_that_starts_afresh_is_created_anew(connection: sqlite3.Connection) -> None:
    """Its intent moves it in time; nothing else does."""
    write(connection, [row("a", 1), row("b", 1)])
    write(connection, [row("a", 2, kind="intent", created_at=50), row("b", 2, created_at=50)])
    assert [item[4] for item in orders(connection)] == [50, 7]


@pytest.mark.parametrize(
    "wrong",
    [row("a", 1), row("a", 3), row("unknown", 2), row("a", 0)],
    ids=["it is there already", "a version is left out", "it is not there", "no version"],
)
def test_one_wrong_version_writes_nothing(connection: sqlite3.Connection, wrong: Row) -> None:
    """Not what stands before it in the statement, and not what stands after it."""
    write(connection, [row("a", 1)])
    with pytest.raises(NotNextVersionError):
        write(connection, [row("b", 1), wrong, row("c", 1)])
    assert not connection.in_transaction
    assert events(connection) == [("a", 1)]
    assert [item[0] for item in orders(connection)] == ["a"]


def test_within_a_transaction_what_was_written_before_stays(connection: sqlite3.Connection) -> None:
    """One by one: the wrong one leaves no trace, the others are kept."""
    connection.execute("BEGIN IMMEDIATE")
    write(connection, [row("a", 1)])
    with pytest.raises(NotNextVersionError):
        write(connection, [row("a", 3)])
    write(connection, [row("b", 1)])
    connection.execute("COMMIT")
    assert events(connection) == [("a", 1), ("b", 1)]


def test_somebody_elses_epoch_writes_nothing(connection: sqlite3.Connection) -> None:
    """The number of the opening is looked at within the statement."""
    with pytest.raises(ForeignEpochError):
        write(connection, [row("a", 1), row("b", 1)], epoch=1)
    assert not connection.in_transaction
    assert events(connection) == []
    connection.execute("UPDATE meta SET value = '1' WHERE name = 'epoch'")
    write(connection, [row("a", 1), row("b", 1)], epoch=1)
    connection.execute("DELETE FROM meta")
    with pytest.raises(ForeignEpochError):
        write(connection, [row("c", 1)], epoch=1)


def test_another_constraint_is_an_error_of_its_own(connection: sqlite3.Connection) -> None:
    """An event that is there without its order is damage, not a wrong version; nothing is written."""
    connection.execute(
        "INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES ('b', 1, 'x', 0, 1, '{}')"
    )
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        write(connection, [row("a", 1), row("b", 1)])
    assert orders(connection) == []


def test_few_different_statements_are_used() -> None:
    """Batches of all sizes share a handful of statements, with few enough values for old versions of SQLite."""
    asked: set[tuple[str, int]] = set()

    class Listening(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            asked.add((sql, len(parameters)))
            return super().execute(sql, parameters)

    connection = sqlite3.connect(":memory:", factory=Listening, isolation_level=None)
    for statement in (statement for migration in MIGRATIONS for statement in migration):
        connection.execute(statement)
    prepare(connection)
    asked.clear()
    for size in range(1, ROWS_MAX + 1):
        write(connection, [row(f"{size}-{number}", 1) for number in range(size)])
    assert len(asked) == 7
    assert max(values for _, values in asked) < 999
    connection.close()


@pytest.mark.parametrize("size", [1, 2, ROWS_MAX])
def test_placeholders_have_no_numbers(size: int) -> None:
    """Python 3.12.0 to 3.12.3 take numbered ones for names: a warning for each value of each statement."""
    assert not re.findall(r"\?\d", _statement(size))


def test_the_file_has_nothing_of_it(connection: sqlite3.Connection) -> None:
    """View and triggers are the connection's: no migration, and other readers see the tables alone."""
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'append%'").fetchone() == (0,)
