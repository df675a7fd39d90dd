"""The commit phase: make the intent durable, send, and take the answer for what it says and no more."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from . import lifecycle
from .clock import Clock
from .errors import (
    CircuitOpen,
    ErrorCategory,
    ExecutorHalted,
    JournalError,
    JournalUnavailable,
    LeaseLost,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
)
from .gateways.base import Accepted, NotSent, Rejected, Unknown
from .journals.base import Journal
from .metrics import Metrics
from .models import Order, OrderState
from .registry import OrderRegistry
from .retry import Retryable, RetryBudget, RetryPolicy, run_with_retry
from .time_limits import LimitLine, TimeLimit
from .wire import SUBMIT, Wire

_logger = logging.getLogger(__name__)

MAX_CLOCK_ERROR_SECONDS = 60.0
"""Beyond it no order is placed: lists asked for by time could leave out the very order that is looked for."""
DOUBTFUL_ON_RESEND = frozenset({"insufficient_funds"})
"""Refusals that, on a second copy of an order, suggest that the first one landed."""
LOOKED_UP_FIRST = frozenset({"duplicate_order"})
"""Refusals of an order that equals another one, maybe a copy of itself that somebody on the way sent twice."""
_WAITING: Final = frozenset({OrderState.PENDING, OrderState.UNKNOWN})
_UNDECIDED: Final = frozenset({OrderState.PENDING, OrderState.SENDING, OrderState.UNKNOWN})


@dataclass(slots=True)
class Doubt:
    """What is known of an order whose fate is not, beyond its record."""

    left_by: float
    """Monotonic time by which the last request had left, if it did: from here its expiry is counted."""
    category: ErrorCategory = ErrorCategory.INTERNAL
    began: float | None = None
    """Monotonic time before which no request for it left in this life; None: it left in an earlier one."""
    refusal: str | None = None
    """An explicit refusal that is believed once a lookup finds nothing."""
    duplicate: bool = False
    """That refusal says that the id exists already."""


@dataclass(slots=True)
class KillSwitch:
    """Whether new orders are refused, and why."""

    reason: str | None = None

    def check(self, order_id: str | None = None) -> None:
        """Raise ExecutorHalted while the switch is on."""
        if self.reason is not None:
            raise ExecutorHalted(self.reason, order_id=order_id)


@dataclass(slots=True)
class SubmissionCounters:
    """What the statistics tell of submissions."""

    retries: int = 0
    ack_seconds: list[float] = field(default_factory=list)

    def acknowledged(self, seconds: float) -> None:
        """Keep the latest thousand durations."""
        self.ack_seconds.append(seconds)
        if len(self.ack_seconds) > 2_000:
            del self.ack_seconds[:1_000]


class Submission:
    """Sends orders. One id per order, whatever happens; ambiguity is handed to ``resolve_later``."""

    def __init__(
        self,
        wire: Wire,
        registry: OrderRegistry,
        journal: Journal,
        clock: Clock,
        rng: random.Random,
        policy: RetryPolicy,
        budget: RetryBudget,
        switch: KillSwitch,
        metrics: Metrics,
        resolve_later: Callable[[str, Doubt], None],
        on_doubled: Callable[[Order, str], None],
    ) -> None:
        self.policy = policy
        self.budget = budget
        self.counters = SubmissionCounters()
        self._wire = wire
        self._registry = registry
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._switch = switch
        self._metrics = metrics
        self._resolve_later = resolve_later
        self._on_doubled = on_doubled
        self._limits = LimitLine()

    async def place(self, order: Order, deadline: float) -> Order:
        """Send an order, again as long as it provably did not leave, and wait until its fate is known.

        Somebody must want it meanwhile (see :meth:`OrderRegistry.want`), or it is not sent.
        Raises OrderNotSent (and what is below it), OrderRejected, OrderUnresolved.
        """
        order_id = order.order_id
        try:
            await run_with_retry(
                lambda: self.attempt(order, deadline),
                self.policy,
                self.budget,
                deadline,
                self._clock.monotonic,
                self._rng,
                on_retry=self._count_retry,
                earned=_is_decided,  # what is in doubt is no success, and earns no further retries
            )
        except Retryable as error:
            self.give_up(order_id, lifecycle.NEVER_SENT, str(error))
            raise OrderNotSent(f"order {order_id} was never sent: {error}", order_id=order_id) from error
        except OrderNotSent as error:
            self.give_up(order_id, error.reason, str(error))
            error.order_id = order_id
            raise
        except asyncio.CancelledError:
            self.give_up(order_id, lifecycle.NEVER_SENT, "the caller was cancelled before it was sent")
            raise
        placed = self._registry.get(order_id)
        if placed is None or not _is_decided(placed):
            placed = await self.decided(order_id, deadline)
        return verdict(placed)

    async def decided(self, order_id: str, deadline: float) -> Order:
        """Wait until the exchange has, or provably has not, the order, and give it whatever became of it.

        Raises OrderUnresolved once ``deadline`` has passed.
        """
        order = await self._registry.wait_until(order_id, _is_decided, deadline)
        if order is None:
            raise OrderUnresolved(order_id, "no answer within the deadline; it is being resolved further")
        return order

    async def attempt(self, order: Order, deadline: float) -> Order:
        """Make one attempt and record what came of it; none if the order has moved on meanwhile.

        Raises Retryable when it provably never reached the exchange and may be made again, OrderNotSent when
        it may not. On cancellation the order is left UNKNOWN, and somebody goes on resolving it.
        """
        self._switch.check(order.order_id)
        permit = await self._wire.leave(SUBMIT, deadline)
        if isinstance(permit, NotSent):
            raise Retryable(permit.category, permit.message, permit.retry_after)
        try:
            sending = await self._make_durable(order, deadline)
        except _OvertakenError:
            permit.neutral()
            return self._registry.get(order.order_id) or order
        except BaseException:
            permit.neutral()
            raise
        started = self._clock.monotonic()
        try:
            outcome = await self._wire.submit(lifecycle.request_of(sending), permit)
        except asyncio.CancelledError:
            doubt = Doubt(self._clock.monotonic(), ErrorCategory.CANCELLED, began=started)
            self._doubt(sending, doubt, "the caller was cancelled")
            raise
        return self._take(sending, outcome, started)

    async def _make_durable(self, order: Order, deadline: float) -> Order:
        """Journal the intent, or the resend, and make sure that the order is still ours to send, and wanted."""
        if self._clock_is_wrong() or not self._journal.is_ready:
            await self._until_ready(deadline)
        current = self._registry.get(order.order_id) or order
        if not _may_be_sent(current) or self._is_unwanted(current):
            raise _OvertakenError
        try:
            with TimeLimit(self._limits, self._time_left(deadline)):
                sending = await self._registry.commit(lifecycle.intend(current, self._clock.now()))
        except TimeoutError:
            self._withdraw(current, "the intent was not durable within the deadline, so nothing was sent")
            raise JournalUnavailable(
                "the intent was not durable within the deadline, so nothing was sent"
            ) from None
        except JournalUnavailable:
            self._withdraw(current, "the journal refused the intent, so nothing was sent")
            raise
        except JournalError as error:
            # A wish to cancel may have come on top of the intent meanwhile: then it was not taken back.
            self._withdraw(current, "the intent may not be durable, so nothing was sent")
            raise JournalUnavailable(f"the intent may not be durable, so nothing was sent: {error}") from error
        except asyncio.CancelledError:
            self._withdraw(current, "the caller was cancelled before it was sent")
            raise
        if not self._journal.owns(order.order_id):
            self._registry.forget(order.order_id)
            raise LeaseLost(f"another process has taken order {order.order_id} over")
        if self._switch.reason is not None:
            self._withdraw(current, f"halted: {self._switch.reason}")
            self._switch.check(order.order_id)
        if self._is_unwanted(self._registry.get(order.order_id) or sending):
            self._withdraw(current, "nobody wants it any more, so it was not sent")
            raise _OvertakenError
        return sending

    def _is_unwanted(self, order: Order) -> bool:
        """Whether it was cancelled, or all its callers have gone, while it waited for its turn."""
        if order.state.is_final:
            return False  # what cancelled an earlier start does not concern this one
        return order.cancel_requested or not self._registry.is_wanted(order.order_id)

    def _clock_is_wrong(self) -> bool:
        return abs(self._wire.gateway.clock_error or 0.0) > MAX_CLOCK_ERROR_SECONDS

    async def _check_clock(self, deadline: float) -> None:
        """Ask a clock that is plainly wrong once more: by such a one no order is placed. Raises OrderNotSent."""
        gateway = self._wire.gateway
        await self._wire.read(gateway.ping, deadline)  # the exchange's time may be old
        error = gateway.clock_error or 0.0
        if abs(error) > MAX_CLOCK_ERROR_SECONDS:
            way = "ahead of" if error > 0 else "behind"
            message = f"this machine's clock is {abs(error):.0f} s {way} the exchange's; set it right first"
            raise OrderNotSent(message, reason="clock")

    async def _until_ready(self, deadline: float) -> None:
        """Wait before there is an intent: one that waits in force could be overtaken by what comes after it."""
        if self._clock_is_wrong():
            await self._check_clock(deadline)
        if self._journal.is_ready:
            return
        try:
            with TimeLimit(self._limits, self._time_left(deadline)):
                await self._journal.ready()
        except TimeoutError:
            raise JournalUnavailable(
                "the journal was still being checked at the deadline, so nothing was sent"
            ) from None

    def _time_left(self, deadline: float) -> float:
        """Raise OrderNotSent when it is too late: the price is stale, and the caller has gone."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise OrderNotSent("its deadline passed before it was sent", reason="deadline")
        return left

    def _withdraw(self, before: Order, detail: str) -> None:
        """Take back an intent whose request did not leave; an earlier copy of the order may still be out."""
        sending = self._registry.get(before.order_id)
        if sending is None or sending.state is not OrderState.SENDING:
            return
        now = self._clock.now()
        if before.state is OrderState.UNKNOWN:
            self._registry.record(lifecycle.unknown(sending, now, detail))
        else:
            self._registry.record(lifecycle.never_left(sending, now, lifecycle.NEVER_SENT, detail))

    def _take(self, sending: Order, outcome: Accepted | Rejected | NotSent | Unknown, started: float) -> Order:
        """Record the outcome of an attempt. ``sending`` may have moved on meanwhile: a stream may be faster."""
        current = self._registry.get(sending.order_id) or sending
        if not current.state.is_unresolved:
            if isinstance(outcome, Accepted) and current.exchange_order_id not in (None, outcome.exchange_order_id):
                self._on_doubled(current, outcome.exchange_order_id)
            return current
        if isinstance(outcome, Accepted):
            return self._accept(current, outcome, started)
        now = self._clock.now()
        if isinstance(outcome, NotSent):
            left = self._registry.record(lifecycle.not_sent(current, now, f"{outcome.category}: {outcome.message}"))
            if left.state.is_final:
                return left
            raise Retryable(outcome.category, outcome.message, outcome.retry_after)
        if isinstance(outcome, Rejected):
            again = current.attempts > 1
            doubtful = outcome.reason in LOOKED_UP_FIRST or (again and outcome.reason in DOUBTFUL_ON_RESEND)
            if outcome.duplicate_id or doubtful:
                doubt = Doubt(
                    self._clock.monotonic(),
                    ErrorCategory.BAD_RESPONSE,
                    started,
                    outcome.reason,
                    outcome.duplicate_id,
                )
                return self._doubt(current, doubt, f"refused as {outcome.reason}: looked up before it is believed")
            return self._registry.record(lifecycle.rejected(current, now, outcome.reason))
        return self._doubt(
            current,
            Doubt(self._clock.monotonic(), outcome.category, began=started),
            f"{outcome.category}: {outcome.message}",
        )

    def _accept(self, current: Order, outcome: Accepted, started: float) -> Order:
        seconds = self._clock.monotonic() - started
        self.counters.acknowledged(seconds)
        self._metrics.acknowledged(seconds)
        now = self._clock.now()
        order = self._registry.record(lifecycle.accepted(current, now, outcome.exchange_order_id))
        if outcome.order is not None:
            self._registry.record_all(lifecycle.merge(order, outcome.order, now, read=False))
        return self._registry.get(order.order_id) or order

    def _doubt(self, order: Order, doubt: Doubt, detail: str) -> Order:
        current = self._registry.get(order.order_id) or order
        if current.state is not OrderState.UNKNOWN and current.state.is_unresolved:
            current = self._registry.record(lifecycle.unknown(current, self._clock.now(), detail))
        if current.state.is_unresolved:
            self._resolve_later(current.order_id, doubt)
        return current

    def give_up(self, order_id: str, reason: str, detail: str) -> None:
        """Close an order that waits to be sent again; one that may have left is not touched."""
        order = self._registry.get(order_id)
        if order is not None and order.state is OrderState.PENDING:
            self._registry.record(lifecycle.never_left(order, self._clock.now(), reason, detail))

    def _count_retry(self, attempt: int, delay: float, error: Retryable) -> None:
        self.counters.retries += 1
        self._metrics.retried(error.category)
        _logger.info("retry %d in %.2f s: %s", attempt, delay, error)


