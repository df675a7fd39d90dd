"""One attempt: durable before it leaves, and honest about what came of it."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution import ErrorCategory, ExecutorHalted, LeaseLost, OrderNotSent, OrderState
from services.mcp.order_execution.gateways.base import Unavailable
from services.mcp.order_execution.submission import SubmissionCounters as Counters
from tests.worlds import ORDER, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}


@scenario()
async def test_an_order_that_another_process_took_over_is_not_sent(w: World) -> None:
    """Asked last thing before the send: whoever lost the lease lets go of the order."""
    await w.bot.open()
    w.journal.owns = lambda order_id: False  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        await w.bot.execute_order(MINE)
    assert w.exchange.submits == []
    assert w.bot._core is not None
    assert w.bot._core.registry.get("mine") is None


@scenario()
async def test_a_halt_while_the_intent_is_being_written_stops_the_order(w: World) -> None:
    """It is closed as never sent, and may start afresh after the halt."""
    await w.bot.open()
    w.journal.pause()
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(0.1)
    halt = asyncio.ensure_future(w.bot.halt("drill"))
    await asyncio.sleep(0.1)
    w.journal.resume()
    with pytest.raises(ExecutorHalted):
        await call
    await halt
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.restartable) == (OrderState.EXPIRED, True)
    assert w.exchange.submits == []
    await w.bot.resume()
    assert await w.bot.execute_order(MINE) == "mine"


@scenario({"retry": {"deadline_seconds": 60}})
async def test_a_halt_before_a_resend_leaves_the_first_copy_open_to_truth(w: World) -> None:
    """The earlier copy is proved absent by then; the order is closed by us, and not sent."""
    w.exchange.script.append("lost request")
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(1)
    w.journal.pause()
    await asyncio.sleep(4)
    halt = asyncio.ensure_future(w.bot.halt("drill"))
    await asyncio.sleep(0.1)
    w.journal.resume()
    with pytest.raises(OrderNotSent):
        await call
    await halt
    assert len(w.exchange.submits) == 1
    order = await w.bot.get_order_status("mine")
    assert order.state.is_final
    assert w.exchange.named("mine") == []


@scenario()
async def test_a_caller_that_leaves_while_the_intent_is_written_has_sent_nothing(w: World) -> None:
    """The intent is taken back: provably nothing left."""
    await w.bot.open()
    assert w.bot._core is not None
    await w.bot._core.wait_recovered(w.clock.monotonic() + 10)
    w.journal.pause()
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    w.journal.resume()
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.reason, order.restartable) == (OrderState.EXPIRED, "never_sent", True)
    assert w.exchange.submits == []


@scenario({"retry": {"deadline_seconds": 300, "initial_delay": 50.0}})
async def test_a_caller_that_leaves_between_two_attempts_has_sent_nothing(w: World) -> None:
    """The first one provably never arrived; there will be no second."""
    from tests.worlds import REFUSED

    w.exchange.script.append(REFUSED)
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(0.5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.restartable) == (OrderState.EXPIRED, True)
    await asyncio.sleep(300)
    assert len(w.exchange.submits) == 1


@scenario()
async def test_what_a_stream_knew_first_is_not_recorded_twice(w: World) -> None:
    """The receipt comes after the order was seen: it adds nothing."""
    w.exchange.latency = 0.0
    w.exchange.script.append("placed, hang")
    w.exchange.hang = 2.0
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(0.5)
    assert w.bot._core is not None
    w.bot._core.stream._take(w.exchange.orders["X1"])
    assert await call == "mine"
    await asyncio.sleep(5)
    assert (await w.journalled("mine")).count("accepted") == 1


@scenario()
async def test_an_order_that_moved_on_while_it_waited_is_not_sent(w: World) -> None:
    """Closed by a cancel while our own rate limit held it back."""
    from tests.worlds import REFUSED

    w.exchange.script.append(REFUSED)
    call = asyncio.ensure_future(w.bot.execute_order({**MINE, "deadline_seconds": 60}))
    await asyncio.sleep(0.01)
    assert w.bot._core is not None
    w.bot._core.limiter.penalise(20.0)
    await asyncio.sleep(10)
    assert await w.bot.cancel_order("mine")
    await asyncio.gather(call, return_exceptions=True)
    assert len(w.exchange.submits) == 1
    assert w.exchange.named("mine") == []


def test_latencies_are_kept_up_to_a_bound() -> None:
    """The latest ones; statistics are of the present."""
    counters = Counters()
    for number in range(5_000):
        counters.acknowledged(float(number))
    assert len(counters.ack_seconds) <= 2_000
    assert counters.ack_seconds[-1] == 4_999.0


@scenario()
async def test_a_caller_cancelled_mid_send_leaves_an_order_that_is_resolved_further(w: World) -> None:
    """It may have arrived: UNKNOWN at first, found open afterwards, and sent once."""
    w.exchange.script.append("placed, hang")
    call = asyncio.ensure_future(w.bot.execute_order(MINE))
    await asyncio.sleep(0.5)
    w.exchange.down = "503"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN
    w.exchange.down = None
    await asyncio.sleep(60)
    assert (await w.bot.get_order_status("mine")).state is OrderState.OPEN
    assert len(w.exchange.submits) == 1


@pytest.mark.parametrize(("error", "way"), [(90.0, "ahead of"), (-90.0, "behind")])
def test_no_order_is_placed_by_a_clock_that_is_plainly_wrong(error: float, way: str) -> None:
    """Lists asked for by time could leave the order out; the caller hears which way it is wrong."""

    @scenario()
    async def run(w: World) -> None:
        await w.bot.open()
        w.exchange.clock_error = error
        with pytest.raises(OrderNotSent, match=way):
            await w.bot.execute_order(MINE)
        assert w.exchange.submits == []

    run()


@scenario()
async def test_the_exchange_is_asked_for_its_time_once_more_before_an_order_is_refused(w: World) -> None:
    """What it told last may be old: our clock has been set right since."""
    await w.bot.open()
    await asyncio.sleep(5)
    ping = w.exchange.ping

    async def tell() -> Unavailable | None:
        w.exchange.clock_error = 0.5
        return await ping()

    w.exchange.ping = tell  # type: ignore[method-assign]
    w.exchange.clock_error = 90.0
    w.exchange.reads.clear()
    assert await w.bot.execute_order(MINE) == "mine"
    assert w.exchange.reads.count("ping") == 1
    assert await w.bot.execute_order({**ORDER, "client_order_id": "second"}) == "second"
    assert w.exchange.reads.count("ping") == 1  # not where nothing is wrong


@scenario()
async def test_a_clock_that_nobody_can_compare_again_stays_wrong(w: World) -> None:
    """Silence sets nothing right; the order is refused with its reason, and may be executed again."""
    await w.bot.open()
    await asyncio.sleep(5)
    w.exchange.clock_error = 90.0

    async def silent() -> Unavailable:
        return Unavailable(ErrorCategory.TIMEOUT, "no answer")

    w.exchange.ping = silent  # type: ignore[method-assign]
    with pytest.raises(OrderNotSent, match="90 s ahead of") as caught:
        await w.bot.execute_order(MINE)
    assert caught.value.reason == "clock"
    assert w.exchange.submits == []
    w.exchange.clock_error = 0.0
    assert await w.bot.execute_order(MINE) == "mine"


@scenario({"retry": {"budget_tokens": 10}})
async def test_a_success_earns_a_tenth_of_a_retry_once_and_silence_nothing(w: World) -> None:
    """An outage that is answered by silence must not pay for the flood of its own resends."""
    await w.bot.open()
    core = w.bot._core
    assert core is not None
    budget = core.budget
    for _ in range(5):
        assert budget.try_spend()
    await w.bot.execute_order(ORDER)
    assert budget.tokens == pytest.approx(5.1)
    w.exchange.script.append("lost request")
    placing = asyncio.create_task(w.bot.execute_order(ORDER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert budget.tokens == pytest.approx(5.1)
    await placing  # found absent, sent again (one token), accepted (a tenth)
    assert budget.tokens == pytest.approx(4.2)
