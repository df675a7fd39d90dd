"""Cancelling: what counts is what the order says afterwards, not what the cancel was answered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from services.mcp.order_execution import CircuitState, ErrorCategory, OrderNotSent, OrderRejected, OrderState
from services.mcp.order_execution.gateways.base import (
    Accepted,
    GatewayTraits,
    NotSent,
    OrderRef,
    Rejected,
    Unknown,
)
from services.mcp.order_execution.wire import Lane
from tests.fakes import FOREVER, OPEN_ONLY
from tests.worlds import ORDER, REFUSED, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}
BRISK = {"retry": {"deadline_seconds": 20, "initial_delay": 0.2, "max_delay": 1.0}}


@scenario(BRISK)
async def test_a_cancel_that_times_out_is_not_a_cancel_that_failed(w: World) -> None:
    """The reply is lost; the order says that it is canceled."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.append("lost reply")
    assert await w.bot.cancel_order("mine") is True
    assert len(w.exchange.cancels) == 1


@scenario(BRISK)
async def test_a_cancel_that_was_lost_is_sent_again(w: World) -> None:
    """Until the order is final."""
    await w.bot.execute_order(MINE)
    unknown = Unknown(ErrorCategory.SERVER_ERROR, "502")
    w.exchange.cancel_script.extend(["lost request", unknown, RuntimeError("defect")])
    assert await w.bot.cancel_order("mine") is True
    assert len(w.exchange.cancels) == 4


@scenario(BRISK)
async def test_fills_that_arrive_while_cancelling_are_kept(w: World) -> None:
    """Canceled, with what it traded before."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.append(lambda order: w.exchange.fill(order.exchange_order_id, "0.03"))
    assert await w.bot.cancel_order("mine") is True
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.filled) == (OrderState.CANCELED, Decimal("0.03"))


@scenario(BRISK)
async def test_a_cancel_that_comes_too_late_finds_the_order_filled(w: World) -> None:
    """True: it will trade no further."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.append(lambda order: w.exchange.fill(order.exchange_order_id, "0.1"))
    assert await w.bot.cancel_order("mine") is True
    assert (await w.bot.get_order_status("mine")).filled == Decimal("0.1")


@scenario(BRISK)
async def test_a_refusal_is_believed_only_when_it_is_repeated(w: World) -> None:
    """Once may be a race with a fill; twice, with the order shown open, is an answer: it trades on."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.append(Rejected("busy"))
    assert await w.bot.cancel_order("mine") is True
    await w.bot.execute_order({**MINE, "client_order_id": "other"})
    w.exchange.cancel_script.extend([Rejected("post-auction")] * 20)
    assert await w.bot.cancel_order("other") is False
    order = await w.bot.get_order_status("other")
    assert (order.state, order.cancel_requested) == (OrderState.OPEN, False)


@scenario({"retry": {"deadline_seconds": 2, "initial_delay": 0.2}})
async def test_the_wish_outlives_the_call(w: World) -> None:
    """Undecided at the deadline is False; cancelling goes on, and succeeds once the exchange answers."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.extend([Unknown(ErrorCategory.TIMEOUT, "silence")] * 100)
    assert await w.bot.cancel_order("mine") is False
    assert (await w.bot.get_order_status("mine")).state is OrderState.CANCELING
    w.exchange.cancel_script.clear()
    await asyncio.sleep(30)
    assert (await w.bot.get_order_status("mine")).state is OrderState.CANCELED


