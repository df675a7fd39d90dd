"""The verdict on a rehearsal: it finds every way in which the promise can be broken."""

from __future__ import annotations

from typing import Any

import pytest

from services.mcp.order_execution.models import OrderState
from services.mcp.order_execution.rehearsal.record import Answer, Verdict, judge


def verdict(desk: Any, answer: Answer, record: Any, copies: int, discrepancies: int = 0) -> Verdict:
    """Judge one order "a": what its caller was told, what the journal holds, how often the exchange has it."""
    book = [desk.booked("a", "x-a"), desk.booked("a", "x-2")][:copies]
    return judge([desk.trace("a", answer)], record, book, discrepancies=discrepancies)


def test_an_accepted_order_that_is_there_once_is_right(desk: Any) -> None:
    """Told, journalled and booked alike: the promise was kept."""
    assert verdict(desk, Answer.ACCEPTED, {"a": desk.order("a")}, 1).ok


@pytest.mark.parametrize("answer", [Answer.REJECTED, Answer.NEVER_ARRIVED, Answer.REFUSED, Answer.NOT_SENT])
def test_a_refused_order_that_is_not_there_is_right(desk: Any, answer: Answer) -> None:
    """Nothing rests at the exchange, as the caller was told."""
    assert verdict(desk, answer, {"a": desk.order("a", OrderState.REJECTED, at=None)}, 0).ok


@pytest.mark.parametrize("answer", [Answer.REJECTED, Answer.NEVER_ARRIVED, Answer.REFUSED, Answer.NOT_SENT])
def test_a_refused_order_that_is_there_was_misjudged(desk: Any, answer: Answer) -> None:
    """The worst lie: the caller believes that nothing rests."""
    found = verdict(desk, answer, {"a": desk.order("a")}, 1)
    assert (found.misjudged, found.ok) == (("a",), False)


def test_a_second_copy_is_found(desk: Any) -> None:
    """Two orders under one id are doubled, and the one that the journal does not know is lost as well."""
    found = verdict(desk, Answer.ACCEPTED, {"a": desk.order("a")}, 2)
    assert (found.doubled, found.lost, found.ok) == (("a",), ("a",), False)


def test_an_order_that_only_the_journal_has_is_lost(desk: Any) -> None:
    """Accepted, yet not in the exchange's book."""
    found = verdict(desk, Answer.ACCEPTED, {"a": desk.order("a")}, 0)
    assert (found.lost, found.misjudged, found.ok) == (("a",), ("a",), False)


def test_an_order_that_only_the_exchange_has_is_lost(desk: Any) -> None:
    """Whoever placed it: the journal does not know it."""
    found = judge([], {}, [desk.booked(None, "x-9")], discrepancies=0)
    assert (found.lost, found.ok) == (("x-9",), False)


def test_an_order_that_is_still_unknown_is_not_passed_over(desk: Any) -> None:
    """Honest, but not what a rehearsal may end with."""
    found = verdict(desk, Answer.UNRESOLVED, {"a": desk.order("a", OrderState.UNKNOWN, at=None)}, 0)
    assert (found.unresolved, found.misjudged, found.ok) == (("a",), (), False)


def test_a_discrepancy_of_the_reconciliation_counts(desk: Any) -> None:
    """Everything else may agree; what reconciliation finds is found."""
    assert not verdict(desk, Answer.ACCEPTED, {"a": desk.order("a")}, 1, discrepancies=1).ok


def test_a_trace_takes_down_what_happened(desk: Any) -> None:
    """Times, kinds, states, that the fate was unknown, and how often it was sent again."""
    trace = desk.lived("a")
    assert [(moment.at, moment.what, moment.state) for moment in trace.moments] == [
        (0.5, "intent", OrderState.SENDING),
        (1.0, "unknown", OrderState.UNKNOWN),
        (3.0, "resend", OrderState.SENDING),
        (3.5, "accepted", OrderState.OPEN),
    ]
    assert (trace.was_unknown, trace.resends, trace.order.exchange_order_id) == (True, 1, "x-a")
    assert trace.moments[1].detail == "no answer <within> 2 s"


def test_an_unasked_order_has_no_answer(desk: Any) -> None:
    """None, rather than a guess."""
    assert desk.trace("a", None).answer is None
