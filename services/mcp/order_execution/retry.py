"""Whether and when an attempt is made again: the policy, the budget, and the loop of the package ``backoff``.

No other module imports ``backoff``, and only its loop is used: every decision (may this error be retried, is
there time left, does the budget allow it, how long to wait) is taken here, in one wait generator.

An operation says that its attempt may be made again by raising :class:`Retryable`. All else that it raises,
cancellation included, passes through untouched.
"""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar, cast

import backoff

from .errors import ConfigurationError, ErrorCategory

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_RETRYABLE: Final = frozenset(
    {
        ErrorCategory.CONNECTION,
        ErrorCategory.TIMEOUT,
        ErrorCategory.RESET,
        ErrorCategory.RATE_LIMITED,
        ErrorCategory.SERVER_ERROR,
        ErrorCategory.MAINTENANCE,
        ErrorCategory.BAD_RESPONSE,
    }
)
"""What is retried unless it is configured otherwise."""
NEVER_RETRIED: Final = frozenset(ErrorCategory) - DEFAULT_RETRYABLE
"""What no configuration can make retryable: trying again would not help, or would do harm."""
POLL_SECONDS_MIN: Final = 0.05
"""The shortest pause between two polls, whatever the policy."""


class Retryable(Exception):
    """An attempt ended in a way that permits another one, as far as the operation is concerned.

    ``retry_after`` is in seconds: how long the exchange asked to wait, if it did.
    """

    def __init__(self, category: ErrorCategory, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message or category.value)
        self.category = category
        self.retry_after = retry_after
        self.run: _Run | None = None
        """Set by run_with_retry alone: ``backoff`` hands the wait generator nothing but the error."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how slowly to try again. Delays are in seconds; attempts are counted from 0.

    Raises ConfigurationError, naming the field, for a value out of range.
    """

    max_retries: int = 3
    """Further attempts after the first one; 0: none."""
    backoff_base: float = 2.0
    initial_delay: float = 1.0
    max_delay: float = 30.0
    retryable_errors: frozenset[ErrorCategory] = DEFAULT_RETRYABLE

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise _bad("max_retries", "a whole number of at least 0")
        if not 1 <= self.backoff_base < math.inf:
            raise _bad("backoff_base", "a number of at least 1")
        if not 0 <= self.initial_delay < math.inf:
            raise _bad("initial_delay", "a number of at least 0")
        if not self.initial_delay <= self.max_delay < math.inf:
            raise _bad("max_delay", "a number of at least initial_delay")
        never = self.retryable_errors & NEVER_RETRIED
        if never:
            raise _bad("retryable_errors", f"no {', '.join(sorted(never))}, which cannot be retried")

    def retries(self, category: ErrorCategory) -> bool:
        """Whether an error of this category may be retried."""
        return category in self.retryable_errors

    def ceiling(self, attempt: int) -> float:
        """Seconds beyond which the delay after this attempt does not go, Retry-After apart."""
        if self.initial_delay == 0:
            return 0.0
        try:
            return min(self.initial_delay * self.backoff_base**attempt, self.max_delay)
        except OverflowError:
            return self.max_delay

    def delay(self, attempt: int, retry_after: float | None, rng: Random) -> float:
        """Seconds to wait after this attempt: up to the ceiling, on top of what the exchange asked for.

        Full jitter spreads the callers that failed together. It never undercuts the exchange's Retry-After,
        nor does ``max_delay`` shorten that: the caller's deadline decides whether it is worth waiting.
        """
        return _floor(retry_after) + rng.uniform(0, self.ceiling(attempt))


def poll_delay(policy: RetryPolicy, attempt: int, rng: Random, retry_after: float | None = None) -> float:
    """Seconds until the next look at something that is not settled yet, without limit on the number of looks.

    Between half the ceiling and the ceiling, on top of ``retry_after``: a poll shall neither be too eager nor
    fall into step with others.
    """
    ceiling = policy.ceiling(attempt)
    return _floor(retry_after) + max(POLL_SECONDS_MIN, rng.uniform(ceiling / 2, ceiling))


def _floor(retry_after: float | None) -> float:
    # Written so that NaN, which compares as False, asks for nothing.
    return retry_after if retry_after is not None and retry_after > 0 else 0.0


def _bad(name: str, expected: str) -> ConfigurationError:
    return ConfigurationError(f"retry.{name}: expected {expected}", field=f"retry.{name}")


class RetryBudget:
    """Retries shared by all operations on one exchange, so that an outage is not answered with a flood.

    A retry takes one token, a success gives ``per_success`` of one back. Without a whole token: no retry.
    """

    _SCALE: Final = 1_000  # whole thousandths, since ten times 0.1 is less than 1.0 in floats

    def __init__(self, capacity: float = 10.0, *, per_success: float = 0.1) -> None:
        if not 0 <= capacity < math.inf:
            raise _bad("budget", "a number of at least 0")
        if not 0 <= per_success < math.inf:
            raise _bad("budget_per_success", "a number of at least 0")
        self._capacity = round(capacity * self._SCALE)
        self._per_success = round(per_success * self._SCALE)
        self._tokens = self._capacity

    @property
    def tokens(self) -> float:
        """What is left; between 0 and the capacity."""
        return self._tokens / self._SCALE

    def try_spend(self) -> bool:
        """Take one token; False, and nothing taken, where there is none."""
        if self._tokens < self._SCALE:
            return False
        self._tokens -= self._SCALE
        return True

    def success(self) -> None:
        """Give back what a success earns, up to the capacity."""
        if self._tokens < self._capacity:
            self._tokens = min(self._capacity, self._tokens + self._per_success)


