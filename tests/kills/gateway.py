"""The bot's gateway to the exchange of the kill tests: ordinary, over aiohttp, classifying by what went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import aiohttp

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balance,
    Balances,
    ExchangeOrder,
    Found,
    Gateway,
    GatewayTraits,
    Market,
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
from services.mcp.order_execution.models import Fill, OrderRequest, OrderState, OrderType, Side, TimeInForce
from tests.simulation.exchange import PRICE

Hook = Callable[[str], None]


class HttpGateway(Gateway):
    """One account at the test exchange. ``at`` is called before and after each request, for who wants to die."""

    name = "http"

    def __init__(self, url: str, traits: GatewayTraits, at: Hook = lambda point: None) -> None:
        self.url = url
        self.traits = traits
        self._at = at
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any] | NotSent | Unknown:
        assert self._session is not None
        self._at(f"before {method}")
        try:
            async with self._session.post(f"{self.url}/{method}", data=json.dumps(body)) as reply:
                text = await reply.text()
                status, retry_after = reply.status, reply.headers.get("Retry-After")
        except aiohttp.ClientConnectorError as error:
            return NotSent(ErrorCategory.CONNECTION, type(error).__name__)
        except aiohttp.ClientError as error:
            return Unknown(ErrorCategory.RESET, type(error).__name__)
        finally:
            self._at(f"after {method}")
        if status == 429:
            return NotSent(ErrorCategory.RATE_LIMITED, "429", float(retry_after or 0))
        if status != 200:
            return Unknown(ErrorCategory.SERVER_ERROR, str(status))
        try:
            answer: dict[str, Any] = json.loads(text)
        except ValueError:
            return Unknown(ErrorCategory.BAD_RESPONSE, "not JSON")
        return answer

    async def _read(self, method: str, **body: Any) -> dict[str, Any] | Unavailable:
        answer = await self._call(method, body)
        if isinstance(answer, (NotSent, Unknown)):
            return Unavailable(answer.category, answer.message, answer.retry_after)
        return answer

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        answer = await self._call(
            "submit",
            {
                "client_order_id": request.client_order_id,
                "symbol": request.symbol,
                "side": request.side.value,
                "type": request.type.value,
                "amount": str(request.amount),
                "price": None if request.price is None else str(request.price),
                "time_in_force": request.time_in_force.value,
                "sent_at": time.time(),
            },
        )
        return _written(answer)

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        return _written(await self._call("cancel", _named(ref)))

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        answer = await self._read("query", **_named(ref))
        if isinstance(answer, Unavailable):
            return answer
        return NotFound() if answer["order"] is None else Found(read_order(answer["order"]))

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        return _listed(await self._read("open_orders", symbol=symbol))

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        period = {"since": since.isoformat(), "until": until.isoformat()}
        return _listed(await self._read("closed_orders", symbol=symbol, **period))

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        return Unavailable(ErrorCategory.INTERNAL, "this exchange lists no trades")

    async def balances(self) -> Balances | Unavailable:
        answer = await self._read("balances")
        if isinstance(answer, Unavailable):
            return answer
        found = {name: Balance(Decimal(free), Decimal(held)) for name, (free, held) in answer["balances"].items()}
        return Balances(found)

    async def market(self, symbol: str) -> Market | Unavailable:
        base, quote = symbol.split("/")
        tick, step = Decimal("0.01"), Decimal("0.0001")
        return Market(symbol=symbol, base=base, quote=quote, price_tick=tick, amount_step=step)

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        return Ticker(symbol, PRICE, PRICE, PRICE)

    async def ping(self) -> Unavailable | None:
        answer = await self._read("ping")
        return answer if isinstance(answer, Unavailable) else None


def _written(answer: dict[str, Any] | NotSent | Unknown) -> Accepted | Rejected | NotSent | Unknown:
    if isinstance(answer, (NotSent, Unknown)):
        return answer
    if "refused" in answer:
        return Rejected(answer["refused"], duplicate_id=bool(answer.get("duplicate")))
    order = read_order(answer["order"])
    return Accepted(order.exchange_order_id, order)


def _named(ref: OrderRef) -> dict[str, Any]:
    return {
        "client_order_id": ref.client_order_id,
        "symbol": ref.symbol,
        "exchange_order_id": ref.exchange_order_id,
    }


def _listed(answer: dict[str, Any] | Unavailable) -> OrderList | Unavailable:
    if isinstance(answer, Unavailable):
        return answer
    return OrderList(tuple(read_order(order) for order in answer["orders"]))


def read_order(told: dict[str, Any]) -> ExchangeOrder:
    """An order as the exchange tells it."""
    fills = tuple(
        Fill(
            fill["trade_id"],
            Decimal(fill["price"]),
            Decimal(fill["amount"]),
            Decimal(fill["fee"]),
            fill["fee_currency"],
            datetime.fromisoformat(fill["at"]),
        )
        for fill in told["fills"] or ()
    )
    return ExchangeOrder(
        exchange_order_id=told["exchange_order_id"],
        client_order_id=told["client_order_id"],
        symbol=told["symbol"],
        side=Side(told["side"]),
        type=OrderType(told["type"]),
        amount=Decimal(told["amount"]),
        price=None if told["price"] is None else Decimal(told["price"]),
        time_in_force=TimeInForce(told["time_in_force"]),
        state=OrderState(told["state"]),
        filled=Decimal(told["filled"]),
        fills=fills,
        average_price=None if told["average_price"] is None else Decimal(told["average_price"]),
        fees={name: Decimal(fee) for name, fee in told["fees"].items()},
        created_at=datetime.fromisoformat(told["created_at"]),
        updated_at=datetime.fromisoformat(told["updated_at"]),
    )
