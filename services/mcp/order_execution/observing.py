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
    return _around(function, begin, may_refuse=False)


def wrapped(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Wrap a function: ``begin`` before each call (what it raises refuses the call), its answer after it."""
    return _around(function, begin, may_refuse=True)


def _around(function: Callable[..., Any], begin: Begin, *, may_refuse: bool) -> Callable[..., Any]:
    # Each wrapper does all there is to do itself: a helper would be one more call at every call.
    if inspect.iscoroutinefunction(function):
        return _around_async(cast("Callable[..., Awaitable[Any]]", function), begin, may_refuse=may_refuse)
    return _around_sync(function, begin, may_refuse=may_refuse)


def _around_async(
    function: Callable[..., Awaitable[Any]], begin: Begin, *, may_refuse: bool
) -> Callable[..., Awaitable[Any]]:
    @wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        try:
            end = begin(args)
        except Exception as failure:
            if may_refuse:
                raise
            _report(function, failure)
            end = None
        if end is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            _finish(function, end, error)
            raise
        try:
            end(None)
        except Exception as failure:  # noqa: BLE001 - an observer must not harm what it observes
            _report(function, failure)
        return result

    return call_async


def _around_sync(function: Callable[..., Any], begin: Begin, *, may_refuse: bool) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            end = begin(args)
        except Exception as failure:
            if may_refuse:
                raise
            _report(function, failure)
            end = None
        if end is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            _finish(function, end, error)
            raise
        _finish(function, end, None)
        return result

    return call


def _finish(function: Callable[..., Any], end: End, error: BaseException | None) -> None:
    try:
        end(error)
    except Exception as failure:  # noqa: BLE001 - an observer must not harm what it observes
        _report(function, failure)


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
