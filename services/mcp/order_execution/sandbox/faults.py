"""What befalls one request at the wire: drawn from an injected source of chance, or said beforehand."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..clock import Clock
from .settings import WireFaults

SCRIPT_MAX: Final = 1_000
"""So many fates may be said beforehand."""


class Fate(StrEnum):
    """What becomes of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """Reset at once; not carried out."""
    LOST_REQUEST = "lost_request"
    """Reset after a silence; not carried out."""
    LOST_REPLY = "lost_reply"
    """Carried out, then reset after a silence."""
    LATE = "late"
    """Reset, and carried out afterwards."""
    HANG_BEFORE = "hang_before"
    """Not carried out, and no answer until the caller leaves."""
    HANG_AFTER = "hang_after"
    """Carried out, and no answer until the caller leaves."""
    LIMITED = "limited"
    """429 with ``backOff``."""
    LIMITED_BARE = "limited_bare"
    """429 as a page."""
    ERROR_BEFORE = "error_before"
    """An HTML 5xx; not carried out."""
    ERROR_AFTER = "error_after"
    """An HTML 5xx; carried out."""
    CUT = "cut"
    """Carried out; the connection ends amid the body."""
    JUNK = "junk"
    """Carried out; the body is whole and no JSON."""


CARRIED_OUT: Final = frozenset(
    {Fate.DELIVERED, Fate.LOST_REPLY, Fate.HANG_AFTER, Fate.ERROR_AFTER, Fate.CUT, Fate.JUNK}
)
"""The fates in which a request is carried out before its caller hears or loses anything."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The way of one request. Durations are in seconds."""

    fate: Fate
    there: float = 0.0
    back: float = 0.0
    delay: float = 0.0
    """How long a late request is under way."""


_OUTAGES: Final = {"refused": Fate.REFUSED, "timeout": Fate.LOST_REQUEST, "server_error": Fate.ERROR_BEFORE}


class Weather:
    """Draws the passage of each request. Outages count from the making of this object."""

    def __init__(self, faults: WireFaults, clock: Clock, rng: random.Random) -> None:
        self.faults = faults
        self._clock = clock
        self._rng = rng
        self._since = clock.monotonic()
        self._script: deque[tuple[str, Fate]] = deque(maxlen=SCRIPT_MAX)

    def say(self, fate: Fate, path: str = "") -> None:
        """Let the next request to a path that begins so meet this fate, whatever the chances are."""
        self._script.append((path, fate))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return probability > 0.0 and self._rng.random() < probability

    def passage(self, path: str) -> Passage:
        """What befalls the next request, which goes to this path."""
        faults = self.faults
        fate = self._said(path)
        if fate is None:
            exempt = bool(faults.only) and not path.startswith(faults.only)
            fate = Fate.DELIVERED if exempt else self._outage() or self._drawn()
        there, back = (self._rng.uniform(*faults.latency_seconds) / 2 for _ in range(2))
        late = fate is Fate.LATE
        delay = self._rng.uniform(faults.late_seconds_min, faults.late_seconds_max) if late else 0.0
        return Passage(fate, there, back, delay)

    def _said(self, path: str) -> Fate | None:
        for number, (prefix, fate) in enumerate(self._script):
            if path.startswith(prefix):
                del self._script[number]
                return fate
        return None

    def _outage(self) -> Fate | None:
        elapsed = self._clock.monotonic() - self._since
        for outage in self.faults.outages:
            if 0 <= elapsed - outage.after_seconds < outage.for_seconds:
                return _OUTAGES[outage.kind]
        return None

    def _drawn(self) -> Fate:
        faults = self.faults
        chance = self._rng.random()
        for likelihood, *fates in (
            (faults.lost_request, Fate.LOST_REQUEST),
            (faults.lost_reply, Fate.LOST_REPLY),
            (faults.late_arrival, Fate.LATE),
            (faults.rate_limited, Fate.LIMITED),
            (faults.bare_429, Fate.LIMITED_BARE),
            (faults.server_error, Fate.ERROR_BEFORE, Fate.ERROR_AFTER),
            (faults.garbled_reply, Fate.CUT, Fate.JUNK),
            (faults.refused_connection, Fate.REFUSED),
            (faults.hang, Fate.HANG_BEFORE, Fate.HANG_AFTER),
        ):
            if chance < likelihood:
                return self._rng.choice(fates)
            chance -= likelihood
        return Fate.DELIVERED
