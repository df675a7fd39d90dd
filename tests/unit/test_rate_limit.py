"""Requests leave as fast as the limits allow and no faster, in order, and nobody blocks the line."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.rate_limit import PENALTY_SECONDS_MAX, Bucket, Limit, RateLimiter
from tests.virtual_time import START, VirtualClock, run_virtual

EPS = 1e-5


def now() -> float:
    return VirtualClock().monotonic() - START


def limiter(
    submit: Limit = (None, 1), cancel: Limit = (None, 1), read: Limit = (None, 1), **more: Any
) -> RateLimiter:
    """A limiter that may use all of its limits, unless told otherwise."""
    limits = {"submit": submit, "cancel": cancel, "query": read}
    return RateLimiter(VirtualClock().monotonic, limits, **({"share": 1.0} | more))


async def leave(limits: RateLimiter, lane: str, deadline: float = math.inf) -> float | None:
    """When a request left, in seconds from the start; None if it did not."""
    return now() if await limits.acquire(lane, deadline) else None


async def leave_together(limits: RateLimiter, *lanes: str) -> list[float | None]:
    return list(await asyncio.gather(*(leave(limits, lane) for lane in lanes)))


def densest(times: Sequence[float], rate: float, burst: int) -> bool:
    """Whether any stretch of time holds more requests than burst + rate × its length."""
    ordered = sorted(times)
    return any(
        j - i + 1 > burst + rate * (ordered[j] - ordered[i]) + EPS
        for i in range(len(ordered))
        for j in range(i, len(ordered))
    )


# ---- the arithmetic --------------------------------------------------------------------------------------


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    rate=st.sampled_from([0.5, 1.0, 3.0, 10.0]),
    burst=st.integers(1, 5),
)
def test_a_bucket_decides_as_a_plain_token_bucket(gaps: list[float], rate: float, burst: int) -> None:
    """Against tokens that are refilled step by step."""
    bucket, tokens, clock = Bucket(rate, burst), float(burst), 1_000.0
    for gap in gaps:
        clock += gap
        tokens = min(float(burst), tokens + gap * rate)
        wait = bucket.wait(clock)
        assert wait == pytest.approx(max(0.0, (1 - tokens) / rate), abs=1e-6)
        if wait <= 1e-9:
            bucket.take(clock)
            tokens -= 1


@given(
    taken=st.integers(0, 8),
    idle=st.floats(0, 4),
    ahead=st.integers(0, 12),
    rate=st.sampled_from([0.5, 1.0, 3.0]),
    burst=st.integers(1, 5),
)
def test_the_wait_behind_others_is_what_serving_them_one_by_one_takes(
    taken: int, idle: float, ahead: int, rate: float, burst: int
) -> None:
    """The closed form agrees with the walk through the line."""
    bucket, clock = Bucket(rate, burst), 1_000.0
    for _ in range(taken):
        clock += bucket.wait(clock)
        bucket.take(clock)
    clock += idle
    foretold, start = bucket.wait(clock, ahead), clock
    for _ in range(ahead):
        clock += bucket.wait(clock)
        bucket.take(clock)
    assert foretold == pytest.approx(clock + bucket.wait(clock) - start, abs=1e-6)


# ---- one lane --------------------------------------------------------------------------------------------


def test_a_burst_leaves_at_once_and_the_rest_at_the_rate() -> None:
    """3 at once, then one every half second, in the order of asking."""

    async def main() -> None:
        limits = limiter(submit=(2.0, 3))
        times = await leave_together(limits, *["submit"] * 7)
        assert times == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5, 2.0], abs=EPS)

    run_virtual(main)


def test_what_was_not_used_is_saved_up_to_the_burst_only() -> None:
    """An hour of silence does not permit a flood."""

    async def main() -> None:
        limits = limiter(submit=(2.0, 3))
        await leave_together(limits, *["submit"] * 5)
        await asyncio.sleep(3600)
        started = now()
        times = await leave_together(limits, *["submit"] * 4)
        assert [round(t - started, 4) for t in times if t is not None] == [0, 0, 0, 0.5]

    run_virtual(main)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 5), st.floats(0.0, 4.0)), min_size=1, max_size=25),
    rate=st.sampled_from([1.0, 4.0]),
    burst=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_whatever_arrives_is_limited_served_in_order_and_in_time(
    arrivals: list[tuple[float, float]], rate: float, burst: int, seed: int
) -> None:
    """Random arrivals with random patience, under shuffled scheduling."""

    async def main() -> None:
        limits, left = limiter(submit=(rate, burst)), []

        async def caller(at: float, patience: float) -> None:
            await asyncio.sleep(at)
            asked = now()
            order = len(served)
            served.append(None)
            gone = await leave(limits, "submit", START + asked + patience)
            assert now() <= asked + patience + EPS
            if gone is not None:
                left.append((order, gone))

        served: list[None] = []
        await asyncio.gather(*(caller(at, patience) for at, patience in arrivals))
        assert not densest([gone for _, gone in left], rate, burst)
        assert [order for order, _ in left] == sorted(order for order, _ in left)

    run_virtual(main, seed=seed, shuffle=True)


def test_a_wait_beyond_the_deadline_is_refused_at_once_and_uses_nothing_up() -> None:
    """The third in line would have to wait 2 s: it does not begin to."""

    async def main() -> None:
        limits = limiter(submit=(1.0, 1))
        assert await limits.acquire("submit")
        first = asyncio.ensure_future(leave(limits, "submit"))
        await asyncio.sleep(0)
        assert limits.wait("submit") == pytest.approx(2)
        assert await leave(limits, "submit", START + 1.9) is None
        assert await leave(limits, "submit", START + 2.0) is None
        assert now() == 0
        assert await leave(limits, "submit", START + 2.1) == pytest.approx(2, abs=EPS)
        assert await first == pytest.approx(1, abs=EPS)

    run_virtual(main)


def test_a_request_that_need_not_wait_leaves_whatever_the_deadline() -> None:
    """The limiter refuses waits; the deadline itself is the caller's affair."""

    async def main() -> None:
        assert await limiter(submit=(1.0, 1)).acquire("submit", START - 5)

    run_virtual(main)


