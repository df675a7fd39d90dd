"""What the guards around a call cost: breaker, the whole stack, decorators, events to subscribers."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal

from services.mcp.order_execution import (
    alert_on_failure,
    circuit_breaker_aware,
    log_execution_time,
    track_metrics,
)
from services.mcp.order_execution.alerts import Alerts, LogSink
from services.mcp.order_execution.circuit_breaker import BreakerPolicy, CircuitBreaker
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import OrderRef
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.lifecycle import accepted, intend, new_order
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from services.mcp.order_execution.rate_limit import RateLimiter
from services.mcp.order_execution.registry import OrderRegistry
from services.mcp.order_execution.retry import RetryBudget, RetryPolicy, run_with_retry
from services.mcp.order_execution.wire import Lane, Wire
from tests.benchmarks.gateway import QuietGateway
from tests.benchmarks.measure import Row, async_case, differences, loop_case, median, rounds

ROUNDS = {True: 5, False: 15}


def breaker(quick: bool) -> list[Row]:
    """One permit taken and reported as a success."""
    circuit = CircuitBreaker("submit", BreakerPolicy(), time.monotonic)

    def guarded() -> None:
        circuit.acquire().success()

    def bare() -> None:
        pass

    times = 20_000 if quick else 100_000
    taken = rounds({"bare": loop_case(bare, times), "guarded": loop_case(guarded, times)}, ROUNDS[quick])
    return [
        Row(
            "breaker",
            "Breaker, a successful call",
            "acquire() + success() against an empty function, CPU, in one loop",
            differences(taken["guarded"], taken["bare"]),
            250,
            "ns",
            "≤ 250 ns added",
            facts={"bare_ns": median(taken["bare"])},
        )
    ]


def make_wire(gateway: QuietGateway, clock: SystemClock) -> Wire:
    """The last layers before an exchange, as the core wires them, without documented limits."""
    lanes = {lane: CircuitBreaker(lane, BreakerPolicy(), clock.monotonic) for lane in Lane}
    limiter = RateLimiter(clock.monotonic, dict.fromkeys(Lane, (None, 1)))
    return Wire(gateway, clock, limiter, lanes, Metrics(), timeout=15.0)


def stack(quick: bool) -> list[Row]:
    """Retry, rate limiter, breaker, time limit and metrics around a call that answers at once."""
    clock, gateway = SystemClock(), QuietGateway()
    wire = make_wire(gateway, clock)
    ref = OrderRef("id", "BTC/USDT", "X1")
    policy, budget, rng = RetryPolicy(), RetryBudget(), random.Random(1)

    async def bare() -> None:
        await gateway.cancel(ref)

    async def attempt() -> object:
        return await wire.cancel(ref, float("inf"))

    async def guarded() -> None:
        await run_with_retry(attempt, policy, budget, float("inf"), clock.monotonic, rng)

    loop = asyncio.new_event_loop()
    times = 2_000 if quick else 10_000
    taken = rounds(
        {"bare": async_case(loop, bare, times), "guarded": async_case(loop, guarded, times)}, ROUNDS[quick]
    )
    loop.close()
    return [
        Row(
            "stack",
            "Retry + rate limiter + breaker + timeout",
            "run_with_retry(wire.cancel) against gateway.cancel awaited bare, CPU",
            differences(taken["guarded"], taken["bare"]) / 1e3,
            10,
            "µs",
            "≤ 10 µs",
            facts={"bare_us": median(taken["bare"]) / 1e3},
        )
    ]


class _Bot:
    """What a decorated method finds on its ``self``."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.circuit_breaker = CircuitBreaker("bot", BreakerPolicy(), time.monotonic)
        self.alerts = Alerts([LogSink()], self.clock)

    async def bare(self) -> None:
        """Do nothing."""

    @log_execution_time
    async def logged(self) -> None:
        """Do nothing, its time at hand for a log that is off, as it comes."""

    @track_metrics
    async def tracked(self) -> None:
        """Do nothing, counted."""

    @circuit_breaker_aware
    async def aware(self) -> None:
        """Do nothing, under a breaker."""

    @alert_on_failure
    async def alerting(self) -> None:
        """Do nothing, watched."""


def decorators(quick: bool) -> list[Row]:
    """Each decorator on an async method that does nothing."""
    bot = _Bot()
    loop = asyncio.new_event_loop()
    times = 5_000 if quick else 30_000
    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "bare": bot.bare,
        "log_execution_time": bot.logged,
        "track_metrics": bot.tracked,
        "circuit_breaker_aware": bot.aware,
        "alert_on_failure": bot.alerting,
    }
    logger = logging.getLogger(__name__)
    taken = rounds({name: async_case(loop, call, times) for name, call in calls.items()}, ROUNDS[quick])
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    written = rounds(
        {"bare": async_case(loop, bot.bare, times), "on": async_case(loop, bot.logged, times)}, ROUNDS[quick]
    )
    loop.close()
    added = {name: differences(values, taken["bare"]) / 1e3 for name, values in taken.items() if name != "bare"}
    added["log_execution_time, log on"] = differences(written["on"], written["bare"]) / 1e3
    return [
        Row(
            f"decorator-{name.replace('_', '-').replace(', ', '-').replace(' ', '-')}",
            f"Decorator {name}",
            "an async method with it against the same one bare, CPU"
            + (" (a record made for a handler that drops it)" if "on" in name.split() else ""),
            value,
            None if name.endswith("log on") else 2,
            "µs",
            "≤ 2 µs" if not name.endswith("log on") else "—",
            note="most of it is logging's own record" if name.endswith("log on") else "",
        )
        for name, value in added.items()
    ]


def fan_out(quick: bool) -> list[Row]:
    """Events told to ten subscribers that all read them."""
    loop = asyncio.new_event_loop()
    events = 2_000 if quick else 10_000
    taken = rounds(
        {
            "none": lambda: loop.run_until_complete(_told(events, 0)),
            "ten": lambda: loop.run_until_complete(_told(events, 10)),
        },
        ROUNDS[quick],
    )
    loop.close()
    return [
        Row(
            "fan-out",
            "Event fan-out to 10 subscribers",
            "CPU of telling an event and of ten readers taking it, against the same event with no subscriber",
            differences(taken["ten"], taken["none"]),
            10,
            "µs",
            "≤ 10 µs per event",
            facts={"event_without_subscribers_us": median(taken["none"])},
        )
    ]


async def _told(events: int, subscribers: int) -> float:
    """CPU microseconds for each event."""
    clock = SystemClock()
    journal = MemoryJournal(clock)
    await journal.open()
    registry = OrderRegistry(journal, clock)
    now = datetime.now(UTC)
    request = OrderRequest("id", "BTC/USDT", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(50_000))
    order = intend(new_order(request, now), now).order
    event = accepted(order, now, "X1")
    read = 0

    async def reader() -> None:
        nonlocal read
        async for _ in subscription_of.pop():
            read += 1

    subscription_of = [registry.subscribe() for _ in range(subscribers)]
    readers = [asyncio.get_running_loop().create_task(reader()) for _ in range(subscribers)]
    await asyncio.sleep(0)
    began = time.process_time()
    for number in range(events):
        registry._publish(event)  # what journal and memory cost is not what is asked here
        if number % 10 == 9:
            await asyncio.sleep(0)
    while read < events * subscribers:  # noqa: ASYNC110 - it is what is measured
        await asyncio.sleep(0)
    took = time.process_time() - began
    registry.close()
    await asyncio.gather(*readers)
    await journal.close()
    return took / events * 1e6
