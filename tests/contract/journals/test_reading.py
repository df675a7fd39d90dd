"""What a journal answers, whatever the backend."""

from __future__ import annotations

import asyncio
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mcp.order_execution.journals.base import Journal
from services.mcp.order_execution.journals.codec import to_micros
from services.mcp.order_execution.models import EventKind, Order, OrderEvent, OrderState
from tests.contract.journals.backends import BACKENDS, Backend, backend_on
from tests.contract.journals.stories import accepted, at, closed, intent, then

ALWAYS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))


async def _scanned(journal: Journal, since: datetime, until: datetime) -> list[str]:
    return [order.order_id async for batch in journal.scan(since, until) for order in batch]


async def test_claim_takes_every_order_that_is_not_final(backend: Backend) -> None:
    """After a restart all non-final orders come back, oldest first, and again when asked again."""
    journal = await backend.open()
    states = list(OrderState)
    random.Random(5).shuffle(states)
    for number, state in enumerate(states):
        journal.enqueue(intent(f"o-{state}", -number, state=state))
    await backend.stack.aclose()
    again = await backend.open()
    expected = [f"o-{state}" for state in reversed(states) if not state.is_final]
    assert [order.order_id for order in await again.claim()] == expected
    assert [order.order_id for order in await again.claim()] == expected
    assert all(again.owns(order_id) for order_id in expected)


async def test_scan_gives_the_period_and_whatever_is_open(backend: Backend) -> None:
    """Orders created in ``since <= t < until`` and all non-final ones, each once."""
    journal = await backend.open()
    for second in range(10):
        event = intent(f"open-{second}", second)
        journal.enqueue(event)
        done = intent(f"done-{second}", second)
        journal.enqueue(done)
        journal.enqueue(closed(done))
    found = await _scanned(journal, at(3), at(6))
    assert len(found) == len(set(found))
    assert set(found) == {f"open-{second}" for second in range(10)} | {"done-3", "done-4", "done-5"}
    assert set(await _scanned(journal, *ALWAYS)) == {f"{kind}-{n}" for kind in ("open", "done") for n in range(10)}


