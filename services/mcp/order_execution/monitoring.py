"""Four decorators for functions and methods, sync or async: log, measure, break the circuit, raise alerts.

Each is used bare or with options, and in any order::

    @log_execution_time
    @track_metrics(name="rebalance")
    @circuit_breaker_aware(breaker=breaker)
    @alert_on_failure(threshold=5, alerts=alerts)
    async def rebalance() -> None: ...

On a method (a function whose first parameter is called ``self``) what an option does not name is read from
``self`` at each call: ``self.metrics``, ``self.circuit_breaker``, ``self.alerts`` and ``self.clock``. What is
not there, or None, is not used: the function is then simply called. ``circuit_breaker_aware`` alone insists on
its breaker, since a protection that is silently absent is worse than none.

Signature, type and coroutine-ness stay; whatever the function raises passes unchanged. An observer that
itself fails is logged and harms nobody. Arguments, results and foreign error messages, which may hold
secrets, are never logged. A call that ends by cancellation (or by KeyboardInterrupt and the like) counts
neither as success nor as failure.

Generator functions, sync and async, are refused with a TypeError: calling one does nothing yet, so there is
nothing to observe. With ``@classmethod`` or ``@staticmethod`` the decorators stand below it.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, ParamSpec, Protocol, TypeVar, overload

from .alerts import Level
from .clock import Clock
from .errors import (
    CircuitOpen,
    ConfigurationError,
    ExchangeUnavailable,
    InvalidOrder,
    OrderExecutionError,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
)
from .observing import End, is_method, monotonic_of, name_of, observed, reader, wrapped

P = ParamSpec("P")
R = TypeVar("R")

Errors = tuple[type[Exception], ...]

COUNTED: Final[Errors] = (OSError, TimeoutError, ExchangeUnavailable, OrderUnresolved)
"""What the breaker counts as a failure of the exchange, unless ``counts`` says otherwise."""
IGNORED: Final[Errors] = (InvalidOrder, OrderRejected)
"""What raises no alert, unless ``ignore`` says otherwise: the order was at fault, not the machinery."""


class MetricsLike(Protocol):
    """What ``track_metrics`` needs; :class:`~.metrics.Metrics` has it."""

    def observe_call(self, function: str, outcome: str, seconds: float) -> None:
        """Count one call; ``outcome`` is success, failure or cancelled."""
        ...


class PermitLike(Protocol):
    """Leave for one attempt, to be reported back once."""

    def success(self) -> None:
        """The exchange is well."""
        ...

    def failure(self) -> None:
        """The exchange is not."""
        ...

    def neutral(self) -> None:
        """Nothing was learnt of the exchange."""
        ...


class BreakerLike(Protocol):
    """What ``circuit_breaker_aware`` needs; :class:`~.circuit_breaker.CircuitBreaker` has it."""

    def acquire(self) -> PermitLike:
        """Raise CircuitOpen, or give leave for one attempt."""
        ...


class AlertsLike(Protocol):
    """What ``alert_on_failure`` needs; :class:`~.alerts.Alerts` has it, and ``clear(key)`` beside it."""

    def raise_alert(self, level: Level, key: str, title: str, body: str = "") -> None:
        """Raise an alert without waiting."""
        ...


class Decorator(Protocol):
    """A decorator that changes nothing about the type of what it decorates."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function."""
        ...


# ---- log_execution_time -----------------------------------------------------------------------------------


