"""What a reconciliation may do to our record: through the registry, journalled, and never at the exchange."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.mcp.order_execution import OrderNotFound, OrderState, OrderUnresolved
from services.mcp.order_execution.repairs import RegistryRepairs
from tests.worlds import ORDER, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}


async def repairs_of(w: World) -> RegistryRepairs:
    """The repairs of a bot that follows nothing by itself."""
    await w.stop_following()
    core = w.bot._core
    assert core is not None
    return RegistryRepairs(core.registry, core.resolver, w.journal, w.clock)


@scenario()
async def test_the_exchanges_truth_is_taken_over_with_its_reason(w: World) -> None:
    """Fills, state and all; each step is an event on disk."""
    repairs = await repairs_of(w)
    await w.bot.execute_order(MINE)
    w.exchange.fill("X1", "0.1")
    after = await repairs.repair("mine", w.exchange.orders["X1"], "differs in filled")
    assert (after.state, len(after.fills)) == (OrderState.FILLED, 1)
    assert "repaired" in await w.journalled("mine")
    assert len(w.exchange.submits) == 1
    assert w.exchange.cancels == []


@scenario()
async def test_a_missing_order_becomes_unknown_and_is_looked_for(w: World) -> None:
    """Never closed by silence; a final one stays as it was closed."""
    repairs = await repairs_of(w)
    await w.bot.execute_order(MINE)
    w.exchange.hidden.add("X1")
    lost = await repairs.mark_missing("mine", "not in the lists")
    assert lost.state is OrderState.UNKNOWN
    await w.bot.execute_order({**MINE, "client_order_id": "other"})
    w.exchange.close_order("X2")
    ended = await repairs.repair("other", w.exchange.orders["X2"], "closed")
    assert await repairs.mark_missing("other", "not in the lists") == ended


@scenario()
async def test_somebody_elses_order_is_adopted_under_a_free_id(w: World) -> None:
    """Under its own client id where that is free, else under the exchange's."""
    repairs = await repairs_of(w)
    await w.bot.execute_order(MINE)
    theirs = replace(w.exchange.orders["X1"], exchange_order_id="X9", client_order_id="theirs")
    assert (await repairs.adopt(theirs)).order_id == "theirs"
    nameless = replace(theirs, exchange_order_id="X10", client_order_id=None)
    assert (await repairs.adopt(nameless)).order_id == "external-X10"
    ours = replace(theirs, exchange_order_id="X11", client_order_id="mine")
    adopted = await repairs.adopt(ours)
    assert (adopted.order_id, adopted.external) == ("external-X11", True)


@scenario()
async def test_an_order_that_nobody_knows_cannot_be_repaired(w: World) -> None:
    """It is an error, not an invention."""
    repairs = await repairs_of(w)
    await w.bot.execute_order(MINE)
    with pytest.raises(OrderNotFound):
        await repairs.repair("nobody", w.exchange.orders["X1"], "why")


@scenario({"circuit_breaker": {"enabled": False}})
async def test_an_unresolved_order_is_looked_for_at_once(w: World) -> None:
    """A reconciliation need not wait for the resolver's next turn, and nothing is sent for it."""
    w.exchange.script.append("placed, hang")
    repairs = await repairs_of(w)
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(1)
    w.exchange.down = "503"
    await asyncio.sleep(200)
    with pytest.raises(OrderUnresolved):
        await call
    order = repairs.current("mine")
    assert order is not None
    assert order.state is OrderState.UNKNOWN
    looks = w.exchange.reads.count("query")
    w.exchange.down = None
    await asyncio.sleep(1)
    assert w.exchange.reads.count("query") == looks
    asked = w.clock.monotonic()
    await repairs.resolve("mine")
    while (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.01)
    assert w.clock.monotonic() - asked < 0.2
    assert len(w.exchange.submits) == 1
