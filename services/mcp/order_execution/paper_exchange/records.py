"""What the exchange writes down: orders, trades, funds, the rules of a market. All times are UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from ..models import ZERO, OrderState, OrderType, Side, TimeInForce

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """Whole microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(at: int) -> datetime:
    """The reverse of :func:`to_us`."""
    return _EPOCH + timedelta(microseconds=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """The rules of one symbol."""

    symbol: str
    base: str
    quote: str
    start_price: Decimal
    """The price at which the symbol began to trade."""
    price_tick: Decimal
    max_price: Decimal
    amount_step: Decimal
    max_amount: Decimal
    min_notional: Decimal


@dataclass(frozen=True, slots=True)
class Level:
    """So much at one price."""

    price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedOrder:
    """One order in the exchange's book. ``state`` is OPEN, PARTIALLY_FILLED, FILLED, CANCELED or EXPIRED."""

    id: int
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    amount: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce
    post_only: bool
    created_at: datetime
    updated_at: datetime
    booked_us: int
    """When it was booked, in microseconds of the exchange's own time."""
    state: OrderState = OrderState.OPEN
    waiting: bool = False
    """A stop order whose stop price has not been touched."""
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    """What its trades come to in the quote currency, fees apart."""
    fee: Decimal = ZERO
    """In ``fee_currency``."""
    reason: str | None = None

    @property
    def base(self) -> str:
        """The currency that is traded."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """The currency that it is paid in."""
        return self.symbol.partition("/")[2]

    @property
    def fee_currency(self) -> str:
        """Fees are taken out of what the order receives."""
        return self.base if self.side is Side.BUY else self.quote

    @property
    def blocked_currency(self) -> str:
        """The currency that the order gives."""
        return self.quote if self.side is Side.BUY else self.base

    @property
    def remaining(self) -> Decimal:
        """What has not traded."""
        return self.amount - self.filled

    @property
    def is_open(self) -> bool:
        """True while it rests or waits for its stop price."""
        return not self.state.is_final

    @property
    def blocked(self) -> Decimal:
        """What the order keeps blocked of ``blocked_currency``; nothing once it is closed."""
        if not self.is_open:
            return ZERO
        if self.side is Side.SELL:
            return self.remaining
        price = self.stop_price if self.price is None else self.price
        return ZERO if price is None else self.remaining * price


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade of one order."""

    id: int
    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    price: Decimal
    amount: Decimal
    fee: Decimal
    fee_currency: str
    maker: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Funds:
    """What the account has of one currency, and how much of that its open orders keep blocked."""

    total: Decimal
    blocked: Decimal = ZERO

    @property
    def free(self) -> Decimal:
        """What may be spent."""
        return self.total - self.blocked


@dataclass(frozen=True, slots=True)
class Quote:
    """Present prices of a symbol."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal


@dataclass(frozen=True, slots=True)
class Depth:
    """What rests on both sides, best level first; own orders are not in it."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class OrderReport:
    """An order and its trades."""

    order: BookedOrder
    trades: tuple[Trade, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The exchange said no, and nothing was booked. ``reason`` is a stable code."""

    reason: str
    duplicate_id: bool = False


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too many requests; this one was not looked at."""

    retry_after: float


Account = Mapping[str, Funds]
