"""The calls under way that place orders: one at a time decides for an id, and a close ends their waiting."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from . import lifecycle
from .clock import Clock
from .errors import DuplicateOrder, ExecutorClosed, OrderUnresolved
from .models import Order, OrderRequest, OrderState
from .submission import verdict

END_SECONDS: Final = 1.0
"""How long a close waits for calls that it has told to end."""


class _UntilClosed:
    """A scope, for as long as its body runs. A class: a generator costs more than all that it would do here."""

    __slots__ = ("_scope", "_scopes")

    def __init__(self, scopes: set[asyncio.Timeout]) -> None:
        self._scopes = scopes
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> asyncio.Timeout:
        await self._scope.__aenter__()
        self._scopes.add(self._scope)
        return self._scope

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scopes.discard(self._scope)
        await self._scope.__aexit__(kind, error, trace)


class _Turn:
    """The one call that decides for an id, from when no other does until its body ends."""

    __slots__ = ("_calls", "_deadline", "done", "request")

    def __init__(self, calls: Calls, request: OrderRequest, deadline: float) -> None:
        self._calls = calls
        self._deadline = deadline
        self.request = request
        self.done: asyncio.Event | None = None
        """Set at the end, once somebody waits for it."""

    async def __aenter__(self) -> None:
        await self._calls.begin(self, self._deadline)

    async def __aexit__(self, *_: object) -> None:
        self._calls.finish(self)


class Calls:
    """Every call of ``execute_order`` that has not returned."""

    def __init__(self, clock: Clock) -> None:
        self.closing = False
        self._clock = clock
        self._placing: dict[str, _Turn] = {}
        self._scopes: set[asyncio.Timeout] = set()

    @property
    def placing(self) -> bool:
        """Whether any call is placing an order."""
        return bool(self._placing)

    def turn(self, request: OrderRequest, deadline: float) -> _Turn:
        """Be the one call that decides for this id. Raises DuplicateOrder, OrderUnresolved, ExecutorClosed."""
        return _Turn(self, request, deadline)

    async def begin(self, turn: _Turn, deadline: float) -> None:
        """Wait until no other call decides for the id; see :meth:`turn`."""
        order_id = turn.request.client_order_id
        while (other := self._placing.get(order_id)) is not None:
            check_same(lifecycle.new_order(other.request, self._clock.now()), turn.request)
            other.done = other.done or asyncio.Event()
            try:
                async with asyncio.timeout(deadline - self._clock.monotonic()):
                    await other.done.wait()
            except TimeoutError:
                raise OrderUnresolved(order_id, "another call is still placing it") from None
        if self.closing:
            raise ExecutorClosed(order_id=order_id)
        self._placing[order_id] = turn

    def finish(self, turn: _Turn) -> None:
        """Let the next one decide."""
        del self._placing[turn.request.client_order_id]
        if turn.done is not None:
            turn.done.set()

    def until_closed(self) -> _UntilClosed:
        """Wait no longer than until ``end()``, which ends the body by the way of a cancellation.

        Raises TimeoutError then; the scope that it gives tells this one from others by ``expired()``.
        """
        return _UntilClosed(self._scopes)

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
