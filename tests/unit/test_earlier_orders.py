"""Orders of earlier processes are found by our id: by a lookup, or in lists that are read as often as needed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.mcp.order_execution import ExchangeUnavailable, OrderState
from services.mcp.order_execution.earlier_orders import HORIZON, EarlierOrders, asks_for
from services.mcp.order_execution.gateways.base import IdScope
from services.mcp.order_execution.models import OrderRequest
from services.mcp.order_execution.parameters import parse_request
from tests.fakes import BLIND, FOREVER, OPEN_ONLY, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER

REUSABLE = replace(FOREVER, client_id_scope=IdScope.NONE)


def request(order_id: str, symbol: str = "BTC/USD") -> OrderRequest:
    """What a caller wants, under this id."""
    return parse_request({**ORDER, "symbol": symbol, "client_order_id": order_id}, "")


def world(traits: Any) -> tuple[FakeExchange, EarlierOrders]:
    """An exchange, and a process that has just begun."""
    clock = VirtualClock()
    return FakeExchange(clock, traits), EarlierOrders(clock)


@pytest.mark.parametrize(
    ("traits", "asks"),
    [
        (FOREVER, False),
        (BLIND, False),
        (OPEN_ONLY, True),
        (REUSABLE, True),
        (replace(OPEN_ONLY, accepts_client_ids=False), False),
    ],
)
def test_ids_are_asked_for_where_a_copy_would_be_taken_and_ids_are_kept(traits: Any, asks: bool) -> None:
    """Elsewhere asking is needless, or useless."""
    assert asks_for(traits) is asks


def test_each_id_is_looked_up_where_any_can_be() -> None:
    """One read for each, however old the order."""

    async def main() -> None:
        exchange, earlier = world(REUSABLE)
        exchange.place(request("a"))
        found = await earlier.find(exchange, request("a"))
        assert found is not None
        assert found.exchange_order_id == "X1"
        assert await earlier.find(exchange, request("b")) is None
        assert exchange.reads == ["query", "query"]

    run_virtual(main)


def test_lists_are_read_until_nothing_of_an_earlier_process_can_arrive() -> None:
    """A request that was on its way when that process died is found as soon as it shows."""

    async def main() -> None:
        exchange, earlier = world(OPEN_ONLY)
        assert await earlier.find(exchange, request("late")) is None
        await asyncio.sleep(2.0)
        exchange.place(request("late"))
        assert await earlier.find(exchange, request("late")) is not None
        await asyncio.sleep(1.0)
        for name in ("late", "b", "c"):
            assert (await earlier.find(exchange, request(name)) is None) is (name != "late")
        assert exchange.reads == ["open_orders", "closed_orders"] * 3
        await earlier.find(exchange, request("late", "ETH/USD"))
        assert exchange.reads == ["open_orders", "closed_orders"] * 4

    run_virtual(main)


def test_calls_at_the_same_time_share_one_reading() -> None:
    """And one that leaves meanwhile leaves it to the others."""

    async def main() -> None:
        exchange, earlier = world(OPEN_ONLY)
        await asyncio.sleep(5.0)
        exchange.latency = 1.0
        calls = [asyncio.create_task(earlier.find(exchange, request(name))) for name in "abc"]
        await asyncio.sleep(0.5)
        calls[0].cancel()
        assert await asyncio.gather(*calls[1:]) == [None, None]
        assert exchange.reads == ["open_orders", "open_orders", "closed_orders"]

    run_virtual(main)


def test_an_order_that_closes_between_two_lists_is_told_as_closed() -> None:
    """It stands in both of them."""

    async def main() -> None:
        exchange, earlier = world(OPEN_ONLY)
        exchange.place(request("a"))
        exchange.latency = 1.0
        find = asyncio.create_task(earlier.find(exchange, request("a")))
        await asyncio.sleep(1.5)
        exchange.close_order("X1")
        found = await find
        assert found is not None
        assert found.state is OrderState.CANCELED

    run_virtual(main)


def test_orders_of_others_are_nobody_of_ours() -> None:
    """Placed by hand, say, without an id of ours."""

    async def main() -> None:
        exchange, earlier = world(OPEN_ONLY)
        order = exchange.place(request("a"))
        exchange.orders["X1"] = replace(order, client_order_id=None)
        assert await earlier.find(exchange, request("a")) is None

    run_virtual(main)


def test_silence_is_no_answer() -> None:
    """And it is not remembered as one."""

    async def main() -> None:
        exchange, earlier = world(OPEN_ONLY)
        await asyncio.sleep(5.0)
        exchange.place(request("a"))
        exchange.down = "503"
        with pytest.raises(ExchangeUnavailable):
            await earlier.find(exchange, request("a"))
        exchange.down = None
        assert await earlier.find(exchange, request("a")) is not None

    run_virtual(main)


def test_closed_orders_are_asked_for_as_far_back_as_it_is_said() -> None:
    """A day, which is what the basic executor promises."""

    async def main() -> None:
        exchange, earlier = world(OPEN_ONLY)
        exchange.place(request("a"))
        exchange.close_order("X1")
        exchange.orders["X1"] = replace(exchange.orders["X1"], updated_at=exchange.clock.now() - HORIZON / 2)
        assert await earlier.find(exchange, request("a")) is not None
        too_old = exchange.clock.now() - HORIZON - timedelta(seconds=1)
        exchange.orders["X1"] = replace(exchange.orders["X1"], updated_at=too_old)
        assert await earlier.find(exchange, request("a")) is None

    run_virtual(main)
