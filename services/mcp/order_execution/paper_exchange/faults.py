"""What befalls one request on its way: drawn once, from an injected source of chance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from ..clock import Clock
from .settings import PaperFaults


class Fate(StrEnum):
    """What becomes of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """No connection."""
    LIMITED = "limited"
    """429."""
    LOST_REQUEST = "lost_request"
    LOST_REPLY = "lost_reply"
    LATE = "late"
    ERROR_BEFORE = "error_before"
    """5xx, not carried out."""
    ERROR_AFTER = "error_after"
    """5xx, carried out."""
    GARBLED = "garbled"
    """Carried out, and the answer cannot be understood."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The way of one request. Durations are in seconds."""

    fate: Fate
    there: float = 0.0
    back: float = 0.0
    delay: float = 0.0
    """How long a late request is under way."""


_OUTAGES = {"refused": Fate.REFUSED, "timeout": Fate.LOST_REQUEST, "server_error": Fate.ERROR_BEFORE}


class Weather:
    """Draws the passage of each request. Outages count from the making of this object."""

    def __init__(self, faults: PaperFaults, clock: Clock, rng: random.Random) -> None:
        self.faults = faults
        self._clock = clock
        self._rng = rng
        self._since = clock.monotonic()

    def passage(self) -> Passage:
        """What befalls the next request."""
        least, most = self.faults.latency_seconds
        there, back = self._rng.uniform(least, most) / 2, self._rng.uniform(least, most) / 2
        fate = self._outage() or self._fate()
        delay = self._rng.uniform(there, max(there, self.faults.late_seconds_max)) if fate is Fate.LATE else 0.0
        return Passage(fate, there, back, delay)

    def _outage(self) -> Fate | None:
        elapsed = self._clock.monotonic() - self._since
        for outage in self.faults.outages:
            if 0 <= elapsed - outage.after_seconds < outage.for_seconds:
                return _OUTAGES[outage.kind]
        return None

    def _fate(self) -> Fate:
        faults = self.faults
        half = faults.server_error / 2
        chance = self._rng.random()
        for likelihood, fate in (
            (faults.lost_request, Fate.LOST_REQUEST),
            (faults.lost_reply, Fate.LOST_REPLY),
            (faults.late_arrival, Fate.LATE),
            (faults.rate_limited, Fate.LIMITED),
            (half, Fate.ERROR_BEFORE),
            (half, Fate.ERROR_AFTER),
            (faults.garbled_reply, Fate.GARBLED),
            (faults.refused_connection, Fate.REFUSED),
        ):
            if chance < likelihood:
                return fate
            chance -= likelihood
        return Fate.DELIVERED