class _OvertakenError(Exception):
    """The order moved on while it waited for its turn to be sent: nothing was sent."""


def _may_be_sent(order: Order) -> bool:
    """Whether the order still waits to be sent: new, provably not sent, unknown, or free to start afresh."""
    return order.state in _WAITING or (order.state.is_final and order.restartable)


def _is_decided(order: Order) -> bool:
    return order.state not in _UNDECIDED


def verdict(order: Order) -> Order:
    """Give back a placed order, whatever became of it; raise what one that was not placed means to its caller."""
    if order.state in _UNDECIDED:
        raise OrderUnresolved(order.order_id, f"it is {order.state.value}")
    if not order.state.is_final:
        return order
    if order.state is OrderState.REJECTED and order.exchange_order_id is None:
        raise OrderRejected(order.order_id, order.reason or "no reason given")
    if order.state is OrderState.CANCELED and order.exchange_order_id is None:
        raise OrderRejected(order.order_id, order.reason or "canceled before it was sent")
    if order.state is OrderState.EXPIRED and order.restartable:
        raise _not_sent_error(order)
    return order


def _not_sent_error(order: Order) -> OrderNotSent:
    reason = order.reason or lifecycle.NEVER_SENT
    if reason == "circuit_open":
        return CircuitOpen("submit", retry_after=0.0, order_id=order.order_id)
    return OrderNotSent(f"order {order.order_id} was never sent: {reason}", order_id=order.order_id, reason=reason)
