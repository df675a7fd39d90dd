"""Secrets: the whole engine under faults, with marked keys, and a search through everything that it left behind."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings, WireFaults
from trading_system.execution import NobitexExecutionEngine, Order, OrderSide, OrderType


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A local Nobitex in a thread of its own, on a bad day."""
    ready, made = threading.Event(), []

    def serve() -> None:
        async def main() -> None:
            settings = SandboxSettings(path=Path(":memory:"), port=0, limits=None, duplicate_seconds=0.0)
            async with Sandbox(settings, rng=random.Random(3)) as opened:
                stop = asyncio.Event()
                made.append((opened, asyncio.get_running_loop(), stop))
                ready.set()
                await stop.wait()

        asyncio.run(main())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30)
    opened, loop, stop = made[0]
    bad_day = WireFaults(lost_reply=0.2, server_error=0.2, garbled_reply=0.2, hang_seconds=0.05)
    loop.call_soon_threadsafe(opened.set_faults, bad_day)
    yield opened
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


def test_no_secret_is_left_anywhere(sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Journal, transaction log, positions, logs, results, errors, statistics, reprs: the key is in none of them."""
    caplog.set_level(logging.DEBUG)
    key, secret = sandbox.keys.api_key, sandbox.keys.api_secret
    engine = NobitexExecutionEngine(
        {
            "execution_engine": {
                "transaction_log_path": str(tmp_path / "transactions"),
                "journal_path": str(tmp_path / "journal.db"),
                "positions_path": str(tmp_path / "positions.db"),
                "retry_delay": 0.05,
                "order_timeout": 3.0,
                "confirmation_timeout": 0.5,
                "circuit_breaker_enabled": False,  # every order shall get as far as it can
            },
            "exchange": {"api_key": key, "api_secret": secret, "base_url": sandbox.base_url, "timeout": 1.0},
            "core": {"gateway": {"settle_seconds": 0.2, "request_expiry_seconds": 0.5}},
        }
    )
    said = [repr(engine.settings), repr(engine)]
    with engine:
        for number in range(12):
            kind = OrderType.MARKET if number % 2 else OrderType.LIMIT
            price = None if number % 2 else str(60_000 + number)
            order = Order("btc-usdt", OrderSide.BUY, kind, "0.001", price, order_id=f"o{number}")
            said.append(repr(engine.execute_order(order)))
        said += [repr(engine.get_stats()), repr(engine.get_order_history("o1")), repr(vars(engine))]
    said += [record.getMessage() + str(record.exc_text) for record in caplog.records]
    text = "\n".join(said)
    with urllib.request.urlopen(f"{sandbox.base_url}/sandbox/book", timeout=10) as book:
        assert b'"clientOrderId"' in book.read()
    for part in (secret, key, secret[:20]):
        assert part not in text
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or part.encode() not in path.read_bytes(), path
