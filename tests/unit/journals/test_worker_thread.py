"""The thread that owns a connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals import worker_thread
from services.mcp.order_execution.journals.worker_thread import WorkerThread


@pytest.fixture
def worker() -> Iterator[WorkerThread]:
    thread = WorkerThread("test-worker")
    thread.start()
    yield thread
    assert thread.stop(5)


async def test_calls_run_in_order_in_one_thread(worker: WorkerThread) -> None:
    """First come, first served, results and all, away from the loop's thread."""
    order: list[int] = []
    worker.submit(lambda: order.append(0))

    def note(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    threads = set(await asyncio.gather(*(worker.call(partial(note, number)) for number in range(1, 5))))
    assert order == [0, 1, 2, 3, 4]
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_an_error_reaches_the_caller(worker: WorkerThread) -> None:
    """What a job raises, the call raises, and the thread goes on."""

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await worker.call(fail)
    assert await worker.call(lambda: 7) == 7


async def test_a_cancelled_caller_leaves_the_job_to_run(worker: WorkerThread) -> None:
    """The job ends, its answer or error goes nowhere, and nobody is disturbed."""
    gate = threading.Event()
    done: list[str] = []

    def answer() -> None:
        gate.wait(10)
        done.append("answer")

    def fail() -> None:
        done.append("fail")
        raise ValueError("nobody hears this")

    calls = [asyncio.create_task(worker.call(job)) for job in (answer, fail)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    gate.set()
    assert await worker.call(lambda: "next") == "next"
    assert done == ["answer", "fail"]


async def test_a_thread_that_ended_answers_with_an_error() -> None:
    """A call on a thread that was not started or has ended does not hang."""
    thread = WorkerThread("ended")
    with pytest.raises(JournalError, match="does not run"):
        await thread.call(lambda: None)
    thread.start()
    assert thread.running
    assert thread.stop(5)
    assert not thread.running
    with pytest.raises(JournalError, match="does not run"):
        await thread.call(lambda: None)


def test_stopping_a_busy_thread_is_bounded(worker: WorkerThread) -> None:
    """``stop`` says that the job goes on, rather than waiting for ever."""
    gate = threading.Event()
    worker.submit(lambda: gate.wait(10))
    assert not worker.stop(0.01)
    gate.set()


async def test_calls_that_wait_are_bounded(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call too many is refused; after the others have gone there is room again."""
    monkeypatch.setattr(worker_thread, "_MAX_CALLS", 2)
    gate = threading.Event()
    calls = [asyncio.create_task(worker.call(lambda: gate.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(JournalError, match="2 calls wait"):
        await worker.call(lambda: None)
    gate.set()
    await asyncio.gather(*calls)
    assert await worker.call(lambda: 1) == 1


def test_a_loop_that_closed_meanwhile_disturbs_nobody(worker: WorkerThread) -> None:
    """An answer for a loop that is gone is dropped, and the thread goes on."""
    gate = threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(worker.call(lambda: gate.wait(10)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    gate.set()
    assert asyncio.run(worker.call(lambda: 3)) == 3
