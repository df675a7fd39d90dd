"""A bot that is killed in the middle of it all, and started again with the same ids."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from services.mcp.order_execution import ReliableOrderExecutor
from tests.integration.bot import config
from tests.integration.processes import book, bot, lines

ORDERS = 200
FAULTS: dict[str, object] = {
    "lost_reply": 0.15,
    "lost_request": 0.05,
    "late_arrival": 0.15,
    "late_seconds_max": 1.5,
    "hang_seconds": 0.3,
    "latency_seconds": [0.0, 0.05],
}


@pytest.mark.parametrize("kills", [1, 3])
def test_two_hundred_concurrent_orders_survive_sigkill(tmp_path: Path, kills: int) -> None:
    """One order per intent at the exchange, none unknown to the journal, and a clean reconciliation."""
    rng = random.Random(kills)
    for _ in range(kills):
        with bot(tmp_path, ORDERS, FAULTS) as process:
            placed = 0
            stop_after = rng.randrange(5, ORDERS // 2)
            for line in lines(process):
                placed += line.startswith("placed")
                if placed >= stop_after:
                    break
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
    with bot(tmp_path, ORDERS, FAULTS) as process:
        said = [line.split() for line in lines(process)]
    assert sorted(words[1] for words in said if words[0] == "placed") == sorted(f"o{n}" for n in range(ORDERS)), (
        said
    )
    orders = book(tmp_path)
    assert {name: len(found) for name, found in orders.items()} == {f"o{n}": 1 for n in range(ORDERS)}
    asyncio.run(reckon(tmp_path))


async def reckon(directory: Path) -> None:
    """Journal and exchange agree, twice."""
    async with ReliableOrderExecutor(config(directory, {})) as executor:
        first = await executor.reconcile_orders()
        assert (first.total_orders, first.extra_orders, first.missing_orders) == (ORDERS, 0, 0), first
        assert first.is_clean, first.details
        assert (await executor.reconcile_orders()).is_clean
        for name, found in book(directory).items():
            order = await executor.get_order_status(name)
            assert order.exchange_order_id == str(found[0].id)
