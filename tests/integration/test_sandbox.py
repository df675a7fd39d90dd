"""The sandbox's command as a user runs it: in a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

ROOT = Path(__file__).resolve().parents[2]
ADD = "/market/orders/add"


@contextmanager
def command(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The running command, and what it said of itself; it is killed in the end, if it still runs."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "services.mcp.order_execution.sandbox",
            "--port",
            "0",
            "--json",
            *arguments,
        ],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


async def place(known: dict[str, Any], **order: str) -> dict[str, Any]:
    body = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.01", "price": "60000", **order}
    headers = {"Authorization": f"Token {known['token']}", "User-Agent": "TraderBot/tests"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(known["base_url"] + ADD, json=body) as response,
    ):
        answer: dict[str, Any] = await response.json()
        return answer


async def book(known: dict[str, Any]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(known["book_url"]) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def test_it_serves_and_sigterm_ends_it_cleanly_and_its_state_survives(tmp_path: Path) -> None:
    """Exit code 0 within seconds and nothing on stderr; the next one has the same orders and the same keys."""
    with command(tmp_path) as (process, known):
        assert (await place(known, clientOrderId="mine"))["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
        assert (process.returncode, errors) == (0, "")
    with command(tmp_path) as (_, again):
        assert again["api_secret"] == known["api_secret"]
        assert [order["clientOrderId"] for order in (await book(again))["orders"]] == ["mine"]
        assert (await place(again, clientOrderId="mine"))["code"] == "DuplicateClientOrderId"


async def test_killed_it_has_kept_what_it_answered(tmp_path: Path) -> None:
    """An order that was acknowledged is there after SIGKILL."""
    with command(tmp_path) as (process, known):
        for number in range(5):
            assert (await place(known, clientOrderId=f"n{number}", pro="yes"))["status"] == "ok"
        process.kill()
    with command(tmp_path) as (_, again):
        assert len((await book(again))["orders"]) == 5


async def test_faults_from_the_command_line_strike(tmp_path: Path) -> None:
    """The reply is lost, and the book knows better."""
    with command(
        tmp_path, "--fault", "lost_reply=1", "--fault", f'only=["{ADD}"]', "--fault", "hang_seconds=0"
    ) as (
        _,
        known,
    ):
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await place(known)
        assert len((await book(known))["orders"]) == 1


def test_a_wrong_argument_is_one_line_on_stderr(tmp_path: Path) -> None:
    """Exit code 2, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "services.mcp.order_execution.sandbox", "--token", "x"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("sandbox: token:")
    assert len(done.stderr.splitlines()) == 1
