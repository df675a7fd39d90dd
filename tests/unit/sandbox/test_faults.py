"""What befalls requests: chances, outages, and what was said beforehand."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from pydantic import ValidationError

from services.mcp.order_execution.sandbox.faults import Fate, Weather
from services.mcp.order_execution.sandbox.settings import WireFaults
from tests.unit.sandbox.desk import HandClock


def weather(clock: HandClock | None = None, **faults: object) -> Weather:
    return Weather(WireFaults.model_validate(faults), clock or HandClock(), random.Random(1))


@pytest.mark.parametrize(
    ("name", "fates"),
    [
        ("lost_request", {Fate.LOST_REQUEST}),
        ("lost_reply", {Fate.LOST_REPLY}),
        ("late_arrival", {Fate.LATE}),
        ("rate_limited", {Fate.LIMITED}),
        ("bare_429", {Fate.LIMITED_BARE}),
        ("server_error", {Fate.ERROR_BEFORE, Fate.ERROR_AFTER}),
        ("garbled_reply", {Fate.CUT, Fate.JUNK}),
        ("refused_connection", {Fate.REFUSED}),
        ("hang", {Fate.HANG_BEFORE, Fate.HANG_AFTER}),
        ("lost_event", {Fate.DELIVERED}),
    ],
)
def test_each_chance_has_its_fates(name: str, fates: set[Fate]) -> None:
    """At certainty nothing else happens; where there are two, both do."""
    sky = weather(**{name: 1.0})
    assert {sky.passage("/x").fate for _ in range(50)} == fates


def test_chances_are_what_they_say() -> None:
    """Within what a thousand draws can tell."""
    sky = weather(lost_reply=0.2, hang=0.1)
    seen = Counter(sky.passage("/x").fate for _ in range(1000))
    assert 150 < seen[Fate.LOST_REPLY] < 250
    assert 60 < seen[Fate.HANG_BEFORE] + seen[Fate.HANG_AFTER] < 140
    assert seen[Fate.DELIVERED] > 600


def test_faults_can_be_kept_to_some_paths() -> None:
    """``only`` names how they begin."""
    sky = weather(lost_reply=1.0, only=["/market/orders/add"])
    assert sky.passage("/market/orders/add").fate is Fate.LOST_REPLY
    assert sky.passage("/market/orders/list").fate is Fate.DELIVERED


def test_what_was_said_comes_first_and_once() -> None:
    """The next request to such a path meets it, others do not."""
    sky = weather(lost_reply=1.0)
    sky.say(Fate.DELIVERED, "/b")
    sky.say(Fate.LATE)
    assert [sky.passage(path).fate for path in ("/a", "/b", "/a")] == [Fate.LATE, Fate.DELIVERED, Fate.LOST_REPLY]


def test_outages_count_from_the_beginning() -> None:
    """Each with its kind."""
    clock = HandClock()
    kinds = [("refused", 10), ("timeout", 20), ("server_error", 30)]
    sky = weather(
        clock, outages=[{"after_seconds": after, "for_seconds": 5, "kind": kind} for kind, after in kinds]
    )
    seen = []
    for _ in range(8):
        seen.append(sky.passage("/x").fate)
        clock.advance(5)
    assert seen == [
        Fate.DELIVERED,
        Fate.DELIVERED,
        Fate.REFUSED,
        Fate.DELIVERED,
        Fate.LOST_REQUEST,
        Fate.DELIVERED,
        Fate.ERROR_BEFORE,
        Fate.DELIVERED,
    ]


def test_late_requests_are_late_within_bounds() -> None:
    """Between the least and the most."""
    sky = weather(late_arrival=1.0, late_seconds_min=31, late_seconds_max=33, latency_seconds=(0.1, 0.2))
    for _ in range(20):
        passage = sky.passage("/x")
        assert 31 <= passage.delay <= 33
        assert 0.05 <= passage.there <= 0.1


@pytest.mark.parametrize(
    "faults",
    [
        {"lost_reply": 0.6, "hang": 0.5},
        {"lost_reply": 0.6, "bare_429": 0.5},
        {"hang": 1.1},
        {"late_seconds_min": 5, "late_seconds_max": 4},
        {"unknown": 1},
        {"refuse_adds": "Whatever"},
    ],
)
def test_faults_that_make_no_sense_are_refused(faults: dict[str, object]) -> None:
    """When they are made, not when they strike."""
    with pytest.raises(ValidationError):
        WireFaults.model_validate(faults)
