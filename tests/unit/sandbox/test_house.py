"""Parameters of queries, and numbers in plain digits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.mcp.order_execution.sandbox.calls import Refusal
from services.mcp.order_execution.sandbox.house import choice, currency, plain, whole


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", "1.0", "0", "11", "9" * 30, "\u0661"])
def test_a_number_out_of_bounds_or_none_is_refused(text: str) -> None:
    """Digits of other scripts included."""
    with pytest.raises(Refusal):
        whole({"n": text}, "n", 5, 1, 10)


def test_numbers_words_and_currencies() -> None:
    """With their defaults."""
    assert (whole({}, "n", 5, 1, 10), whole({"n": "10"}, "n", 5, 1, 10)) == (5, 10)
    assert (choice({}, "w", ("a", "b"), "b"), choice({"w": "a"}, "w", ("a", "b"))) == ("b", "a")
    assert (currency({}, "c"), currency({"c": "rls"}, "c")) == (None, "rls")
    with pytest.raises(Refusal):
        choice({"w": "c"}, "w", ("a", "b"))
    with pytest.raises(Refusal):
        currency({"c": "RLS"}, "c")


@pytest.mark.parametrize(
    ("value", "text"), [("1.500", "1.5"), ("100", "100"), ("0.0", "0"), ("1E+3", "1000"), ("1E-8", "0.00000001")]
)
def test_plain_digits(value: str, text: str) -> None:
    """No exponent, and no zeros at the end of a fraction."""
    assert plain(Decimal(value)) == text
