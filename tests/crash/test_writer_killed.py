"""SIGKILL of a process that writes with many producers: the next one finds all that was acknowledged."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.test_power_loss import _reopen, _wrong
from tests.crash.vfs import rounds

ROOT = Path(__file__).parents[2]


def acknowledged(path: Path, life: str, rng: random.Random) -> list[tuple[str, int]]:
    """Let a writer live for a random number of acknowledgements, kill it, and say what it acknowledged."""
    command = [sys.executable, "-m", "tests.crash.writer", str(path), life]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(rng.randrange(1, 300))]
        finally:
            process.kill()
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL, "the writer ended before it was killed"
    whole = [line.split() for line in lines if line.endswith(b"\n")]
    return [(order_id.decode(), int(version)) for order_id, version in whole]


@pytest.mark.slow
def test_no_kill_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """Life after life on one file: its lock is free again, it opens, and everything is there and whole."""
    path = tmp_path / "journal.db"
    rng = random.Random(11)
    acked: list[tuple[str, int]] = []
    for life in range(rounds(30)):
        acked += acknowledged(path, f"life{life}", rng)
        asyncio.run(_reopen(path))
        with closing(sqlite3.connect(path)) as found:
            assert _wrong(found, acked) == [], f"life {life}"
    assert len(acked) > rounds(30) * 50
    with closing(sqlite3.connect(path)) as found:
        assert _wrong(found, [*acked, ("never-written", 1)]), "the check of this test finds nothing"
