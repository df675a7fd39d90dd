"""The whole executor on a disk that really fills up; run as a process of its own, which is told how to fill it.

``tmpfs DIRECTORY``: the directory is a small disk. ``limit DIRECTORY``: no file may grow beyond a bound.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from dataclasses import replace
from pathlib import Path

from services.mcp.order_execution import JournalError, JournalUnavailable, ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.fakes import FOREVER, FakeExchange
from tests.worlds import ORDER

BALLAST = 600 * 1024
MOST = 3_000


async def refused_after(bot: ReliableOrderExecutor) -> int:
    """Place orders until the journal refuses one; how many were placed."""
    for number in range(MOST):
        try:
            await bot.execute_order({**ORDER, "client_order_id": f"o{number}"})
        except JournalUnavailable:
            return number
    raise AssertionError("the disk was never full")


async def main(how: str, directory: Path) -> None:
    """Fill the disk, look at what still works, make room, and go on."""
    clock = SystemClock()
    exchange = FakeExchange(clock, replace(FOREVER, request_expiry=0.05, settle=0.01))
    journal = SQLiteJournal(directory / "journal.db", clock, min_free_bytes=0)
    ballast = directory / "ballast"
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "tmpfs":
        ballast.write_bytes(bytes(BALLAST))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (BALLAST, hard))
    async with ReliableOrderExecutor({"transaction_log": {"path": None}}, gateway=exchange, journal=journal) as bot:
        placed = await refused_after(bot)
        assert placed > 3
        assert journal.health().failure is not None
        for number in range(3):
            try:
                await bot.execute_order({**ORDER, "client_order_id": f"refused{number}"})
            except JournalUnavailable:
                continue
            raise AssertionError("an order was taken without a journal")
        names = [f"o{number}" for number in range(placed)]
        assert exchange.placed == names, "sent without a durable intent"
        assert await bot.cancel_order("o0")
        assert (await bot.get_order_status("o0")).state.is_final
        try:
            await bot.resume()
        except JournalError:
            sys.stdout.write("resume refused\n")
        if how == "tmpfs":
            ballast.unlink()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await bot.resume()
        assert await bot.execute_order({**ORDER, "client_order_id": "after"})
        assert exchange.placed == [*names, "after"]
        await journal.flush()
        for name in [*names, "after"]:
            assert await journal.get(name) is not None, f"{name} is lost"
    sys.stdout.write(f"placed {placed}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
