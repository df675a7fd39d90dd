"""The reader gives an order's history back, whatever state the files are in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.models import EventKind, Fill, Order, OrderEvent, OrderState, OrderType, Side
from services.mcp.order_execution.transaction_log import TransactionLog, TransactionLogReader
from services.mcp.order_execution.transaction_log.reader import LINE_BYTES_MAX
from tests.virtual_time import EPOCH, VirtualClock, run_virtual

MIDNIGHT = datetime(2026, 2, 1, tzinfo=UTC)


def put(folder: Path, name: str, *records: dict[str, Any] | bytes) -> None:
    with (folder / name).open("ab") as file:
        for record in records:
            file.write(record if isinstance(record, bytes) else json.dumps(record).encode() + b"\n")


def entry(seconds: float, order_id: str = "a1", **more: Any) -> dict[str, Any]:
    return {"at": (MIDNIGHT + timedelta(seconds=seconds)).isoformat(), "order_id": order_id, **more}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Writer and reader together, over a day's change: in time order, each fill once, other orders left out."""

    def event(now: datetime, order_id: str, kind: EventKind, version: int, fill: Fill | None = None) -> OrderEvent:
        order = Order(
            order_id=order_id,
            symbol="BTC/USD",
            side=Side.BUY,
            type=OrderType.MARKET,
            amount=Decimal(1),
            created_at=now,
            updated_at=now,
            version=version,
        )
        return OrderEvent(order, kind, OrderState.PENDING, now, fill)

    async def main() -> None:
        clock = VirtualClock()
        clock.jump(86_398)
        log = TransactionLog(tmp_path, clock, inline=True)
        log.open()
        log.record(event(clock.now(), "a1", EventKind.INTENT, 1))
        log.record(event(clock.now(), "b2", EventKind.INTENT, 1))
        clock.jump(1)
        log.record_error("a1", "submit", "TimeoutError")
        clock.jump(1)
        fill = Fill("t1", Decimal(1), Decimal(1), Decimal(0), "USD", EPOCH)
        log.record(event(clock.now(), "a1", EventKind.FILL, 2, fill))
        await log.close()

    run_virtual(main)
    assert len(list(tmp_path.glob("*.jsonl"))) == 4
    history = TransactionLogReader(tmp_path).history("a1")
    assert [(line["log"], line["kind"]) for line in history] == [
        ("orders", "intent"),
        ("errors", "error"),
        ("orders", "fill"),
    ]
    assert {line["order_id"] for line in history} == {"a1"}


def test_entries_come_in_time_order_over_streams_and_days(tmp_path: Path) -> None:
    """At one and the same time by version, and an error after what it tells of."""
    put(tmp_path, "orders-2026-02-01.jsonl", entry(0, version=3), entry(5, version=5), entry(5, version=4))
    put(tmp_path, "orders-2026-01-31.jsonl", entry(-9, version=1))
    put(tmp_path, "errors-2026-02-01.jsonl", entry(0, phase="confirm"), entry(6, phase="late"))
    history = TransactionLogReader(tmp_path).history("a1")
    assert [line.get("version") or line["phase"] for line in history] == [1, 3, "confirm", 4, 5, "late"]


def test_a_fill_whose_order_line_was_lost_is_still_given(tmp_path: Path) -> None:
    """The fills file stands in for it."""
    put(tmp_path, "orders-2026-02-01.jsonl", entry(0, fill={"trade_id": "t1"}), entry(1, fill=None))
    put(tmp_path, "fills-2026-02-01.jsonl", entry(0, trade_id="t1"), entry(2, trade_id="t2"))
    history = TransactionLogReader(tmp_path).history("a1")
    assert [(line["log"], line.get("trade_id")) for line in history] == [
        ("orders", None),
        ("orders", None),
        ("fills", "t2"),
    ]


def test_an_id_within_another_field_is_another_order(tmp_path: Path) -> None:
    """Only the order's own lines count, though the id stands in others, too."""
    put(tmp_path, "orders-2026-02-01.jsonl", entry(0, "b2", detail="a1"), entry(0, "a11"))
    assert TransactionLogReader(tmp_path).history("a1") == []


def test_damage_costs_no_more_than_its_own_lines(tmp_path: Path) -> None:
    """A torn last line, garbage, other JSON, a record without time and an endless line are skipped and counted."""
    endless = b"a" * (2 * LINE_BYTES_MAX + 7) + b"\n"
    put(
        tmp_path,
        "errors-2026-02-01.jsonl",
        entry(0, phase="one"),
        b"\xff\xfe garbage\n",
        b"[1]\n",
        b'{"order_id":"a1"}\n',
        b'{"order_id":"a1","at":"yesterday"}\n',
        endless,
        b"\n",
        entry(1, phase="two"),
        b'{"at":"2026-02-01T00:00:02+00:00","ord',
    )
    reader = TransactionLogReader(tmp_path)
    assert [line["phase"] for line in reader.errors()] == ["one", "two"]
    assert reader.damaged == 6
    assert [line["phase"] for line in reader.history("a1")] == ["one", "two"]


def test_a_last_line_without_its_end_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """Only the newline was cut off."""
    put(tmp_path, "errors-2026-02-01.jsonl", json.dumps(entry(0, phase="one")).encode())
    assert [line["phase"] for line in TransactionLogReader(tmp_path).errors()] == ["one"]


def test_an_endless_last_line_ends_with_the_file(tmp_path: Path) -> None:
    """No newline follows any more."""
    put(tmp_path, "errors-2026-02-01.jsonl", entry(0, phase="one"), b"x" * (LINE_BYTES_MAX * 2))
    reader = TransactionLogReader(tmp_path)
    assert [line["phase"] for line in reader.errors()] == ["one"]
    assert reader.damaged == 1


@pytest.mark.parametrize(
    ("since", "until", "phases"),
    [
        (None, None, ["p-1", "p0", "p1", "p90000"]),
        (0, None, ["p0", "p1", "p90000"]),
        (None, 1, ["p-1", "p0"]),
        (1, 86_401, ["p1"]),
        (100_000, None, []),
    ],
)
def test_errors_of_a_time(tmp_path: Path, since: int | None, until: int | None, phases: list[str]) -> None:
    """From ``since`` on and before ``until``, over the days' files."""
    put(tmp_path, "errors-2026-01-31.jsonl", entry(-1, phase="p-1"))
    put(tmp_path, "errors-2026-02-01.jsonl", entry(0, phase="p0"), entry(1, phase="p1"))
    put(tmp_path, "errors-2026-02-02.jsonl", entry(90_000, phase="p90000"))
    found = TransactionLogReader(tmp_path).errors(
        None if since is None else MIDNIGHT + timedelta(seconds=since),
        None if until is None else MIDNIGHT + timedelta(seconds=until),
    )
    assert [line["phase"] for line in found] == phases


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Only files of our own naming are read; times without a zone are taken as UTC."""
    put(tmp_path, "errors-2026-99-99.jsonl", entry(0, phase="no such day"))
    put(tmp_path, "errors-backup.jsonl", entry(0, phase="backup"))
    put(tmp_path, "errors-2026-02-01.jsonl", {"at": "2026-02-01T00:00:00", "order_id": None, "phase": "naive"})
    found = TransactionLogReader(str(tmp_path)).errors(since=MIDNIGHT, until=MIDNIGHT + timedelta(seconds=1))
    assert [line["phase"] for line in found] == ["naive"]


def test_an_unreadable_file_is_an_error_and_not_silence(tmp_path: Path) -> None:
    """A directory in the place of a file."""
    (tmp_path / "orders-2026-02-01.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        TransactionLogReader(tmp_path).history("a1")