def test_cancelled_callers_leave_no_gap_in_the_line() -> None:
    """A hundred that gave up cost those behind them nothing, nor does one that was about to go."""

    async def main() -> None:
        limits = limiter(submit=(1.0, 1))
        await limits.acquire("submit")
        crowd = [asyncio.ensure_future(limits.acquire("submit")) for _ in range(100)]
        last = asyncio.ensure_future(leave(limits, "submit"))
        await asyncio.sleep(0.6)
        for task in crowd:
            task.cancel()
        assert await last == pytest.approx(1, abs=EPS)
        await asyncio.gather(*crowd, return_exceptions=True)
        assert all(task.cancelled() for task in crowd)
        assert await leave(limits, "submit") == pytest.approx(2, abs=EPS)

    run_virtual(main)


def test_callers_that_give_up_one_after_the_other_do_not_push_the_line_back() -> None:
    """Each head of the line is cancelled just before its turn."""

    async def main() -> None:
        limits = limiter(submit=(0.1, 1), shared=(0.1, 1))
        await limits.acquire("submit")
        for _ in range(8):
            task = asyncio.ensure_future(limits.acquire("submit"))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await leave(limits, "submit") == pytest.approx(12.5, abs=1)

    run_virtual(main)


def test_those_who_have_left_the_line_are_not_counted_any_more() -> None:
    """Served, refused in the line or cancelled: the next caller's wait does not include them."""

    async def main() -> None:
        limits = limiter(submit=(1.0, 1))
        await leave_together(limits, *["submit"] * 5)
        hurried = asyncio.ensure_future(leave(limits, "submit", START + 6))
        gone = asyncio.ensure_future(limits.acquire("submit"))
        await asyncio.sleep(0.2)
        gone.cancel()
        limits.penalise(3)
        assert await hurried is None
        await asyncio.sleep(60)
        assert limits.wait("submit") == 0
        assert await limits.acquire("submit", now() + START)
        assert limits.wait("submit") == pytest.approx(1)

    run_virtual(main)


# ---- several lanes ---------------------------------------------------------------------------------------


def test_lanes_do_not_wait_for_each_other() -> None:
    """A full submit line leaves cancels and reads alone."""

    async def main() -> None:
        limits = limiter(submit=(0.1, 1), cancel=(1.0, 1), read=(1.0, 1))
        queue = [asyncio.ensure_future(limits.acquire("submit")) for _ in range(20)]
        await asyncio.sleep(0)
        assert await leave(limits, "cancel") == 0
        assert await leave(limits, "query") == 0
        for task in queue:
            task.cancel()
        await asyncio.gather(*queue, return_exceptions=True)

    run_virtual(main)


def test_a_lane_that_is_slow_by_itself_does_not_hold_the_shared_limit() -> None:
    """The next submit is 10 s away; reads use the shared limit meanwhile."""

    async def main() -> None:
        limits = limiter(submit=(0.1, 1), shared=(10.0, 1), cancel_reserve=0.0)
        await limits.acquire("submit")
        slow = asyncio.ensure_future(leave(limits, "submit"))
        await asyncio.sleep(0)
        times = await leave_together(limits, *["query"] * 5)
        assert times == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], abs=EPS)
        assert await slow == pytest.approx(10, abs=EPS)

    run_virtual(main)


