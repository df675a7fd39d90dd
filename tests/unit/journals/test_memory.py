"""The journal in memory as a testing aid: its time, its faults, its crashes."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution.errors import JournalError, JournalLocked, JournalUnavailable, LeaseLost
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from tests.contract.journals.stories import accepted, closed, intent
from tests.virtual_time import START, VirtualClock, run_virtual


def test_a_durable_write_takes_virtual_time() -> None:
    """``commit_seconds`` pass on the loop's clock; what came meanwhile shares the next write."""

    async def main() -> list[float]:
        clock = VirtualClock()
        journal = MemoryJournal(clock, commit_seconds=0.5)
        await journal.open()
        ends: list[float] = []

        async def commit(number: int, after: float) -> None:
            await asyncio.sleep(after)
            await journal.commit(intent(f"o-{number}"))
            ends.append(clock.monotonic() - START)

        await asyncio.gather(commit(1, 0.0), commit(2, 0.1), commit(3, 0.4))
        await journal.close()
        return ends

    assert run_virtual(main) == pytest.approx([0.5, 1.0, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_it_keeps_order_whatever_the_loop_does(seed: int) -> None:
    """Under any order of ready tasks, one order's events lie as they were appended."""

    async def main() -> None:
        journal = MemoryJournal(VirtualClock(), commit_seconds=0.01)
        await journal.open()
        first = intent("o-1")
        second = accepted(first)
        waiting = asyncio.gather(journal.commit(first), *(journal.commit(intent(f"p-{n}")) for n in range(5)))
        await asyncio.sleep(0.001)
        assert journal.health().waiting == 6
        journal.enqueue(second)
        await journal.commit(closed(second))
        await waiting
        assert [event["version"] for event in await journal.history("o-1")] == [1, 2, 3]
        await journal.close()

    run_virtual(main, seed=seed, shuffle=True)


def test_a_crash_loses_what_was_not_durable() -> None:
    """Neither what waited nor what was being written is there afterwards, and the dead write no more."""

    async def main() -> None:
        clock, store = VirtualClock(), MemoryStore()
        journal = MemoryJournal(clock, store=store, commit_seconds=1.0)
        await journal.open()
        await journal.commit(intent("o-1"))
        journal.enqueue(accepted(intent("o-1")))
        await asyncio.sleep(0.5)
        journal.crash()
        await asyncio.sleep(5)
        after = MemoryJournal(clock, store=store)
        await after.open()
        order = await after.get("o-1")
        assert order is not None
        assert order.version == 1
        with pytest.raises(JournalUnavailable):
            await journal.commit(intent("o-2"))
        with pytest.raises(JournalError, match="dead"):
            await journal.open()
        journal.crash()
        assert after.owns("o-1")
        assert not journal.owns("o-1")

    run_virtual(main)


def test_a_crash_may_leave_what_nobody_was_told_of() -> None:
    """``written``: the batch in hand reached the disk although its committer never learnt it."""

    async def main() -> None:
        clock, store = VirtualClock(), MemoryStore()
        journal = MemoryJournal(clock, store=store, commit_seconds=1.0)
        await journal.open()
        task = asyncio.create_task(journal.commit(intent("o-1")))
        await asyncio.sleep(0.5)
        journal.enqueue(intent("o-2"))
        journal.crash(written=True)
        await asyncio.sleep(5)
        assert not task.done()
        task.cancel()
        assert set(store.orders) == {"o-1"}

    run_virtual(main)


@pytest.mark.parametrize("written", [False, True])
def test_one_injected_failure_is_in_doubt(written: bool) -> None:
    """The committer learns of a failure, and only the disk knows whether it was written."""

    async def main() -> None:
        store = MemoryStore()
        journal = MemoryJournal(VirtualClock(), store=store)
        await journal.open()
        journal.fail_next("EIO", written=written)
        with pytest.raises(JournalError, match="may or may not be on disk: EIO"):
            await journal.commit(intent("o-1"))
        assert ("o-1" in store.orders) is written
        assert journal.health().failure == "an append failed: EIO"
        await journal.close()
        await journal.open()
        await journal.commit(accepted(intent("o-1")) if written else intent("o-1"))
        await journal.close()

    run_virtual(main)


def test_a_lasting_failure_lasts_until_repaired() -> None:
    """``fail_forever`` outlives opening anew, ``repair`` ends it."""

    async def main() -> None:
        journal = MemoryJournal(VirtualClock())
        for _ in range(2):
            journal.fail_forever("EIO")
            await journal.open()
            with pytest.raises(JournalError):
                await journal.commit(intent("o-1"))
            await journal.close()
        journal.repair()
        await journal.open()
        await journal.commit(intent("o-1"))
        await journal.close()

    run_virtual(main)


def test_a_reborn_writer_shuts_the_former_out() -> None:
    """A process that was declared dead and lives on writes nothing: its epoch is over."""

    async def main() -> None:
        store = MemoryStore()
        former, later = MemoryJournal(VirtualClock(), store=store), MemoryJournal(VirtualClock(), store=store)
        await former.open()
        with pytest.raises(JournalLocked):
            await later.open()
        store.writer = None
        await later.open()
        assert not former.owns("o-1")
        with pytest.raises(LeaseLost):
            await former.commit(intent("o-1"))
        await former.close()
        assert store.writer is later
        assert await later.count() == 0
        await later.close()

    run_virtual(main)


async def test_closing_twice_at_once_is_harmless() -> None:
    """Two who close wait for the same writes."""
    store = MemoryStore()
    journal = MemoryJournal(VirtualClock(), store=store, commit_seconds=0.001)
    await journal.open()
    journal.enqueue(intent("o-1"))
    await asyncio.gather(journal.close(), journal.close())
    assert set(store.orders) == {"o-1"}
    assert store.writer is None
