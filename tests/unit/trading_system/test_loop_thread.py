"""A loop in a thread of its own: every wait ends, and a thread that died says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.unit.trading_system.engine_world import until
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


def kill(thread: LoopThread) -> None:
    """End the loop behind the thread's back."""
    loop = thread._loop
    assert loop is not None
    loop.call_soon_threadsafe(loop.stop)


class Holder:
    """Something that must be let go of before the loop is gone, and how that ends."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.released = 0

    async def release(self) -> None:
        """Let go."""
        await asyncio.sleep(0)
        self.released += 1
        if self.error is not None:
            raise self.error


def test_what_the_thread_held_is_released_before_it_is_called_dead() -> None:
    """So another one can begin at once."""
    holder = Holder()
    thread = LoopThread("test", holder.release)
    thread.start()
    endless = ThreadPoolExecutor(1).submit(thread.call, asyncio.Event().wait(), 30)
    thread.call(answer(1), 5)
    kill(thread)
    with pytest.raises(EngineDied, match="has died; start a new engine"):
        endless.result(5)
    assert holder.released == 1
    with pytest.raises(EngineDied):
        thread.call(answer(1), 5)
    thread.stop(5)
    assert holder.released == 1


def test_a_stop_releases_too_and_is_no_death() -> None:
    """And the thread may be started again."""
    holder = Holder()
    thread = LoopThread("test", holder.release)
    for number in (1, 2):
        thread.start()
        assert thread.call(answer(number), 5) == number
        thread.stop(5)
        assert (holder.released, thread.end_error) == (number, None)


def test_what_kills_the_loop_is_named() -> None:
    """A callback that ends the process, say, ends only the thread."""
    holder = Holder()
    thread = LoopThread("test", holder.release)
    thread.start()

    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(EngineDied, match="has died: SystemExit"):
        thread.call(leave(), 5)
    assert holder.released == 1
    thread.stop(5)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), SystemExit(1)])
def test_a_release_that_fails_is_told(error: BaseException) -> None:
    """The thread ends all the same."""
    holder = Holder(error)
    thread = LoopThread("test", holder.release)
    thread.start()
    kill(thread)
    until_dead(thread)
    assert thread.end_error is not None
    with pytest.raises(EngineDied, match="could not be released"):
        thread.call(answer(1), 5)
    thread.stop(5)


def test_a_release_that_hangs_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it does not let itself be cancelled."""
    monkeypatch.setattr("trading_system.execution.loop_thread.END_SECONDS", 0.05)

    async def stubborn() -> None:
        for _ in range(5):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)

    thread = LoopThread("test", stubborn, 0.05)
    thread.start()
    kill(thread)
    until_dead(thread)
    assert isinstance(thread.end_error, TimeoutError)
    thread.stop(5)


def test_a_stop_in_the_middle_of_the_end_does_not_cut_it_short() -> None:
    """Whoever stops the loop twice loses nothing."""
    holder = Holder()

    async def release() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.02)
        await holder.release()

    thread = LoopThread("test", release)
    thread.start()
    kill(thread)
    until_dead(thread)
    assert (holder.released, thread.end_error) == (1, None)
    thread.stop(5)


def test_an_answer_given_while_the_loop_ends_is_heard(thread: LoopThread) -> None:
    """A task that was cancelled may still have something to say: what became of an order."""

    async def honest() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "unresolved"
        return "never"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thread.call, honest(), 30)
        thread.call(answer(1), 5)
        kill(thread)
        assert waiting.result(5) == "unresolved"


def test_what_is_cancelled_within_a_living_engine_is_not_its_death(thread: LoopThread) -> None:
    """It says that it was cancelled."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(EngineDied, match="cancelled within the engine"):
        thread.call(cancelled(), 5)
    assert thread.call(answer(1), 5) == 1


def test_who_calls_while_it_is_stopped_hears_that_it_was_stopped() -> None:
    """Not that it died."""
    gate = threading.Event()

    async def slow() -> None:
        await asyncio.to_thread(gate.wait, 10)

    thread = LoopThread("test", slow)
    thread.start()
    with ThreadPoolExecutor(2) as pool:
        stopping = pool.submit(thread.stop, 10)
        until(lambda: not thread.alive)
        late = pool.submit(thread.call, answer(1), 5)
        gate.set()
        stopping.result(10)
        with pytest.raises(EngineDied, match=r"was stopped|call start"):
            late.result(10)


def test_a_loop_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, say: at once, with the reason."""

    def full() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", full)
    thread = LoopThread("test")
    with pytest.raises(EngineDied, match="did not start") as told:
        thread.start()
    assert isinstance(told.value.__cause__, OSError)


def until_dead(thread: LoopThread) -> None:
    """Wait until the thread has ended."""
    assert thread._thread is not None
    thread._thread.join(10)
    assert not thread._thread.is_alive()


def test_a_thread_that_has_not_ended_is_not_forgotten() -> None:
    """What it holds open could never be released: a further start is refused until it has ended."""
    gate = threading.Event()

    async def slow() -> None:
        await asyncio.to_thread(gate.wait, 10)

    thread = LoopThread("test", slow)
    thread.start()
    with pytest.raises(TimeoutError):
        thread.stop(0.01)
    assert not thread.ended
    with pytest.raises(EngineDied, match="has not ended"):
        thread.start()
    gate.set()
    thread.stop(10)
    assert thread.ended
    thread.start()
    assert thread.call(answer(1), 5) == 1
    thread.stop(5)
