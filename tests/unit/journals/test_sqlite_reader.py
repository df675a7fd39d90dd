"""The questions to a journal file, and what they cost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals import sqlite_reader as questions
from services.mcp.order_execution.journals.codec import decode_order, encode_order, to_micros
from services.mcp.order_execution.journals.sqlite_reader import Scan, SQLiteReader
from services.mcp.order_execution.journals.sqlite_schema import connect_writer, create_file
from services.mcp.order_execution.models import Order, OrderState
from tests.contract.journals.stories import at, intent


def whole(body: str, created: int) -> Order:
    """The record, held to the column beside it."""
    order = decode_order(body)
    assert to_micros(order.created_at) == created
    return order


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    create_file(tmp_path / "journal.db")
    with closing(connect_writer(tmp_path / "journal.db")) as opened:
        for number in range(40):
            state = OrderState.OPEN if number % 10 == 0 else OrderState.FILLED
            order = intent(f"o-{number:02}", number // 4, state=state, exchange_order_id=f"x-{number // 2}").order
            opened.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?, 0, 1, 'me', 1, ?, ?)",
                (
                    order.order_id,
                    order.symbol,
                    order.state.value,
                    order.exchange_order_id,
                    to_micros(order.created_at),
                    encode_order(order).decode(),
                    int(order.is_settled),
                ),
            )
        yield opened


@pytest.mark.parametrize(
    ("query", "parameters", "index"),
    [
        (questions.CLAIM, (), "USING INDEX orders_open"),
        (questions.OPEN_OUTSIDE_PERIOD, (0, "", 0, 1, 5), r"USING INDEX orders_open"),
        (questions.IN_PERIOD, (0, "", 1, 5), "USING INDEX orders_created"),
        (questions.FIND_BY_EXCHANGE_ID, ("x",), "USING INDEX orders_exchange_id"),
        (questions.GET, ("o",), "USING INDEX sqlite_autoindex_orders_1"),
        (questions.HISTORY, ("o",), "USING INDEX sqlite_autoindex_order_events_1"),
    ],
)
def test_no_question_reads_the_whole_history(
    connection: sqlite3.Connection, query: str, parameters: tuple[object, ...], index: str
) -> None:
    """Each goes by an index made for it, and none sorts more than the rows that it found."""
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]
    assert index in steps[0]
    assert not {"SCAN orders", "SCAN order_events"} & set(steps)
    if query is not questions.FIND_BY_EXCHANGE_ID:
        assert len(steps) == 1


def test_the_period_starts_at_its_start(connection: sqlite3.Connection) -> None:
    """A scan of the last hour does not step through the years before it."""
    (step,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {questions.IN_PERIOD}", (0, "", 1, 5))]
    assert "(created_at,order_id)>(?,?)" in step.replace(" ", "")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 500])
def test_pages_of_any_size_give_each_order_once(connection: sqlite3.Connection, size: int) -> None:
    """Where many share a moment, a page border between them loses and repeats none."""
    scan = Scan(at(2), at(5), size, whole)
    found = []
    while not scan.finished:
        page = scan.next_page(connection)
        assert len(page) <= size
        found += [order.order_id for order in page]
    assert sorted(found) == sorted({"o-00", "o-20", "o-30", *(f"o-{number:02}" for number in range(8, 20))})
    assert len(found) == len(set(found))
    assert scan.next_page(connection) == []


def test_borders_are_exact_to_the_microsecond(connection: sqlite3.Connection) -> None:
    """The period includes its first moment and excludes its last."""
    tick = timedelta(microseconds=1)
    exact = Scan(at(1), at(1) + tick, 500, whole)
    exact.next_page(connection)
    assert len(exact.next_page(connection)) == 4
    empty = Scan(at(1) + tick, at(2), 500, whole)
    empty.next_page(connection)
    assert empty.next_page(connection) == []


def test_an_id_used_twice_gives_the_youngest(connection: sqlite3.Connection) -> None:
    """Some exchanges count per market; the youngest order is the one that may still change."""
    order = questions.find_by_exchange_id(connection, "x-7")
    assert order is not None
    assert order.order_id == "o-15"


async def test_a_record_that_cannot_be_read_is_an_error(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """Damage in one record is told, not skipped; other orders can still be read."""
    connection.execute("UPDATE orders SET body = '{}' WHERE order_id = 'o-00'")
    reader = SQLiteReader(tmp_path / "journal.db")
    await reader.open()
    with pytest.raises(JournalError, match="cannot be read"):
        await reader.ask(questions.open_orders)
    assert await reader.ask(lambda opened: questions.get_order(opened, "o-01")) is not None
    await reader.close()
    await reader.close()
    with pytest.raises(JournalError, match="is closed"):
        await reader.ask(questions.count)
    assert reader.running
    assert reader.stop(5)


async def test_an_error_of_sqlite_is_told_in_our_words(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """It names the file."""
    reader = SQLiteReader(tmp_path / "journal.db")
    await reader.open()
    with pytest.raises(JournalError, match=r"journal\.db: no such table"):
        await reader.ask(lambda opened: opened.execute("SELECT * FROM absent"))
    await reader.close()
    assert reader.stop(5)
