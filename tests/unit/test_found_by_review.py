"""Defects that a review found in how orders are sent, cancelled and followed, each as the story that showed it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import (
    CircuitState,
    ErrorCategory,
    OrderNotSent,
    OrderRejected,
    OrderState,
    OrderUnresolved,
    RiskLimitExceeded,
)
from services.mcp.order_execution.gateways.base import Found, IdScope, OrderRef, Rejected, Unavailable, Unknown
from services.mcp.order_execution.models import Order
from tests.fakes import FOREVER, OPEN_ONLY
from tests.virtual_time import VirtualClock
from tests.worlds import ORDER, REFUSED, World, outcome, scenario

A = {**ORDER, "client_order_id": "a"}
MARKET = {"symbol": "BTC/USD", "side": "buy", "type": "market", "amount": "0.1", "client_order_id": "a"}
ONE_EVERY_TEN_SECONDS = replace(FOREVER, order_requests_per_second=0.1, burst=1)
ONE_ATTEMPT = {"retry": {"max_retries": 0}}
POSITION = {"risk": {"max_position": {"BTC": "0.1"}}}
TOO_MANY = Unavailable(ErrorCategory.BAD_RESPONSE, "more than 2000 trades", local=True)


# ---- what nobody wants any more is not sent -------------------------------------------------------------------


@scenario()
async def test_an_unwanted_order_whose_attempt_did_not_leave_is_not_sent_again(world: World) -> None:
    """The wish to cancel came while the attempt was under way; a market order would fill at once."""
    world.exchange.latency = 1.0
    world.exchange.script.extend([REFUSED, "fill"])
    world.background(outcome(world.bot.execute_order(MARKET)))
    await world.until_sent()
    assert await world.bot.cancel_order("a")
    await asyncio.sleep(30)
    order = await world.bot.get_order_status("a")
    assert (order.state, order.filled) == (OrderState.CANCELED, Decimal(0))
    assert len(world.exchange.submits) == 1


@scenario(ONE_ATTEMPT)
async def test_after_a_cancel_that_succeeded_no_other_call_places_the_order(world: World) -> None:
    """Neither one that waits for its turn with the same id, nor a later one."""
    world.exchange.latency = 1.0
    world.exchange.script.append(REFUSED)
    world.background(outcome(world.bot.execute_order(A)))
    await world.until_sent()
    waiting = asyncio.ensure_future(outcome(world.bot.execute_order(A)))
    await asyncio.sleep(0)
    assert await world.bot.cancel_order("a")
    for told in (await waiting, await outcome(world.bot.execute_order(A))):
        assert isinstance(told, OrderRejected)
        assert told.reason == "canceled_before_sending"
    assert world.exchange.placed == []


@scenario()
async def test_an_order_that_is_cancelled_while_its_intent_is_written_is_not_sent(world: World) -> None:
    """Nothing has left by then."""
    await world.bot.open()
    world.journal.commit_seconds = 0.4
    world.exchange.script.append("fill")
    call = asyncio.ensure_future(outcome(world.bot.execute_order(MARKET)))
    await asyncio.sleep(0.2)
    assert world.core.registry.get("a") is not None
    assert await world.bot.cancel_order("a")
    assert isinstance(await call, OrderRejected)
    await asyncio.sleep(10)
    assert (await world.bot.get_order_status("a")).state is OrderState.CANCELED
    assert world.exchange.submits == []


@pytest.mark.parametrize("way", ["cancelled", "caller gone"])
def test_a_resend_that_waits_in_line_is_not_sent_once_nobody_wants_it(way: str) -> None:
    """The order was proved absent, and its next copy waits for our own rate limit."""

    @scenario(traits=ONE_EVERY_TEN_SECONDS)
    async def story(world: World) -> None:
        world.exchange.script.extend(["lost request", "fill"])
        call = asyncio.ensure_future(outcome(world.bot.execute_order({**MARKET, "deadline_seconds": 50})))
        await asyncio.sleep(6)
        assert len(world.exchange.submits) == 1
        if way == "cancelled":
            await world.bot.cancel_order("a")
        else:
            call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await asyncio.sleep(60)
        order = await world.bot.get_order_status("a")
        assert (order.state.is_final, order.filled) == (True, Decimal(0))
        assert len(world.exchange.submits) == 1

    story()


@scenario()
async def test_nothing_is_sent_after_the_deadline(world: World) -> None:
    """The market's rules come after twelve seconds, and the caller has given five: its price is stale."""
    await world.bot.open()
    await asyncio.sleep(5)
    world.exchange.latency = 12.0
    assert isinstance(await outcome(world.bot.execute_order({**A, "deadline_seconds": 5})), OrderNotSent)
    await asyncio.sleep(60)
    assert world.exchange.submits == []


