"""What the gateway contract suite needs to know of an exchange: one of these per gateway."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from enum import Enum, auto
from itertools import count
from typing import Any

from services.mcp.order_execution.clock import Clock
from services.mcp.order_execution.gateways.base import Accepted, Gateway, Market, OrderRef, Ticker
from services.mcp.order_execution.models import OrderRequest, OrderState, OrderType, Side


class Trouble(Enum):
    """What may befall a request. A bench that cannot cause one leaves it out of ``troubles``."""

    NONE = auto()
    REFUSED = auto()
    """No connection."""
    RATE_LIMITED = auto()
    """A documented refusal before processing."""
    LOST_REQUEST = auto()
    LOST_REPLY = auto()
    SILENCE = auto()
    """Nothing is heard for longer than the gateway's timeout; the request is lost."""
    SERVER_ERROR = auto()
    """5xx."""
    LATE = auto()
    """The answer is lost, and the request arrives later, within the request expiry."""
    TOO_LATE = auto()
    """The same, but past the request expiry."""
    GARBAGE = auto()
    """The request is carried out, and the answer cannot be understood."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One order in the exchange's own book."""

    client_order_id: str | None
    exchange_order_id: str
    state: OrderState
    filled: Decimal


class Bench(ABC):
    """An opened gateway on an exchange of its own, whose truth can be looked at behind the gateway's back."""

    symbol = "BTC/USD"
    unknown_symbol = "btc/usd"
    gateway: Gateway
    clock: Clock
    timeout: float
    """Seconds after which the gateway itself gives an attempt up."""
    troubles: frozenset[Trouble]
    tells_stop_prices = True
    """Whether answers always carry an order's stop price."""
    nobody = "contract-nobody"
    """A client id of the exchange's form that no order has."""
    keeps_ids_longer = False
    """Whether the exchange refuses a repeated client id for longer than the traits rely on."""

    def __init__(self) -> None:
        self._numbers = count(1)

    @abstractmethod
    def cause(self, trouble: Trouble) -> None:
        """Let this befall every request from now on."""

    @abstractmethod
    async def book(self) -> list[Entry]:
        """Every order that the exchange ever booked, oldest first."""

    @abstractmethod
    async def wait(self, seconds: float) -> None:
        """Let time pass, for the exchange too."""

    def name(self, number: int) -> str:
        """The client id of the order of this number."""
        return f"contract-{number}"

    # ---- orders that fit any exchange ---------------------------------------------------------------------

    async def market(self) -> Market:
        market = await self.gateway.market(self.symbol)
        assert isinstance(market, Market)
        return market

    async def order(self, side: Side = Side.BUY, **changes: Any) -> OrderRequest:
        """A limit order far from the market, of several times the least worth; it rests."""
        market, ticker = await self.market(), await self.gateway.ticker(self.symbol)
        assert isinstance(ticker, Ticker)
        far = ticker.bid * Decimal("0.9") if side is Side.BUY else ticker.ask * Decimal("1.1")
        price = on_grid(far, market.price_tick, ROUND_DOWN)
        amount = max(market.min_amount, on_grid(market.min_notional * 3 / price, market.amount_step, ROUND_UP))
        fields: dict[str, Any] = {
            "client_order_id": self.name(next(self._numbers)),
            "symbol": self.symbol,
            "side": side,
            "type": OrderType.LIMIT,
            "amount": amount,
            "price": price,
        }
        return OrderRequest(**{**fields, **changes})

    async def market_order(self, side: Side = Side.BUY) -> OrderRequest:
        return await self.order(side, type=OrderType.MARKET, price=None)

    async def rest(self, **changes: Any) -> tuple[OrderRequest, Accepted]:
        """Place an order that rests."""
        request = await self.order(**changes)
        outcome = await self.gateway.submit(request)
        assert isinstance(outcome, Accepted), outcome
        return request, outcome

    async def settle(self) -> None:
        """Wait as long as a new order may be missing from lookups and lists."""
        await self.wait(self.gateway.traits.settle)

    def ref(self, request: OrderRequest, outcome: Accepted | None = None) -> OrderRef:
        """How to find an order again: by its client id, or with an outcome by the exchange's id."""
        exchange_id = None if outcome is None else outcome.exchange_order_id
        sent_at = self.clock.now() - timedelta(minutes=1)
        return OrderRef(request.client_order_id, request.symbol, exchange_id, sent_at)


Scenario = Callable[[Bench], Awaitable[None]]
Run = Callable[[Scenario], None]
"""Opens a bench, plays a scenario on it and closes it, on whatever loop the gateway needs."""


def on_grid(value: Decimal, unit: Decimal, rounding: str) -> Decimal:
    """The value as a whole multiple of the unit."""
    return (value / unit).to_integral_value(rounding) * unit
