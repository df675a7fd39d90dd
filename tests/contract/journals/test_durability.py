"""What a journal promises of what was appended, whatever the backend."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution.errors import JournalError, JournalUnavailable
from services.mcp.order_execution.models import EventKind, Order, OrderEvent, OrderState
from tests.contract.journals.backends import Backend
from tests.contract.journals.stories import accepted, closed, eventful, intent, then


async def test_every_field_comes_back_exactly(backend: Backend) -> None:
    """An order reads back equal in every field, at once and after a restart, digits and exponents included."""
    journal = await backend.open()
    events = eventful("o-1")
    for event in events:
        await journal.commit(event)
    assert await journal.get("o-1") == events[-1].order
    await journal.close()
    again = await backend.open()
    read = await again.get("o-1")
    assert read == events[-1].order
    assert read is not None
    assert str(read.amount) == "1E+2"
    assert str(read.fills[0].amount) == "1E-18"
    assert read.created_at.tzinfo is not None


async def test_a_committed_event_survives_a_crash(backend: Backend) -> None:
    """Once ``commit`` has returned, kill -9 does not lose it."""
    journal = await backend.open()
    event = intent("o-1")
    await journal.commit(event)
    await backend.crash(journal)
    again = await backend.open()
    assert await again.get("o-1") == event.order


async def test_many_concurrent_commits_are_each_durable(backend: Backend) -> None:
    """Group commit shares the write, not the promise: every one that returned is there after a crash."""
    journal = await backend.open()
    await asyncio.gather(*(journal.commit(intent(f"o-{number}")) for number in range(3_000)))
    await backend.crash(journal)
    assert await (await backend.open()).count() == 3_000


async def test_flush_makes_what_rides_behind_durable(backend: Backend) -> None:
    """After ``flush`` the enqueued events survive a crash."""
    journal = await backend.open()
    first = intent("o-1")
    await journal.commit(first)
    second = accepted(first)
    journal.enqueue(second)
    await journal.flush()
    await backend.crash(journal)
    assert await (await backend.open()).get("o-1") == second.order


async def test_closing_loses_nothing_that_waits(backend: Backend) -> None:
    """``close`` writes what was enqueued."""
    journal = await backend.open()
    for number in range(2_500):
        journal.enqueue(intent(f"o-{number}"))
    await journal.close()
    assert await (await backend.open()).count() == 2_500


async def test_reads_see_every_append_made_before_them(backend: Backend) -> None:
    """Each kind of read waits for what was appended before it, whichever way."""
    journal = await backend.open()
    first = intent("o-1")
    journal.enqueue(first)
    assert await journal.get("o-1") == first.order
    second = accepted(first, "x-7")
    journal.enqueue(second)
    assert await journal.find_by_exchange_id("x-7") == second.order
    third = closed(second)
    journal.enqueue(third)
    assert await journal.claim() == []
    journal.enqueue(intent("o-2"))
    assert await journal.count() == 2
    journal.enqueue(then(third, EventKind.CONFIRMED))
    assert len(await journal.history("o-1")) == 4


async def test_appends_of_one_order_keep_their_order(backend: Backend) -> None:
    """Events that are enqueued and committed in turn lie in the order of the calls."""
    journal = await backend.open()
    events = [intent("o-1")]
    for number in range(40):
        events.append(then(events[-1], EventKind.UPDATED, attempts=number))
    waiting: list[asyncio.Task[None]] = []
    for number, event in enumerate(events):
        if number % 3:
            journal.enqueue(event)
        else:
            waiting.append(asyncio.create_task(journal.commit(event)))
            await asyncio.sleep(0)  # the task appends at its first step
    await asyncio.gather(*waiting)
    assert await journal.history("o-1") == [event.to_dict() for event in events]


async def test_history_is_what_was_told(backend: Backend) -> None:
    """The events come back oldest first, as ``to_dict`` wrote them; an unknown order has none."""
    journal = await backend.open()
    events = eventful("o-1")
    for event in events:
        journal.enqueue(event)
    journal.enqueue(intent("o-2"))
    assert await journal.history("o-1") == [event.to_dict() for event in events]
    assert await journal.history("nobody") == []


async def test_words_that_utf8_cannot_say_do_no_harm(backend: Backend) -> None:
    """Half a surrogate pair from an exchange's JSON is kept as a question mark, and the journal stays sound."""
    journal = await backend.open()
    await journal.commit(intent("o-1", reason="bad \ud83d end", exchange_order_id="x-\ud83d"))
    order = await journal.get("o-1")
    assert order is not None
    assert order.reason == "bad ? end"
    assert await journal.find_by_exchange_id("x-\ud83d") == order
    assert len(await journal.history("o-1")) == 1
    assert journal.health().failure is None


async def test_a_cancelled_commit_keeps_its_place(backend: Backend) -> None:
    """A caller that is cancelled while it waits may go on from the version that it appended."""
    journal = await backend.open()
    first = intent("o-1")
    with backend.stalled(journal):
        task = asyncio.create_task(journal.commit(first))
        await backend.reached(journal, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await journal.commit(accepted(first))
    assert [entry["version"] for entry in await journal.history("o-1")] == [1, 2]
    assert journal.health().failure is None


def _skipped(event: OrderEvent) -> OrderEvent:
    return then(then(event, EventKind.UPDATED), EventKind.UPDATED)


def _repeated(event: OrderEvent) -> OrderEvent:
    return event


def _other_first(event: OrderEvent) -> OrderEvent:
    return intent(event.order_id, reason="another order of the same id")


def _late_first(event: OrderEvent) -> OrderEvent:
    return accepted(intent("o-new"))


@pytest.mark.parametrize("wrong", [_skipped, _repeated, _other_first, _late_first])
async def test_an_event_that_is_not_the_next_one_is_refused(backend: Backend, wrong: object) -> None:
    """Memory and journal disagree: that entry alone is not written, and the journal asks to be opened anew."""
    assert callable(wrong)
    journal = await backend.open()
    first, other = intent("o-1"), intent("o-2")
    await journal.commit(first)
    with backend.stalled(journal):
        in_one_batch = asyncio.gather(journal.commit(wrong(first)), journal.commit(other), return_exceptions=True)
        await backend.reached(journal, 2)
    failed, fine = await in_one_batch
    assert isinstance(failed, JournalError)
    assert "not that order's next one" in str(failed)
    assert fine is None
    assert await journal.get("o-1") == first.order
    assert await journal.get("o-2") == other.order
    assert await journal.history("o-1") == [first.to_dict()]
    with pytest.raises(JournalUnavailable):
        await journal.commit(intent("o-3"))


async def test_versions_go_on_after_a_restart(backend: Backend) -> None:
    """An order that was opened again takes its next version, not its first."""
    journal = await backend.open()
    first = intent("o-1")
    await journal.commit(first)
    await journal.close()
    again = await backend.open()
    second = accepted(first)
    await again.commit(second)
    with pytest.raises(JournalError):
        await again.commit(intent("o-1"))
    assert await again.get("o-1") == second.order


async def test_an_order_that_starts_afresh_is_open_again(backend: Backend) -> None:
    """A final order leaves the claim and a new start brings it back, with its old place in time."""
    journal = await backend.open()
    first = intent("o-1")
    end = closed(first, OrderState.EXPIRED)
    journal.enqueue(first)
    journal.enqueue(end)
    assert await journal.claim() == []
    anew = then(end, EventKind.INTENT, state=OrderState.SENDING)
    await journal.commit(anew)
    orders: list[Order] = await journal.claim()
    assert orders == [anew.order]
