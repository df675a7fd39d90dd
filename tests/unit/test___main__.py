"""The command without its script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the package as a module."""
    command = [sys.executable, "-W", "error", "-m", "services.mcp.order_execution", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_package_is_a_command() -> None:
    """The same as ``order-execution``."""
    result = run("exchanges", "okx", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["exchanges"][0]["exchange"] == "okx"
    assert run("trade").returncode == 2
