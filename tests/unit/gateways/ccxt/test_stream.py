"""Streams: hints as they come, an end when they break, and no connection left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from ccxt import pro

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import ExchangeOrder, Unavailable
from services.mcp.order_execution.gateways.ccxt.parsing import order
from services.mcp.order_execution.gateways.ccxt.stream import LIFETIME_SECONDS, StreamBroken, follow
from services.mcp.order_execution.models import OrderState
from tests.unit.gateways.ccxt.captured import market
from tests.unit.gateways.ccxt.rows.test_binance import TestBinance as Binance
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


async def untold(hint: ExchangeOrder) -> ExchangeOrder | None:
    return None


def following(exchange: Exchange, ready: Any = fine, ended: Any = untold) -> Any:
    return follow(exchange, lambda shown: shown, ready, ended)


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


def updates(name: str, *told: Any) -> list[Any]:
    """What ccxt's class makes of an exchange's own messages."""
    made = getattr(pro, name)({"number": str})
    product = "BTC-USDT" if name == "coinbase" else "BTCUSDT"
    made.set_markets([market(made, id=product)])
    return [made.parse_ws_order(message, made.market("BTC/USDT")) for message in told]


BITGET = {
    "instId": "BTCUSDT",
    "orderId": "42",
    "clientOid": "ours",
    "size": "0.00012",
    "newSize": "0.00012",
    "orderType": "limit",
    "force": "gtc",
    "side": "buy",
    "tradeId": "9",
    "baseVolume": "0.00005",
    "accBaseVolume": "0.00012",
    "priceAvg": "20000",
    "status": "filled",
    "cTime": "1600000000000",
    "uTime": "1600000000000",
    "feeDetail": [],
}
COINBASE = {
    "order_id": "42",
    "client_order_id": "ours",
    "cumulative_quantity": "0.00005",
    "leaves_quantity": "0.00007",
    "avg_price": "20000",
    "total_fees": "0",
    "status": "CANCELLED",
    "product_id": "BTC-USDT",
    "creation_time": "2022-12-07T19:42:18.719312Z",
    "order_side": "BUY",
    "order_type": "Limit",
}


@pytest.mark.parametrize(("name", "message"), [("bitget", BITGET), ("coinbase", COINBASE)])
async def test_an_update_that_tells_of_an_end_is_a_nudge(name: str, message: Any) -> None:
    """Bitget's tells what one trade filled, Coinbase's no amount: the order itself is asked for."""
    asked: list[ExchangeOrder] = []
    truth = order(TOLD, lambda shown: shown)

    async def ended(hint: ExchangeOrder) -> ExchangeOrder | None:
        asked.append(hint)
        return truth if len(asked) == 1 else None

    (told,) = updates(name, message)
    exchange = Exchange([told, told, {**TOLD, "id": "43"}])
    async with aclosing(following(exchange, ended=ended)) as hints:
        assert await anext(hints) is truth
        assert (await anext(hints)).exchange_order_id == "43"
    assert [hint.exchange_order_id for hint in asked] == ["42", "42"]


async def test_the_gateway_asks_for_an_order_that_has_ended() -> None:
    """By the exchange's id; what cannot be had is left to the lists."""
    suite = Binance()
    (hint,) = [order({**TOLD, "id": suite.order_id, "status": "closed", "filled": "0.5"}, lambda shown: shown)]
    made = suite.answering(suite.one(suite.row(state="filled", filled="0.00012")))
    seen = await made._ended(hint)
    assert seen is not None
    assert seen.state is OrderState.FILLED
    assert made.line.sent[0].query["orderId"] == suite.order_id
    assert await suite.answering(suite.missing[1], suite.missing[0])._ended(hint) is None


def test_orders_that_end_at_once_are_asked_for_at_a_modest_rate() -> None:
    """All orders of the account come by, and the executor's limiter does not see these requests."""

    async def main() -> None:
        suite = Binance()
        hint = order({**TOLD, "id": suite.order_id, "status": "closed", "filled": "0.5"}, lambda shown: shown)
        made = suite.answering(suite.one(suite.row(state="filled", filled="0.00012")))
        began = asyncio.get_running_loop().time()
        seen = await asyncio.gather(*(made._ended(hint) for _ in range(10)))
        assert sum(one is not None for one in seen) == len(made.line.sent) == 3
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)

    run_virtual(main)
