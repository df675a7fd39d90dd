"""What the fuzz found: an entry that a closing journal in memory took was lost without a word."""

from __future__ import annotations

import asyncio

from services.mcp.order_execution import lifecycle
from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.parameters import parse_request
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER


def test_what_a_closing_journal_takes_is_durable_or_refused() -> None:
    """`close()`: make everything durable; an append that is not refused is part of everything."""

    async def main() -> None:
        clock = VirtualClock()
        journal = MemoryJournal(clock, commit_seconds=0.5)
        await journal.open()
        request = parse_request({**ORDER, "client_order_id": "a"}, new_id="x")
        first = lifecycle.intend(lifecycle.new_order(request, clock.now()), clock.now())
        journal.enqueue(first)
        closing = asyncio.get_running_loop().create_task(journal.close())
        await asyncio.sleep(0.1)
        second = lifecycle.unknown(first.order, clock.now(), "late")
        third = lifecycle.unknown(second.order, clock.now(), "later")
        taken = 1
        try:
            journal.enqueue(second)
            taken += 1
            await asyncio.sleep(0.5)
            journal.enqueue(third)
            taken += 1
        except JournalError:
            pass
        told: JournalError | None = None
        try:
            await closing
        except JournalError as error:
            told = error
        successor = MemoryJournal(clock, store=journal.store)
        await successor.open()
        await asyncio.sleep(5)
        assert told is not None or journal.store.version("a") == taken

    run_virtual(main)
