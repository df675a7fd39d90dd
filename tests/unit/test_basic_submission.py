"""One order's sending without a journal: however it ends, the memory says what is known, and nothing waits on."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from services.mcp.order_execution import ErrorCategory, ExecutorHalted, OrderNotSent, OrderState, lifecycle
from services.mcp.order_execution.basic_submission import BasicSubmission
from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.gateways.base import NotSent, Rejected, Unknown
from services.mcp.order_execution.models import Order
from services.mcp.order_execution.order_memory import OrderMemory
from services.mcp.order_execution.parameters import parse_request
from tests.fakes import FOREVER, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER, REFUSED


class Bench:
    """A submission with all that it needs, and one order that nobody has sent yet."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.clock = VirtualClock()
        self.exchange = FakeExchange(self.clock, FOREVER)
        self.memory = OrderMemory((), max_whole=10)
        self.halted: str | None = None
        self.asked: list[str] = []
        settings = load_settings(config)
        self.submission = BasicSubmission(
            self.memory, self.clock, random.Random(1), lambda: settings, self.check_accepting
        )
        self.order = lifecycle.new_order(parse_request({**ORDER, "client_order_id": "mine"}, ""), self.clock.now())

    def check_accepting(self, order_id: str) -> None:
        """What the executor is asked before each attempt."""
        self.asked.append(order_id)
        if self.halted is not None:
            raise ExecutorHalted(self.halted, order_id=order_id)

    async def place(self, seconds: float = 30.0) -> Order | None:
        """Send the order; what the memory holds afterwards."""
        await self.submission.place(self.exchange, self.order, self.clock.monotonic() + seconds)
        return self.memory.get("mine")


@pytest.mark.parametrize(
    ("fate", "state"),
    [
        ("ok", OrderState.OPEN),
        ("fill", OrderState.FILLED),
        ("lost reply", OrderState.UNKNOWN),
        (Unknown(ErrorCategory.BAD_RESPONSE, "not JSON"), OrderState.UNKNOWN),
        (RuntimeError("defect"), OrderState.UNKNOWN),
        (TimeoutError(), OrderState.UNKNOWN),
        (Rejected("min_notional"), OrderState.REJECTED),
        (Rejected("duplicate", duplicate_id=True), OrderState.UNKNOWN),
    ],
)
def test_every_answer_is_taken_for_what_it_says(fate: object, state: OrderState) -> None:
    """And no more than one request leaves."""

    async def main() -> None:
        b = Bench()
        b.exchange.script.append(fate)
        order = await b.place()
        assert order is not None
        assert order.state is state
        assert len(b.exchange.submits) == len(b.asked) == 1

    run_virtual(main)


def test_what_did_not_leave_is_sent_again_as_often_as_it_is_configured() -> None:
    """Then it is closed as never sent, and free to start afresh."""

    async def main() -> None:
        b = Bench({"retry": {"max_retries": 2}})
        b.exchange.script.extend([REFUSED] * 9)
        with pytest.raises(OrderNotSent, match="order mine was never sent: refused"):
            await b.place()
        order = b.memory.get("mine")
        assert order is not None
        assert (order.state, order.reason, order.restartable) == (OrderState.EXPIRED, "never_sent", True)
        assert len(b.exchange.submits) == len(b.asked) == 3
        assert b.submission.counters.retries == 2
        b.exchange.script.clear()
        b.order = order
        placed = await b.place()
        assert placed is not None
        assert (placed.state, placed.attempts) == (OrderState.OPEN, 1)

    run_virtual(main)


def test_what_the_exchange_asks_never_to_retry_is_not_retried() -> None:
    """A key that it does not accept, say."""

    async def main() -> None:
        b = Bench()
        b.exchange.script.append(NotSent(ErrorCategory.AUTHENTICATION, "key"))
        with pytest.raises(OrderNotSent):
            await b.place()
        assert len(b.exchange.submits) == 1

    run_virtual(main)


@pytest.mark.parametrize("after", [0.0, 0.05])
def test_a_caller_that_leaves_leaves_nothing_behind_that_waits(after: float) -> None:
    """During the attempt it is unknown what became of it; between two it provably did not leave."""

    async def main() -> None:
        b = Bench()
        b.exchange.script.append(REFUSED if after else "hang")
        task = asyncio.create_task(b.place())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        order = b.memory.get("mine")
        assert order is not None
        assert order.state is (OrderState.EXPIRED if after else OrderState.UNKNOWN)
        await asyncio.sleep(100)
        assert len(b.exchange.submits) == 1

    run_virtual(main)


def test_before_each_attempt_it_is_asked_whether_any_may_be_made() -> None:
    """The first one included; the reason for which it may not stands in the record."""

    async def main() -> None:
        b = Bench()
        b.halted = "stop"
        with pytest.raises(ExecutorHalted):
            await b.place()
        assert b.memory.get("mine") is None
        b.halted = None
        b.exchange.script.append(REFUSED)
        task = asyncio.create_task(b.place())
        await asyncio.sleep(0.01)
        b.halted = "stop"
        with pytest.raises(ExecutorHalted):
            await task
        order = b.memory.get("mine")
        assert order is not None
        assert (order.state, order.reason) == (OrderState.EXPIRED, "halted")
        assert len(b.exchange.submits) == 1

    run_virtual(main)


def test_stopping_cancels_what_is_not_at_the_exchange_and_nothing_else() -> None:
    """Between two attempts at once; one that rests is the exchange's to cancel."""

    async def main() -> None:
        b = Bench()
        b.exchange.script.append(REFUSED)
        task = asyncio.create_task(b.place())
        await asyncio.sleep(0.01)
        waiting = b.memory.get("mine")
        assert waiting is not None
        assert b.submission.stop(waiting).state is OrderState.CANCELED
        order = await task
        assert order is not None
        assert (order.state, order.reason) == (OrderState.CANCELED, "canceled_before_sending")
        assert b.submission.stop(order) is order

        other = Bench()
        resting = await other.place()
        assert resting is not None
        assert other.submission.stop(resting) is resting
        assert resting.state is OrderState.OPEN

    run_virtual(main)


def test_a_wish_to_stop_is_forgotten_with_the_call_that_was_sending() -> None:
    """It was about that attempt; the order arrived, and is cancelled as one that rests."""

    async def main() -> None:
        b = Bench()
        b.exchange.latency = 1.0
        task = asyncio.create_task(b.place())
        await asyncio.sleep(0.5)
        sending = b.memory.get("mine")
        assert sending is not None
        assert b.submission.stop(sending).state is OrderState.SENDING
        order = await task
        assert order is not None
        assert order.state is OrderState.OPEN
        assert b.submission._unwanted == set()

    run_virtual(main)
