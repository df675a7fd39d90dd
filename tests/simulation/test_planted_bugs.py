"""The test of the test: each planted bug makes the simulation fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.exhaustive import attempt, singles
from tests.simulation.sabotage import SABOTAGES, planted
from tests.simulation.shrink import failure_of

SEEDS = 400
KINDS = ("ids unique and found among open orders", "ids unique and found for ever")
RARE_ONES = {"events are told before earlier ones are durable": 780}
"""Bugs that few worlds show: where to begin to look."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_planted_bug_is_caught(name: str) -> None:
    """By a world, or by one of the single faults."""
    first = RARE_ONES.get(name, 0)
    with planted(name):
        caught = any(failure_of(seed) is not None for seed in range(first, first + 40))
        caught = caught or any(attempt(plan, kind)[1] is not None for kind in KINDS for plan in singles(kind))
        caught = caught or any(failure_of(seed) is not None for seed in range(first + 40, first + SEEDS))
    assert caught


def test_there_are_enough_of_them() -> None:
    """At least a dozen, and nothing of them stays in the code."""
    assert len(SABOTAGES) >= 12
    assert failure_of(0) is None
