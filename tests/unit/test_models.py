"""Records: exact, frozen, and told in JSON without losing a digit."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from services.mcp.order_execution.models import (
    FINAL_STATES,
    REOPENINGS,
    RESTARTS,
    TRANSITIONS,
    CircuitState,
    Confirmation,
    Discrepancy,
    EventKind,
    ExecutionStats,
    Fill,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    ReconciliationReport,
    Side,
    Step,
    evolve,
    make_confirmation,
    make_event,
    make_order,
    make_request,
    plain_decimal,
    to_plain,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def fill(trade_id: str = "t-1", amount: str = "0.1") -> Fill:
    return Fill(trade_id, Decimal(50000), Decimal(amount), Decimal("0.0001"), "BTC", NOW)


def order(**changes: Any) -> Order:
    usual: dict[str, Any] = {
        "order_id": "a",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "amount": Decimal("0.30"),
        "price": Decimal("1E+4"),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Order(**{**usual, **changes})


def report(**changes: Any) -> ReconciliationReport:
    counts = dict.fromkeys(("total", "matched", "mismatched", "missing", "extra"), 0)
    usual: dict[str, Any] = {f"{name}_orders": number for name, number in counts.items()}
    times = dict.fromkeys(("since", "until", "started_at", "finished_at"), NOW)
    return ReconciliationReport(**{**usual, **times, "period": "daily", **changes})


# ---- the table of transitions -----------------------------------------------------------------------------


def test_every_state_has_its_row() -> None:
    """No state was forgotten, and none leads outside."""
    assert set(TRANSITIONS) == set(OrderState)
    assert set().union(*TRANSITIONS.values()) <= set(OrderState)


def test_final_means_final() -> None:
    """From a final state nothing leads on but later truth from the exchange; from every other, an end is near."""
    for state in OrderState:
        assert state.is_final == (state in FINAL_STATES) == (not TRANSITIONS[state])
        if not state.is_final:
            assert TRANSITIONS[state] & FINAL_STATES


def test_every_state_can_be_reached() -> None:
    """From PENDING on, by the table alone."""
    reached, ahead = {OrderState.PENDING}, [OrderState.PENDING]
    while ahead:
        new = TRANSITIONS[ahead.pop()] - reached
        reached |= new
        ahead += new
    assert reached == set(OrderState)


def test_what_is_filled_stays_filled() -> None:
    """No later truth undoes a complete fill, and none leads back into doubt."""
    assert OrderState.FILLED not in REOPENINGS
    for state, targets in REOPENINGS.items():
        assert state.is_final
        assert state not in targets
        assert not any(target.is_unresolved or target is OrderState.PENDING for target in targets)


def test_only_what_may_never_have_left_can_start_afresh() -> None:
    """A filled or cancelled order never does."""
    assert {OrderState.EXPIRED, OrderState.REJECTED} == RESTARTS


def test_what_a_state_means_outlives_a_copy() -> None:
    """A state that was pickled or copied is the same member, with the same meaning."""
    for state in OrderState:
        assert copy.deepcopy(state) is pickle.loads(pickle.dumps(state)) is OrderState(state.value) is state


def test_unresolved_is_exactly_what_nobody_knows() -> None:
    """SENDING and UNKNOWN: the two states in which the exchange may or may not have the order."""
    assert [state for state in OrderState if state.is_unresolved] == [OrderState.SENDING, OrderState.UNKNOWN]


# ---- orders -----------------------------------------------------------------------------------------------


def test_a_record_cannot_be_changed() -> None:
    """A change makes a new record."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        order().filled = Decimal(1)  # type: ignore[misc]


def test_remaining_is_exact() -> None:
    """Decimals all the way: 0.3 less 0.1 is 0.2."""
    assert order(filled=Decimal("0.1")).remaining == Decimal("0.20")


def test_fills_are_complete_when_they_add_up() -> None:
    """Not before, and an order without fills is complete while nothing was filled."""
    assert order().fills_complete
    assert not order(filled=Decimal("0.2"), fills=(fill(),)).fills_complete
    assert order(filled=Decimal("0.2"), fills=(fill("t-1"), fill("t-2"))).fills_complete


def test_a_step_is_confirmed_once_it_is_recorded() -> None:
    """And no other with it."""
    known = order(confirmations=(Confirmation(Step.RECEIPT, NOW),))
    assert known.confirmed(Step.RECEIPT)
    assert not known.confirmed(Step.VISIBLE)


