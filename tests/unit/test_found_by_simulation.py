"""Defects that the simulation found, each as the smallest story that showed it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest

from services.mcp.order_execution import (
    ErrorCategory,
    ExecutorClosed,
    OrderNotSent,
    OrderRejected,
    OrderState,
    OrderUnresolved,
    lifecycle,
)
from services.mcp.order_execution.gateways.base import Rejected, Unavailable
from services.mcp.order_execution.models import OrderEvent
from services.mcp.order_execution.submission import Doubt
from tests.fakes import OPEN_ONLY
from tests.worlds import ORDER, REFUSED, World, scenario

O1 = {**ORDER, "client_order_id": "o1"}
PATIENT = {"retry": {"deadline_seconds": 300, "initial_delay": 5.0}, "confirmation": {"close_timeout_seconds": 0.5}}


@scenario()
async def test_events_come_in_order_although_one_is_slow_to_become_durable(world: World) -> None:
    """A wish to cancel waits for the disk; what the exchange tells meanwhile is not told before it."""
    await world.bot.execute_order(O1)
    events = world.bot.events()
    heard: list[OrderEvent] = []

    async def listen() -> None:
        async for event in events:
            heard.append(event)  # noqa: PERF401 - as they come

    world.background(listen())
    world.journal.pause()
    world.background(world.bot.cancel_order("o1"))
    await asyncio.sleep(0.1)
    world.exchange.fill("X1", "0.1")
    await asyncio.sleep(30)
    assert (await _status(world)).state is OrderState.FILLED
    world.journal.resume()
    await asyncio.sleep(30)
    versions = [event.order.version for event in heard]
    assert len(versions) >= 3
    assert all(after == before + 1 for before, after in pairwise(versions))


async def _status(world: World) -> object:
    assert world.bot._core is not None
    return world.bot._core.registry.get("o1")


@scenario(PATIENT)
async def test_nobody_waits_on_for_an_executor_that_was_closed(world: World) -> None:
    """A call that waits for the exchange to come back is told at the close, not at its own deadline."""
    world.exchange.down = "503"
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(1)
    await world.bot.close()
    assert call.done()
    with pytest.raises(ExecutorClosed):
        await call


@scenario(PATIENT)
async def test_a_call_whose_order_may_have_left_hears_that_at_the_close(world: World) -> None:
    """Unresolved, not closed: the order may be at the exchange."""
    world.exchange.script.append("lost reply")
    world.exchange.hidden.add("X1")
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(0.2)
    await world.bot.close()
    assert call.done()
    with pytest.raises(OrderUnresolved):
        await call


@scenario()
async def test_a_closed_executor_does_not_claim_that_an_order_never_left(world: World) -> None:
    """The order is at the exchange; a second call after the close must not hear "never sent"."""
    await world.bot.execute_order(O1)
    await world.bot.close()
    with pytest.raises(ExecutorClosed) as caught:
        await world.bot.execute_order(O1)
    assert not isinstance(caught.value, OrderNotSent)


@scenario(PATIENT)
async def test_an_order_canceled_before_it_was_sent_is_not_called_placed(world: World) -> None:
    """The caller of execute_order hears that nothing was placed, now and when it asks again."""
    world.exchange.script.append(REFUSED)
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(0.1)
    assert await world.bot.cancel_order("o1")
    for attempt in (call, world.bot.execute_order(O1)):
        with pytest.raises(OrderRejected, match="canceled_before_sending"):
            await attempt
    assert world.exchange.placed == []


@scenario(traits=replace(OPEN_ONLY, lists_trades=False))
async def test_a_clock_that_is_set_back_hides_no_order_from_the_resolver(world: World) -> None:
    """The order was filled at once and is in the closed list alone, at a time that lies ahead of our clock."""
    world.exchange.script.append("placed, hang")
    closed = world.exchange.closed_orders

    async def until_matters(since: object, until: object, symbol: str | None = None) -> object:
        listing = await closed(since, until, symbol)  # type: ignore[arg-type]
        return replace(listing, orders=tuple(o for o in listing.orders if o.updated_at < until))  # type: ignore[union-attr,arg-type,operator]

    world.exchange.closed_orders = until_matters  # type: ignore[method-assign,assignment]
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(0.01)
    world.exchange.fill("X1", "0.1")
    world.clock.jump(-7_200)
    assert await call == "o1"
    assert world.exchange.placed == ["o1"]


@scenario()
async def test_a_clock_that_is_plainly_wrong_places_no_orders(world: World) -> None:
    """By it, lists asked for by time could leave out the order that is looked for."""
    world.exchange.clock_error = 3_600.0
    with pytest.raises(OrderNotSent, match="3600 s ahead of the exchange's") as caught:
        await world.bot.execute_order(O1)
    assert caught.value.reason == "clock"
    world.exchange.clock_error = -59.0
    assert await world.bot.execute_order(O1) == "o1"
    assert world.exchange.placed == ["o1"]


@scenario()
async def test_a_fill_during_the_start_is_no_deviation_of_balances(world: World) -> None:
    """The first balances may hold a fill that is booked only afterwards, or lack one that was booked before."""
    await world.bot.execute_order(O1)
    bot = await world.crash()
    balances = world.exchange.balances

    async def filled_meanwhile() -> object:
        world.exchange.fill("X1", "0.01")
        answer = await balances()
        world.exchange.balances = balances  # type: ignore[method-assign]
        return answer

    world.exchange.balances = filled_meanwhile  # type: ignore[method-assign,assignment]
    await bot.open()
    await asyncio.sleep(30)
    assert (await bot.get_order_status("o1")).filled == Decimal("0.01")
    report = await bot.reconcile_orders()
    assert report.is_clean, report.details


@scenario()
async def test_what_a_failing_disk_lost_of_a_settled_order_is_written_again(world: World) -> None:
    """Its last event was in the batch that failed; the next one must not be a version too many."""
    world.exchange.script.append("fill")
    await world.bot.execute_order(O1)
    assert (await world.bot.get_order_status("o1")).is_settled
    await world.journal.flush()
    world.journal.fail_next()
    await asyncio.sleep(10)  # the check of balances is recorded, and lost
    assert world.journal.health().failure is not None
    await world.bot.resume()
    core = world.bot._core
    assert core is not None
    core.registry.record(lifecycle.repaired(await world.bot.get_order_status("o1"), world.clock.now(), "one more"))
    await world.journal.flush()
    assert world.on_disk("o1") == await world.bot.get_order_status("o1")


@scenario(PATIENT)
async def test_a_clock_that_goes_wrong_while_an_order_waits_for_its_turn_stops_it(world: World) -> None:
    """The check comes last thing before the intent, not before a wait for our own rate limits."""
    await world.bot.open()
    core = world.bot._core
    assert core is not None
    await core.wait_recovered(world.clock.monotonic() + 10)
    core.limiter.penalise(5.0)
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(1)
    world.exchange.clock_error = 500.0
    with pytest.raises(OrderNotSent, match="clock"):
        await call
    assert world.exchange.submits == []


@scenario()
async def test_nothing_is_begun_after_the_close(world: World) -> None:
    """A tracking round that ends during the close starts no cancel and no search."""
    await world.bot.execute_order(O1)
    core = world.bot._core
    assert core is not None
    await world.bot.close()
    core.canceller.pursue("o1")
    core.resolver.take("o1", Doubt(0.0))
    assert not core.canceller._tasks
    assert not core.resolver.busy


@scenario(PATIENT)
async def test_an_intent_that_fails_beneath_a_wish_to_cancel_is_taken_back(world: World) -> None:
    """The caller hears that nothing was sent; the order must not stay "sending" for ever."""
    await world.bot.open()
    core = world.bot._core
    assert core is not None
    await core.wait_recovered(world.clock.monotonic() + 10)
    world.journal.pause()
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(0.1)
    world.background(world.bot.cancel_order("o1"))
    await asyncio.sleep(0.1)
    world.journal.fail_next(written=True)
    world.journal.resume()
    with pytest.raises(OrderNotSent):
        await call
    order = await world.bot.get_order_status("o1")
    assert (order.state, order.restartable) == (OrderState.CANCELED, False)
    await world.bot.resume()
    await asyncio.sleep(30)
    assert world.exchange.placed == []
    assert world.on_disk("o1") == await world.bot.get_order_status("o1")


@scenario()
async def test_balances_are_not_judged_while_orders_cannot_be_read(world: World) -> None:
    """A deviation that only the exchange's silence about orders leaves unexplained is none."""
    await world.bot.execute_order(O1)
    core = world.bot._core
    assert core is not None
    await core.confirmer.find_baseline()
    assert core.funds.has_baseline
    world.exchange.fill("X1", "0.01")
    listing = world.exchange.open_orders

    async def silent(symbol: str | None = None) -> object:
        return Unavailable(ErrorCategory.SERVER_ERROR, "503")

    world.exchange.open_orders = silent  # type: ignore[method-assign,assignment]
    assert await core.confirmer.deviations() == {}
    await core.confirmer.find_baseline()
    assert not core.funds.has_baseline
    world.exchange.open_orders = listing  # type: ignore[method-assign]
    await asyncio.sleep(30)
    assert await core.confirmer.deviations() == {}
    assert core.funds.has_baseline


