"""Time limits: they end what lasts too long, as asyncio.timeout does, and leave nothing behind."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from services.mcp.order_execution.time_limits import LimitLine, TimeLimit
from tests.virtual_time import START, VirtualLoop, run_virtual


def virtual(test: Callable[[LimitLine, VirtualLoop], Awaitable[None]]) -> Callable[[], None]:
    """Run the test in virtual time, with a line of its own, which must be empty at the end."""

    def run() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            line = LimitLine()
            await test(line, loop)
            assert len(line) == 0

        run_virtual(main)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@virtual
async def test_a_body_in_time_is_left_alone(line: LimitLine, loop: VirtualLoop) -> None:
    """And no limit is left in the line."""
    with TimeLimit(line, 5) as limit:
        await asyncio.sleep(4)
        assert len(line) == 1
    assert not limit.expired
    await asyncio.sleep(10)


@virtual
async def test_a_body_that_lasts_too_long_is_ended(line: LimitLine, loop: VirtualLoop) -> None:
    """With a TimeoutError, at its time, and the task is as it was."""
    with pytest.raises(TimeoutError), TimeLimit(line, 5) as limit:
        await asyncio.sleep(40)
    assert limit.expired
    assert loop.time() == START + 5
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@virtual
async def test_a_time_that_is_over_ends_the_body_where_it_waits(line: LimitLine, loop: VirtualLoop) -> None:
    """What comes before the first wait is still done."""
    done: list[str] = []

    async def body() -> None:
        with TimeLimit(line, -1):
            done.append("first")
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        await body()
    assert done == ["first"]
    with TimeLimit(line, -1) as limit:
        pass
    await asyncio.sleep(0)
    assert not limit.expired


@virtual
async def test_limits_out_of_order_hold_all_the_same(line: LimitLine, loop: VirtualLoop) -> None:
    """One that is earlier than the last in the line takes a timer of its own."""

    async def last(until: float) -> float:
        with pytest.raises(TimeoutError), TimeLimit(line, until):
            await asyncio.sleep(1_000)
        return loop.time() - START

    times = [7.0, 3.0, 9.0, 1.0, 9.0, 8.0, 0.5]
    assert await asyncio.gather(*(last(until) for until in times)) == times


@virtual
async def test_the_timer_follows_the_first_of_the_line(line: LimitLine, loop: VirtualLoop) -> None:
    """One timer for all, however many come and go; it is set anew only when it rings, or for an earlier time."""
    for _ in range(1_000):
        with TimeLimit(line, 30):
            await asyncio.sleep(0.001)
    assert len(loop._scheduled) <= 1
    with pytest.raises(TimeoutError), TimeLimit(line, 2):  # before the timer, in an empty line
        await asyncio.sleep(60)
    before = loop.time()
    with pytest.raises(TimeoutError), TimeLimit(line, 100):
        await asyncio.sleep(200)
    assert loop.time() == before + 100


@virtual
async def test_one_that_stays_long_keeps_nobody_else_in_memory(line: LimitLine, loop: VirtualLoop) -> None:
    """Those that came after it and have gone are gone."""

    async def stay() -> None:
        with TimeLimit(line, 10_000):
            await asyncio.sleep(9_000)

    staying = asyncio.ensure_future(stay())
    await asyncio.sleep(1)
    for _ in range(1_000):
        with TimeLimit(line, 20_000):
            await asyncio.sleep(0.001)
        assert len(line) == 1
    await staying


@virtual
async def test_many_end_at_once(line: LimitLine, loop: VirtualLoop) -> None:
    """Each of them, and those that are due later are still ended then."""

    async def last(seconds: float) -> float:
        try:
            with TimeLimit(line, seconds):
                await asyncio.sleep(1_000)
        except TimeoutError:
            return loop.time() - START
        return 0.0

    assert await asyncio.gather(*(last(5) for _ in range(500)), *(last(6) for _ in range(500))) == (
        [5.0] * 500 + [6.0] * 500
    )


@virtual
async def test_a_cancellation_from_elsewhere_passes_through(line: LimitLine, loop: VirtualLoop) -> None:
    """Before the time, at the same moment, and after the limit has struck."""

    async def body() -> None:
        with TimeLimit(line, 5):
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)  # the second cancellation may still come

    for when in (4, 5):
        task = asyncio.ensure_future(body())
        loop.call_at(START + when, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task


@virtual
async def test_without_a_time_only_a_word_from_outside_ends_it(line: LimitLine, loop: VirtualLoop) -> None:
    """Said twice it counts once, and before and after the body it is not heard."""
    limit = TimeLimit(line, math.inf)
    limit.expire()
    assert not limit.expired
    loop.call_later(1_000, limit.expire)
    loop.call_later(1_000, limit.expire)
    with pytest.raises(TimeoutError), limit:
        await asyncio.sleep(2_000)
    assert loop.time() == START + 1_000
    limit = TimeLimit(line, math.inf)
    with limit:
        await asyncio.sleep(1)
    limit.expire()
    assert not limit.expired
    await asyncio.sleep(1)


@virtual
async def test_a_word_from_outside_does_not_strike_twice(line: LimitLine, loop: VirtualLoop) -> None:
    """A limit that was ended before its time leaves no timer that would cancel the task once more."""

    async def body(seconds: float) -> None:
        with TimeLimit(line, seconds) as limit:
            limit.expire()
            await asyncio.sleep(1)

    for seconds in (5, 3):  # in the line, and beside it
        with TimeLimit(line, 6), pytest.raises(TimeoutError):
            await body(seconds)
        assert loop.time() == START
    await asyncio.sleep(10)


@virtual
async def test_it_is_used_once(line: LimitLine, loop: VirtualLoop) -> None:
    """Neither again nor within itself."""
    limit = TimeLimit(line, 5)
    with limit, pytest.raises(RuntimeError, match="once"):
        limit.__enter__()
    with pytest.raises(RuntimeError, match="once"):
        limit.__enter__()


@virtual
async def test_it_needs_a_task(line: LimitLine, loop: VirtualLoop) -> None:
    """There is nothing that it could cancel otherwise."""
    errors: list[str] = []

    def outside() -> None:
        try:
            with TimeLimit(line, 5):
                pass
        except RuntimeError as error:
            errors.append(str(error))

    loop.call_soon(outside)
    await asyncio.sleep(1)
    assert errors == ["a time limit can be used only within a task"]


@virtual
async def test_a_body_that_cannot_be_cancelled_does_not_keep_the_others(line: LimitLine, loop: VirtualLoop) -> None:
    """A defect in what one body waits for is told to the loop; the limits of the others hold."""

    class Stubborn(asyncio.Future[None]):
        def cancel(self, msg: object = None) -> bool:
            self.set_result(None)
            raise RuntimeError("defect")

    async def last(waited_for: Awaitable[None]) -> bool:
        try:
            with TimeLimit(line, 5):
                await waited_for
                await asyncio.sleep(0)
        except (TimeoutError, asyncio.CancelledError):
            return True
        return False

    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(str(context.get("exception"))))
    ended = await asyncio.gather(last(Stubborn()), last(asyncio.sleep(100)), last(asyncio.sleep(100)))
    assert told == ["defect"]
    assert all(ended[1:])
    assert loop.time() == START + 5


def test_a_line_may_move_to_another_loop() -> None:
    """When nobody is in it: a loop that was closed with the line's timer set takes nothing with it."""
    line = LimitLine()

    async def use() -> None:
        with TimeLimit(line, 5):
            await asyncio.sleep(1)
        with pytest.raises(TimeoutError), TimeLimit(line, 1):
            await asyncio.sleep(5)
        with TimeLimit(line, 50):
            pass

    run_virtual(use)
    run_virtual(use)


def test_a_loop_that_was_closed_under_a_body_harms_no_other() -> None:
    """The limits in the next loop then have timers of their own."""
    line = LimitLine()

    async def forever() -> None:
        with TimeLimit(line, 1_000):
            await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    task = loop.create_task(forever())
    loop.call_later(1, loop.stop)
    loop.run_forever()
    loop._scheduled.clear()
    loop.close()

    async def use() -> None:
        with pytest.raises(TimeoutError), TimeLimit(line, 5):
            await asyncio.sleep(50)

    run_virtual(use)
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
