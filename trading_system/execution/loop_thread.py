"""An event loop in a thread of its own, called from any other thread; every wait has an end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

START_SECONDS = 10.0
END_SECONDS = 5.0
ANSWER_POLL_SECONDS = 0.5
"""How soon a caller notices that the thread has died."""


class EngineDied(RuntimeError):
    """The engine's thread has ended although nobody stopped it; what was asked of it is not known."""


class LoopThread:
    """One event loop, one thread. Calls may come from many threads, and from beside another running loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return self._thread is not None and self._thread.is_alive() and self._loop is not None

    def start(self) -> None:
        """Start the thread. Raises EngineDied when it does not come up."""
        ready = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
        self._thread.start()
        if not ready.wait(START_SECONDS) or not self.alive:
            raise EngineDied(f"the thread {self._name} did not start") from self._error

    def _run(self, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._loop = loop
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - kept for whoever asks why the thread is gone
            self._error = error
        finally:
            ready.set()
            self._loop = None
            _end_tasks(loop)
            loop.close()

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the loop and wait for it.

        Raises what it raises; TimeoutError after ``timeout`` seconds, in which case it is cancelled; EngineDied.
        """
        loop = self._loop
        if loop is None or not self.alive:
            work.close()
            raise EngineDied(self._why())
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the engine was called from within its own thread; that would wait for itself")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        left = timeout
        while True:
            step = min(left, ANSWER_POLL_SECONDS)
            try:
                return future.result(step)
            except concurrent.futures.CancelledError:
                raise EngineDied(self._why()) from self._error
            except concurrent.futures.TimeoutError:
                left -= step
                if future.done():
                    raise  # the coroutine's own TimeoutError
                if not self.alive:
                    raise EngineDied(self._why()) from self._error
                if left <= 0:
                    future.cancel()
                    raise TimeoutError(f"no answer within {timeout:g} s") from None

    def stop(self, timeout: float) -> None:
        """End the loop and the thread; harmless when repeated. Raises TimeoutError when it does not end."""
        loop, thread = self._loop, self._thread
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError(f"the thread {self._name} did not end within {timeout:g} s")
        self._thread = None

    def _why(self) -> str:
        if self._thread is None:
            return "the engine is not running; call start() first"
        why = f": {type(self._error).__name__}" if self._error is not None else ""
        return f"the engine's thread has died{why}; start a new engine, it resolves what was in flight"


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, as ``asyncio.run`` does: each order in flight leaves its honest record."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        with suppress(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), END_SECONDS))
