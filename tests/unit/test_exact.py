"""Sums and products of money are exact."""

from __future__ import annotations

from decimal import Decimal

from services.mcp.order_execution.exact import EXACT, is_multiple, total

WIDE = Decimal("999999999999999999.123456789012345678")


def test_wide_numbers_add_up_and_come_back() -> None:
    """36 digits and a single last one: nothing is rounded on the way there or back."""
    tiny = Decimal("0.000000000000000001")
    there = total([WIDE, tiny, WIDE])
    assert str(there) == "1999999999999999998.246913578024691357"
    assert EXACT.subtract(EXACT.subtract(there, WIDE), tiny) == WIDE


def test_products_are_exact() -> None:
    """18 decimals times 18 decimals are 36 decimals."""
    assert EXACT.multiply(WIDE, WIDE) / 1 != EXACT.multiply(WIDE, WIDE)
    assert EXACT.multiply(Decimal("1.1"), Decimal("1.1")) == Decimal("1.21")


def test_multiples_of_the_finest_step() -> None:
    """However many steps there are."""
    assert is_multiple(WIDE, Decimal("1e-18"))
    assert not is_multiple(WIDE, Decimal("1e-17"))
    assert is_multiple(Decimal(3), Decimal("0.1"))
