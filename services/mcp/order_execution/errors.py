"""Every error that the executor raises, and the categories of what can go wrong on the wire.

The *type* of an error answers the question "may my order be on the exchange?":

    OrderExecutionError
    ├── ConfigurationError            nothing was done; names the setting and what was expected
    ├── InvalidOrder (ValueError)     nothing was sent; names the field and what was expected
    │   └── DuplicateOrder            the id is taken by an order with other parameters
    ├── OrderNotFound (KeyError)      neither the executor nor, where it was asked, the exchange knows the id
    ├── OrderNotSent                  provably never left; executing the same id again starts afresh
    │   ├── CircuitOpen               the breaker refused it; carries retry_after
    │   ├── ExecutorHalted            the kill switch is on
    │   ├── RiskLimitExceeded         a limit of ours refused it
    │   ├── InsufficientFunds         the free balance, less what is reserved, does not cover it
    │   └── JournalUnavailable        the intent could not be made durable, so nothing was sent
    │       ├── JournalLagging        the journal is slower than its bound
    │       └── JournalFull           too little disk space for further intents
    ├── ExecutorClosed                nothing was done by this call; an earlier one may have placed the order
    ├── OrderRejected                 the exchange refused it, or it provably never arrived; nothing rests
    ├── OrderUnresolved               it MAY be on the exchange; the executor goes on resolving it
    ├── ExchangeUnavailable           a read was not answered; says nothing about any order
    ├── JournalError                  the durable record failed
    │   ├── JournalLocked             another process writes to this journal
    │   ├── JournalReadOnly           opened as a read-only companion of another process
    │   ├── JournalSchemaError        written by a newer version of this library, or not a journal at all
    │   └── LeaseLost                 this process no longer owns the order
    └── SubscriberTooSlow             an events() reader fell so far behind that events would have been lost
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCategory(StrEnum):
    """What went wrong with one attempt; the names that ``retry.retryable_errors`` takes."""

    CONNECTION = "connection"
    """No connection was made: refused, DNS, TLS."""
    TIMEOUT = "timeout"
    """No answer within the time for one attempt."""
    RESET = "reset"
    """The connection broke after the request may have left."""
    RATE_LIMITED = "rate_limited"
    """The exchange asked for fewer requests."""
    SERVER_ERROR = "server_error"
    """A 5xx answer."""
    MAINTENANCE = "maintenance"
    """The exchange says that it is closed for now."""
    BAD_RESPONSE = "bad_response"
    """An answer that cannot be understood: cut short, not JSON, without an id."""
    CIRCUIT_OPEN = "circuit_open"
    """The breaker let nothing through. Never retried: waiting is its very purpose."""
    AUTHENTICATION = "authentication"
    """The exchange does not accept the credentials. Never retried: exchanges ban for it."""
    CANCELLED = "cancelled"
    """The task was cancelled while the request was under way."""
    INTERNAL = "internal"
    """A defect in a gateway."""


class OrderExecutionError(Exception):
    """Base of everything that the executor raises on purpose."""


class ConfigurationError(OrderExecutionError):
    """A setting is wrong; the configuration that was in force stays so."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidOrder(OrderExecutionError, ValueError):
    """The order's parameters are wrong; nothing was sent."""

    def __init__(self, field: str, expected: str, *, got: object = None) -> None:
        shown = "" if got is None else f", got {str(got)[:80]!r}"
        super().__init__(f"{field}: expected {expected}{shown}")
        self.field = field
        self.expected = expected


class DuplicateOrder(InvalidOrder):
    """The client order id already belongs to an order with other parameters."""

    def __init__(self, order_id: str, differing: tuple[str, ...]) -> None:
        super().__init__(
            "client_order_id",
            f"a new id, since {order_id!r} is taken by an order that differs in {', '.join(differing)}",
        )
        self.order_id = order_id


