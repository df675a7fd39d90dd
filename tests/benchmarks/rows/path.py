"""Where each microsecond of an order goes: its steps one after another, and the threads that share its CPU."""

from __future__ import annotations

import asyncio
import functools
import shutil
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from services.mcp.order_execution import ReliableOrderExecutor, reliable_executor
from tests.benchmarks.gateway import HttpGateway
from tests.benchmarks.measure import Row, median, run_directory
from tests.benchmarks.peers import stub

KEY, SECRET = "k" * 64, "s" * 64
ORDER = {"symbol": "BTC/USDT", "side": "buy", "type": "limit", "amount": "0.001", "price": "50000"}

DURABLE = "durable: SQL, COMMIT, fdatasync"
HANDED_OVER = "journal: to its thread and back"
Span = tuple[str, float, float]
"""Name, and begin and end in seconds."""


class Spans:
    """Notes when steps begin and end; on the loop and in the journal's thread alike."""

    def __init__(self) -> None:
        self.noted: list[Span] = []

    def sync(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call whose duration is noted."""

        @functools.wraps(call)
        def noting(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.noted.append((name, began, time.perf_counter()))

        return noting

    def awaited(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same of a coroutine."""

        @functools.wraps(call)
        async def noting(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return await call(*args, **kwargs)
            finally:
                self.noted.append((name, began, time.perf_counter()))

        return noting


class _Appends:
    """A connection of which each append is noted: one statement that is its own transaction."""

    def __init__(self, connection: Any, spans: Spans) -> None:
        self._connection = connection
        self._append = spans.sync(DURABLE, connection.execute)

    def execute(self, statement: str, *values: Any) -> Any:
        """As the connection does it."""
        if statement.startswith("INSERT INTO appending"):
            return self._append(statement, *values)
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _attach(executor: ReliableOrderExecutor, spans: Spans) -> Callable[[], None]:
    """Note the steps of this executor; returns what ends it."""
    core = executor._core
    assert core is not None
    undo: list[Callable[[], None]] = []

    def put(owner: Any, name: str, made: Any) -> None:
        before = getattr(owner, name)
        setattr(owner, name, made)
        undo.append(lambda: setattr(owner, name, before))

    parse = vars(reliable_executor)["parse_request"]
    put(reliable_executor, "parse_request", spans.sync("parse", parse))
    put(reliable_executor, "admit", spans.awaited("rules, funds, limits", vars(reliable_executor)["admit"]))
    put(core.registry, "commit", spans.awaited("intent durable (loop)", core.registry.commit))
    put(core.ports.gateway, "submit", spans.awaited("HTTP to the stub and back", core.ports.gateway.submit))
    put(core.submission, "_take", spans.sync("accept, record, tell", core.submission._take))
    writer = core.ports.journal._writer  # type: ignore[attr-defined]
    put(writer, "_row", spans.sync("encode", writer._row))
    put(writer, "_connection", _Appends(writer._connection, spans))

    def end() -> None:
        for step in reversed(undo):
            step()

    return end


def thread_cpu() -> dict[str, float]:
    """CPU microseconds of each thread of this process so far, by its name."""
    told: dict[str, float] = {}
    for thread in threading.enumerate():
        if thread.native_id is not None:
            schedule = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text(encoding="ascii")
            name = "event loop" if thread is threading.main_thread() else thread.name
            told[name] = told.get(name, 0.0) + int(schedule.split()[0]) / 1e3
    return told


async def _measured(port: str, directory: Path, quick: bool) -> tuple[dict[str, float], dict[str, float], float]:
    config = {
        "journal": {"url": f"sqlite:///{directory}/journal.db"},
        "transaction_log": {"path": str(directory / "transactions")},
        "confirmation": {"poll_interval_seconds": 3600},
    }
    count = 300 if quick else 1_000
    async with ReliableOrderExecutor(config, gateway=HttpGateway(int(port), KEY, SECRET)) as executor:
        for _ in range(200):
            await executor.execute_order(ORDER)
        spans, totals = Spans(), []
        steps: dict[str, list[float]] = {}
        end = _attach(executor, spans)
        for _ in range(count):
            spans.noted.clear()
            began = time.perf_counter()
            await executor.execute_order(ORDER)
            totals.append(time.perf_counter() - began)
            own = _of_one_order(spans.noted, began)
            own[REST] = max(0.0, totals[-1] - sum(own.values()))
            for name, took in own.items():
                steps.setdefault(name, []).append(took)
        end()
        cpu = await _cpu_together(executor, 2_000 if quick else 6_000)
    return {name: median(values) * 1e6 for name, values in steps.items()}, cpu, median(totals) * 1e6


def _of_one_order(noted: list[Span], began: float) -> dict[str, float]:
    """Seconds of each step, a step's own parts taken out of it."""
    own: dict[str, float] = {}
    for name, start, end in noted:
        if start >= began:
            own[name] = own.get(name, 0.0) + end - start
    journal = own.pop("intent durable (loop)", 0.0)
    parts = own.get("encode", 0.0) + own.get(DURABLE, 0.0)
    own[HANDED_OVER] = max(0.0, journal - parts)
    return own


async def _cpu_together(executor: ReliableOrderExecutor, count: int) -> dict[str, float]:
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await executor.execute_order(ORDER)

    before = thread_cpu()
    await asyncio.gather(*(caller() for _ in range(50)))
    return {name: (value - before.get(name, 0.0)) / count for name, value in thread_cpu().items()}


REST = "retry, breaker, time limits, the rest"
STEPS = (
    "parse",
    "rules, funds, limits",
    "encode",
    HANDED_OVER,
    DURABLE,
    "HTTP to the stub and back",
    "accept, record, tell",
)


def path_profile(quick: bool) -> list[Row]:
    """One order's way, step by step (medians), and the CPU of its threads with fifty at once."""
    directory = run_directory()
    try:
        with stub() as port:
            steps, cpu, total = asyncio.run(_measured(port, directory, quick))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    ordered = {name: round(steps[name], 1) for name in (*STEPS, REST) if name in steps}
    return [
        Row("path-steps", "One order alone, step by step", "medians of the steps of execute_order, as they run",
            total, None, "µs", "", facts=ordered),
        Row("path-threads", "50 at once: CPU per order by thread", "CPU of each thread of the client process",
            sum(cpu.values()), None, "µs", "", facts={name: round(value, 1) for name, value in cpu.items()}),
    ]  # fmt: skip
