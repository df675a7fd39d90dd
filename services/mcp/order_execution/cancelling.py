"""Cancelling: a cancel that times out is not a cancel that failed, so what counts is what the order says after."""

from __future__ import annotations

import asyncio
import logging
import random

from . import lifecycle
from .clock import Clock
from .errors import CircuitOpen, JournalError, JournalUnavailable
from .gateways.base import Accepted, Found, Rejected, Unknown
from .models import Order, OrderState
from .registry import OrderRegistry
from .resolving import Resolver, ref_of
from .retry import RetryPolicy, poll_delay
from .wire import Wire

_logger = logging.getLogger(__name__)

WISH_SECONDS = 1.0
"""How long the journal may take with a wish to cancel: a disk that hangs stops new orders, never a cancel."""
REFUSALS_BELIEVED = 2
"""How often the exchange must refuse to cancel an order that it shows as open, before that is believed."""
REFUSAL_SPACING_SECONDS = 1.0
"""How far apart those refusals must be at least: an order that is not yet booked may refuse to be cancelled."""


class Canceller:
    """Cancels orders, each by one loop at a time."""

    def __init__(
        self,
        wire: Wire,
        registry: OrderRegistry,
        resolver: Resolver,
        clock: Clock,
        rng: random.Random,
        policy: RetryPolicy,
        *,
        background_seconds: float = 60.0,
    ) -> None:
        self.policy = policy
        self._wire = wire
        self._registry = registry
        self._resolver = resolver
        self._clock = clock
        self._rng = rng
        self._background_seconds = background_seconds
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        self._closed = False

    async def cancel(self, order: Order, deadline: float) -> bool:
        """Cancel an order. True: it will trade no further. False: it may, as far as is known by ``deadline``.

        The wish outlives the call: what is undecided by then goes on being cancelled.
        """
        order_id = order.order_id
        order = self._registry.get(order_id) or order
        while not order.state.is_final:
            await self._note_wish(order_id)
            self.pursue(order_id)
            done = await self._registry.wait_until(order_id, _is_answered, deadline)
            if done is None or not done.state.is_final:
                return False
            order = self._registry.get(order_id) or done  # it may have been started afresh before we woke
        if order.restartable:  # a call that executes it again, now or later, must not find it free to be sent
            self._registry.record(lifecycle.canceled_for_good(order, self._clock.now()))
        return True

    def pursue(self, order_id: str) -> None:
        """Go on cancelling in the background, unless that is under way."""
        if order_id not in self._tasks and not self._closed:
            task = asyncio.get_running_loop().create_task(self._pursue(order_id), name=f"cancel {order_id}")
            self._tasks[order_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(order_id, None))

    async def close(self) -> None:
        """Stop; wishes to cancel are in the journal and are taken up after the next start."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _note_wish(self, order_id: str) -> None:
        """Journal the wish durably. A failing journal stops new orders, never a cancel."""
        order = self._registry.get(order_id)
        if order is None or order.state.is_final or order.cancel_requested:
            return
        if order.state is OrderState.PENDING:
            # Provably nothing of it is at the exchange, and from here on nothing will be.
            closed = lifecycle.canceled_before_sending(order, self._clock.now())
            self._registry.record(closed)
            return
        event = lifecycle.cancel_requested(order, self._clock.now())
        try:
            async with asyncio.timeout(WISH_SECONDS):
                await self._registry.commit(event)
        except TimeoutError:
            _logger.warning("the journal is slow with the wish to cancel %s; cancelling all the same", order_id)
        except (JournalUnavailable, JournalError):
            _logger.warning("the journal refused the wish to cancel %s; cancelling all the same", order_id)
            order = self._registry.get(order_id)
            if order is not None and not order.state.is_final:
                self._registry.record(lifecycle.cancel_requested(order, self._clock.now()))

    async def _pursue(self, order_id: str) -> bool:
        """Send cancels until the order is final or the exchange refuses; bounded in time."""
        deadline = self._clock.monotonic() + self._background_seconds
        attempt = refusals = 0
        counts_from = float("-inf")
        while self._clock.monotonic() < deadline:
            order = self._registry.get(order_id)
            if order is None or order.state.is_final or not order.cancel_requested:
                return True
            if order.state.is_unresolved and not await self._resolved(order, deadline):
                return False
            outcome, refused = await self._once(order_id, deadline)
            order = self._registry.get(order_id)
            if order is None or order.state.is_final:
                return True
            now = self._clock.monotonic()
            if refused is None:
                refusals = 0
            elif now >= counts_from:
                refusals += 1
            if isinstance(outcome, (Accepted, Unknown)) or (refused is not None and now >= counts_from):
                # It may have worked, or may work soon: what still shows the order as open may lag behind.
                counts_from = now + max(REFUSAL_SPACING_SECONDS, self._wire.gateway.traits.settle)
            if refused is not None and refusals >= REFUSALS_BELIEVED and not order.state.is_unresolved:
                self._registry.record(lifecycle.cancel_refused(order, self._clock.now(), refused))
                return False
            attempt += 1
            await asyncio.sleep(min(0.05 * 2.0**attempt, poll_delay(self.policy, attempt, self._rng) + 0.05))
        return False

    async def _resolved(self, order: Order, deadline: float) -> bool:
        """Wait until the order's own fate is known; where the exchange can, cancel it by our id meanwhile."""
        if self._wire.gateway.traits.cancels_by_client_id:
            await self._send(order, deadline)
        self._resolver.hurry(order.order_id)
        known = await self._registry.wait_until(order.order_id, lambda o: not o.state.is_unresolved, deadline)
        return known is not None

    async def _once(self, order_id: str, deadline: float) -> tuple[object, str | None]:
        """Send one cancel and look what became of the order: the outcome, and the refusal if it still rests."""
        order = self._registry.get(order_id)
        if order is None or order.state.is_final:
            return None, None
        outcome = await self._send(order, deadline)
        answer = await self._wire.query(ref_of(order), deadline)
        order = self._registry.get(order_id)
        if order is None or not isinstance(answer, Found):
            return outcome, None
        self._registry.record_all(lifecycle.merge(order, answer.order, self._clock.now(), read=True))
        return outcome, outcome.reason if isinstance(outcome, Rejected) else None

    async def _send(self, order: Order, deadline: float) -> object:
        try:
            outcome = await self._wire.cancel(ref_of(order), deadline)
        except CircuitOpen as error:
            _logger.warning("cancel of %s: %s", order.order_id, error)
            return None
        if not isinstance(outcome, Accepted):
            _logger.info("cancel of %s: %s", order.order_id, outcome)
        return outcome


def _is_answered(order: Order) -> bool:
    """The order is final, or the exchange refused to cancel it."""
    return order.state.is_final or not order.cancel_requested
