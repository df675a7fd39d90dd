"""Ten thousand spoiled answers: each gives a classified outcome, and no verdict that was not said."""

from __future__ import annotations

import asyncio
import json
import random
import re
from decimal import Decimal
from typing import Any

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balances,
    Found,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Ticker,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.gateways.nobitex.signing import TokenSigner
from services.mcp.order_execution.gateways.nobitex.transport import Reply, read_json
from services.mcp.order_execution.models import OrderRequest, OrderType, Side

ROUNDS = 10_000
ROW: dict[str, Any] = {
    "id": 5684,
    "type": "buy",
    "execution": "Limit",
    "market": "BTC-USDT",
    "srcCurrency": "Bitcoin",
    "dstCurrency": "Tether",
    "price": "50000",
    "amount": "0.1",
    "matchedAmount": "0E-10",
    "unmatchedAmount": "0.1",
    "averagePrice": "0",
    "fee": 0,
    "status": "Active",
    "created_at": "2026-01-01T00:00:00.5+00:00",
    "clientOrderId": "o1",
    "partial": False,
}
TRADE: dict[str, Any] = {
    "id": 1,
    "orderId": 5684,
    "market": "BTC-USDT",
    "timestamp": "2026-01-01T00:00:00+00:00",
    "type": "buy",
    "price": "50000",
    "amount": "0.05",
    "fee": "0.00001",
}
ANSWERS: dict[str, dict[str, Any]] = {
    "add": {"status": "ok", "order": ROW},
    "status": {"status": "ok", "order": ROW},
    "list": {"status": "ok", "orders": [ROW]},
    "trades": {"status": "ok", "trades": [TRADE], "hasNext": False},
    "wallets": {"status": "ok", "wallets": {"BTC": {"id": 1, "balance": "5", "blocked": "0.1"}}},
    "book": {"status": "ok", "lastTradePrice": "1", "asks": [["2", "1"]], "bids": [["1", "1"]]},
    "cancel": {"status": "ok", "updatedStatus": "Canceled", "order": ROW},
}
OPTIONS: dict[str, Any] = {
    "status": "ok",
    "nobitex": {
        "amountPrecisions": {"BTCUSDT": "0.000001"},
        "pricePrecisions": {"BTCUSDT": "0.01"},
        "minOrders": {"usdt": "11"},
    },
    "coins": [{"coin": "btc", "name": "Bitcoin"}],
}
JUNK: list[Any] = [
    None,
    True,
    -1,
    10**40,
    "",
    "x",
    "NaN",
    "-0.1",
    "1e9999",
    "1E+30",
    10**29,
    [],
    {},
    [[[]]],
    1.5,
    "0" * 500,
    {"status": "ok"},
    "failed",
    "canceled",
    "\u0000",
    "٣",
]


def spoil(rng: random.Random, value: Any) -> Any:
    """Change one thing somewhere within."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.25:
            return {name: item for name, item in value.items() if name != key}
        if way < 0.35:
            return {**value, f"extra{rng.random()}": rng.choice(JUNK)}
        return {**value, key: spoil(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], spoil(rng, value[place]), *value[place + 1 :]]
    return rng.choice(JUNK)


def wire(rng: random.Random, answer: dict[str, Any]) -> tuple[Reply, bool]:
    """A spoiled answer as it comes over the wire, and whether an honest "failed" or 404 may be in it."""
    spoiled = answer
    for _ in range(rng.randint(1, 3)):
        spoiled = spoil(rng, spoiled)
    text = json.dumps(spoiled).encode()
    way = rng.random()
    if way < 0.15:
        text = text[: rng.randrange(len(text) + 1)]
    elif way < 0.2:
        text = b"<html><h1>" + text + b"</h1></html>"
    elif way < 0.25:
        text = b"[" * 100_000
    elif way < 0.3:
        text = bytes(rng.randrange(256) for _ in range(40))
    elif way < 0.35:
        numbers = list(re.finditer(rb"\d+", text))
        if numbers:
            one = rng.choice(numbers)
            huge = rng.choice([b"1e99999999999999999999", b"1e30", b"9" * 5_000, b"NaN", b"-Infinity", b"0.1e-400"])
            text = text[: one.start()] + huge + text[one.end() :]
    status = rng.choice([200, 200, 200, 200, 400, 403, 404, 418, 422, 500, 502, 503, 520])
    data = read_json(text)
    said = isinstance(data, dict) and (data.get("status") == "failed" or "detail" in data)
    return Reply(status, data), said


class Scripted(NobitexGateway):
    """A gateway whose requests are answered by us."""

    def __init__(self) -> None:
        super().__init__(TokenSigner("t"), SystemClock(), timeout_seconds=1.0)
        self.reply = Reply(200, OPTIONS)

    async def _call(self, method: str, path: str, **options: Any) -> Reply:
        return Reply(200, OPTIONS) if path == "/v2/options" else self.reply


REQUEST = OrderRequest("o1", "BTC/USDT", Side.BUY, OrderType.LIMIT, Decimal("0.1"), Decimal(50_000))
REF = OrderRef("o1", "BTC/USDT")
KNOWN = OrderRef("o1", "BTC/USDT", "5684")


async def outcomes(gateway: Scripted, which: str) -> list[object]:
    """What the gateway makes of the answer, in every place where it may come."""
    from datetime import UTC, datetime

    since, until = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    if which == "add":
        return [await gateway.submit(REQUEST)]
    if which == "cancel":
        return [await gateway.cancel(REF), await gateway.cancel(KNOWN)]
    if which == "status":
        return [await gateway.query(REF), await gateway.query(KNOWN)]
    if which == "list":
        return [await gateway.open_orders(), await gateway.closed_orders(since, until, "BTC/USDT")]
    if which == "trades":
        return [await gateway.trades(since)]
    if which == "wallets":
        return [await gateway.balances()]
    return [await gateway.ticker("BTC/USDT"), await gateway.ping()]


def test_ten_thousand_spoiled_answers() -> None:
    """Never a crash, never Rejected or NotFound that was not said, never a number that is not one."""
    allowed = (
        *(Accepted, Rejected, NotSent, Unknown, Found, NotFound, Unavailable, OrderList, TradeList),
        *(Balances, Ticker, type(None)),
    )

    async def main() -> dict[str, int]:
        rng = random.Random(4)
        gateway = Scripted()
        seen: dict[str, int] = {}
        for number in range(ROUNDS):
            which = list(ANSWERS)[number % len(ANSWERS)]
            gateway.reply, said = wire(rng, ANSWERS[which])
            for outcome in await outcomes(gateway, which):
                assert isinstance(outcome, allowed), outcome
                if isinstance(outcome, (Rejected, NotFound)):
                    assert said, (gateway.reply, outcome)
                if isinstance(outcome, Accepted) and which == "add":
                    assert outcome.exchange_order_id
                if isinstance(outcome, Found):
                    assert 0 <= outcome.order.filled <= outcome.order.amount
                seen[type(outcome).__name__] = seen.get(type(outcome).__name__, 0) + 1
        return seen

    seen = asyncio.run(main())
    assert seen["Unavailable"] > 1_000
    assert seen["Unknown"] > 300
    assert seen["Found"] > 50
