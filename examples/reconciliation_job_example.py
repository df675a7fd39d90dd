"""How to use ReconciliationJob: once, and on a schedule.

Runs as it is, on the paper exchange: ``python examples/reconciliation_job_example.py`` places an order, reconciles
once and ends. With ``--serve`` it then keeps to the schedule until SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.reconciliation_job import ReconciliationJob

CONFIG: dict[str, Any] = {
    "executor": {"retry": {"max_retries": 3, "backoff_base": 2.0, "initial_delay": 1.0, "max_delay": 30.0}},
    "schedule": {"interval": "daily", "time": "00:00"},  # UTC
    "reporting": {"file": "reconciliation_reports.json", "history_days": 30},
    "alerts": {"mismatch_percentage": 1.0},
    "run_on_start": True,
}


async def place_something() -> None:
    """Give the job something to look at."""
    async with ReliableOrderExecutor(CONFIG["executor"]) as executor:
        order_id = await executor.execute_order(
            {"symbol": "ETH/USD", "side": "buy", "type": "market", "amount": "0.5"}
        )
        order = await executor.wait_for_order(order_id, timeout=30)
        print(f"{order.order_id}: {order.state}, {order.filled} at {order.average_price}")


async def reconcile_once(job: ReconciliationJob) -> None:
    """Compare journal and exchange, and keep the report."""
    report = await job.run_reconciliation()
    print(
        f"{report.matched_orders} of {report.total_orders} orders match, {report.mismatch_percentage:.1f} % do not"
    )
    for found in report.details:
        print(f"{found.kind}: {found.order_id}, {dict(found.differences)}, {found.action}")
    print(f"report: {job.settings.reporting.file}")


def main() -> None:
    """Reconcile once, or with ``--serve`` on the schedule."""
    asyncio.run(place_something())
    job = ReconciliationJob(CONFIG)
    asyncio.run(reconcile_once(job))
    if "--serve" in sys.argv[1:]:
        job.start()  # blocks until SIGTERM or Ctrl-C


if __name__ == "__main__":
    main()
