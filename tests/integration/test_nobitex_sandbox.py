"""The sandbox's command as another program starts it: it ends with whoever started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "services.mcp.order_execution.sandbox"]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}


def test_it_ends_when_its_standard_input_does(tmp_path: Path) -> None:
    """Whoever started it may be killed, and no server is left behind; until then it is there."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--json", "--until-eof", "--token-only"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "base_url" in json.loads(process.stdout.readline())
    assert process.poll() is None
    _, errors = process.communicate(timeout=20)  # closes the pipe
    assert (process.returncode, errors) == (0, "")


def test_without_a_pipe_it_says_so(tmp_path: Path) -> None:
    """Exit code 2, one line."""
    done = subprocess.run(
        [*COMMAND, "--port", "0", "--until-eof", "--token-only"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "sandbox: --until-eof: expected a pipe as standard input\n")
