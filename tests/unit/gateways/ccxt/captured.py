"""A ccxt gateway whose requests go nowhere: they are kept, and answered from a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from services.mcp.order_execution.clock import RemoteClock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.ccxt import CcxtGateway
from services.mcp.order_execution.gateways.ccxt.transport import Hop
from services.mcp.order_execution.models import OrderRequest, OrderType, Side

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
CLIENT_ID = "0123456789abcdef0123456789abcdef"
PRECISE: Mapping[str, Any] = {"amount": "0.00001", "price": "0.01"}


class FixedClock:
    """Stands still, unless it is moved."""

    def __init__(self, now: datetime = NOW) -> None:
        self.at = now
        self.seconds = 1_000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds


@dataclass(slots=True)
class Sent:
    """One request as it would have left."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def text(self) -> str:
        """Address and body together, decoded."""
        return unquote(self.url) + " " + unquote(self.body)


@dataclass(slots=True)
class Reply:
    """What comes back: a status with a text, or a failure in between."""

    text: str = "{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    failure: ErrorCategory | None = None
    sent: bool = True


Script = Callable[[Sent], Reply | str]


class Line:
    """Takes the place of the HTTP session."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.script: Script = lambda sent: "{}"
        self.remote = RemoteClock(FixedClock(), resolution_seconds=0.0)
        self.opened = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.opened -= 1

    def measured(self, theirs: datetime, seconds: float) -> None:
        self.remote.learn(theirs)

    async def send(
        self, hop: Hop, url: str, headers: Mapping[str, str], body: bytes | None, on_written: object = None
    ) -> str | None:
        sent = Sent(hop.method, url, dict(headers), (body or b"").decode())
        self.sent.append(sent)
        reply = self.script(sent)
        if isinstance(reply, str):
            reply = Reply(reply)
        if reply.failure is not None:
            hop.failure, hop.sent, hop.message = reply.failure, reply.sent, "lost"
            return None
        hop.status, hop.headers, hop.retry_after = reply.status, reply.headers, reply.retry_after
        return reply.text

    @property
    def writes(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.method != "GET"]


def market(exchange: Any, symbol: str = "BTC/USDT", **changes: Any) -> dict[str, Any]:
    """A spot market that fits nearly any of ccxt's classes."""
    base, _, quote = symbol.partition("/")
    told = {
        "id": f"{base}{quote}",
        "lowercaseId": f"{base}{quote}".lower(),
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "baseId": base,
        "quoteId": quote,
        "type": "spot",
        "spot": True,
        "margin": False,
        "swap": False,
        "future": False,
        "option": False,
        "contract": False,
        "active": True,
        "taker": "0.001",
        "maker": "0.001",
        "precision": dict(PRECISE) if exchange.precisionMode == 4 else {"amount": 8, "price": 8},
        "limits": {"amount": {"min": "0.00001", "max": None}, "cost": {"min": "10", "max": None}, "price": {}},
        "info": {"orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT"]},
    }
    return exchange.safe_market_structure({**told, **changes})  # type: ignore[no-any-return]


class CapturedGateway(CcxtGateway):
    """The real gateway on the real class, cut off from the network."""

    def __init__(self, exchange: str, *, clock: FixedClock | None = None, **settings: Any) -> None:
        given: dict[str, Any] = {
            "api_key": "the-key",
            "api_secret": "c2VjcmV0c2VjcmV0c2VjcmV0",
            "password": "passphrase",
            "uid": "4711",
            "base_url": "http://127.0.0.1:9",
        }
        self.fixed = clock or FixedClock()
        super().__init__(exchange, self.fixed, **{**given, **settings})
        self.line = Line()
        self.line.remote = RemoteClock(self.fixed, resolution_seconds=0.0)
        self._http = self.line  # type: ignore[assignment]
        self.exchange.http = self.line

    def know(self, *markets: dict[str, Any]) -> CapturedGateway:
        """Take these for the exchange's markets, one of BTC/USDT unless they are given."""
        self.exchange.set_markets(list(markets) or [market(self.exchange)])
        self.readiness.known()
        self.readiness.clock_doubtful = False
        return self

    def answer(self, script: Script | str | Reply) -> CapturedGateway:
        """Answer every request from now on so."""
        self.line.script = script if callable(script) else lambda sent: script
        self.line.sent.clear()
        return self


def order(symbol: str = "BTC/USDT", **changes: Any) -> OrderRequest:
    """A limit order that fits the market above."""
    fields: dict[str, Any] = {
        "client_order_id": CLIENT_ID,
        "symbol": symbol,
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "amount": Decimal("0.00012"),
        "price": Decimal("20000.5"),
    }
    return OrderRequest(**{**fields, **changes})


@cache
def ec_key() -> str:
    """A private key of the kind that Coinbase gives, made for this run."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode()


def gateway(exchange: str, **settings: Any) -> CapturedGateway:
    """A captured gateway that knows a market, with keys of the right kind."""
    if exchange == "coinbase":
        settings = {"api_key": "organizations/o/apiKeys/k", "api_secret": ec_key(), **settings}
    return CapturedGateway(exchange, **settings).know()
