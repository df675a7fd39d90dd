"""A program that is told to stop closes its executor once, and only then ends."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import cast

import pytest

from services.mcp.order_execution import OrderExecutionInterface
from services.mcp.order_execution.shutdown import close_on_signals


class Closing:
    """Something that takes its time to close."""

    def __init__(self) -> None:
        self.began = 0
        self.may_end = asyncio.Event()
        self.closed = False
        self.ended = asyncio.Event()

    async def close(self) -> None:
        self.began += 1
        await self.may_end.wait()
        self.closed = True
        self.ended.set()


def executor() -> tuple[Closing, OrderExecutionInterface]:
    closing = Closing()
    return closing, cast(OrderExecutionInterface, closing)


async def test_the_program_ends_once_the_executor_is_closed() -> None:
    """The surrounding task is cancelled after the close, not before."""
    closing, given = executor()

    async def program() -> None:
        with close_on_signals(given) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
            await stopped.wait()
            assert not closing.closed
            closing.may_end.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(program())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closing.closed


async def test_a_second_signal_changes_nothing() -> None:
    """Closing is under way; it is neither begun again nor cut short."""
    closing, given = executor()
    with close_on_signals(given, signal.SIGUSR1, cancel=False) as stopped:
        os.kill(os.getpid(), signal.SIGUSR1)
        await stopped.wait()
        os.kill(os.getpid(), signal.SIGUSR1)
        closing.may_end.set()
        await closing.ended.wait()
    assert closing.began == 1


async def test_afterwards_signals_are_as_they_were() -> None:
    """Nothing is left behind on the loop."""
    _, given = executor()
    loop = asyncio.get_running_loop()
    with close_on_signals(given, signal.SIGUSR2):
        pass
    assert not loop.remove_signal_handler(signal.SIGUSR2)
