"""The synchronous engine as a whole: seed 000 as written, its example, and what outlives its thread."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import JournalLocked
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.unit.trading_system.engine_world import EngineWorld, kill_the_thread, limit, until
from trading_system.execution import EngineDied, NobitexExecutionEngine, OrderStatus, PositionBook

ROOT = Path(__file__).resolve().parents[2]
USAGE = Path(__file__).with_name("seed_000_usage.txt")
EXAMPLE = ROOT / "trading_system" / "execution" / "examples" / "nobitex_execution_example.py"
IMPORTS = "import os, time, uuid\n"
SECRET = "SEED-SECRET-"


def run(code: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would, and give what it printed."""
    kept = {name: value for name, value in os.environ.items() if "NOBITEX" not in name}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=directory,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_seeds_usage_block_runs_as_written(tmp_path: Path) -> None:
    """With the mock adapter, and otherwise not a letter changed; the process ends by itself."""
    usage = USAGE.read_text(encoding="utf-8").replace('"exchange_adapter": "nobitex"', '"exchange_adapter": "mock"')
    result = run(IMPORTS + usage, tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"Order executed successfully: \S+\n", result.stdout)
    assert (tmp_path / "data" / "transactions").is_dir()
    assert result.stderr == ""
    with closing(sqlite3.connect(tmp_path / "data" / "positions.db")) as book:
        assert book.execute("SELECT count(*) FROM positions").fetchone() == (1,), "the end lost the last fill"


def test_without_keys_it_says_where_they_could_be(tmp_path: Path) -> None:
    """As written, on a machine without keys: a clear error, and no order."""
    result = run(IMPORTS + USAGE.read_text(encoding="utf-8"), tmp_path)
    assert result.returncode == 1
    assert "NOBITEX_API_KEY: no key was found" in result.stderr


