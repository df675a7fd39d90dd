"""Our record of an order against the exchange's, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.comparison import alike, compare, expected_state, surely_equal
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.journals.codec import KeptOrder, encode_order
from services.mcp.order_execution.models import Order, OrderState, Side
from tests.unit.test_lifecycle import fill, order_in, seen

OPEN = order_in(OrderState.OPEN, exchange_order_id="X1")


def test_equal_orders_have_no_differences() -> None:
    """Decimals compare by value."""
    assert compare(OPEN, replace(seen(OrderState.OPEN), amount=Decimal("1.00"))) == {}


def test_differences_are_told_field_by_field() -> None:
    """(journal's value, exchange's value)."""
    assert compare(OPEN, seen(OrderState.FILLED, (fill(1, "1"),))) == {
        "filled": ("0", "1"),
        "fills": ("0", "1"),
        "state": ("open", "filled"),
    }


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("symbol", "ETH/USD", ("BTC/USD", "ETH/USD")),
        ("side", Side.SELL, ("buy", "sell")),
        ("amount", Decimal(2), ("1", "2")),
        ("price", Decimal("1E+3"), ("50000", "1000")),
        ("exchange_order_id", "X2", ("X1", "X2")),
    ],
)
def test_each_term_of_an_order_is_compared(name: str, value: object, told: tuple[str, str]) -> None:
    """In plain notation, and alone."""
    assert compare(OPEN, replace(seen(OrderState.OPEN), **{name: value})) == {name: told}  # type: ignore[arg-type]


def test_what_the_exchange_does_not_tell_differs_from_nothing() -> None:
    """No price, no fills, no fees, no average."""
    ours = order_in(OrderState.FILLED, exchange_order_id="X1", fills=(fill(1, "1"),), filled=Decimal(1))
    told = replace(seen(OrderState.FILLED, None, "1"), price=None)
    assert compare(replace(ours, fees={"USD": Decimal("0.1")}), told) == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "ours_filled", "expected"),
    [
        (OrderState.CANCELING, OrderState.OPEN, "0", OrderState.CANCELING),
        (OrderState.CANCELING, OrderState.CANCELED, "0", OrderState.CANCELED),
        (OrderState.OPEN, OrderState.PARTIALLY_FILLED, "0", OrderState.OPEN),
        (OrderState.PARTIALLY_FILLED, OrderState.OPEN, "0.5", OrderState.PARTIALLY_FILLED),
        (OrderState.OPEN, OrderState.REJECTED, "0", OrderState.REJECTED),
    ],
)
def test_states_are_mapped(ours: OrderState, theirs: OrderState, ours_filled: str, expected: OrderState) -> None:
    """CANCELING is how we call an open order that is to end; partially filled is a matter of what was filled."""
    order = order_in(ours, exchange_order_id="X1", filled=Decimal(ours_filled))
    assert expected_state(order, seen(theirs)) is expected


def test_a_rejected_order_that_traded_was_canceled() -> None:
    """Whatever the exchange calls its end."""
    assert expected_state(OPEN, seen(OrderState.REJECTED, (fill(1),))) is OrderState.CANCELED


def test_an_order_that_was_refused_needs_no_id_of_the_exchange() -> None:
    """Some exchanges list what they rejected; ours knows of no id, and nothing differs."""
    rejected = order_in(OrderState.REJECTED)
    assert compare(rejected, seen(OrderState.REJECTED)) == {}
    assert compare(rejected, seen(OrderState.OPEN)) == {"state": ("rejected", "open")}
    assert compare(order_in(OrderState.OPEN), seen(OrderState.OPEN)) == {"exchange_order_id": (None, "X1")}


def test_fills_are_compared_by_trade_id() -> None:
    """One that we lack is a difference; a listing that begins later is not."""
    ours = order_in(OrderState.FILLED, exchange_order_id="X1", fills=(fill(1), fill(2)), filled=Decimal(1))
    ours = replace(ours, fees={"USD": Decimal("0.2")})
    assert compare(ours, seen(OrderState.FILLED, (fill(2),), "1")) == {}
    assert compare(ours, seen(OrderState.FILLED, (fill(2), fill(3)), "1")) == {"fills": ("2", "3")}


def test_fees_are_compared_where_the_fills_agree() -> None:
    """By value, currency by currency."""
    ours = order_in(OrderState.FILLED, exchange_order_id="X1", fills=(fill(1, "1"),), filled=Decimal(1))
    told = seen(OrderState.FILLED, (fill(1, "1"),))
    assert compare(replace(ours, fees={"USD": Decimal("0.10")}), told) == {}
    assert compare(replace(ours, fees={"USD": Decimal(2), "BNB": Decimal("0.30")}), told) == {
        "fees": ("0.3 BNB, 2 USD", "0.1 USD")
    }
    free = replace(fill(1, "1"), fee=Decimal(0))
    assert compare(ours, seen(OrderState.FILLED, (free,))) == {}


def test_totals_are_compared_only_without_fills_of_our_own() -> None:
    """Ours are exact once we have the fills; an order that has not traded has none."""
    bare = order_in(OrderState.FILLED, exchange_order_id="X1", filled=Decimal(1), average_price=Decimal(90))
    told = seen(OrderState.FILLED, None, "1", average_price=Decimal(100), fees={"USD": Decimal(1)})
    assert compare(bare, told) == {"average_price": ("90", "100"), "fees": ("", "1 USD")}
    assert compare(replace(bare, fills=(fill(1, "1"),)), told) == {}
    assert compare(bare, seen(OrderState.FILLED, None, "1")) == {}
    assert compare(OPEN, seen(OrderState.OPEN, None, "0", average_price=Decimal(0))) == {}


def test_an_order_without_a_client_id_may_be_ours_by_its_terms() -> None:
    """A market order has no price to tell them apart by."""
    assert alike(OPEN, seen(OrderState.OPEN))
    assert alike(replace(OPEN, price=None), seen(OrderState.OPEN))
    assert not alike(OPEN, replace(seen(OrderState.OPEN), price=Decimal(1)))
    assert not alike(OPEN, replace(seen(OrderState.OPEN), amount=Decimal(2)))


FILLED = order_in(
    OrderState.FILLED,
    exchange_order_id="X1",
    fills=(fill(1, "1"),),
    filled=Decimal(1),
    fees={"USD": Decimal("0.1")},
)
TOLD = seen(OrderState.FILLED, (fill(1, "1"),))


def kept(order: Order) -> Mapping[str, Any]:
    """The values that the journal keeps of an order."""
    return KeptOrder(encode_order(order), 0).values


def test_what_plainly_agrees_is_told_from_the_journals_values() -> None:
    """Decimals by value, whatever their notation; and then there is no difference to be found."""
    assert compare(FILLED, TOLD) == {}
    assert surely_equal(kept(FILLED), TOLD)
    assert surely_equal(kept(replace(FILLED, amount=Decimal("1.000"))), TOLD)
    assert surely_equal(kept(FILLED), replace(TOLD, price=None))


@pytest.mark.parametrize(
    "changes",
    [
        {"state": OrderState.CANCELED},
        {"exchange_order_id": "X2"},
        {"symbol": "ETH/USD"},
        {"side": Side.SELL},
        {"amount": Decimal(2)},
        {"filled": Decimal("0.5")},
        {"price": Decimal(1)},
        {"fills": ()},
        {"fills": (fill(2, "1"),)},
        {"fees": {}},
        {"fees": {"USD": Decimal("0.2")}},
    ],
    ids=str,
)
def test_whatever_differs_does_not_plainly_agree(changes: dict[str, Any]) -> None:
    """Each difference that the whole comparison finds keeps an order from being passed over."""
    ours = replace(FILLED, **changes)
    assert compare(ours, TOLD) != {}
    assert not surely_equal(kept(ours), TOLD)


@pytest.mark.parametrize(
    "told",
    [seen(OrderState.OPEN), seen(OrderState.REJECTED), seen(OrderState.FILLED, None, "1")],
    ids=["open", "rejected", "fills untold"],
)
def test_what_takes_judgement_is_left_to_the_whole_comparison(told: ExchangeOrder) -> None:
    """Open and rejected orders, and those whose fills the list does not tell."""
    assert not surely_equal(kept(replace(FILLED, state=told.state)), told)


@pytest.mark.parametrize(
    "values", [{}, {"state": "filled"}, {**kept(FILLED), "amount": "x"}, {**kept(FILLED), "fills": 3}]
)
def test_values_that_are_no_whole_record_do_not_plainly_agree(values: Mapping[str, Any]) -> None:
    """Reading the record whole will say what is wrong with it."""
    assert not surely_equal(values, TOLD)
