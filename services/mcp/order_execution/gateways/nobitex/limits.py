"""Nobitex's documented limits, endpoint by endpoint, of which this process takes its share; and its bans."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

DOCUMENTED: Final = MappingProxyType(
    {
        "/market/orders/add": (300, 600.0),
        "/market/orders/status": (300, 60.0),
        "/market/orders/list": (30, 60.0),
        "/market/orders/update-status": (90, 60.0),
        "/market/orders/cancel-old": (30, 60.0),
        "/market/trades/list": (30, 60.0),
        "/v2/wallets": (15, 60.0),
        "/v3/orderbook": (300, 60.0),
    }
)
"""Endpoint → (requests, seconds): its documentation, rate limits. Endpoints that are not listed state none."""


class EndpointLimits:
    """Says how long a request would have to wait, and counts those that leave. Waits for nothing itself."""

    def __init__(self, monotonic: Callable[[], float], *, share: float) -> None:
        self._monotonic = monotonic
        self._limits = {
            name: (max(1, int(count * share)), seconds) for name, (count, seconds) in DOCUMENTED.items()
        }
        self._left: dict[str, deque[float]] = {name: deque() for name in DOCUMENTED}
        self._banned_until = 0.0
        self.counts: dict[str, int] = dict.fromkeys(DOCUMENTED, 0)

    def take(self, endpoint: str) -> float:
        """0.0, and the request is counted; or the seconds until it may leave, and nothing is."""
        now = self._monotonic()
        if now < self._banned_until:
            return self._banned_until - now
        limit = self._limits.get(endpoint)
        if limit is None:
            return 0.0
        count, seconds = limit
        left = self._left[endpoint]
        while left and now - left[0] >= seconds:
            left.popleft()
        if len(left) >= count:
            return left[0] + seconds - now
        left.append(now)
        self.counts[endpoint] += 1
        return 0.0

    def back_off(self, seconds: float) -> None:
        """Let nothing leave for so long, at any endpoint: ignoring it costs the account two minutes on all."""
        self._banned_until = max(self._banned_until, self._monotonic() + seconds)
