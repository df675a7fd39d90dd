"""A reconciliation: its counts add up, it repairs in one pass, and a second one finds nothing to do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import OrderState
from tests.fakes import FOREVER, OPEN_ONLY
from tests.virtual_time import run_virtual
from tests.worlds import ORDER, World

fates = st.sampled_from(["rests", "part", "filled", "canceled", "part, canceled", "vanished", "replaced id"])


@given(
    ours=st.lists(fates, max_size=6),
    theirs=st.lists(fates, max_size=3),
    traits=st.sampled_from([FOREVER, OPEN_ONLY]),
    carry_fills=st.booleans(),
    closing=st.booleans(),
)
def test_it_converges_in_one_pass(
    ours: list[str], theirs: list[str], traits: object, carry_fills: bool, closing: bool
) -> None:
    """Whatever happened to orders that nobody followed, and whoever else trades on the account."""

    async def main() -> None:
        world = World(traits=traits)
        await world.stop_following()
        exchange = world.exchange
        exchange.carry_fills = carry_fills
        ids = [await world.bot.execute_order({**ORDER, "client_order_id": f"o{n}"}) for n in range(len(ours))]
        for number, fate in enumerate(theirs):
            request = replace(exchange.submits[0], client_order_id=f"theirs{number}") if ids else None
            if request is not None:
                _befall(world, exchange.place(request).exchange_order_id, fate)
        for number, fate in enumerate(ours):
            _befall(world, f"X{number + 1}", fate)
        vanished = {f"o{number}" for number, fate in enumerate(ours) if fate == "vanished"}
        await asyncio.sleep(30)
        if closing:
            await world.journal.flush()
        first = await world.bot.reconcile_orders()
        assert first.total_orders == (
            first.matched_orders + first.mismatched_orders + first.missing_orders + first.extra_orders
            + first.unresolved_orders
        )  # fmt: skip
        assert first.missing_orders <= len(vanished)
        second = await world.bot.reconcile_orders()
        kinds = {item.kind for item in second.details}
        assert not second.repaired, second.details
        assert kinds <= {"missing"}, second.details
        for number, order_id in enumerate(ids):
            order = await world.bot.get_order_status(order_id)
            if order_id in vanished:
                assert order.state in (OrderState.UNKNOWN, OrderState.OPEN)
                continue
            seen = exchange.orders[f"X{number + 1}"]
            assert (order.state, order.filled) == (seen.state, seen.filled)
            assert {fill.trade_id for fill in order.fills} == {fill.trade_id for fill in seen.fills or ()}
        await world.bot.close()

    run_virtual(main)


def _befall(world: World, exchange_order_id: str, fate: str) -> None:
    """Let something happen to an order behind our back."""
    exchange = world.exchange
    if "part" in fate:
        exchange.fill(exchange_order_id, "0.04")
    if fate == "filled":
        amount = exchange.orders[exchange_order_id].amount
        exchange.fill(exchange_order_id, str(amount - Decimal("0.01")))
        exchange.fill(exchange_order_id, "0.01")
    if "canceled" in fate:
        exchange.close_order(exchange_order_id)
    if fate == "vanished":
        exchange.hidden.add(exchange_order_id)
