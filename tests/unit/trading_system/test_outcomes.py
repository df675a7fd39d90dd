"""Three outcomes: FAILED only where it is proved that nothing of an order rests or may arrive."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.errors import (
    CircuitOpen,
    DuplicateOrder,
    ExecutorClosed,
    InvalidOrder,
    JournalError,
    JournalUnavailable,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
)
from services.mcp.order_execution.lifecycle import new_order
from services.mcp.order_execution.models import Order, OrderState
from services.mcp.order_execution.parameters import parse_request
from tests.fakes import T0
from trading_system.execution.outcomes import Known, message_of, nothing_rests, outcome_of, phase_of, standing
from trading_system.execution.results import ExecutionOutcome, ExecutionPhase
from trading_system.execution.risk import OrderForbidden

SUCCESS, FAILED, UNRESOLVED = ExecutionOutcome.SUCCESS, ExecutionOutcome.FAILED, ExecutionOutcome.UNRESOLVED
PARAMS = {"client_order_id": "o1", "symbol": "BTC/USD", "side": "buy", "type": "limit", "amount": 1, "price": 5}
REFUSALS: list[Exception] = [
    InvalidOrder("timeout", "a number"),
    OrderForbidden("no"),
    DuplicateOrder("o1", ("price",)),
]
PROOFS: list[Exception] = [OrderNotSent("no"), CircuitOpen("submit", retry_after=1.0), OrderRejected("o1", "no")]
NO_PROOFS: list[Exception] = [
    ExecutorClosed(),
    JournalError("disk"),
    RuntimeError("a defect"),
    OrderUnresolved("o1", "silence"),
]


def order(state: OrderState, **changes: Any) -> Order:
    """The core's record of an order in a state."""
    return replace(new_order(parse_request(PARAMS, "o1"), T0), state=state, **changes)


NEVER_SENT = order(OrderState.EXPIRED, restartable=True, reason="never_sent", attempts=1)
NOTHING = [
    NEVER_SENT,
    order(OrderState.REJECTED, reason="min_notional"),
    order(OrderState.REJECTED, exchange_order_id="X1"),
    order(OrderState.REJECTED, restartable=True, reason="never_arrived"),
    order(OrderState.CANCELED, reason="canceled_before_sending"),
]
SOMETHING = [
    order(OrderState.PENDING),
    order(OrderState.SENDING),
    order(OrderState.UNKNOWN),
    order(OrderState.OPEN, exchange_order_id="X1"),
    order(OrderState.PARTIALLY_FILLED, exchange_order_id="X1", filled=Decimal("0.5")),
    order(OrderState.CANCELING, exchange_order_id="X1"),
    order(OrderState.FILLED, exchange_order_id="X1", filled=Decimal(1)),
    order(OrderState.CANCELED, exchange_order_id="X1"),
    order(OrderState.CANCELED, filled=Decimal("0.5")),
    order(OrderState.EXPIRED, exchange_order_id="X1"),
]


def test_every_state_is_looked_at() -> None:
    """The two lists together leave none out."""
    assert {item.state for item in NOTHING + SOMETHING} == set(OrderState)


@pytest.mark.parametrize("known", NOTHING)
def test_nothing_rests_of_an_order_that_never_was_in_the_book(known: Order) -> None:
    """Refused, never sent, never arrived, canceled before it was sent."""
    assert nothing_rests(known)
    for error in REFUSALS + PROOFS:
        assert outcome_of(error, Known(known, told=True)) is FAILED


@pytest.mark.parametrize("known", SOMETHING)
def test_an_order_that_may_be_there_is_never_failed(known: Order) -> None:
    """Whatever went wrong with this call."""
    assert not nothing_rests(known)
    for error in REFUSALS + PROOFS + NO_PROOFS:
        assert outcome_of(error, Known(known, told=True)) is UNRESOLVED


@pytest.mark.parametrize("error", REFUSALS + PROOFS + NO_PROOFS)
def test_beside_another_call_nothing_is_proved(error: Exception) -> None:
    """It may be about to send the order."""
    assert outcome_of(error, Known(None, told=True, alone=False)) is UNRESOLVED
    assert outcome_of(error, Known(NEVER_SENT, told=True, alone=False)) is UNRESOLVED


