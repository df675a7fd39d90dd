"""A process that writes orders into a journal until it is killed; it prints what was acknowledged."""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from services.mcp.order_execution import lifecycle
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.crash.test_power_loss import request

PRODUCERS = 20


async def main(path: Path, life: str) -> None:
    """Write with many producers; each commit is printed once it is acknowledged."""
    clock = SystemClock()
    journal = SQLiteJournal(path, clock, min_free_bytes=0)
    await journal.open()

    async def producer(number: int) -> None:
        for turn in count():
            order = lifecycle.new_order(request(f"{life}-{number}-{turn}"), clock.now())
            event = lifecycle.intend(order, clock.now())
            await journal.commit(event)
            os.write(1, f"{event.order_id} {event.order.version}\n".encode())
            receipt = lifecycle.accepted(event.order, clock.now(), f"X{event.order_id}")
            journal.enqueue(receipt)
            wish = lifecycle.cancel_requested(receipt.order, clock.now())
            await journal.commit(wish)
            os.write(1, f"{wish.order_id} {wish.order.version}\n".encode())

    await asyncio.gather(*(producer(number) for number in range(PRODUCERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
