"""One reconciliation under way: what was read, and what was found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from .exchange_reading import Listing
from .gateways.base import ExchangeOrder
from .journals.codec import to_micros
from .models import Discrepancy, Order

MAX_DETAILS: Final = 1_000
"""Discrepancies kept in a report; the counts are exact beyond it."""


@dataclass(slots=True)
class Run:
    """One run: what was read, and what was found so far."""

    since: datetime
    until: datetime
    started: datetime
    lookups: int
    """How many more orders may be looked up one by one."""
    begin: datetime
    end: datetime
    """The slice of the period that is being compared."""
    exchange: Listing = field(default_factory=Listing)
    """What the exchange lists for this slice."""
    known: set[str] = field(default_factory=set)
    """Exchange ids of orders that are ours and were met in this slice."""
    known_before: set[str] = field(default_factory=set)
    """Those of the slice before: listings reach a little over its end."""
    late: dict[str, ExchangeOrder] = field(default_factory=dict)
    """Listed at the very end of this slice and not met: our record may stand in the next one."""
    strangers: dict[str, ExchangeOrder] = field(default_factory=dict)
    """Listed, and not in the journal."""
    elders: set[str] = field(default_factory=set)
    """Orders of ours from before the period that were counted."""
    in_flight: dict[str, Order] = field(default_factory=dict)
    total: int = 0
    matched: int = 0
    mismatched: int = 0
    missing: int = 0
    extra: int = 0
    unresolved: int = 0
    repaired: int = 0
    details: list[Discrepancy] = field(default_factory=list)
    _micros: tuple[int, int, int, int] = field(init=False)
    """Beginnings and ends of the period and the slice, as the journal keeps times; every order is held to them."""

    def __post_init__(self) -> None:
        self._measure()

    def enter(self, begin: datetime, end: datetime, exchange: Listing) -> None:
        """Go on to a slice, with what the exchange lists for it."""
        self.begin, self.end, self.exchange = begin, end, exchange
        self.known_before, self.known = self.known, set()
        self._measure()

    def _measure(self) -> None:
        since, begin, end, until = map(to_micros, (self.since, self.begin, self.end, self.until))
        self._micros = since, begin, end, until

    def is_due(self, created: int, order_id: str) -> bool:
        """Whether an order of ours is counted here: in the slice of its creation; an older one where it is met.

        ``created``: in microseconds since 1970, as the journal keeps it.
        """
        since, begin, end, until = self._micros
        if begin <= created < end:
            return True
        if since <= created < until:
            return False
        if order_id in self.elders:
            return False
        self.elders.add(order_id)
        return True

    def found(self, discrepancy: Discrepancy) -> None:
        """Keep a discrepancy, up to the bound."""
        self.repaired += discrepancy.repaired
        if len(self.details) < MAX_DETAILS:
            self.details.append(discrepancy)
