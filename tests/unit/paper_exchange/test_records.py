"""The exchange's records: what follows from an order's fields, and exact times."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import OrderState, OrderType, Side, TimeInForce
from services.mcp.order_execution.paper_exchange.records import BookedOrder, Funds, from_us, to_us
from tests.unit.paper_exchange.desk import NOON, D

ORDER = BookedOrder(
    id=1,
    client_order_id="one",
    symbol="BTC/USD",
    side=Side.BUY,
    type=OrderType.LIMIT,
    amount=D(2),
    price=D(100),
    stop_price=None,
    time_in_force=TimeInForce.GTC,
    post_only=False,
    created_at=NOON,
    updated_at=NOON,
    booked_us=0,
)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_being_stored(at: datetime) -> None:
    """To the microsecond."""
    assert from_us(to_us(at)) == at


@pytest.mark.parametrize(
    ("changes", "currency", "blocked"),
    [
        ({}, "USD", 200),
        ({"filled": D("0.5")}, "USD", 150),
        ({"side": Side.SELL, "filled": D("0.5")}, "BTC", D("1.5")),
        ({"type": OrderType.STOP_MARKET, "price": None, "stop_price": D(90)}, "USD", 180),
        ({"type": OrderType.STOP_LIMIT, "stop_price": D(90)}, "USD", 200),
        ({"type": OrderType.MARKET, "price": None}, "USD", 0),
        ({"state": OrderState.CANCELED}, "USD", 0),
        ({"state": OrderState.FILLED, "side": Side.SELL}, "BTC", 0),
    ],
)
def test_an_order_blocks_what_it_may_still_give(changes: dict[str, object], currency: str, blocked: int) -> None:
    """A buyer the price of the remainder, a seller the remainder, a closed order nothing."""
    order = replace(ORDER, **changes)  # type: ignore[arg-type]
    assert (order.blocked_currency, order.blocked) == (currency, blocked)


def test_fees_are_in_the_currency_that_is_received() -> None:
    """Base for a buyer, quote for a seller."""
    assert ORDER.fee_currency == "BTC"
    assert replace(ORDER, side=Side.SELL).fee_currency == "USD"


def test_free_is_what_is_not_blocked() -> None:
    """Free and blocked add up to the total."""
    assert Funds(D(10), D(3)).free == 7
