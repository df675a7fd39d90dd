"""One call at a time decides for an id: the turn is kept as long as anybody holds it or waits for it."""

from __future__ import annotations

import asyncio
import random

import pytest

from services.mcp.order_execution import BasicOrderExecutor, ErrorCategory
from services.mcp.order_execution.gateways.base import NotSent
from tests.fakes import BLIND, FOREVER, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER

MINE = {**ORDER, "client_order_id": "mine"}


@pytest.mark.parametrize("traits", [BLIND, FOREVER])
@pytest.mark.parametrize("gap", [0.0, 0.5])
@pytest.mark.parametrize("latency", [1.0])
def test_one_call_at_a_time_decides_for_an_id(traits, gap: float, latency: float) -> None:
    """A never left, B waited for A, C comes right after A's end: B and C must not both send."""

    async def main() -> None:
        clock = VirtualClock()
        exchange = FakeExchange(clock, traits)
        exchange.latency = latency
        async with BasicOrderExecutor(None, gateway=exchange, clock=clock, rng=random.Random(1)) as bot:
            exchange.script.append(NotSent(ErrorCategory.AUTHENTICATION, "key"))
            a = asyncio.create_task(bot.execute_order(MINE))
            await asyncio.sleep(0.1)
            b = asyncio.create_task(bot.execute_order(MINE))
            await asyncio.wait([a])
            await asyncio.sleep(gap)
            c = asyncio.create_task(bot.execute_order(MINE))
            results = await asyncio.gather(a, b, c, return_exceptions=True)
            assert exchange.placed == ["mine"]
            assert len(exchange.submits) == 2
            assert results[1:] == ["mine", "mine"]

    run_virtual(main)
