"""Exact sums and products of money: arithmetic of 28 digits rounds, and what is rounded never adds up again."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, InvalidOperation
from typing import Final

EXACT: Final = Context(prec=400, traps=[InvalidOperation])
"""Wide enough for a product of any two amounts that are let in, and for sums of such products.

Whoever divides must not use it: a quotient seldom has an end.
"""


def total(numbers: Iterable[Decimal]) -> Decimal:
    """Add numbers up without rounding."""
    result = Decimal(0)
    for number in numbers:
        result = EXACT.add(result, number)
    return result


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Whether a value is a whole number of steps (which are above zero), however many they are."""
    return not EXACT.remainder(value, step)
