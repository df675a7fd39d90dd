"""What an order request says, read as strictly as the documentation can be understood."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from ..models import OrderType, Side
from .house import CLIENT_ID, House
from .markets import MarketInfo

EXECUTION_WORDS: Final = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "stop_limit": OrderType.STOP_LIMIT,
    "stop_market": OrderType.STOP_MARKET,
}
"""As in requests → order type."""

FAR: Final = Decimal("0.30")
"""A limit price further from the market than this part of it is refused."""
MARKET_FAR: Final = Decimal("0.05")
"""The same for the expected price of a market order; the true bound is not documented."""
MARKET_BAND: Final = Decimal("0.01")
"""A market order trades up to so much beyond its expected price."""

_MONEY: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_LIMITED: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_STOPS: Final = frozenset({OrderType.STOP_LIMIT, OrderType.STOP_MARKET})


class BadOrder(Exception):
    """An order that is refused; ``code`` is the documented one."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.message = message or f"Order validation failed: {code}"


@dataclass(frozen=True, slots=True)
class Intent:
    """An order that could be read, its figures on the market's grid."""

    market: MarketInfo
    side: Side
    type: OrderType
    amount: Decimal
    price: Decimal | None
    stop_price: Decimal | None

    @property
    def specification(self) -> tuple[object, ...]:
        """What makes two orders duplicates of each other; the ``clientOrderId`` is not part of it."""
        return (self.market.dashed, self.side, self.type, self.amount, self.price, self.stop_price)

    def checked_price(self, last: Decimal) -> Decimal | None:
        """The worst price at which it may trade, once price and worth are found in order. Raises BadOrder."""
        buy = self.side is Side.BUY
        if self.type is OrderType.LIMIT and self.price is not None and abs(self.price - last) > FAR * last:
            raise BadOrder("BadPrice")
        if self.type is OrderType.STOP_LIMIT and self.price is not None and self.stop_price is not None:
            better = self.price < self.stop_price if buy else self.price > self.stop_price
            if better:
                raise BadOrder("BadPrice")
        if self.amount * (self.price or self.stop_price or last) < self.market.minimum:
            raise BadOrder("SmallOrder")
        if self.type is not OrderType.MARKET:
            return self.price
        expected = self.price or last
        if abs(expected - last) > MARKET_FAR * last:
            raise BadOrder("UnexpectedMarketPrice")
        return self.market.whole_price(expected * (1 + MARKET_BAND if buy else 1 - MARKET_BAND))


def read_intent(body: dict[str, Any], house: House) -> Intent:
    """Read an order. Raises BadOrder; unknown fields are ignored."""
    if body.get("type") not in ("buy", "sell"):
        raise BadOrder("ParseError", "Missing choices value")
    kind = EXECUTION_WORDS.get(str(body.get("execution", "limit")))
    if kind is None:
        raise BadOrder("ParseError", "Invalid choices value")
    if body.get("mode") not in (None, "default"):
        raise BadOrder("FeatureUnavailable" if body["mode"] == "oco" else "ParseError", "mode")
    given = body.get("clientOrderId")
    if given is not None and (not isinstance(given, str) or CLIENT_ID.fullmatch(given) is None):
        raise BadOrder("ParseError", "clientOrderId: at most 32 letters, digits and hyphens")
    market = house.markets.pair(str(body.get("srcCurrency")), str(body.get("dstCurrency")))
    if market is None:
        raise BadOrder("InvalidMarketPair")
    amount = _money(body, "amount")
    if amount is None:
        raise BadOrder("ParseError", "amount: missing")
    price, stop_price = _money(body, "price"), _money(body, "stopPrice")
    if (price is None and kind in _LIMITED) or (stop_price is None and kind in _STOPS):
        raise BadOrder("InvalidOrderPrice")
    if stop_price is not None and kind not in _STOPS:
        raise BadOrder("ParseError", "stopPrice: only for stop orders")
    return Intent(
        market=market,
        side=Side(body["type"]),
        type=kind,
        amount=market.whole_amount(amount),
        price=_on_grid(market, price),
        stop_price=_on_grid(market, stop_price),
    )


def read_pro(value: object) -> bool:
    """Whether the duplicate guard is off. Raises BadOrder for anything but ``yes`` and nothing."""
    if value not in (None, "yes"):
        raise BadOrder("ParseError", "pro: yes or nothing")
    return value == "yes"


def _money(body: dict[str, Any], name: str) -> Decimal | None:
    """A monetary field: a string of plain digits, as the documentation asks for."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or _MONEY.fullmatch(value) is None:
        raise BadOrder("ParseError", f"{name}: a string of digits")
    return Decimal(value)


def _on_grid(market: MarketInfo, price: Decimal | None) -> Decimal | None:
    if price is None:
        return None
    whole = market.whole_price(price)
    if whole <= 0:
        raise BadOrder("InvalidOrderPrice")
    return whole
