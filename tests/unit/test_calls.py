"""Calls under way: one decides for an id at a time, and nobody waits on for an executor that closes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from services.mcp.order_execution.calls import Calls, answer_at_close
from services.mcp.order_execution.errors import (
    DuplicateOrder,
    ExecutorClosed,
    OrderExecutionError,
    OrderRejected,
    OrderUnresolved,
)
from services.mcp.order_execution.lifecycle import request_of
from services.mcp.order_execution.models import Order, OrderState
from tests.unit.test_lifecycle import order_in
from tests.virtual_time import VirtualClock, run_virtual

REQUEST = request_of(order_in(OrderState.OPEN))


def test_calls_for_one_id_take_turns() -> None:
    """The second decides when the first is done, and knows then what came of it."""
    order: list[str] = []

    async def call(calls: Calls, name: str, seconds: float) -> None:
        with await calls.turn(REQUEST, 2_000_000.0):
            order.append(f"{name} begins")
            await asyncio.sleep(seconds)
            order.append(f"{name} ends")

    async def main() -> None:
        calls = Calls(VirtualClock())
        await asyncio.gather(call(calls, "first", 2), call(calls, "second", 1))
        assert not calls.placing

    run_virtual(main)
    assert order == ["first begins", "first ends", "second begins", "second ends"]


def test_a_call_with_other_parameters_does_not_wait() -> None:
    """The id is taken: that is clear at once."""

    async def main() -> None:
        calls = Calls(VirtualClock())
        with await calls.turn(REQUEST, 2_000_000.0), pytest.raises(DuplicateOrder, match="amount"):
            await calls.turn(replace(REQUEST, amount=Decimal(7)), 2_000_000.0)

    run_virtual(main)


def test_a_call_waits_for_its_turn_no_longer_than_its_deadline() -> None:
    """It hears that the order is unresolved, since another call is still placing it."""

    async def main() -> None:
        clock = VirtualClock()
        calls = Calls(clock)
        with await calls.turn(REQUEST, clock.monotonic() + 60):
            with pytest.raises(OrderUnresolved, match="another call"):
                await calls.turn(REQUEST, clock.monotonic() + 5)
            assert clock.monotonic() == 1_000_005

    run_virtual(main)


def test_a_call_that_comes_too_late_is_refused() -> None:
    """Nothing is begun while the executor closes."""

    async def main() -> None:
        calls = Calls(VirtualClock())
        calls.closing = True
        with pytest.raises(ExecutorClosed):
            await calls.turn(REQUEST, 2_000_000.0)

    run_virtual(main)


def test_a_close_ends_every_wait_at_once() -> None:
    """By a timeout of its own, told from others by its scope."""

    async def wait(calls: Calls) -> bool:
        scope = calls.until_closed()
        try:
            with scope:
                await asyncio.sleep(1_000)
        except TimeoutError:
            return scope.expired
        return False

    async def main() -> None:
        clock = VirtualClock()
        calls = Calls(clock)
        waiting = [asyncio.ensure_future(wait(calls)) for _ in range(3)]
        await asyncio.sleep(1)
        await calls.end()
        assert all(task.done() and task.result() for task in waiting)
        assert clock.monotonic() < 1_000_001.1

    run_virtual(main)


def test_a_call_that_will_not_end_does_not_hold_up_the_close_for_ever() -> None:
    """One that swallows the news is left behind after a moment."""

    async def stubborn(calls: Calls) -> None:
        with calls.until_closed():
            for _ in range(10):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue

    async def main() -> None:
        clock = VirtualClock()
        calls = Calls(clock)
        task = asyncio.ensure_future(stubborn(calls))
        await asyncio.sleep(0.5)
        await calls.end()
        assert 1_000_001.4 < clock.monotonic() < 1_000_001.7
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(main)


SENT = {"exchange_order_id": "X1"}


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (None, ExecutorClosed),
        (order_in(OrderState.PENDING), ExecutorClosed),
        (replace(order_in(OrderState.EXPIRED), restartable=True), ExecutorClosed),
        (order_in(OrderState.SENDING), OrderUnresolved),
        (order_in(OrderState.UNKNOWN), OrderUnresolved),
        (order_in(OrderState.REJECTED), OrderRejected),
        (replace(order_in(OrderState.OPEN), amount=Decimal(9)), DuplicateOrder),
    ],
)
def test_at_the_close_each_caller_hears_what_is_known(
    order: Order | None, error: type[OrderExecutionError]
) -> None:
    """Never more than that, and never less."""
    with pytest.raises(error):
        answer_at_close(order, REQUEST)


def test_at_the_close_a_placed_order_is_still_a_placed_order() -> None:
    """Its caller gets it."""
    order = replace(order_in(OrderState.OPEN), exchange_order_id="X1")
    assert answer_at_close(order, REQUEST) is order