def test_the_configuration_of_the_seed_is_taken_whole(tmp_path: Path) -> None:
    """Every key of its configuration block, and the engine runs on it."""
    code = """
from trading_system.execution.nobitex_engine import NobitexExecutionEngine
config = {
    "execution_engine": {
        "exchange_adapter": "mock", "max_retries": 3, "retry_delay": 2.0, "order_update_interval": 5.0,
        "transaction_log_path": "data/transactions", "circuit_breaker_enabled": True, "failure_threshold": 3,
        "circuit_open_timeout": 300,
    },
    "exchange": {"api_key": "SEED-SECRET-key", "api_secret": "SEED-SECRET-secret", "timeout": 15, "max_retries": 3},
}
with NobitexExecutionEngine(config) as engine:
    print(engine.get_stats()["circuit_state"], repr(engine.settings))
"""
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("closed ")
    assert SECRET not in result.stdout + result.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_the_example_runs_without_asking(tmp_path: Path) -> None:
    """On the mock adapter, from beginning to end."""
    result = run(f"import runpy; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "canceled: True" in result.stdout
    assert "reconciliation clean: True" in result.stdout


def test_a_new_engine_after_the_thread_died(tmp_path: Path) -> None:
    """On the same journal, at once, and without a stop of the old one: as EngineDied says."""
    world = EngineWorld(tmp_path)
    engine = world.engine(SQLiteJournal(tmp_path / "j.db", world.clock))
    assert engine.execute_order(limit()).success
    with pytest.raises(JournalLocked):
        world.engine(SQLiteJournal(tmp_path / "j.db", world.clock))
    kill_the_thread(engine)
    with pytest.raises(EngineDied, match="start a new engine"):
        engine.execute_order(limit())
    other = world.engine(SQLiteJournal(tmp_path / "j.db", world.clock))
    known = other.get_order("o1")
    assert known is not None
    assert known.status is OrderStatus.OPEN
    world.exchange.fill("X1", "0.1")
    book = other.positions
    assert isinstance(book, PositionBook)
    until(lambda: book.position("BTC/USD").quantity != 0)
    assert other.execute_order(limit()).success
    assert world.exchange.placed == ["o1"]
    world.stop()


def test_the_same_engine_starts_again_after_its_thread_died(tmp_path: Path) -> None:
    """With what is on its disk."""
    section = {"exchange_adapter": "mock", "journal_path": str(tmp_path / "j.db")}
    section |= {"positions_path": str(tmp_path / "p.db"), "transaction_log_path": str(tmp_path / "log")}
    engine = NobitexExecutionEngine({"execution_engine": section})
    engine.start()
    assert engine.execute_order(limit(price="20000", quantity="0.001")).success
    kill_the_thread(engine)
    engine.start()
    assert engine.get_order("o1") is not None
    assert engine.execute_order(limit("o2", price="20000", quantity="0.001")).success
    engine.stop()
    engine.stop()


def test_an_order_in_flight_when_the_thread_dies_is_resolved_by_the_next_engine(tmp_path: Path) -> None:
    """Its caller hears that it is unresolved, it is durable that it may have left, and nothing is sent twice."""
    world = EngineWorld(tmp_path)
    engine = world.engine(SQLiteJournal(tmp_path / "j.db", world.clock))
    world.exchange.script.append("placed, hang")
    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(engine.execute_order, limit())
        until(lambda: world.exchange.placed == ["o1"])
        kill_the_thread(engine)
        assert caller.result(10).unresolved
    engine.stop()
    other = world.engine(SQLiteJournal(tmp_path / "j.db", world.clock))
    assert other.execute_order(limit()).success
    assert world.exchange.placed == ["o1"]
    world.stop()


def test_positions_go_on_after_a_slow_moment(tmp_path: Path) -> None:
    """More events than can be kept unread, while positions were written slowly: none is missing at the end."""
    world = EngineWorld(tmp_path)
    engine = world.engine()
    assert engine._executor is not None
    assert engine._executor._core is not None
    book = engine.positions
    assert isinstance(book, PositionBook)
    for subscription in engine._executor._core.registry._subscriptions:
        subscription._max_unread = 5
    with book._lock:  # nothing can be written meanwhile
        for number in range(8):
            world.exchange.script.append("fill")
            assert engine.execute_order(limit(f"o{number}")).success
    until(lambda: str(book.position("BTC/USD").quantity) == "0.8")
    world.stop()


def test_a_position_manager_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """It has a thread of its own, which the end of the process does not wait for."""
    code = """
import threading
from trading_system.execution import NobitexExecutionEngine, Order, OrderSide, OrderType
told = threading.Event()
class Hanging:
    def apply_fill(self, *fill):
        told.set()
        threading.Event().wait()
engine = NobitexExecutionEngine({"execution_engine": {"exchange_adapter": "mock"}}, positions=Hanging())
engine.start()
assert engine.execute_order(Order("btc-usdt", OrderSide.BUY, OrderType.MARKET, "0.001")).success
assert told.wait(10)
engine.stop(timeout=0)
print("stopped")
"""
    result = run(code, tmp_path)
    assert (result.returncode, result.stdout) == (0, "stopped\n"), result.stderr


def test_the_example_says_in_a_line_that_there_is_no_exchange(tmp_path: Path) -> None:
    """With the exit code of who should try again later."""
    arguments = [str(EXAMPLE), "--adapter", "nobitex", "--base-url", "http://127.0.0.1:1", "--data", "here"]
    code = f"import runpy, sys; sys.argv = {arguments!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    without_keys = run(code, tmp_path)
    assert without_keys.returncode == 2
    assert without_keys.stderr.startswith("ConfigurationError: NOBITEX_API_KEY: no key was found")
    away = "import trading_system.execution.nobitex_engine as e\n"
    away += "from services.mcp.order_execution import errors as x\n"
    away += "def gone(self, period): raise x.ExchangeUnavailable('gone', category=x.ErrorCategory.TIMEOUT)\n"
    away += "e.NobitexExecutionEngine.reconcile = gone\n"
    result = run(away + code.replace("'nobitex'", "'mock'"), tmp_path)
    assert result.returncode == 75
    assert result.stderr == "ExchangeUnavailable: gone\n"
