"""Counters, gauges and histograms that count in plain numbers, and become Prometheus's only when it asks.

They stand beside prometheus_client's own, whose every update is a handful of calls, several times on each order's
way. What a scrape shows is the same, sample by sample; a test holds the two against each other. One thing they
do not take part in is prometheus_client's multi-process mode, in which many processes share one scrape.

Any thread may update and any may scrape. Adding to a number is a reading and a writing, between which another
thread may come: so counters count by one call into C, which none can come between, and histograms under a lock.
New series and scrapes take the lock too; nothing that waits is done while it is held.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import count
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from .clock import SystemClock

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SERIES_MAX: Final = 500
"""Label combinations per metric; what comes beyond is counted under ``other``."""

Labels = tuple[str, ...]
V = TypeVar("V")

_Told = Iterable[tuple[str, dict[str, str], float]]
"""The samples of one series: what is added to the name and to the labels, and the number."""


class Family(ABC, Generic[V]):
    """One metric: a value for each combination of labels. A collector in the sense of prometheus_client.

    A combination is there from the first update on; those in ``known``, and a metric without labels, from the
    beginning.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, about: str, labels: Labels = (), known: Iterable[Labels] = ()) -> None:
        self._name = name
        self._about = about
        self._labelnames = labels  # called as in the library: docs/generate.py reads it from both
        self._lock = Lock()
        self._values: dict[Labels, V] = {}
        self._began: dict[Labels, float] = {}
        for combination in known if labels else [()]:
            self._begin(combination)

    def describe(self) -> list[Metric]:
        """Name and kind without a sample, for the registry."""
        from prometheus_client.core import Metric  # noqa: PLC0415 - it takes time, and not all need it

        return [Metric(self._name, self._about, self.kind)]

    def collect(self) -> list[Metric]:
        """Everything counted so far, for a scrape."""
        from prometheus_client.core import Sample  # noqa: PLC0415

        with self._lock:
            taken = [(labels, self._began[labels], self._copy(value)) for labels, value in self._values.items()]
        dated = _shows_created()
        (family,) = self.describe()
        for values, began, value in taken:
            labels = dict(zip(self._labelnames, values, strict=True))
            for suffix, more, number in self._told(value, began, dated):
                family.samples.append(Sample(self._name + suffix, {**labels, **more}, number))
        return [family]

    def _begin(self, labels: Labels) -> Labels:
        """Make room for a combination, under the lock; return the one that it is counted under."""
        shown = tuple(map(str, labels))
        if shown not in self._values and len(self._values) >= SERIES_MAX:
            shown = ("other",) * len(shown)
        if shown not in self._values:
            self._values[shown] = self._new()
            self._began[shown] = SystemClock().now().timestamp()
        return shown

    @abstractmethod
    def _new(self) -> V:
        """The value to begin with."""

    @abstractmethod
    def _copy(self, value: V) -> V:
        """The value as it is now, under the lock."""

    @abstractmethod
    def _told(self, value: V, began: float, dated: bool) -> _Told:
        """What a scrape shows of one value; with ``dated``, since when it counts."""


class _Count:
    """A number that grows by one, for any thread without a lock: ``next`` of itertools.count is one call into C."""

    __slots__ = ("_looks", "_more", "one_more")

    def __init__(self, more: int = 0) -> None:
        self.one_more = count().__next__
        self._looks = 0
        self._more = more

    def add(self, amount: int) -> None:
        """Let it grow by several, under the lock."""
        self._more += amount

    def read(self) -> int:
        """What it stands at, under the lock. Looking makes the count grow as well: that is taken off again."""
        counted = self.one_more() - self._looks
        self._looks += 1
        return counted + self._more


class Counters(Family[_Count]):
    """Numbers that only grow. ``_total`` is added to their name."""

    kind = "counter"

    def add(self, labels: Labels = ()) -> None:
        """Count one more."""
        try:
            self._values[labels].one_more()
        except KeyError:
            self.add_many(1, labels)

    def add_many(self, amount: int, labels: Labels = ()) -> None:
        """Count several more."""
        with self._lock:
            self._values[self._begin(labels)].add(amount)

    def _new(self) -> _Count:
        return _Count()

    def _copy(self, value: _Count) -> _Count:
        return _Count(value.read())

    def _told(self, value: _Count, began: float, dated: bool) -> _Told:
        yield "_total", {}, float(value.read())
        if dated:
            yield "_created", {}, began


class Gauges(Family[float]):
    """Numbers that go up and down."""

    kind = "gauge"

    def set(self, value: float, labels: Labels = ()) -> None:
        """Say how things stand."""
        if labels not in self._values:
            with self._lock:
                labels = self._begin(labels)
        self._values[labels] = float(value)

    def _new(self) -> float:
        return 0.0

    def _copy(self, value: float) -> float:
        return value

    def _told(self, value: float, began: float, dated: bool) -> _Told:
        yield "", {}, value


class _Distribution:
    """How many observations fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, counts: list[int], total: float = 0.0) -> None:
        self.counts = counts
        self.total = total


class Histograms(Family[_Distribution]):
    """Distributions over buckets, given by their upper bounds without the last, which is infinite."""

    kind = "histogram"

    def __init__(
        self, name: str, about: str, labels: Labels, bounds: Sequence[float], known: Iterable[Labels] = ()
    ) -> None:
        self._bounds = tuple(map(float, bounds))
        super().__init__(name, about, labels, known)

    def observe(self, amount: float, labels: Labels = ()) -> None:
        """Take note of one observation. What is no number falls into no bucket."""
        with self._lock:
            value = self._values.get(labels)
            if value is None:
                value = self._values[self._begin(labels)]
            value.total += amount
            if amount == amount:  # noqa: PLR0124 - not so for NaN
                value.counts[bisect_left(self._bounds, amount)] += 1

    def _new(self) -> _Distribution:
        return _Distribution([0] * (len(self._bounds) + 1))

    def _copy(self, value: _Distribution) -> _Distribution:
        return _Distribution(value.counts.copy(), value.total)

    def _told(self, value: _Distribution, began: float, dated: bool) -> _Told:
        seen = 0.0
        for bound, here in zip((*self._bounds, inf), value.counts, strict=True):
            seen += here
            yield "_bucket", {"le": "+Inf" if bound == inf else repr(bound)}, seen
        yield "_count", {}, seen
        yield "_sum", {}, value.total
        if dated:
            yield "_created", {}, began


def _shows_created() -> bool:
    """Whether prometheus_client is set to show since when counters count; only its own counters tell."""
    from prometheus_client import Counter  # noqa: PLC0415

    (family,) = Counter("asked", "Asked.", registry=None).collect()
    return len(family.samples) > 1
