"""Group commit, looked at from inside."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.errors import JournalError, LeaseLost
from services.mcp.order_execution.journals.sqlite_batch import ROWS_MAX
from services.mcp.order_execution.journals.sqlite_writer import MAX_BATCH, SQLiteWriter
from tests.contract.journals.backends import ManualClock
from tests.contract.journals.stories import accepted, intent


class Probe:
    """A writer whose thread can be held, and whose statements are counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.writer = SQLiteWriter(path, self.clock, "me:1")
        self.statements: list[str] = []

    async def open(self) -> None:
        await self.writer.open()
        await self.writer._thread.call(self._trace)

    def _trace(self) -> None:
        assert self.writer._connection is not None
        self.writer._connection.set_trace_callback(self.statements.append)

    def asked(self) -> list[str]:
        """How the statements begin; what a trigger does is told under the statement that it belongs to."""
        return [statement[:21] for statement, _ in groupby(self.statements)]

    def hold(self) -> threading.Event:
        """Keep the thread busy until the event is set."""
        gate = threading.Event()
        self.writer._thread.submit(lambda: gate.wait(10))
        return gate

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute(statement)


@pytest.fixture
async def probe(tmp_path: Path) -> AsyncIterator[Probe]:
    probe = Probe(tmp_path / "journal.db")
    await probe.open()
    yield probe
    await probe.writer.close()
    assert probe.writer.stop(5)


async def test_everything_that_waits_shares_one_write(probe: Probe) -> None:
    """A hundred committers, one transaction."""
    gate = probe.hold()
    waiting = [probe.writer.append_waiting(intent(f"o-{number}")) for number in range(100)]
    assert probe.writer.waiting == 100
    gate.set()
    await asyncio.gather(*waiting)
    assert probe.statements.count("COMMIT") == 1
    assert probe.writer.waiting == 0


async def test_what_one_turn_of_the_loop_brings_shares_one_write(probe: Probe) -> None:
    """Though the thread is idle: it is woken once the turn is over."""
    await asyncio.gather(*(probe.writer.append_waiting(intent(f"o-{number}")) for number in range(20)))
    assert probe.asked() == ["INSERT INTO appending"]


async def test_a_small_batch_is_one_statement(probe: Probe) -> None:
    """sqlite3 lets go of the interpreter once: for a statement that is its own transaction."""
    gate = probe.hold()
    waiting = [probe.writer.append_waiting(intent(f"o-{number}")) for number in range(ROWS_MAX)]
    probe.writer.append(accepted(intent("o-1")))
    gate.set()
    await asyncio.gather(*waiting)
    await probe.writer.settled()
    assert probe.asked() == ["BEGIN IMMEDIATE", *["INSERT INTO appending"] * 2, "COMMIT"]
    probe.statements.clear()
    await probe.writer.append_waiting(intent("o-x"))
    assert probe.asked() == ["INSERT INTO appending"]


async def test_a_flood_is_written_in_bounded_batches(probe: Probe) -> None:
    """The first of many does not wait for the last."""
    gate = probe.hold()
    for number in range(2 * MAX_BATCH + 100):
        probe.writer.append(intent(f"o-{number}"))
    gate.set()
    await probe.writer.settled()
    assert probe.statements.count("COMMIT") == 3
    assert probe.rows("SELECT count(*) FROM orders") == [(2 * MAX_BATCH + 100,)]


async def test_an_idle_writer_makes_nobody_wait(probe: Probe) -> None:
    """Asking whether all is settled writes nothing and takes no turn of the thread."""
    gate = probe.hold()
    await probe.writer.settled()
    gate.set()
    await probe.writer.drain()
    assert probe.statements == []


async def test_lag_is_that_of_the_oldest(probe: Probe) -> None:
    """It counts from the oldest entry that is not durable, on the injected clock, and ends with it."""
    gate = probe.hold()
    probe.writer.append(intent("o-1"))
    probe.clock.seconds += 3
    probe.writer.append(intent("o-2"))
    assert probe.writer.lag() == pytest.approx(3)
    gate.set()
    await probe.writer.settled()
    assert probe.writer.lag() == 0.0


