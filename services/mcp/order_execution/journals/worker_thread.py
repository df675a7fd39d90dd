"""One thread that runs blocking calls in order, for objects that must stay in one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

from ..errors import JournalError

T = TypeVar("T")

_MAX_CALLS: Final = 10_000


class WorkerThread:
    """Runs jobs first come, first served. The thread is a daemon: a program that crashes is not held up."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._calls = 0
        self._stopping = False

    @property
    def running(self) -> bool:
        """Whether the thread takes jobs; false once it was told to stop, and in a process that was forked off."""
        return self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: Callable[[], object]) -> None:
        """Run ``job`` in the thread some time; it must not raise."""
        self._jobs.put(job)

    async def call(self, job: Callable[[], T]) -> T:
        """Run ``job`` in the thread and return what it returns, or raise what it raises.

        A caller that is cancelled leaves the job to run. Raises JournalError when the thread has ended or
        when too many calls wait.
        """
        if not self.running:
            raise JournalError(f"the thread {self._thread.name} does not run")
        if self._calls >= _MAX_CALLS:
            raise JournalError(f"{_MAX_CALLS} calls wait for the thread {self._thread.name}")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put(partial(_carry_out, job, loop, answer))
        self._calls += 1
        try:
            return await answer
        finally:
            self._calls -= 1

    def stop(self, timeout: float) -> bool:
        """Let the thread end after the jobs that wait; False when it still runs after ``timeout`` seconds."""
        self._stopping = True
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _carry_out(job: Callable[[], T], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T]) -> None:
    try:
        result = job()
    except BaseException as error:  # noqa: BLE001 - nothing is swallowed: the caller gets it
        reply = partial(_raise, answer, error)
    else:
        reply = partial(_return, answer, result)
    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
        loop.call_soon_threadsafe(reply)


def _return(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _raise(answer: asyncio.Future[T], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
