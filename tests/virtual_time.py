"""A deterministic, virtual-time event loop: time jumps to the next timer, and a seed shuffles legal races.

Threads, sockets and executors are refused, so whatever runs here is reproducible: same seed, same trace.
``asyncio.sleep`` and ``asyncio.timeout`` follow the loop, and :class:`VirtualClock` reads it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
START = 1_000_000.0


SPIN_LIMIT = 200_000
"""So many turns of the loop without a moment passing are taken for an endless loop around ``sleep(0)``."""


class Deadlock(RuntimeError):
    """Every task waits and no timer is set."""


class Spinning(RuntimeError):
    """Tasks keep one another busy, and time stands still."""


class _Serial:
    """Hash by serial number: sets of tasks would otherwise iterate by address and differ from run to run."""

    _loop: VirtualLoop
    _serial: int

    def __hash__(self) -> int:
        try:
            return self._serial
        except AttributeError:
            self._serial = self._loop.next_serial()
            return self._serial


class _Task(_Serial, asyncio.Task):  # type: ignore[type-arg]
    pass


class _Future(_Serial, asyncio.Future):  # type: ignore[type-arg]
    pass


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop is its own selector: with nothing ready, it jumps to the next timer."""

    def __init__(self, seed: int = 0, *, shuffle: bool = False) -> None:
        super().__init__()
        self.virtual_now = START
        self.rng = random.Random(seed)
        self.shuffle = shuffle
        self.failure: BaseException | None = None
        self._serials = 0
        self._turns = 0
        self._selector = self
        self._clock_resolution = 1e-9
        self.set_task_factory(lambda loop, coro, context=None: _Task(coro, loop=loop, context=context))
        self.set_exception_handler(self._fail)

    def next_serial(self) -> int:
        self._serials += 1
        return self._serials

    def time(self) -> float:
        return self.virtual_now

    def create_future(self) -> _Future:
        return _Future(loop=self)

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        self.failure = self.failure or error
        self.stop()

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self._turns += 1
        if self._turns > SPIN_LIMIT:
            raise Spinning(f"{SPIN_LIMIT} turns of the loop, and no time has passed")
        if timeout > 0:
            self._turns = 0
            self.virtual_now = max(self.virtual_now, self._scheduled[0]._when)
        if self.shuffle and len(self._ready) > 1:
            ready = list(self._ready)
            self.rng.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        return ()

    def _process_events(self, events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        raise RuntimeError("threads are not allowed under virtual time")

    def run_in_executor(self, *args: object) -> Any:
        raise RuntimeError("executors are not allowed under virtual time")


class VirtualClock:
    """The clock of the running virtual loop; ``jump`` moves wall time alone."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic() - START) + self.offset

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def jump(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int = 0, shuffle: bool = False) -> T:
    """Run ``main()`` to its end in virtual time, and fail on any error that a task leaves behind."""
    loop = VirtualLoop(seed, shuffle=shuffle)
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(main(), name="main")
        task.add_done_callback(lambda _: loop.stop())
        loop.run_forever()
        _end_all_tasks(loop)
        if loop.failure is not None:
            raise loop.failure
        return task.result()
    finally:
        asyncio.set_event_loop(None)
        loop._ready.clear()
        loop._scheduled.clear()
        loop.close()


def _end_all_tasks(loop: VirtualLoop) -> None:
    """Cancel what is left, as asyncio.run does."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
