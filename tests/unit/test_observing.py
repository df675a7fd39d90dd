"""Wrapping changes nothing about a function, and observers that fail harm nobody."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.observing import (
    End,
    is_method,
    monotonic_of,
    name_of,
    observed,
    reader,
    wrapped,
)

SECRET = "t0ps3cr3t"


class Watcher:
    """Notes how calls begin and end."""

    def __init__(self) -> None:
        self.begun: list[tuple[Any, ...]] = []
        self.ended: list[BaseException | None] = []

    def begin(self, args: tuple[Any, ...]) -> End | None:
        self.begun.append(args)
        return self.ended.append


def add(a: int, b: int = 1, *rest: int, **named: int) -> int:
    """Add."""
    return a + b + sum(rest) + sum(named.values())


async def add_async(a: int, b: int = 1) -> int:
    """Add, some time."""
    await asyncio.sleep(0)
    return a + b


async def test_results_pass_and_each_call_begins_and_ends_once() -> None:
    """Sync and async, with every kind of argument."""
    watcher = Watcher()
    assert wrapped(add, watcher.begin)(1, 2, 3, x=4) == 10
    assert await wrapped(add_async, watcher.begin)(1, b=5) == 6
    assert watcher.begun == [(1, 2, 3), (1,)]
    assert watcher.ended == [None, None]


async def test_exceptions_pass_unchanged() -> None:
    """The same object, whatever its type; cancellation too."""
    watcher = Watcher()
    for error in (ValueError("v"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)):

        def fail(error: BaseException = error) -> None:
            raise error

        async def fail_async(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            wrapped(fail, watcher.begin)()
        assert caught.value is error
        with pytest.raises(type(error)) as caught:
            await wrapped(fail_async, watcher.begin)()
        assert caught.value is error
        assert watcher.ended == [error, error]
        watcher.ended.clear()


def test_name_signature_and_kind_stay() -> None:
    """Introspection sees the function as it was written."""
    for function in (add, add_async):
        around = wrapped(function, Watcher().begin)
        assert around.__name__ == function.__name__
        assert around.__doc__ == function.__doc__
        assert inspect.signature(around) == inspect.signature(function)
        assert inspect.iscoroutinefunction(around) == inspect.iscoroutinefunction(function)


async def test_without_an_end_the_function_is_simply_called() -> None:
    """The cheap way, for an observer that is not there."""

    def nobody(args: tuple[Any, ...]) -> None:
        return None

    assert wrapped(add, nobody)(1) == 2
    assert await wrapped(add_async, nobody)(1) == 2


def test_what_begin_raises_refuses_the_call() -> None:
    """For a breaker: the function is not called at all."""
    called = []

    def refuse(args: tuple[Any, ...]) -> End:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        wrapped(called.append, refuse)(1)
    assert called == []


@pytest.mark.parametrize("when", ["begin", "end"])
async def test_an_observer_that_fails_is_logged_and_harms_nobody(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By type and place; its message and arguments, which may hold secrets, are not shown."""

    def explode(*args: object) -> Any:
        raise RuntimeError(SECRET)

    begin = explode if when == "begin" else lambda args: explode
    assert observed(add, begin)(1) == 2
    assert await observed(add_async, begin)(1) == 2

    def fail() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        observed(fail, begin)()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "an observer of add failed",
        "an observer of add_async failed",
        f"an observer of {fail.__qualname__} failed",
    ]
    assert "test_observing.py:" in caplog.text
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_generators_are_refused(function: Any) -> None:
    """Calling one does nothing that could be observed."""
    with pytest.raises(TypeError, match="generator"):
        name_of(function)


@pytest.mark.parametrize("thing", [3, "name", classmethod(add), staticmethod(add)])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    """An option passed by position, or decorators in the wrong order."""
    with pytest.raises(TypeError, match="expected a function"):
        name_of(thing)


def test_names_are_qualified() -> None:
    """A callable without a name of its own is named for its type."""
    assert name_of(Watcher.begin) == "Watcher.begin"
    assert name_of(functools.partial(add, 1)) == "partial"


def test_a_method_is_what_has_a_self() -> None:
    """The name of the first parameter decides."""
    assert is_method(Watcher.begin)
    assert not is_method(add)
    assert not is_method(test_names_are_qualified)
    assert not is_method(int)  # tells no signature


def test_an_option_goes_before_self() -> None:
    """And what is nowhere is None."""

    class Owner:
        tool = "own"

    assert reader(Watcher.begin, "tool", "given")((Owner(),)) == "given"
    assert reader(Watcher.begin, "tool", None)((Owner(),)) == "own"
    assert reader(Watcher.begin, "tool", None)((object(),)) is None
    assert reader(Watcher.begin, "tool", None)(()) is None
    assert reader(add, "tool", None)((Owner(),)) is None


def test_the_clock_is_given_or_ones_own_or_the_machines() -> None:
    """In this order."""

    class Fixed(SystemClock):
        def __init__(self, reading: float) -> None:
            self.reading = reading

        def monotonic(self) -> float:
            return self.reading

    class Owner:
        clock = Fixed(2)

    assert monotonic_of(Watcher.begin, Fixed(1))((Owner(),))() == 1
    assert monotonic_of(Watcher.begin, None)((Owner(),))() == 2
    for args in ((object(),), ()):
        assert monotonic_of(Watcher.begin, None)(args)() > 2
    assert monotonic_of(add, Fixed(1))(())() == 1
    assert monotonic_of(add, None)((Owner(),))() > 2
