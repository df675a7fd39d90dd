"""What befalls a request to a venue of the tests: said beforehand, or drawn by chance."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Self

SCRIPT_MAX: Final = 1_000


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
    """Reset after a silence, and carried out afterwards."""
    HANG_BEFORE = "hang_before"
    """Not carried out, and no answer until the caller leaves."""
    HANG_AFTER = "hang_after"
    """Carried out, and no answer until the caller leaves."""
    LIMITED = "limited"
    """The exchange's own way to say that there were too many requests; not carried out."""
    LIMITED_PAGE = "limited_page"
    """429 as a page of whoever stands in front of the exchange; not carried out."""
    ERROR_BEFORE = "error_before"
    """An HTML 5xx; not carried out."""
    ERROR_AFTER = "error_after"
    """An HTML 5xx; carried out."""
    FORBIDDEN_PAGE = "forbidden_page"
    """An HTML 403; nothing says whether it was carried out, and it was not."""
    MISSING_PAGE = "missing_page"
    """An HTML 404, from a proxy that lost its way back; carried out."""
    CUT = "cut"
    """Carried out; the connection ends amid the body."""
    HALF = "half"
    """Carried out; the body is whole and half of its JSON."""
    EMPTY = "empty"
    """Carried out; 200 with an empty body."""
    PAGE = "page"
    """Carried out; 200 with an HTML body."""
    HOLLOW = "hollow"
    """Carried out; the exchange's own words for success, and nothing within them."""
    DOUBT_BEFORE = "doubt_before"
    """The exchange's own error that says nothing about success; not carried out."""
    DOUBT_AFTER = "doubt_after"
    """The same; carried out."""


CARRIED_OUT: Final = frozenset(
    {
        *(Fate.DELIVERED, Fate.LOST_REPLY, Fate.HANG_AFTER, Fate.ERROR_AFTER, Fate.MISSING_PAGE, Fate.CUT),
        *(Fate.HALF, Fate.EMPTY, Fate.PAGE, Fate.HOLLOW, Fate.DOUBT_AFTER),
    }
)
"""The fates in which a request is carried out before its caller hears or loses anything."""
SILENT: Final = frozenset(
    {Fate.REFUSED, Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE, Fate.HANG_BEFORE, Fate.HANG_AFTER}
)
"""The fates in which the caller gets no answer at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The weather. Durations are in seconds; each request meets at most one fault."""

    rates: Mapping[Fate, float] = field(default_factory=dict)
    """How likely each fate is; the rest is delivered."""
    only: tuple[str, ...] = ()
    """Only these operations (create, cancel, query, open, closed, trades, balances, …) meet faults; empty: all."""
    silence: float = 0.02
    """So long nothing is heard before a reset."""
    hang: float = 60.0
    """So long a request hangs, if its caller is that patient."""
    late: tuple[float, float] = (0.05, 0.2)
    """How long a late request is under way."""
    late_checked_at_door: bool = False
    """Its signature is checked when it is sent: it is carried out though stale by then."""
    retry_after: str = "1"
    """What Retry-After says, where the exchange sends one."""

    @classmethod
    def from_plain(cls, told: Mapping[str, Any]) -> Self:
        """From JSON. Raises ValueError."""
        unknown = set(told) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"unknown: {sorted(unknown)}")
        given = dict(told)
        given["rates"] = {Fate(name): float(rate) for name, rate in told.get("rates", {}).items()}
        for name in ("only", "late"):
            if name in given:
                given[name] = tuple(given[name])
        return cls(**given)


class Weather:
    """Draws what befalls each request."""

    def __init__(self, rng: random.Random, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._rng = rng
        self._script: deque[tuple[str, Fate]] = deque(maxlen=SCRIPT_MAX)

    def say(self, fate: Fate | str, operation: str = "", times: int = 1) -> None:
        """Let the next requests of this operation (empty: any) meet this fate, whatever the chances are."""
        for _ in range(times):
            self._script.append((operation, Fate(fate)))

    def draw(self, operation: str) -> Fate:
        """What befalls this request."""
        for number, (wanted, fate) in enumerate(self._script):
            if wanted in ("", operation):
                del self._script[number]
                return fate
        if self.faults.only and operation not in self.faults.only:
            return Fate.DELIVERED
        chance = self._rng.random()
        for fate, rate in self.faults.rates.items():
            if chance < rate:
                return fate
            chance -= rate
        return Fate.DELIVERED

    def delay(self) -> float:
        """How long a late request is under way."""
        return self._rng.uniform(*self.faults.late)
