"""The books of one reconciliation: every order is counted once, in one slice; details are bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.mcp.order_execution import reconciliation_run
from services.mcp.order_execution.exchange_reading import Listing
from services.mcp.order_execution.journals.codec import to_micros
from services.mcp.order_execution.models import Discrepancy
from services.mcp.order_execution.reconciliation_run import Run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run() -> Run:
    """From noon to two, nothing done yet."""
    return Run(NOON, NOON + 2 * HOUR, NOON + 2 * HOUR, 10, NOON, NOON + 2 * HOUR)


def test_an_order_of_the_period_is_due_in_the_slice_of_its_creation() -> None:
    """However often it is met."""
    books = run()
    for begin in (NOON, NOON + HOUR):
        books.enter(begin, begin + HOUR, Listing())
        assert books.is_due(to_micros(NOON + HOUR), "o1") == (begin == NOON + HOUR)
        assert books.is_due(to_micros(NOON + HOUR) - 1, "o2") == (begin == NOON)


def test_an_older_order_is_due_once_where_it_is_met() -> None:
    """It has no slice of its own."""
    books = run()
    books.enter(NOON, NOON + HOUR, Listing())
    assert books.is_due(to_micros(NOON - HOUR), "elder")
    books.enter(NOON + HOUR, NOON + 2 * HOUR, Listing())
    assert not books.is_due(to_micros(NOON - HOUR), "elder")


def test_what_was_known_is_kept_for_one_more_slice() -> None:
    """Lists reach a little over the end of a slice."""
    books = run()
    books.enter(NOON, NOON + HOUR, Listing())
    books.known.add("X1")
    books.enter(NOON + HOUR, NOON + 2 * HOUR, Listing())
    assert (books.known, books.known_before) == (set(), {"X1"})


def test_details_are_bounded_and_repairs_are_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that is wholly wrong fills no memory."""
    monkeypatch.setattr(reconciliation_run, "MAX_DETAILS", 2)
    books = run()
    for number in range(5):
        books.found(Discrepancy("extra", f"o{number}", None, None, {}, True, "adopted"))
    assert (len(books.details), books.repaired) == (2, 5)
