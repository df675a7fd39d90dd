"""The exchange's rate limits: one token bucket per kind of request, shared by all processes through its file."""

from __future__ import annotations

from enum import StrEnum

from .records import Throttled
from .settings import PaperRateLimits
from .store import Store


class Lane(StrEnum):
    """Kinds of requests that are counted apart."""

    ORDER = "order"
    CANCEL = "cancel"
    READ = "read"


class Limits:
    """Token buckets of ``burst`` tokens that fill at the configured rates."""

    def __init__(self, limits: PaperRateLimits) -> None:
        self._burst = limits.burst
        self._rates = {
            Lane.ORDER: limits.order_requests_per_second,
            Lane.CANCEL: limits.cancel_requests_per_second,
            Lane.READ: limits.read_requests_per_second,
        }

    def admit(self, store: Store, lane: Lane, now_us: int) -> Throttled | None:
        """Take a token, or say how long it takes until there is one. ``now_us`` is the exchange's own time."""
        rate = self._rates[lane]
        if rate is None:
            return None
        tokens, at_us = store.bucket(lane) or (float(self._burst), now_us)
        tokens = min(float(self._burst), tokens + (now_us - at_us) / 1e6 * rate)
        if tokens < 1.0:
            return Throttled((1.0 - tokens) / rate)
        store.save_bucket(lane, tokens - 1.0, now_us)
        return None