@pytest.mark.parametrize("shuffle", [False, True])
def test_floods_in_all_lanes_share_one_limit_and_starve_nobody(shuffle: bool) -> None:
    """Together they keep the limit; cancels get at least their reserve, submits and reads theirs."""

    async def main() -> None:
        limits = limiter(shared=(10.0, 5), cancel_reserve=0.2)
        left: dict[str, list[float]] = {"submit": [], "cancel": [], "query": []}

        async def flood(lane: str) -> None:
            if await limits.acquire(lane, START + 20):
                left[lane].append(now())

        await asyncio.gather(*(flood(lane) for lane in left for _ in range(300)))
        everything = [t for times in left.values() for t in times]
        assert not densest(everything, 10.0, 5)
        assert not densest(left["submit"] + left["query"], 8.0, 4)
        assert len(everything) >= 195
        assert len(left["cancel"]) >= 40
        assert min(len(left["submit"]), len(left["query"])) >= 30

    run_virtual(main, seed=3, shuffle=shuffle)


def test_a_cancel_goes_at_once_although_orders_use_all_that_they_may() -> None:
    """That is what the reserve is for."""

    async def main() -> None:
        limits = limiter(shared=(10.0, 10), cancel_reserve=0.2)
        queue = [asyncio.ensure_future(limits.acquire("submit")) for _ in range(400)]
        for _ in range(20):
            await asyncio.sleep(1.0)
            asked = now()
            left = await leave(limits, "cancel")
            assert left is not None
            assert left - asked <= 0.1 + EPS
        for task in queue:
            task.cancel()
        await asyncio.gather(*queue, return_exceptions=True)

    run_virtual(main)


def test_a_newcomer_of_another_lane_does_not_snatch_the_slot_that_another_waited_for() -> None:
    """It asks in the very moment in which the slot comes free, before the one who waits has woken."""

    async def main() -> None:
        limits = limiter(shared=(1.0, 1), cancel_reserve=0.0)
        await limits.acquire("submit")

        async def newcomer() -> float | None:
            await asyncio.sleep(1)
            return await leave(limits, "query")

        late = asyncio.ensure_future(newcomer())
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(leave(limits, "submit"))
        assert await waiting == pytest.approx(1, abs=EPS)
        assert await late == pytest.approx(2, abs=EPS)

    run_virtual(main)


# ---- the share -------------------------------------------------------------------------------------------


def test_only_the_share_of_a_limit_is_used() -> None:
    """0.8 of 5 a second with bursts of 10: 8 at once, then 4 a second."""

    async def main() -> None:
        limits = RateLimiter(VirtualClock().monotonic, {"submit": (5.0, 10)})
        times = await leave_together(limits, *["submit"] * 12)
        assert times == pytest.approx([0] * 8 + [0.25, 0.5, 0.75, 1.0], abs=EPS)

    run_virtual(main)


@pytest.mark.parametrize(("share", "burst", "at_once"), [(0.29, 100, 29), (0.05, 10, 1), (1.0, 7, 7)])
def test_the_share_of_a_burst_is_whole_and_never_nothing(share: float, burst: int, at_once: int) -> None:
    """Rounding errors of floats cost no request."""

    async def main() -> None:
        limits = RateLimiter(VirtualClock().monotonic, {"submit": (1.0, burst)}, share=share)
        count = 0
        while await limits.acquire("submit", START):
            count += 1
        assert count == at_once

    run_virtual(main)


# ---- penalties -------------------------------------------------------------------------------------------


def test_a_penalty_holds_every_lane_back_limited_or_not() -> None:
    """The exchange's Retry-After is honoured by all, and refused at once where the deadline is nearer."""

    async def main() -> None:
        limits = limiter(submit=(2.0, 5))
        limits.penalise(30)
        assert limits.penalised_for == pytest.approx(30)
        assert limits.wait("cancel") == pytest.approx(30)
        assert await leave(limits, "query", START + 29) is None
        assert now() == 0
        times = await leave_together(limits, "submit", "submit", "submit", "cancel", "cancel", "query")
        assert times == pytest.approx([30, 30.5, 31, 30, 30, 30], abs=EPS)
        assert limits.penalised_for == 0

    run_virtual(main)


def test_after_a_penalty_nothing_is_saved_up() -> None:
    """No burst follows a Retry-After: one at a time."""

    async def main() -> None:
        limits = limiter(submit=(2.0, 5))
        limits.penalise(10)
        await asyncio.sleep(10)
        assert await leave_together(limits, *["submit"] * 3) == pytest.approx([10, 10.5, 11], abs=EPS)

    run_virtual(main)