def test_a_refusal_for_good_is_told_beside_another_call_too() -> None:
    """That one can only join it."""
    assert outcome_of(OrderRejected("o1", "no"), Known(NOTHING[1], told=True, alone=False)) is FAILED


def test_without_a_record_the_type_decides() -> None:
    """The core's own word proves it; a refusal does once the core said that it knows no such order."""
    for error in PROOFS:
        assert outcome_of(error, Known()) is FAILED
    for error in REFUSALS:
        assert outcome_of(error, Known(told=False)) is UNRESOLVED
    assert [outcome_of(error, Known(told=True)) for error in REFUSALS] == [FAILED, FAILED, UNRESOLVED]
    for error in NO_PROOFS:
        assert outcome_of(error, Known(told=True)) is UNRESOLVED


def test_what_the_core_calls_unresolved_stays_so() -> None:
    """Even a refusal on record, where the journal could not keep it."""
    assert outcome_of(OrderUnresolved("o1", "the journal"), Known(NOTHING[1], told=True)) is UNRESOLVED
    assert outcome_of(None, Known()) is SUCCESS


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        (order(OrderState.OPEN, exchange_order_id="X1"), None),
        (order(OrderState.FILLED, exchange_order_id="X1"), None),
        (order(OrderState.CANCELED, exchange_order_id="X1"), None),
        (order(OrderState.PENDING), OrderUnresolved),
        (order(OrderState.SENDING), OrderUnresolved),
        (order(OrderState.UNKNOWN), OrderUnresolved),
        (order(OrderState.REJECTED, reason="min_notional"), OrderRejected),
        (NEVER_SENT, OrderNotSent),
    ],
)
def test_a_known_order_is_told_as_it_stands(known: Order, kind: type[Exception] | None) -> None:
    """As executing it again would, without executing it."""
    found = standing(known, PARAMS)
    assert found is None if kind is None else isinstance(found, kind)


def test_another_order_under_the_id_is_not_the_same() -> None:
    """Nor is one that cannot be read."""
    known = order(OrderState.OPEN, exchange_order_id="X1")
    assert isinstance(standing(known, {**PARAMS, "price": 6}), DuplicateOrder)
    assert isinstance(standing(known, {**PARAMS, "amount": "x"}), InvalidOrder)


def test_only_an_order_that_cannot_start_afresh_decides() -> None:
    """Any other leaves the answer to what happened with this call."""
    assert [Known(item).decides for item in NOTHING] == [False, True, True, False, True]
    assert all(Known(item).decides for item in SOMETHING)
    assert not Known(None, told=True).decides


@pytest.mark.parametrize(
    ("error", "known", "phase"),
    [
        (OrderForbidden("no"), Known(told=True), ExecutionPhase.PRE_COMMIT),
        (OrderForbidden("no"), Known(NEVER_SENT, told=True), ExecutionPhase.PRE_COMMIT),
        (OrderForbidden("no"), Known(told=False), ExecutionPhase.COMMIT),
        (OrderNotSent("no"), Known(told=True), ExecutionPhase.PRE_COMMIT),
        (OrderNotSent("no"), Known(NEVER_SENT, told=True), ExecutionPhase.COMMIT),
        (JournalUnavailable("disk"), Known(told=True), ExecutionPhase.COMMIT),
        (OrderRejected("o1", "no"), Known(told=True), ExecutionPhase.COMMIT),
        (None, Known(told=True), ExecutionPhase.POST_COMMIT),
    ],
)
def test_the_phase_says_how_far_the_order_came(
    error: Exception | None, known: Known, phase: ExecutionPhase
) -> None:
    """What may be at the exchange was not stopped in the first phase, in which nothing is sent."""
    assert phase_of(error, known, outcome_of(error, known)) is phase


def test_the_message_fits_the_outcome() -> None:
    """A refusal alone would read as if nothing could be there."""
    assert message_of(None, SUCCESS) is None
    assert message_of(OrderForbidden("no"), FAILED) == "no"
    assert "may be, at the exchange" in (message_of(OrderForbidden("no"), UNRESOLVED) or "")
    assert message_of(OrderUnresolved("o1", "silence"), UNRESOLVED) == str(OrderUnresolved("o1", "silence"))
