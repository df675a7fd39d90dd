"""Small sums for the statistics that an executor tells of itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import ExecutorClosed, InvalidOrder, OrderNotSent, OrderRejected, OrderUnresolved

KNOWN_OUTCOMES: Final = ("accepted", "rejected", "not_sent", "unresolved", "invalid")


_OUTCOME_OF: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (InvalidOrder, "invalid"),
    (OrderNotSent, "not_sent"),
    (ExecutorClosed, "not_sent"),
    (OrderRejected, "rejected"),
    (OrderUnresolved, "unresolved"),
    (asyncio.CancelledError, "cancelled"),
)


def outcome_of(error: BaseException) -> str:
    """What a call that raised this counts as."""
    return next((name for kind, name in _OUTCOME_OF if isinstance(error, kind)), "failed")


class Outcomes:
    """How many calls ended how."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter(dict.fromkeys(KNOWN_OUTCOMES, 0))

    def count(self, outcome: str) -> None:
        """Count one call."""
        self._counts[outcome] += 1

    def counts(self) -> Mapping[str, int]:
        """Outcome → number of calls; the known outcomes are always there."""
        return dict(self._counts)


def quantile(values: Sequence[float], q: float) -> float | None:
    """The ``q`` quantile by nearest rank; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
