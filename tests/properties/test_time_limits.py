"""Whatever nests, lasts, fails and is cancelled at whatever time: TimeLimit does what asyncio.timeout does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.mcp.order_execution.time_limits import LimitLine, TimeLimit
from tests.virtual_time import START, run_virtual

Limit = Callable[[float], AbstractAsyncContextManager[Any]]
Trace = list[tuple[float, str]]

SECONDS = st.integers(min_value=0, max_value=6)


@dataclass(frozen=True)
class Sleep:
    seconds: int


@dataclass(frozen=True)
class Fail:
    pass


@dataclass(frozen=True)
class Within:
    """Steps under a limit; what comes out of it is caught, or not."""

    seconds: int
    steps: tuple[Any, ...]
    caught: bool


@dataclass(frozen=True)
class Stubborn:
    """Steps whose cancellation is swallowed."""

    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Tidying:
    """Steps, after which something is awaited, come what may."""

    steps: tuple[Any, ...]
    seconds: int


LEAVES = st.one_of(st.builds(Sleep, SECONDS), st.builds(Sleep, SECONDS), st.builds(Fail))


def _with_children(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    steps = st.lists(children, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Within, st.integers(min_value=-1, max_value=6), steps, st.booleans()),
        st.builds(Within, SECONDS, steps, st.booleans()),
        st.builds(Stubborn, steps),
        st.builds(Tidying, steps, SECONDS),
    )


PROGRAM = st.lists(st.recursive(LEAVES, _with_children, max_leaves=8), min_size=1, max_size=4).map(tuple)


@dataclass(frozen=True)
class Call:
    """One task: when it begins, what it does, and when somebody cancels it."""

    begins: int
    steps: tuple[Any, ...]
    cancelled_at: tuple[int, ...]


CALLS = st.lists(
    st.builds(Call, SECONDS, PROGRAM, st.lists(st.integers(0, 12), max_size=2).map(tuple)), min_size=1, max_size=4
)


async def _do(step: Any, limit: Limit, trace: Trace) -> None:
    now = asyncio.get_running_loop().time
    if isinstance(step, Sleep):
        await asyncio.sleep(step.seconds)
        trace.append((now(), f"slept {step.seconds}"))
    elif isinstance(step, Within):
        try:
            async with limit(step.seconds):
                await _do_all(step.steps, limit, trace)
        except (TimeoutError, LookupError) as error:
            trace.append((now(), f"{type(error).__name__} because of {type(error.__cause__).__name__}"))
            if not step.caught:
                raise
    elif isinstance(step, Stubborn):
        try:
            await _do_all(step.steps, limit, trace)
        except asyncio.CancelledError:
            trace.append((now(), "swallowed"))
    elif isinstance(step, Tidying):
        try:
            await _do_all(step.steps, limit, trace)
        finally:
            await asyncio.sleep(step.seconds)
            trace.append((now(), "tidied"))
    else:
        raise LookupError("failed")  # noqa: TRY004 - a step that fails


async def _do_all(steps: tuple[Any, ...], limit: Limit, trace: Trace) -> None:
    for step in steps:
        await _do(step, limit, trace)


async def _call(call: Call, limit: Limit, trace: Trace) -> None:
    now = asyncio.get_running_loop().time
    task = asyncio.current_task()
    assert task is not None
    try:
        await _do_all(call.steps, limit, trace)
    except (TimeoutError, LookupError, asyncio.CancelledError) as error:
        trace.append((now(), f"ended by {type(error).__name__}"))
    trace.append((now(), f"wanted cancelled by {task.cancelling()}"))


def _run(calls: list[Call], make_limit: Callable[[], Limit]) -> list[Trace]:
    traces: list[Trace] = [[] for _ in calls]

    async def main() -> None:
        loop, limit = asyncio.get_running_loop(), make_limit()
        tasks: list[asyncio.Task[None]] = []

        def begin(call: Call, trace: Trace) -> None:
            task = loop.create_task(_call(call, limit, trace))
            tasks.append(task)
            for at in call.cancelled_at:
                loop.call_later(at, task.cancel)

        for call, trace in zip(calls, traces, strict=True):
            loop.call_at(START + call.begins, begin, call, trace)
        await asyncio.sleep(10)
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main)
    return traces


def _in_line() -> Limit:
    line = LimitLine()

    @asynccontextmanager
    async def limit(seconds: float) -> Any:
        with TimeLimit(line, seconds) as it:
            yield it

    return limit


@settings(max_examples=400)
@given(CALLS)
def test_it_does_what_asyncio_does(calls: list[Call]) -> None:
    """To the moment, for every task; what happens at the same moment in different tasks has no order."""
    assert _run(calls, _in_line) == _run(calls, lambda: asyncio.timeout)
