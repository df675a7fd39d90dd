"""Journal against exchange: what differs is found, looked at again, repaired and verified."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from services.mcp.order_execution import (
    ConfigurationError,
    ErrorCategory,
    ExchangeUnavailable,
    OrderState,
    OrderType,
    Side,
)
from services.mcp.order_execution.comparison import compare
from services.mcp.order_execution.gateways.base import ListScope, Unavailable
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.models import OrderRequest
from services.mcp.order_execution.reconciliation import AlertThresholds, Reconciler, since_of
from tests.fakes import FOREVER, T0
from tests.unit.test_lifecycle import fill, order_in, seen
from tests.worlds import ORDER, World, scenario


def test_equal_orders_have_no_differences() -> None:
    """Decimals compare by value, and CANCELING is how we call an open order that is to end."""
    order = order_in(OrderState.OPEN, exchange_order_id="X1")
    assert compare(order, replace(seen(OrderState.OPEN), amount=Decimal("1.00"))) == {}
    assert compare(replace(order, state=OrderState.CANCELING, cancel_requested=True), seen(OrderState.OPEN)) == {}


def test_differences_are_told_field_by_field() -> None:
    """(journal's value, exchange's value)."""
    order = order_in(OrderState.OPEN, exchange_order_id="X1")
    assert compare(order, seen(OrderState.FILLED, (fill(1, "1"),))) == {
        "filled": ("0", "1"),
        "fills": ("0", "1"),
        "state": ("open", "filled"),
    }


def test_an_unknown_period_is_refused() -> None:
    """It names the choices."""
    with pytest.raises(ConfigurationError, match="hourly, daily, weekly"):
        since_of("yearly", T0)


@scenario()
async def test_what_agrees_is_clean(w: World) -> None:
    """Placed, filled, canceled, rejected, never sent: everything is accounted for."""
    w.exchange.script.extend(["ok", "fill", "lost reply"])
    ids = [await w.bot.execute_order(ORDER) for _ in range(3)]
    await w.bot.cancel_order(ids[0])
    report = await w.bot.reconcile_orders()
    assert (report.total_orders, report.matched_orders, report.details) == (3, 3, ())
    assert report.is_clean
    assert not report.alert_triggered
    assert (await w.bot.get_execution_stats()).last_reconciliation_at == report.finished_at


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_a_mismatch_is_repaired_and_a_second_run_finds_nothing(w: World) -> None:
    """The exchange filled an order behind our back."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    report = await w.bot.reconcile_orders("hourly")
    assert (report.mismatched_orders, report.repaired, report.alert_triggered) == (1, 1, True)
    assert report.mismatch_percentage == 100.0
    assert report.details[0].differences["state"] == ("open", "filled")
    order = await w.bot.get_order_status(order_id)
    assert order.state is OrderState.FILLED
    assert "repaired" in await w.journalled(order_id)
    assert (await w.bot.reconcile_orders("hourly")).is_clean


@scenario()
async def test_an_extra_order_is_adopted_never_cancelled(w: World) -> None:
    """It is external in our journal, open at the exchange, and matched from then on."""
    await w.bot.open()
    w.exchange.place(OrderRequest("theirs", "BTC/USD", Side.SELL, OrderType.LIMIT, Decimal(1), Decimal(60_000)))
    report = await w.bot.reconcile_orders()
    assert (report.extra_orders, report.details[0].action) == (1, "adopted as external")
    assert (await w.bot.get_order_status("theirs")).external
    assert w.exchange.cancels == []
    assert (await w.bot.reconcile_orders()).is_clean


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_a_missing_order_becomes_unresolved_not_closed(w: World) -> None:
    """The exchange denies what it accepted: no verdict, an alert, and no resend."""
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    report = await w.bot.reconcile_orders()
    assert report.missing_orders == 1
    assert (await w.bot.get_order_status(order_id)).state is OrderState.UNKNOWN
    again = await w.bot.reconcile_orders()
    assert (again.unresolved_orders, again.is_clean) == (1, True)
    assert len(w.exchange.submits) == 1


