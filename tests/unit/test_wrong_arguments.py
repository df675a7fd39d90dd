"""What is no id and no reason is refused by name, and nothing is broken by it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from services.mcp.order_execution import BasicOrderExecutor, ExecutorClosed, InvalidOrder, OrderExecutionInterface
from tests.fakes import FOREVER, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER, World, scenario

NO_IDS: list[Any] = [None, 5, [], b"x"]


async def refuse(bot: OrderExecutionInterface) -> None:
    """Each call that takes an id, and the kill switch; then an order."""
    for wrong in NO_IDS:
        for call in (bot.get_order_status, bot.cancel_order, bot.wait_for_order):
            with pytest.raises(InvalidOrder, match="order_id"):
                await call(wrong)
    for wrong in (5, ValueError("boom"), ""):
        with pytest.raises(InvalidOrder, match="reason"):
            await bot.halt(wrong)  # type: ignore[arg-type]
    assert await bot.execute_order({**ORDER, "client_order_id": "mine"}) == "mine"


@scenario()
async def test_the_reliable_executor_refuses_them(w: World) -> None:
    """Before anything is asked of the journal."""
    await refuse(w.bot)
    assert w.journal.health().failure is None


def test_the_basic_executor_refuses_them() -> None:
    """Likewise; and once it is closed it tells of no more events."""

    async def main() -> None:
        clock = VirtualClock()
        exchange = FakeExchange(clock, FOREVER)
        async with BasicOrderExecutor(None, gateway=exchange, clock=clock, rng=random.Random(1)) as bot:
            await refuse(bot)
        with pytest.raises(ExecutorClosed):
            bot.events()

    run_virtual(main)
