"""Nobitex's rate limits: so many calls per window and endpoint, and a block for whoever ignores ``backOff``."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from ..clock import Clock
from .calls import Refusal, Reply

IGNORED_MAX: Final = 5
"""So many calls within their ``backOff`` are taken for ignoring it."""
BLOCK_SECONDS: Final = 120.0
"""How long the account is then blocked everywhere."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``count`` calls per ``seconds``; endpoints of one ``pool`` share them."""

    pool: str
    count: int
    seconds: float


@dataclass(slots=True)
class _Hold:
    """A pool that is backed off from until an instant, and how often that was ignored."""

    until: float
    limit: int
    ignored: int = 0


class RateLimits:
    """Sliding windows, one account. ``scale`` multiplies every figure; None: no limits. Times are monotonic.

    ``block_seconds`` is how long an account is blocked that ignored ``backOff``.
    """

    def __init__(self, clock: Clock, scale: float | None, *, block_seconds: float = BLOCK_SECONDS) -> None:
        self._clock = clock
        self._scale = scale
        self._block_seconds = block_seconds
        self._taken: dict[str, deque[float]] = {}
        self._holds: dict[str, _Hold] = {}
        self._blocked_until = -math.inf

    def take(self, limit: Limit, *, private: bool, known_bot: bool = True) -> None:
        """Count one call. Raises Refusal with a 429. Who names no ``TraderBot`` gets half of every figure."""
        now = self._clock.monotonic()
        if private and now < self._blocked_until:
            raise Refusal(too_many(self._blocked_until - now, limit.count))
        hold = self._holds.get(limit.pool)
        if hold is not None and now < hold.until:
            hold.ignored += 1
            if private and hold.ignored >= IGNORED_MAX:
                self._blocked_until = now + self._block_seconds
                raise Refusal(too_many(self._block_seconds, hold.limit))
            raise Refusal(too_many(hold.until - now, hold.limit))
        if self._scale is None:
            return
        count = max(1, int(limit.count * self._scale / (1 if known_bot else 2)))
        taken = self._taken.setdefault(limit.pool, deque())
        while taken and taken[0] <= now - limit.seconds:
            taken.popleft()
        if len(taken) >= count:
            self.hold(limit.pool, taken[len(taken) - count] + limit.seconds - now, count)
            raise Refusal(too_many(self._holds[limit.pool].until - now, count))
        taken.append(now)

    def hold(self, pool: str, seconds: float, limit: int) -> None:
        """Back a pool off: calls to it are refused for so long."""
        self._holds[pool] = _Hold(self._clock.monotonic() + seconds, limit)


def too_many(seconds: float, limit: int) -> Reply:
    """The documented 429. ``backOff`` is whole seconds unless it is less than one."""
    wait: int | float = math.ceil(seconds) if seconds >= 1 else round(max(seconds, 0.001), 3)
    body: dict[str, Any] = {
        "status": "failed",
        "code": "TooManyRequests",
        "message": "Too many requests",
        "backOff": wait,
        "limit": limit,
    }
    return Reply(body, 429)
