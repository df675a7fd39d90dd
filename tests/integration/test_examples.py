"""The examples run as they are, in an empty directory, without a question and without a warning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(example: str, directory: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDER_EXECUTION_")}
    result = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / example)],
        cwd=directory,
        env={**kept, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr
    return result.stdout


def test_every_example_is_run_here() -> None:
    """An example that nobody runs is a guess."""
    assert {path.name for path in EXAMPLES} == {"reliable_executor_example.py", "reconciliation_job_example.py"}


def test_the_executor_example_shows_each_outcome(tmp_path: Path) -> None:
    """It fills one order, cancels another, has a wrong one refused, and reconciles clean."""
    said = run("reliable_executor_example.py", tmp_path)
    assert "filled: 0.1 BTC/USD at " in said
    assert "cancelled: True\nits state: canceled" in said
    assert "not sent, since it is wrong: amount: expected a number above zero" in said
    assert "reconciled: 2 of 2 match, clean: True" in said


def test_the_executor_example_may_be_run_again(tmp_path: Path) -> None:
    """A second run finds the first one's orders, and everything still matches."""
    run("reliable_executor_example.py", tmp_path)
    assert "reconciled: 4 of 4 match, clean: True" in run("reliable_executor_example.py", tmp_path)


def test_the_job_example_keeps_its_report(tmp_path: Path) -> None:
    """It reconciles once and leaves one report that says so."""
    said = run("reconciliation_job_example.py", tmp_path)
    (report,) = json.loads((tmp_path / "reconciliation_reports.json").read_text(encoding="utf-8"))
    assert "1 of 1 orders match, 0.0 % do not" in said
    assert (report["total_orders"], report["matched_orders"], report["is_clean"]) == (1, 1, True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_uses_only_the_public_face(path: Path) -> None:
    """Examples import the package's names and the job, nothing inner."""
    imports = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("from services")]
    allowed = ("services.mcp.order_execution ", "services.mcp.order_execution.reconciliation_job ")
    assert imports
    assert all(line.removeprefix("from ").startswith(allowed) for line in imports)