OnRetry = Callable[[int, float, Retryable], None]
"""Told before each wait: the attempt that failed (from 0), the delay in seconds, the error."""


@dataclass(slots=True)
class _Run:
    """One call of run_with_retry."""

    operation: Callable[[], Awaitable[Any]]
    policy: RetryPolicy
    budget: RetryBudget
    deadline: float
    monotonic: Callable[[], float]
    rng: Random
    on_retry: OnRetry | None
    retries: int = 0
    first_error: Retryable | None = None
    """How the first attempt ended, until ``backoff`` has been told of it."""
    last_error: Retryable | None = None

    async def attempt(self) -> Any:
        """Make one attempt, unless this is a retry that woke so late that its time is over."""
        if self.first_error is not None:
            try:
                raise self.first_error  # in no variable here: its traceback leads back to this frame
            finally:
                self.first_error = None
        if self.last_error is not None and self.monotonic() >= self.deadline:
            raise self.last_error
        return await self.operation()

    def delay_after(self, error: Retryable) -> float | None:
        """Seconds to wait before the next attempt, for which the budget has paid; None: give up."""
        attempt = self.retries
        if attempt >= self.policy.max_retries or not self.policy.retries(error.category):
            return None
        delay = self.policy.delay(attempt, error.retry_after, self.rng)
        if self.monotonic() + delay >= self.deadline or not self.budget.try_spend():
            return None
        self.retries = attempt + 1
        self.last_error = error
        self._report(attempt, delay, error)
        return delay

    def _report(self, attempt: int, delay: float, error: Retryable) -> None:
        """Tell ``on_retry``; what it raises must not take the place of the error that is being retried."""
        if self.on_retry is None:
            return
        try:
            self.on_retry(attempt, delay, error)
        except Exception:
            logger.exception("the on_retry callback failed")


async def run_with_retry(
    operation: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    budget: RetryBudget,
    deadline: float,
    monotonic: Callable[[], float],
    rng: Random,
    *,
    on_retry: OnRetry | None = None,
    earned: Callable[[T], bool] = lambda answer: True,
) -> T:
    """Run ``operation`` until it returns, and give its answer; ``earned`` tells whether it is a success.

    The last :class:`Retryable` is raised once its category is not retryable, or the retries, the budget or
    the time until ``deadline`` (on the scale of ``monotonic``) are used up. A retry whose wait would reach
    the deadline is not begun. The first attempt is always made, and ending one at the deadline is left to the
    operation.
    """
    try:
        answer = await operation()
    except Retryable as error:
        run = _Run(operation, policy, budget, deadline, monotonic, rng, on_retry, first_error=error)
    else:
        if earned(answer):
            budget.success()
        return answer
    # From here on it is backoff's loop, whose first attempt is the one that was just made: nearly every operation
    # needs no second one, and the loop costs more than all else here.
    try:
        answer = await _engine(policy.max_retries + 1)(run)
    finally:
        run.first_error = run.last_error = None  # their tracebacks hold this run
    if earned(answer):
        budget.success()
    return answer


async def _attempt(run: _Run) -> Any:
    try:
        return await run.attempt()
    except Retryable as error:
        error.run = run
        raise


def _delays() -> Generator[float, Retryable, None]:
    """Answer each error with the delay before the next attempt; ending makes ``backoff`` raise the error.

    No error is kept in a variable while waiting: its traceback leads back here, a cycle that outlives the run.
    """
    delay: float | None = 0.0  # what is yielded first goes nowhere
    while delay is not None:
        delay = _delay_after((yield delay))


def _delay_after(error: Retryable) -> float | None:
    run, error.run = error.run, None
    return None if run is None else run.delay_after(error)


@functools.lru_cache(maxsize=16)
def _engine(max_tries: int) -> Callable[[_Run], Awaitable[Any]]:
    """``backoff``'s loop, made once and kept, since making it costs four times as much as running it.

    ``max_tries`` counts the first attempt too; 0 would mean for ever. ``backoff``'s own time limit, jitter
    and logger stay off: the first follows the wall clock, the second would undercut Retry-After, the third
    shows arguments. From Python 3.14 on its decorator calls a deprecated function of asyncio; that is its own
    affair.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        decorate = backoff.on_exception(
            cast("Any", _delays), Retryable, max_tries=max_tries, jitter=None, logger=None
        )
        return cast("Callable[[_Run], Awaitable[Any]]", decorate(_attempt))
