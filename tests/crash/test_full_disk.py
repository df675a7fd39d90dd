"""A disk that is really full, a file that may not grow, and one that is nearly full: nothing is sent unwritten."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.mcp.order_execution import JournalFull, ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.fakes import FOREVER, FakeExchange
from tests.worlds import ORDER

ROOT = Path(__file__).parents[2]
SMALL_DISK = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a process to its end."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def story(how: str, directory: Path) -> list[str]:
    """Command that lives through a full disk."""
    return [sys.executable, "-m", "tests.crash.full_disk", how, str(directory)]


def in_small_disk(directory: Path, command: list[str]) -> list[str]:
    """Command that sees a disk of one megabyte at the directory; nobody else sees it, and it ends with it."""
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        SMALL_DISK,
        "sh",
        str(directory),
        *command,
    ]


def test_a_full_disk_stops_orders_and_room_mends_it(tmp_path: Path) -> None:
    """ENOSPC from the system itself: orders are refused, cancels and queries go on, all written is there."""
    try:
        possible = run(in_small_disk(tmp_path, ["true"])).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this machine lets us mount no small disk")
    done = run(in_small_disk(tmp_path, story("tmpfs", tmp_path)))
    assert done.returncode == 0, done.stderr
    assert "resume refused\nplaced" in done.stdout


def test_a_file_that_may_not_grow_stops_orders(tmp_path: Path) -> None:
    """EFBIG from the system itself, on any machine."""
    done = run(story("limit", tmp_path))
    assert done.returncode == 0, done.stderr
    assert "resume refused\nplaced" in done.stdout


async def test_too_little_free_space_stops_orders_alone(tmp_path: Path) -> None:
    """With a clear error and nothing sent; open orders are cancelled and asked for, durably."""
    clock = SystemClock()
    free = [10**9]
    exchange = FakeExchange(clock, replace(FOREVER, request_expiry=0.05, settle=0.01))
    journal = SQLiteJournal(tmp_path / "journal.db", clock, min_free_bytes=10**6, free_bytes=lambda _: free[0])
    async with ReliableOrderExecutor({"transaction_log": {"path": None}}, gateway=exchange, journal=journal) as bot:
        await bot.execute_order({**ORDER, "client_order_id": "first"})
        free[0] = 1000
        journal._space.forget()  # what is free is asked once a second
        with pytest.raises(JournalFull, match="1000 bytes are free"):
            await bot.execute_order({**ORDER, "client_order_id": "refused"})
        assert exchange.placed == ["first"]
        assert await bot.cancel_order("first")
        await asyncio.wait_for(journal.flush(), 5)
        known = await journal.get("first")
        assert known is not None
        assert known.state.is_final
        assert journal.health().failure is None
