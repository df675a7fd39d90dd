"""The clocks: our own, and another machine's carried on by our monotonic one."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

import pytest

from services.mcp.order_execution.clock import RemoteClock, SystemClock
from tests.virtual_time import VirtualClock, run_virtual

AHEAD = timedelta(seconds=40)


async def test_the_machines_clocks_are_utc_and_the_loops_own() -> None:
    """Wall time says its zone; durations are measured by what asyncio waits by."""
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    before, now, after = asyncio.get_running_loop().time(), clock.monotonic(), asyncio.get_running_loop().time()
    assert before <= now <= after


def test_as_long_as_nothing_was_told_it_is_ours() -> None:
    """And it is known that it is not known."""

    async def main() -> None:
        ours = VirtualClock()
        theirs = RemoteClock(ours, resolution_seconds=1.5)
        assert theirs.error is None
        assert theirs.now() == ours.now()
        ours.jump(1_000)
        assert theirs.now() == ours.now()
        assert theirs.error is None

    run_virtual(main)


def test_what_was_told_goes_on_by_itself() -> None:
    """However long ago it was told."""

    async def main() -> None:
        ours = VirtualClock()
        theirs = RemoteClock(ours, resolution_seconds=1.5)
        theirs.learn(ours.now() + AHEAD)
        await asyncio.sleep(7_200)
        assert theirs.now() == ours.now() + AHEAD
        assert theirs.error == -40.0

    run_virtual(main)


@pytest.mark.parametrize("step", [25.0, -25.0, 86_400.0])
def test_a_step_of_our_clock_shows_as_its_error_and_nowhere_else(step: float) -> None:
    """Theirs goes on as before."""

    async def main() -> None:
        ours, true = VirtualClock(), VirtualClock()
        theirs = RemoteClock(ours, resolution_seconds=1.5)
        theirs.learn(true.now())
        await asyncio.sleep(600)
        ours.jump(step)
        await asyncio.sleep(600)
        assert theirs.now() == true.now()
        assert theirs.error == step

    run_virtual(main)


def test_a_difference_below_the_resolution_is_none() -> None:
    """A date that counts whole seconds is always a little behind."""

    async def main() -> None:
        ours = VirtualClock()
        theirs = RemoteClock(ours, resolution_seconds=1.5)
        for difference, error in ((1.4, 0.0), (-1.4, 0.0), (1.6, -1.6), (-1.6, 1.6)):
            theirs.learn(ours.now() + timedelta(seconds=difference))
            assert theirs.error == pytest.approx(error)

    run_virtual(main)


def test_what_was_told_last_counts() -> None:
    """Their clock may be set as well."""

    async def main() -> None:
        ours = VirtualClock()
        theirs = RemoteClock(ours, resolution_seconds=1.5)
        theirs.learn(ours.now() + AHEAD)
        await asyncio.sleep(10)
        theirs.learn(ours.now() - AHEAD)
        assert theirs.now() == ours.now() - AHEAD
        assert theirs.error == 40.0

    run_virtual(main)
