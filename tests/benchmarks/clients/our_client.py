"""The executor of this library with a thin HTTP gateway and the durable SQLite journal, as it comes.

``python our_client.py PORT DIRECTORY [plain]``; ``plain`` turns the transaction log (JSON lines for people) off.
Following of open orders is set to an hour, since no other client here follows its orders.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from worker import AMOUNT, KEY, PRICE, SECRET, SYMBOL, main

from services.mcp.order_execution import ReliableOrderExecutor
from tests.benchmarks.gateway import HttpGateway

ORDER = {"symbol": SYMBOL, "side": "buy", "type": "limit", "amount": AMOUNT, "price": PRICE}


def settings(directory: str, *, transaction_log: bool) -> dict[str, Any]:
    """What is not as it comes: where the files lie, and how often open orders are asked for."""
    place = tempfile.mkdtemp(prefix="ours-", dir=directory)
    return {
        "journal": {"url": f"sqlite:///{place}/journal.db"},
        "transaction_log": {"path": str(Path(place) / "transactions") if transaction_log else None},
        "confirmation": {"poll_interval_seconds": 3600},
    }


class OurClient:
    """``execute_order``."""

    async def start(self, port: int, directory: str) -> None:
        """Open, and wait until the start is complete."""
        config = settings(directory, transaction_log="plain" not in sys.argv[3:])
        self._executor = ReliableOrderExecutor(config, gateway=HttpGateway(port, KEY, SECRET))
        await self._executor.open()

    async def order(self) -> None:
        """Place it; returns once the intent was durable and the exchange has accepted."""
        await self._executor.execute_order(ORDER)

    async def stop(self) -> None:
        """Close it."""
        await self._executor.close()


if __name__ == "__main__":
    main(OurClient())
