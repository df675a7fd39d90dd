"""A deterministic, virtual-time event loop: time jumps to the next timer, and a seed shuffles legal races.

Threads, sockets and executors are refused, so whatever runs here is reproducible: same seed, same trace.
``asyncio.sleep`` and ``asyncio.timeout`` follow the loop, and :class:`VirtualClock` reads it.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
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


class Process:
    """A simulated process: whatever was started in its name dies with it, without running a ``finally``."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.dead = False
        self.tasks: list[asyncio.Task[Any]] = []

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a task in this process; what it starts belongs to the process too."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, self)
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self.tasks.append(task)
        return task


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def in_no_process(call: Callable[..., Any], *args: Any) -> Any:
    """Make a call whose consequences outlive the process that makes it: a message on the wire."""
    context = contextvars.copy_context()
    context.run(_PROCESS.set, None)
    return context.run(call, *args)


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
    process: Process | None = None


class _Future(_Serial, asyncio.Future):  # type: ignore[type-arg]
    pass


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> _Task:
    task = _Task(coro, loop=loop, context=context)
    task.process = (context or contextvars.copy_context()).get(_PROCESS)
    return task


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop is its own selector: with nothing ready, it jumps to the next timer."""

    def __init__(self, seed: int = 0, *, shuffle: bool = False) -> None:
        super().__init__()
        self.virtual_now = START
        self.rng = random.Random(seed)
        self.shuffle = shuffle
        self.steps = 0
        """How many callbacks have run, where ``on_step`` is set."""
        self.on_step: Callable[[int], None] | None = None
        """Called before each single callback: the finest moments at which a process can die."""
        self._batch: deque[asyncio.Handle] = deque()
        self._later: list[asyncio.Handle] = []
        self._dead: list[Process] = []
        self.failure: BaseException | None = None
        self._serials = 0
        self._turns = 0
        self._selector = self
        self._clock_resolution = 1e-9
        self.set_task_factory(_make_task)
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
        self._turns += 1
        if self._turns > SPIN_LIMIT:
            raise Spinning(f"{SPIN_LIMIT} turns of the loop, and no time has passed")
        if (self.on_step is not None or self._batch or self._later) and self._leave_one():
            return ()
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        if timeout > 0:
            self._turns = 0
            self.virtual_now = max(self.virtual_now, self._scheduled[0]._when)
        if self.shuffle and len(self._ready) > 1:
            ready = list(self._ready)
            self.rng.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        return ()

    def _leave_one(self) -> bool:
        """Leave one callback to run of those that a normal loop would run in one turn; False without any."""
        while True:
            self._later.extend(self._ready)
            self._ready.clear()
            if not self._batch:
                if self.shuffle:
                    self.rng.shuffle(self._later)
                self._batch.extend(self._later)
                self._later.clear()
            if not self._batch:
                return False
            if not self._batch[0]._cancelled and self.on_step is not None:
                self.steps += 1
                self.on_step(self.steps)
            handle = self._batch.popleft()
            if not handle._cancelled:
                self._ready.append(handle)
                return True

    # ---- processes that die -------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return self._unless_dead(super().call_soon(callback, *args, context=context))

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self._unless_dead(super().call_at(when, callback, *args, context=context))

    def _unless_dead(self, handle: asyncio.Handle) -> asyncio.Handle:
        process = handle._context.get(_PROCESS)
        if process is not None and process.dead:
            handle.cancel()
        return handle

    def kill(self, process: Process) -> None:
        """As by SIGKILL: nothing of the process runs any more, no ``finally``, no ``except CancelledError``."""
        process.dead = True
        self._dead.append(process)
        for handle in (*self._ready, *self._scheduled, *self._batch, *self._later):
            if not handle._cancelled:
                self._unless_dead(handle)

    def living_tasks(self) -> set[asyncio.Task[Any]]:
        """Every task that has not ended and whose process lives."""
        return {task for task in asyncio.all_tasks(self) if not self._is_dead(task)}

    def _is_dead(self, task: asyncio.Task[Any]) -> bool:
        process: Process | None = getattr(task, "process", None)
        return process is not None and process.dead

    def bury(self) -> None:
        """Close the coroutines of the dead, so that nothing is left to the garbage collector's whim."""
        for task in asyncio.all_tasks(self):
            if self._is_dead(task):
                task._log_destroy_pending = False
                coroutine = task.get_coro()
                with suppress(BaseException):
                    coroutine.close()

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator of a dead process is not brought to its end."""
        self._asyncgens.discard(agen)

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
        loop.bury()
        asyncio.set_event_loop(None)
        loop._ready.clear()
        loop._scheduled.clear()
        loop.close()


def _end_all_tasks(loop: VirtualLoop) -> None:
    """Cancel what is left, as asyncio.run does; the dead stay as they lie."""
    left = loop.living_tasks()
    loop.on_step = None
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
