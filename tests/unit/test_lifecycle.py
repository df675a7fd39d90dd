"""What a fact does to an order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution import lifecycle
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.models import (
    REOPENINGS,
    TRANSITIONS,
    EventKind,
    Fill,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    Side,
    Step,
)
from tests.fakes import T0

REQUEST = OrderRequest("id-1", "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(50_000))


def order_in(state: OrderState, **changes: object) -> Order:
    return replace(lifecycle.new_order(REQUEST, T0), state=state, attempts=1, version=3, **changes)  # type: ignore[arg-type]


def fill(number: int, amount: str = "0.5", price: str = "100") -> Fill:
    return Fill(f"T{number}", Decimal(price), Decimal(amount), Decimal("0.1"), "USD", T0)


def seen(
    state: OrderState, fills: tuple[Fill, ...] | None = (), filled: str | None = None, **more: object
) -> ExchangeOrder:
    total = sum((item.amount for item in fills or ()), Decimal(0)) if filled is None else Decimal(filled)
    return ExchangeOrder(
        exchange_order_id="X1",
        client_order_id="id-1",
        symbol="BTC/USD",
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=Decimal(1),
        price=Decimal(50_000),
        state=state,
        filled=total,
        fills=fills,
        created_at=T0,
        updated_at=T0,
        **more,  # type: ignore[arg-type]
    )


def last(events: list[OrderEvent]) -> Order:
    return events[-1].order


def test_an_intent_counts_an_attempt_and_the_next_one_is_a_resend() -> None:
    """The first sending is an INTENT, every further one a RESEND of the same id."""
    first = lifecycle.intend(lifecycle.new_order(REQUEST, T0), T0)
    assert (first.kind, first.state, first.order.attempts, first.order.version) == (
        EventKind.INTENT,
        "sending",
        1,
        1,
    )
    again = lifecycle.intend(lifecycle.unknown(first.order, T0, "timeout").order, T0)
    assert (again.kind, again.order.attempts, again.order_id) == (EventKind.RESEND, 2, "id-1")


def test_only_a_restartable_order_starts_afresh() -> None:
    """A final order may be sent again only if provably nothing of it is at the exchange."""
    closed = lifecycle.never_left(order_in(OrderState.SENDING), T0, lifecycle.NEVER_SENT).order
    assert lifecycle.intend(closed, T0).order.attempts == 1
    refused = lifecycle.rejected(order_in(OrderState.SENDING), T0, "insufficient_funds").order
    with pytest.raises(lifecycle.IllegalTransition):
        lifecycle.intend(refused, T0)


def test_a_transition_that_the_table_does_not_know_is_a_defect() -> None:
    """A final order is not accepted once more."""
    with pytest.raises(lifecycle.IllegalTransition, match="filled → open"):
        lifecycle.accepted(order_in(OrderState.FILLED), T0, "X1")


def test_a_found_order_is_accepted_and_visible_in_one_go() -> None:
    """A lookup that finds the order is receipt and sight at once."""
    order = last(lifecycle.merge(order_in(OrderState.UNKNOWN), seen(OrderState.OPEN), T0, read=True))
    assert order.state is OrderState.OPEN
    assert order.exchange_order_id == "X1"
    assert order.confirmed(Step.RECEIPT)
    assert order.confirmed(Step.VISIBLE)


def test_a_fill_is_booked_once_however_often_it_is_told() -> None:
    """Fills are keyed by trade id."""
    order = order_in(OrderState.OPEN, exchange_order_id="X1")
    view = seen(OrderState.PARTIALLY_FILLED, (fill(1), fill(1)), filled="0.5")
    once = last(lifecycle.merge(order, view, T0, read=True))
    assert once.filled == Decimal("0.5")
    assert lifecycle.merge(once, view, T0, read=True) == []


def test_what_was_filled_never_shrinks() -> None:
    """A stale view takes nothing back."""
    order = last(
        lifecycle.merge(
            order_in(OrderState.OPEN, exchange_order_id="X1"), seen(OrderState.OPEN, (fill(1),)), T0, read=True
        )
    )
    after = lifecycle.merge(order, seen(OrderState.OPEN, ()), T0, read=True)
    assert after == []


def test_a_full_fill_confirms_its_fills_and_adds_up() -> None:
    """Average price and fees come from the fills."""
    order = order_in(OrderState.OPEN, exchange_order_id="X1")
    view = seen(OrderState.FILLED, (fill(1, price="100"), fill(2, price="200")))
    events = lifecycle.merge(order, view, T0, read=True)
    assert [event.kind for event in events] == [EventKind.FILL, EventKind.FILL, EventKind.CLOSED]
    final = last(events)
    assert final.state is OrderState.FILLED
    assert final.average_price == 150
    assert dict(final.fees) == {"USD": Decimal("0.2")}
    assert final.confirmed(Step.FILLS)
    assert final.remaining == 0


def test_fills_that_are_counted_but_not_listed_leave_the_fills_unconfirmed() -> None:
    """The exchange's total is kept; the step FILLS waits for the trades, and each is then booked once."""
    order = order_in(OrderState.OPEN, exchange_order_id="X1")
    final = last(lifecycle.merge(order, seen(OrderState.FILLED, None, filled="1"), T0, read=True))
    assert (final.filled, final.fills_complete, final.confirmed(Step.FILLS)) == (Decimal(1), False, False)
    events: list[OrderEvent] = []
    booked = lifecycle.book_fill(lifecycle.book_fill(final, fill(1), T0, events), fill(2), T0, events)
    assert booked.filled == 1
    assert [event.kind for event in lifecycle.complete(booked, T0)] == [EventKind.CONFIRMED]
    assert lifecycle.complete(final, T0) == []


