"""The sandbox's life: start, restart, end."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from services.mcp.order_execution.errors import ConfigurationError, ExchangeUnavailable
from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings
from services.mcp.order_execution.sandbox import server as server_module
from services.mcp.order_execution.sandbox.server import OffsetClock
from tests.unit.sandbox.desk import NOON, HandClock, desk


async def test_state_survives_a_restart(tmp_path: Path) -> None:
    """Open orders, ids and balances lie in the file."""
    path = tmp_path / "deep" / "sandbox.db"
    async with desk(path=path, shapes="new") as client:
        await client.add(clientOrderId="mine")
    async with desk(path=path, shapes="new") as client:
        found = await client.post("/market/orders/status", {"clientOrderId": "mine"})
        assert found.body["order"]["id"] == 1
        assert (await client.add(clientOrderId="mine")).body["code"] == "DuplicateClientOrderId"
        assert (await client.add()).body["order"]["id"] == 2


async def test_another_seed_on_the_same_file_is_refused(tmp_path: Path) -> None:
    """The file says so, and nothing stays open."""
    path = tmp_path / "sandbox.db"
    async with desk(path=path, seed=1):
        pass
    with pytest.raises(ConfigurationError, match="seed"):
        async with desk(path=path, seed=2):
            pass


async def test_a_file_that_stays_busy_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries."""
    monkeypatch.setattr(server_module, "OPEN_TRIES", 1)
    path = tmp_path / "sandbox.db"
    async with desk(path=path):
        pass
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ExchangeUnavailable, match="busy"):
            async with desk(path=path):
                pass
    finally:
        other.close()


async def test_it_says_where_it_is_only_while_it_runs() -> None:
    """And closing twice is harmless."""
    sandbox = Sandbox(SandboxSettings(path=Path(":memory:"), port=0), clock=HandClock())
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.base_url
    async with sandbox:
        assert sandbox.base_url == f"http://127.0.0.1:{sandbox.port}"
        assert sandbox.stream_url == f"ws://127.0.0.1:{sandbox.port}/connection/websocket"
    await sandbox.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.port


async def test_it_listens_on_version_six_too() -> None:
    """With the address in brackets."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with desk(host="::1") as client:
        assert client.sandbox.base_url.startswith("http://[::1]:")
        assert (await client.get("/v2/options")).status == 200


async def test_it_ends_within_seconds_while_callers_hang() -> None:
    """They are let go."""
    async with desk(faults={"hang": 1.0}) as client:
        hanging = [asyncio.create_task(client.get("/v2/options")) for _ in range(3)]
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        await client.sandbox.close()
        assert asyncio.get_running_loop().time() - started < 5
        for outcome in await asyncio.gather(*hanging, return_exceptions=True):
            assert isinstance(outcome, aiohttp.ClientError)


async def test_ended_while_it_starts_it_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason."""

    async def interrupted(_: object) -> None:
        raise asyncio.CancelledError

    sandbox = Sandbox(SandboxSettings(path=Path(":memory:"), port=0), clock=HandClock())
    monkeypatch.setattr(aiohttp.web.AppRunner, "setup", interrupted)
    with pytest.raises(asyncio.CancelledError):
        await sandbox.start()
    with pytest.raises(Exception, match="not open"):
        sandbox.book()


def test_the_offset_clock() -> None:
    """Wall time moves, durations do not."""
    clock = OffsetClock(HandClock(), 45)
    assert (clock.now() - NOON).total_seconds() == 45
    assert clock.monotonic() == HandClock().monotonic()
