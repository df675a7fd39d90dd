"""Numbers of our own, shown as prometheus_client shows its own, whoever counts and whoever looks meanwhile."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from services.mcp.order_execution.metric_families import SERIES_MAX, Counters, Family, Gauges, Histograms

BOUNDS = (0.0001, 0.005, 0.1, 1.0, 60.0)
NUMBERS = st.floats(allow_nan=True) | st.sampled_from(BOUNDS) | st.integers(-3, 100)
NAMES = st.sampled_from(["a", "b", 'quo"te\n', "other"])


def shown(*collectors: Any) -> bytes:
    """Both text formats of the collectors, with every ``_created`` at 1: no two are born at the same moment."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    told = generate_latest(registry) + open_metrics(registry)
    lines = told.decode().split("\n")
    return "\n".join(
        f"{line.rsplit(' ', 1)[0]} 1" if "_created" in line and line[0] != "#" else line for line in lines
    ).encode()


@given(st.lists(st.tuples(NAMES, st.integers(0, 10**9))))
def test_counters_show_what_the_librarys_show(updates: list[tuple[str, int]]) -> None:
    """With labels and without, in the order in which they came."""
    ours, theirs = Counters("c", "About.", ("l",), [("b",)]), Counter("c", "About.", ("l",), registry=None)
    our_one, their_one = Counters("d", "Alone."), Counter("d", "Alone.", registry=None)
    theirs.labels("b")
    for label, amount in updates:
        ours.add_many(amount, (label,))
        ours.add((label,))
        theirs.labels(label).inc(amount)
        theirs.labels(label).inc()
        our_one.add()
        their_one.inc()
        assert ours.collect() != []  # a look changes nothing
    assert shown(ours, our_one) == shown(theirs, their_one)


@given(st.lists(st.tuples(NAMES, NUMBERS | st.booleans())))
def test_gauges_show_what_the_librarys_show(updates: list[tuple[str, float]]) -> None:
    """Whatever number they are set to."""
    ours, theirs = Gauges("g", "About.", ("l", "m")), Gauge("g", "About.", ("l", "m"), registry=None)
    our_one, their_one = Gauges("h", "Alone."), Gauge("h", "Alone.", registry=None)
    for label, value in updates:
        ours.set(value, (label, "x"))
        theirs.labels(label, "x").set(value)
        our_one.set(value)
        their_one.set(value)
    assert shown(ours, our_one) == shown(theirs, their_one)


@given(st.lists(st.tuples(NAMES, NUMBERS)))
def test_histograms_show_what_the_librarys_show(updates: list[tuple[str, float]]) -> None:
    """On a bound, beyond the last, below zero, infinite, and what is no number."""
    ours = Histograms("h", "About.", ("l",), BOUNDS)
    theirs = Histogram("h", "About.", ("l",), buckets=BOUNDS, registry=None)
    our_one, their_one = (
        Histograms("i", "Alone.", (), BOUNDS),
        Histogram("i", "Alone.", buckets=BOUNDS, registry=None),
    )
    for label, amount in updates:
        ours.observe(amount, (label,))
        theirs.labels(label).observe(amount)
        our_one.observe(amount)
        their_one.observe(amount)
    assert shown(ours, our_one) == shown(theirs, their_one)


@pytest.fixture
def without_created() -> Iterator[None]:
    disable_created_metrics()
    yield
    enable_created_metrics()


def test_since_when_is_shown_unless_the_library_is_told_not_to(without_created: None) -> None:
    """``disable_created_metrics()`` or its environment variable holds for ours too."""
    ours = (Counters("c", "C."), Histograms("h", "H.", (), BOUNDS), Gauges("g", "G."))
    theirs = (
        Counter("c", "C.", registry=None),
        Histogram("h", "H.", buckets=BOUNDS, registry=None),
        Gauge("g", "G.", registry=None),
    )
    assert shown(*ours) == shown(*theirs)
    assert b"_created" not in shown(*ours)
    enable_created_metrics()
    assert shown(*ours) == shown(*theirs)
    assert b"_created" in shown(*ours)


