"""What happens to an order while the basic executor waits: for the next attempt, for a receipt, for a look."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.mcp.order_execution import (
    BasicOrderExecutor,
    ExecutorClosed,
    ExecutorHalted,
    OrderNotSent,
    OrderRejected,
    OrderState,
)
from services.mcp.order_execution.gateways.base import Accepted, Found, NotFound, OrderRef, Rejected, Unavailable
from tests.fakes import BLIND, FOREVER, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER, REFUSED

MINE: dict[str, Any] = {**ORDER, "client_order_id": "mine"}


class Desk:
    """An exchange and a basic executor on it."""

    def __init__(self, traits: Any) -> None:
        self.clock = VirtualClock()
        self.exchange = FakeExchange(self.clock, traits)
        self.bot = BasicOrderExecutor(None, gateway=self.exchange, clock=self.clock, rng=random.Random(1))

    async def call_that_waits_to_retry(self) -> asyncio.Task[str]:
        """Begin an order whose first attempt was refused a connection; it is not sent again yet."""
        task = asyncio.create_task(self.bot.execute_order(MINE))
        await asyncio.sleep(0.01)
        assert len(self.exchange.submits) == 1
        assert not task.done()
        return task

    async def state(self) -> OrderState:
        """The order as the executor has it, without a look at the exchange."""
        self.exchange.down = "503"
        try:
            return (await self.bot.get_order_status("mine")).state
        finally:
            self.exchange.down = None


def desk(traits: Any = FOREVER) -> Callable[..., Callable[[], None]]:
    """Run the test in virtual time at a desk of its own."""

    def decorate(test: Callable[[Desk], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                d = Desk(traits)
                async with d.bot:
                    await test(d)

            run_virtual(main)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


# ---- between two attempts ---------------------------------------------------------------------------------


@desk()
async def test_an_order_that_was_never_sent_is_not_called_accepted(d: Desk) -> None:
    """Its caller left between two attempts; the next call with the id places it, and only then says so."""
    d.exchange.script.extend([REFUSED])
    task = await d.call_that_waits_to_retry()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    order = await d.bot.get_order_status("mine")
    assert (order.state, order.reason, order.restartable) == (OrderState.EXPIRED, "never_sent", True)
    assert d.exchange.placed == []
    assert await d.bot.execute_order(MINE) == "mine"
    assert d.exchange.placed == ["mine"]


@desk()
async def test_a_halt_between_two_attempts_stops_the_order(d: Desk) -> None:
    """It provably never left, and is told so; after the halt it may start afresh."""
    d.exchange.script.extend([REFUSED])
    task = await d.call_that_waits_to_retry()
    await d.bot.halt("stop")
    with pytest.raises(ExecutorHalted):
        await task
    order = await d.bot.get_order_status("mine")
    assert (order.state, order.reason) == (OrderState.EXPIRED, "halted")
    assert len(d.exchange.submits) == 1
    await d.bot.resume()
    assert await d.bot.execute_order(MINE) == "mine"


@desk()
async def test_a_close_between_two_attempts_stops_the_order(d: Desk) -> None:
    """Nothing is sent through a gateway that was closed."""
    d.exchange.script.extend([REFUSED])
    task = await d.call_that_waits_to_retry()
    await d.bot.close()
    with pytest.raises(ExecutorClosed):
        await task
    assert len(d.exchange.submits) == 1


@desk()
async def test_a_cancel_between_two_attempts_stops_the_order(d: Desk) -> None:
    """The cancel holds, and the call that placed the order is told."""
    d.exchange.script.extend([REFUSED, "fill"])
    task = await d.call_that_waits_to_retry()
    assert await d.bot.cancel_order("mine") is True
    with pytest.raises(OrderRejected, match="canceled_before_sending"):
        await task
    with pytest.raises(OrderRejected, match="canceled_before_sending"):
        await d.bot.execute_order(MINE)
    assert len(d.exchange.submits) == 1
    assert d.exchange.placed == []


@pytest.mark.parametrize("traits", [FOREVER, BLIND])
def test_a_cancel_during_an_attempt_that_does_not_leave_stops_the_order(traits: Any) -> None:
    """No exchange has it, so each refuses to cancel it; that is not taken for the end of the matter."""

    @desk(traits)
    async def run(d: Desk) -> None:
        d.exchange.script.extend([REFUSED, "fill"])
        d.exchange.latency = 1.0
        task = asyncio.create_task(d.bot.execute_order(MINE))
        await asyncio.sleep(1.5)  # the rules took a second, the request is under way
        assert await d.bot.cancel_order("mine") is True
        with pytest.raises(OrderRejected, match="canceled_before_sending"):
            await task
        assert len(d.exchange.submits) == 1

    run()


@desk()
async def test_a_wish_to_cancel_outlives_the_call_that_had_it(d: Desk) -> None:
    """Whoever wanted the order cancelled has left; it is not sent again all the same."""
    d.exchange.script.extend([REFUSED, "fill"])
    d.exchange.latency = 1.0
    task = asyncio.create_task(d.bot.execute_order(MINE))
    await asyncio.sleep(1.5)  # the rules took a second, the request is under way
    cancelling = asyncio.create_task(d.bot.cancel_order("mine"))
    await asyncio.sleep(0.1)
    cancelling.cancel()
    with pytest.raises(OrderRejected, match="canceled_before_sending"):
        await task
    assert len(d.exchange.submits) == 1


@desk()
async def test_an_order_that_never_left_and_was_cancelled_does_not_start_afresh(d: Desk) -> None:
    """Who was told that it is cancelled must not see it placed by another call."""
    d.exchange.script.extend([REFUSED] * 4)
    with pytest.raises(OrderNotSent):
        await d.bot.execute_order(MINE)
    assert await d.bot.cancel_order("mine") is True
    with pytest.raises(OrderRejected, match="canceled_before_sending"):
        await d.bot.execute_order(MINE)
    assert d.exchange.placed == []


# ---- while a look or a receipt is under way ---------------------------------------------------------------


def slow_reads(exchange: FakeExchange) -> Callable[[], None]:
    """Let answers to a query take five seconds on their way back; the result ends that."""
    real = exchange.query

    async def slow(ref: OrderRef) -> Found | NotFound | Unavailable:
        answer = await real(ref)
        await asyncio.sleep(5)
        return answer

    exchange.query = slow  # type: ignore[method-assign]

    def end() -> None:
        exchange.query = real  # type: ignore[method-assign]

    return end


@desk()
async def test_a_slow_look_does_not_undo_what_happened_meanwhile(d: Desk) -> None:
    """A cancel ended the order; the older answer does not bring it back to life."""
    await d.bot.execute_order(MINE)
    d.exchange.fill("X1", "0.05")
    fast = slow_reads(d.exchange)
    look = asyncio.create_task(d.bot.get_order_status("mine"))
    await asyncio.sleep(0.1)
    fast()
    assert await d.bot.cancel_order("mine") is True
    assert (await look).state is OrderState.CANCELED
    assert await d.state() is OrderState.CANCELED
    assert (await d.bot.get_execution_stats()).fills == 1


@desk()
async def test_a_slow_reconciliation_does_not_undo_what_happened_meanwhile(d: Desk) -> None:
    """The same, where a report looks at the order; and it is not told as a difference."""
    await d.bot.execute_order(MINE)
    d.exchange.fill("X1", "0.05")
    await d.bot.get_order_status("mine")
    fast = slow_reads(d.exchange)
    report = asyncio.create_task(d.bot.reconcile_orders())
    await asyncio.sleep(0.1)
    fast()
    assert await d.bot.cancel_order("mine") is True
    assert (await report).matched_orders == 1
    assert await d.state() is OrderState.CANCELED
    assert (await d.bot.get_execution_stats()).fills == 1


@pytest.mark.parametrize("told", [True, False])
def test_a_receipt_does_not_undo_what_a_look_found(told: bool) -> None:
    """The order fills while its receipt is under way, and a look sees it. Its fills are counted once."""

    @desk()
    async def run(d: Desk) -> None:
        d.exchange.script.append("placed, hang")
        d.exchange.hang = 3.0
        task = asyncio.create_task(d.bot.execute_order(MINE))
        await asyncio.sleep(0.5)
        d.exchange.fill("X1", "0.1")
        assert (await d.bot.get_order_status("mine")).state is OrderState.FILLED
        if not told:
            d.exchange._shown = lambda order: None  # type: ignore[method-assign,assignment,return-value]
        assert await task == "mine"
        order = await d.bot.get_order_status("mine")
        assert (order.state, len(order.fills)) == (OrderState.FILLED, 1)
        assert (await d.bot.get_execution_stats()).fills == 1

    run()


@pytest.mark.parametrize("fate", [REFUSED, Rejected("min_notional"), "lost request"])
def test_what_the_exchange_shows_is_not_undone_by_the_answer_to_the_request(fate: object) -> None:
    """Whatever that answer claims, the order rests there, so it is not sent again and not called refused."""

    @desk()
    async def run(d: Desk) -> None:
        d.exchange.script.append(fate)
        d.exchange.latency = 1.0
        d.exchange.before_send = d.exchange.place
        task = asyncio.create_task(d.bot.execute_order(MINE))
        await asyncio.sleep(1.5)  # the rules took a second, the request is under way
        d.exchange.latency = 0.0
        assert (await d.bot.get_order_status("mine")).state is OrderState.OPEN
        assert await task == "mine"
        assert len(d.exchange.submits) == 1

    run()


def test_a_second_order_under_our_id_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A look found one order and the receipt names another: the first is kept, and a human is told of both."""

    @desk()
    async def run(d: Desk) -> None:
        d.exchange.script.append(Accepted("X77"))
        d.exchange.latency = 1.0
        d.exchange.before_send = d.exchange.place
        task = asyncio.create_task(d.bot.execute_order(MINE))
        await asyncio.sleep(1.5)  # the rules took a second, the request is under way
        d.exchange.latency = 0.0
        await d.bot.get_order_status("mine")
        assert await task == "mine"
        assert (await d.bot.get_order_status("mine")).exchange_order_id == "X1"

    run()
    assert [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"] == [
        "the exchange has two orders under the id mine: X1 and X77; look at both of them"
    ]


@desk()
async def test_a_cancel_that_was_accepted_is_not_taken_for_refused(d: Desk) -> None:
    """Lookups may lag: a second cancel is refused because the first is done, and the order shows as open."""
    await d.bot.execute_order(MINE)
    real = d.exchange.query
    shown = await real(OrderRef("mine", "BTC/USD", "X1"))

    async def stale(ref: OrderRef) -> Found | NotFound | Unavailable:
        return shown if d.clock.monotonic() < stale_until else await real(ref)

    stale_until = d.clock.monotonic() + 3
    d.exchange.query = stale  # type: ignore[method-assign]
    assert await d.bot.cancel_order("mine") is True


@desk()
async def test_an_order_whose_time_is_over_is_not_sent(d: Desk) -> None:
    """The market's rules came too late: the price is stale by then."""
    d.exchange.latency = 2.0
    with pytest.raises(OrderNotSent, match="deadline passed") as raised:
        await d.bot.execute_order({**MINE, "deadline_seconds": 1})
    assert raised.value.reason == "deadline"
    assert d.exchange.submits == []
