"""Chance by name: each decision is drawn from the seed and its own key, so leaving one out shifts no other.

That is what makes a failing world shrinkable: any subset of its faults can be switched off, and the rest of the
world decides as before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_RANGE = float(2**64)


class Dice:
    """Draws for one world. ``only``: the faults that may happen; None lets all that are drawn happen."""

    def __init__(self, seed: int, only: Collection[str] | None = None) -> None:
        self.seed = seed
        self.only = only
        self.happened: dict[str, str] = {}
        """Every fault that happened: key → kind."""
        self.good = False
        """True once the bad day is over: no fault happens any more."""
        self._prefix = f"{seed}:".encode()
        self._counts: Counter[str] = Counter()

    def number(self, key: str) -> float:
        """Draw from 0 ≤ x < 1."""
        return int.from_bytes(blake2b(self._prefix + key.encode(), digest_size=8).digest()) / _RANGE

    def between(self, key: str, low: float, high: float) -> float:
        """Draw from a range."""
        return low + self.number(key) * (high - low)

    def chance(self, key: str, probability: float) -> bool:
        """Draw yes or no."""
        return self.number(key) < probability

    def whole(self, key: str, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return low + int(self.number(key) * (high - low + 1))

    def pick(self, key: str, choices: Sequence[T]) -> T:
        """Draw one of several."""
        return choices[int(self.number(key) * len(choices))]

    def next_key(self, site: str) -> str:
        """Name the next decision at a site: ``submit#3``."""
        self._counts[site] += 1
        return f"{site}#{self._counts[site]}"

    def fault(self, site: str, kinds: Sequence[str], probability: float) -> tuple[str, str | None]:
        """Decide whether a fault happens here, and which: its key, and its kind or None."""
        key = self.next_key(site)
        if self.good or not kinds or not self.chance(key, probability):
            return key, None
        if self.only is not None and key not in self.only:
            return key, None
        kind = self.pick(f"{key}:kind", kinds)
        self.happened[key] = kind
        return key, kind
