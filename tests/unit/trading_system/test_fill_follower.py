"""Every fill reaches the position manager, once it works again, whatever failed meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.alerts import Alert, Alerts
from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.models import Order as CoreOrder
from tests.unit.trading_system.engine_world import EngineWorld
from trading_system.execution import OrderFill, OrderSide
from trading_system.execution.fill_follower import CATCH_UP, FillFollower

PARAMS = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "amount": "0.1", "price": "50000"}


class Positions:
    """A position manager that keeps what it was told, and can be made to fail or to hang."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.refused: list[str] = []
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def apply_fill(self, symbol: str, side: OrderSide, fill: OrderFill, order_id: str) -> None:
        """Take one fill in."""
        assert self.gate.wait(10)
        if order_id in self.broken:
            self.refused.append(order_id)
            raise RuntimeError("a defect")
        self.told.append(order_id)


class Titles:
    """A sink that keeps the alerts."""

    name = "titles"

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> None:
        """Keep it."""
        self.alerts.append(alert)

    async def close(self) -> None:
        """Nothing to release."""


class Setting:
    """An open executor, and who follows it."""

    def __init__(self, world: EngineWorld, executor: ReliableOrderExecutor) -> None:
        self.exchange = world.exchange
        self.executor = executor
        self.positions = Positions()
        self.follower = FillFollower(executor, self.positions, pause=0.02, slow=0.05)

    async def fill(self, *order_ids: str) -> None:
        """Place orders that trade at once, and wait for their fills."""
        for order_id in order_ids:
            self.exchange.script.append("fill")
            await self.executor.execute_order({**PARAMS, "client_order_id": order_id})
            await self.executor.wait_for_order(order_id, 5)


@asynccontextmanager
async def setting(tmp_path: Path, *sinks: Titles) -> AsyncIterator[Setting]:
    """An executor of its own; what follows it is ended with it."""
    world = EngineWorld(tmp_path)
    executor = world.executor()
    if sinks:
        executor.alerts = Alerts(sinks, world.clock)
    await executor.open()
    made = Setting(world, executor)
    try:
        yield made
    finally:
        made.positions.gate.set()
        await executor.close()
        await made.follower.close(5)


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that the follower does."""
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - the follower has nobody to tell a test
            await asyncio.sleep(0.005)


async def test_each_fill_is_told_once(tmp_path: Path) -> None:
    """Those before the start are read from the journal; an event about them later changes nothing."""
    async with setting(tmp_path) as it:
        await it.fill("a")
        it.follower.start()
        await it.fill("b")
        await until(lambda: it.positions.told == ["a", "b"])


async def test_it_goes_on_after_a_slow_moment(tmp_path: Path) -> None:
    """More events than can be kept unread: what was missed is read from the journal."""
    async with setting(tmp_path) as it:
        assert it.executor._core is not None
        for subscription in it.executor._core.registry._subscriptions:
            subscription._max_unread = 5
        it.positions.gate.clear()
        it.follower.start()
        await it.fill(*"abcdefgh")
        it.positions.gate.set()
        await until(lambda: len(it.positions.told) == 8)
        await it.fill("i")
        await until(lambda: it.positions.told[8:] == ["i"])
        assert sorted(it.positions.told) == list("abcdefghi")


async def test_an_old_order_is_not_forgotten_in_a_slow_moment(tmp_path: Path) -> None:
    """It was placed before everything that is read again, and is settled by the time that it would be."""
    async with setting(tmp_path) as it:
        await it.executor.execute_order({**PARAMS, "client_order_id": "old"})
        it.follower._since = it.executor.clock.now() + timedelta(seconds=0.001)
        await asyncio.sleep(0.002)
        it.follower.start()
        await until(lambda: not it.follower._behind)
        assert it.executor._core is not None
        for subscription in it.executor._core.registry._subscriptions:
            subscription._max_unread = 0
        it.exchange.fill("X1", "0.1")
        await it.executor.wait_for_order("old", 5)
        await until(lambda: it.positions.told == ["old"])


async def test_a_fill_that_was_refused_is_told_again(tmp_path: Path) -> None:
    """Others are told meanwhile; pauses grow, and it comes once the position manager works."""
    async with setting(tmp_path) as it:
        it.positions.broken.add("a")
        it.follower.start()
        await it.fill("a", "b")
        await until(lambda: it.positions.told == ["b"] and len(it.positions.refused) >= 3)
        assert it.follower._pause > 0.04
        it.positions.broken.clear()
        await until(lambda: it.positions.told == ["b", "a"])
        await until(lambda: it.follower._pause == 0.02)


async def test_what_is_owed_is_tried_once_more_at_the_end(tmp_path: Path) -> None:
    """After that the next start tells it."""
    async with setting(tmp_path) as it:
        it.follower._first_pause = it.follower._pause = 60.0
        it.positions.broken.add("a")
        it.follower.start()
        await it.fill("a")
        await until(lambda: it.positions.refused == ["a"])
        it.positions.broken.clear()
    assert it.positions.told == ["a"]


async def test_a_journal_that_cannot_be_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And somebody is told that positions stand still."""
    sink = Titles()
    async with setting(tmp_path, sink) as it:
        failures = 2
        real = it.executor.orders_since

        async def orders_since(since: datetime) -> AsyncIterator[CoreOrder]:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise JournalError("the disk does not answer")
            async for order in real(since):
                yield order

        monkeypatch.setattr(it.executor, "orders_since", orders_since)
        await it.fill("a")
        it.follower.start()
        await it.fill("b")
        await until(lambda: sorted(it.positions.told) == ["a", "b"])
        assert failures == -1
    assert [alert.title for alert in sink.alerts] == ["positions stand still"]


