"""What a long history costs: opening after a crash, and reconciling all of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.gateways.base import ExchangeOrder, OrderList, TradeList, Unavailable
from tests.benchmarks.gateway import QuietGateway
from tests.benchmarks.histories import PinnedClock, copy_of, created, history, listed
from tests.benchmarks.measure import WORK, Row, median, rss_mib, run_directory

OPEN_ORDERS = 1_000


class FirstQuestion(QuietGateway):
    """Notes when it is asked for open orders for the first time."""

    name = "first-question"

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.asked_at = 0.0

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """The first question after a start."""
        if not self.asked_at:
            self.asked_at = time.perf_counter()
            self.asked.set()
        return await super().open_orders(symbol)


def config(path: Path) -> dict[str, Any]:
    """A journal, and no transaction log."""
    return {
        "journal": {"url": f"sqlite:///{path}"},
        "transaction_log": {"path": None},
        "confirmation": {"poll_interval_seconds": 3600},
    }


def drop_cache(path: Path) -> None:
    """Let the kernel forget the file's pages, as after a restart of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


async def _open_once(path: Path, end: datetime) -> float:
    """Milliseconds from ``open()`` to the first question."""
    gateway = FirstQuestion()
    executor = ReliableOrderExecutor(config(path), gateway=gateway, clock=PinnedClock(end))
    began = time.perf_counter()
    await executor.open()
    await gateway.asked.wait()
    took = (gateway.asked_at - began) * 1e3
    core = executor._core
    assert core is not None
    assert core.registry.live_count >= OPEN_ORDERS
    await executor.close()
    return took


def _mark_crashed(path: Path) -> None:
    """What a crash leaves: a file that nobody closed."""
    import sqlite3

    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean_shutdown'")
    connection.close()


def opening(quick: bool) -> list[Row]:
    """Opening after a crash, with a warm and with a cold file."""
    total = 100_000 if quick else 1_000_000
    kept, end = history(total, OPEN_ORDERS)
    directory = run_directory()
    try:
        path = copy_of(kept, directory)
        taken: dict[str, list[float]] = {"warm": [], "cold": []}
        for _ in range(2 if quick else 3):
            for name, values in taken.items():
                _mark_crashed(path)
                if name == "cold":
                    drop_cache(path)
                values.append(asyncio.run(_open_once(path, end)))
    finally:
        shutil.rmtree(directory)
    return [
        Row(
            "opening",
            f"Opening after a crash, {OPEN_ORDERS:,} open orders in a history of {total:,}",
            "open() on an unclean journal until the exchange is first asked; file in the page cache",
            median(taken["warm"]),
            100,
            "ms",
            "≤ 100 ms",
            facts={"cold_ms": median(taken["cold"]), "all_warm_ms": taken["warm"], "all_cold_ms": taken["cold"]},
            note="cold: the kernel had dropped the file's pages",
        )
    ]


class ListingGateway(QuietGateway):
    """Lists every order of a history, made as a gateway makes them: object by object, for each call anew."""

    name = "listing"

    def __init__(self, total: int, end: datetime, open_orders: int) -> None:
        super().__init__()
        self._total, self._end, self._open = total, end, open_orders
        self.spent = 0.0
        """CPU seconds of making the lists, which are the gateway's own."""
        self.lists = 0

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """The youngest."""
        return OrderList(tuple(self._listed(range(self._total - self._open, self._total))))

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """Those that closed in the period."""
        closed = self._total - self._open
        first = self._first_since(since, closed)
        return OrderList(tuple(self._listed(range(first, self._first_since(until, closed)))))

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """The orders carry theirs."""
        return TradeList(())

    def _first_since(self, at: datetime, closed: int) -> int:
        low, high = 0, closed
        while low < high:
            middle = (low + high) // 2
            if created(middle, self._total, self._end) < at:
                low = middle + 1
            else:
                high = middle
        return low

    def _listed(self, numbers: range) -> Iterator[ExchangeOrder]:
        began = time.thread_time()
        self.lists += 1
        for number in numbers:
            yield listed(number, self._total, self._end, self._open)
        self.spent += time.thread_time() - began


class PeakMemory:
    """The highest resident memory while it runs, looked at every 20 ms."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self.start = self.peak = rss_mib()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, rss_mib())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, rss_mib())


async def _reconcile(path: Path, total: int, end: datetime) -> dict[str, Any]:
    gateway = ListingGateway(total, end, OPEN_ORDERS)
    executor = ReliableOrderExecutor(config(path), gateway=gateway, clock=PinnedClock(end))
    await executor.open()
    core = executor._core
    assert core is not None
    await core._recovered.wait()
    gateway.spent, gateway.lists, told = 0.0, 0, 0
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(transient=True, disable=not sys.stderr.isatty()))
        line = bar.add_task("Comparing orders", total=None)

        def progress(done: int, expected: int) -> None:
            nonlocal told
            told += 1
            bar.update(line, completed=done, total=expected)

        memory = stack.enter_context(PeakMemory())
        began, cpu = time.perf_counter(), time.process_time()
        report = await executor.reconcile_orders("daily", progress=progress)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await executor.close()
    return {
        "seconds": took,
        "cpu_seconds": cpu,
        "listing_cpu_seconds": gateway.spent,
        "lists": gateway.lists,
        "memory_mib": memory.peak - memory.start,
        "start_mib": memory.start,
        "progress_told": told,
        "orders": report.total_orders,
        "matched": report.matched_orders,
        "clean": report.is_clean,
    }


def reconciling(quick: bool) -> list[Row]:
    """A journal against a listing of as many orders."""
    total = 100_000 if quick else 1_000_000
    kept, end = history(total, OPEN_ORDERS)
    directory = run_directory()
    try:
        facts = asyncio.run(_reconcile(copy_of(kept, directory), total, end))
    finally:
        shutil.rmtree(directory)
    if facts["orders"] != total or facts["matched"] != total:
        raise AssertionError(f"the reconciliation of two equal sides found differences: {facts}")
    scale = total / 1_000_000
    own = facts["seconds"] - facts["listing_cpu_seconds"]
    return [
        Row(
            "reconciling",
            f"Reconciling {total:,} orders against a listing of as many: time",
            "reconcile_orders('daily'), journal on disk; without what the gateway takes to make its lists",
            own,
            20 * scale,
            "s",
            f"≤ {20 * scale:g} s",
            facts=facts,
        ),
        Row(
            "reconciling-memory",
            f"Reconciling {total:,} orders against a listing of as many: memory",
            "highest resident memory during it above that before it, the gateway's lists included",
            facts["memory_mib"],
            100,
            "MiB",
            "≤ 100 MiB above the start",
            facts=facts,
        ),
        Row(
            "reconciling-progress",
            "Reconciling: how often the progress bar is told",
            "calls of progress() for each 10,000 orders",
            facts["progress_told"] / total * 10_000,
            1,
            "calls",
            "with a progress bar",
            at_least=True,
            facts={"directory": str(WORK)},
        ),
    ]
