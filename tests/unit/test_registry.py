"""The orders in memory: changed in one place, told to everybody in order, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from services.mcp.order_execution import JournalError, JournalUnavailable, OrderState, lifecycle
from services.mcp.order_execution.errors import SubscriberTooSlow
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.models import Order, OrderEvent, Step
from services.mcp.order_execution.registry import OrderRegistry
from tests.unit.test_lifecycle import order_in, seen
from tests.virtual_time import VirtualClock, run_virtual

Story = Callable[["Bench"], Awaitable[None]]


class Bench:
    """A registry on a journal in memory."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.journal = MemoryJournal(self.clock, commit_seconds=0.01)
        self.registry = OrderRegistry(self.journal, self.clock, max_finished=3, max_unread=5)

    def new(self, order_id: str = "o1") -> Order:
        """An order that nobody has sent yet."""
        request = replace(lifecycle.request_of(order_in(OrderState.OPEN)), client_order_id=order_id)
        return lifecycle.new_order(request, self.clock.now())

    def intent(self, order_id: str = "o1") -> OrderEvent:
        """Its first event."""
        return lifecycle.intend(self.new(order_id), self.clock.now())

    async def sent(self, order_id: str = "o1") -> Order:
        """An order that is being sent."""
        return await self.registry.commit(self.intent(order_id))

    def accept(self, order: Order, exchange_order_id: str = "X1") -> Order:
        """Its receipt."""
        return self.registry.record(lifecycle.accepted(order, self.clock.now(), exchange_order_id))


def story(test: Story) -> Callable[[], None]:
    """Run the test in virtual time."""

    def run() -> None:
        async def main() -> None:
            bench = Bench()
            await bench.journal.open()
            await test(bench)

        run_virtual(main)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@story
async def test_a_committed_change_is_in_force_at_once_and_durable_on_return(b: Bench) -> None:
    """Nobody can overtake it, and nobody is told before it is on disk."""
    heard: list[OrderEvent] = []
    b.registry.listen(heard.append)
    call = asyncio.ensure_future(b.sent())
    await asyncio.sleep(0)
    known = b.registry.get("o1")
    assert known is not None
    assert known.state is OrderState.SENDING
    assert heard == []
    await call
    assert [event.order.version for event in heard] == [1]
    assert await b.journal.get("o1") == known


@story
async def test_a_refused_change_never_was(b: Bench) -> None:
    """Nothing is left of it in memory, and nobody hears of it."""
    heard: list[OrderEvent] = []
    b.registry.listen(heard.append)
    b.journal.fail_next()
    with pytest.raises(JournalError):
        await b.sent()
    assert b.registry.get("o1") is None
    assert heard == []


@story
async def test_a_refused_change_takes_nothing_newer_back(b: Bench) -> None:
    """The exchange told of the order meanwhile: that stays, and both are told in their order."""
    heard: list[int] = []
    b.registry.listen(lambda event: heard.append(event.order.version))
    order = b.accept(await b.sent())
    b.journal.pause()
    b.journal.fail_next()
    call = asyncio.ensure_future(b.registry.commit(lifecycle.cancel_requested(order, b.clock.now())))
    await asyncio.sleep(0)
    wished = b.registry.get("o1")
    assert wished is not None
    b.registry.record(lifecycle.confirmed(wished, b.clock.now(), Step.VISIBLE))
    b.journal.resume()
    with pytest.raises(JournalError):
        await call
    current = b.registry.get("o1")
    assert current is not None
    assert current.version == 4
    assert heard == [1, 2, 3, 4]


@story
async def test_a_refused_restart_gives_the_old_end_back(b: Bench) -> None:
    """The order is as it was before the attempt to start afresh."""
    order = await b.sent()
    ended = b.registry.record(lifecycle.never_left(order, b.clock.now(), "never_sent"))
    await b.journal.flush()
    b.journal.fail_next()
    with pytest.raises(JournalError):
        await b.registry.commit(lifecycle.intend(ended, b.clock.now()))
    assert b.registry.get("o1") == ended


@story
async def test_while_the_journal_is_opened_anew_nothing_is_committed(b: Bench) -> None:
    """Records are kept in memory, intents are refused."""
    order = b.accept(await b.sent())
    b.registry.suspend()
    assert b.registry.is_suspended
    with pytest.raises(JournalUnavailable):
        await b.sent("o2")
    b.registry.record(lifecycle.confirmed(order, b.clock.now(), Step.VISIBLE))
    assert "o1" in b.registry.changed_since_failure()
    assert b.journal.health().waiting == 1  # the receipt; what came later is in memory alone
    b.registry.go_on()
    assert not b.registry.is_suspended


