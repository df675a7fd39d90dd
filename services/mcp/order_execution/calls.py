"""The calls under way that place orders: one at a time decides for an id, and a close ends their waiting."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from . import lifecycle
from .clock import Clock
from .errors import DuplicateOrder, ExecutorClosed, OrderUnresolved
from .models import Order, OrderRequest, OrderState
from .submission import verdict
from .time_limits import LimitLine, TimeLimit

END_SECONDS: Final = 1.0
"""How long a close waits for calls that it has told to end."""


class _Turn:
    """The one call that decides for an id, until its body ends."""

    __slots__ = ("_turns", "done", "request")

    def __init__(self, turns: dict[str, _Turn], request: OrderRequest) -> None:
        self._turns = turns
        self.request = request
        self.done: asyncio.Event | None = None
        """Set at the end, once somebody waits for it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        """Let the next one decide."""
        del self._turns[self.request.client_order_id]
        if self.done is not None:
            self.done.set()


class Calls:
    """Every call of ``execute_order`` that has not returned."""

    def __init__(self, clock: Clock) -> None:
        self.closing = False
        self._clock = clock
        self._placing: dict[str, _Turn] = {}
        self._waiting = LimitLine()

    @property
    def placing(self) -> bool:
        """Whether any call is placing an order."""
        return bool(self._placing)

    async def turn(self, request: OrderRequest, deadline: float) -> _Turn:
        """Wait to be the one call that decides for this id, as long as the body of what is returned runs.

        Raises DuplicateOrder, OrderUnresolved, ExecutorClosed.
        """
        order_id = request.client_order_id
        while (other := self._placing.get(order_id)) is not None:
            check_same(lifecycle.new_order(other.request, self._clock.now()), request)
            other.done = other.done or asyncio.Event()
            try:
                async with asyncio.timeout(deadline - self._clock.monotonic()):
                    await other.done.wait()
            except TimeoutError:
                raise OrderUnresolved(order_id, "another call is still placing it") from None
        if self.closing:
            raise ExecutorClosed(order_id=order_id)
        turn = self._placing[order_id] = _Turn(self._placing, request)
        return turn

    def until_closed(self) -> TimeLimit:
        """A limit that lasts until ``end()``; its ``expired`` tells its TimeoutError from others."""
        return TimeLimit(self._waiting, math.inf)

    async def end(self) -> None:
        """End every call that still waits, and give them a moment to say what they know."""
        ended = self._waiting.expire_all()
        deadline = self._clock.monotonic() + END_SECONDS
        while any(call.is_running for call in ended) and self._clock.monotonic() < deadline:  # noqa: ASYNC110
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
