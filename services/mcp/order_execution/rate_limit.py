"""How fast requests may leave: token buckets per lane, and a gate that the exchange shuts with a Retry-After.

:class:`Bucket` is pure arithmetic in O(1) (the generic cell rate algorithm). :class:`RateLimiter` puts the
waiting around it. Each lane (submit, cancel, read) has a line of its own, in which callers are served in the
order they came. Nothing is taken from any bucket before the request may go, so a caller that gives up leaves
nothing behind that others would have to wait for.

Where the exchange counts all lanes together, a further, shared limit stands behind them. Everything but
cancels may use only a part of it, so that an order can be cancelled however busy the rest is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from .errors import ConfigurationError

PENALTY_SECONDS_MAX: Final = 7 * 86_400.0
"""The longest wait that an exchange can impose; beyond it, it is asked again."""
TOLERANCE: Final = 1e-6
"""Seconds by which a request may be early. Smaller waits are lost in the clock's resolution."""


Limit = tuple[float | None, int]
"""A documented limit: requests per second (None: no limit), and how many of them may come at once."""


class Bucket:
    """``burst`` requests at once, refilled at ``rate`` a second: in T seconds at most burst + rate * T."""

    __slots__ = ("_burst_time", "_full_at", "_interval")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._burst_time = (burst - 1) * self._interval
        self._full_at = -math.inf  # when the bucket is full again, if nothing more is taken

    def wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until the next request may go, with so many others before it. Takes nothing."""
        first = max(now, self._full_at - self._burst_time)
        if ahead:
            first = max(first, max(self._full_at, first) + ahead * self._interval - self._burst_time)
        return first - now

    def take(self, now: float) -> None:
        """Count one request that goes now."""
        self._full_at = max(self._full_at, now) + self._interval

    def drain(self, until: float) -> None:
        """Leave nothing to be had before ``until``, and from then on one at a time."""
        self._full_at = max(self._full_at, until + self._burst_time)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A bucket, and whose turn it is to take from it; the lock serves in the order of asking."""

    bucket: Bucket
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Line:
    """Who waits in one lane, and for what: the lane's own bucket first, the widest one last."""

    stages: tuple[_Stage, ...]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0

    def wait(self, now: float) -> float:
        """Seconds until a newcomer may go, as far as the buckets know. Other lanes may make it longer."""
        return max((stage.bucket.wait(now, self.length) for stage in self.stages), default=0.0)

    @property
    def is_free(self) -> bool:
        """True when nobody waits for any of the buckets."""
        return not self.length and not any(stage.turn.locked() for stage in self.stages)

    def take(self, now: float) -> None:
        """Count one request in every bucket."""
        for stage in self.stages:
            stage.bucket.take(now)


