"""The contract of a gateway: one exchange, whose every answer says by its type what happened.

A gateway translates once, at its edge. It never raises for what an exchange or a network does; it returns
one of the outcomes below. It retries nothing. Only ``asyncio.CancelledError`` passes through, and the caller
counts a cancelled write as :class:`Unknown`; so it does any other exception, which is a defect of the gateway.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ..errors import ErrorCategory
from ..models import NOTHING, ZERO, Fill, OrderRequest, OrderState, OrderType, Side, TimeInForce


class IdScope(StrEnum):
    """How long the exchange refuses a second order under the same client order id."""

    NONE = "none"
    OPEN_ORDERS = "open"
    FOREVER = "forever"


class LookupScope(StrEnum):
    """Which orders the exchange finds by client order id."""

    NONE = "none"
    OPEN_ORDERS = "open"
    ALL = "all"


class ListScope(StrEnum):
    """What one list call covers."""

    ACCOUNT = "account"
    SYMBOL = "symbol"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTraits:
    """What the exchange offers; the executor's promises follow from it. Durations are in seconds."""

    client_id_scope: IdScope
    lookup_scope: LookupScope
    lists_closed_orders: bool
    """Closed orders can be listed by time, with their client order ids."""
    lists_trades: bool
    """Own trades can be listed by time, with the exchange's order ids."""
    request_expiry: float | None
    """After this long a request that was on its way is refused by the exchange; None: never."""
    settle: float
    """How long after the request can last arrive its order may still be missing from lookups and lists."""
    list_scope: ListScope = ListScope.ACCOUNT
    accepts_client_ids: bool = True
    cancels_by_client_id: bool = True
    streams_orders: bool = False
    client_id_max_length: int = 36
    client_id_pattern: str = r"[A-Za-z0-9_-]+"
    order_types: frozenset[OrderType] = frozenset({OrderType.MARKET, OrderType.LIMIT})
    times_in_force: frozenset[TimeInForce] = frozenset({TimeInForce.GTC})
    post_only: bool = False
    order_requests_per_second: float | None = None
    """Documented limits of the exchange for placing orders, for cancelling and for reading; None: none."""
    cancel_requests_per_second: float | None = None
    read_requests_per_second: float | None = None
    burst: int = 10
    """How many requests may come at once within those limits."""

    @property
    def can_resolve(self) -> bool:
        """True when an explicit "not there" can ever be had for an order whose fate is unknown."""
        if not self.accepts_client_ids:
            return False
        return self.lookup_scope is LookupScope.ALL or self.lists_closed_orders

    @property
    def unresolvable_for(self) -> float:
        """Seconds after sending during which "not there" proves nothing."""
        return (self.request_expiry or 0.0) + self.settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The rules of one symbol at the exchange."""

    symbol: str
    base: str
    quote: str
    price_tick: Decimal
    amount_step: Decimal
    min_amount: Decimal = ZERO
    max_amount: Decimal | None = None
    min_notional: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOrder:
    """An order as the exchange tells it. ``state`` is never PENDING, SENDING, UNKNOWN or CANCELING."""

    exchange_order_id: str
    client_order_id: str | None
    symbol: str
    side: Side
    type: OrderType
    amount: Decimal
    state: OrderState
    filled: Decimal
    created_at: datetime
    updated_at: datetime
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    average_price: Decimal | None = None
    fees: Mapping[str, Decimal] = field(default_factory=lambda: NOTHING)
    fills: tuple[Fill, ...] | None = None
    """Its trades; None where this answer does not carry them (they may then be listed)."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ExchangeTrade:
    """One own trade, with the order that it belongs to."""

    exchange_order_id: str
    symbol: str
    side: Side
    fill: Fill
    client_order_id: str | None = None


