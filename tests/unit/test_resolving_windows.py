"""For what time lists are asked when an order is looked for: it lies in that, whatever was done to our clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.mcp.order_execution.gateways.base import GatewayTraits, OrderList
from services.mcp.order_execution.resolving import FAR_AHEAD, LOOKBACK
from tests.fakes import OPEN_ONLY
from tests.virtual_time import VirtualClock
from tests.worlds import ORDER, World, outcome, scenario

MINE = {**ORDER, "client_order_id": "mine", "deadline_seconds": 120}
LISTS = replace(OPEN_ONLY, lists_trades=False)
TRADES = replace(OPEN_ONLY, lists_closed_orders=False)

Window = tuple[datetime, datetime | None]


class Windows:
    """What the exchange, which has a clock of its own, is asked for by time."""

    def __init__(self, world: World) -> None:
        world.exchange.clock = VirtualClock()
        self.asked: list[Window] = []
        self._closed, self._trades = world.exchange.closed_orders, world.exchange.trades
        world.exchange.closed_orders = self.closed_orders  # type: ignore[method-assign]
        world.exchange.trades = self.trades  # type: ignore[method-assign]

    async def closed_orders(self, since: datetime, until: datetime, symbol: str | None = None) -> Any:
        """Orders are listed by when they were last touched: as strict as a list by time can be."""
        self.asked.append((since, until))
        listed = await self._closed(since, until, symbol)
        assert isinstance(listed, OrderList)
        return replace(listed, orders=tuple(order for order in listed.orders if order.updated_at < until))

    async def trades(self, since: datetime, symbol: str | None = None) -> Any:
        """Trades since then."""
        self.asked.append((since, None))
        return await self._trades(since, symbol)


def send_in_vain(world: World, jump: float = 0.0) -> None:
    """Let the next order fill at once, its answer never come, and our clock be set meanwhile."""
    world.exchange.script.append("placed, hang")

    def fill_and_jump() -> None:
        world.exchange.fill("X1", "0.1")
        world.clock.jump(jump)

    def soon(_: object) -> None:
        asyncio.get_running_loop().call_soon(fill_and_jump)

    world.exchange.before_send = soon


@pytest.mark.parametrize("traits", [LISTS, TRADES], ids=["by orders", "by trades"])
@pytest.mark.parametrize(
    ("at_first", "before", "meanwhile"),
    [
        (0, 0, 0),
        (0, 1_200, 0),
        (0, -1_200, 0),
        (0, 0, 7_200),
        (0, 0, -7_200),
        (0, 3_600, -7_200),
        (0, -3_600, 86_000),
        (3_600, 0, -3_600),
        (3_600, -3_600, 0),
    ],
)
def test_an_order_lies_within_what_is_asked_for(
    traits: GatewayTraits, at_first: int, before: int, meanwhile: int
) -> None:
    """Our clock was wrong at first, and was set before it was sent or while it was; the exchange's is not told."""

    @scenario(traits=traits)
    async def story(world: World) -> None:
        world.clock.jump(at_first)
        await world.bot.open()
        await asyncio.sleep(5)
        windows = Windows(world)
        world.clock.jump(before)
        send_in_vain(world, meanwhile)
        assert await world.bot.execute_order(MINE) == "mine"
        assert world.exchange.placed == ["mine"]
        at = world.exchange.orders["X1"].updated_at
        assert windows.asked
        for since, until in windows.asked:
            assert since <= at
            assert until is None or at < until

    story()


@scenario(traits=LISTS)
async def test_where_no_clock_was_set_no_more_is_asked_for_than_is_needed(world: World) -> None:
    """Walks along long lists are bounded: an order of a minute ago is not looked for among those of yesterday."""
    await world.bot.open()
    await asyncio.sleep(7_200)
    windows = Windows(world)
    send_in_vain(world)
    assert await world.bot.execute_order(MINE) == "mine"
    sent = world.exchange.orders["X1"].created_at
    for since, _ in windows.asked:
        assert timedelta(0) <= sent - since <= LOOKBACK + timedelta(seconds=1)


@scenario(traits=LISTS)
async def test_the_exchanges_own_time_counts_where_it_is_told(world: World) -> None:
    """Our clock is forty seconds ahead of it, which is borne with; the window begins and ends by theirs too."""
    await world.bot.open()
    await asyncio.sleep(5)
    windows = Windows(world)
    world.exchange.clock.jump(-40)  # type: ignore[attr-defined]
    world.exchange.clock_error = 40.0
    send_in_vain(world)
    assert await world.bot.execute_order(MINE) == "mine"
    sent = world.exchange.orders["X1"].created_at
    for since, until in windows.asked:
        assert sent - since >= LOOKBACK
        assert until is not None
        assert until - sent >= FAR_AHEAD


@scenario(traits=replace(LISTS, settle=600.0))
async def test_every_copy_of_an_order_lies_within_what_is_asked_for(world: World) -> None:
    """The first one may have arrived after all, long before the second one left, and before our clock says."""
    await world.bot.open()
    await asyncio.sleep(5)
    windows = Windows(world)
    world.clock.jump(1_200)
    world.exchange.script.extend(["lost request"] * 2)
    call = asyncio.ensure_future(outcome(world.bot.execute_order({**MINE, "deadline_seconds": 3_000})))
    await world.until_sent()
    first = world.exchange.clock.now()
    await asyncio.sleep(1_300)
    assert len(world.exchange.submits) == 2
    windows.asked.clear()
    await asyncio.sleep(600)
    assert windows.asked
    assert all(first - since >= LOOKBACK - timedelta(seconds=1) for since, _ in windows.asked)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize("jump", [0, 86_400, -1_200])
def test_an_order_of_an_earlier_life_lies_within_what_is_asked_for(jump: int) -> None:
    """Our clock was set between the two."""

    @scenario(traits=LISTS)
    async def story(world: World) -> None:
        await world.bot.open()
        await asyncio.sleep(5)
        Windows(world)
        send_in_vain(world)
        world.background(outcome(world.bot.execute_order(MINE)))
        await world.until_sent()
        await asyncio.sleep(1)
        bot = await world.crash()
        world.clock.jump(jump)
        assert await bot.execute_order(MINE) == "mine"
        assert world.exchange.placed == ["mine"]

    story()


@scenario(traits=LISTS)
async def test_an_order_that_an_earlier_life_dated_ahead_is_found(world: World) -> None:
    """Its clock was an hour ahead; it has been set right since."""
    await world.bot.open()
    await asyncio.sleep(5)
    Windows(world)
    world.clock.jump(3_600)
    send_in_vain(world)
    world.background(outcome(world.bot.execute_order(MINE)))
    await world.until_sent()
    await asyncio.sleep(1)
    bot = await world.crash()
    world.clock.jump(-3_600)
    assert await bot.execute_order(MINE) == "mine"
    assert world.exchange.placed == ["mine"]
