"""A disk that fails once, for good, or is full: the journal stops intents, says so, and forgets nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import apsw
import pytest

from services.mcp.order_execution import JournalError, JournalUnavailable, ReliableOrderExecutor, lifecycle
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.crash.test_power_loss import request
from tests.crash.vfs import RecordingDisk, disk
from tests.fakes import FOREVER, FakeExchange
from tests.worlds import ORDER

ERRORS = [apsw.IOError, apsw.FullError]


def on(name: str, story: Callable[[RecordingDisk], Coroutine[object, object, None]]) -> None:
    """Run a story on a disk that can fail."""
    with disk(name) as watched:
        asyncio.run(story(watched))


async def put(journal: SQLiteJournal, order_id: str) -> bool:
    """Write one intent; whether it was acknowledged."""
    clock = SystemClock()
    try:
        await journal.commit(lifecycle.intend(lifecycle.new_order(request(order_id), clock.now()), clock.now()))
    except (JournalError, JournalUnavailable):
        return False
    return True


@pytest.mark.parametrize("error", ERRORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("times", [1, 10**9], ids=["once", "for good"])
def test_the_first_failure_stops_intents_until_the_journal_is_opened_anew(
    tmp_path: Path, error: type[apsw.Error], after: int, times: int
) -> None:
    """At each operation of an append. What was acknowledged is there afterwards; the failed one is in doubt."""

    async def story(watched: RecordingDisk) -> None:
        journal = SQLiteJournal(tmp_path / "journal.db", SystemClock(), min_free_bytes=0)
        await journal.open()
        acked = [f"o{number}" for number in range(3) if await put(journal, f"o{number}")]
        watched.error, watched.fail_from, watched.fail_times = error, watched.count + 1 + after, times
        results = [await put(journal, f"late{number}") for number in range(4)]
        acked += [f"late{number}" for number, done in enumerate(results) if done]
        if times > 1:
            assert not all(results)
        failed_at = results.index(False) if False in results else None
        if failed_at is not None:
            assert not any(results[failed_at:]), "it accepted an intent after a failure"
            assert journal.health().failure is not None
            with pytest.raises(JournalUnavailable, match="opened anew"):
                await journal.commit(lifecycle.intend(lifecycle.new_order(request("x"), _now()), _now()))
        watched.fail_from = 0
        try:
            await journal.close()
        except JournalError:
            assert failed_at is None
        again = SQLiteJournal(tmp_path / "journal.db", SystemClock(), min_free_bytes=0)
        await again.open()
        assert again.health().failure is None
        for order_id in acked:
            assert await again.get(order_id) is not None, f"{order_id} was acknowledged and is lost"
        assert await put(again, "after")
        await again.close()

    on(f"io-{error.__name__}-{after}-{times}", story)


def _now() -> datetime:
    return SystemClock().now()


@pytest.mark.parametrize("error", ERRORS, ids=lambda kind: kind.__name__)
def test_nothing_is_sent_without_its_durable_intent(tmp_path: Path, error: type[apsw.Error]) -> None:
    """Through the whole executor: orders are refused, cancels and queries go on, and resume() mends it."""

    async def story(watched: RecordingDisk) -> None:
        clock = SystemClock()
        exchange = FakeExchange(clock, replace(FOREVER, request_expiry=0.05, settle=0.01))
        journal = SQLiteJournal(tmp_path / "journal.db", clock, min_free_bytes=0)
        config = {"transaction_log": {"path": None}}
        async with ReliableOrderExecutor(config, gateway=exchange, journal=journal) as bot:
            first = await bot.execute_order({**ORDER, "client_order_id": "first"})
            await journal.flush()
            watched.error, watched.fail_from, watched.fail_times = error, watched.count + 1, 10**9
            for number in range(3):
                with pytest.raises(JournalUnavailable):
                    await bot.execute_order({**ORDER, "client_order_id": f"refused{number}"})
            assert exchange.placed == ["first"]
            assert await bot.cancel_order(first)
            assert (await bot.get_order_status(first)).state.is_final
            with pytest.raises(JournalError):
                await bot.resume()
            watched.fail_from = 0
            await bot.resume()
            assert await bot.execute_order({**ORDER, "client_order_id": "refused0"})
            await journal.flush()
            known = await journal.get("first")
            assert known == await bot.get_order_status("first")
            assert exchange.placed == ["first", "refused0"]

    on(f"whole-{error.__name__}", story)


@pytest.mark.parametrize("times", [1, 10**9], ids=["once", "for good"])
def test_a_failed_read_is_an_error_and_not_absence(tmp_path: Path, times: int) -> None:
    """An order that cannot be read is never called absent; later it is read, and nothing is lost."""

    async def story(watched: RecordingDisk) -> None:
        path = tmp_path / "journal.db"
        first = SQLiteJournal(path, SystemClock(), min_free_bytes=0)
        await first.open()
        acked = [f"o{number}" for number in range(50) if await put(first, f"o{number}")]
        await first.close()
        journal = SQLiteJournal(path, SystemClock(), min_free_bytes=0)
        watched.failing_reads = times
        with pytest.raises(JournalError):
            await journal.open()
        assert watched.reads_failed > 0
        watched.failing_reads = 0
        await journal.open()
        failed = 0
        for order_id in acked:
            watched.failing_reads = times
            try:
                assert await journal.get(order_id) is not None, f"{order_id} was called absent"
            except JournalError:
                failed += 1
        watched.failing_reads = 0
        assert failed > 0, "no read reached the disk"
        for order_id in acked:
            assert await journal.get(order_id) is not None
        await journal.close()

    on(f"read-{times}", story)