class RateLimiter:
    """The limits of one exchange account. ``monotonic`` follows the running loop's clock, in seconds.

    ``limits`` names every lane with the exchange's own limit, of which this process may use ``share``.
    ``shared`` is a limit over all lanes; the part ``cancel_reserve`` of it is left to ``cancel_lane``.
    Raises ConfigurationError for a value out of range.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        limits: Mapping[str, Limit],
        *,
        share: float = 0.8,
        shared: Limit = (None, 1),
        cancel_reserve: float = 0.2,
        cancel_lane: str = "cancel",
    ) -> None:
        if not 0 < share <= 1:
            raise _bad("rate_limit_share", "a number above 0, and at most 1")
        if not 0 <= cancel_reserve < 1:
            raise _bad("cancel_reserve", "a number of at least 0, and below 1")
        self._monotonic = monotonic
        self._shut_until: float | None = None
        everybody = _stages(shared, share)
        all_but_cancels = _stages(shared, share * (1 - cancel_reserve))
        self._lines: dict[str, _Line] = {}
        for lane, limit in limits.items():
            wider = everybody if lane == cancel_lane else all_but_cancels + everybody
            self._lines[lane] = _Line(_stages(limit, share) + wider)

    def take(self, lane: str) -> bool:
        """``acquire()`` of what is to be had at once; False, and nothing is used up, where one has to wait."""
        line = self._lines[lane]
        if self._shut_until is None and not line.stages:
            return True
        now = self._monotonic()
        if max(line.wait(now), self._gate(now)) <= TOLERANCE and line.is_free:
            line.take(now)
            return True
        return False

    async def acquire(self, lane: str, deadline: float = math.inf) -> bool:
        """Return True as soon as a request may leave in this lane. A cancelled caller leaves the line.

        False, and nothing is used up, if that would not be before ``deadline`` (on the scale of
        ``monotonic``); at once where that is clear from the start.
        """
        if self.take(lane):
            return True
        line, now = self._lines[lane], self._monotonic()
        wait = max(line.wait(now), self._gate(now))
        if now + wait >= deadline:
            return False
        line.length += 1
        try:
            async with asyncio.timeout(None if deadline == math.inf else deadline - now):
                return await self._stand_in(line, deadline)
        except TimeoutError:
            return False
        finally:
            line.length -= 1

    def wait(self, lane: str) -> float:
        """Seconds that a request in this lane would have to wait now, at least. Takes nothing."""
        line, now = self._lines[lane], self._monotonic()
        return max(line.wait(now), self._gate(now))

    def penalise(self, seconds: float) -> None:
        """Let nothing leave in any lane for so long: the exchange's Retry-After. It never shortens another.

        What the buckets had saved up is gone too: the exchange has just said that it was too much.
        """
        if not seconds > 0:  # nor NaN
            return
        until = self._monotonic() + min(seconds, PENALTY_SECONDS_MAX)
        if self._shut_until is None or until > self._shut_until:
            self._shut_until = until
            for line in self._lines.values():
                for stage in line.stages:
                    stage.bucket.drain(until)

    @property
    def penalised_for(self) -> float:
        """Seconds until the exchange's Retry-After is over; 0 when there is none."""
        return self._gate(self._monotonic())

    def _gate(self, now: float) -> float:
        if self._shut_until is not None and now >= self._shut_until - TOLERANCE:
            self._shut_until = None
        return 0.0 if self._shut_until is None else self._shut_until - now

    async def _stand_in(self, line: _Line, deadline: float) -> bool:
        """Wait for one's turn in the line, then at each bucket, and take from all of them at once.

        From the narrowest to the widest: a lane that is slow by itself must not hold the others' turn. What
        is ready stays ready, as nobody takes out of turn, unless a penalty comes: hence the look at all so far.
        """
        async with AsyncExitStack() as turns:
            await turns.enter_async_context(line.turn)
            if not await self._sleep_until_ready((), deadline):
                return False
            for number, stage in enumerate(line.stages, start=1):
                await turns.enter_async_context(stage.turn)
                if not await self._sleep_until_ready(line.stages[:number], deadline):
                    return False
            line.take(self._monotonic())
            return True

    async def _sleep_until_ready(self, stages: tuple[_Stage, ...], deadline: float) -> bool:
        """Sleep until the gate and these buckets let a request through; False if the deadline comes first."""
        while True:  # ends with the deadline; without one, each round is a whole wait long
            now = self._monotonic()
            wait = max((stage.bucket.wait(now) for stage in stages), default=0.0)
            wait = max(wait, self._gate(now))
            if wait <= TOLERANCE:
                return True
            if now + wait >= deadline:
                return False
            await asyncio.sleep(wait)


def _stages(limit: Limit, share: float) -> tuple[_Stage, ...]:
    """A share of a limit, in rate and in burst; one request at a time is always left."""
    rate, burst = limit
    if rate is None:
        return ()
    if not 0 < rate < math.inf:
        raise _bad("requests_per_second", "a number greater than 0, or none")
    if burst < 1:
        raise _bad("burst", "a whole number of at least 1")
    # Rounded first: a share of 0.29 of 100 is 28.999999999999996 in floats.
    return (_Stage(Bucket(rate * share, max(1, math.floor(round(burst * share, 9))))),)


def _bad(name: str, expected: str) -> ConfigurationError:
    return ConfigurationError(f"gateway.{name}: expected {expected}", field=f"gateway.{name}")