@story
async def test_settled_orders_are_held_up_to_the_bound(b: Bench) -> None:
    """The oldest make room; the journal still knows them."""
    for number in range(5):
        order = b.accept(await b.sent(f"o{number}"), f"X{number}")
        b.registry.record(lifecycle.rejected(replace(order, exchange_order_id=None), b.clock.now(), "no"))
    assert b.registry.get("o1") is None
    assert b.registry.get("o4") is not None
    found = await b.registry.find("o1")
    assert found is not None
    assert found.state is OrderState.REJECTED


@story
async def test_an_order_is_found_by_its_id_at_the_exchange(b: Bench) -> None:
    """As long as it may change; forgotten with the order."""
    order = b.accept(await b.sent(), "X7")
    assert b.registry.get_by_exchange_id("X7") == order
    assert b.registry.get_by_exchange_id("X8") is None
    b.registry.forget("o1")
    assert b.registry.get("o1") is None
    assert b.registry.get_by_exchange_id("X7") is None


@story
async def test_a_listener_that_fails_harms_nobody(b: Bench) -> None:
    """The others hear all the same, and the order goes on."""
    heard: list[OrderEvent] = []

    def broken(event: OrderEvent) -> None:
        raise RuntimeError("a defect")

    b.registry.listen(broken)
    b.registry.listen(heard.append)
    await b.sent()
    assert len(heard) == 1


@story
async def test_a_reader_that_falls_behind_is_told_so(b: Bench) -> None:
    """What it has not read it still gets; then comes the error, not a gap."""
    subscription = b.registry.subscribe()
    for number in range(6):
        await b.sent(f"o{number}")
    got = [(await anext(subscription)).order_id for _ in range(5)]
    assert got == [f"o{number}" for number in range(5)]
    with pytest.raises(SubscriberTooSlow):
        await anext(subscription)
    await b.sent("o7")
    assert subscription.closed


@story
async def test_a_closed_registry_ends_what_waits(b: Bench) -> None:
    """Readers come to their end, and waiters hear that there is nothing to wait for."""
    subscription = b.registry.subscribe()
    await b.sent()
    waiting = asyncio.ensure_future(b.registry.wait_until("o1", lambda order: order.state.is_final, None))
    await asyncio.sleep(0)
    b.registry.close()
    assert [event.order_id async for event in subscription] == ["o1"]
    assert await waiting is None


@story
async def test_waiting_ends_at_its_deadline_or_with_the_state(b: Bench) -> None:
    """Whichever comes first; a waiter that was cancelled is forgotten."""
    order = await b.sent()
    final = lambda item: item.state.is_final  # noqa: E731
    now = b.clock.monotonic()
    assert await b.registry.wait_until("o1", final, now + 2) is None
    assert b.clock.monotonic() == now + 2
    assert await b.registry.wait_until("o1", final, now + 1) is None
    left = asyncio.ensure_future(b.registry.wait_until("o1", final, None))
    stays = asyncio.ensure_future(b.registry.wait_until("o1", final, None))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    b.registry.record(lifecycle.rejected(order, b.clock.now(), "no"))
    ended = await stays
    assert ended is not None
    assert ended.state is OrderState.REJECTED
    assert b.registry._waiters == {}


@story
async def test_an_order_is_wanted_as_long_as_any_caller_waits_for_it(b: Bench) -> None:
    """The latest deadline counts, and taking back what was never wanted is harmless."""
    b.registry.want("o1", 5.0)
    b.registry.want("o1", 9.0)
    assert b.registry.wanted_until("o1") == 9.0
    b.registry.unwant("o1", 9.0)
    assert b.registry.wanted_until("o1") == 5.0
    assert b.registry.is_wanted("o1")
    b.registry.unwant("o1", 7.0)
    b.registry.unwant("o1", 5.0)
    b.registry.unwant("o1", 5.0)
    assert b.registry.wanted_until("o1") is None
    assert not b.registry.is_wanted("o1")


@story
async def test_a_final_order_without_its_fills_is_unsettled(b: Bench) -> None:
    """It is held whatever the bound, and listed for whoever asks for its fills."""
    order = b.accept(await b.sent())
    event = lifecycle._event(
        order, lifecycle.EventKind.CLOSED, b.clock.now(), OrderState.FILLED, filled=Decimal("0.1")
    )
    filled = b.registry.record(event)
    assert b.registry.unsettled() == [filled]
    assert b.registry.live_count == 0
    assert b.registry.get("o1") == filled
    told = b.registry.record(lifecycle.confirmed(filled, b.clock.now(), Step.FILLS))
    assert told.is_settled
    assert b.registry.unsettled() == []


@story
async def test_a_reader_waits_for_the_next_event_and_is_woken_by_it(b: Bench) -> None:
    """Nothing is missed between two looks."""
    reading = asyncio.ensure_future(anext(b.registry.subscribe()))
    await asyncio.sleep(1)
    assert not reading.done()
    await b.sent()
    assert (await reading).order.order_id == "o1"


