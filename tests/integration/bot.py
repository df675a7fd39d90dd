"""A bot for the integration tests, run as a process of its own: executes o0 … oN-1 and prints what it was told.

python tests/integration/bot.py DIRECTORY ORDERS FAULTS(json) [--hold] [--cancel]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from services.mcp.order_execution import OrderExecutionError, ReliableOrderExecutor
from services.mcp.order_execution.shutdown import close_on_signals


def config(directory: Path, faults: dict[str, object]) -> dict[str, object]:
    """Everything below one directory."""
    return {
        "gateway": {"paper": {"path": str(directory / "paper.db"), "faults": faults}},
        "journal": {"url": f"sqlite:///{directory / 'journal.db'}", "lock_wait_seconds": 0.2},
        "retry": {"initial_delay": 0.1, "max_delay": 1.0, "budget_tokens": 1000, "max_retries": 10},
        "circuit_breaker": {"error_threshold": 100_000},
        "confirmation": {"poll_interval_seconds": 0.5},
        "transaction_log": {"path": str(directory / "transactions")},
    }


def params(number: int) -> dict[str, object]:
    """The same order for the same number, in every life."""
    sides = ("buy", "50000"), ("sell", "90000"), ("buy", "40000")
    side, price = sides[number % 3]
    return {
        "client_order_id": f"o{number}",
        "symbol": "BTC/USD",
        "side": side,
        "type": "limit",
        "amount": "0.001",
        "price": price,
    }


def say(*words: str) -> None:
    """One line, at once."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def place(executor: ReliableOrderExecutor, number: int) -> None:
    try:
        order_id = await executor.execute_order(params(number))
    except OrderExecutionError as error:
        say("error", f"o{number}", type(error).__name__)
    else:
        say("placed", order_id)


async def main(directory: Path, orders: int, faults: dict[str, object]) -> None:
    async with ReliableOrderExecutor(config(directory, faults)) as executor:
        with close_on_signals(executor):
            say("open")
            await asyncio.gather(*(place(executor, number) for number in range(orders)))
            say("done")
            if "--hold" in sys.argv:
                await asyncio.sleep(60)


if __name__ == "__main__":
    try:
        asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])))
    except asyncio.CancelledError:
        say("stopped")
        sys.exit(143)
