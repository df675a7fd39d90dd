"""Many entries in few statements: the same rows as one by one, and none at all where one is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.journals.sqlite_batch import ROWS_MAX, Change, write_together
from services.mcp.order_execution.journals.sqlite_schema import MIGRATIONS, connect_writer, create_file


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An empty journal, in a transaction."""
    path = tmp_path / "journal.db"
    create_file(path)
    made = connect_writer(path)
    made.execute("BEGIN IMMEDIATE")
    yield made
    made.close()


def change(order_id: str, version: int, state: str = "open") -> Change:
    """One event of an order."""
    body = f"{order_id} {version}"
    record = ("BTC/USD", state, 0, f"X-{order_id}", version, "me", 1, body, 7, order_id, version)
    return Change(order_id, version, record, (order_id, version, "updated", 9, 1, body))


def orders(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT order_id, n, state, body, created_at FROM orders ORDER BY order_id"
    ).fetchall()


def events(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT order_id, n FROM order_events ORDER BY seq").fetchall()


@pytest.mark.parametrize("count", [1, 2, 3, ROWS_MAX - 1, ROWS_MAX, ROWS_MAX + 1, 3 * ROWS_MAX + 5])
def test_any_number_of_orders_is_written_whole(connection: sqlite3.Connection, count: int) -> None:
    """However a batch is cut into statements, every row arrives, and events keep their order."""
    names = [f"o-{number:04}" for number in range(count)]
    assert write_together(connection, [change(name, 1) for name in names])
    assert write_together(connection, [change(name, 2, "filled") for name in names])
    assert orders(connection) == [(name, 2, "filled", f"{name} 2", 7) for name in names]
    assert events(connection) == [(name, 1) for name in names] + [(name, 2) for name in names]


def test_an_order_that_comes_twice_is_changed_twice(connection: sqlite3.Connection) -> None:
    """All versions of one order in one batch, between those of others, in their order."""
    batch = [change("a", 1), change("b", 1), change("a", 2), change("a", 3, "filled"), change("b", 2)]
    assert write_together(connection, batch)
    assert [row[:3] for row in orders(connection)] == [("a", 3, "filled"), ("b", 2, "open")]
    assert events(connection) == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    "wrong",
    [change("a", 1), change("a", 3), change("unknown", 2)],
    ids=["it is there already", "a version is left out", "it is not there"],
)
def test_one_wrong_version_is_noticed(connection: sqlite3.Connection, wrong: Change) -> None:
    """A change that is not its order's next one is told of; what was begun can be taken back."""
    assert write_together(connection, [change("a", 1)])
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    assert not write_together(connection, [change("b", 1), wrong, change("c", 1)])
    connection.execute("ROLLBACK")
    assert events(connection) == [("a", 1)]


def test_few_different_statements_are_used() -> None:
    """Batches of all sizes share a handful of statements, with few enough values for old versions of SQLite."""
    asked: set[tuple[str, int]] = set()

    class Listening(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            asked.add((sql, len(parameters)))
            return super().execute(sql, parameters)

    connection = sqlite3.connect(":memory:", factory=Listening)
    for statement in (statement for migration in MIGRATIONS for statement in migration):
        connection.execute(statement)
    asked.clear()
    for size in range(1, 200):
        assert write_together(connection, [change(f"{size}-{number}", 1) for number in range(size)])
    assert len(asked) <= 2 * 7
    assert max(values for _, values in asked) < 999
    connection.close()