@scenario(ONE_ATTEMPT)
async def test_a_wish_to_cancel_outlives_its_caller_and_the_attempt(world: World) -> None:
    """Its caller left, and the attempt did not leave: a bot that executes everything again does not place it."""
    world.exchange.latency = 1.0
    world.exchange.script.append(REFUSED)
    world.background(outcome(world.bot.execute_order(A)))
    await world.until_sent()
    cancel = asyncio.ensure_future(world.bot.cancel_order("a"))
    await asyncio.sleep(0.1)
    cancel.cancel()
    await asyncio.gather(cancel, return_exceptions=True)
    await asyncio.sleep(10)
    order = await world.bot.get_order_status("a")
    assert (order.state, order.restartable) == (OrderState.CANCELED, False)
    assert isinstance(await outcome(world.bot.execute_order(A)), OrderRejected)
    assert world.exchange.placed == []


@scenario()
async def test_a_wish_to_cancel_outlives_a_crash(world: World) -> None:
    """The process dies right after the attempt that did not leave: the next one does not start it afresh."""
    world.exchange.latency = 1.0
    world.exchange.script.append(REFUSED)
    world.background(outcome(world.bot.execute_order(A)))
    await world.until_sent()
    world.background(outcome(world.bot.cancel_order("a")))
    on_disk = await _until_on_disk(world, lambda order: order.state is not OrderState.SENDING)
    assert on_disk.cancel_requested or on_disk.state is OrderState.CANCELED
    bot = await world.crash()
    assert isinstance(await outcome(bot.execute_order(A)), OrderRejected)
    assert world.exchange.placed == []


async def _until_on_disk(world: World, matches: Any) -> Order:
    for _ in range(10_000):
        order = world.on_disk("a")
        if order is not None and matches(order):
            return order
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be on disk")


@scenario()
async def test_the_wish_to_cancel_an_unknown_order_outlives_its_caller(world: World) -> None:
    """The request arrives three seconds late; the caller of the cancel had left while the wish was written."""
    world.exchange.script.append(3.0)
    world.exchange.traits = replace(FOREVER, request_expiry=5.0)
    world.background(outcome(world.bot.execute_order(A)))
    await world.until_sent()
    await asyncio.sleep(0.5)
    world.journal.commit_seconds = 0.2
    cancel = asyncio.ensure_future(world.bot.cancel_order("a"))
    await asyncio.sleep(0.1)
    cancel.cancel()
    await asyncio.gather(cancel, return_exceptions=True)
    await asyncio.sleep(60)
    assert world.exchange.placed == ["a"]
    assert (await world.bot.get_order_status("a")).state is OrderState.CANCELED
    assert world.exchange.orders["X1"].state is OrderState.CANCELED


@scenario()
async def test_a_caller_that_leaves_at_any_moment_leaves_nothing_behind(world: World) -> None:
    """Each order either rests and is followed, or is closed; no reservation, place or wish is left over."""
    world.exchange.latency = 0.02
    ids = [f"c{step}" for step in range(100)]
    for step, order_id in enumerate(ids):
        call = asyncio.ensure_future(outcome(world.bot.execute_order({**ORDER, "client_order_id": order_id})))
        await asyncio.sleep(step * 0.002)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(120)
    open_at_the_end = 0
    for order_id in ids:
        there = world.exchange.named(order_id)
        assert len(there) <= 1
        order = await world.core.registry.find(order_id)
        assert bool(there) == (order is not None and order.state is OrderState.OPEN)
        assert order is None or order.state is OrderState.OPEN or order.state.is_final
        open_at_the_end += len(there)
    assert 0 < open_at_the_end < len(ids)
    assert await world.core.funds.refresh(max_age=0.0)
    assert not world.core.funds.reservations
    assert not world.core.guard._admitted
    assert not world.core.registry._wanted


# ---- cancels --------------------------------------------------------------------------------------------------


@scenario()
async def test_a_cancel_that_was_accepted_is_not_told_as_refused(world: World) -> None:
    """What shows the order as open may lag behind by the settle time; a second cancel finds nothing open."""
    await world.bot.execute_order(A)
    stale, query = world.exchange.orders["X1"], world.exchange.query
    fresh_from = world.clock.monotonic() + world.exchange.traits.settle

    async def lagging(ref: OrderRef) -> Any:
        return Found(stale) if world.clock.monotonic() < fresh_from else await query(ref)

    world.exchange.query = lagging  # type: ignore[method-assign]
    assert await world.bot.cancel_order("a")
    assert (await world.bot.get_order_status("a")).state is OrderState.CANCELED


