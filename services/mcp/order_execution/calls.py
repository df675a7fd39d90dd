"""The calls under way that place orders: one at a time decides for an id, and a close ends their waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from . import lifecycle
from .clock import Clock
from .errors import DuplicateOrder, ExecutorClosed, OrderUnresolved
from .models import Order, OrderRequest, OrderState
from .submission import verdict

END_SECONDS: Final = 1.0
"""How long a close waits for calls that it has told to end."""


class Calls:
    """Every call of ``execute_order`` that has not returned."""

    def __init__(self, clock: Clock) -> None:
        self.closing = False
        self._clock = clock
        self._placing: dict[str, tuple[OrderRequest, asyncio.Event]] = {}
        self._scopes: set[asyncio.Timeout] = set()

    @property
    def placing(self) -> bool:
        """Whether any call is placing an order."""
        return bool(self._placing)

    @asynccontextmanager
    async def turn(self, request: OrderRequest, deadline: float) -> AsyncIterator[None]:
        """Be the one call that decides for this id. Raises DuplicateOrder, OrderUnresolved, ExecutorClosed."""
        order_id = request.client_order_id
        while order_id in self._placing:
            other, done = self._placing[order_id]
            check_same(lifecycle.new_order(other, self._clock.now()), request)
            try:
                async with asyncio.timeout(deadline - self._clock.monotonic()):
                    await done.wait()
            except TimeoutError:
                raise OrderUnresolved(order_id, "another call is still placing it") from None
        if self.closing:
            raise ExecutorClosed(order_id=order_id)
        self._placing[order_id] = (request, asyncio.Event())
        try:
            yield
        finally:
            self._placing.pop(order_id)[1].set()

    @asynccontextmanager
    async def until_closed(self) -> AsyncIterator[asyncio.Timeout]:
        """Wait no longer than until ``end()``, which ends the body by the way of a cancellation.

        Raises TimeoutError then; the scope that it gives tells this one from others by ``expired()``.
        """
        async with asyncio.timeout(None) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    async def end(self) -> None:
        """End every call that still waits, and give them a moment to say what they know."""
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now)
        deadline = self._clock.monotonic() + END_SECONDS
        while self._scopes and self._clock.monotonic() < deadline:  # noqa: ASYNC110 - many calls, one wait
            await asyncio.sleep(0.005)


def check_same(known: Order, request: OrderRequest) -> None:
    """Raise DuplicateOrder where an id is used again with other parameters."""
    differing = lifecycle.differing_fields(known, request)
    if differing:
        raise DuplicateOrder(known.order_id, differing)


def answer_at_close(order: Order | None, request: OrderRequest) -> Order:
    """Say what is known of an order whose caller waits no longer; raises what there is to be raised."""
    if order is None or order.restartable or order.state is OrderState.PENDING:
        raise ExecutorClosed(order_id=request.client_order_id)
    check_same(order, request)
    if order.state.is_unresolved:
        raise OrderUnresolved(order.order_id, "the executor was closed; it is resolved after the next start")
    return verdict(order)
