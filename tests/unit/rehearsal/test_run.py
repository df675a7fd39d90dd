"""A whole rehearsal, short and on the real loop: executor, journal and paper exchange are the real ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution import ErrorCategory
from services.mcp.order_execution.bootstrap import make_gateway
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.gateways.base import Gateway, OrderList, Unavailable
from services.mcp.order_execution.rehearsal.day import BadDay
from services.mcp.order_execution.rehearsal.plan import REFUSED_HERE, Purpose
from services.mcp.order_execution.rehearsal.run import Options, Rehearsal, RehearsalFailed
from services.mcp.order_execution.rehearsal.view import Snapshot


class Seen:
    """A view that remembers."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)


class Stage:
    """A short bad day, its observer and its view."""

    def __init__(self, directory: Path, orders: int) -> None:
        self.clock = SystemClock()
        self.options = Options(orders, 5, 8, directory, 1.0)
        self.day = BadDay(directory, 5, self.clock, seconds=1.0)
        self.observer: Gateway = make_gateway(
            load_settings(self.day.after, environ={}), self.clock, random.Random(5)
        )
        self.seen = Seen()

    async def play(self) -> dict[str, Any]:
        """Rehearse."""
        await self.observer.open()
        try:
            return await Rehearsal(self.options, self.day, self.observer, self.seen).run()
        finally:
            await self.observer.close()


async def test_a_bad_day_ends_with_everything_accounted_for(tmp_path: Path) -> None:
    """Orders of all kinds under faults: none lost, doubled, misjudged or left unknown, and the books agree."""
    stage = Stage(tmp_path, 20)
    report = await stage.play()
    assert report["ok"], report["verdict"]
    assert len(report["orders"]) == 20
    assert all(entry["answers"] for entry in report["orders"])
    for entry in report["orders"]:
        refused_here = Purpose(entry["purpose"]) in REFUSED_HERE
        assert (entry["answers"][-1]["answer"] == "refused here") == refused_here
        assert (entry["order"] is None) == refused_here
    reconciliation = report["reconciliation"]
    assert reconciliation["total_orders"] == reconciliation["matched_orders"] > 0
    assert (stage.seen.snapshots[-1].answered, stage.seen.snapshots[-1].planned) == (20, 20)
    assert {"placing", "resolving"} <= {snapshot.phase for snapshot in stage.seen.snapshots}


async def test_the_verdict_is_the_exchange_s_own(tmp_path: Path) -> None:
    """The executor may believe what it likes: an order that the exchange's book does not hold is lost."""
    stage = Stage(tmp_path, 1)

    async def nothing(*_: object, **__: object) -> OrderList:
        return OrderList(())

    stage.observer.closed_orders = stage.observer.open_orders = nothing  # type: ignore[method-assign, assignment]
    report = await stage.play()
    assert not report["ok"]
    assert report["verdict"]["lost"] == ["rehearsal-5-0001"]


async def test_a_book_that_cannot_be_read_is_no_verdict(tmp_path: Path) -> None:
    """Without the exchange's book nothing is claimed."""
    stage = Stage(tmp_path, 1)

    async def silent(*_: object, **__: object) -> Unavailable:
        return Unavailable(ErrorCategory.TIMEOUT, "no answer")

    stage.observer.open_orders = silent  # type: ignore[method-assign, assignment]
    with pytest.raises(RehearsalFailed, match="no answer"):
        await stage.play()


async def test_prices_that_are_not_told_stop_it_before_anything_is_placed(tmp_path: Path) -> None:
    """No price, no plan."""
    stage = Stage(tmp_path, 1)

    async def silent(*_: object) -> Unavailable:
        return Unavailable(ErrorCategory.TIMEOUT, "no answer")

    stage.observer.ticker = silent  # type: ignore[method-assign, assignment]
    with pytest.raises(RehearsalFailed, match="price"):
        await stage.play()
