"""A clean end on SIGTERM and SIGINT, for programs that own an executor."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

from .interface import OrderExecutionInterface


@contextlib.contextmanager
def close_on_signals(
    executor: OrderExecutionInterface, *numbers: signal.Signals, cancel: bool = True
) -> Iterator[asyncio.Event]:
    """Close the executor when a signal comes, SIGTERM or SIGINT unless others are named.

    Yields an event that is set then. With ``cancel``, the surrounding task is cancelled once the executor is
    closed: what was in flight has been given its time, and the journal is clean. A second signal changes nothing.
    Needs the main thread.
    """
    loop = asyncio.get_running_loop()
    owner = asyncio.current_task()
    stopped = asyncio.Event()
    closing: list[asyncio.Task[None]] = []

    async def close() -> None:
        try:
            await executor.close()
        finally:
            if cancel and owner is not None:
                owner.cancel()

    def begin() -> None:
        if not stopped.is_set():
            stopped.set()
            closing.append(loop.create_task(close(), name="close on signal"))

    chosen = numbers or (signal.SIGTERM, signal.SIGINT)
    for number in chosen:
        loop.add_signal_handler(number, begin)
    try:
        yield stopped
    finally:
        for number in chosen:
            loop.remove_signal_handler(number)
