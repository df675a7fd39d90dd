"""An order is settled once its fills are known: until then it is followed, also after a restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

from services.mcp.order_execution import OrderState
from services.mcp.order_execution.models import Step
from tests.fakes import FOREVER
from tests.worlds import ORDER, World, scenario

SILENT = replace(FOREVER, lists_trades=False)


@scenario()
async def test_fills_that_the_receipt_leaves_out_are_listed(world: World) -> None:
    """An exchange that answers "filled" without the trades is asked for them."""
    world.exchange.carry_fills = False
    world.exchange.script.append("fill")
    order_id = await world.bot.execute_order(ORDER)
    assert (await world.bot.get_order_status(order_id)).fills == ()
    await asyncio.sleep(10)
    order = await world.bot.get_order_status(order_id)
    assert [fill.amount for fill in order.fills] == [Decimal("0.1")]
    assert order.is_settled
    assert order.confirmed(Step.BALANCE)


@scenario()
async def test_fills_are_still_asked_for_after_a_crash(world: World) -> None:
    """Final, but not settled: the next life goes on where this one ended."""
    world.exchange.carry_fills = False
    world.exchange.script.append("fill")
    order_id = await world.bot.execute_order(ORDER)
    await world.journal.flush()
    bot = await world.crash()
    await bot.open()
    await asyncio.sleep(10)
    assert [fill.amount for fill in (await bot.get_order_status(order_id)).fills] == [Decimal("0.1")]
    assert (await bot.reconcile_orders()).is_clean


@scenario(traits=SILENT)
async def test_without_a_list_of_trades_each_order_is_looked_up(world: World) -> None:
    """Some exchanges tell trades only with the order."""
    world.exchange.carry_fills = False
    world.exchange.script.append("fill")
    order_id = await world.bot.execute_order(ORDER)
    world.exchange.carry_fills = True
    await asyncio.sleep(10)
    assert len((await world.bot.get_order_status(order_id)).fills) == 1


@scenario(traits=SILENT)
async def test_an_exchange_that_never_tells_is_not_asked_for_ever(world: World) -> None:
    """What was filled stays as it was told, and the step says that the trades are not known."""
    world.exchange.carry_fills = False
    world.exchange.script.append("fill")
    order_id = await world.bot.execute_order(ORDER)
    await asyncio.sleep(300)
    order = await world.bot.get_order_status(order_id)
    assert (order.state, order.filled, order.is_settled) == (OrderState.FILLED, Decimal("0.1"), True)
    step = next(item for item in order.confirmations if item.step is Step.FILLS)
    assert (step.ok, step.detail) == (False, "the exchange does not tell by which trades it was filled")
    asked = world.exchange.reads.count("query")
    await asyncio.sleep(300)
    assert world.exchange.reads.count("query") == asked


@scenario()
async def test_settled_orders_push_no_unsettled_one_out(world: World) -> None:
    """Only settled orders make room for others."""
    await world.stop_following()
    assert world.bot._core is not None
    registry = world.bot._core.registry
    registry._max_finished = 2
    world.exchange.carry_fills = False
    world.exchange.script.append("fill")
    first = await world.bot.execute_order(ORDER)
    world.exchange.carry_fills = True
    for _ in range(5):
        world.exchange.script.append("fill")
        await world.bot.execute_order({**ORDER, "amount": "0.01"})
    held = registry.get(first)
    assert held is not None
    assert not held.is_settled
    assert len(registry._finished) == 2
