"""An event loop in a thread of its own, called from any other thread; every wait has an end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_logger = logging.getLogger(__name__)

T = TypeVar("T")

START_SECONDS = 10.0
END_SECONDS = 5.0
"""How long tasks that were cancelled may take to end."""
RELEASE_SECONDS = 60.0
"""How long ``at_end`` may take, unless it is said otherwise."""
ANSWER_POLL_SECONDS = 0.5
"""How soon a caller notices that the thread has died."""


class EngineDied(RuntimeError):
    """The engine's thread has ended although nobody stopped it; what was asked of it is not known.

    What it held (journal, exchange) is released by then, unless its disk hangs: a new engine can start.
    """


class CalledFromWithin(RuntimeError):
    """The engine was called from its own thread, which would wait for itself; nothing was done."""


class LoopThread:
    """One event loop, one thread. Calls may come from many threads, and from beside another running loop.

    ``at_end`` is run in the loop when it has ended, on whatever way: it releases what must not outlive the loop,
    within ``seconds``. Only then every task that is left is cancelled. What it raises is in ``end_error``.
    """

    def __init__(
        self,
        name: str,
        at_end: Callable[[], Coroutine[Any, Any, None]] | None = None,
        seconds: float = RELEASE_SECONDS,
    ) -> None:
        self._name = name
        self._at_end = at_end
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._stopping = False
        self.end_error: Exception | None = None
        """What went wrong with the release at the end; TimeoutError where it did not end."""

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return self._thread is not None and self._thread.is_alive() and self._loop is not None

    @property
    def ended(self) -> bool:
        """Whether no thread of an earlier start is left: one may outlive ``stop()``, and holds what it has open."""
        return self._thread is None or not self._thread.is_alive()

    def start(self) -> None:
        """Start the thread. Raises EngineDied when it does not come up, and while an earlier one has not ended."""
        if not self.ended:
            raise EngineDied(f"the thread {self._name} of before has not ended, and holds what it has open")
        ready = threading.Event()
        self._error = self.end_error = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
        self._thread.start()
        if not ready.wait(START_SECONDS) or not self.alive:
            raise EngineDied(f"the thread {self._name} did not start") from self._error

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the loop and wait for it.

        Raises what it raises; TimeoutError after ``timeout`` seconds, in which case it is cancelled; EngineDied,
        CalledFromWithin.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise CalledFromWithin("the engine was called from within its own thread; that would wait for itself")
        loop = self._loop
        if loop is None or not self.alive:
            work.close()
            raise self.death()
        try:
            future = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # the loop was closed just now
            work.close()
            raise self.death() from self._error
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            concurrent.futures.wait([future], max(0.0, min(left, ANSWER_POLL_SECONDS)))
            if future.done():
                return self._answer(future)
            if not self.alive:
                error = self.death()
                if future.done():  # it was answered while the loop ended
                    return self._answer(future)
                raise error from self._error
            if left <= 0:
                if not future.cancel():  # it was answered just now
                    return self._answer(future)
                raise TimeoutError(f"no answer within {timeout:g} s") from None

    def _answer(self, future: concurrent.futures.Future[T]) -> T:
        if future.cancelled():
            if self.alive:
                raise EngineDied("it was cancelled within the engine; what became of it is not known")
            raise self.death() from self._error
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise self.death() from error  # it ended the loop, and must not end the caller
        return future.result()

    def stop(self, timeout: float) -> None:
        """End the loop and the thread; harmless when repeated. Raises TimeoutError when it does not end."""
        self._stopping = True
        loop, thread = self._loop, self._thread
        if loop is not None:
            with suppress(RuntimeError):  # it has ended by itself meanwhile
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError(f"the thread {self._name} did not end within {timeout:g} s")
        self._thread = None

    def death(self) -> EngineDied:
        """Make the error that says why no call can be made, once what the dead thread held is released."""
        thread = self._thread
        if thread is None:
            return EngineDied("the engine is not running; call start() first")
        if thread is not threading.current_thread():
            thread.join(self._seconds + END_SECONDS)
        if self._stopping:
            return EngineDied("the engine was stopped; after the next start it resolves what was in flight")
        why = f": {type(self._error).__name__}" if self._error is not None else ""
        held = f" (what it held could not be released: {self.end_error})" if self.end_error is not None else ""
        return EngineDied(
            f"the engine's thread has died{why}{held}; start a new engine, it resolves what was in flight"
        )

    # ---- in the thread ------------------------------------------------------------------------------------

    def _run(self, ready: threading.Event) -> None:
        try:
            loop = asyncio.new_event_loop()
        except OSError as error:  # too many open files, say
            self._error = error
            ready.set()
            return
        asyncio.set_event_loop(loop)
        self._loop = loop
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - kept for whoever asks why the thread is gone
            self._error = error
        self._loop = None
        ready.set()
        if not self._stopping:
            why = "its loop was stopped" if self._error is None else type(self._error).__name__
            _logger.critical("the thread %s has died: %s", self._name, why)
        self._end(loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Release, then cancel what is left, as ``asyncio.run`` does: orders in flight leave their records."""
        try:
            if self._at_end is not None:
                self.end_error = self._finish(loop, self._at_end(), self._seconds)
            self._finish(loop, _end_tasks(), END_SECONDS * 2)
            self._finish(loop, loop.shutdown_asyncgens(), END_SECONDS)
        finally:
            loop.close()

    def _finish(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], seconds: float
    ) -> Exception | None:
        """Run work in a loop that has ended, whatever interrupts it once more; give what went wrong."""
        task = loop.create_task(work)
        task.add_done_callback(lambda _: loop.stop())
        end = time.monotonic() + seconds
        while not task.done() and (left := end - time.monotonic()) > 0:
            limit = loop.call_later(left, loop.stop)
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001 - what killed the loop does so once more
                self._error = self._error or error
            finally:
                limit.cancel()
        if not task.done():
            task.cancel()
            problem: Exception = TimeoutError(f"it did not end within {seconds:g} s")
        elif task.cancelled():
            problem = RuntimeError("it was cancelled")
        else:
            failure = task.exception()
            if failure is None:
                return None
            problem = failure if isinstance(failure, Exception) else RuntimeError(type(failure).__name__)
        _logger.error("the end of the thread %s: %s", self._name, problem)
        return problem


async def _end_tasks() -> None:
    """Cancel every other task and wait a bounded while for them to end."""
    await asyncio.sleep(0)  # calls that were handed over begin, so that they can end like the others
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if not left:
        return
    ended, _ = await asyncio.wait(left, timeout=END_SECONDS)
    for task in ended:
        if not task.cancelled() and task.exception() is not None:
            _logger.warning("%s ended with the loop: %r", task.get_name(), task.exception())