@story
async def test_two_changes_of_one_order_on_their_way_to_disk_are_told_one_by_one(b: Bench) -> None:
    """The later one waits for its own append, not only for the one before it."""
    heard: list[int] = []
    b.registry.listen(lambda event: heard.append(event.order.version))
    first = asyncio.ensure_future(b.sent())
    await asyncio.sleep(0.005)
    sending = b.registry.get("o1")
    assert sending is not None
    second = asyncio.ensure_future(b.registry.commit(lifecycle.cancel_requested(sending, b.clock.now())))
    await first
    assert heard == [1]
    await second
    assert heard == [1, 2]


@story
async def test_a_waiter_that_gave_up_does_not_keep_the_others_from_being_woken(b: Bench) -> None:
    """It was cancelled in the very turn in which the order changed."""
    order = await b.sent()
    waits = [
        asyncio.ensure_future(b.registry.wait_until("o1", lambda item: item.state is OrderState.OPEN, None))
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    waits[0].cancel()
    opened = b.accept(order)
    assert await waits[1] == opened
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    assert b.registry._waiters == {}


@story
async def test_what_may_not_be_written_is_held_whatever_the_bound(b: Bench) -> None:
    """Memory is the only place that knows of it; once it is on disk it makes room like all else."""
    orders = [b.accept(await b.sent(f"o{number}"), f"X{number}") for number in range(6)]
    await b.journal.flush()
    b.journal.pause()
    for order in orders:
        b.registry.record(lifecycle.rejected(replace(order, exchange_order_id=None), b.clock.now(), "no"))
    assert all(b.registry.get(order.order_id) is not None for order in orders)
    b.journal.resume()
    await b.journal.flush()
    last = b.accept(await b.sent("last"), "X9")
    b.registry.record(lifecycle.rejected(replace(last, exchange_order_id=None), b.clock.now(), "no"))
    assert [b.registry.get(f"o{number}") is not None for number in range(6)] == [False] * 4 + [True] * 2
    assert b.registry.get("last") is not None


@story
async def test_an_order_may_be_lost_until_its_last_change_is_written(b: Bench) -> None:
    """What is known of that is what the journal still has in hand; what it has written is forgotten."""
    first = b.accept(await b.sent("o1"))
    assert b.registry.may_be_lost("o1")
    assert not b.registry.may_be_lost("o2")
    await b.journal.flush()
    second = await b.sent("o2")
    assert not b.registry.may_be_lost("o1")
    b.journal.pause()
    b.registry.record(lifecycle.confirmed(first, b.clock.now(), Step.VISIBLE))
    b.accept(second, "X2")
    assert b.registry.may_be_lost("o1")
    assert b.registry.may_be_lost("o2")
    b.journal.resume()
    await b.journal.flush()
    await b.sent("o3")
    assert not b.registry.may_be_lost("o1")
    assert not b.registry.may_be_lost("o2")


@story
async def test_what_a_failed_journal_lost_stays_so_until_it_is_opened_anew(b: Bench) -> None:
    """It has nothing in hand, and yet nothing was written."""
    lost, other = b.accept(await b.sent("o1"), "X1"), b.accept(await b.sent("o2"), "X2")
    await b.journal.flush()
    b.journal.fail_next()
    b.registry.record(lifecycle.confirmed(lost, b.clock.now(), Step.VISIBLE))
    await asyncio.sleep(1)
    assert b.journal.health().waiting == 0
    b.registry.record(lifecycle.confirmed(other, b.clock.now(), Step.VISIBLE))
    assert b.registry.may_be_lost("o1")
    assert "o1" in b.registry.changed_since_failure()
    b.registry.go_on()
    assert not b.registry.may_be_lost("o1")


@story
async def test_what_is_noted_of_the_journal_is_bounded_under_a_steady_load(b: Bench) -> None:
    """There is always something on its way to disk, and all that lies before it is forgotten."""
    busy, most = 0, 0
    for number in range(500):
        theirs = replace(seen(OrderState.CANCELED), exchange_order_id=f"X{number}")
        b.registry.record_all(lifecycle.adopt_external(theirs, f"t{number}", b.clock.now()))
        await asyncio.sleep(0.002)
        busy += b.journal.health().waiting > 0
        most = max(most, len(b.registry._unwritten))
    assert busy > 450
    assert most < 40


@story
async def test_of_a_refused_intent_it_is_known_that_nothing_was_sent(b: Bench) -> None:
    """Until the journal is opened anew. An order of which there was a record before is not among them."""
    order = await b.sent("known")
    unknown = b.registry.record(lifecycle.unknown(order, b.clock.now(), "timeout"))
    await b.journal.flush()
    b.journal.fail_next()
    with pytest.raises(JournalError):
        await b.sent("new")
    with pytest.raises(JournalUnavailable):
        await b.registry.commit(lifecycle.intend(unknown, b.clock.now()))
    assert b.registry.was_refused("new")
    assert not b.registry.was_refused("known")
    assert b.registry.get("known") == unknown
    b.registry.go_on()
    assert not b.registry.was_refused("new")
