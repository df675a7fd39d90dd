"""A circuit breaker per lane: it decides at once whether an attempt may be made, and never waits itself.

A lane (submit, cancel, query) opens when the errors within a sliding window reach a number, K. "At least K
errors in the window" holds exactly when the K-th last error is younger than the window, so the last K times
suffice: the count is exact, and the memory is O(K) however many errors there are.

One attempt is one permit::

    permit = breaker.acquire()             # raises CircuitOpen: nothing was sent
    try:
        outcome = await attempt()
    except asyncio.CancelledError:
        permit.neutral()                   # says nothing about the exchange
        raise
    (permit.success if healthy(outcome) else permit.failure)()

An explicit refusal by the exchange (insufficient funds, a bad price) is a success: the exchange is healthy.

The threshold is a rate over the whole window, so a long window delays the answer to a burst: with 10 errors
per minute over 5 minutes the circuit opens at the 50th error, even where all 50 come within one second.
Shorten the window, or set ``failure_threshold`` (failures in a row), where that is too late.

A breaker belongs to one event loop: it is not meant to be shared between threads.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import ClassVar, Final, Literal

from .errors import CircuitOpen, ConfigurationError
from .models import CircuitState

logger = logging.getLogger(__name__)

ERRORS_MAX: Final = 1_000_000
"""The most errors that a window may have to hold before the circuit opens; a bound on memory."""
EVENTS_MAX: Final = 64
"""The most events told in one go; reached only by listeners that change the circuit from within an event."""
JITTER: Final = 0.1
"""The largest part of a cool-down that is added at random, where there is a source of randomness."""
_DOUBLINGS_MAX: Final = 60
_CLOSED: Final = CircuitState.CLOSED


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a circuit opens, and how it heals. Thresholds are in errors per minute, durations in seconds.

    Raises ConfigurationError, naming the field, for a value out of range.
    """

    error_threshold: float = 30
    warning_threshold: float = 10
    window_seconds: float = 300
    cool_down_seconds: float = 60
    """How long the circuit stays open at first; it doubles with each reopening."""
    max_cool_down_seconds: float = 600
    """Where the doubling ends; a longer ``cool_down_seconds`` is kept as it is."""
    half_open_probes: int = 1
    """How many probes may be in flight at once, and how many successes close the circuit."""
    probe_lease_seconds: float = 30
    """A probe that does not report back frees its permit after this."""
    failure_threshold: int | None = None
    """How many failures in a row open the circuit as well; None: any number."""
    enabled: bool = True
    """A disabled breaker lets everything through; it goes on counting and warning."""

    def __post_init__(self) -> None:
        for name in (
            "error_threshold",
            "warning_threshold",
            "window_seconds",
            "cool_down_seconds",
            "max_cool_down_seconds",
            "probe_lease_seconds",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise _bad(name, "a number greater than 0")
        if self.half_open_probes < 1:
            raise _bad("half_open_probes", "a whole number of at least 1")
        if self.failure_threshold is not None and self.failure_threshold < 1:
            raise _bad("failure_threshold", "a whole number of at least 1, or none")
        if self.error_threshold * self.window_seconds / 60 > ERRORS_MAX:
            raise _bad("error_threshold", f"at most {ERRORS_MAX} errors in one window")

    @property
    def errors_to_open(self) -> int:
        """K: this many errors within the window open the circuit."""
        return self._errors_at(self.error_threshold)

    @property
    def errors_to_warn(self) -> int:
        """This many errors within the window raise the warning."""
        return self._errors_at(self.warning_threshold)

    def cool_down(self, reopenings: int) -> float:
        """Seconds to stay open after so many reopenings in a row."""
        longest = max(self.cool_down_seconds, self.max_cool_down_seconds)
        return min(self.cool_down_seconds * 2.0 ** min(reopenings, _DOUBLINGS_MAX), longest)

    def _errors_at(self, per_minute: float) -> int:
        # Rounded first: 1.1 per minute over 10 minutes is 11.000000000000002 in floats, and not 12 errors.
        return max(1, math.ceil(round(per_minute * self.window_seconds / 60, 9)))


def _bad(name: str, expected: str) -> ConfigurationError:
    return ConfigurationError(f"circuit_breaker.{name}: expected {expected}", field=f"circuit_breaker.{name}")


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A change of state, or the warning that errors have become frequent (which changes no state)."""

    lane: str
    kind: Literal["state", "warning"]
    previous: CircuitState
    state: CircuitState
    at_monotonic: float
    error_rate: float
    """Errors per minute, over the window."""
    reason: str


class Outcome(Enum):
    """What became of one permitted attempt."""

    SUCCESS = auto()
    FAILURE = auto()
    NEUTRAL = auto()


class Permit:
    """Leave for one attempt. The first of ``success``, ``failure`` and ``neutral`` counts, no later one.

    What is reported after the circuit has changed its state counts for nothing: it tells of an earlier time.
    """

    __slots__ = ("_breaker", "generation")

    is_probe: ClassVar[bool] = False

    def __init__(self, breaker: CircuitBreaker, generation: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self.generation = generation

    def success(self) -> None:
        """Report that the exchange answered, be it with a refusal."""
        breaker = self._breaker
        if breaker is not None:
            self._breaker = None
            if breaker.failures_in_a_row:  # else there is nothing to change; the usual way stays short
                breaker.settle(self, Outcome.SUCCESS)

    def failure(self) -> None:
        """Report that the exchange was not reached, or that it did not answer intelligibly."""
        self._settle(Outcome.FAILURE)

    def neutral(self) -> None:
        """Give the permit back; the attempt (a cancelled one, say) tells nothing about the exchange."""
        self._settle(Outcome.NEUTRAL)

    def _settle(self, outcome: Outcome) -> None:
        breaker = self._breaker
        if breaker is not None:
            self._breaker = None
            breaker.settle(self, outcome)


class ProbePermit(Permit):
    """Leave for one of the few attempts by which a half-open circuit finds out whether it may close."""

    __slots__ = ()

    is_probe: ClassVar[bool] = True

    def success(self) -> None:
        """Report that the exchange answered, be it with a refusal."""
        self._settle(Outcome.SUCCESS)


class CircuitBreaker:
    """The breaker of one lane. ``monotonic`` gives seconds; ``rng`` adds up to 10 % of jitter to cooling."""

    def __init__(
        self, lane: str, policy: BreakerPolicy, monotonic: Callable[[], float], *, rng: Random | None = None
    ) -> None:
        self.lane = lane
        self.failures_in_a_row = 0
        self._policy = policy
        self._monotonic = monotonic
        self._rng = rng
        self._state = _CLOSED
        self._generation = 0
        self._errors: deque[float] = deque(maxlen=policy.errors_to_open)
        self._armed = True
        self._opened_at = 0.0
        self._jitter = 1.0
        self._reopenings = 0
        self._probes: dict[Permit, float] = {}
        self._probe_successes = 0
        self._listeners: list[Callable[[BreakerEvent], None]] = []
        self._events: deque[BreakerEvent] = deque()
        self._publishing = False

    # ---- what callers ask --------------------------------------------------------------------------------

    @property
    def state(self) -> CircuitState:
        """Where the circuit stands. OPEN becomes HALF_OPEN when a probe is let through, not by time alone."""
        return self._state

    @property
    def policy(self) -> BreakerPolicy:
        """The policy in force."""
        return self._policy

    def acquire(self) -> Permit:
        """Leave for one attempt, whose outcome must be reported; raises CircuitOpen when there is none."""
        if self._state is _CLOSED:
            return Permit(self, self._generation)
        return self._acquire_probe()

    def allows(self) -> bool:
        """Whether ``acquire()`` would succeed now; takes and changes nothing."""
        return self._state is _CLOSED or self._wait(self._monotonic()) == 0

    def check(self) -> None:
        """Raise CircuitOpen where ``acquire()`` would; takes and changes nothing."""
        if self._state is not _CLOSED:
            wait = self._wait(self._monotonic())
            if wait != 0:
                raise CircuitOpen(self.lane, retry_after=wait)

    def error_rate_per_minute(self) -> float:
        """Errors per minute over the window. It stops at ``error_threshold``, more not being remembered."""
        self._forget_old_errors(self._monotonic())
        return len(self._errors) * 60 / self._policy.window_seconds

    # ---- what callers report -----------------------------------------------------------------------------

    def record_success(self) -> None:
        """``acquire()`` and ``success()`` in one, for code without permits; nothing where that is refused."""
        if self.allows():
            self.acquire().success()

    def record_failure(self) -> None:
        """``acquire()`` and ``failure()`` in one, for code without permits; nothing where that is refused."""
        if self.allows():
            self.acquire().failure()

    def settle(self, permit: Permit, outcome: Outcome) -> None:
        """Take an outcome in. Called by the permit, once; use the permit's own methods."""
        if permit.generation != self._generation:
            return
        if permit.is_probe:
            self._settle_probe(permit, outcome)
        elif outcome is Outcome.FAILURE:
            self._count_failure(self._monotonic())
        elif outcome is Outcome.SUCCESS:
            self.failures_in_a_row = 0

    # ---- what operators do -------------------------------------------------------------------------------

    def force_open(self, reason: str) -> None:
        """Let nothing through until ``reset()``, even with the breaker disabled. Time does not heal this."""
        if self._state is not CircuitState.FORCED_OPEN:
            self._change(CircuitState.FORCED_OPEN, reason)

    def reset(self, reason: str = "reset by an operator") -> None:
        """Close the circuit, whatever its state, and forget all errors, attempts in flight included."""
        self._close(reason)

    def close(self) -> None:
        """``reset()`` with its usual reason."""
        self.reset()

    def reconfigure(self, policy: BreakerPolicy) -> None:
        """Put another policy in force at once. The state, what is in flight and the known errors stay.

        The new thresholds hold for the errors that are known, so a lower one may open the circuit at once.
        Disabling closes it, unless an operator has forced it open.
        """
        now = self._monotonic()
        self._forget_old_errors(now)
        self._policy = policy
        self._errors = deque(self._errors, maxlen=policy.errors_to_open)
        self._forget_old_errors(now)
        self._armed = self._armed or len(self._errors) < policy.errors_to_warn
        reason = self._reason_to_open()
        if self._state is _CLOSED and reason is not None:
            self._open(now, reason)
        elif not policy.enabled and self._state in (CircuitState.OPEN, CircuitState.HALF_OPEN):
            self._reopenings = 0
            self._change(_CLOSED, "the breaker was disabled")

    def subscribe(self, listener: Callable[[BreakerEvent], None]) -> Callable[[], None]:
        """Call ``listener`` with every event, after the change is complete. Returns what ends it again.

        A listener that raises is logged and disturbs neither the breaker nor the other listeners.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    # ---- decisions ---------------------------------------------------------------------------------------

    def _wait(self, now: float) -> float | None:
        """Seconds until a circuit that is not closed may let one through: 0 for now, None for never by itself."""
        if self._state is CircuitState.FORCED_OPEN:
            return None
        if self._state is CircuitState.OPEN:
            return max(0.0, self._opened_at + self._policy.cool_down(self._reopenings) * self._jitter - now)
        leases = [end for end in self._lease_ends() if end > now]
        surplus = len(leases) - self._policy.half_open_probes
        return leases[surplus] - now if surplus >= 0 else 0.0

    def _lease_ends(self) -> list[float]:
        return [granted + self._policy.probe_lease_seconds for granted in self._probes.values()]

    def _acquire_probe(self) -> Permit:
        now = self._monotonic()
        wait = self._wait(now)
        if wait != 0:
            raise CircuitOpen(self.lane, retry_after=wait)
        previous = self._state
        if previous is CircuitState.OPEN:
            self._enter(CircuitState.HALF_OPEN)
        lease = self._policy.probe_lease_seconds
        self._probes = {probe: granted for probe, granted in self._probes.items() if granted + lease > now}
        permit = ProbePermit(self, self._generation)
        self._probes[permit] = now
        if previous is CircuitState.OPEN:
            self._announce("state", previous, "the cool-down is over")
            if permit.generation != self._generation:  # a listener changed the state: its word is the latest
                return self.acquire()
        return permit

    def _settle_probe(self, permit: Permit, outcome: Outcome) -> None:
        if self._probes.pop(permit, None) is None:
            return  # its lease had run out, and another probe may have its place
        if outcome is Outcome.FAILURE:
            now = self._monotonic()
            self._errors.append(now)
            self._reopenings += 1
            self._open(now, "a probe failed")
        elif outcome is Outcome.SUCCESS:
            self._probe_successes += 1
            if self._probe_successes >= self._policy.half_open_probes:
                self._close("the probes succeeded")

    def _count_failure(self, now: float) -> None:
        warn_at = self._policy.errors_to_warn
        self._forget_old_errors(now)
        if len(self._errors) < warn_at / 2:
            self._armed = True
        self._errors.append(now)
        self.failures_in_a_row += 1
        reason = self._reason_to_open()
        if reason is not None:
            self._open(now, reason)
        elif self._armed and len(self._errors) >= warn_at:
            self._armed = False
            self._announce("warning", self._state, f"{warn_at} errors within {self._policy.window_seconds:g} s")

    def _reason_to_open(self) -> str | None:
        policy = self._policy
        if not policy.enabled:
            return None
        if len(self._errors) >= policy.errors_to_open:
            return f"{policy.errors_to_open} errors within {policy.window_seconds:g} s"
        if policy.failure_threshold is not None and self.failures_in_a_row >= policy.failure_threshold:
            return f"{self.failures_in_a_row} failures in a row"
        return None

    def _forget_old_errors(self, now: float) -> None:
        errors, window = self._errors, self._policy.window_seconds
        while errors and now - errors[0] >= window:
            errors.popleft()

    # ---- changes of state --------------------------------------------------------------------------------

    def _open(self, now: float, reason: str) -> None:
        self._opened_at = now
        self._jitter = 1.0 if self._rng is None else 1.0 + JITTER * self._rng.random()
        self._change(CircuitState.OPEN, reason)

    def _close(self, reason: str) -> None:
        self._errors.clear()
        self._armed = True
        self._reopenings = 0
        self._change(_CLOSED, reason)

    def _change(self, state: CircuitState, reason: str) -> None:
        previous = self._state
        self._enter(state)
        if previous is not state:
            self._announce("state", previous, reason)

    def _enter(self, state: CircuitState) -> None:
        self._state = state
        self._generation += 1
        self._probes = {}
        self._probe_successes = 0
        self.failures_in_a_row = 0

    # ---- events ------------------------------------------------------------------------------------------

    def _announce(self, kind: Literal["state", "warning"], previous: CircuitState, reason: str) -> None:
        """Tell the listeners. Events that they cause themselves queue up, so that all see one order."""
        now, rate = self._monotonic(), self.error_rate_per_minute()
        self._events.append(BreakerEvent(self.lane, kind, previous, self._state, now, rate, reason))
        if self._publishing:
            return
        self._publishing = True
        try:
            for _ in range(EVENTS_MAX):
                if not self._events:
                    return
                self._tell(self._events.popleft())
            logger.error("listeners of the %s circuit keep changing it; further events are dropped", self.lane)
            self._events.clear()
        finally:
            self._publishing = False

    def _tell(self, event: BreakerEvent) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener of the %s circuit failed", self.lane)
