"""The last layers before the exchange: every answer is decided by type, and each lane has a breaker of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.mcp.order_execution import CircuitOpen, CircuitState, ErrorCategory, InvalidOrder
from services.mcp.order_execution.circuit_breaker import BreakerPolicy, CircuitBreaker, Permit
from services.mcp.order_execution.gateways.base import Accepted, NotSent, Rejected, Unavailable, Unknown
from services.mcp.order_execution.lifecycle import request_of
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.models import OrderState
from services.mcp.order_execution.rate_limit import RateLimiter
from services.mcp.order_execution.resolving import ref_of
from services.mcp.order_execution.wire import Lane, Wire
from tests.fakes import FakeExchange
from tests.unit.test_lifecycle import order_in
from tests.virtual_time import VirtualClock, run_virtual

ORDER = order_in(OrderState.SENDING)
REQUEST = request_of(ORDER)


class Bench:
    """A wire to an exchange in memory."""

    def __init__(self, rate: float | None = None, probes: int = 1) -> None:
        self.clock = VirtualClock()
        self.exchange = FakeExchange(self.clock)
        policy = BreakerPolicy(failure_threshold=2, cool_down_seconds=10, half_open_probes=probes)
        self.breakers = {lane: CircuitBreaker(lane, policy, self.clock.monotonic) for lane in Lane}
        limits = dict.fromkeys(Lane, (rate, 1))
        self.limiter = RateLimiter(self.clock.monotonic, limits, share=1.0)
        self.wire = Wire(self.exchange, self.clock, self.limiter, self.breakers, Metrics(), timeout=5.0)

    async def submit(self, within: float = 60.0) -> object:
        """Send one order, once it may leave."""
        permit = await self.wire.leave(Lane.SUBMIT, self.clock.monotonic() + within)
        return permit if isinstance(permit, NotSent) else await self.wire.submit(REQUEST, permit)

    @property
    def deadline(self) -> float:
        """A minute from now."""
        return self.clock.monotonic() + 60


def bench(**options: Any) -> Callable[..., Callable[[], None]]:
    """Run the test in virtual time."""

    def decorate(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                await test(Bench(**options))

            run_virtual(main)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


@bench()
async def test_a_request_is_sent_once(b: Bench) -> None:
    """And the answer comes back as it is."""
    assert isinstance(await b.submit(), Accepted)
    assert len(b.exchange.submits) == 1


@bench(rate=1.0)
async def test_who_has_leave_may_change_his_mind(b: Bench) -> None:
    """Nothing is sent, the permit is given back, and the breaker counts nothing."""
    for _ in range(3):
        permit = await b.wire.leave(Lane.SUBMIT, b.deadline)
        assert isinstance(permit, Permit)
        permit.neutral()
    assert b.exchange.submits == []
    assert b.breakers[Lane.SUBMIT].state is CircuitState.CLOSED


@bench()
async def test_a_timeout_is_unknown_and_a_failure(b: Bench) -> None:
    """The time limit sits inside the breaker."""
    b.exchange.script.extend(["hang", "hang"])
    for _ in range(2):
        outcome = await b.submit()
        assert isinstance(outcome, Unknown)
        assert outcome.category is ErrorCategory.TIMEOUT
    assert b.breakers[Lane.SUBMIT].state is CircuitState.OPEN
    with pytest.raises(CircuitOpen):
        await b.submit()
    assert isinstance(await b.wire.cancel(ref_of(ORDER), b.deadline), Rejected)


@bench()
async def test_a_defect_while_writing_is_unknown(b: Bench) -> None:
    """It may have left."""
    b.exchange.script.append(RuntimeError("defect"))
    outcome = await b.submit()
    assert isinstance(outcome, Unknown)
    assert outcome.category is ErrorCategory.INTERNAL


@bench()
async def test_cancellation_is_neutral_and_passes_through(b: Bench) -> None:
    """On every lane, and the breaker is none the wiser."""
    b.exchange.script.extend(["hang"] * 3)
    b.exchange.latency = 3.0
    calls: list[Callable[[], Awaitable[object]]] = [b.submit, lambda: b.wire.query(ref_of(ORDER), b.deadline)]
    for call in calls * 3:
        task = asyncio.ensure_future(call())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert {breaker.state for breaker in b.breakers.values()} == {CircuitState.CLOSED}


@bench()
async def test_throttling_slows_down_and_is_no_failure(b: Bench) -> None:
    """A 429 shuts the gate for as long as the exchange asked, for all lanes; the circuit stays closed."""
    throttled = NotSent(ErrorCategory.RATE_LIMITED, "429", retry_after=20.0)
    b.exchange.script.extend([throttled, throttled, "ok"])
    start = b.clock.monotonic()
    for _ in range(3):
        await b.submit(within=100)
    assert b.clock.monotonic() - start >= 40
    assert b.breakers[Lane.SUBMIT].state is CircuitState.CLOSED


@bench(rate=0.1)
async def test_a_limit_of_ours_that_outlasts_the_deadline_sends_nothing(b: Bench) -> None:
    """NotSent for a write, Unavailable for a read."""
    await b.submit()
    assert isinstance(await b.submit(within=1), NotSent)
    assert len(b.exchange.submits) == 1
    await b.wire.query(ref_of(ORDER), b.deadline)
    answer = await b.wire.query(ref_of(ORDER), b.clock.monotonic() + 1)
    assert isinstance(answer, Unavailable)
    assert answer.category is ErrorCategory.RATE_LIMITED


@bench()
async def test_reads_are_decided_by_type_too(b: Bench) -> None:
    """Timeout, defect, our own bad parameter, open circuit."""
    b.exchange.latency = 9.0
    answer = await b.wire.query(ref_of(ORDER), b.deadline)
    assert isinstance(answer, Unavailable)
    assert answer.category is ErrorCategory.TIMEOUT
    b.exchange.latency = 0.0
    with pytest.raises(InvalidOrder):
        await b.wire.read(lambda: b.exchange.market("NOPE/USD"), b.deadline)

    async def defect() -> None:
        raise RuntimeError("defect")

    for _ in range(2):
        answer = await b.wire.read(defect, b.deadline)
        assert isinstance(answer, Unavailable)
        assert answer.category is ErrorCategory.INTERNAL
    answer = await b.wire.query(ref_of(ORDER), b.deadline)
    assert isinstance(answer, Unavailable)
    assert answer.category is ErrorCategory.CIRCUIT_OPEN
    await asyncio.sleep(11)
    assert not isinstance(await b.wire.query(ref_of(ORDER), b.deadline), Unavailable)


async def break_circuit(b: Bench) -> None:
    """Open the submit lane, and wait until it may be probed."""
    b.exchange.script.extend(["lost request"] * 2)
    for _ in range(2):
        await b.submit()
    await asyncio.sleep(11)
    b.exchange.submits.clear()
    b.exchange.reads.clear()


@bench(probes=2)
async def test_a_half_open_circuit_is_probed_by_reads_only(b: Bench) -> None:
    """As many as it takes; then the order goes out."""
    await break_circuit(b)
    assert isinstance(await b.submit(), Accepted)
    assert b.exchange.reads == ["ping", "ping"]
    assert b.breakers[Lane.SUBMIT].state is CircuitState.CLOSED


@bench()
async def test_a_probe_that_fails_opens_it_again_and_sends_nothing(b: Bench) -> None:
    """Whether the exchange does not answer, hangs, or the gateway has a defect."""

    async def defect() -> Unavailable | None:
        raise RuntimeError("defect")

    await break_circuit(b)
    b.exchange.down = "503"
    with pytest.raises(CircuitOpen):
        await b.submit()
    b.exchange.down = None
    b.exchange.latency = 99.0
    await asyncio.sleep(25)
    with pytest.raises(CircuitOpen):
        await b.submit()
    b.exchange.latency = 0.0
    b.exchange.ping = defect  # type: ignore[method-assign]
    await asyncio.sleep(50)
    with pytest.raises(CircuitOpen):
        await b.submit()
    assert b.exchange.submits == []
    assert b.breakers[Lane.SUBMIT].state is CircuitState.OPEN


@bench()
async def test_a_probe_that_is_cancelled_gives_its_permit_back(b: Bench) -> None:
    """The next caller may probe."""
    await break_circuit(b)
    b.exchange.latency = 3.0
    probing = asyncio.ensure_future(b.submit())
    await asyncio.sleep(1)
    with pytest.raises(CircuitOpen):
        await b.submit()
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    b.exchange.latency = 0.0
    assert isinstance(await b.submit(), Accepted)


HELD_BACK = NotSent(ErrorCategory.RATE_LIMITED, "our share of it is used up", retry_after=20.0, local=True)


@bench()
async def test_what_our_own_bounds_refuse_holds_up_nothing_else(b: Bench) -> None:
    """It says nothing of the exchange: no request waits for it, and no circuit opens, however often it happens."""
    b.exchange.script.extend([HELD_BACK] * 5)
    start = b.clock.monotonic()
    for _ in range(5):
        assert await b.submit() == HELD_BACK
    assert isinstance(await b.wire.cancel(ref_of(ORDER), b.deadline), Rejected)
    assert isinstance(await b.submit(), Accepted)
    assert b.clock.monotonic() == start
    assert b.breakers[Lane.SUBMIT].state is CircuitState.CLOSED


@pytest.mark.parametrize("retry_after", [None, 20.0])
@pytest.mark.parametrize("category", [ErrorCategory.BAD_RESPONSE, ErrorCategory.RATE_LIMITED])
def test_a_read_that_our_own_bounds_refuse_is_no_failure(
    retry_after: float | None, category: ErrorCategory
) -> None:
    """Nor is it a success: a circuit that is being probed stays as it is, and the next read decides."""

    @bench()
    async def story(b: Bench) -> None:
        refused = Unavailable(category, "more than we ever read", retry_after, local=True)

        async def too_many() -> Unavailable:
            return refused

        start = b.clock.monotonic()
        for _ in range(5):
            assert await b.wire.read(too_many, b.deadline) == refused
        assert b.breakers[Lane.QUERY].state is CircuitState.CLOSED
        assert b.clock.monotonic() == start
        b.exchange.down = "503"
        for _ in range(2):
            await b.wire.query(ref_of(ORDER), b.deadline)
        assert b.breakers[Lane.QUERY].state is CircuitState.OPEN
        await asyncio.sleep(11)
        for _ in range(3):
            assert await b.wire.read(too_many, b.deadline) == refused
        assert b.breakers[Lane.QUERY].state is CircuitState.HALF_OPEN
        b.exchange.down = None
        await b.wire.query(ref_of(ORDER), b.deadline)
        assert b.breakers[Lane.QUERY].state is CircuitState.CLOSED

    story()
