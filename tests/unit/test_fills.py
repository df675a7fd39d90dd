"""What fills come to: their average price and their fees, exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.mcp.order_execution.fills import average_price, total_fees
from services.mcp.order_execution.models import Fill
from tests.fakes import T0


def fill(amount: str, price: str, fee: str = "0", currency: str = "USD") -> Fill:
    """One trade."""
    return Fill("T", Decimal(price), Decimal(amount), Decimal(fee), currency, T0)


def test_nothing_filled_has_no_price() -> None:
    """None, and not zero."""
    assert average_price([]) is None
    assert average_price(iter([fill("0", "100")])) is None


def test_a_price_counts_as_much_as_was_traded_at_it() -> None:
    """Three at 100 and one at 200 are four at 125; an iterator is read once."""
    assert average_price(iter([fill("3", "100"), fill("1", "200")])) == Decimal(125)


def test_wide_numbers_are_summed_exactly() -> None:
    """Rounded once, at the end: at one price the average is that price."""
    price = "99999999999.123456789"
    wide = [fill("123456789.123456789", price), fill("0.000000000000000001", price)]
    assert average_price(wide) == Decimal(price)


def test_fees_are_summed_by_currency() -> None:
    """Exactly, rebates among them; a fee of nothing names no currency."""
    fills = [
        fill("1", "1", "0.1"),
        fill("1", "1", "0.000000000000000000000000000000000001"),
        fill("1", "1", "-0.05", "BTC"),
        fill("1", "1", "0", "BNB"),
    ]
    assert dict(total_fees(fills)) == {
        "USD": Decimal("0.100000000000000000000000000000000001"),
        "BTC": Decimal("-0.05"),
    }
    assert dict(total_fees([])) == {}


def test_sums_of_fees_cannot_be_changed_by_who_reads_them() -> None:
    """They are part of a frozen record."""
    for fees in (total_fees([]), total_fees([fill("1", "1", "0.1")])):
        with pytest.raises(TypeError):
            fees["USD"] = Decimal(5)  # type: ignore[index]