class OrderNotFound(OrderExecutionError, KeyError):
    """Nobody knows this id."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"no order has the id {order_id!r}")
        self.order_id = order_id

    def __str__(self) -> str:
        return str(self.args[0])


class OrderNotSent(OrderExecutionError):
    """The order provably never left; the same id may be executed again and starts afresh."""

    def __init__(self, message: str, *, order_id: str | None = None, reason: str = "never_sent") -> None:
        super().__init__(message)
        self.order_id = order_id
        self.reason = reason


class CircuitOpen(OrderNotSent):
    """The breaker refused the order. ``retry_after`` is in seconds, None while it is forced open."""

    def __init__(self, lane: str, *, retry_after: float | None, order_id: str | None = None) -> None:
        when = "an operator closes it" if retry_after is None else f"{retry_after:.1f} s have passed"
        super().__init__(
            f"the {lane} circuit is open until {when}; nothing was sent",
            order_id=order_id,
            reason="circuit_open",
        )
        self.lane = lane
        self.retry_after = retry_after


class ExecutorHalted(OrderNotSent):
    """The kill switch is on: no new orders until ``resume()``."""

    def __init__(self, why: str, *, order_id: str | None = None) -> None:
        super().__init__(f"the executor is halted: {why}", order_id=order_id, reason="halted")
        self.why = why


class ExecutorClosed(OrderExecutionError):
    """The executor is closed or closing, and this call did nothing.

    That says nothing of the order: an earlier call under the same id may have placed it, and the journal, which
    would know, is closed. Execute the same id again after the next start.
    """

    def __init__(self, message: str = "the executor is closed", *, order_id: str | None = None) -> None:
        super().__init__(message)
        self.order_id = order_id


class RiskLimitExceeded(OrderNotSent):
    """One of the configured risk limits refused the order; ``limit`` is its configuration key."""

    def __init__(self, limit: str, message: str, *, order_id: str | None = None) -> None:
        super().__init__(f"risk.{limit}: {message}", order_id=order_id, reason="risk_limit")
        self.limit = limit


class InsufficientFunds(OrderNotSent):
    """The free balance, less what orders in flight have reserved, does not cover the order."""

    def __init__(self, message: str, *, order_id: str | None = None) -> None:
        super().__init__(message, order_id=order_id, reason="insufficient_funds")


class JournalUnavailable(OrderNotSent):
    """The intent could not be made durable, so the order was not sent."""

    def __init__(self, message: str, *, order_id: str | None = None) -> None:
        super().__init__(message, order_id=order_id, reason="journal_unavailable")


class JournalLagging(JournalUnavailable):
    """The journal takes longer than its bound; orders are refused rather than delayed unseen."""


class JournalFull(JournalUnavailable):
    """Free disk space is below the threshold that is kept for closing what is open."""


class OrderRejected(OrderExecutionError):
    """The exchange explicitly refused the order, or it provably never arrived; nothing rests there."""

    def __init__(self, order_id: str, reason: str) -> None:
        super().__init__(f"order {order_id} was rejected: {reason}")
        self.order_id = order_id
        self.reason = reason


class OrderUnresolved(OrderExecutionError):
    """The order may be on the exchange. Ask again with the same id; never send it under another one."""

    def __init__(self, order_id: str, detail: str) -> None:
        super().__init__(f"order {order_id} is unresolved and may be on the exchange: {detail}")
        self.order_id = order_id
        self.detail = detail


class ExchangeUnavailable(OrderExecutionError):
    """The exchange did not answer a question. This says nothing about any order."""

    def __init__(self, message: str, *, category: ErrorCategory, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.category = category
        self.retry_after = retry_after


class JournalError(OrderExecutionError):
    """The durable record failed."""


class JournalLocked(JournalError):
    """Another process writes to this journal."""


class JournalReadOnly(JournalError):
    """This process has opened the journal for reading only."""


class JournalSchemaError(JournalError):
    """The file is not a journal, or a newer version of this library wrote it."""


class LeaseLost(JournalError):
    """Another process has taken this order over; nothing was sent."""


class SubscriberTooSlow(OrderExecutionError):
    """An ``events()`` reader fell so far behind that events would have been lost; subscribe again."""
