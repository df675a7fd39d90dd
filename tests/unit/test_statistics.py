"""The small sums that an executor tells of itself."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution.errors import (
    ExecutorHalted,
    InvalidOrder,
    JournalError,
    OrderRejected,
    OrderUnresolved,
)
from services.mcp.order_execution.statistics import Outcomes, outcome_of, quantile


def test_known_outcomes_are_always_told() -> None:
    """A count of nought is a fact, and a missing key is a trap."""
    assert Outcomes().counts() == {"accepted": 0, "rejected": 0, "not_sent": 0, "unresolved": 0, "invalid": 0}


def test_outcomes_are_counted() -> None:
    """Known ones and others alike; what was told before does not change."""
    outcomes = Outcomes()
    before = outcomes.counts()
    for outcome in ("accepted", "accepted", "cancelled"):
        outcomes.count(outcome)
    assert (outcomes.counts()["accepted"], outcomes.counts()["cancelled"]) == (2, 1)
    assert before["accepted"] == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidOrder("amount", "a number"), "invalid"),
        (ExecutorHalted("drill"), "not_sent"),
        (OrderRejected("a", "no"), "rejected"),
        (OrderUnresolved("a", "silence"), "unresolved"),
        (asyncio.CancelledError(), "cancelled"),
        (JournalError("disk"), "failed"),
        (ZeroDivisionError(), "failed"),
    ],
)
def test_each_error_has_its_outcome(error: BaseException, outcome: str) -> None:
    """By its type, or by what it derives from."""
    assert outcome_of(error) == outcome


def test_quantiles_are_values_that_occurred() -> None:
    """By nearest rank, in any order, the ends included; None without values."""
    values = [float(number) for number in (5, 1, 4, 2, 3)]
    assert quantile(values, 0.5) == 3.0
    assert quantile(values, 0.99) == quantile(values, 1.0) == 5.0
    assert quantile(values, 0.0) == 1.0
    assert quantile([], 0.5) is None
    assert quantile([7.0], 0.99) == 7.0