# ---- what a write can mean ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The exchange answered with its id (a cancel: that it is, or will be, carried out)."""

    exchange_order_id: str
    order: ExchangeOrder | None = None
    """The order, where the answer carries it."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The exchange explicitly refused, by one of its known refusals; nothing rests."""

    reason: str
    """A stable code where there is one: insufficient_funds, min_notional, … else the exchange's words."""
    duplicate_id: bool = False
    """The refusal says that this client order id already exists: the order must be looked up."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request provably never reached the exchange, or was refused before it was processed."""

    category: ErrorCategory
    message: str
    retry_after: float | None = None
    """Seconds that the exchange asked to wait: a floor."""
    local: bool = False
    """Our own bounds refused it: that says nothing of the exchange, and no other request need heed it."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Everything else: the request may have been, or may yet be, carried out."""

    category: ErrorCategory
    message: str
    retry_after: float | None = None


# ---- what a read can mean -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The exchange has the order."""

    order: ExchangeOrder


@dataclass(frozen=True, slots=True)
class NotFound:
    """The exchange explicitly said that, within the scope of its lookup, it has no such order."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer, or none that can be understood. Says nothing about any order."""

    category: ErrorCategory
    message: str
    retry_after: float | None = None
    local: bool = False
    """Our own bounds refused it: that says nothing of the exchange, and no other request need heed it.

    Without ``retry_after`` asking again will not help either: there is more than we ever read.
    """


@dataclass(frozen=True, slots=True)
class OrderList:
    """A listing. It is complete for what was asked, or it is not an OrderList but Unavailable."""

    orders: tuple[ExchangeOrder, ...]
    tells_client_ids: bool = True
    """False where rows may lack the client order ids that their orders have: such a list proves none absent."""


@dataclass(frozen=True, slots=True)
class TradeList:
    """A listing of own trades; complete for what was asked."""

    trades: tuple[ExchangeTrade, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """One currency of the account."""

    free: Decimal
    blocked: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Free and blocked together."""
        return self.free + self.blocked


@dataclass(frozen=True, slots=True)
class Balances:
    """The account's balances at one moment. A currency that is not listed has nothing."""

    currencies: Mapping[str, Balance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ticker:
    """The market's present prices."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal


@dataclass(frozen=True, slots=True)
class OrderRef:
    """What a gateway needs to find an order again."""

    client_order_id: str
    symbol: str
    exchange_order_id: str | None = None
    sent_at: datetime | None = None


class Gateway(ABC):
    """One exchange account. Methods are called after ``open()`` and before ``close()``, concurrently."""

    name: str
    traits: GatewayTraits
    clock_error: float | None = None
    """Seconds by which our wall clock is ahead of the exchange's now; None: not known. See ``RemoteClock``."""

    @abstractmethod
    async def open(self) -> None:
        """Acquire what is needed. May be called once; raises ConfigurationError or ExchangeUnavailable."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything; harmless when repeated."""

    @abstractmethod
    async def market(self, symbol: str) -> Market | Unavailable:
        """Rules of a symbol, cached by the gateway. Raises InvalidOrder("symbol", …) for an unknown one."""

    @abstractmethod
    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Send the order once, under ``request.client_order_id``."""

    @abstractmethod
    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        """Ask for a cancel, once. Rejected: nothing to cancel, for whatever reason; query to learn which."""

    @abstractmethod
    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look one order up, by exchange id where it is known, else by client id.

        NotFound covers what ``traits.lookup_scope`` covers and no more.
        """

    @abstractmethod
    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """All open orders of the account, or of one symbol where ``traits.list_scope`` is SYMBOL."""

    @abstractmethod
    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """All final orders that were created or closed in the period, client ids included.

        Where the exchange lists them together, orders that are not final may be among them.
        """

    @abstractmethod
    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """All own trades since then."""

    @abstractmethod
    async def balances(self) -> Balances | Unavailable:
        """The account's balances."""

    @abstractmethod
    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        """Present prices. Raises InvalidOrder("symbol", …) for an unknown one."""

    @abstractmethod
    async def ping(self) -> Unavailable | None:
        """Make the cheapest read there is; None means that the exchange answers."""

    def stream(self) -> AsyncIterator[ExchangeOrder] | None:
        """Order updates as they happen: hints, never the truth. None where there is no stream.

        Each call connects anew. The iteration ends, or raises, when the connection is lost; whoever follows it
        then reads the lists and asks for another one.
        """
        return None