async def test_lag_includes_the_batch_that_is_being_written(probe: Probe) -> None:
    """While the disk works, the batch in hand still counts."""
    with closing(sqlite3.connect(probe.path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        probe.writer.append(intent("o-1"))
        async with asyncio.timeout(10):
            while probe.writer._incoming:  # noqa: ASYNC110 - the thread takes it when it takes it
                await asyncio.sleep(0)
        probe.clock.seconds += 4
        assert probe.writer.lag() == pytest.approx(4)
        assert probe.writer.waiting == 1
        blocker.rollback()
    await probe.writer.settled()


async def test_a_long_turn_of_the_loop_is_no_lag(probe: Probe) -> None:
    """The thread is woken at its end; until then, and for what passed until then, nobody is behind."""
    gate = probe.hold()
    waiting = probe.writer.append_waiting(intent("o-1"))
    probe.clock.seconds += 60  # a strategy that computes
    assert probe.writer.lag() == 0.0
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert probe.writer.lag() == 0.0
    probe.clock.seconds += 3
    assert probe.writer.lag() == pytest.approx(3)
    gate.set()
    await waiting
    assert probe.writer.lag() == 0.0


async def test_rows_say_who_wrote_them(probe: Probe) -> None:
    """Owner and number of the opening stand beside every record, for whoever looks into the file."""
    await probe.writer.append_waiting(intent("o-1"))
    await probe.writer.append_waiting(accepted(intent("o-1")))
    assert probe.rows("SELECT owner, epoch, n, state FROM orders") == [("me:1", 1, 2, "open")]
    assert probe.rows("SELECT seq, n, kind, epoch FROM order_events") == [
        (1, 1, "intent", 1),
        (2, 2, "accepted", 1),
    ]


async def test_a_second_opening_shuts_the_first_out(probe: Probe) -> None:
    """Should the lock ever fail, the number of the opening keeps the older writer from writing."""
    probe.execute("UPDATE meta SET value = '2' WHERE name = 'epoch'")
    with pytest.raises(LeaseLost, match="lock file removed"):
        await probe.writer.append_waiting(intent("o-1"))
    assert probe.rows("SELECT count(*) FROM order_events") == [(0,)]
    assert probe.writer.failure is not None


async def test_a_malformed_event_fails_alone(probe: Probe) -> None:
    """A defect upstream is refused before it is appended: others are durable, and the journal is sound."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the defect
    with pytest.raises(JournalError, match="cannot be written"):
        probe.writer.append_waiting(intent("o-1", sent_at=naive, updated_at=naive))
    assert await probe.writer.append_waiting(intent("o-2"))
    assert probe.rows("SELECT order_id FROM orders") == [("o-2",)]
    assert probe.writer.failure is None


async def test_a_malformed_event_that_nobody_waits_for_fails_the_journal(probe: Probe) -> None:
    """The order has gone on without it: what comes after would leave a gap in its versions."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the defect
    probe.writer.append(intent("o-1", updated_at=naive))
    assert probe.writer.failure is not None
    assert "cannot be written" in probe.writer.failure


@pytest.mark.parametrize("version", [1, 3])
async def test_a_wrong_version_fails_alone_and_marks_the_journal(probe: Probe, version: int) -> None:
    """What shares its batch is durable; memory and journal disagree, so nothing is written afterwards."""
    await probe.writer.append_waiting(intent("o-1"))
    gate = probe.hold()
    wrong = probe.writer.append_waiting(replace(intent("o-1"), order=replace(intent("o-1").order, version=version)))
    others = [probe.writer.append_waiting(intent(f"o-{number}")) for number in (2, 3)]
    gate.set()
    with pytest.raises(JournalError, match=f"event {version} .intent. of order o-1 is not that order's next one"):
        await wrong
    assert await asyncio.gather(*others) == [True, True]
    assert probe.rows("SELECT order_id, n FROM orders ORDER BY order_id") == [("o-1", 1), ("o-2", 1), ("o-3", 1)]
    assert probe.writer.failure is not None


async def test_tables_that_disagree_fail_the_batch_whole(probe: Probe) -> None:
    """An event that is there without its order is damage: nothing of the batch is written."""
    probe.execute(
        "INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES ('o-2', 1, 'x', 0, 1, '{}')"
    )
    gate = probe.hold()
    outcomes = asyncio.gather(
        *(probe.writer.append_waiting(intent(f"o-{number}")) for number in (1, 2, 3)), return_exceptions=True
    )
    await asyncio.sleep(0)
    gate.set()
    assert [type(outcome) for outcome in await outcomes] == [JournalError] * 3
    assert probe.rows("SELECT count(*) FROM orders") == [(0,)]


async def test_after_a_failure_nothing_is_written(probe: Probe) -> None:
    """What is appended later fails unwritten, and the first reason stands."""
    probe.writer.fail("first")
    probe.writer.fail("second")
    with pytest.raises(JournalError, match="not written: first"):
        await probe.writer.append_waiting(intent("o-1"))
    await probe.writer.settled()
    assert probe.rows("SELECT count(*) FROM orders") == [(0,)]


async def test_flags_ride_with_orders(probe: Probe) -> None:
    """A setting goes the same way, in the same order."""
    gate = probe.hold()
    first = asyncio.create_task(probe.writer.set_flag("halt", "a"))
    await asyncio.sleep(0)
    probe.writer.append(intent("o-1"))
    second = asyncio.create_task(probe.writer.set_flag("halt", "b"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, second)
    assert probe.rows("SELECT * FROM flags") == [("halt", "b")]
    assert probe.rows("SELECT order_id FROM orders") == [("o-1",)]
    assert probe.statements.count("COMMIT") == 1


async def test_a_flag_that_is_no_text_is_refused_and_harms_nothing(probe: Probe) -> None:
    """It never reaches the file, and the journal goes on."""
    wrong: Any = 5
    with pytest.raises(JournalError, match="'halt' cannot hold a int"):
        await probe.writer.set_flag("halt", wrong)
    await probe.writer.set_flag("halt", "why")
    assert probe.rows("SELECT * FROM flags") == [("halt", "why")]
    await probe.writer.set_flag("halt", None)
    assert probe.rows("SELECT * FROM flags") == []
    assert probe.writer.failure is None


async def test_closing_marks_a_sound_file_only(tmp_path: Path) -> None:
    """After a failure the file is not called clean, so that the next opening checks it."""
    marks = []
    for failure in (None, "broken"):
        probe = Probe(tmp_path / "journal.db")
        await probe.open()
        if failure is not None:
            probe.writer.fail(failure)
        await probe.writer.close()
        await probe.writer.close()
        assert probe.writer.stop(5)
        marks += probe.rows("SELECT value FROM meta WHERE name = 'clean_shutdown'")
    assert marks == [("1",), ("0",)]


async def test_a_file_that_cannot_be_marked_as_closed_loses_nothing(
    probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    """The entries are durable all the same; the next opening checks the file."""
    probe.execute("CREATE TRIGGER broken BEFORE UPDATE ON meta BEGIN SELECT RAISE(FAIL, 'full'); END")
    await probe.writer.append_waiting(intent("o-1"))
    await probe.writer.close()
    assert "could not be marked as closed" in caplog.text
    assert probe.rows("SELECT count(*) FROM orders") == [(1,)]
    assert probe.writer.failure is None


def test_a_loop_that_went_away_leaves_what_it_appended(tmp_path: Path) -> None:
    """A program that leaves its loop without closing has still handed its entries over."""

    async def append(probe: Probe) -> threading.Event:
        await probe.open()
        gate = probe.hold()
        probe.writer.append(intent("o-1"))
        return gate

    probe = Probe(tmp_path / "journal.db")
    gate = asyncio.run(append(probe))
    gate.set()
    asyncio.run(probe.writer.close())
    assert probe.writer.stop(5)
    assert probe.rows("SELECT count(*) FROM orders") == [(1,)]
