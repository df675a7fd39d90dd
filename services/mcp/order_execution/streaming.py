"""Order updates that the exchange pushes: hints that spare waiting, never the truth.

A hint is merged like any sighting, so one that is late, repeated or out of order changes nothing: fills are keyed
by trade id and only grow, and an order that has ended stays so. For that reason no hint ends an order that does not
tell by which trades: the exchange is asked then. What a stream leaves out, the tracker's lists tell; they are read
anew whenever the stream (re)connects.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from . import lifecycle
from .clock import Clock
from .exact import total
from .gateways.base import ExchangeOrder, Gateway
from .models import Order
from .registry import OrderRegistry
from .retry import RetryPolicy, poll_delay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_logger = logging.getLogger(__name__)


class StreamFollower:
    """Follows one gateway's order stream, and begins anew whenever it breaks."""

    def __init__(
        self,
        gateway: Gateway,
        registry: OrderRegistry,
        clock: Clock,
        rng: random.Random,
        policy: RetryPolicy,
        *,
        on_connect: Callable[[], None],
        look: Callable[[Order], None],
    ) -> None:
        """``look``: ask the exchange about an order soon, of which a hint told something that is not believed."""
        self.policy = policy
        self.hints = 0
        self.connects = 0
        self._gateway = gateway
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._on_connect = on_connect
        self._look = look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow in the background, where there is a stream."""
        if self._gateway.traits.streams_orders:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="order stream")

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        failures = 0
        while True:
            before = self.hints
            try:
                await self._follow()
            except Exception as error:
                _logger.warning("the order stream broke: %s: %s", type(error).__name__, error)
                _logger.debug("where the order stream broke", exc_info=True)
            failures = 1 if self.hints > before else failures + 1
            await asyncio.sleep(poll_delay(self.policy, failures, self._rng))

    async def _follow(self) -> None:
        """Take hints until the stream ends or breaks."""
        stream = self._gateway.stream()
        if stream is None:
            return
        self.connects += 1
        self._on_connect()
        if not hasattr(stream, "aclose"):
            async for seen in stream:
                self._take(seen)
            return
        async with aclosing(cast("AsyncGenerator[ExchangeOrder, None]", stream)) as hints:
            async for seen in hints:
                self._take(seen)

    def _take(self, seen: ExchangeOrder) -> None:
        self.hints += 1
        order = self._registry.get_by_exchange_id(seen.exchange_order_id)
        if order is None and seen.client_order_id is not None:
            order = self._by_client_id(seen.client_order_id, seen)
        if order is None:
            return
        if lifecycle.conflict(order, seen) or (seen.state.is_final and not _accounts_for_itself(seen)):
            self._look(order)
            return
        self._registry.record_all(lifecycle.merge(order, seen, self._clock.now(), read=False))

    def _by_client_id(self, client_order_id: str, seen: ExchangeOrder) -> Order | None:
        """Find the order of ours that this may be the first word of; one that plainly is another is left alone."""
        order = self._registry.get(client_order_id)
        if order is None or order.exchange_order_id not in (None, seen.exchange_order_id):
            return None
        return None if lifecycle.conflict(order, seen) else order


def _accounts_for_itself(seen: ExchangeOrder) -> bool:
    """Whether an update tells by which trades the order was filled, all of it that it says was."""
    return seen.fills is not None and total(fill.amount for fill in seen.fills) == seen.filled
