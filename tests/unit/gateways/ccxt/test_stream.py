"""Streams: hints as they come, an end when they break, and no connection left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Unavailable
from services.mcp.order_execution.gateways.ccxt.stream import LIFETIME_SECONDS, StreamBroken, follow
from tests.unit.gateways.ccxt.test_parsing import TOLD
from tests.virtual_time import run_virtual


class Exchange:
    """Plays ccxt's watch_orders from a script: updates, errors, or silence when it is over."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.closed = 0
        self.hangs = False

    async def watch_orders(self) -> Any:
        if not self.script:
            await asyncio.Event().wait()
        told = self.script.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    async def close_ws_clients(self) -> None:
        self.closed += 1
        if self.hangs:
            await asyncio.Event().wait()


async def fine() -> Unavailable | None:
    return None


def following(exchange: Exchange, ready: Any = fine) -> Any:
    return follow(exchange, lambda shown: shown, ready)


async def test_updates_come_as_they_happen() -> None:
    """What is not understood is left to the lists."""
    exchange = Exchange([TOLD, {"odd": 1}, "text"], None, [{**TOLD, "id": "43"}], ConnectionError("wss://key@host"))
    hints = following(exchange)
    assert [(await anext(hints)).exchange_order_id for _ in range(2)] == ["42", "43"]
    with pytest.raises(StreamBroken, match="ConnectionError") as broken:
        await anext(hints)
    assert exchange.closed == 1
    assert "key" not in str(broken.value)


async def test_markets_come_first() -> None:
    """Without them no update can be read."""

    async def not_ready() -> Unavailable | None:
        return Unavailable(ErrorCategory.TIMEOUT, "no markets")

    exchange = Exchange([TOLD])
    with pytest.raises(StreamBroken, match="no markets"):
        await anext(following(exchange, not_ready))


def test_a_stream_ends_after_an_hour_of_silence() -> None:
    """Then it is made anew, and the lists are read."""

    async def main() -> None:
        exchange = Exchange([TOLD])
        exchange.hangs = True
        began = asyncio.get_running_loop().time()
        assert [order.exchange_order_id async for order in following(exchange)] == ["42"]
        lasted = asyncio.get_running_loop().time() - began
        assert LIFETIME_SECONDS <= lasted <= LIFETIME_SECONDS + 10
        assert exchange.closed == 1

    run_virtual(main)


async def test_whoever_leaves_closes_the_connection() -> None:
    """However early."""
    exchange = Exchange([TOLD], [TOLD])
    async with aclosing(following(exchange)) as hints:
        await anext(hints)
    assert exchange.closed == 1
