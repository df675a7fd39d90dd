"""What tests of the engine share: a fake exchange, a disk, and the engines that live on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals.base import Journal
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from tests.fakes import FOREVER, FakeExchange
from trading_system.execution import NobitexExecutionEngine, Order, OrderSide, OrderType

QUICK = replace(FOREVER, request_expiry=0.1, settle=0.02)


class EngineWorld:
    """A fake exchange, a disk, and the engines that live on them."""

    def __init__(self, tmp_path: Path, **core: Any) -> None:
        self.path = tmp_path
        self.clock = SystemClock()
        self.exchange = FakeExchange(self.clock, QUICK)
        self.store = MemoryStore()
        self.core = {
            "retry": {"initial_delay": 0.01, "deadline_seconds": 5},
            "confirmation": {"poll_interval_seconds": 0.1, "close_timeout_seconds": 0.2},
            "transaction_log": {"path": tmp_path / "transactions"},
            **core,
        }
        self.engines: list[NobitexExecutionEngine] = []

    def executor(self, journal: Journal | None = None) -> ReliableOrderExecutor:
        """A core on the same disk, or on another journal."""
        kept = journal or MemoryJournal(self.clock, store=self.store)
        return ReliableOrderExecutor(self.core, gateway=self.exchange, journal=kept)

    def engine(self, journal: Journal | None = None, **options: Any) -> NobitexExecutionEngine:
        """A new engine on the same disk, or on another journal."""
        section = {
            "exchange_adapter": "mock",
            "positions_path": str(self.path / "positions.db"),
            "confirmation_timeout": 0.5,
        }
        made = NobitexExecutionEngine({"execution_engine": section}, executor=self.executor(journal), **options)
        self.engines.append(made)
        made.start()
        return made

    def stop(self) -> None:
        """Stop every engine."""
        for engine in self.engines:
            engine.stop()


def limit(order_id: str = "o1", **changes: Any) -> Order:
    """A limit order that rests."""
    values: dict[str, Any] = {"quantity": "0.1", "price": "50000", "order_id": order_id, **changes}
    return Order("btc-usd", OrderSide.BUY, OrderType.LIMIT, **values)


def until(done: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it does not come"
        threading.Event().wait(0.01)


def kill_the_thread(engine: NobitexExecutionEngine) -> None:
    """End the engine's loop behind its back, and wait until it is gone."""
    loop = engine._thread._loop
    assert loop is not None
    loop.call_soon_threadsafe(loop.stop)
    until(lambda: not engine.is_running)