# ---- waiting --------------------------------------------------------------------------------------------------


@scenario()
async def test_nobody_waits_for_ever_when_many_orders_end_at_once(world: World) -> None:
    """More than memory holds, in one turn: they push each other out before those who wait have woken."""
    ids = [f"o{number}" for number in range(20)]
    for order_id in ids:
        await world.bot.execute_order({**ORDER, "amount": "0.01", "client_order_id": order_id})
    world.core.registry._max_finished = 2
    waits = [asyncio.ensure_future(world.bot.wait_for_order(order_id)) for order_id in ids]
    await asyncio.sleep(1)
    for exchange_order_id in list(world.exchange.orders):
        world.exchange.close_order(exchange_order_id)
    await asyncio.sleep(600)
    assert all(wait.done() for wait in waits)
    assert {(await wait).state for wait in waits} == {OrderState.CANCELED}


@scenario()
async def test_a_look_into_the_journal_gives_out_nothing_stale(world: World) -> None:
    """The order starts afresh while its old record is being read."""
    world.exchange.script.extend([REFUSED] * 4)
    await outcome(world.bot.execute_order(A))
    registry, get = world.core.registry, world.journal.get
    await world.journal.flush()
    registry.forget("a")  # as if others had pushed it out of memory

    async def slow(order_id: str) -> Order | None:
        answer = await get(order_id)
        await asyncio.sleep(1)
        return answer

    world.journal.get = slow  # type: ignore[method-assign]
    finding = asyncio.ensure_future(registry.find("a"))
    await asyncio.sleep(0.5)
    world.journal.get = get  # type: ignore[method-assign]
    await world.bot.execute_order(A)
    found = await finding
    assert found is not None
    assert found.state is OrderState.OPEN


@scenario()
async def test_an_order_that_was_accepted_and_then_rejected_gives_the_same_answer(world: World) -> None:
    """Its id, as at first: the exchange has it under its own id, so it was placed."""
    assert await world.bot.execute_order(A) == "a"
    world.exchange.close_order("X1", OrderState.REJECTED)
    assert (await world.bot.wait_for_order("a")).state is OrderState.REJECTED
    assert await world.bot.execute_order(A) == "a"
    assert world.exchange.placed == ["a"]


# ---- limits ---------------------------------------------------------------------------------------------------


@scenario(POSITION)
async def test_a_position_limit_holds_right_after_a_fill(world: World) -> None:
    """Balances that were told before the fill do not have it, and the order that filled is no longer open."""
    world.exchange.free["BTC"] = Decimal(0)
    world.exchange.script.extend(["fill", "fill"])
    await world.bot.execute_order(A)
    await asyncio.sleep(0.01)
    with pytest.raises(RiskLimitExceeded, match="position"):
        await world.bot.execute_order({**A, "client_order_id": "b"})
    assert world.exchange.free["BTC"] == Decimal("0.1")


@scenario(POSITION)
async def test_a_position_limit_holds_while_balances_are_being_told(world: World) -> None:
    """An answer that is under way was asked for before the fill: it is asked once more."""
    world.exchange.free["BTC"] = Decimal(0)
    await world.bot.execute_order(A)
    await asyncio.sleep(1)
    balances = world.exchange.balances

    async def slow() -> Any:
        answer = await balances()
        await asyncio.sleep(2)
        return answer

    world.exchange.balances = slow  # type: ignore[method-assign]
    asking = asyncio.ensure_future(world.core.funds.refresh(max_age=0.0))
    await asyncio.sleep(0.1)
    world.exchange.fill("X1", "0.1")
    await world.bot.wait_for_order("a", 1)
    world.exchange.script.append("fill")
    with pytest.raises(RiskLimitExceeded, match="position"):
        await world.bot.execute_order({**A, "client_order_id": "b"})
    assert await asking
    assert world.exchange.free["BTC"] == Decimal("0.1")


# ---- two orders under one id ----------------------------------------------------------------------------------


