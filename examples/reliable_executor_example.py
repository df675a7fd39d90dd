"""How to use ReliableOrderExecutor: configure, place, follow, cancel, reconcile.

Runs as it is, on the paper exchange: ``python examples/reliable_executor_example.py``. What it keeps lies below
``./data``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.mcp.order_execution import (
    InvalidOrder,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
    ReliableOrderExecutor,
)

CONFIG: dict[str, Any] = {
    "retry": {"max_retries": 5, "backoff_base": 1.5, "initial_delay": 0.5, "max_delay": 10.0},
    "circuit_breaker": {
        "error_threshold": 20,
        "warning_threshold": 5,
        "window_size_minutes": 5,
        "cool_down_seconds": 30,
    },
}


async def place(executor: ReliableOrderExecutor, params: dict[str, Any]) -> str | None:
    """Place one order and say what came of it; the type of an error tells whether it may be on the exchange."""
    try:
        order_id = await executor.execute_order(params)
    except InvalidOrder as error:
        print(f"not sent, since it is wrong: {error}")
    except OrderNotSent as error:
        print(f"not sent, may be tried again: {error}")
    except OrderRejected as error:
        print(f"the exchange does not have it: {error.reason}")
    except OrderUnresolved as error:
        print(f"may be on the exchange: execute {error.order_id} again to wait for the answer")
    else:
        print(f"accepted: {order_id}")
        return order_id
    return None


async def follow_and_cancel(executor: ReliableOrderExecutor, filled: str | None, resting: str | None) -> None:
    """Wait for the market order, and cancel the one that rests far from the market."""
    if filled is not None:
        order = await executor.wait_for_order(filled, timeout=30)
        print(f"{order.state}: {order.filled} {order.symbol} at {order.average_price}, fees {dict(order.fees)}")
    if resting is not None:
        print(f"cancelled: {await executor.cancel_order(resting)}")
        print(f"its state: {(await executor.get_order_status(resting)).state}")


async def main() -> None:
    """Show one of everything."""
    async with ReliableOrderExecutor(CONFIG) as executor:
        filled = await place(executor, {"symbol": "BTC/USD", "side": "buy", "type": "market", "amount": 0.1})
        resting = await place(
            executor, {"symbol": "BTC/USD", "side": "buy", "type": "limit", "amount": 0.1, "price": 50000.0}
        )
        await place(executor, {"symbol": "BTC/USD", "side": "buy", "type": "market", "amount": -1})
        await follow_and_cancel(executor, filled, resting)

        stats = await executor.get_execution_stats()
        print(f"orders: {dict(stats.orders)}, fills: {stats.fills}, circuit: {stats.circuit_state}")

        report = await executor.reconcile_orders()
        print(f"reconciled: {report.matched_orders} of {report.total_orders} match, clean: {report.is_clean}")


if __name__ == "__main__":
    asyncio.run(main())
