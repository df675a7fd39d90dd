"""What the fills of an order come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType

from .exact import EXACT, total
from .models import NOTHING, ZERO, Fill


def average_price(fills: Iterable[Fill]) -> Decimal | None:
    """Volume-weighted price of fills; None where nothing was filled."""
    kept = tuple(fills)
    amount = total(fill.amount for fill in kept)
    cost = total(EXACT.multiply(fill.amount, fill.price) for fill in kept)
    return cost / amount if amount else None


def total_fees(fills: Iterable[Fill]) -> Mapping[str, Decimal]:
    """Fees by currency."""
    fees: dict[str, Decimal] = {}
    for fill in fills:
        if fill.fee:
            fees[fill.fee_currency] = EXACT.add(fees.get(fill.fee_currency, ZERO), fill.fee)
    return MappingProxyType(fees) if fees else NOTHING
