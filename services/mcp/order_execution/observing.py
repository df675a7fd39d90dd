"""Wraps functions, sync or async, so that their calls can be observed without being changed."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, cast

from .clock import Clock

_logger = logging.getLogger(__name__)

End = Callable[[BaseException | None], None]
"""Called once at the end of a call, with what it raised."""
Begin = Callable[[tuple[Any, ...]], End | None]
"""Called with the positional arguments before a call; None: nobody wants to know how it ends."""


def observed(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Wrap a function so that an observer sees its calls; an observer that fails to begin is left out."""

    def begin_safely(args: tuple[Any, ...]) -> End | None:
        try:
            return begin(args)
        except Exception as error:  # noqa: BLE001 - an observer must not harm what it observes
            _report(function, error)
            return None

    return wrapped(function, begin_safely)


def wrapped(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Wrap a function: ``begin`` before each call (what it raises refuses the call), its answer after it."""

    def finish(end: End, error: BaseException | None) -> None:
        try:
            end(error)
        except Exception as failure:  # noqa: BLE001 - an observer must not harm what it observes
            _report(function, failure)

    if inspect.iscoroutinefunction(function):
        coroutine_function = cast("Callable[..., Awaitable[Any]]", function)

        @wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            end = begin(args)
            if end is None:
                return await coroutine_function(*args, **kwargs)
            try:
                result = await coroutine_function(*args, **kwargs)
            except BaseException as error:
                finish(end, error)
                raise
            finish(end, None)
            return result

        return call_async

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        end = begin(args)
        if end is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            finish(end, error)
            raise
        finish(end, None)
        return result

    return call


def _report(function: Callable[..., Any], error: Exception) -> None:
    """Log that an observer failed, and where; its message might repeat what the function was given."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    _logger.error("an observer of %s failed: %s%s", name_of(function), type(error).__name__, where)


def name_of(function: Callable[..., Any]) -> str:
    """The function's qualified name. Raises TypeError for what cannot be observed."""
    if not callable(function) or isinstance(function, classmethod | staticmethod):
        raise TypeError("expected a function; options go by name, and @classmethod and @staticmethod above")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is a generator: calling it does nothing that could be observed")
    return getattr(function, "__qualname__", type(function).__qualname__)


def is_method(function: Callable[..., Any]) -> bool:
    """Whether its first parameter is called ``self``."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some built-in functions do not tell their signature
        return False
    return next(iter(parameters), None) == "self"


def reader(function: Callable[..., Any], attribute: str, given: Any) -> Callable[[tuple[Any, ...]], Any]:
    """How to find an observer at a call: what the option gave, else what ``self`` has, else None."""
    if given is not None or not is_method(function):
        return lambda args: given
    return lambda args: getattr(args[0], attribute, None) if args else None


def monotonic_of(
    function: Callable[..., Any], clock: Clock | None
) -> Callable[[tuple[Any, ...]], Callable[[], float]]:
    """How to find a monotonic clock at a call: the one given, ``self.clock``, else the machine's."""
    fixed = time.monotonic if clock is None else clock.monotonic
    if clock is not None or not is_method(function):
        return lambda args: fixed

    def reading(args: tuple[Any, ...]) -> Callable[[], float]:
        own: Clock | None = getattr(args[0], "clock", None) if args else None
        return fixed if own is None else own.monotonic

    return reading