async def test_a_position_manager_that_hangs_is_told_of(tmp_path: Path) -> None:
    """It is asked no second time meanwhile, and what came in between is told afterwards."""
    sink = Titles()
    async with setting(tmp_path, sink) as it:
        it.positions.gate.clear()
        it.follower.start()
        await it.fill("a", "b")
        await until(lambda: bool(sink.alerts))
        assert it.positions.told == []
        it.positions.gate.set()
        await until(lambda: it.positions.told == ["a", "b"])
    assert sink.alerts[0].title == "the position manager has not answered for 0.05 s"


async def test_the_end_does_not_wait_for_a_position_manager_that_hangs(tmp_path: Path) -> None:
    """The fill is in the journal, and told after the next start."""
    async with setting(tmp_path) as it:
        it.positions.gate.clear()
        it.follower.start()
        await it.fill("a")
        await it.executor.close()
        started = it.executor.clock.monotonic()
        await it.follower.close(0.05)
        assert it.executor.clock.monotonic() - started < 2
        await it.follower.close(0.05)


async def test_a_failure_while_the_engine_stops_is_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause holds up the stop."""
    async with setting(tmp_path) as it:

        async def orders_since(since: datetime) -> AsyncIterator[CoreOrder]:
            raise JournalError("the journal is closed")
            yield

        monkeypatch.setattr(it.executor, "orders_since", orders_since)
        it.follower._pause = 60.0
        it.follower.start()
        await asyncio.sleep(0)
        started = it.executor.clock.monotonic()
        await it.follower.close(5)
        assert it.executor.clock.monotonic() - started < 2


async def test_only_so_many_fills_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both those told and those owed are bounded; the rest is told by the journal."""
    monkeypatch.setattr("trading_system.execution.fill_follower.TOLD_MAX", 2)
    monkeypatch.setattr("trading_system.execution.fill_follower.OWED_MAX", 1)
    async with setting(tmp_path) as it:
        it.positions.broken |= {"a", "b"}
        it.follower.start()
        await until(lambda: not it.follower._behind)
        await it.fill(*"abcde")
        await until(lambda: it.positions.told == ["c", "d", "e"])
        assert [key[0] for key in it.follower._told] == ["d", "e"]
        assert [key[0] for key in it.follower._owed] == ["a"]


async def test_seven_days_are_told_again_at_the_start(tmp_path: Path) -> None:
    """A position manager that lost its file a weekend ago is whole again."""
    async with setting(tmp_path) as it:
        assert it.executor.clock.now() - it.follower._since - CATCH_UP < timedelta(seconds=10)


async def test_catching_up_that_a_stop_overtakes_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal is closed by then. Nobody is woken, and what happens until the end is taken in."""
    sink = Titles()
    async with setting(tmp_path, sink) as it:

        async def orders_since(since: datetime) -> AsyncIterator[CoreOrder]:
            it.follower.expect_end()
            raise JournalError("the journal is not open")
            yield

        monkeypatch.setattr(it.executor, "orders_since", orders_since)
        it.follower.start()
        await it.fill("a")
        await until(lambda: it.positions.told == ["a"])
    assert sink.alerts == []
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_an_order_that_filled_without_its_trades_is_not_passed_over(tmp_path: Path) -> None:
    """An exchange tells trades of a few days only. Nothing is made up: somebody is told what the position lacks."""
    sink = Titles()
    async with setting(tmp_path, sink) as it:
        it.exchange.carry_fills = False
        it.follower.start()
        await it.executor.execute_order({**PARAMS, "client_order_id": "a"})
        it.exchange.fill("X1", "0.1")
        it.exchange.trades_listed.clear()
        await until(lambda: bool(sink.alerts))
        (alert,) = sink.alerts
        assert alert.title.startswith("the position of BTC/USD lacks 0.1")
        assert "order a (buy" in alert.body
        assert it.positions.told == []
        order = await it.executor.get_order_status("a")
        it.follower._check_told(order)
        it.follower._check_told(replace(order, filled=Decimal(0)))
        assert it.follower._lacking == {}
    assert len(sink.alerts) == 1
