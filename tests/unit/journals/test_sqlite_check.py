"""A large file that nobody closed is read through beside its use: nothing waits for it but new orders."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import JournalUnavailable, OrderNotFound, OrderNotSent, OrderRejected
from services.mcp.order_execution.journals import sqlite_check, sqlite_schema
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.journals.sqlite_check import FileCheck
from tests.contract.journals.stories import accepted, intent
from tests.fakes import FOREVER, FakeExchange
from tests.worlds import ORDER


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Every file counts as large, and reading it through waits until the gate is opened."""
    opened = threading.Event()
    check = sqlite_schema.check_pages

    def waiting(connection: sqlite3.Connection, path: Path) -> None:
        opened.wait(10)
        check(connection, path)

    monkeypatch.setattr(sqlite_schema, "CHECKED_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(sqlite_check, "check_pages", waiting)
    yield opened
    opened.set()


async def crashed(path: Path, *, empty: bool = False) -> SQLiteJournal:
    """A journal with one open order, or none, that its writer did not close."""
    journal = SQLiteJournal(path, SystemClock())
    await journal.open()
    if not empty:
        await journal.commit(intent("o-1"))
    await journal.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean_shutdown'")
    return SQLiteJournal(path, SystemClock())


def is_marked_clean(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT value FROM meta WHERE name = 'clean_shutdown'").fetchone() == ("1",)


def endless(connection: sqlite3.Connection, path: Path) -> None:
    """A check that never comes to its end by itself."""
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    ).fetchone()


def damage(path: Path) -> None:
    """Overwrite the page in which the events begin."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'order_events'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)


async def test_only_new_orders_wait_for_the_check(tmp_path: Path, gate: threading.Event) -> None:
    """Open orders are told and acknowledged at once; an intent is written when the file has been read through."""
    journal = await crashed(tmp_path / "journal.db")
    await journal.open()
    assert [order.order_id for order in await journal.claim()] == ["o-1"]
    journal.enqueue(accepted(intent("o-1")))
    await journal.flush()
    placing = asyncio.ensure_future(journal.commit(intent("o-2")))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not placing.done()
    gate.set()
    await placing
    assert await journal.count() == 2
    await journal.close()
    assert is_marked_clean(tmp_path / "journal.db")


async def test_damage_that_is_found_later_stops_new_orders(tmp_path: Path, gate: threading.Event) -> None:
    """No intent is accepted once the file turns out to be damaged, and the journal says why."""
    journal = await crashed(tmp_path / "journal.db")
    damage(tmp_path / "journal.db")
    await journal.open()
    gate.set()
    with pytest.raises(JournalUnavailable, match="is damaged"):
        await journal.commit(intent("o-2"))
    assert "is damaged" in (journal.health().failure or "")
    assert [order.order_id for order in await journal.claim()] == ["o-1"]
    await journal.close()
    assert not is_marked_clean(tmp_path / "journal.db")


async def test_a_check_that_is_broken_off_is_made_anew_after_the_next_start(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing does not wait for it, and does not call the file checked."""
    monkeypatch.setattr(sqlite_check, "check_pages", endless)
    journal = await crashed(tmp_path / "journal.db")
    await journal.open()
    await journal.close()
    assert not is_marked_clean(tmp_path / "journal.db")
    monkeypatch.setattr(sqlite_check, "check_pages", sqlite_schema.check_pages)
    await journal.open()
    await journal.commit(intent("o-2"))
    await journal.close()
    assert is_marked_clean(tmp_path / "journal.db")


async def test_a_stopped_check_says_nothing_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever breaks it off learns that it was broken off, not that the file is sound or damaged."""
    monkeypatch.setattr(sqlite_check, "check_pages", endless)
    await crashed(tmp_path / "journal.db")
    check = FileCheck(tmp_path / "journal.db")
    running = asyncio.ensure_future(check.run())
    await asyncio.sleep(0)
    check.stop()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("way", ["deadline", "cancelled", "cancel_order"])
async def test_an_order_that_gives_up_while_the_file_is_checked_leaves_no_gap(
    tmp_path: Path, gate: threading.Event, way: str
) -> None:
    """Its intent waits for the check, and what comes after the intent must not be written before it."""
    journal = await crashed(tmp_path / "journal.db", empty=True)
    clock = SystemClock()
    exchange = FakeExchange(clock, replace(FOREVER, request_expiry=0.05, settle=0.01))
    config = {"transaction_log": {"path": None}}
    params = {**ORDER, "client_order_id": "o-2", "deadline_seconds": 0.3 if way == "deadline" else 30}
    async with ReliableOrderExecutor(config, gateway=exchange, journal=journal, clock=clock) as bot:
        placing = asyncio.ensure_future(bot.execute_order(params))
        core = bot._core
        assert core is not None
        await core._recovered.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not placing.done()
        if way == "cancelled":
            placing.cancel()
        elif way == "cancel_order":
            with suppress(OrderNotFound):
                await bot.cancel_order("o-2")
            gate.set()
        with suppress(OrderNotSent, OrderRejected, asyncio.CancelledError):
            await placing
        assert exchange.placed in ([], ["o-2"])
        gate.set()
        assert journal.health().failure is None
        assert await bot.execute_order({**ORDER, "client_order_id": "o-3"}) == "o-3"
        await journal.flush()
        assert exchange.placed.count("o-2") <= 1
