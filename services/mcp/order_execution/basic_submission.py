"""Sending without a journal: again only what provably did not leave, and nothing that was stopped meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import lifecycle
from .clock import Clock
from .errors import ErrorCategory, OrderNotSent
from .gateways.base import Accepted, Gateway, NotSent, Rejected, Unknown
from .models import Order, OrderState
from .order_memory import OrderMemory
from .retry import Retryable, RetryBudget, RetryPolicy, run_with_retry
from .submission import SubmissionCounters

if TYPE_CHECKING:
    from .config import Settings

_logger = logging.getLogger(__name__)


class BasicSubmission:
    """Sends orders, and keeps in the memory what came of it."""

    def __init__(
        self,
        memory: OrderMemory,
        clock: Clock,
        rng: random.Random,
        settings: Callable[[], Settings],
        check_accepting: Callable[[str], None],
    ) -> None:
        """``check_accepting`` is called with the id before each attempt; it raises where none may be made."""
        self.counters = SubmissionCounters()
        self.doubtful: dict[str, Rejected | None] = {}
        """Orders whose id may have been used by an earlier process: a refusal is kept here and not believed yet."""
        self._memory = memory
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._check_accepting = check_accepting
        self._unwanted: set[str] = set()
        """Orders that are being sent and that somebody wants cancelled: they are not sent again."""

    async def place(self, gateway: Gateway, order: Order, deadline: float) -> None:
        """Send an order, again as long as it provably did not leave. What became of it stands in the memory.

        However this ends, no order is left waiting for another attempt. Raises OrderNotSent, and whatever
        ``check_accepting`` raises.
        """
        try:
            await run_with_retry(
                lambda: self._attempt(gateway, order, deadline),
                self._policy(),
                RetryBudget(self._settings().retry.budget_tokens),
                deadline,
                self._clock.monotonic,
                self._rng,
                on_retry=self._count_retry,
            )
        except Retryable as error:
            self._give_up(order.order_id, lifecycle.NEVER_SENT, str(error))
            raise OrderNotSent(
                f"order {order.order_id} was never sent: {error}", order_id=order.order_id
            ) from error
        except BaseException as error:
            # Whatever ends the waiting for another attempt, above all the caller's leaving: there will be none.
            reason = error.reason if isinstance(error, OrderNotSent) else lifecycle.NEVER_SENT
            self._give_up(order.order_id, reason, type(error).__name__)
            raise
        finally:
            self._unwanted.discard(order.order_id)

    def stop(self, order: Order) -> Order:
        """Cancel an order as far as that takes no exchange: one that waits to be sent, or is free to start afresh.

        One that is just being sent goes its way, but it is not sent again if it did not leave.
        """
        if order.state is OrderState.PENDING:
            return self._memory.keep(lifecycle.canceled_before_sending(order, self._clock.now()))
        if order.restartable:  # a call that executes it again must not find it free to be sent
            return self._memory.keep(lifecycle.canceled_for_good(order, self._clock.now()))
        if order.state is OrderState.SENDING:
            self._unwanted.add(order.order_id)
        return order

    async def _attempt(self, gateway: Gateway, order: Order, deadline: float) -> None:
        """Send once and keep what it came to; nothing is sent of an order that has moved on meanwhile.

        Raises Retryable when it provably did not leave, OrderNotSent when its time is over.
        """
        current = self._memory.get(order.order_id) or order
        if current.state is not OrderState.PENDING and not current.restartable:
            return
        self._check_accepting(order.order_id)
        if self._clock.monotonic() >= deadline:
            # The price is stale, and the caller has gone.
            raise OrderNotSent("its deadline passed before it was sent", order_id=order.order_id, reason="deadline")
        sending = self._memory.keep(lifecycle.intend(current, self._clock.now()))
        started = self._clock.monotonic()
        outcome: Accepted | Rejected | NotSent | Unknown
        try:
            async with asyncio.timeout(self._settings().gateway.timeout_seconds):
                outcome = await gateway.submit(lifecycle.request_of(sending))
        except asyncio.CancelledError:
            self._take(sending, Unknown(ErrorCategory.CANCELLED, "the caller was cancelled"), started)
            raise
        except TimeoutError:
            outcome = Unknown(ErrorCategory.TIMEOUT, "no answer in time")
        except Exception as error:
            _logger.exception("the %s gateway failed while writing", gateway.name)
            outcome = Unknown(ErrorCategory.INTERNAL, type(error).__name__)
        self._take(sending, outcome, started)

    def _take(self, sending: Order, outcome: Accepted | Rejected | NotSent | Unknown, started: float) -> None:
        """Keep the outcome of an attempt. A look may have found the order meanwhile: what it saw then holds."""
        current = self._memory.get(sending.order_id) or sending
        if isinstance(outcome, Accepted):
            self.counters.acknowledged(self._clock.monotonic() - started)
            self._accept(current, outcome)
            return
        if current.state is not OrderState.SENDING:
            _logger.warning("order %s is %s, and yet: %s", current.order_id, current.state, outcome)
            return
        now = self._clock.now()
        if isinstance(outcome, NotSent):
            if current.order_id in self._unwanted:
                self._memory.keep(lifecycle.canceled_before_sending(current, now))
                return
            self._memory.keep(lifecycle.not_sent(current, now, outcome.message))
            raise Retryable(outcome.category, outcome.message, outcome.retry_after)
        if isinstance(outcome, Rejected) and current.order_id in self.doubtful:
            self.doubtful[current.order_id] = outcome
            self._memory.keep(lifecycle.unknown(current, now, f"refused as {outcome.reason}: looked up first"))
        elif isinstance(outcome, Rejected) and not outcome.duplicate_id:
            self._memory.keep(lifecycle.rejected(current, now, outcome.reason))
        else:
            detail = outcome.reason if isinstance(outcome, Rejected) else outcome.message
            self._memory.keep(lifecycle.unknown(current, now, detail))

    def _accept(self, current: Order, outcome: Accepted) -> None:
        now = self._clock.now()
        if current.state is OrderState.SENDING:
            current = self._memory.keep(lifecycle.accepted(current, now, outcome.exchange_order_id))
        if current.exchange_order_id != outcome.exchange_order_id:
            _logger.critical(
                "the exchange has two orders under the id %s: %s and %s; look at both of them",
                current.order_id,
                current.exchange_order_id,
                outcome.exchange_order_id,
            )
        elif outcome.order is not None:
            self._memory.keep_all(lifecycle.merge(current, outcome.order, now, read=False))

    def _give_up(self, order_id: str, reason: str, detail: str) -> None:
        """Close an order that waits to be sent again; one that may have left is not touched."""
        order = self._memory.get(order_id)
        if order is not None and order.state is OrderState.PENDING:
            self._memory.keep(lifecycle.never_left(order, self._clock.now(), reason, detail))

    def _policy(self) -> RetryPolicy:
        section = self._settings().retry
        return RetryPolicy(
            max_retries=section.max_retries,
            backoff_base=section.backoff_base,
            initial_delay=section.initial_delay,
            max_delay=section.max_delay,
            retryable_errors=frozenset(section.retryable_errors),
        )

    def _count_retry(self, attempt: int, delay: float, error: Retryable) -> None:
        self.counters.retries += 1
        _logger.info("retry %d in %.2f s: %s", attempt, delay, error)
