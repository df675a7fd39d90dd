"""Requests under way, as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import OrderRequest, OrderType, Side, TimeInForce
from services.mcp.order_execution.paper_exchange.requests import CancelRequest, decode, encode

decimals = st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=0, max_value=10**9)


@given(
    sent=st.builds(
        OrderRequest,
        client_order_id=st.text(max_size=64),
        symbol=st.text(max_size=31),
        side=st.sampled_from(Side),
        type=st.sampled_from(OrderType),
        amount=decimals,
        price=st.none() | decimals,
        stop_price=st.none() | decimals,
        time_in_force=st.sampled_from(TimeInForce),
        post_only=st.booleans(),
    )
)
def test_an_order_arrives_as_it_was_sent(sent: OrderRequest) -> None:
    """Every field, and every digit."""
    arrived = decode(encode(sent))
    assert arrived == sent
    assert isinstance(arrived, OrderRequest)
    assert arrived.amount.as_tuple() == sent.amount.as_tuple()


@pytest.mark.parametrize("cancel", [CancelRequest("17", "one"), CancelRequest(None, "one")])
def test_a_cancel_arrives_as_it_was_sent(cancel: CancelRequest) -> None:
    """With the exchange's id or without."""
    assert decode(encode(cancel)) == cancel
