"""The engine's own words for orders: what a caller hands in, and what it gets back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any

from services.mcp.order_execution.errors import InvalidOrder
from services.mcp.order_execution.models import ZERO, to_plain
from services.mcp.order_execution.parameters import parse_decimal

Number = Decimal | int | float | str


class OrderSide(Enum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"


class OrderType(Enum):
    """How an order trades."""

    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop_market"
    STOP_LIMIT = "stop_limit"


class OrderTimeInForce(Enum):
    """How long an order may rest."""

    GTC = "GTC"
    """Until it is cancelled."""
    IOC = "IOC"
    """What trades at once trades; the rest is cancelled."""
    FOK = "FOK"
    """All at once or nothing."""


class OrderStatus(Enum):
    """Where an order stands. UNRESOLVED is honest: it may or may not be on the exchange."""

    NEW = "new"
    PENDING = "pending"
    UNRESOLVED = "unresolved"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    CANCELING = "canceling"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """True when the order will trade no further."""
        return self in _FINAL


_FINAL = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED)


@dataclass(frozen=True, slots=True)
class OrderFill:
    """One trade of an order. ``timestamp`` is in milliseconds since 1970, UTC."""

    trade_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    timestamp: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; decimals are strings."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class Order:
    """An order, as it is wanted and, from ``get_order``, as it stands.

    ``order_id`` names it for good: executing the same one again gives the same answer and never a second order.
    Numbers are read exactly (a float through its shortest text). ``timestamp`` is in milliseconds, UTC; now, unless
    given. Raises InvalidOrder for a quantity or price that is no number above zero, a timestamp that is no whole
    number from zero, and a ``post_only`` that is neither True nor False.
    """

    symbol: str
    side: OrderSide
    order_type: OrderType
    quantity: Number
    price: Number | None = None
    time_in_force: OrderTimeInForce = OrderTimeInForce.GTC
    order_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    timestamp: int | None = None
    stop_price: Number | None = None
    post_only: bool = False
    status: OrderStatus = OrderStatus.NEW
    exchange_order_id: str | None = None
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    fees: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}))
    fills: tuple[OrderFill, ...] = ()
    reason: str | None = None
    """Why it stands where it stands: the exchange's words, or one of ours."""

    def __post_init__(self) -> None:
        for name in ("quantity", "price", "stop_price"):
            value = getattr(self, name)
            if value is not None or name == "quantity":
                object.__setattr__(self, name, parse_decimal(name, value))
        if not isinstance(self.post_only, bool):
            raise InvalidOrder("post_only", "True or False", got=self.post_only)
        if self.timestamp is not None and (type(self.timestamp) is not int or self.timestamp < 0):
            raise InvalidOrder("timestamp", "milliseconds since 1970 (a whole number)", got=self.timestamp)
        if self.timestamp is None:
            object.__setattr__(self, "timestamp", int(datetime.now(UTC).timestamp() * 1000))

    @property
    def remaining_quantity(self) -> Decimal:
        """What has not traded; of a final order, what never will."""
        return Decimal(self.quantity) - self.filled_quantity

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; decimals are strings."""
        return {**_plain(self), "remaining_quantity": to_plain(self.remaining_quantity)}


def _plain(record: Any) -> dict[str, Any]:
    return {item.name: to_plain(getattr(record, item.name)) for item in fields(record)}
