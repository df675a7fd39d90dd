"""The thinnest honest gateway: the contract over aiohttp on the stub, signed like the raw baseline.

What it does for an order beyond the baseline is what the contract asks for: the answer is classified by type. It
spares what the baseline does without need (cookies, a time limit of its own, quoting); the row of the gateway alone
tells what that comes to.
"""

from __future__ import annotations

import hmac
import time
from datetime import datetime
from decimal import Decimal
from typing import Final

import aiohttp
import orjson
import yarl

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balance,
    Balances,
    Found,
    Gateway,
    GatewayTraits,
    IdScope,
    LookupScope,
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
from services.mcp.order_execution.models import OrderRequest, OrderType, TimeInForce, plain_decimal

TRAITS: Final = GatewayTraits(
    client_id_scope=IdScope.FOREVER,
    lookup_scope=LookupScope.ALL,
    lists_closed_orders=True,
    lists_trades=True,
    request_expiry=5.0,
    settle=0.05,
    order_types=frozenset(OrderType),
    times_in_force=frozenset(TimeInForce),
    client_id_max_length=36,
)
BALANCES: Final = Balances({"USDT": Balance(Decimal(10) ** 12), "BTC": Balance(Decimal(10) ** 9)})


class QuietGateway(Gateway):
    """An exchange that takes every order at once, in memory: for rows in which no network shall be measured."""

    name = "quiet"
    traits = TRAITS

    def __init__(self) -> None:
        self.accepted = 0
        self.reads = 0

    async def open(self) -> None:
        """Nothing to acquire."""

    async def close(self) -> None:
        """Nothing to release."""

    async def market(self, symbol: str) -> Market | Unavailable:
        """One rule for all symbols."""
        base, _, quote = symbol.partition("/")
        return _market(symbol, base, quote)

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Take it."""
        self.accepted += 1
        return Accepted(f"X{self.accepted}")

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        """Take it."""
        return Accepted(ref.exchange_order_id or "")

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Tell of no order."""
        self.reads += 1
        return NotFound()

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """Tell of no order."""
        self.reads += 1
        return OrderList(())

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """Tell of no order."""
        self.reads += 1
        return OrderList(())

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """Tell of no trade."""
        self.reads += 1
        return TradeList(())

    async def balances(self) -> Balances | Unavailable:
        """Balances that never run out."""
        self.reads += 1
        return BALANCES

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        """One price."""
        return Ticker(symbol, Decimal(49_990), Decimal(50_010), Decimal(50_000))

    async def ping(self) -> Unavailable | None:
        """It is there."""
        return None


class HttpGateway(QuietGateway):
    """Orders over HTTP to the stub; what the stub keeps nothing of is answered from memory."""

    name = "bench"

    def __init__(self, port: int, key: str, secret: str) -> None:
        super().__init__()
        self._url = yarl.URL(f"http://127.0.0.1:{port}/api/v3/order")
        self._secret = secret.encode()
        self._headers = {"X-MBX-APIKEY": key, "Content-Type": "application/x-www-form-urlencoded"}
        self._session: aiohttp.ClientSession | None = None
        self._markets: dict[str, Market] = {}

    async def open(self) -> None:
        """Make the session: no cookies are kept, and the executor sets the time limits."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )

    async def close(self) -> None:
        """Close it."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def market(self, symbol: str) -> Market | Unavailable:
        """Cached, as the contract asks."""
        known = self._markets.get(symbol)
        if known is None:
            base, _, quote = symbol.partition("/")
            known = self._markets[symbol] = _market(symbol, base, quote)
        return known

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Sign, send, classify."""
        assert self._session is not None
        # Symbols, ids and decimals in plain notation need no quoting.
        query = (
            f"symbol={request.symbol.replace('/', '')}&side={'BUY' if request.side == 'buy' else 'SELL'}&type=LIMIT"
            f"&timeInForce={request.time_in_force}&quantity={plain_decimal(request.amount)}"
            f"&price={plain_decimal(request.price or Decimal(0))}&newClientOrderId={request.client_order_id}"
            f"&timestamp={time.time_ns() // 1_000_000}"
        )
        signature = hmac.digest(self._secret, query.encode(), "sha256").hex()
        body = f"{query}&signature={signature}".encode()
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as answer:
                status, text = answer.status, await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotSent(ErrorCategory.CONNECTION, type(error).__name__)
        except TimeoutError:
            return Unknown(ErrorCategory.TIMEOUT, "no answer in time")
        except (aiohttp.ClientError, OSError) as error:
            return Unknown(ErrorCategory.RESET, type(error).__name__)
        return _classified(status, text)


def _classified(status: int, text: bytes) -> Accepted | Rejected | NotSent | Unknown:
    """What an answer to a write means."""
    try:
        data = orjson.loads(text)
    except ValueError:
        return Unknown(ErrorCategory.BAD_RESPONSE, "no JSON")
    if status == 200 and isinstance(data, dict) and "orderId" in data:
        return Accepted(str(data["orderId"]))
    if status == 400 and isinstance(data, dict) and data.get("code") == -2010:
        return Rejected("insufficient_funds")
    return Unknown(ErrorCategory.SERVER_ERROR, f"HTTP {status}")


def _market(symbol: str, base: str, quote: str) -> Market:
    return Market(
        symbol=symbol,
        base=base,
        quote=quote,
        price_tick=Decimal("0.01"),
        amount_step=Decimal("0.00001"),
        min_amount=Decimal("0.00001"),
        max_amount=Decimal(9000),
        min_notional=Decimal(5),
    )
