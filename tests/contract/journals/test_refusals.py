"""When a journal refuses, what it says, and what goes on all the same, whatever the backend."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution.errors import (
    JournalError,
    JournalFull,
    JournalLagging,
    JournalLocked,
    JournalReadOnly,
    JournalUnavailable,
)
from services.mcp.order_execution.models import EventKind
from tests.contract.journals.backends import Backend
from tests.contract.journals.stories import accepted, at, intent, then


async def test_lag_above_the_bound_refuses_before_writing(backend: Backend) -> None:
    """While the oldest entry has waited too long, ``commit`` refuses at once and writes nothing."""
    journal = await backend.open(max_lag_seconds=2.0)
    with backend.stalled(journal):
        waiting = asyncio.create_task(journal.commit(intent("o-1")))
        await backend.reached(journal, 1)
        backend.clock.seconds += 2.0
        still_fine = asyncio.create_task(journal.commit(intent("o-2")))
        await backend.reached(journal, 2)
        backend.clock.seconds += 0.5
        assert journal.health().lag == pytest.approx(2.5)
        with pytest.raises(JournalLagging) as refusal:
            await journal.commit(intent("o-3"))
        assert refusal.value.order_id == "o-3"
        journal.enqueue(intent("o-4"))
        assert journal.health().waiting == 3
    await waiting
    await still_fine
    assert await journal.get("o-3") is None
    assert await journal.get("o-4") is not None
    assert journal.health() == type(journal.health())(lag=0.0, failure=None, waiting=0)
    await journal.commit(intent("o-3"))


async def test_a_queue_at_its_bound_refuses_orders(backend: Backend) -> None:
    """No queue grows without limit: with the bound reached, ``commit`` refuses and nothing is lost."""
    journal = await backend.open(max_waiting=2)
    with backend.stalled(journal):
        journal.enqueue(intent("o-1"))
        journal.enqueue(intent("o-2"))
        with pytest.raises(JournalLagging):
            await journal.commit(intent("o-3"))
    await journal.flush()
    assert await journal.count() == 2
    assert journal.health().failure is None


async def test_an_entry_that_finds_no_place_is_never_dropped_silently(backend: Backend) -> None:
    """``enqueue`` beyond the bound marks the journal as failed; what waited is written all the same."""
    journal = await backend.open(max_waiting=2)
    with backend.stalled(journal):
        for number in range(3):
            journal.enqueue(intent(f"o-{number}"))
        assert "wait to be written" in str(journal.health().failure)
    with pytest.raises(JournalError):
        await journal.flush()
    with pytest.raises(JournalUnavailable):
        await journal.commit(intent("o-9"))


async def test_the_first_failed_append_stops_orders_until_reopened(backend: Backend) -> None:
    """A failed commit is in doubt; after it every commit refuses, reads go on, and opening anew heals."""
    journal = await backend.open()
    kept = intent("kept")
    await journal.commit(kept)
    backend.break_disk()
    with pytest.raises(JournalError) as doubt:
        await journal.commit(intent("o-1"))
    assert "may or may not" in str(doubt.value)
    backend.repair_disk()
    with pytest.raises(JournalUnavailable) as refusal:
        await journal.commit(intent("o-2"))
    assert not isinstance(refusal.value, JournalLagging)
    with pytest.raises(JournalUnavailable):
        await journal.commit(then(kept, EventKind.CANCEL_REQUESTED))
    assert journal.health().failure is not None
    assert await journal.get("kept") == kept.order
    await journal.close()
    await journal.open()
    assert journal.health().failure is None
    await journal.commit(intent("o-2"))
    await journal.commit(accepted(kept))


async def test_all_that_share_a_failed_write_are_in_doubt(backend: Backend) -> None:
    """Every committer of the batch gets an error of its own."""
    journal = await backend.open()
    backend.break_disk()
    outcomes = await asyncio.gather(
        *(journal.commit(intent(f"o-{number}")) for number in range(5)), return_exceptions=True
    )
    assert [isinstance(outcome, JournalError) for outcome in outcomes] == [True] * 5
    assert len({id(outcome) for outcome in outcomes}) == 5


async def test_after_a_failure_entries_are_dropped_and_it_shows(backend: Backend) -> None:
    """``enqueue`` never raises for a failing disk, nor between the failure and the next opening."""
    journal = await backend.open()
    backend.break_disk()
    journal.enqueue(intent("o-1"))
    with pytest.raises(JournalError):
        await journal.flush()
    backend.repair_disk()
    journal.enqueue(intent("o-2"))
    with pytest.raises(JournalError):
        await journal.flush()
    with pytest.raises(JournalError):
        await journal.set_flag("halt", "why")
    await journal.close()
    assert journal.health().failure is not None
    journal.enqueue(intent("o-3"))
    await journal.open()
    assert await journal.count() == 0
    assert await journal.get_flag("halt") is None


async def test_closing_says_when_the_last_entries_were_lost(backend: Backend) -> None:
    """A failure that nobody was told of yet is raised by ``close``, which releases everything all the same."""
    journal = await backend.open()
    backend.break_disk()
    journal.enqueue(intent("o-1"))
    with pytest.raises(JournalError, match="last entries"):
        await journal.close()
    await journal.close()
    backend.repair_disk()
    assert await (await backend.open()).count() == 0


async def test_a_filling_disk_stops_new_orders_only(backend: Backend) -> None:
    """Below the threshold intents and resends are refused; what closes open orders goes on."""
    journal = await backend.open()
    first = intent("o-1")
    await journal.commit(first)
    backend.fill_disk(True)
    with pytest.raises(JournalFull) as refusal:
        await journal.commit(intent("o-2"))
    assert refusal.value.order_id == "o-2"
    with pytest.raises(JournalFull):
        await journal.commit(then(first, EventKind.RESEND))
    cancel = then(first, EventKind.CANCEL_REQUESTED)
    await journal.commit(cancel)
    journal.enqueue(accepted(cancel))
    await journal.flush()
    await journal.set_flag("halt", "disk")
    assert journal.health().failure is None
    backend.fill_disk(False)
    await journal.commit(intent("o-2"))


async def test_one_writer_at_a_time(backend: Backend) -> None:
    """A second writer gets a clear error, and the place once the first is closed."""
    if not backend.one_writer:
        pytest.skip("this backend has leases instead")
    first = await backend.open()
    second = backend.make()
    with pytest.raises(JournalLocked):
        await second.open()
    await first.commit(intent("o-1"))
    await first.close()
    await second.open()
    assert await second.count() == 1
    await second.close()


async def test_a_companion_reads_and_never_writes(backend: Backend) -> None:
    """Beside a live writer a read-only journal sees what is durable; every write of it is refused."""
    writer = await backend.open()
    first, second = intent("o-1"), accepted(intent("o-2", 5))
    await writer.commit(first)
    companion = await backend.open(read_only=True)
    await writer.commit(intent("o-2", 5))
    await writer.commit(second)
    await writer.set_flag("halt", "why")
    assert companion.read_only
    assert not writer.read_only
    assert await companion.get("o-1") == first.order
    assert await companion.find_by_exchange_id("x-o-2") == second.order
    assert await companion.claim() == [first.order, second.order]
    assert await companion.count() == 2
    assert len(await companion.history("o-2")) == 2
    assert await companion.get_flag("halt") == "why"
    assert [batch async for batch in companion.scan(at(0), at(9))] == [[first.order, second.order]]
    assert not companion.owns("o-1")
    assert writer.owns("o-1")
    for write in (companion.commit(intent("o-3")), companion.set_flag("halt", None)):
        with pytest.raises(JournalReadOnly):
            await write
    with pytest.raises(JournalReadOnly):
        companion.enqueue(intent("o-3"))
    await companion.flush()
    assert companion.health() == type(companion.health())(lag=0.0)


async def test_a_companion_needs_no_running_writer(backend: Backend) -> None:
    """What a closed or crashed writer left can be read."""
    writer = await backend.open()
    await writer.commit(intent("o-1"))
    await writer.close()
    companion = await backend.open(read_only=True)
    assert await companion.count() == 1
    await companion.close()
    writer = await backend.open()
    await writer.commit(intent("o-2"))
    await backend.crash(writer)
    assert await (await backend.open(read_only=True)).count() == 2


async def test_a_journal_that_is_not_open_says_so(backend: Backend) -> None:
    """Before ``open`` and after ``close`` nothing is taken and nothing answered; ``commit`` says not written."""
    journal = backend.make()
    await journal.close()
    await journal.open()
    with pytest.raises(JournalError, match="already open"):
        await journal.open()
    await journal.close()
    await journal.close()
    with pytest.raises(JournalUnavailable, match="not open"):
        await journal.commit(intent("o-1"))
    with pytest.raises(JournalError, match="not open"):
        journal.enqueue(intent("o-1"))
    for call in (journal.get("o-1"), journal.claim(), journal.flush(), journal.set_flag("halt", "why")):
        with pytest.raises(JournalError, match="not open"):
            await call
    assert not journal.owns("o-1")
    assert journal.health().failure == "the journal is not open"
