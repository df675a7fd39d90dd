"""Numbers, ids and names: none is rounded, guessed or assumed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.gateways.nobitex import parsing
from services.mcp.order_execution.gateways.nobitex.markets import read_markets
from services.mcp.order_execution.gateways.nobitex.parsing import NotUnderstood
from services.mcp.order_execution.models import OrderState

ROW: dict[str, Any] = {
    "id": 5684,
    "type": "buy",
    "execution": "Limit",
    "market": "BTC-RLS",
    "price": "520000000",
    "amount": "3.0000000000",
    "matchedAmount": "0E-10",
    "status": "Active",
    "created_at": "2018-11-28T12:25:22.696029+00:00",
}


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("0E-10", "0"),
        ("25500000.00000000000000000000", "25500000"),
        ("1E+30", "1" + "0" * 30),
        (10**29, "1" + "0" * 29),
        (Decimal("0.10"), "0.1"),
    ],
)
def test_a_number_keeps_its_value_in_plain_notation(told: Any, read: str) -> None:
    """Whether it came as text, as a whole number or as a decimal, and however large."""
    assert str(parsing.number(told, "amount")) == read


@pytest.mark.parametrize("told", ["0.1234567890123456789012345678901234", "1e9999", "1e-9999", 10**40, "NaN", 1.5])
def test_a_number_that_cannot_be_kept_exactly_is_none(told: Any) -> None:
    """It is not rounded, and not taken for 0."""
    with pytest.raises(NotUnderstood):
        parsing.number(told, "amount")


def test_what_a_final_order_traded_is_never_assumed() -> None:
    """A row that does not say it is not understood; what is left says it too."""
    gone = {name: value for name, value in ROW.items() if name != "matchedAmount"} | {"status": "Canceled"}
    with pytest.raises(NotUnderstood):
        parsing.order(gone, {})
    assert parsing.order({**gone, "unmatchedAmount": "1"}, {}).filled == 2
    with pytest.raises(NotUnderstood):
        parsing.order({**gone, "unmatchedAmount": "4"}, {})


def test_an_average_with_digits_without_end_spoils_no_order() -> None:
    """It is not told; nothing is booked by it."""
    seen = parsing.order({**ROW, "status": "Done", "matchedAmount": 3, "averagePrice": "1." + "3" * 40}, {})
    assert seen.state is OrderState.FILLED
    assert seen.average_price is None


@pytest.mark.parametrize("told", [0, -5, "5684x", "1" * 40, "٣"])
def test_an_id_is_a_whole_number_or_none(told: Any) -> None:
    """An acknowledgement with another one acknowledges nothing."""
    with pytest.raises(NotUnderstood):
        parsing.identity(told, "id")


@pytest.mark.parametrize("market", ["BTC-", "B\ud800C-RLS", "a b-c", "X" * 99 + "-RLS", 5])
def test_a_market_that_is_none_is_looked_for_by_names(market: Any) -> None:
    """And where they are not known either, the row is not understood."""
    named = {**ROW, "market": market, "srcCurrency": "Litecoin", "dstCurrency": "﷼"}
    assert parsing.order(named, {"litecoin": "ltc"}).symbol == "LTC/IRT"
    with pytest.raises(NotUnderstood):
        parsing.order(named, {})


def test_a_name_that_two_coins_bear_names_neither() -> None:
    """Else an order could be booked to the wrong market."""
    options = {
        "nobitex": {"amountPrecisions": {}, "pricePrecisions": {}},
        "coins": [{"coin": "a", "name": "Twin"}, {"coin": "b", "name": "Twin"}, {"coin": "c", "name": "Other"}],
    }
    assert read_markets(options, 0.0).names == {"a": "a", "b": "b", "c": "c", "other": "c"}


def test_a_wallet_that_does_not_say_what_is_blocked_is_not_free() -> None:
    """It is not understood."""
    with pytest.raises(NotUnderstood):
        parsing.wallets({"wallets": {"BTC": {"balance": "5"}}})
