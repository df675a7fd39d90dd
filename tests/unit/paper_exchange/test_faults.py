"""What befalls a request: drawn once, from the chances that the settings give."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from services.mcp.order_execution.paper_exchange.faults import Fate, Weather
from services.mcp.order_execution.paper_exchange.settings import PaperFaults, PaperOutage
from tests.unit.paper_exchange.desk import ManualClock


def weather(faults: PaperFaults, seed: int = 1, clock: ManualClock | None = None) -> Weather:
    return Weather(faults, clock or ManualClock(), random.Random(seed))


def test_on_a_good_day_everything_is_delivered_at_once() -> None:
    """No fault, no latency."""
    passages = [weather(PaperFaults()).passage() for _ in range(50)]
    assert {(passage.fate, passage.there, passage.back) for passage in passages} == {(Fate.DELIVERED, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("faults", "fates"),
    [
        (PaperFaults(lost_request=1), {Fate.LOST_REQUEST}),
        (PaperFaults(lost_reply=1), {Fate.LOST_REPLY}),
        (PaperFaults(late_arrival=1), {Fate.LATE}),
        (PaperFaults(rate_limited=1), {Fate.LIMITED}),
        (PaperFaults(server_error=1), {Fate.ERROR_BEFORE, Fate.ERROR_AFTER}),
        (PaperFaults(garbled_reply=1), {Fate.GARBLED}),
        (PaperFaults(refused_connection=1), {Fate.REFUSED}),
    ],
)
def test_a_certain_fault_strikes_every_time(faults: PaperFaults, fates: set[Fate]) -> None:
    """And a server error is carried out or not."""
    sky = weather(faults)
    assert {sky.passage().fate for _ in range(100)} == fates


def test_chances_are_what_they_say() -> None:
    """Over many draws, each fault comes about as often as configured."""
    sky = weather(
        PaperFaults(lost_request=0.1, lost_reply=0.1, late_arrival=0.1, rate_limited=0.1, server_error=0.2)
    )
    seen = Counter(sky.passage().fate for _ in range(20_000))
    for fate in (Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE, Fate.LIMITED, Fate.ERROR_BEFORE, Fate.ERROR_AFTER):
        assert 0.09 < seen[fate] / 20_000 < 0.11, fate
    assert 0.38 < seen[Fate.DELIVERED] / 20_000 < 0.42


def test_the_same_seed_gives_the_same_weather() -> None:
    """So that a bad day can be had again."""
    faults = PaperFaults(lost_reply=0.5, latency_seconds=(0.1, 0.9))
    one, other = weather(faults, 5), weather(faults, 5)
    assert [one.passage() for _ in range(50)] == [other.passage() for _ in range(50)]


def test_latency_lies_between_its_bounds() -> None:
    """There and back together."""
    sky = weather(PaperFaults(latency_seconds=(0.1, 0.3)))
    for _ in range(200):
        passage = sky.passage()
        assert 0.1 <= passage.there + passage.back <= 0.3


def test_a_late_request_takes_up_to_its_bound() -> None:
    """Never less than its way would take anyhow."""
    sky = weather(PaperFaults(late_arrival=1, late_seconds_max=2.0))
    delays = [sky.passage().delay for _ in range(300)]
    assert 0 < min(delays) < 0.1
    assert 1.9 < max(delays) <= 2.0
    slow = weather(PaperFaults(late_arrival=1, late_seconds_max=0.0, latency_seconds=(1.0, 1.0)))
    assert slow.passage().delay == 0.5


@pytest.mark.parametrize(
    ("kind", "fate"),
    [("refused", Fate.REFUSED), ("timeout", Fate.LOST_REQUEST), ("server_error", Fate.ERROR_BEFORE)],
)
def test_an_outage_lasts_from_its_begin_to_its_end(kind: str, fate: Fate) -> None:
    """Counted from the opening, on a clock that does not jump."""
    clock = ManualClock()
    outage = PaperOutage.model_validate({"after_seconds": 10, "for_seconds": 5, "kind": kind})
    sky = weather(PaperFaults(outages=(outage,)), clock=clock)
    seen = []
    for _ in range(20):
        seen.append(sky.passage().fate)
        clock.advance(1)
        clock.jump(-3)
    assert [number for number, one in enumerate(seen) if one is fate] == [10, 11, 12, 13, 14]
    assert set(seen) == {fate, Fate.DELIVERED}
