"""Frozen records: what an order is, what happened to it, and the transitions that are legal.

Money, prices and quantities are ``Decimal``; times are UTC. ``to_dict()`` gives JSON-ready values in which
every decimal is a string in plain notation and every time is ISO 8601.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final

from .exact import EXACT, total
from .records import changer, maker

ZERO: Final = Decimal(0)
NOTHING: Final[Mapping[str, Decimal]] = MappingProxyType({})


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """How an order trades. A stop order waits at the exchange until its ``stop_price`` is touched."""

    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop_market"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    """How long an order may rest."""

    GTC = "GTC"
    """Until it is cancelled."""
    IOC = "IOC"
    """What trades at once trades; the rest is cancelled."""
    FOK = "FOK"
    """All at once or nothing."""


class OrderState(StrEnum):
    """Where an order stands. UNKNOWN is honest: it may or may not be on the exchange."""

    PENDING = "pending"
    SENDING = "sending"
    UNKNOWN = "unknown"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    CANCELING = "canceling"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"

    is_final: bool
    """True when the order will trade no further."""
    is_unresolved: bool
    """True while nobody here knows whether the exchange has the order."""

    def __init__(self, name: str) -> None:
        # Once for each state and not at each look: every order's state is looked at a dozen times.
        self.is_final = name in ("filled", "canceled", "expired", "rejected")
        self.is_unresolved = name in ("sending", "unknown")


FINAL_STATES: Final = frozenset(state for state in OrderState if state.is_final)

_S = OrderState
_CLOSING: Final = frozenset({_S.FILLED, _S.CANCELED, _S.EXPIRED, _S.REJECTED})

TRANSITIONS: Final[Mapping[OrderState, frozenset[OrderState]]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.SENDING, _S.CANCELED, _S.EXPIRED, _S.REJECTED}),
        _S.SENDING: frozenset({_S.PENDING, _S.UNKNOWN, _S.OPEN, _S.PARTIALLY_FILLED, _S.CANCELING}) | _CLOSING,
        _S.UNKNOWN: frozenset({_S.SENDING, _S.OPEN, _S.PARTIALLY_FILLED, _S.CANCELING}) | _CLOSING,
        _S.OPEN: frozenset({_S.PARTIALLY_FILLED, _S.CANCELING, _S.UNKNOWN}) | _CLOSING,
        _S.PARTIALLY_FILLED: frozenset({_S.CANCELING, _S.UNKNOWN, _S.FILLED, _S.CANCELED, _S.EXPIRED}),
        _S.CANCELING: frozenset({_S.OPEN, _S.PARTIALLY_FILLED, _S.UNKNOWN}) | _CLOSING,
        _S.FILLED: frozenset(),
        _S.CANCELED: frozenset(),
        _S.EXPIRED: frozenset(),
        _S.REJECTED: frozenset(),
    }
)
"""The normal way. Staying in a state (a further partial fill, say) is always legal."""

REOPENINGS: Final[Mapping[OrderState, frozenset[OrderState]]] = MappingProxyType(
    {
        state: frozenset({_S.OPEN, _S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELED, _S.EXPIRED}) - {state}
        for state in (_S.CANCELED, _S.EXPIRED, _S.REJECTED)
    }
)
"""What later truth from the exchange may do to an order that was closed here."""

RESTARTS: Final = frozenset({_S.EXPIRED, _S.REJECTED})
"""Final states from which an order that provably never left may start afresh under the same id."""


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of an order. ``trade_id`` is the exchange's and the only key: a fill is booked once."""

    trade_id: str
    price: Decimal
    amount: Decimal
    fee: Decimal
    fee_currency: str
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return record_to_dict(self)


