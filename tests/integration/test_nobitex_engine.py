"""Seed 000 as written, on Nobitex's API: its usage block and its example, signed, against the sandbox's process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
USAGE = Path(__file__).with_name("seed_000_usage.txt")
IMPORTS = "import os, time, uuid\n"
EXAMPLE = ROOT / "trading_system" / "execution" / "examples" / "nobitex_execution_example.py"


@contextmanager
def sandbox(directory: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """A running sandbox, and what it says of itself; it ends with its standard input."""
    command = [sys.executable, "-m", "services.mcp.order_execution.sandbox", "--port", "0", "--json", "--until-eof"]
    with subprocess.Popen(
        [*command, *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            assert process.stdin is not None
            process.stdin.close()


def book(known: dict[str, Any]) -> dict[str, Any]:
    """The truth."""
    with urlopen(known["book_url"], timeout=10) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
        return answer


def run(code: str, directory: Path, known: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a script as a user would, with the sandbox's keys and address in the environment."""
    kept = {name: value for name, value in os.environ.items() if "NOBITEX" not in name}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=directory,
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "NOBITEX_API_KEY": known["api_key"],
            "NOBITEX_API_SECRET": known["api_secret"],
            "ORDER_EXECUTION_GATEWAY__BASE_URL": known["base_url"],
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_seeds_usage_block_runs_as_written_with_signed_requests(tmp_path: Path) -> None:
    """Not a letter changed: the order is in the exchange's book, under the id that was printed, and signed for."""
    with sandbox(tmp_path) as known:
        result = run(IMPORTS + USAGE.read_text(encoding="utf-8"), tmp_path, known)
        assert result.returncode == 0, result.stderr
        said = re.fullmatch(r"Order executed successfully: (\d+)\n", result.stdout)
        assert said is not None, result.stdout
        found = book(known)
        assert [(order["id"], order["symbol"], order["type"]) for order in found["orders"]] == [
            (int(said[1]), "BTC/USDT", "market")
        ]
        assert not any(name.endswith(" 401") for name in found["requests"])
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or known["api_secret"].encode() not in path.read_bytes()


def test_the_example_runs_on_nobitex_through_faults(tmp_path: Path) -> None:
    """Answers are lost and requests throttled; every order is accounted for all the same."""
    faults = ["--fault", "lost_reply=0.15", "--fault", "rate_limited=0.05", "--fault", "retry_after_seconds=0.2"]
    with sandbox(tmp_path, *faults) as known:
        arguments = ["--adapter", "nobitex", "--base-url", known["base_url"], "--symbol", "btc-usdt"]
        code = f"import runpy, sys; sys.argv[1:] = {arguments!r}; "
        code += f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
        result = run(code, tmp_path, known)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "reconciliation clean: True" in result.stdout
        names = [order["clientOrderId"] for order in book(known)["orders"]]
    assert len(names) == len(set(names)) >= 1
