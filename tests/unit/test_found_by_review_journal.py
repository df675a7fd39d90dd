"""Defects that a review found where the journal fails or hangs, or a close is interrupted, each as a story."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.mcp.order_execution import (
    ExecutorClosed,
    JournalError,
    JournalUnavailable,
    OrderExecutionError,
    OrderNotSent,
    OrderRejected,
    OrderState,
    OrderUnresolved,
    lifecycle,
)
from services.mcp.order_execution.models import Step
from tests.fakes import BLIND, OPEN_ONLY
from tests.worlds import ORDER, World, outcome, scenario

A = {**ORDER, "client_order_id": "a"}
FIVE_SECONDS = {**A, "deadline_seconds": 5}
IMPATIENT = {"confirmation": {"close_timeout_seconds": 1}}


# ---- a disk that hangs ----------------------------------------------------------------------------------------


@scenario()
async def test_a_disk_that_hangs_does_not_hold_an_order_beyond_its_deadline(world: World) -> None:
    """The call ends, and when the disk goes on an hour later nothing is sent at a stale price."""
    await world.bot.open()
    await asyncio.sleep(5)
    world.journal.pause()
    call = asyncio.ensure_future(outcome(world.bot.execute_order(FIVE_SECONDS)))
    await asyncio.sleep(10)
    assert call.done()
    assert isinstance(await call, OrderNotSent)
    await asyncio.sleep(3_600)
    world.journal.resume()
    await asyncio.sleep(60)
    assert world.exchange.submits == []


@scenario()
async def test_a_disk_that_hangs_is_not_asked_for_ever_whether_an_order_is_known(world: World) -> None:
    """What it does not say is not guessed: unresolved, and not sent as if it were new."""
    await world.bot.execute_order(A)
    bot = await world.crash()
    await bot.open()
    await asyncio.sleep(5)
    world.core.registry.forget("a")  # as if others had pushed it out of memory
    world.journal.enqueue(lifecycle.confirmed(await _on_disk(world), world.clock.now(), Step.VISIBLE))
    world.journal.pause()
    call = asyncio.ensure_future(bot.execute_order(FIVE_SECONDS))
    await asyncio.sleep(10)
    assert call.done()
    with pytest.raises(OrderUnresolved, match="journal"):
        await call
    world.journal.resume()
    assert world.exchange.placed == ["a"]


async def _on_disk(world: World) -> Any:
    order = world.on_disk("a")
    assert order is not None
    return order


@scenario()
async def test_a_disk_that_hangs_stops_no_cancel(world: World) -> None:
    """Neither its request nor its answer."""
    await world.bot.execute_order(A)
    await world.journal.flush()
    world.journal.pause()
    cancel = asyncio.ensure_future(world.bot.cancel_order("a"))
    await asyncio.sleep(10)
    assert cancel.done()
    assert await cancel
    assert world.exchange.orders["X1"].state is OrderState.CANCELED
    world.journal.resume()


@scenario()
async def test_a_resend_that_a_hanging_disk_holds_up_is_not_sent_afterwards(world: World) -> None:
    """Its caller has long gone by then."""
    world.exchange.script.append("lost request")
    call = asyncio.ensure_future(outcome(world.bot.execute_order({**A, "deadline_seconds": 30})))
    await world.until_sent()
    await asyncio.sleep(1)
    world.journal.pause()
    await asyncio.sleep(300)
    assert call.done()
    assert isinstance(await call, OrderExecutionError)
    world.journal.resume()
    await asyncio.sleep(60)
    assert len(world.exchange.submits) == 1
    assert (await world.bot.get_order_status("a")).state.is_final


@scenario(IMPATIENT)
async def test_a_close_answers_who_waits_for_a_disk_that_hangs(world: World) -> None:
    """The call ends with the close; the close itself waits for the disk, since it promises durability."""
    await world.bot.open()
    await asyncio.sleep(1)
    world.journal.pause()
    call = asyncio.ensure_future(outcome(world.bot.execute_order(A)))
    await asyncio.sleep(1)
    closing = asyncio.ensure_future(world.bot.close())
    await asyncio.sleep(30)
    assert call.done()
    assert isinstance(await call, OrderNotSent | ExecutorClosed)
    world.journal.resume()
    await closing
    assert world.exchange.submits == []


@scenario(IMPATIENT)
async def test_a_verdict_that_a_close_forces_out_is_told_only_if_the_journal_keeps_it(world: World) -> None:
    """Intent, wish and verdict are lost with it: the next life knows nothing, so "canceled" would be a lie."""
    await world.bot.open()
    await asyncio.sleep(1)
    world.journal.pause()
    call = asyncio.ensure_future(outcome(world.bot.execute_order(A)))
    await asyncio.sleep(0.5)
    world.background(outcome(world.bot.cancel_order("a")))
    await asyncio.sleep(0.5)
    closing = asyncio.ensure_future(world.bot.close())
    await asyncio.sleep(1.5)
    order = world.core.registry.get("a")
    assert order is not None
    assert order.state is OrderState.CANCELED
    world.journal.fail_next()
    world.journal.resume()
    told = await call
    assert isinstance(told, OrderUnresolved)
    with pytest.raises(JournalError):
        await closing
    assert world.on_disk("a") is None


# ---- a journal that fails -------------------------------------------------------------------------------------


@scenario({"retry": {"deadline_seconds": 600}}, traits=OPEN_ONLY)
async def test_orders_that_end_while_the_journal_fails_are_not_called_never_sent(world: World) -> None:
    """More than memory holds: they were sent and filled, so after resume() none may start afresh."""
    await world.bot.open()
    ids = [f"o{number}" for number in range(20)]
    world.core.registry._max_finished = 2
    world.exchange.latency = 5.0
    world.exchange.script.extend(["fill"] * len(ids))
    calls = [
        asyncio.ensure_future(world.bot.execute_order({**ORDER, "amount": "0.01", "client_order_id": order_id}))
        for order_id in ids
    ]
    await world.until_sent(len(ids))
    world.journal.fail_next()  # every intent is durable by now; what the exchange answers will not be
    assert await asyncio.gather(*calls) == ids
    await asyncio.sleep(60)
    world.exchange.latency = 0.0
    await world.bot.resume()
    assert {(await world.bot.get_order_status(order_id)).state for order_id in ids} == {OrderState.FILLED}
    assert await world.bot.execute_order({**ORDER, "amount": "0.01", "client_order_id": "o0"}) == "o0"
    assert sorted(world.exchange.placed) == sorted(ids)


@scenario()
async def test_refused_intents_do_not_make_waiting_changes_count_as_written(world: World) -> None:
    """What was never appended is not counted where it is worked out how far the disk has come."""
    for order_id in ("a", "b"):
        await world.bot.execute_order({**ORDER, "client_order_id": order_id})
    await world.journal.flush()
    world.journal.pause()
    registry = world.core.registry
    for order_id in ("a", "b"):
        order = registry.get(order_id)
        assert order is not None
        registry.record(lifecycle.confirmed(order, world.clock.now(), Step.BALANCE))
    world.store.full = True
    for number in range(1, 4):
        with pytest.raises(JournalUnavailable):
            await world.bot.execute_order({**ORDER, "amount": f"0.{number}"})
    assert registry.may_be_lost("a")
    assert registry.may_be_lost("b")
    world.store.full = False
    world.journal.resume()
    await world.journal.flush()
    await world.bot.execute_order({**ORDER, "amount": "0.4"})
    assert not registry.may_be_lost("a")
    assert not registry.may_be_lost("b")


@scenario()
async def test_a_resume_that_was_cancelled_half_way_can_be_repeated(world: World) -> None:
    """The journal stood open, and nothing of it had been taken over yet."""
    await world.bot.open()
    world.journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await world.bot.execute_order(A)
    claim = world.journal.claim

    async def slow() -> Any:
        await asyncio.sleep(1)
        return await claim()

    world.journal.claim = slow  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await world.bot.resume()
    world.journal.claim = claim  # type: ignore[method-assign]
    await world.bot.resume()
    assert await world.bot.execute_order(A) == "a"


# ---- what was told survives a crash ---------------------------------------------------------------------------


@scenario(traits=BLIND)
async def test_an_id_that_the_exchange_cannot_tell_again_is_durable_before_it_is_told(world: World) -> None:
    """Without lookups nobody could ever find the order again."""
    assert await world.bot.execute_order(A) == "a"
    bot = await world.crash()
    order = await bot.get_order_status("a")
    assert (order.state, order.exchange_order_id) == (OrderState.OPEN, "X1")


async def _ends_unresolved(world: World) -> None:
    """Let an order be lost, and its caller leave before that is proved."""
    world.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved):
        await world.bot.execute_order({**A, "deadline_seconds": 1})


@scenario()
async def test_an_end_that_was_told_survives_a_crash(world: World) -> None:
    """wait_for_order says rejected: another order may take its place, so this one never starts afresh."""
    await _ends_unresolved(world)
    world.journal.commit_seconds = 5.0
    told = await world.bot.wait_for_order("a")
    assert (told.state, told.restartable) == (OrderState.REJECTED, False)
    bot = await world.crash()
    assert await bot.get_order_status("a") == told
    with pytest.raises(OrderRejected):
        await bot.execute_order(A)
    assert world.exchange.placed == []


@scenario()
async def test_an_end_that_the_journal_is_too_slow_to_keep_is_not_told(world: World) -> None:
    """The exchange does not have the order and cannot tell its end again: an error, until it is on disk."""
    await _ends_unresolved(world)
    world.journal.pause()
    with pytest.raises(JournalError, match="the journal cannot keep that"):
        await world.bot.wait_for_order("a", timeout=20)
    world.journal.resume()
    assert (await world.bot.wait_for_order("a")).state is OrderState.REJECTED


@scenario()
async def test_an_end_that_the_exchange_can_tell_again_does_not_wait_for_the_disk(world: World) -> None:
    """It has the order under its own id."""
    await world.bot.execute_order(A)
    await world.journal.flush()
    world.journal.pause()
    world.exchange.close_order("X1")
    began = world.clock.monotonic()
    assert (await world.bot.wait_for_order("a")).state is OrderState.CANCELED
    assert world.clock.monotonic() - began < 30
    world.journal.resume()


# ---- closes ---------------------------------------------------------------------------------------------------


@scenario()
async def test_a_close_that_was_cancelled_goes_on_to_its_end(world: World) -> None:
    """A caller that gave up on it, by a timeout or a second signal, does not leave the journal locked."""
    world.exchange.script.append("hang")
    world.background(outcome(world.bot.execute_order(A)))
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await world.bot.close()
    assert world.store.writer is world.journal
    await world.bot.close()
    assert world.store.writer is None


@scenario()
async def test_a_second_close_waits_for_the_first(world: World) -> None:
    """When close() returns, the journal is closed, whoever began."""
    world.exchange.script.append("hang")
    world.background(outcome(world.bot.execute_order(A)))
    await asyncio.sleep(1)
    first = asyncio.ensure_future(world.bot.close())
    await asyncio.sleep(0.1)
    assert not first.done()
    await world.bot.close()
    assert world.store.writer is None
    await first


@scenario()
async def test_a_close_while_the_journal_is_opened_anew_leaves_it_closed(world: World) -> None:
    """The resume that is under way does not open it again behind the close."""
    await world.bot.open()
    world.journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await world.bot.execute_order(A)
    reopen = world.journal.open

    async def slow() -> None:
        await asyncio.sleep(1)
        await reopen()

    world.journal.open = slow  # type: ignore[method-assign]
    resuming = asyncio.ensure_future(world.bot.resume())
    await asyncio.sleep(0.5)
    await world.bot.close()
    await asyncio.gather(resuming, return_exceptions=True)
    assert world.store.writer is None
    with pytest.raises(ExecutorClosed):
        await world.bot.resume()