class Step(StrEnum):
    """The steps by which an order is confirmed."""

    RECEIPT = "receipt"
    """The exchange answered with its id."""
    VISIBLE = "visible"
    """A read of ours saw the order at the exchange."""
    FILLS = "fills"
    """The order is final and its fills add up to what the exchange says was filled."""
    BALANCE = "balance"
    """The account's balances moved by what the fills say."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One step of confirmation, with its time and, where it did not agree, what was seen."""

    step: Step
    at: datetime
    ok: bool = True
    detail: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return record_to_dict(self)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a caller wants, validated and in exact decimals. ``client_order_id`` becomes the order's id."""

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    amount: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order as the executor knows it. A change makes a new record with ``version + 1``."""

    order_id: str
    symbol: str
    side: Side
    type: OrderType
    amount: Decimal
    created_at: datetime
    updated_at: datetime
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    state: OrderState = OrderState.PENDING
    exchange_order_id: str | None = None
    filled: Decimal = ZERO
    average_price: Decimal | None = None
    fees: Mapping[str, Decimal] = field(default_factory=lambda: NOTHING)
    fills: tuple[Fill, ...] = ()
    attempts: int = 0
    """How often the order was (perhaps) put on the wire, under one and the same id."""
    reason: str | None = None
    """Why the order stands where it stands: the exchange's words, or one of ours (``never_arrived`` …)."""
    sent_at: datetime | None = None
    """When the last attempt began."""
    confirmations: tuple[Confirmation, ...] = ()
    cancel_requested: bool = False
    external: bool = False
    """Found at the exchange by a reconciliation; not placed by this executor."""
    restartable: bool = False
    """Provably nothing of it is at the exchange and no caller was told a verdict that forbids a new start."""
    version: int = 0

    @property
    def remaining(self) -> Decimal:
        """What has not traded; of a final order, what never will."""
        return EXACT.subtract(self.amount, self.filled)

    @property
    def fills_complete(self) -> bool:
        """True when the known fills add up to ``filled``."""
        return total(fill.amount for fill in self.fills) == self.filled

    @property
    def is_settled(self) -> bool:
        """True when nothing more is to be learnt: the order is final, and its fills are told or never will be."""
        return self.state.is_final and (not self.filled or self.confirmed(Step.FILLS))

    def confirmed(self, step: Step) -> bool:
        """True when this step is recorded."""
        for confirmation in self.confirmations:  # noqa: SIM110 - a generator costs more than the few steps
            if confirmation.step is step:
                return True
        return False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, ``remaining`` included."""
        return {**record_to_dict(self), "remaining": plain_decimal(self.remaining)}


class EventKind(StrEnum):
    """What happened to an order."""

    INTENT = "intent"
    """Durable before the first byte leaves; also when an order that never left starts afresh."""
    RESEND = "resend"
    """Durable before the same id is sent once more."""
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UPDATED = "updated"
    FILL = "fill"
    CANCEL_REQUESTED = "cancel_requested"
    CLOSED = "closed"
    CONFIRMED = "confirmed"
    ADOPTED = "adopted"
    REOPENED = "reopened"
    REPAIRED = "repaired"


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One change of one order. ``order`` is the record after it; ``order.version`` numbers the events."""

    order: Order
    kind: EventKind
    previous: OrderState | None
    at: datetime
    fill: Fill | None = None
    detail: str | None = None

    @property
    def order_id(self) -> str:
        """The order's id."""
        return self.order.order_id

    @property
    def state(self) -> OrderState:
        """The order's state after the event."""
        return self.order.state

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values of the change itself, without the whole order."""
        order = self.order
        return {
            "order_id": order.order_id,
            "version": order.version,
            "kind": _TEXTS[self.kind],
            "at": self.at.isoformat(),
            "previous": None if self.previous is None else _TEXTS[self.previous],
            "state": _TEXTS[order.state],
            "exchange_order_id": order.exchange_order_id,
            "attempts": order.attempts,
            "filled": plain_decimal(order.filled),
            "reason": order.reason,
            "fill": None if self.fill is None else self.fill.to_dict(),
            "detail": self.detail,
        }


_TEXTS: Final[Mapping[str, str]] = {item: item.value for kinds in (EventKind, OrderState) for item in kinds}
"""What journals are told for a kind or state: every event asks thrice, and ``value`` is slow to answer."""

make_confirmation = maker(Confirmation)
make_request = maker(OrderRequest)
make_order = maker(Order)
make_event = maker(OrderEvent)
"""These four as their classes make them, cheaper: for what every order needs on its way."""

evolve = changer(Order)
"""A copy of an order with some fields changed. Raises TypeError for a field that an order has not."""


class CircuitState(StrEnum):
    """Where a circuit breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStats:
    """Counts since the executor was opened, and where it stands now. Durations are in seconds."""

    orders: Mapping[str, int]
    """How many calls ended how: accepted, rejected, not_sent, unresolved, invalid."""
    open_orders: int
    unresolved_orders: int
    fills: int
    retries: int
    """How often an order was sent once more under its own id."""
    ack_latency_p50: float | None
    ack_latency_p99: float | None
    error_rate_per_minute: float
    circuits: Mapping[str, CircuitState]
    """The breaker of each lane: submit, cancel, query."""
    journal_lag: float
    halted: str | None
    """Why the kill switch is on; None when it is off."""
    started_at: datetime
    last_reconciliation_at: datetime | None

    @property
    def circuit_state(self) -> CircuitState:
        """The breaker on the way of new orders."""
        return self.circuits["submit"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**record_to_dict(self), "circuit_state": self.circuit_state.value}


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that a reconciliation found, and what was done about it."""

    kind: str
    """mismatched, missing, extra, fills or balance."""
    order_id: str | None
    exchange_order_id: str | None
    symbol: str | None
    differences: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Field → (journal's value, exchange's value)."""
    repaired: bool = False
    action: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return record_to_dict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationReport:
    """The outcome of comparing journal and exchange over a period."""

    period: str
    since: datetime
    until: datetime
    started_at: datetime
    finished_at: datetime
    total_orders: int
    matched_orders: int
    mismatched_orders: int
    missing_orders: int
    extra_orders: int
    unresolved_orders: int = 0
    """Orders in flight or undecidable; they are neither matched nor a discrepancy."""
    repaired: int = 0
    read_only: bool = False
    """True when another process owns the journal and repairs are left to it."""
    alert_triggered: bool = False
    details: tuple[Discrepancy, ...] = ()

    @property
    def mismatch_percentage(self) -> float:
        """Discrepant orders of all orders, in percent; 0.0 where there are none."""
        discrepant = self.mismatched_orders + self.missing_orders + self.extra_orders
        return 100.0 * discrepant / self.total_orders if self.total_orders else 0.0

    @property
    def is_clean(self) -> bool:
        """True when nothing differed, balances and fills included."""
        return not self.details

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            **record_to_dict(self),
            "mismatch_percentage": self.mismatch_percentage,
            "is_clean": self.is_clean,
        }


def plain_decimal(value: Decimal) -> str:
    """Write a decimal in plain notation, without an exponent."""
    return format(value, "f")


def to_plain(value: Any) -> Any:
    """Turn a record into JSON-ready values: decimals and times become strings, enums their values."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [to_plain(item) for item in value]
    return record_to_dict(value)


def record_to_dict(record: Any) -> dict[str, Any]:
    """Turn one record (a dataclass) into JSON-ready values, field by field."""
    return {item.name: to_plain(getattr(record, item.name)) for item in fields(record)}