def test_a_penalty_reaches_those_who_wait_already() -> None:
    """They wait on, or give up when that takes too long for them."""

    async def main() -> None:
        limits = limiter(submit=(1.0, 1))
        await limits.acquire("submit")
        patient = asyncio.ensure_future(leave(limits, "submit"))
        hurried = asyncio.ensure_future(leave(limits, "submit", START + 4))
        await asyncio.sleep(0.5)
        limits.penalise(20)
        assert await hurried is None
        assert now() <= 4 + EPS
        assert await patient == pytest.approx(20.5, abs=EPS)

    run_virtual(main)


def test_the_head_of_the_line_gives_up_when_a_penalty_outlasts_its_deadline() -> None:
    """It learns of it when its turn comes, and takes nothing."""

    async def main() -> None:
        limits = limiter(submit=(1.0, 1))
        await limits.acquire("submit")
        head = asyncio.ensure_future(leave(limits, "submit", START + 4))
        await asyncio.sleep(0.5)
        limits.penalise(20)
        assert await head is None
        assert now() == pytest.approx(1, abs=EPS)
        assert await leave(limits, "submit") == pytest.approx(20.5, abs=EPS)

    run_virtual(main)


def test_a_second_penalty_reaches_those_who_wait_for_the_end_of_the_first() -> None:
    """Also in a lane without a limit of its own."""

    async def main() -> None:
        limits = limiter()
        limits.penalise(5)
        hurried = asyncio.ensure_future(leave(limits, "query", START + 8))
        patient = asyncio.ensure_future(leave(limits, "query"))
        await asyncio.sleep(2)
        limits.penalise(20)
        assert await hurried is None
        assert now() == pytest.approx(5, abs=EPS)
        assert await patient == pytest.approx(22, abs=EPS)

    run_virtual(main)


def test_a_penalty_that_strikes_in_the_shared_line_sends_nobody_through() -> None:
    """A caller whose own lane is ready waits for the shared limit; the penalty stops it there."""

    async def main() -> None:
        limits = limiter(submit=(5.0, 5), shared=(1.0, 1), cancel_reserve=0.0)
        await limits.acquire("submit")
        waiting = asyncio.ensure_future(leave(limits, "submit"))
        await asyncio.sleep(0.5)
        limits.penalise(3)
        assert await waiting == pytest.approx(3.5, abs=EPS)

    run_virtual(main)


def test_a_shorter_penalty_never_shortens_a_longer_one() -> None:
    """The latest end holds."""

    async def main() -> None:
        limits = limiter()
        limits.penalise(30)
        limits.penalise(5)
        assert await leave(limits, "submit") == pytest.approx(30, abs=EPS)

    run_virtual(main)


@pytest.mark.parametrize(("seconds", "held"), [(0, 0), (-1, 0), (math.nan, 0), (math.inf, PENALTY_SECONDS_MAX)])
def test_senseless_penalties_are_ignored_and_endless_ones_bounded(seconds: float, held: float) -> None:
    """Every wait has a limit."""

    async def main() -> None:
        limits = limiter()
        limits.penalise(seconds)
        assert limits.penalised_for == pytest.approx(held)

    run_virtual(main)


def test_where_nothing_is_limited_nobody_waits_or_asks_the_clock() -> None:
    """It must cost next to nothing."""

    def no_clock() -> float:
        raise AssertionError("the clock was read")

    async def main() -> None:
        limits = RateLimiter(no_clock, {"submit": (None, 1)})
        for _ in range(1_000):
            assert await limits.acquire("submit")

    run_virtual(main)


def test_an_unknown_lane_is_a_defect() -> None:
    """A lane without a line would be a lane without a limit."""

    async def main() -> None:
        with pytest.raises(KeyError):
            await limiter().acquire("sumbit")

    run_virtual(main)


# ---- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rate_limit_share", {"share": 0}),
        ("rate_limit_share", {"share": 1.1}),
        ("cancel_reserve", {"cancel_reserve": 1}),
        ("requests_per_second", {"submit": (0.0, 1)}),
        ("requests_per_second", {"submit": (math.inf, 1)}),
        ("burst", {"shared": (1.0, 0)}),
    ],
)
def test_limits_out_of_range_are_refused_by_name(field: str, values: dict[str, Any]) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError) as caught:
        limiter(**values)
    assert caught.value.field == f"gateway.{field}"


def test_what_is_to_be_had_at_once_is_taken_without_waiting() -> None:
    """And nobody is overtaken by that: neither those who wait, nor the exchange's Retry-After."""

    async def main() -> None:
        assert all(limiter().take("submit") for _ in range(100))
        limits = limiter(submit=(1.0, 2))
        assert [limits.take("submit") for _ in range(3)] == [True, True, False]
        waiting = asyncio.ensure_future(leave(limits, "submit"))
        await asyncio.sleep(0)
        assert not limits.take("submit")
        assert await waiting == pytest.approx(1.0)
        limits.penalise(10)
        assert not limits.take("cancel")
        await asyncio.sleep(10)
        assert limits.take("cancel")

    run_virtual(main)
