"""Seed 000 as written: the usage block of the synchronous engine, and its example, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USAGE = Path(__file__).with_name("seed_000_usage.txt")
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
    script = ROOT / "trading_system" / "execution" / "examples" / "nobitex_execution_example.py"
    result = run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "canceled: True" in result.stdout
    assert "reconciliation clean: True" in result.stdout