@scenario()
async def test_orders_in_flight_are_neither_missing_nor_matched(w: World) -> None:
    """An order that is just being sent is no discrepancy."""
    await w.bot.open()
    w.exchange.script.append("hang")
    placing = asyncio.create_task(w.bot.execute_order(ORDER))
    await asyncio.sleep(1)
    report = await w.bot.reconcile_orders()
    assert (report.unresolved_orders, report.missing_orders, report.is_clean) == (1, 0, True)
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)


@scenario()
async def test_orders_placed_while_it_runs_are_no_discrepancy(w: World) -> None:
    """The lists are old by the time they are compared; a second look settles it."""
    await w.bot.open()
    w.exchange.latency = 0.2
    running = asyncio.create_task(w.bot.reconcile_orders())
    for _ in range(10):
        await w.bot.execute_order(ORDER)
    assert (await running).is_clean


@scenario()
async def test_no_report_is_made_of_silence(w: World) -> None:
    """An exchange that does not answer is an error, not a list of missing orders."""
    await w.bot.execute_order(ORDER)
    w.exchange.down = "503"
    with pytest.raises(ExchangeUnavailable):
        await w.bot.reconcile_orders()


@scenario(traits=replace(FOREVER, list_scope=ListScope.SYMBOL))
async def test_lists_by_symbol_are_asked_for_each_symbol(w: World) -> None:
    """Where the exchange lists one symbol at a time."""
    await w.bot.execute_order(ORDER)
    await w.bot.execute_order({**ORDER, "symbol": "ETH/USD", "price": "3000"})
    w.exchange.reads.clear()
    assert (await w.bot.reconcile_orders()).matched_orders == 2
    assert w.exchange.reads.count("closed_orders") == 2


@scenario(traits=replace(FOREVER, lists_closed_orders=False))
async def test_without_a_list_of_closed_orders_each_is_looked_up(w: World) -> None:
    """Slower, and just as sure."""
    w.exchange.script.append("fill")
    await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    assert (await w.bot.reconcile_orders()).is_clean


@scenario()
async def test_fills_that_the_exchange_lists_apart_are_compared(w: World) -> None:
    """Trades are laid to the orders they belong to."""
    w.exchange.carry_fills = False
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    await w.bot.reconcile_orders()
    assert (await w.bot.get_order_status(order_id)).fills_complete
    assert (await w.bot.reconcile_orders()).is_clean


@scenario()
async def test_a_balance_that_differs_is_told_once(w: World) -> None:
    """Expected by the fills, told by the exchange; from then on the told one holds."""
    await w.bot.open()
    await asyncio.sleep(1)
    w.exchange.free["USD"] += 7
    report = await w.bot.reconcile_orders()
    assert [(item.kind, list(item.differences)) for item in report.details] == [("balance", ["USD"])]
    assert (await w.bot.reconcile_orders()).is_clean


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_a_companion_only_reports(w: World) -> None:
    """Nothing is repaired beside the process that owns the journal."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    w.exchange.place(OrderRequest("theirs", "BTC/USD", Side.SELL, OrderType.LIMIT, Decimal(1), Decimal(60_000)))
    await w.journal.flush()
    companion = MemoryJournal(w.clock, store=w.store, read_only=True)
    await companion.open()
    told: list[tuple[int, int]] = []
    report = await Reconciler(companion, w.exchange, w.clock, repairs=None).run(
        "daily", progress=lambda done, total: told.append((done, total))
    )
    assert (report.mismatched_orders, report.extra_orders, report.repaired, report.read_only) == (1, 1, 0, True)
    assert w.on_disk(order_id).state is OrderState.OPEN
    assert told == [(1, 2), (2, 2)]


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_thresholds_decide_about_the_alert(w: World) -> None:
    """One mismatch of one order is 100 %."""
    await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    report = await w.bot.reconcile_orders(thresholds=AlertThresholds(mismatch_percentage=100.0))
    assert (report.mismatched_orders, report.alert_triggered) == (1, False)


@scenario()
async def test_trades_that_are_not_told_are_silence_too(w: World) -> None:
    """Every list must answer."""
    await w.bot.open()

    async def silent(since: object, symbol: object = None) -> Unavailable:
        return Unavailable(ErrorCategory.TIMEOUT, "silence")

    w.exchange.trades = silent  # type: ignore[method-assign,assignment]
    with pytest.raises(ExchangeUnavailable):
        await w.bot.reconcile_orders()
