"""Following open orders: by lists whose number does not grow, and with no verdict where there is silence."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest

from services.mcp.order_execution import ErrorCategory, OrderState
from services.mcp.order_execution.gateways.base import ListScope, Unavailable
from services.mcp.order_execution.models import Step
from services.mcp.order_execution.tracking import FILLS_LOOKS, MAX_SINGLE_LOOKUPS, Tracker
from tests.fakes import FOREVER, OPEN_ONLY
from tests.worlds import ORDER, World, scenario

CALM = {"confirmation": {"poll_interval_seconds": 1_000}}


def tracker_of(w: World) -> Tracker:
    """The background tracker."""
    assert w.bot._core is not None
    return w.bot._core.tracker


async def place(w: World, count: int, **changes: object) -> list[str]:
    """Place orders that rest."""
    return [await w.bot.execute_order({**ORDER, "amount": "0.001", **changes}) for _ in range(count)]


@pytest.mark.parametrize("orders", [1, 60])
def test_the_requests_of_a_round_do_not_grow_with_the_orders(orders: int) -> None:
    """One list for the account, however many rest; another one for those that have gone from it."""

    @scenario(CALM)
    async def story(w: World) -> None:
        await place(w, orders)
        w.exchange.reads.clear()
        assert await tracker_of(w).round()
        assert Counter(w.exchange.reads) == {"open_orders": 1}
        for number in range(orders):
            w.exchange.close_order(f"X{number + 1}")
        w.exchange.reads.clear()
        assert await tracker_of(w).round()
        assert Counter(w.exchange.reads) == {"open_orders": 1, "closed_orders": 1}
        assert w.bot._core is not None
        assert w.bot._core.registry.live_count == 0

    story()


@scenario(CALM, replace(FOREVER, list_scope=ListScope.SYMBOL))
async def test_where_lists_are_by_symbol_there_is_one_for_each(w: World) -> None:
    """Twenty orders on two symbols are two requests."""
    await place(w, 10)
    w.exchange.free["ETH"] = Decimal(100)
    await place(w, 10, symbol="ETH/USD")
    w.exchange.reads.clear()
    assert await tracker_of(w).round()
    assert Counter(w.exchange.reads) == {"open_orders": 2}


@scenario(CALM, replace(OPEN_ONLY, lists_closed_orders=False))
async def test_orders_that_no_list_tells_of_are_asked_for_a_few_at_a_time(w: World) -> None:
    """A bounded number in each round, going on where the last one ended, until all are known."""
    ids = await place(w, 25)
    for number in range(25):
        w.exchange.close_order(f"X{number + 1}")
    for expected in (10, 20, 25):
        w.exchange.reads.clear()
        await tracker_of(w).round()
        assert w.exchange.reads.count("query") <= MAX_SINGLE_LOOKUPS
        states = [(await w.bot.get_order_status(order_id)).state for order_id in ids]
        assert states.count(OrderState.CANCELED) == expected


@scenario(CALM)
async def test_silence_changes_nothing(w: World) -> None:
    """A round that is not answered is no success, and the order stays as it was."""
    (order_id,) = await place(w, 1)
    before = await w.bot.get_order_status(order_id)
    w.exchange.down = "503"
    for _ in range(5):
        assert not await tracker_of(w).round()
    assert await w.bot.get_order_status(order_id) == before
    assert tracker_of(w).last_success is None


@scenario(CALM)
async def test_a_denied_order_becomes_unknown_only_after_denials_that_lie_apart(w: World) -> None:
    """Three in a row within its settle time may be an index that has not caught up."""
    (order_id,) = await place(w, 1)
    w.exchange.hidden.add("X1")
    for _ in range(6):
        await tracker_of(w).round()
    assert (await w.bot.get_order_status(order_id)).state is OrderState.OPEN
    for _ in range(3):
        await asyncio.sleep(w.exchange.traits.settle)
        await tracker_of(w).round()
    assert (await w.bot.get_order_status(order_id)).state is OrderState.UNKNOWN
    w.exchange.hidden.clear()
    await asyncio.sleep(120)
    assert (await w.bot.get_order_status(order_id)).state is OrderState.OPEN


@scenario({"confirmation": {"poll_interval_seconds": 5}})
async def test_a_round_that_fails_by_a_defect_is_not_the_last_one(w: World) -> None:
    """It is told, and the next one follows the orders all the same."""
    (order_id,) = await place(w, 1)
    tracker = tracker_of(w)
    follow = tracker._follow
    defects = [RuntimeError("a defect")]

    async def broken(followed: object) -> bool:
        if defects:
            raise defects.pop()
        return await follow(followed)  # type: ignore[arg-type]

    tracker._follow = broken  # type: ignore[method-assign]
    w.exchange.fill("X1", "0.001")
    await asyncio.sleep(15)
    assert defects == []
    assert (await w.bot.get_order_status(order_id)).state is OrderState.FILLED


@scenario({"confirmation": {"poll_interval_seconds": 5}})
async def test_with_nothing_to_follow_nothing_is_asked(w: World) -> None:
    """An idle bot makes no requests."""
    w.exchange.script.append("fill")
    await place(w, 1)
    await asyncio.sleep(30)
    w.exchange.reads.clear()
    await asyncio.sleep(300)
    assert w.exchange.reads == []


@scenario(CALM)
async def test_trades_that_are_not_listed_leave_the_round_incomplete(w: World) -> None:
    """The fills are asked for again, and booked once they are told."""
    w.exchange.carry_fills = False
    (order_id,) = await place(w, 1)
    w.exchange.fill("X1", "0.0005")
    trades = w.exchange.trades

    async def silent(*given: object) -> object:
        return Unavailable(ErrorCategory.SERVER_ERROR, "503")

    w.exchange.trades = silent  # type: ignore[method-assign,assignment]
    assert not await tracker_of(w).round()
    order = await w.bot.get_order_status(order_id)
    assert (order.filled, order.fills) == (Decimal("0.0005"), ())
    w.exchange.trades = trades  # type: ignore[method-assign]
    assert await tracker_of(w).round()
    assert len((await w.bot.get_order_status(order_id)).fills) == 1


@scenario(CALM, replace(FOREVER, lists_trades=False))
async def test_fills_that_are_told_nowhere_are_asked_for_a_bounded_number_of_times(w: World) -> None:
    """The step is then recorded as not confirmed; how much was filled stays as the exchange told it."""
    w.exchange.carry_fills = False
    (order_id,) = await place(w, 1)
    w.exchange.fill("X1", "0.001")
    for _ in range(FILLS_LOOKS + 2):
        await tracker_of(w).round()
    order = await w.bot.get_order_status(order_id)
    step = next(item for item in order.confirmations if item.step is Step.FILLS)
    assert (order.state, order.filled, step.ok) == (OrderState.FILLED, Decimal("0.001"), False)
    w.exchange.reads.clear()
    assert await tracker_of(w).round()
    assert w.exchange.reads == []


@scenario(CALM)
async def test_a_round_that_is_not_about_fills_is_complete_without_trades(w: World) -> None:
    """They are asked for all the same; that they are not told spoils the round only where they count."""
    w.exchange.carry_fills = False
    (order_id,) = await place(w, 1)
    w.exchange.fill("X1", "0.0005")

    async def too_many(*given: object) -> Unavailable:
        w.exchange.reads.append("trades")
        return Unavailable(ErrorCategory.BAD_RESPONSE, "more than 2000 trades", local=True)

    w.exchange.trades = too_many  # type: ignore[method-assign,assignment]
    tracker = tracker_of(w)
    assert tracker.last_success is None
    assert await tracker.round(with_fills=False)
    assert tracker.last_success is not None
    assert "trades" in w.exchange.reads
    assert not await tracker.round(with_fills=True)
    order = await w.bot.get_order_status(order_id)
    assert (order.state, order.filled) == (OrderState.PARTIALLY_FILLED, Decimal("0.0005"))
    w.exchange.down = "503"
    assert not await tracker.round(with_fills=False)