@scenario(PATIENT)
async def test_an_order_that_recovery_proves_absent_is_placed_rather_than_called_rejected(world: World) -> None:
    """Found by a real kill: the caller that waited heard "never arrived", and the next one got the order placed."""
    world.exchange.script.append("lost request")
    world.background(world.bot.execute_order(O1))
    await asyncio.sleep(0.01)
    bot = await world.crash()
    assert await bot.execute_order(O1) == "o1"
    assert world.exchange.placed == ["o1"]


@scenario()
async def test_a_refusal_is_durable_before_its_caller_hears_it(world: World) -> None:
    """Found by a real kill: no exchange can tell a refusal again, so the next life placed what was refused."""
    await world.bot.open()
    world.exchange.script.append(Rejected("min_notional"))
    with pytest.raises(OrderRejected):
        await world.bot.execute_order(O1)
    bot = await world.crash()
    with pytest.raises(OrderRejected, match="min_notional"):
        await bot.execute_order(O1)
    assert world.exchange.placed == []


@scenario(PATIENT)
async def test_a_canceled_order_does_not_start_afresh(world: World) -> None:
    """Found by a real kill: what was never sent was canceled, and a waiting call sent it all the same."""
    world.exchange.script.append(REFUSED)
    call = asyncio.ensure_future(world.bot.execute_order(O1))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await world.bot.get_order_status("o1")).restartable
    assert await world.bot.cancel_order("o1")
    with pytest.raises(OrderRejected, match="canceled_before_sending"):
        await world.bot.execute_order(O1)
    assert world.exchange.placed == []
