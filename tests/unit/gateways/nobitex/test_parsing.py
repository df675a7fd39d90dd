"""Rows become records exactly, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.gateways.nobitex.parsing import (
    NotUnderstood,
    event,
    identity,
    moment,
    number,
    order,
    trade,
    wallets,
)
from services.mcp.order_execution.models import OrderState, OrderType, Side

ROW: dict[str, Any] = {
    "id": 5684,
    "type": "sell",
    "srcCurrency": "Bitcoin",
    "dstCurrency": "\ufdfc",
    "price": "520000000.0000000000",
    "amount": "0.6",
    "matchedAmount": "0E-10",
    "fee": 0,
    "status": "Active",
    "created_at": "2018-11-28T11:36:13.592827+00:00",
    "clientOrderId": "order1",
}
NAMES = {"bitcoin": "btc"}


def test_an_old_row_is_read() -> None:
    """Display names, 0E-10, an int for a fee, and no execution."""
    read = order(ROW, NAMES)
    assert (read.exchange_order_id, read.client_order_id, read.symbol) == ("5684", "order1", "BTC/IRT")
    assert (read.side, read.type, read.state) == (Side.SELL, OrderType.LIMIT, OrderState.OPEN)
    assert (read.price, read.amount, read.filled) == (Decimal(520_000_000), Decimal("0.6"), Decimal(0))
    assert read.average_price is None
    assert read.fees == {}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"matchedAmount": "0.2"}, OrderState.PARTIALLY_FILLED),
        ({"status": "Done", "matchedAmount": "0.6"}, OrderState.FILLED),
        ({"status": "Canceled"}, OrderState.CANCELED),
        ({"status": "Canceled", "matchedAmount": "0.1"}, OrderState.CANCELED),
        ({"status": "New"}, OrderState.OPEN),
        ({"status": "Inactive"}, OrderState.OPEN),
    ],
)
def test_states_follow_from_what_was_matched(changes: dict[str, Any], state: OrderState) -> None:
    """Done means all of it; a cancelled order may have traded."""
    assert order({**ROW, **changes}, NAMES).state is state


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "Exploded"},
        {"status": "Done"},
        {"matchedAmount": "0.7"},
        {"amount": "-1"},
        {"amount": "NaN"},
        {"amount": None},
        {"type": "hold"},
        {"id": None},
        {"id": True},
        {"created_at": "yesterday"},
        {"srcCurrency": "Unheard"},
        {"clientOrderId": 5},
        {"fee": "x"},
    ],
)
def test_a_row_that_is_not_understood_is_nothing(changes: dict[str, Any]) -> None:
    """No state, number or name is guessed."""
    with pytest.raises(NotUnderstood):
        order({**ROW, **changes}, NAMES)


def test_fees_are_in_what_was_received() -> None:
    """Sells in quote, buys in base."""
    assert order({**ROW, "matchedAmount": "0.2", "fee": "5", "averagePrice": "10"}, NAMES).fees == {
        "IRT": Decimal(5)
    }
    assert order({**ROW, "type": "buy", "matchedAmount": "0.2", "fee": "0.01"}, NAMES).fees == {
        "BTC": Decimal("0.01")
    }


def test_a_trade_and_wallets_and_an_event() -> None:
    """Each with its own names of fields."""
    row = {"id": 1, "orderId": 2, "market": "USDT-RLS", "timestamp": "2022-07-05T09:57:38.56+00:00", "type": "sell"}
    read = trade({**row, "price": "316800", "amount": "57.3605", "fee": "27257.7096"}, {})
    assert (read.exchange_order_id, read.symbol, read.fill.fee_currency) == ("2", "USDT/IRT", "IRT")
    rows = {"RLS": {"balance": "10", "blocked": "4"}, "BTC": {"balance": "0E-10", "blocked": 0}}
    held = wallets({"wallets": rows})
    assert (held["IRT"].free, held["IRT"].blocked, held["BTC"].total) == (6, 4, 0)
    told = {
        "amount": "0.0002",
        "avgFilledPrice": "11",
        "clientOrderId": "o1",
        "dstCurrency": "rls",
        "eventTime": 1_762_779_011_366,
        "fee": "0.1",
        "filledAmount": "0.0002",
        "orderId": 7,
        "orderType": "Market",
        "price": None,
        "side": "Buy",
        "srcCurrency": "btc",
        "status": "Done",
        "param1": None,
    }
    seen = event(told, {})
    assert (seen.exchange_order_id, seen.symbol, seen.state) == ("7", "BTC/IRT", OrderState.FILLED)
    with pytest.raises(NotUnderstood):
        event("text", {})


def test_numbers_moments_and_ids() -> None:
    """Exact, in UTC, and as text."""
    assert number("0E-10", "x") == 0
    assert str(number("1000", "x")) == "1000"
    assert moment(0, "x") == datetime(1970, 1, 1, tzinfo=UTC)
    assert moment("2026-01-01T03:30:00+03:30", "x") == datetime(2026, 1, 1, tzinfo=UTC)
    assert identity(5, "x") == identity("5", "x") == "5"
    for bad in ("1e99", "-1", True, 1.5, [], "9" * 99):
        with pytest.raises(NotUnderstood):
            number(bad, "x")
