"""A guard against regressions of the order's path: ratios to a baseline measured in the same run, bounds generous.

The real measurements are ``make bench``; what fails here has become several times as expensive.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.circuit_breaker import BreakerPolicy, CircuitBreaker
from tests.benchmarks.gateway import QuietGateway
from tests.benchmarks.measure import ROOT, Row, row_from
from tests.benchmarks.report import markdown, results
from tests.benchmarks.rows.calls import decorators, fan_out, stack
from tests.benchmarks.rows.history import config
from tests.benchmarks.rows.scale import params, place

ROUNDS = 5


def best(case: Callable[[], float], times: int = ROUNDS) -> float:
    """The least of a few rounds: what others do on this machine can only add."""
    return min(case() for _ in range(times))


def _baseline() -> float:
    """CPU seconds of a fixed piece of work in plain Python, about as long as that of ten thousand small calls."""

    def nothing(number: int) -> int:
        return number + 1

    began, number = time.process_time(), 0
    for _ in range(100_000):
        number = nothing(number)
    return (time.process_time() - began) / 100_000


def test_a_guarded_call_stays_cheap() -> None:
    """A successful call through the breaker costs no more than forty plain calls of a function."""

    def guarded() -> float:
        circuit = CircuitBreaker("submit", BreakerPolicy(), time.monotonic)
        began = time.process_time()
        for _ in range(20_000):
            circuit.acquire().success()
        return (time.process_time() - began) / 20_000

    assert best(guarded) < 40 * best(_baseline)


def test_the_layers_around_a_call_stay_cheap() -> None:
    """Retry, limiter, breaker and time limit together, each decorator, and a told event: in plain calls."""
    unit = best(_baseline)
    assert _dearest(stack) < 300 * unit
    assert _dearest(decorators) < 400 * unit
    assert _dearest(fan_out) < 350 * unit


def _dearest(group: Callable[[bool], list[Row]]) -> float:
    """The dearest row of a group, in seconds; rows without a budget do not count."""
    return max(row.value or 0.0 for row in group(True) if row.limit is not None) / 1e6


def test_an_order_costs_a_bounded_multiple_of_its_durable_record(tmp_path: Path) -> None:
    """CPU of an order, fifty at once, over that of two bare rows written in batches to SQLite on the same disk."""

    async def ours() -> float:
        async with ReliableOrderExecutor(config(tmp_path / "journal.db"), gateway=QuietGateway()) as executor:
            await place(executor, 300)
            taken = []
            for _ in range(3):
                began = time.process_time()
                await place(executor, 500)
                taken.append((time.process_time() - began) / 500)
            return min(taken)

    assert asyncio.run(ours()) < 40 * best(lambda: _two_rows(tmp_path / "floor.db"), 3)


def _two_rows(path: Path) -> float:
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, body TEXT)")
    began = time.process_time()
    for batch in range(20):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((f"{batch}-{n}", "x" * 700) for n in range(100)))
        connection.execute("COMMIT")
    took = (time.process_time() - began) / 1_000
    connection.close()
    return took


def test_the_cost_of_an_order_does_not_grow_with_the_open_ones(tmp_path: Path) -> None:
    """With two thousand open orders an order costs at most twice what it costs with none."""

    async def grown() -> float:
        async with ReliableOrderExecutor(config(tmp_path / "journal.db"), gateway=QuietGateway()) as executor:
            await place(executor, 100)
            few = min([await _cpu(executor) for _ in range(3)])
            await place(executor, 2_000)
            return min([await _cpu(executor) for _ in range(3)]) / few

    assert asyncio.run(grown()) < 2


async def _cpu(executor: ReliableOrderExecutor) -> float:
    began = time.process_time()
    await place(executor, 200)
    return time.process_time() - began


def test_the_import_brings_no_heavy_package() -> None:
    """Nobody pays for ccxt, apprise, a scheduler or a web stack by importing the library."""
    program = "import sys, services.mcp.order_execution; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    brought = set(done.stdout.split())
    assert not brought & {"ccxt", "apprise", "apscheduler", "aiohttp", "rich", "fastapi", "flask", "jinja2"}


async def test_the_parameters_of_the_benchmarks_are_those_of_an_order(tmp_path: Path) -> None:
    """What is measured is an order that is accepted, journalled and open."""
    gateway = QuietGateway()
    async with ReliableOrderExecutor(config(tmp_path / "journal.db"), gateway=gateway) as executor:
        order_id = await executor.execute_order(params())
        assert (await executor.get_order_status(order_id)).state == "open"
        kinds = [event["kind"] for event in await executor.order_history(order_id)]
    assert gateway.accepted == 1
    assert kinds == ["intent", "accepted"]


def test_a_budget_is_judged_from_the_right_side() -> None:
    """A lower limit is met from above, an upper one from below; the page says what was missed."""
    rows = [
        Row("a", "speed", "x", 2.0, 1.0, "×", "≥ 1", at_least=True),
        Row("b", "cost", "x", 2.0, 1.0, "×", "≤ 1"),
        Row("c", "absent", "x", None, 1.0, "×", "≤ 1"),
    ]
    assert [row.ok for row in rows] == [True, False, None]
    assert row_from(rows[1].to_dict()) == rows[1]
    page = markdown(results(rows, quick=True, seconds=1.0))
    assert "| cost | 2.00 × | ≤ 1 | MISSED |" in page
    assert "| speed | 2.00 × | ≥ 1 | within |" in page
    assert "| absent | — | ≤ 1 | not measured |" in page