@scenario()
async def test_a_second_order_under_our_id_is_told(world: World) -> None:
    """The stream told of one while the answer, which names another, was on its way."""
    sink = await world.listen()
    world.exchange.traits = replace(FOREVER, client_id_scope=IdScope.NONE)
    world.exchange.latency = 1.0
    call = asyncio.ensure_future(world.bot.execute_order(A))
    await world.until_sent()
    world.core.stream._take(world.exchange.place(world.exchange.submits[0]))
    assert await call == "a"
    await asyncio.sleep(60)
    assert sorted(order.exchange_order_id for order in world.exchange.named("a")) == ["X1", "X2"]
    (told,) = [alert for alert in sink.alerts if alert.key == "doubled:a"]
    assert "X2" in told.body


@scenario({"gateway": {"timeout_seconds": 1}, **ONE_ATTEMPT})
async def test_a_copy_that_arrives_against_all_promises_is_followed(world: World) -> None:
    """It was proved absent by then; the reconciliation finds it, and from there on it is ours."""
    world.exchange.script.append(100.0)
    with pytest.raises(OrderRejected, match="never_arrived"):
        await world.bot.execute_order(A)
    await asyncio.sleep(200)
    assert world.exchange.placed == ["a"]
    await world.bot.reconcile_orders("hourly")
    order = await world.bot.get_order_status("a")
    assert (order.state, order.exchange_order_id) == (OrderState.OPEN, "X1")
    assert await world.bot.cancel_order("a")


# ---- what a refusal is worth after a restart ------------------------------------------------------------------


@scenario()
async def test_a_duplicate_after_a_restart_may_mean_the_copy_of_the_earlier_life(world: World) -> None:
    """The exchange says that the id exists and shows it nowhere: that is no refusal to be told."""
    world.exchange.script.append("hang")
    world.background(outcome(world.bot.execute_order(A)))
    await asyncio.sleep(1)
    bot = await world.crash()
    await bot.open()
    await asyncio.sleep(60)
    assert (await bot.get_order_status("a")).restartable
    world.exchange.script.clear()
    world.exchange.script.append(Rejected("duplicate_client_order_id", duplicate_id=True))
    told = await outcome(bot.execute_order({**A, "deadline_seconds": 30}))
    assert isinstance(told, OrderUnresolved)
    assert (await bot.get_order_status("a")).state is OrderState.UNKNOWN


# ---- clocks, and reads that are not to be had -----------------------------------------------------------------


@scenario(traits=OPEN_ONLY)
async def test_an_order_is_found_although_our_clock_runs_ahead(world: World) -> None:
    """It filled at once and is in the closed list alone, by the exchange's clock long before we made it."""
    await world.bot.open()
    await asyncio.sleep(5)
    world.exchange.clock = VirtualClock()
    world.clock.jump(1_200)
    fate = world.exchange._fate

    async def filled_and_silent(step: object, request: Any) -> Any:
        await fate(step, request)
        return Unknown(ErrorCategory.TIMEOUT, "lost reply")

    world.exchange._fate = filled_and_silent  # type: ignore[method-assign]
    world.exchange.script.append("fill")
    assert await world.bot.execute_order(A) == "a"
    assert world.exchange.placed == ["a"]
    assert (await world.bot.get_order_status("a")).state is OrderState.FILLED


async def _tells_no_trades(world: World) -> None:
    """Let an order be filled in part, by trades of which there are more than the gateway ever reads."""
    world.exchange.carry_fills = False
    await world.bot.execute_order(A)
    world.exchange.fill("X1", "0.05")

    async def too_many(*given: object) -> Unavailable:
        return TOO_MANY

    world.exchange.trades = too_many  # type: ignore[method-assign,assignment]
    await asyncio.sleep(10)


@scenario()
async def test_a_start_does_not_wait_for_trades_that_are_not_to_be_had(world: World) -> None:
    """No new order depends on by which single trades an old one was filled."""
    await _tells_no_trades(world)
    bot = await world.crash()
    await bot.open()
    await asyncio.sleep(60)
    assert world.core.recovered
    assert await bot.execute_order({**A, "client_order_id": "new"}) == "new"
    order = await bot.get_order_status("a")
    assert (order.state, order.filled) == (OrderState.PARTIALLY_FILLED, Decimal("0.05"))


@scenario({"circuit_breaker": {"error_threshold": 3, "warning_threshold": 2, "window_size_minutes": 1}})
async def test_our_own_bounds_open_no_circuit(world: World) -> None:
    """A read that the gateway itself gives up on is no fault of the exchange."""
    await _tells_no_trades(world)
    for _ in range(20):
        assert not await world.core.tracker.round()
    assert (await world.bot.get_execution_stats()).circuits["query"] is CircuitState.CLOSED
