"""Planted bugs: mistakes with deadlines, wishes and verdicts. Days must show each, or they prove nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from services.mcp.order_execution import lifecycle, reliable_executor, submission
from services.mcp.order_execution.core import Core
from services.mcp.order_execution.models import EventKind, Order, OrderEvent, OrderState
from services.mcp.order_execution.reliable_executor import ReliableOrderExecutor
from services.mcp.order_execution.submission import Submission
from services.mcp.order_execution.time_limits import TimeLimit

Change = tuple[Any, str, Any]
BUGS: dict[str, Callable[[], Iterable[Change]]] = {}


def bug(name: str) -> Callable[[Callable[[], Iterable[Change]]], Callable[[], Iterable[Change]]]:
    """Add a planted bug to the list."""

    def add(make: Callable[[], Iterable[Change]]) -> Callable[[], Iterable[Change]]:
        BUGS[name] = make
        return make

    return add


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have one bug in the code."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, attribute, value in BUGS[name]():
            patch.setattr(owner, attribute, value)
        yield


@bug("the intent may take as long as the disk likes")
def _no_deadline_for_the_intent() -> Iterable[Change]:
    yield submission, "TimeLimit", lambda line, _: TimeLimit(line, math.inf)


@bug("the disk may take as long as it likes to say whether an order is known")
def _no_deadline_for_the_lookup() -> Iterable[Change]:
    async def known(self: ReliableOrderExecutor, core: Core, order_id: str, deadline: float) -> Order | None:
        return await core.registry.find(order_id)

    yield ReliableOrderExecutor, "_known", known


@bug("a wish to cancel is not looked at between the intent and the request")
def _wish_overlooked() -> Iterable[Change]:
    is_unwanted = Submission._is_unwanted

    def careless(self: Submission, order: Order) -> bool:
        return order.state is not OrderState.SENDING and is_unwanted(self, order)

    yield Submission, "_is_unwanted", careless


@bug("an order is sent again though its caller has gone")
def _sent_for_nobody() -> Iterable[Change]:
    def wanted(self: Submission, order: Order) -> bool:
        return not order.state.is_final and order.cancel_requested

    yield Submission, "_is_unwanted", wanted


@bug("an order that never left may start afresh although it was to be cancelled")
def _restartable_in_spite_of_the_wish() -> Iterable[Change]:
    def never_left(order: Order, now: datetime, reason: str, detail: str | None = None) -> OrderEvent:
        closed, expired = EventKind.CLOSED, OrderState.EXPIRED
        return lifecycle._event(order, closed, now, expired, reason=reason, restartable=True, detail=detail)

    yield lifecycle, "never_left", never_left


@bug("a verdict is told although the journal cannot keep it")
def _verdicts_that_get_lost() -> Iterable[Change]:
    async def optimistic(*_: object) -> bool:
        return True

    yield reliable_executor, "survives_restart", optimistic


@bug("a close dies with whoever asked for it")
def _close_not_shielded() -> Iterable[Change]:
    async def close(self: ReliableOrderExecutor) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="close")
        elif self._closing.done():
            return
        await self._closing

    yield ReliableOrderExecutor, "close", close
