"""Worlds for tests of the whole executor: virtual time, an exchange in memory, a disk that outlives the bot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from services.mcp.order_execution import ErrorCategory, OrderExecutionError, ReliableOrderExecutor
from services.mcp.order_execution.alerts import Alerts, Level
from services.mcp.order_execution.core import Core
from services.mcp.order_execution.gateways.base import NotSent
from services.mcp.order_execution.journals.codec import decode_event, decode_order
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from services.mcp.order_execution.models import Order
from tests.fakes import FOREVER, FakeExchange, RecordingSink
from tests.virtual_time import VirtualClock, run_virtual

T = TypeVar("T")

ORDER: dict[str, Any] = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "amount": "0.1", "price": "50000"}
CONFIG: dict[str, Any] = {"transaction_log": {"path": None}}
REFUSED = NotSent(ErrorCategory.CONNECTION, "refused")


class World:
    """One exchange, one disk, and the executors that live and die on them."""

    def __init__(self, config: dict[str, Any] | None = None, traits: Any = FOREVER) -> None:
        self.config = {**CONFIG, **(config or {})}
        self.clock = VirtualClock()
        self.exchange = FakeExchange(self.clock, traits)
        self.store = MemoryStore()
        self._tasks: list[asyncio.Task[Any]] = []
        self.bot = self.start()

    def start(self) -> ReliableOrderExecutor:
        """A new life on the same disk."""
        self.journal = MemoryJournal(self.clock, store=self.store, commit_seconds=0.001)
        self.bot = ReliableOrderExecutor(
            self.config, gateway=self.exchange, journal=self.journal, clock=self.clock, rng=random.Random(1)
        )
        return self.bot

    @property
    def core(self) -> Core:
        """The wired parts of the bot, once it is open."""
        assert self.bot._core is not None
        return self.bot._core

    async def listen(self) -> RecordingSink:
        """Open the bot, and hear all of its alerts."""
        sink = RecordingSink()
        self.bot.alerts = Alerts([sink], self.clock, min_level=Level.INFO, min_interval_seconds=0.0)
        await self.bot.open()
        return sink

    async def until_sent(self, count: int = 1) -> None:
        """Wait until the exchange was sent so many orders; for a minute at most."""
        for _ in range(6_000):
            if len(self.exchange.submits) >= count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(self.exchange.submits)} of {count} orders were sent")

    def background(self, call: Coroutine[Any, Any, Any]) -> None:
        """Let a call run that nobody waits for, and that may die with its process."""
        self._tasks.append(asyncio.get_running_loop().create_task(call, name="call"))

    async def stop_following(self) -> None:
        """Let the background tracking see nothing more, so that only a reconciliation can."""

        async def see_nothing(*, with_fills: bool = True) -> bool:
            return True

        await self.bot.open()
        assert self.bot._core is not None
        self.bot._core.tracker.round = see_nothing  # type: ignore[method-assign]

    def tasks(self) -> list[asyncio.Task[Any]]:
        """The background calls that have not ended."""
        return [task for task in self._tasks if not task.done()]

    async def crash(self) -> ReliableOrderExecutor:
        """Die without a word, as by SIGKILL, and start again."""
        self.journal.crash()
        dying = [
            task
            for task in asyncio.all_tasks()
            if task is not asyncio.current_task() and task.get_name() not in ("late", "main")
        ]
        for task in dying:
            task.cancel()
        # What a dying process would still write is refused by its journal, as by a disk that is gone.
        await asyncio.gather(*dying, return_exceptions=True)
        return self.start()

    def on_disk(self, order_id: str) -> Order | None:
        """What the disk holds of an order."""
        content = self.store.orders.get(order_id)
        return None if content is None else decode_order(content)

    async def journalled(self, order_id: str) -> list[str]:
        """The kinds of events that the disk holds of an order, once everything so far is durable."""
        await self.journal.flush()
        return [str(decode_event(event)["kind"]) for event in self.store.events.get(order_id, ())]


async def outcome(call: Awaitable[T]) -> T | OrderExecutionError:
    """What a call came to: its result, or the error of ours that it raised."""
    try:
        return await call
    except OrderExecutionError as error:
        return error


def scenario(config: dict[str, Any] | None = None, traits: Any = FOREVER) -> Callable[..., Callable[[], None]]:
    """Run the test in virtual time in a world of its own; its bot is closed at the end."""

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                world = World(config, traits)
                try:
                    await test(world)
                finally:
                    await world.bot.close()
                    await world.exchange.close()

            run_virtual(main)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate
