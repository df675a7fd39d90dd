"""The last layers before the exchange: rate limiter → breaker → time limit → gateway, one lane each.

Whatever comes out of here is one of the outcomes of :mod:`.gateways.base`, decided by type. Nothing is retried.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

from .circuit_breaker import CircuitBreaker, Permit
from .clock import Clock
from .errors import CircuitOpen, ErrorCategory, InvalidOrder
from .gateways.base import (
    Accepted,
    Found,
    Gateway,
    NotFound,
    NotSent,
    OrderRef,
    Rejected,
    Unavailable,
    Unknown,
)
from .metrics import Metrics
from .models import OrderRequest
from .rate_limit import RateLimiter
from .time_limits import LimitLine, TimeLimit

_logger = logging.getLogger(__name__)

R = TypeVar("R")
Q = TypeVar("Q")
WriteOutcome = Accepted | Rejected | NotSent | Unknown


class Lane(StrEnum):
    """Requests that must not block each other: an open submit lane never blocks cancels or queries."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    QUERY = "query"


SUBMIT: Final = Lane.SUBMIT
"""Every order comes past it: a member of an enumeration is looked up at the price of a call."""


class Wire:
    """One gateway, guarded. ``timeout`` is in seconds and holds for one attempt."""

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        limiter: RateLimiter,
        breakers: Mapping[Lane, CircuitBreaker],
        metrics: Metrics,
        *,
        timeout: float,
    ) -> None:
        self.gateway = gateway
        self.breakers = breakers
        self._clock = clock
        self._limiter = limiter
        self._metrics = metrics
        self._timeout = timeout
        self._limits = LimitLine()

    async def leave(self, lane: Lane, deadline: float) -> Permit | NotSent:
        """Wait until a write may leave in this lane; its permit is to be used, or given back (``neutral``).

        NotSent where our own rate limit outlasts the deadline. Raises CircuitOpen when the breaker refuses.
        """
        breaker = self.breakers[lane]
        breaker.check()  # a refused request shall not use up the rate of others
        if not self._limiter.take(lane) and not await self._limiter.acquire(lane, deadline):
            return NotSent(ErrorCategory.RATE_LIMITED, "our own rate limit outlasts the deadline")
        permit = breaker.acquire()
        return await self._probe(lane, permit) if permit.is_probe else permit

    def submit(self, request: OrderRequest, permit: Permit) -> Awaitable[WriteOutcome]:
        """Send an order once, by leave of the lane SUBMIT."""
        return self._write(SUBMIT, permit, self.gateway.submit, request)

    async def cancel(self, ref: OrderRef, deadline: float) -> WriteOutcome:
        """Ask for a cancel once. Raises CircuitOpen when the breaker refuses."""
        permit = await self.leave(Lane.CANCEL, deadline)
        if isinstance(permit, NotSent):
            return permit
        return await self._write(Lane.CANCEL, permit, self.gateway.cancel, ref)

    async def query(self, ref: OrderRef, deadline: float) -> Found | NotFound | Unavailable:
        """Look one order up."""
        return await self.read(lambda: self.gateway.query(ref), deadline)

    async def read(self, call: Callable[[], Awaitable[R]], deadline: float) -> R | Unavailable:
        """Make one read; whatever is no answer is Unavailable."""
        if not self._limiter.take(Lane.QUERY) and not await self._limiter.acquire(Lane.QUERY, deadline):
            return Unavailable(ErrorCategory.RATE_LIMITED, "our own rate limit outlasts the deadline")
        try:
            permit = self.breakers[Lane.QUERY].acquire()
        except CircuitOpen as error:
            return Unavailable(ErrorCategory.CIRCUIT_OPEN, str(error), error.retry_after)
        answer: R | Unavailable
        try:
            with TimeLimit(self._limits, self._timeout):
                answer = await call()
        except asyncio.CancelledError:
            permit.neutral()
            raise
        except TimeoutError:
            answer = Unavailable(ErrorCategory.TIMEOUT, f"no answer within {self._timeout:g} s")
        except InvalidOrder:
            permit.success()  # the gateway refused our own parameters; that is no fault of the exchange
            raise
        except Exception as error:
            _logger.exception("the %s gateway failed while reading", self.gateway.name)
            answer = Unavailable(ErrorCategory.INTERNAL, type(error).__name__)
        self._account(Lane.QUERY, permit, answer)
        return answer

    async def _write(
        self, lane: Lane, permit: Permit, send: Callable[[Q], Awaitable[WriteOutcome]], what: Q
    ) -> WriteOutcome:
        outcome: WriteOutcome
        try:
            with TimeLimit(self._limits, self._timeout):
                outcome = await send(what)
        except asyncio.CancelledError:
            permit.neutral()
            raise
        except TimeoutError:
            outcome = Unknown(ErrorCategory.TIMEOUT, f"no answer within {self._timeout:g} s")
        except Exception as error:
            # A gateway classifies everything; what it lets through is a defect, and the request may have left.
            _logger.exception("the %s gateway failed while writing", self.gateway.name)
            outcome = Unknown(ErrorCategory.INTERNAL, type(error).__name__)
        self._account(lane, permit, outcome)
        return outcome

    async def _probe(self, lane: Lane, permit: Permit) -> Permit:
        """Probe a half-open breaker by reads, never by a live order, until it gives an ordinary permit."""
        breaker = self.breakers[lane]
        probes = 0
        while permit.is_probe:
            probes += 1
            try:
                with TimeLimit(self._limits, self._timeout):
                    problem = await self.gateway.ping()
            except asyncio.CancelledError:
                permit.neutral()
                raise
            except Exception as error:
                _logger.exception("the %s gateway failed while probing", self.gateway.name)
                problem = Unavailable(ErrorCategory.INTERNAL, type(error).__name__)
            if problem is not None:
                permit.failure()
                breaker.check()
                raise CircuitOpen(lane, retry_after=0.0)
            permit.success()
            permit = breaker.acquire()
            if probes >= _MAX_PROBES:
                permit.neutral()
                raise CircuitOpen(lane, retry_after=0.0)
        return permit

    def _account(self, lane: Lane, permit: Permit, outcome: object) -> None:
        """Tell breaker, limiter and metrics what an attempt came to."""
        if not isinstance(outcome, (NotSent, Unknown, Unavailable)):
            permit.success()
            self._metrics.attempted(lane, type(outcome).__name__.lower(), "none")
            return
        if not isinstance(outcome, Unknown) and outcome.local:
            permit.neutral()
        elif outcome.category is ErrorCategory.RATE_LIMITED:
            # A throttled exchange is alive; slowing down is the limiter's work, not the breaker's.
            permit.neutral()
            if outcome.retry_after is not None:
                self._limiter.penalise(outcome.retry_after)
        else:
            permit.failure()
        self._metrics.attempted(lane, type(outcome).__name__.lower(), outcome.category)


_MAX_PROBES = 100