def test_an_order_goes_through_json_without_losing_a_digit() -> None:
    """Decimals are strings in plain notation, times ISO 8601, enumerations their values."""
    told = json.loads(json.dumps(order(fills=(fill(),), filled=Decimal("0.1")).to_dict()))
    assert told["price"] == "10000"
    assert (told["amount"], told["remaining"], told["state"], told["side"]) == ("0.30", "0.20", "pending", "buy")
    assert told["created_at"] == "2026-01-01T00:00:00+00:00"
    assert told["fills"][0] == {**json.loads(json.dumps(fill().to_dict()))}
    assert told["fills"][0]["fee"] == "0.0001"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Decimal("1E-18"), "0.000000000000000001"),
        (Decimal("1E+20"), "100000000000000000000"),
        (Decimal("0.10"), "0.10"),
    ],
)
def test_decimals_are_written_without_an_exponent(value: Decimal, plain: str) -> None:
    """And read back as the same number."""
    assert plain_decimal(value) == plain
    assert Decimal(plain) == value


def test_nested_values_become_plain() -> None:
    """Mappings, tuples, sets and records, however deep."""
    moment = NOW.astimezone(timezone(timedelta(hours=1)))
    value = MappingProxyType({Side.BUY: (None, True, 1, 1.5, "x", frozenset({Step.FILLS}), moment)})
    assert to_plain(value) == {"buy": [None, True, 1, 1.5, "x", ["fills"], "2026-01-01T01:00:00+01:00"]}


def test_an_event_tells_the_change_alone() -> None:
    """Who, which version, from what to what; not the whole order."""
    event = OrderEvent(order(version=3), EventKind.FILL, OrderState.OPEN, NOW, fill=fill(), detail="x")
    told = event.to_dict()
    assert (event.order_id, event.state) == ("a", OrderState.PENDING)
    assert (told["version"], told["kind"], told["previous"], told["detail"]) == (3, "fill", "open", "x")
    assert told["fill"]["trade_id"] == "t-1"
    assert "amount" not in told
    first = OrderEvent(order(), EventKind.INTENT, None, NOW).to_dict()
    assert (first["previous"], first["fill"]) == (None, None)


# ---- statistics and reports -------------------------------------------------------------------------------


def test_statistics_show_the_breaker_on_the_way_of_orders() -> None:
    """As an attribute and in JSON."""
    stats = ExecutionStats(
        orders={"accepted": 1},
        open_orders=0,
        unresolved_orders=0,
        fills=0,
        retries=0,
        ack_latency_p50=None,
        ack_latency_p99=None,
        error_rate_per_minute=0.0,
        circuits={"submit": CircuitState.OPEN, "cancel": CircuitState.CLOSED},
        journal_lag=0.0,
        halted=None,
        started_at=NOW,
        last_reconciliation_at=None,
    )
    assert stats.circuit_state is CircuitState.OPEN
    assert json.loads(json.dumps(stats.to_dict()))["circuit_state"] == "open"


def test_a_percentage_of_nothing_is_nothing() -> None:
    """No orders, no discrepancy, no division by zero."""
    assert report().mismatch_percentage == 0.0
    assert report().is_clean


def test_the_percentage_counts_every_kind_of_discrepancy() -> None:
    """Mismatched, missing and extra orders, of all."""
    found = report(total_orders=8, matched_orders=5, mismatched_orders=1, missing_orders=1, extra_orders=1)
    assert found.mismatch_percentage == 37.5
    assert found.to_dict()["mismatch_percentage"] == 37.5


def test_a_report_with_a_finding_is_not_clean() -> None:
    """Also when all orders match: balances and fills are findings too."""
    found = Discrepancy("balance", None, None, None, {"USD": ("1", "2")})
    told = report(details=(found,)).to_dict()
    assert told["is_clean"] is False
    assert told["details"] == [found.to_dict()]
    assert told["details"][0]["differences"] == {"USD": ["1", "2"]}


def test_a_copy_with_changes_is_what_replace_makes() -> None:
    """evolve() is dataclasses.replace() at a fraction of the price, unknown fields refused likewise."""
    first = order()
    changed = evolve(first, state=OrderState.OPEN, version=7, filled=Decimal(1))
    assert changed == dataclasses.replace(first, state=OrderState.OPEN, version=7, filled=Decimal(1))
    assert evolve(first) == first
    with pytest.raises(TypeError, match="such_field"):
        evolve(first, such_field=1)


def test_what_is_made_cheaply_is_what_its_class_makes() -> None:
    """Requests, confirmations and events by place and by name, with and without their defaults."""
    asked = ("a", "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal(1))
    assert make_request(*asked) == OrderRequest(*asked)
    assert make_request(*asked, price=Decimal(2)) == OrderRequest(*asked, price=Decimal(2))
    assert make_confirmation(Step.FILLS, NOW, detail="x") == Confirmation(Step.FILLS, NOW, detail="x")
    told = (order(), EventKind.FILL, None, NOW)
    assert make_event(*told, fill=fill()) == OrderEvent(*told, fill=fill())
    given = {item.name: getattr(order(), item.name) for item in dataclasses.fields(Order)}
    assert make_order(**given) == Order(**given)
