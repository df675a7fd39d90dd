"""Processes for the integration tests, and the exchange's own book to judge them by."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.paper_exchange.exchange import PaperExchange
from services.mcp.order_execution.paper_exchange.records import BookedOrder
from services.mcp.order_execution.paper_exchange.settings import PaperSettings

ROOT = Path(__file__).parents[2]
BOT = Path(__file__).with_name("bot.py")


@contextmanager
def bot(directory: Path, orders: int, faults: dict[str, object], *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A running bot; it is killed at the end, if it still runs."""
    command = [sys.executable, str(BOT), str(directory), str(orders), json.dumps(faults), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str]) -> IO[str]:
    """What the process prints, line by line."""
    assert process.stdout is not None
    return process.stdout


def book(directory: Path) -> dict[str, list[BookedOrder]]:
    """Every order that the exchange ever had, by client order id."""
    exchange = PaperExchange(PaperSettings(path=directory / "paper.db"), SystemClock())
    exchange.open()
    try:
        orders = defaultdict(list)
        for report in exchange.all_orders():
            orders[report.order.client_order_id].append(report.order)
        return dict(orders)
    finally:
        exchange.close()


def job(
    directory: Path, *arguments: str, config: dict[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the reconciliation job in a directory."""
    command = [sys.executable, "-m", "services.mcp.order_execution.reconciliation_job", *arguments]
    if config is not None:
        path = directory / "job.json"
        path.write_text(json.dumps(config))
        command += ["--config", str(path)]
    return subprocess.run(
        command,
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
