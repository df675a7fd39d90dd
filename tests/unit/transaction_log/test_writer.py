"""The transaction log: everything is written, nothing waits for it, and no secret gets in."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.models import EventKind, Fill, Order, OrderEvent, OrderState, OrderType, Side
from services.mcp.order_execution.transaction_log import TransactionLog, writer
from services.mcp.order_execution.transaction_log.files import DayFiles
from services.mcp.order_execution.transaction_log.lines import Line, Lines, Record
from tests.virtual_time import VirtualClock, run_virtual

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


class HeldFiles(DayFiles):
    """A disk that hangs until ``free`` is set."""

    free = threading.Event()
    reached = threading.Event()

    def append(self, name: str, data: bytes) -> None:
        self.reached.set()
        assert self.free.wait(30)
        super().append(name, data)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[HeldFiles]]:
    """The next log to be opened writes to a disk that hangs."""
    HeldFiles.free.clear()
    HeldFiles.reached.clear()
    monkeypatch.setattr(writer, "DayFiles", HeldFiles)
    yield HeldFiles
    HeldFiles.free.set()


def order_of(order_id: str = "a1", **changes: Any) -> Order:
    order = Order(
        order_id=order_id,
        symbol="BTC/USD",
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=Decimal("0.10"),
        price=Decimal(50_000),
        created_at=NOON,
        updated_at=NOON,
        state=OrderState.SENDING,
        version=1,
    )
    return replace(order, **changes)


def event_of(
    order_id: str = "a1", kind: EventKind = EventKind.INTENT, at: datetime = NOON, **more: Any
) -> OrderEvent:
    changes = more.pop("order", {})
    return OrderEvent(order_of(order_id, **changes), kind, OrderState.PENDING, at, **more)


def lines(path: Path, name: str) -> list[dict[str, Any]]:
    file = path / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def everything_in(path: Path) -> str:
    return "".join(file.read_text() for file in path.iterdir())


FILL = Fill("t1", Decimal("50000.5"), Decimal("0.04"), Decimal("0.001"), "USD", NOON - timedelta(seconds=3))


async def test_orders_fills_and_errors_go_to_their_own_files(tmp_path: Path) -> None:
    """Each line says when, which order and what; decimals are strings in plain notation."""
    log = TransactionLog(tmp_path / "deep" / "log", FixedClock())
    log.open()
    log.record(event_of())
    log.record(event_of(kind=EventKind.FILL, fill=FILL, order={"filled": Decimal("0.04"), "version": 2}))
    log.record_error("a1", "confirm", "TimeoutError", {"waited": 3, "amount": Decimal("1E-8")})
    await log.close()
    folder = tmp_path / "deep" / "log"
    intent, filled = lines(folder, "orders-2026-01-31.jsonl")
    assert intent | {"at": NOON.isoformat(), "order_id": "a1", "kind": "intent", "state": "sending"} == intent
    assert (intent["symbol"], intent["side"], intent["type"]) == ("BTC/USD", "buy", "limit")
    assert (intent["amount"], intent["price"], intent["version"]) == ("0.10", "50000", 1)
    assert (filled["kind"], filled["fill"]["trade_id"]) == ("fill", "t1")
    assert lines(folder, "fills-2026-01-31.jsonl") == [
        {
            "at": NOON.isoformat(),
            "order_id": "a1",
            "exchange_order_id": None,
            "kind": "fill",
            "state": "sending",
            "filled": "0.04",
            "symbol": "BTC/USD",
            "side": "buy",
            "trade_id": "t1",
            "price": "50000.5",
            "amount": "0.04",
            "fee": "0.001",
            "fee_currency": "USD",
            "traded_at": (NOON - timedelta(seconds=3)).isoformat(),
        }
    ]
    assert lines(folder, "errors-2026-01-31.jsonl") == [
        {
            "at": NOON.isoformat(),
            "order_id": "a1",
            "kind": "error",
            "phase": "confirm",
            "error": "TimeoutError",
            "detail": {"waited": 3, "amount": "0.00000001"},
        }
    ]
    assert (log.dropped, log.failures, log.waiting) == (0, 0, 0)


async def test_a_market_order_has_no_price(tmp_path: Path) -> None:
    """The field is there all the same, as null."""
    log = TransactionLog(tmp_path, FixedClock(), inline=True)
    log.open()
    log.record(event_of(order={"price": None, "type": OrderType.MARKET}))
    await log.close()
    assert lines(tmp_path, "orders-2026-01-31.jsonl")[0]["price"] is None


async def test_the_day_changes_at_midnight_utc_by_the_records_own_time(tmp_path: Path) -> None:
    """A record that comes late still goes to its own day's file."""
    log = TransactionLog(tmp_path, FixedClock(), inline=True)
    log.open()
    midnight = datetime(2026, 2, 1, tzinfo=UTC)
    log.record(event_of("before", at=midnight - timedelta(microseconds=1)))
    log.record(event_of("after", at=midnight))
    log.record(event_of("late", at=midnight - timedelta(seconds=1)))
    await log.close()
    assert [line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")] == ["before", "late"]
    assert [line["order_id"] for line in lines(tmp_path, "orders-2026-02-01.jsonl")] == ["after"]


async def test_everything_recorded_is_written_by_close(tmp_path: Path) -> None:
    """Many batches, in order, without one missing."""
    log = TransactionLog(tmp_path, FixedClock())
    log.open()
    for number in range(5_000):
        log.record(event_of(f"o{number}"))
    await log.close()
    assert [line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")] == [
        f"o{number}" for number in range(5_000)
    ]


async def test_flush_returns_once_everything_is_on_disk(tmp_path: Path) -> None:
    """Readable by another process from then on; flushing a closed log does nothing."""
    log = TransactionLog(tmp_path, FixedClock())
    await log.flush()
    log.open()
    log.record(event_of())
    await log.flush()
    assert len(lines(tmp_path, "orders-2026-01-31.jsonl")) == 1
    await log.close()


async def test_recording_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, held: type[HeldFiles], caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the queue's bound records are dropped, counted, logged once, and told by a line later."""
    log = TransactionLog(tmp_path, FixedClock(), max_queue=10)
    log.open()
    log.record(event_of("first"))
    assert held.reached.wait(30)  # the writer hangs with the first record in its hands
    for number in range(30):
        log.record(event_of(f"o{number}"))
    assert (log.waiting, log.dropped) == (10, 20)
    held.free.set()
    await log.close()
    kept = [line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")]
    assert kept == ["first", *(f"o{number}" for number in range(10))]
    assert lines(tmp_path, "errors-2026-01-31.jsonl") == [
        {
            "at": NOON.isoformat(),
            "order_id": None,
            "kind": "error",
            "phase": "transaction_log",
            "error": "dropped",
            "detail": {"records": 20},
        }
    ]
    assert [record.message for record in caplog.records] == [
        "transaction log: 10 records wait; further ones are dropped"
    ]


async def test_a_close_that_takes_too_long_is_given_up(
    tmp_path: Path, held: type[HeldFiles], caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that hangs does not hold the end up; a log opened anew is not disturbed by the old thread."""
    others = set(threading.enumerate())
    log = TransactionLog(tmp_path, FixedClock(), close_timeout_seconds=0.01)
    log.open()
    log.record(event_of("first"))
    assert held.reached.wait(30)
    log.record(event_of("second"))
    await log.flush()
    await log.close()
    assert "were not yet written at close" in caplog.text
    log.open()
    held.free.set()
    log.record(event_of("third"))
    log._close_timeout = 30
    await log.close()
    for thread in set(threading.enumerate()) - others:
        if thread.name == "transaction-log":
            thread.join(30)
            assert not thread.is_alive()
    written = {line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")}
    assert written == {"first", "second", "third"}


def test_a_close_whose_loop_ends_leaves_a_quiet_thread(tmp_path: Path, held: type[HeldFiles]) -> None:
    """The thread finishes its work though nobody waits for it any more."""

    async def hang() -> None:
        log = TransactionLog(tmp_path, FixedClock(), close_timeout_seconds=0.01)
        log.open()
        log.record(event_of())
        assert held.reached.wait(30)
        await log.close()

    others = set(threading.enumerate())
    asyncio.run(hang())
    held.free.set()
    for thread in threading.enumerate():
        if thread.name == "transaction-log" and thread not in others:
            thread.join(30)
            assert not thread.is_alive()
    assert len(lines(tmp_path, "orders-2026-01-31.jsonl")) == 1


async def test_trading_goes_on_when_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Failures are counted and logged once; what is lost is told when the disk takes lines again."""
    (tmp_path / "orders-2026-01-31.jsonl").symlink_to("/dev/full")
    (tmp_path / "errors-2026-01-31.jsonl").symlink_to("/dev/full")
    log = TransactionLog(tmp_path, FixedClock(), inline=True)
    log.open()
    log.record(event_of("lost"))
    log.record(event_of("lost too"))
    assert log.failures >= 2
    assert log.dropped == 2
    for name in ("orders-2026-01-31.jsonl", "errors-2026-01-31.jsonl"):
        (tmp_path / name).unlink()
    log.record(event_of("kept"))
    await log.close()
    assert [line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")] == ["kept"]
    assert [line["detail"] for line in lines(tmp_path, "errors-2026-01-31.jsonl")] == [{"records": 2}]
    assert [record.message for record in caplog.records] == [
        "transaction log: writing failed: No space left on device"
    ]


async def test_a_record_that_cannot_be_written_down_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread lives on, and the loss is counted."""
    log = TransactionLog(tmp_path, FixedClock())
    log.open()
    log.record("not an event")  # type: ignore[arg-type]
    log.record(event_of())
    await log.close()
    assert len(lines(tmp_path, "orders-2026-01-31.jsonl")) == 1
    assert log.dropped == 1
    assert "AttributeError" in caplog.text


async def test_a_closed_log_drops_and_counts(tmp_path: Path) -> None:
    """Before open and after close nothing is written, and nothing raises; closing again is harmless."""
    log = TransactionLog(tmp_path / "log", FixedClock())
    log.record(event_of())
    await log.close()
    assert not (tmp_path / "log").exists()
    assert log.dropped == 1
    log.open()
    log.open()
    await log.close()
    await log.close()
    log.record_error(None, "start", "OSError")
    assert log.dropped == 2


async def test_secrets_never_reach_the_disk(tmp_path: Path) -> None:
    """By their name, by their value, in an order's reason and in an error's detail."""
    log = TransactionLog(tmp_path, FixedClock(), redact=["hunter2hunter2"])
    log.open()
    log.record(event_of(detail="GET /?key=hunter2hunter2&signature=feedbeef", order={"reason": "hunter2hunter2"}))
    log.record_error(
        "a1",
        "execute",
        "hunter2hunter2",
        {"message": "Authorization: Bearer feedbeef", "headers": {"API-Key": "feedbeef"}},
    )
    await log.close()
    text = everything_in(tmp_path)
    assert "hunter2" not in text
    assert "feedbeef" not in text
    assert len(text.splitlines()) == 2


async def test_a_detail_is_taken_as_it_was(tmp_path: Path, held: type[HeldFiles]) -> None:
    """The caller may go on using its mapping."""
    log = TransactionLog(tmp_path, FixedClock())
    log.open()
    detail = {"step": "first"}
    log.record_error("a1", "execute", "OSError", detail)
    detail["step"] = "second"
    held.free.set()
    await log.close()
    assert lines(tmp_path, "errors-2026-01-31.jsonl")[0]["detail"] == {"step": "first"}


def test_a_simulation_writes_without_threads(tmp_path: Path) -> None:
    """Inline, under virtual time: the same lines, at the virtual clock's time."""

    async def main() -> None:
        log = TransactionLog(tmp_path, VirtualClock(), inline=True)
        log.open()
        await asyncio.sleep(86_400)
        log.record_error("a1", "execute", "OSError")
        await log.flush()
        assert len(lines(tmp_path, "errors-2026-01-02.jsonl")) == 1
        await log.close()

    threads = threading.active_count()
    run_virtual(main)
    assert threading.active_count() == threads


async def test_a_directory_that_cannot_be_written_to_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found at the start, and names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"transaction_log.path: .*File exists") as caught:
        TransactionLog(tmp_path / "file", FixedClock()).open()
    assert caught.value.field == "transaction_log.path"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigurationError, match="no permission"):
        TransactionLog(tmp_path, FixedClock()).open()


async def test_two_writers_in_one_directory_do_not_mix_their_lines(tmp_path: Path) -> None:
    """A bot and a reconciliation job may write at once."""
    logs = [TransactionLog(tmp_path, FixedClock()) for _ in range(2)]
    for log in logs:
        log.open()
    for number in range(2_000):
        for which, log in enumerate(logs):
            log.record(event_of(f"{which}-{number}"))
    await asyncio.gather(*(log.close() for log in logs))
    written = [line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")]
    assert sorted(written) == sorted(f"{which}-{number}" for which in range(2) for number in range(2_000))


async def test_recording_is_cheap_for_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order's path only queues: nothing is encoded and no file is touched by the caller."""

    class Loud(Lines):
        def of(self, record: Record) -> list[Line]:
            assert threading.current_thread() is not threading.main_thread()
            return super().of(record)

    monkeypatch.setattr(writer, "Lines", Loud)
    log = TransactionLog(tmp_path, SystemClock())
    log.open()
    log.record(event_of())
    await log.close()
    assert log.dropped == 0


async def test_the_level_of_trouble_is_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lost records are worth an operator's look."""
    (tmp_path / "orders-2026-01-31.jsonl").symlink_to("/dev/full")
    log = TransactionLog(tmp_path, FixedClock(), inline=True)
    log.open()
    log.record(event_of())
    await log.close()
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_a_thread_without_a_loop_can_wait_for_what_it_wrote(tmp_path: Path, held: type[HeldFiles]) -> None:
    """And is not held up for longer than it says by a disk that hangs."""
    log = TransactionLog(tmp_path, FixedClock())
    log.open()
    log.record(event_of("first"))
    assert held.reached.wait(30)
    assert not log.catch_up(0.01)
    held.free.set()
    assert log.catch_up(30)
    assert [line["order_id"] for line in lines(tmp_path, "orders-2026-01-31.jsonl")] == ["first"]
    asyncio.run(log.close())
    assert log.catch_up(0.0)
