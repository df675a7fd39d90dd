"""Power cuts at any moment: what was acknowledged is there, whole, and in order; nothing else is half there."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution import JournalError, lifecycle
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals import sqlite_schema
from services.mcp.order_execution.journals.codec import decode_order
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.models import Order, OrderRequest, OrderType, Side
from tests.crash.vfs import Operation, RecordingDisk, disk, image, rounds

PRODUCERS = 6
ORDERS = 12


@dataclass
class Recording:
    """What a journal did to its files, and when it acknowledged what."""

    log: list[Operation]
    acks: list[tuple[int, str, int]] = field(default_factory=list)
    """Once the log was so long, this order's event of this number had been acknowledged."""


def request(order_id: str) -> OrderRequest:
    """A limit order."""
    return OrderRequest(order_id, "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal("0.1"), Decimal(50_000))


async def write_much(path: Path, watched: RecordingDisk, recording: Recording) -> None:
    """Producers that write orders through their lives, some waiting, some riding behind."""
    journal = SQLiteJournal(path, SystemClock(), min_free_bytes=0)
    await journal.open()
    clock = SystemClock()

    async def producer(number: int) -> None:
        for turn in range(ORDERS):
            order: Order = lifecycle.new_order(request(f"p{number}-{turn}"), clock.now())
            event = lifecycle.intend(order, clock.now())
            await journal.commit(event)
            recording.acks.append((len(watched.log), event.order_id, event.order.version))
            receipt = lifecycle.accepted(event.order, clock.now(), f"X{number}-{turn}")
            journal.enqueue(receipt)
            if turn % 3 == 0:
                wish = lifecycle.cancel_requested(receipt.order, clock.now())
                await journal.commit(wish)
                recording.acks.append((len(watched.log), wish.order_id, wish.order.version))

    await asyncio.gather(*(producer(number) for number in range(PRODUCERS)))
    await journal.flush()
    recording.log = list(watched.log)
    await journal.close()


def record(directory: Path, name: str) -> Recording:
    """One busy time of a journal."""
    recording = Recording([])
    with disk(name) as watched:
        asyncio.run(write_much(directory / "journal.db", watched, recording))
    return recording


def findings(
    recording: Recording, directory: Path, cut: int, rng: random.Random, *, lying: bool = False
) -> list[str]:
    """Cut the power after so many operations, start again, and say what is wrong."""
    directory.mkdir()
    image(recording.log[:cut], rng, directory, lying=lying)
    path = directory / "journal.db"
    acked = [(order_id, version) for at, order_id, version in recording.acks if at <= cut]
    if not path.exists():
        return ["the file is gone"] if acked else []
    try:
        asyncio.run(_reopen(path))
    except JournalError as error:
        return [f"it does not open: {error}"] if acked else []
    with closing(sqlite3.connect(path)) as found:
        return _wrong(found, acked)


async def _reopen(path: Path) -> None:
    journal = SQLiteJournal(path, SystemClock(), min_free_bytes=0)
    await journal.open()
    await journal.claim()
    await journal.close()


def _wrong(found: sqlite3.Connection, acked: list[tuple[str, int]]) -> list[str]:
    wrong = []
    if found.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
        wrong.append("the file is damaged")
    events: dict[str, list[int]] = {}
    numbers = []
    for seq, order_id, number in found.execute("SELECT seq, order_id, n FROM order_events ORDER BY seq"):
        events.setdefault(order_id, []).append(number)
        numbers.append(seq)
    if numbers != list(range(1, len(numbers) + 1)):
        wrong.append("the sequence has a gap")
    orders = dict(found.execute("SELECT order_id, n FROM orders"))
    bodies = dict(found.execute("SELECT order_id, body FROM orders"))
    for order_id, versions in events.items():
        if versions != list(range(1, len(versions) + 1)):
            wrong.append(f"{order_id} has the events {versions}")
        if orders.get(order_id) != len(versions) or decode_order(bodies[order_id]).version != len(versions):
            wrong.append(f"{order_id} and its events disagree")
    wrong += [f"{order_id} has no events" for order_id in orders.keys() - events.keys()]
    lost = [item for item in acked if item[1] not in events.get(item[0], [])]
    return wrong + [f"{order_id}, event {version}, was acknowledged and is lost" for order_id, version in lost]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recorded"), "watched")


def test_no_power_cut_loses_what_was_acknowledged(recording: Recording, tmp_path: Path) -> None:
    """At random moments of a busy time, with torn, reordered and dropped writes."""
    assert len(recording.acks) > PRODUCERS * ORDERS
    assert sum(operation.kind == "sync" for operation in recording.log) > 10
    rng = random.Random(7)
    for number in range(rounds(250)):
        cut = rng.randrange(1, len(recording.log) + 1)
        assert findings(recording, tmp_path / str(number), cut, rng) == [], f"cut {cut} of round {number}"


def test_no_power_cut_around_a_sync_does(recording: Recording, tmp_path: Path) -> None:
    """The moments just before and after each sync, one by one."""
    rng = random.Random(8)
    syncs = [number for number, operation in enumerate(recording.log, 1) if operation.kind == "sync"]
    for sync in syncs:
        for cut in (sync - 1, sync):
            assert findings(recording, tmp_path / f"{cut}-{sync}", cut, rng) == [], f"cut {cut}"


def test_a_disk_that_ignores_syncs_is_caught(recording: Recording, tmp_path: Path) -> None:
    """The test of the test: on a lying disk acknowledged events are lost."""
    rng = random.Random(9)
    lost = 0
    for number in range(20):
        cut = rng.randrange(len(recording.log) // 2, len(recording.log))
        lost += bool(findings(recording, tmp_path / str(number), cut, rng, lying=True))
    assert lost > 10


def test_a_journal_that_does_not_sync_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: with synchronous off, the same cuts lose what was acknowledged."""
    make_durable = sqlite_schema._make_durable

    def careless(connection: sqlite3.Connection, path: Path) -> None:
        make_durable(connection, path)
        connection.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(sqlite_schema, "_make_durable", careless)
    unsynced = record(tmp_path, "unsynced")
    monkeypatch.undo()
    rng = random.Random(10)
    lost = 0
    for number in range(30):
        cut = rng.randrange(len(unsynced.log) // 2, len(unsynced.log))
        lost += bool(findings(replace(unsynced), tmp_path / str(number), cut, rng))
    assert lost > 10
