"""Small sums for the statistics that an executor tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

KNOWN_OUTCOMES: Final = ("accepted", "rejected", "not_sent", "unresolved", "invalid")


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