@overload
def log_execution_time(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def log_execution_time(
    *,
    level: int = ...,
    logger: logging.Logger | None = ...,
    slow_seconds: float | None = ...,
    clock: Clock | None = ...,
) -> Decorator: ...
def log_execution_time(
    function: Callable[..., Any] | None = None,
    /,
    *,
    level: int = logging.DEBUG,
    logger: logging.Logger | None = None,
    slow_seconds: float | None = None,
    clock: Clock | None = None,
) -> Any:
    """Log how long each call takes and how it ends: ``ok``, the type of its error, or ``cancelled``.

    ``level`` is the log's level, and WARNING for a call of at least ``slow_seconds``; ``logger`` is by default
    that of the function's module. Reads ``self.clock``; without one, ``time.monotonic`` measures.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = name_of(function)
        log = logger or logging.getLogger(getattr(function, "__module__", None))
        reading = monotonic_of(function, clock)

        def begin(args: tuple[Any, ...]) -> End | None:
            if slow_seconds is None and not log.isEnabledFor(level):
                return None
            monotonic = reading(args)
            started = monotonic()

            def end(error: BaseException | None) -> None:
                seconds = monotonic() - started
                slow = slow_seconds is not None and seconds >= slow_seconds
                outcome = "ok" if error is None else type(error).__name__
                if error is not None and not isinstance(error, Exception):
                    outcome = "cancelled"
                log.log(
                    max(level, logging.WARNING) if slow else level, "%s took %.6f s: %s", name, seconds, outcome
                )

            return end

        return observed(function, begin)

    return decorate if function is None else decorate(function)


# ---- track_metrics ----------------------------------------------------------------------------------------


@overload
def track_metrics(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def track_metrics(
    *, metrics: MetricsLike | None = ..., name: str | None = ..., clock: Clock | None = ...
) -> Decorator: ...
def track_metrics(
    function: Callable[..., Any] | None = None,
    /,
    *,
    metrics: MetricsLike | None = None,
    name: str | None = None,
    clock: Clock | None = None,
) -> Any:
    """Count the calls that succeed, fail and are cancelled, and how long they take.

    ``name`` is the function's name in the metrics, by default its qualified name. Reads ``self.metrics`` and
    ``self.clock``; without metrics it does nothing.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        shown = name or name_of(function)
        reading = monotonic_of(function, clock)
        owner = reader(function, "metrics", metrics)

        def begin(args: tuple[Any, ...]) -> End | None:
            target = owner(args)
            if target is None:
                return None
            monotonic = reading(args)
            started = monotonic()

            def end(error: BaseException | None) -> None:
                outcome = "success"
                if error is not None:
                    outcome = "failure" if isinstance(error, Exception) else "cancelled"
                target.observe_call(shown, outcome, monotonic() - started)

            return end

        return observed(function, begin)

    return decorate if function is None else decorate(function)


# ---- circuit_breaker_aware --------------------------------------------------------------------------------


@overload
def circuit_breaker_aware(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def circuit_breaker_aware(*, breaker: BreakerLike | None = ..., counts: Errors = ...) -> Decorator: ...
def circuit_breaker_aware(
    function: Callable[..., Any] | None = None,
    /,
    *,
    breaker: BreakerLike | None = None,
    counts: Errors = COUNTED,
) -> Any:
    """Refuse the call with CircuitOpen while the breaker is open, and tell the breaker how each call ends.

    A failure is an error of the types in ``counts``. Neutral are cancellation, whatever says that nothing was
    sent (OrderNotSent, and CircuitOpen above all: an inner breaker has counted it already) and InvalidOrder.
    Everything else, such as OrderRejected, is an answer and thus health.

    Reads ``self.circuit_breaker``, which may be None where there is deliberately no breaker. Raises
    ConfigurationError when ``self`` has no such attribute at all (at the call), and for a plain function
    without ``breaker`` (at once).
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = name_of(function)
        if breaker is None and not is_method(function):
            raise ConfigurationError(f"circuit_breaker_aware: {name} is no method, so it needs breaker=")

        def begin(args: tuple[Any, ...]) -> End | None:
            try:
                target: BreakerLike | None = args[0].circuit_breaker if breaker is None else breaker
            except (AttributeError, IndexError):
                raise ConfigurationError(
                    f"circuit_breaker_aware: {name} needs self.circuit_breaker (None: no breaker), or breaker="
                ) from None
            if target is None:
                return None
            permit = target.acquire()

            def end(error: BaseException | None) -> None:
                if error is None:
                    permit.success()
                else:
                    _verdict(permit, error, counts)()

            return end

        return wrapped(function, begin)

    return decorate if function is None else decorate(function)


def _verdict(permit: PermitLike, error: BaseException, counts: Errors) -> Callable[[], None]:
    if not isinstance(error, Exception) or isinstance(error, CircuitOpen):
        return permit.neutral
    if isinstance(error, counts):
        return permit.failure
    return permit.neutral if isinstance(error, OrderNotSent | InvalidOrder) else permit.success


# ---- alert_on_failure -------------------------------------------------------------------------------------


@overload
def alert_on_failure(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def alert_on_failure(
    *,
    threshold: int = ...,
    alerts: AlertsLike | None = ...,
    level: Level = ...,
    ignore: Errors = ...,
) -> Decorator: ...
def alert_on_failure(
    function: Callable[..., Any] | None = None,
    /,
    *,
    threshold: int = 3,
    alerts: AlertsLike | None = None,
    level: Level = Level.ERROR,
    ignore: Errors = IGNORED,
) -> Any:
    """Raise an alert at every ``threshold``-th failure in a row; a success begins anew.

    Failures are counted for each decorated function and instance (instances that cannot be weakly referenced
    share one count). Cancellation and the errors in ``ignore`` count neither way. The alert names the error's
    type, and its message only where it is one of this library's. Reads ``self.alerts``; without it, nothing
    is done. Raises ConfigurationError for a threshold below 1.
    """
    if threshold < 1:
        raise ConfigurationError("alert_on_failure: threshold: expected a whole number of at least 1")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = name_of(function)
        owner = reader(function, "alerts", alerts)
        per_instance = is_method(function)
        streaks = _Streaks()

        def begin(args: tuple[Any, ...]) -> End | None:
            target = owner(args)
            if target is None:
                return None
            instance = args[0] if per_instance and args else None

            def end(error: BaseException | None) -> None:
                if error is None:
                    if streaks and streaks.end(instance) >= threshold:
                        _clear(target, f"failing:{name}")
                elif isinstance(error, Exception) and not isinstance(error, ignore):
                    count = streaks.lengthen(instance)
                    if count % threshold == 0:
                        title = f"{name} failed {count} times in a row"
                        target.raise_alert(level, f"failing:{name}", title, _told(error))

            return end

        return observed(function, begin)

    return decorate if function is None else decorate(function)


class _Streaks:
    """Failures in a row, per instance. Only instances that fail at present are remembered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def lengthen(self, instance: object) -> int:
        """Add a failure; return how many in a row there are now."""
        key = self._key(instance)
        with self._lock:
            count = self._counts[key] = self._counts.get(key, 0) + 1
            return count

    def end(self, instance: object) -> int:
        """Forget the failures; return how many there were."""
        key = self._key(instance)
        self._alive.pop(key, None)
        return self._counts.pop(key, 0)

    def _key(self, instance: object) -> int:
        """By identity, as equal instances fail on their own; the weak reference sees to it that ids stay true."""
        key = id(instance)
        if key not in self._alive:
            try:
                self._alive[key] = weakref.ref(instance, lambda _: self._forget(key))
            except TypeError:
                return 0
        return key

    def _forget(self, key: int) -> None:
        # Without the lock: the garbage collector may come by while this very thread holds it.
        self._alive.pop(key, None)
        self._counts.pop(key, None)


def _clear(alerts: AlertsLike, key: str) -> None:
    """Re-arm the alert, where the alerts know how to."""
    clear = getattr(alerts, "clear", None)
    if clear is not None:
        clear(key)


def _told(error: Exception) -> str:
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, OrderExecutionError) else kind
