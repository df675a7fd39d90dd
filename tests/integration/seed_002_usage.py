"""The usage blocks of the module's first description, letter by letter but for the ``async def`` around ``await``.

Kept as users have them in their own code: ``test_docs.py`` runs this file in an empty directory.
"""

from __future__ import annotations

import asyncio
import threading

# ---- Basic Usage ----------------------------------------------------------------------------------------------
from services.mcp.order_execution import ReliableOrderExecutor


async def basic_usage() -> None:
    # Initialize executor
    executor = ReliableOrderExecutor()

    # Configure with custom settings
    config = {
        "retry": {
            "max_retries": 5,
            "backoff_base": 1.5,
            "initial_delay": 0.5,
            "max_delay": 10.0
        },
        "circuit_breaker": {
            "error_threshold": 20,
            "warning_threshold": 5,
            "window_size_minutes": 5,
            "cool_down_seconds": 30
        }
    }
    await executor.configure(config)

    # Execute an order
    order_params = {
        "symbol": "BTC/USD",
        "side": "buy",
        "type": "limit",
        "amount": 0.1,
        "price": 50000.0
    }
    order_id = await executor.execute_order(order_params)

    # Check order status
    status = await executor.get_order_status(order_id)

    # Cancel an order
    success = await executor.cancel_order(order_id)

    # Get execution statistics
    stats = await executor.get_execution_stats()

    # Run reconciliation
    reconciliation_result = await executor.reconcile_orders()

    print("status", status.state, status.amount, status.price)
    print("success", success)
    print("stats", stats.orders["accepted"], stats.circuit_state)
    print("reconciliation", reconciliation_result.total_orders, reconciliation_result.is_clean)
    await executor.close()


# ---- Using the Reconciliation Job -----------------------------------------------------------------------------
from services.mcp.order_execution.reconciliation_job import ReconciliationJob  # noqa: E402


def reconciliation_job() -> None:
    # Create configuration
    config = {
        "executor": {
            "retry": {
                "max_retries": 3,
                "backoff_base": 2.0,
                "initial_delay": 1.0,
                "max_delay": 30.0
            }
        },
        "schedule": {
            "interval": "daily",
            "time": "00:00"  # Midnight
        },
        "reporting": {
            "file": "reconciliation_reports.json",
            "history_days": 30
        },
        "run_on_start": True  # Run immediately on startup
    }

    # Create and start the job
    job = ReconciliationJob(config)
    # A user would stop it by SIGTERM; here a timer does.
    threading.Timer(3.0, lambda: job_loop(job)).start()
    job.start()  # This will block and run the scheduler
    print("stopped", job.settings.reporting.file.exists())


def job_loop(job: ReconciliationJob) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGTERM)


async def one_time() -> None:
    job = ReconciliationJob({})
    # For one-time execution
    result = await job.run_reconciliation()
    print("once", result.total_orders, result.matched_orders)


if __name__ == "__main__":
    asyncio.run(basic_usage())
    reconciliation_job()
    asyncio.run(one_time())