def test_an_end_told_by_the_exchange_outlasts_a_stale_view() -> None:
    """An open list that was read before the cancel does not reopen the order."""
    canceled = order_in(OrderState.CANCELED, exchange_order_id="X1")
    assert lifecycle.merge(canceled, seen(OrderState.OPEN), T0, read=True) == []


def test_fills_that_arrive_while_cancelling_are_kept() -> None:
    """A canceled order may turn out to have traded more."""
    canceled = order_in(OrderState.CANCELED, exchange_order_id="X1")
    order = last(lifecycle.merge(canceled, seen(OrderState.CANCELED, (fill(1),)), T0, read=True))
    assert (order.state, order.filled) == (OrderState.CANCELED, Decimal("0.5"))


def test_a_canceled_order_that_turns_out_filled_is_filled() -> None:
    """The fill won the race against the cancel."""
    canceled = order_in(OrderState.CANCELED, exchange_order_id="X1")
    events = lifecycle.merge(canceled, seen(OrderState.FILLED, (fill(1, "1"),)), T0, read=True)
    assert last(events).state is OrderState.FILLED
    assert EventKind.REOPENED in {event.kind for event in events}


@pytest.mark.parametrize("state", [OrderState.REJECTED, OrderState.EXPIRED])
def test_later_truth_reopens_what_was_closed_here(state: OrderState) -> None:
    """An order that we closed without the exchange's word is alive if the exchange shows it."""
    closed = order_in(state, reason="never_arrived", restartable=True)
    events = lifecycle.merge(closed, seen(OrderState.OPEN), T0, read=True)
    assert events[0].kind is EventKind.REOPENED
    assert (last(events).state, last(events).restartable) == (OrderState.OPEN, False)


def test_only_an_authoritative_view_reopens_what_the_exchange_itself_closed() -> None:
    """A reconciliation's second look overrules; an ordinary view does not."""
    canceled = order_in(OrderState.CANCELED, exchange_order_id="X1")
    events = lifecycle.merge(canceled, seen(OrderState.OPEN), T0, read=True, authoritative=True)
    assert last(events).state is OrderState.OPEN


def test_a_rejection_after_a_trade_is_a_cancel() -> None:
    """An order that traded was not refused."""
    order = order_in(OrderState.OPEN, exchange_order_id="X1")
    assert (
        last(lifecycle.merge(order, seen(OrderState.REJECTED, (fill(1),)), T0, read=True)).state
        is OrderState.CANCELED
    )


def test_an_order_with_a_wish_to_cancel_stays_canceling_while_it_is_open() -> None:
    """A view that shows it open does not forget the wish."""
    order = lifecycle.cancel_requested(order_in(OrderState.OPEN, exchange_order_id="X1"), T0).order
    after = last(lifecycle.merge(order, seen(OrderState.OPEN, (fill(1),)), T0, read=True))
    assert after.state is OrderState.CANCELING
    assert lifecycle.cancel_refused(after, T0, "no").state is OrderState.PARTIALLY_FILLED


def test_another_order_under_our_id_is_told_apart() -> None:
    """Symbol, side, amount and price identify an order beside its id."""
    order = order_in(OrderState.UNKNOWN)
    assert lifecycle.conflict(order, seen(OrderState.OPEN)) == ()
    assert lifecycle.conflict(order, replace(seen(OrderState.OPEN), amount=Decimal(2), price=Decimal(1))) == (
        "amount",
        "price",
    )


def test_an_external_order_is_followed_from_what_the_exchange_shows() -> None:
    """It is marked as external and carries its fills."""
    order = last(lifecycle.adopt_external(seen(OrderState.PARTIALLY_FILLED, (fill(1),)), "external-X1", T0))
    assert order.external
    assert (order.order_id, order.filled, order.state) == ("external-X1", Decimal("0.5"), "partially_filled")


def test_no_table_lets_a_filled_order_go_on() -> None:
    """FILLED has no exit, and no final state has a normal one."""
    assert not any(TRANSITIONS[state] for state in OrderState if state.is_final)
    assert OrderState.FILLED not in REOPENINGS


VIEWS = st.builds(
    lambda state, numbers: seen(state, tuple(fill(n, "0.1") for n in sorted(numbers))),
    st.sampled_from(
        [
            OrderState.OPEN,
            OrderState.PARTIALLY_FILLED,
            OrderState.FILLED,
            OrderState.CANCELED,
            OrderState.EXPIRED,
            OrderState.REJECTED,
        ]
    ),
    st.sets(st.integers(1, 9)),
)


@given(
    st.lists(VIEWS, max_size=12),
    st.sampled_from([OrderState.SENDING, OrderState.UNKNOWN, OrderState.OPEN]),
    st.booleans(),
)
def test_whatever_views_come_in_whatever_order_the_books_hold(
    views: list[ExchangeOrder], start: OrderState, wish: bool
) -> None:
    """Versions are without gaps, fills unique and growing, no illegal transition, and the end is stable."""
    order = order_in(start, exchange_order_id="X1" if start is OrderState.OPEN else None)
    if wish:
        order = lifecycle.cancel_requested(order, T0).order
    chain = [order]
    for view in views:
        chain.extend(
            event.order for event in lifecycle.merge(chain[-1], view, T0 + timedelta(seconds=1), read=True)
        )
        known = {item.trade_id for item in view.fills or ()}
        assert known <= {item.trade_id for item in chain[-1].fills}
    for before, after in pairwise(chain):
        assert after.version == before.version + 1
        assert after.filled >= before.filled
        assert len({item.trade_id for item in after.fills}) == len(after.fills)
    if views and chain[-1].state.is_final:
        assert lifecycle.merge(chain[-1], views[-1], T0, read=True) == []
