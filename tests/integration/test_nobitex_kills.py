"""A slice of the kills on the local Nobitex; the long form is ``python -m tests.nobitex_kills --kills 1000``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = [f"key:{seed}" for seed in (0, 3, 5, 10, 16)] + [f"token:{seed}" for seed in (4, 6, 12, 13, 18)]


def test_a_bot_killed_on_nobitex_keeps_the_promise_with_both_schemes() -> None:
    """Every wire fault, signed requests, SIGKILLs: one order per id at the exchange, and none of the refused."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.nobitex_kills", "--json", "--jobs", str(len(CASES)), "--case", *CASES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["auth"] == {"key": 5, "token": 5}
    assert summary["kills"] >= len(CASES)
    assert summary["orders"] > 2 * len(CASES)
    assert summary["violations"] == 0
