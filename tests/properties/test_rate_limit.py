"""Rate limits: never more than was allowed in any stretch of time, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.rate_limit import RateLimiter
from services.mcp.order_execution.wire import Lane
from tests.virtual_time import VirtualClock, run_virtual


@given(
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 8),
    share=st.floats(0.1, 1.0),
    arrivals=st.lists(st.floats(0, 20), min_size=1, max_size=40),
    penalties=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=2),
)
def test_no_stretch_of_time_sees_more_than_it_may(
    rate: float, burst: int, share: float, arrivals: list[float], penalties: list[tuple[float, float]]
) -> None:
    """Our share of the burst and of the rate, and nothing at all while the exchange asked for peace."""
    left: list[float] = []

    async def main() -> None:
        clock = VirtualClock()
        start = clock.monotonic()
        limiter = RateLimiter(clock.monotonic, dict.fromkeys(Lane, (rate, burst)), share=share)

        async def caller(at: float) -> None:
            await asyncio.sleep(at)
            assert await limiter.acquire(Lane.SUBMIT)
            left.append(clock.monotonic() - start)

        async def exchange(at: float, seconds: float) -> None:
            await asyncio.sleep(at)
            limiter.penalise(seconds)

        await asyncio.gather(*(caller(at) for at in arrivals), *(exchange(*penalty) for penalty in penalties))

    run_virtual(main)
    left.sort()
    assert len(left) == len(arrivals)
    allowed = max(1.0, math.floor(burst * share))
    for first in range(len(left)):
        for last in range(first, len(left)):
            seconds = left[last] - left[first]
            assert last - first + 1 <= allowed + max(rate * share, 0) * seconds + 1 + 1e-6
    for at, seconds in penalties:
        within = [moment for moment in left if at + 1e-6 < moment < at + seconds - 1e-6]
        assert within == []


@given(deadline=st.floats(0, 10), waiting=st.integers(0, 30))
def test_who_cannot_be_served_in_time_is_told_in_time(deadline: float, waiting: int) -> None:
    """False at the deadline at the latest, and the others are not held up by those who left."""

    async def main() -> None:
        clock = VirtualClock()
        limiter = RateLimiter(clock.monotonic, dict.fromkeys(Lane, (1.0, 1)), share=1.0)
        start = clock.monotonic()
        others = [asyncio.ensure_future(limiter.acquire(Lane.SUBMIT)) for _ in range(waiting)]
        await asyncio.sleep(0)
        served = await limiter.acquire(Lane.SUBMIT, start + deadline)
        assert clock.monotonic() <= start + deadline + 1e-6 or served
        assert served == (waiting <= deadline or waiting == 0) or abs(waiting - deadline) < 1e-6
        assert all(await asyncio.gather(*others))
        assert clock.monotonic() <= start + waiting + 1

    run_virtual(main)
