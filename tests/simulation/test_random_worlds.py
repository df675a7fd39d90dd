"""Random bad days: whatever is lost, late, refused, cancelled or killed, no intent is ever doubled or lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from services.mcp.order_execution import OrderExecutionError, OrderState
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import NotSent, Rejected, Unknown
from tests.fakes import BLIND, FOREVER, OPEN_ONLY
from tests.virtual_time import VirtualLoop, run_virtual
from tests.worlds import ORDER, REFUSED, World

WORLDS = 300
ORDERS = 6
FATES: tuple[object, ...] = (
    "ok",
    "fill",
    "lost reply",
    "lost request",
    "placed, hang",
    "hang",
    0.3,
    1.7,
    REFUSED,
    Rejected("insufficient_funds"),
    NotSent(ErrorCategory.RATE_LIMITED, "429", retry_after=1.0),
    Unknown(ErrorCategory.SERVER_ERROR, "502"),
    RuntimeError("defect"),
)
TRAITS = (FOREVER, OPEN_ONLY, BLIND, replace(OPEN_ONLY, request_expiry=None, settle=2.5))


@pytest.mark.parametrize("block", range(10))
def test_no_intent_is_ever_doubled_or_lost(block: int) -> None:
    """The oracle is the exchange's own book. A failure names its seed."""
    for seed in range(block * WORLDS // 10, (block + 1) * WORLDS // 10):
        try:
            run_virtual(live, seed=seed, shuffle=True)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def live() -> None:
    """One world: a bad day with crashes, then a good one, then the reckoning."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    rng = loop.rng
    traits = TRAITS[rng.randrange(len(TRAITS))]
    world = World({"retry": {"max_retries": rng.randrange(4), "initial_delay": 0.2}}, traits)
    exchange = world.exchange
    exchange.latency = rng.choice([0.0, 0.01, 0.2])
    exchange.script.extend(rng.choice(FATES) for _ in range(rng.randrange(20)))
    told: dict[str, str] = {}
    for _ in range(rng.randrange(1, 4)):
        for number in range(ORDERS):
            world.background(execute(world, f"o{number}", told))
        await asyncio.sleep(rng.uniform(0, 0.5))
        for task in world.tasks():
            if rng.random() < 0.1:
                task.cancel()
        if rng.random() < 0.3:
            exchange.down = "503"
        if rng.random() < 0.3:
            world.background(cancel(world, f"o{rng.randrange(ORDERS)}"))
        await asyncio.sleep(rng.expovariate(0.3))
        await world.crash()
    exchange.down = None
    exchange.script.clear()
    exchange.cancel_script.clear()
    for number in range(ORDERS):
        world.background(execute(world, f"o{number}", told))
    await asyncio.sleep(400)
    await reckon(world)
    await world.bot.close()
    await exchange.close()


async def execute(world: World, order_id: str, told: dict[str, str]) -> None:
    """Place an order, as a bot would, and remember what was said."""
    try:
        await world.bot.execute_order({**ORDER, "amount": "0.01", "client_order_id": order_id})
        told[order_id] = "placed"
    except OrderExecutionError as error:
        told[order_id] = type(error).__name__


async def cancel(world: World, order_id: str) -> None:
    """Cancel an order that may not be known."""
    try:
        await world.bot.cancel_order(order_id)
    except OrderExecutionError:
        return


async def reckon(world: World) -> None:
    """Compare our record with the exchange's book."""
    blind = not world.exchange.traits.can_resolve
    for number in range(ORDERS):
        order = await world.bot.get_order_status(f"o{number}")
        assert world.exchange.placed.count(order.order_id) <= 1, f"{order.order_id} was doubled"
        if blind:
            continue
        there = world.exchange.named(order.order_id)
        assert not order.state.is_unresolved, f"{order} is unresolved"
        if there:
            seen = there[0]
            assert order.exchange_order_id == seen.exchange_order_id, f"{order} is not {seen}"
            assert order.filled == seen.filled
            assert order.state.is_final == seen.state.is_final or order.state is OrderState.CANCELING
        else:
            assert order.state in (OrderState.REJECTED, OrderState.EXPIRED, OrderState.CANCELED), order
            assert order.filled == Decimal(0)
    if not blind:
        first = await world.bot.reconcile_orders()
        assert first.is_clean, first.details
    core = world.bot._core
    assert core is not None
    await core.funds.refresh(max_age=0)
    unresolved = {order.order_id for order in core.registry.unresolved()}
    assert set(core.funds.reservations) <= unresolved