async def test_scan_comes_in_batches_of_bounded_size(backend: Backend) -> None:
    """A large journal is read in pieces, also where many orders share one moment; an empty one in none."""
    journal = await backend.open()
    assert [batch async for batch in journal.scan(*ALWAYS)] == []
    for number in range(1_600):
        event = intent(f"o-{number:04}", number // 900)
        journal.enqueue(event)
        if number % 2:
            journal.enqueue(closed(event))
    batches: list[list[Order]] = [batch async for batch in journal.scan(at(1), at(2))]
    assert max(len(batch) for batch in batches) <= 500
    found = [order.order_id for batch in batches for order in batch]
    assert len(found) == len(set(found)) == 450 + 700
    exact = [batch async for batch in journal.scan(at(0), at(1))]
    assert sum(len(batch) for batch in exact) == 900 + 350


async def test_an_order_that_starts_afresh_belongs_to_the_period_of_that(backend: Backend) -> None:
    """It is created anew, in a batch of its own or with many others; settled, it is in that period alone."""
    journal = await backend.open()
    for count in (1, 20):
        names = [f"{count}-{number}" for number in range(count)]
        first = [intent(name, 0) for name in names]
        ended = [then(event, EventKind.CLOSED, state=OrderState.EXPIRED, restartable=True) for event in first]
        again = [
            then(event, EventKind.INTENT, state=OrderState.SENDING, restartable=False, created_at=at(100))
            for event in ended
        ]
        done = [then(event, EventKind.REJECTED, state=OrderState.REJECTED) for event in again]
        for events in (first, ended, again, done):
            await asyncio.gather(*(journal.commit(event) for event in events))
        assert set(names) <= set(await _scanned(journal, at(100), at(101)))
        assert not set(names) & set(await _scanned(journal, at(0), at(1)))


async def test_commits_go_on_during_a_scan(backend: Backend) -> None:
    """Between two batches of a scan an intent becomes durable."""
    journal = await backend.open()
    for number in range(1_001):
        journal.enqueue(intent(f"o-{number:04}", number))
    seen = 0
    async for batch in journal.scan(*ALWAYS):
        await journal.commit(intent(f"during-{seen}", 5_000_000 + seen))
        seen += len(batch)
    assert seen >= 1_001


async def test_lookups_of_what_is_not_there_are_empty(backend: Backend) -> None:
    """Unknown ids and flags are None, not errors."""
    journal = await backend.open()
    assert await journal.get("nobody") is None
    assert await journal.find_by_exchange_id("nobody") is None
    assert await journal.get_flag("nothing") is None
    assert await journal.count() == 0
    assert await journal.claim() == []


async def test_an_exchange_order_id_finds_its_order(backend: Backend) -> None:
    """Also once the order is final and after a restart."""
    journal = await backend.open()
    event = accepted(intent("o-1"), "12345")
    journal.enqueue(intent("o-1"))
    journal.enqueue(event)
    journal.enqueue(closed(event))
    await backend.stack.aclose()
    again = await backend.open()
    found = await again.find_by_exchange_id("12345")
    assert found is not None
    assert found.order_id == "o-1"
    assert await again.find_by_exchange_id("1234") is None


async def test_a_flag_is_durable(backend: Backend) -> None:
    """Set, changed and cleared flags are what they were after a crash."""
    journal = await backend.open()
    await journal.set_flag("halt", "first")
    await journal.set_flag("halt", "second – ü")
    await journal.set_flag("gone", "x")
    await journal.set_flag("gone", None)
    await journal.set_flag("never", None)
    await backend.crash(journal)
    again = await backend.open()
    assert await again.get_flag("halt") == "second – ü"
    assert await again.get_flag("gone") is None


def _next_event(chains: dict[str, list[OrderEvent]], order_id: str, step: int) -> OrderEvent:
    """What happens to the order now: it begins, moves on, or ends and begins anew."""
    chain = chains.setdefault(order_id, [])
    if not chain:
        event = intent(order_id, step)
    else:
        state = list(OrderState)[step % len(OrderState)]
        event = then(chain[-1], EventKind.UPDATED, state=state, exchange_order_id=f"x-{order_id}")
    chain.append(event)
    return event


_STEPS = st.lists(
    st.tuples(st.sampled_from(["commit", "enqueue", "flush", "reopen", "crash"]), st.sampled_from("abcd")),
    max_size=25,
)


@pytest.mark.parametrize("name", sorted(BACKENDS))
@given(steps=_STEPS)
@settings(max_examples=25)
def test_any_sequence_leaves_exactly_what_was_appended(name: str, steps: list[tuple[str, str]]) -> None:
    """In whatever order things happen, a prefix of each order's events remains, with all acknowledged ones."""

    async def scenario(directory: Path) -> None:
        async with backend_on(name, directory) as backend:
            journal = await backend.open()
            chains: dict[str, list[OrderEvent]] = {}
            durable: dict[str, int] = {}
            for number, (action, order_id) in enumerate(steps):
                if action == "commit":
                    await journal.commit(_next_event(chains, order_id, number))
                    durable[order_id] = len(chains[order_id])
                elif action == "enqueue":
                    journal.enqueue(_next_event(chains, order_id, number))
                elif action == "flush":
                    await journal.flush()
                    durable = {key: len(chain) for key, chain in chains.items()}
                elif action == "reopen":
                    await journal.close()
                    durable = {key: len(chain) for key, chain in chains.items()}
                    journal = await backend.open()
                else:
                    await backend.crash(journal)
                    journal = await backend.open()
                    await _cut_to_what_survived(journal, chains, durable)
            for key, chain in chains.items():
                assert await journal.get(key) == (chain[-1].order if chain else None)
            open_now = {key for key, chain in chains.items() if chain and not chain[-1].state.is_final}
            assert {order.order_id for order in await journal.claim()} == open_now

    async def _cut_to_what_survived(
        journal: Journal, chains: dict[str, list[OrderEvent]], durable: dict[str, int]
    ) -> None:
        for key, chain in chains.items():
            history = await journal.history(key)
            assert history == [event.to_dict() for event in chain[: len(history)]]
            assert len(history) >= durable.get(key, 0)
            del chain[len(history) :]

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(directory)))


async def test_what_was_created_in_a_period_is_counted_and_told_undecoded(backend: Backend) -> None:
    """Unsettled orders from outside of the period are told too, as ``scan`` tells them, but not counted."""
    journal = await backend.open()
    for number in range(5):
        await journal.commit(intent(f"o-{number}", float(number)))
    assert await journal.count_created(at(1), at(3)) == 2
    assert await journal.count_created(at(9), at(10)) == 0
    kept = [item async for batch in journal.scan_kept(at(1), at(3)) for item in batch]
    scanned = [order async for batch in journal.scan(at(1), at(3)) for order in batch]
    assert [item.decode() for item in kept] == scanned
    assert [item.created for item in kept] == [to_micros(order.created_at) for order in scanned]
    assert [item.values["order_id"] for item in kept] == [order.order_id for order in scanned]