def test_it_counts_from_its_first_update_on() -> None:
    """The time of the machine, as the library's."""
    ours, theirs = Counters("c", "About."), Counter("c", "About.", registry=None)
    (one,), (other,) = ours.collect(), theirs.collect()
    assert one.samples[1].name == other.samples[1].name == "c_created"
    assert one.samples[1].value == pytest.approx(other.samples[1].value, abs=60)


def test_names_clash_as_the_librarys_do() -> None:
    """With each other and with the library's own, the derived names included."""
    for make in (lambda: Counters("c", "About."), lambda: Histograms("h", "About.", (), BOUNDS)):
        registry = CollectorRegistry()
        registry.register(make())
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(make())
    with pytest.raises(ValueError, match="Duplicated"):
        Gauge("h_count", "Another's.", registry=registry)


def test_beyond_the_bound_everything_is_other() -> None:
    """What was known before stays; nothing goes uncounted."""
    counters, gauges, histograms = (
        Counters("c", "C.", ("l",)),
        Gauges("g", "G.", ("l",)),
        Histograms("h", "H.", ("l",), BOUNDS),
    )
    for number in range(SERIES_MAX + 7):
        counters.add((f"l{number}",))
        gauges.set(number, (f"l{number}",))
        histograms.observe(1, (f"l{number}",))
    counters.add(("l0",))
    registry = CollectorRegistry()
    for family in (counters, gauges, histograms):
        registry.register(family)
    assert registry.get_sample_value("c_total", {"l": "other"}) == 7
    assert registry.get_sample_value("c_total", {"l": "l0"}) == 2
    assert registry.get_sample_value("g", {"l": "other"}) == SERIES_MAX + 6
    assert registry.get_sample_value("h_count", {"l": "other"}) == 7


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_lose_no_update_and_no_scrape_sees_half_of_one(restless: None) -> None:
    """Several count while one looks on: sums come out exact, and each look is consistent."""
    counters, histograms = Counters("c", "C.", ("l",)), Histograms("h", "H.", ("l",), BOUNDS)
    done = threading.Event()
    torn: list[Any] = []

    def count(name: str) -> None:
        for number in range(3_000):
            counters.add((str(number % 3),))
            histograms.observe(0.5, ("all",))
            counters.add_many(2, ("twice",))
            counters.add((name,))  # a new series now and then, while somebody looks

    def look() -> None:
        while not done.is_set():
            (family,) = histograms.collect()
            told = {sample.name: sample.value for sample in family.samples}
            if told and told["h_sum"] != told["h_count"] / 2:
                torn.append(told)
            counters.collect()

    workers = [threading.Thread(target=count, args=(f"t{number}",)) for number in range(4)]
    looker = threading.Thread(target=look)
    for thread in (looker, *workers):
        thread.start()
    for thread in workers:
        thread.join(60)
    done.set()
    looker.join(60)
    assert torn == []
    registry = CollectorRegistry()
    registry.register(counters)
    registry.register(histograms)
    assert sum(registry.get_sample_value("c_total", {"l": str(n)}) or 0 for n in range(3)) == 12_000
    assert registry.get_sample_value("c_total", {"l": "twice"}) == 24_000
    assert [registry.get_sample_value("c_total", {"l": f"t{n}"}) for n in range(4)] == [3_000] * 4
    assert registry.get_sample_value("h_count", {"l": "all"}) == 12_000
    assert registry.get_sample_value("h_sum", {"l": "all"}) == 6_000


@pytest.mark.parametrize("make", [Counters, Gauges])
def test_a_family_describes_itself_without_a_sample(make: Callable[..., Family[float]]) -> None:
    """A registry asks for the name before it takes it."""
    (about,) = make("n", "About.").describe()
    assert (about.name, about.documentation, about.type, about.samples) == ("n", "About.", make.kind, [])  # type: ignore[attr-defined]