@scenario(BRISK)
async def test_the_wish_outlives_the_process(w: World) -> None:
    """It is durable before the cancel is sent, and taken up again after the crash."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.extend([Unknown(ErrorCategory.TIMEOUT, "silence")] * 3)
    w.background(w.bot.cancel_order("mine"))
    await asyncio.sleep(0.1)
    w.exchange.cancel_script.clear()
    bot = await w.crash()
    await bot.open()
    await asyncio.sleep(30)
    assert (await bot.get_order_status("mine")).state is OrderState.CANCELED


@scenario(BRISK, OPEN_ONLY)
async def test_an_order_whose_fate_is_unknown_is_canceled_by_our_id_meanwhile(w: World) -> None:
    """It rests, unseen as yet; the cancel names it by the id that we gave it."""
    w.exchange.script.append("lost reply")
    w.exchange.hidden.add("X1")
    w.background(w.bot.execute_order(MINE))
    await asyncio.sleep(0.2)
    call = asyncio.ensure_future(w.bot.cancel_order("mine"))
    await asyncio.sleep(0.5)
    assert w.exchange.orders["X1"].state is OrderState.CANCELED
    assert w.exchange.cancels[0].client_order_id == "mine"
    w.exchange.hidden.clear()
    assert await call is True


@scenario(BRISK)
async def test_an_open_circuit_delays_a_cancel_and_does_not_lose_it(w: World) -> None:
    """The lane of cancels is closed by hand; the wish stays, and is carried out when it opens again."""
    await w.bot.execute_order(MINE)
    await w.bot.force_circuit_open("drill", Lane.CANCEL)
    call = asyncio.ensure_future(w.bot.cancel_order("mine"))
    await asyncio.sleep(5)
    assert w.exchange.cancels == []
    assert await w.bot.reset_circuit(Lane.CANCEL) is CircuitState.CLOSED
    assert await call is True


@scenario(BRISK)
async def test_a_failing_journal_stops_no_cancel(w: World) -> None:
    """New orders are refused then; a position can still be reduced."""
    await w.bot.execute_order(MINE)
    w.journal.fail_next()
    assert await w.bot.cancel_order("mine") is True
    assert w.exchange.orders["X1"].state is OrderState.CANCELED


@scenario(BRISK)
async def test_cancelling_twice_at_once_sends_one_cancel(w: World) -> None:
    """Both callers hear the same."""
    await w.bot.execute_order(MINE)
    assert await asyncio.gather(w.bot.cancel_order("mine"), w.bot.cancel_order("mine")) == [True, True]
    assert len(w.exchange.cancels) == 1


@scenario({"retry": {"deadline_seconds": 300, "initial_delay": 0.2}})
async def test_a_cancel_is_pursued_for_a_bounded_time_and_then_by_the_tracker(w: World) -> None:
    """No loop runs for ever; the next round of tracking takes the wish up again."""
    await w.bot.execute_order(MINE)
    w.exchange.cancel_script.extend([NotSent(ErrorCategory.CONNECTION, "refused")] * 10_000)
    call = asyncio.ensure_future(w.bot.cancel_order("mine"))
    await asyncio.sleep(150)
    assert len(w.exchange.cancels) < 500
    w.exchange.cancel_script.clear()
    assert await call is True


@scenario({"retry": {"max_retries": 0}})
async def test_cancelling_an_order_that_never_left_keeps_it_from_starting_afresh(w: World) -> None:
    """Whoever was told that it is canceled must not see it placed by a later call."""
    w.exchange.script.append(REFUSED)
    with pytest.raises(OrderNotSent):
        await w.bot.execute_order(MINE)
    assert (await w.bot.get_order_status("mine")).restartable
    assert await w.bot.cancel_order("mine") is True
    with pytest.raises(OrderRejected):
        await w.bot.execute_order(MINE)
    assert len(w.exchange.submits) == 1
    assert w.exchange.named("mine") == []


SETTLES_LATE = replace(FOREVER, settle=5.0)
REFUSALS = [Rejected("new")] * 100


@pytest.mark.parametrize(
    ("traits", "first", "seconds"),
    [
        (FOREVER, [], 1.0),
        (SETTLES_LATE, [], 5.0),
        (SETTLES_LATE, [Accepted("X1")], 10.0),
        (SETTLES_LATE, [Unknown(ErrorCategory.TIMEOUT, "silence")], 10.0),
    ],
    ids=["a second", "the settle time", "after an accepted cancel", "after a silent one"],
)
def test_refusals_count_only_when_they_lie_apart(
    traits: GatewayTraits, first: list[object], seconds: float
) -> None:
    """An order that is not booked yet may refuse for a moment; one that was cancelled refuses a second cancel."""

    @scenario(BRISK, traits=traits)
    async def story(w: World) -> None:
        await w.bot.execute_order(MINE)
        w.exchange.cancel_script.extend([*first, *REFUSALS])
        began = w.clock.monotonic()
        assert await w.bot.cancel_order("mine") is False
        assert seconds <= w.clock.monotonic() - began < seconds + 3
        order = await w.bot.get_order_status("mine")
        assert (order.state, order.cancel_requested) == (OrderState.OPEN, False)

    story()


@scenario(BRISK)
async def test_an_order_that_refuses_a_cancel_for_a_moment_is_cancelled_in_the_end(w: World) -> None:
    """Refusals in quick succession are one refusal, however many they are."""
    await w.bot.execute_order(MINE)
    free_from = w.clock.monotonic() + 0.9
    cancel = w.exchange.cancel

    async def booking(ref: OrderRef) -> object:
        w.exchange.cancels.append(ref)
        return Rejected("new") if w.clock.monotonic() < free_from else await cancel(ref)

    w.exchange.cancel = booking  # type: ignore[method-assign,assignment]
    assert await w.bot.cancel_order("mine") is True
    assert w.exchange.orders["X1"].state is OrderState.CANCELED
    assert len(w.exchange.cancels) > 3
