"""Pure matching: what the depth of one step gives to whom. Amounts and prices are exact decimals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_DOWN, Decimal

from ..models import ZERO, OrderType, Side
from .records import BookedOrder, Level

FEE_UNIT = Decimal("1e-12")


class Book:
    """The depth of one symbol in one step, less what own orders have already taken from it.

    Orders always take the best that is left, so what has been taken is the front of each side, and one number
    per side says how much. Own orders never trade with each other: each trades with this depth alone.
    """

    def __init__(
        self, levels: Callable[[Side], tuple[Level, ...]], *, taken: dict[Side, Decimal] | None = None
    ) -> None:
        self._levels = levels
        self.taken = {Side.BUY: ZERO, Side.SELL: ZERO} if taken is None else dict(taken)
        """What buyers took of the asks, and sellers of the bids."""

    def left(self, side: Side) -> Iterable[Level]:
        """What is left for a taker of ``side``, best level first."""
        gone = self.taken[side]
        for level in self._levels(side):
            if gone >= level.amount:
                gone -= level.amount
                continue
            yield Level(level.price, level.amount - gone)
            gone = ZERO

    def best(self, side: Side) -> Decimal:
        """The best price that is left for a taker of ``side``; the deepest where nothing is left."""
        for level in self.left(side):
            return level.price
        return self._levels(side)[-1].price

    def offer(
        self,
        side: Side,
        wanted: Decimal,
        *,
        limit: Decimal | None = None,
        budget: Decimal | None = None,
        step: Decimal = Decimal("1e-8"),
    ) -> list[Level]:
        """What a taker would get, without taking it.

        ``limit`` is the worst price, ``budget`` the most that a buyer can pay; a budget cuts to whole ``step``s.
        """
        got: list[Level] = []
        for level in self.left(side):
            if wanted <= 0 or (limit is not None and not reaches(side, limit, level.price)):
                break
            amount = min(level.amount, wanted)
            if budget is not None:
                payable = (budget / level.price / step).to_integral_value(ROUND_DOWN) * step
                amount = min(amount, payable)
                budget -= amount * level.price
            if amount <= 0:
                break
            got.append(Level(level.price, amount))
            wanted -= amount
        return got

    def take(self, side: Side, amount: Decimal) -> None:
        """Take ``amount`` off the front of what is left for a taker of ``side``."""
        self.taken[side] += amount


def reaches(side: Side, limit: Decimal, price: Decimal) -> bool:
    """True when an order with this limit trades at this price."""
    return limit >= price if side is Side.BUY else limit <= price


def touches(side: Side, stop_price: Decimal, price: Decimal) -> bool:
    """True when this price sets a stop order off: a buy stop from below, a sell stop from above."""
    return price >= stop_price if side is Side.BUY else price <= stop_price


def amount_of(levels: Iterable[Level]) -> Decimal:
    """The amounts together."""
    return sum((level.amount for level in levels), ZERO)


def cost_of(levels: Iterable[Level]) -> Decimal:
    """What they come to."""
    return sum((level.amount * level.price for level in levels), ZERO)


def fee_for(side: Side, price: Decimal, amount: Decimal, rate: Decimal) -> Decimal:
    """The fee of one trade, in the currency that it receives."""
    received = amount if side is Side.BUY else amount * price
    return (received * rate).quantize(FEE_UNIT)


def priority(order: BookedOrder) -> tuple[Decimal, int]:
    """Price, then time: the sort key of resting orders of one side."""
    price = order.price if order.price is not None else ZERO
    return (-price if order.side is Side.BUY else price, order.id)


def is_market(order_type: OrderType) -> bool:
    """True for what never rests at a price of its own."""
    return order_type in (OrderType.MARKET, OrderType.STOP_MARKET)


def is_stop(order_type: OrderType) -> bool:
    """True for what waits for a stop price."""
    return order_type in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
