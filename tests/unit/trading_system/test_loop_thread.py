"""A loop in a thread of its own: every wait ends, and a thread that died says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from trading_system.execution.loop_thread import EngineDied, LoopThread


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread("test")
    made.start()
    yield made
    made.stop(5)


async def answer(value: int) -> int:
    """A quick one."""
    await asyncio.sleep(0)
    return value


def test_many_threads_may_call_at_once(thread: LoopThread) -> None:
    """Each gets its own answer."""
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: thread.call(answer(n), 5), range(100))) == list(range(100))


async def test_it_may_be_called_beside_a_running_loop(thread: LoopThread) -> None:
    """From a thread of that loop's, say."""
    assert await asyncio.to_thread(thread.call, answer(3), 5) == 3


def test_errors_come_through_and_waits_end(thread: LoopThread) -> None:
    """The coroutine's own error, its own timeout, and ours."""

    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(KeyError):
        thread.call(fail(KeyError("x")), 5)
    with pytest.raises(TimeoutError, match="its own"):
        thread.call(fail(TimeoutError("its own")), 5)
    cancelled = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        thread.call(slow(), 0.05)
    assert cancelled.wait(5)


def test_a_thread_that_died_says_so(thread: LoopThread) -> None:
    """Also to who was waiting for an answer."""

    async def die() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await asyncio.Event().wait()

    with pytest.raises(EngineDied, match="has died"):
        thread.call(die(), 30)
    with pytest.raises(EngineDied, match="has died"):
        thread.call(answer(1), 5)


def test_before_the_start_and_after_the_stop_it_is_not_running() -> None:
    """Nothing waits for ever."""
    thread = LoopThread("test")
    with pytest.raises(EngineDied, match="call start"):
        thread.call(answer(1), 5)
    thread.start()
    thread.stop(5)
    thread.stop(5)
    with pytest.raises(EngineDied, match="call start"):
        thread.call(answer(1), 5)


def test_it_does_not_wait_for_itself(thread: LoopThread) -> None:
    """A call from within its own thread would never end."""

    async def inner() -> int:
        return thread.call(answer(1), 5)

    with pytest.raises(RuntimeError, match="wait for itself"):
        thread.call(inner(), 5)
