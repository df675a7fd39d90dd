"""One reconciliation of a living executor: after its recovery, over its own wire, into its own record."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution import (
    ConfigurationError,
    ErrorCategory,
    ExchangeUnavailable,
    OrderState,
    ReconciliationReport,
)
from services.mcp.order_execution.gateways.base import Unavailable
from services.mcp.order_execution.reconciliation import AlertThresholds
from services.mcp.order_execution.reconciling import RECOVERY_SECONDS, reconcile
from services.mcp.order_execution.wire import Lane
from tests.worlds import ORDER, World, scenario

CALM = {"confirmation": {"poll_interval_seconds": 3_600}}
MINE = {**ORDER, "client_order_id": "mine"}


async def run(world: World, period: str = "daily") -> ReconciliationReport:
    """Reconcile without further wishes."""
    return await reconcile(world.core, period, progress=None, thresholds=None)


@scenario()
async def test_an_unknown_period_is_refused_before_anything_is_asked(world: World) -> None:
    """Nor is the recovery waited for, which may take its time."""
    await world.bot.execute_order(MINE)
    bot = await world.crash()
    world.exchange.down = "503"
    await bot.open()
    began = world.clock.monotonic()
    with pytest.raises(ConfigurationError, match="hourly, daily, weekly"):
        await run(world, "yearly")
    assert world.clock.monotonic() == began


@scenario()
async def test_it_waits_for_the_recovery_and_no_longer_than_a_minute(world: World) -> None:
    """What an earlier life left behind is no discrepancy; an exchange that is down cannot be compared with."""
    world.exchange.script.append("lost reply")
    await world.bot.execute_order(MINE)
    bot = await world.crash()
    world.exchange.down = "503"
    await bot.open()
    began = world.clock.monotonic()
    with pytest.raises(ExchangeUnavailable, match="earlier life"):
        await run(world)
    assert world.clock.monotonic() - began == pytest.approx(RECOVERY_SECONDS)
    asyncio.get_running_loop().call_later(10, setattr, world.exchange, "down", None)
    report = await run(world)
    assert world.core.recovered
    assert (report.total_orders, report.is_clean) == (1, True)


@scenario(CALM)
async def test_what_following_orders_would_tell_next_is_no_discrepancy(world: World) -> None:
    """The exchange filled an order since the last round: that is news, not a mistake."""
    await world.bot.execute_order(MINE)
    await world.core.wait_recovered(world.clock.monotonic() + 10)
    world.exchange.fill("X1", "0.1")
    report = await run(world)
    assert report.is_clean, report.details
    assert (await world.bot.get_order_status("mine")).state is OrderState.FILLED


@scenario(CALM)
async def test_what_following_orders_did_not_see_is_repaired_in_the_record(world: World) -> None:
    """Through the registry, so that it is journalled and whoever listens hears of it."""
    await world.stop_following()
    await world.bot.execute_order(MINE)
    heard: list[OrderState] = []
    world.core.registry.listen(lambda event: heard.append(event.order.state))
    world.exchange.fill("X1", "0.1")
    report = await run(world)
    assert not report.is_clean
    assert heard[-1] is OrderState.FILLED
    await world.journal.flush()
    on_disk = world.on_disk("mine")
    assert on_disk is not None
    assert on_disk.state is OrderState.FILLED


@scenario(CALM)
async def test_its_reads_go_through_the_circuit_of_reads(world: World) -> None:
    """An exchange that is not to be asked is not asked by a reconciliation either."""
    await world.bot.execute_order(MINE)
    await world.core.wait_recovered(world.clock.monotonic() + 10)
    world.core.breakers[Lane.QUERY].force_open("drill")
    world.exchange.reads.clear()
    with pytest.raises(ExchangeUnavailable):
        await run(world)
    assert world.exchange.reads == []


@scenario(CALM)
async def test_progress_and_thresholds_are_passed_on(world: World) -> None:
    """Who asked is told how far it is, and says what is worth an alert; the metrics know of each run."""
    sink = await world.listen()
    await world.stop_following()
    for _ in range(3):
        await world.bot.execute_order(ORDER)
    told: list[tuple[int, int]] = []
    tolerant = AlertThresholds(mismatch_percentage=50.0)
    for number, thresholds in enumerate((tolerant, None), start=1):
        world.exchange.fill(f"X{number}", "0.1")
        report = await reconcile(
            world.core, "hourly", progress=lambda *done: told.append(done), thresholds=thresholds
        )
        assert (report.total_orders, report.mismatched_orders) == (3, 1)
        assert report.alert_triggered is (thresholds is None)
        await asyncio.sleep(1)
        assert ("reconciliation" in {alert.key for alert in sink.alerts}) is (thresholds is None)
        assert told[-1] == (3, 3)
        assert f"order_execution_reconciliations_total {number}.0" in world.bot.metrics.exposition().decode()


@scenario(CALM)
async def test_balances_are_compared_too(world: World) -> None:
    """With the executor's own books; what no order explains is told."""
    await world.bot.execute_order(MINE)
    await world.core.wait_recovered(world.clock.monotonic() + 10)
    assert (await run(world)).is_clean
    world.exchange.free["BTC"] += 1
    report = await run(world)
    (found,) = report.details
    assert (found.kind, list(found.differences)) == ("balance", ["BTC"])


@scenario(CALM)
async def test_an_exchange_that_answers_in_part_is_unavailable(world: World) -> None:
    """Half a comparison is none."""
    await world.bot.execute_order(MINE)
    await world.core.wait_recovered(world.clock.monotonic() + 10)

    async def silent(*given: object) -> Unavailable:
        return Unavailable(ErrorCategory.SERVER_ERROR, "503")

    world.exchange.closed_orders = silent  # type: ignore[method-assign,assignment]
    with pytest.raises(ExchangeUnavailable):
        await run(world)
