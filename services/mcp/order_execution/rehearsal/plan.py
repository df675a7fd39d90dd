"""Which orders a rehearsal places: a mix drawn from a seed, with orders among them that must be refused."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from typing import Any, Final

from ..gateways.base import Market, Ticker


class Purpose(StrEnum):
    """What an order of the mix is there to show."""

    MARKET = "market"
    NEAR_LIMIT = "limit near the market"
    FAR_LIMIT = "limit far away, cancelled"
    STOP = "stop, cancelled"
    STOP_LIMIT = "stop limit, cancelled"
    STOP_CROSSED = "stop that the market has passed"
    IOC = "immediate or cancel"
    FOK = "fill or kill"
    POST_ONLY = "post-only that rests"
    POST_ONLY_CROSSING = "post-only that would trade"
    TOO_SMALL = "too small"
    TOO_BIG = "beyond the funds"


MIX: Final[Mapping[Purpose, int]] = {
    Purpose.MARKET: 5,
    Purpose.NEAR_LIMIT: 4,
    Purpose.FAR_LIMIT: 3,
    Purpose.STOP: 1,
    Purpose.IOC: 2,
    Purpose.FOK: 1,
    Purpose.POST_ONLY: 1,
    Purpose.POST_ONLY_CROSSING: 1,
    Purpose.TOO_SMALL: 1,
    Purpose.TOO_BIG: 1,
}
"""How many of each there are among twenty."""

NOBITEX_MIX: Final[Mapping[Purpose, int]] = {
    Purpose.MARKET: 5,
    Purpose.NEAR_LIMIT: 5,
    Purpose.FAR_LIMIT: 4,
    Purpose.STOP: 1,
    Purpose.STOP_LIMIT: 2,
    Purpose.STOP_CROSSED: 1,
    Purpose.TOO_SMALL: 1,
    Purpose.TOO_BIG: 1,
}
"""The same for Nobitex, which has stop limits and knows neither IOC, FOK nor post-only."""

CANCELLED: Final = frozenset({Purpose.FAR_LIMIT, Purpose.STOP, Purpose.STOP_LIMIT})
STOPS: Final = frozenset({Purpose.STOP, Purpose.STOP_LIMIT, Purpose.STOP_CROSSED})
REFUSED_HERE: Final = frozenset({Purpose.TOO_SMALL, Purpose.TOO_BIG})
"""What must be refused before anything is sent."""

BEYOND_ANY_FUNDS: Final = Decimal(10_000_000_000)
"""A notional, in dollars or so, that no rehearsal's account covers."""
PER_DOLLAR: Final[Mapping[str, Decimal]] = {"IRT": Decimal(1_000_000)}
"""What about a dollar is in a quote currency: markets in IRT have prices in rial. Not listed: 1."""


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """One order of the mix."""

    purpose: Purpose
    params: Mapping[str, Any]
    cancel_after: float | None = None
    """After what part of the day, counted from its acceptance, it is cancelled; None: never."""

    @property
    def order_id(self) -> str:
        """The client order id, under which the order stays the same however often it is executed."""
        return str(self.params["client_order_id"])


def plan_orders(
    count: int,
    seed: int,
    markets: Sequence[Market],
    prices: Mapping[str, Ticker],
    mix: Mapping[Purpose, int] = MIX,
) -> list[PlannedOrder]:
    """Draw ``count`` orders over the given markets; the same arguments give the same orders."""
    rng = random.Random(seed)  # noqa: S311 - a rehearsal is to be repeatable, not secret
    purposes: list[Purpose] = []
    while len(purposes) < count:
        twenty = [purpose for purpose, number in mix.items() for _ in range(number)]
        rng.shuffle(twenty)
        purposes += twenty
    orders = []
    for number, purpose in enumerate(purposes[:count], start=1):
        market = rng.choice(markets)
        orders.append(_draw(rng, f"rehearsal-{seed}-{number:04d}", purpose, market, prices[market.symbol]))
    return orders


def _draw(rng: random.Random, order_id: str, purpose: Purpose, market: Market, ticker: Ticker) -> PlannedOrder:
    side = "sell" if purpose in STOPS else rng.choice(("buy", "sell"))
    params: dict[str, Any] = {"client_order_id": order_id, "symbol": market.symbol, "side": side}
    params |= _terms(rng, purpose, market, ticker, buying=side == "buy")
    dollars = BEYOND_ANY_FUNDS if purpose is Purpose.TOO_BIG else Decimal(rng.randint(50, 500))
    notional = dollars * PER_DOLLAR.get(market.quote, Decimal(1))
    if purpose is Purpose.TOO_SMALL:
        params["amount"] = market.amount_step
    else:
        params["amount"] = _floor(notional / ticker.last, market.amount_step)
    cancel_after = rng.uniform(0.1, 0.4) if purpose in CANCELLED else None
    return PlannedOrder(purpose, params, cancel_after)


def _terms(rng: random.Random, purpose: Purpose, market: Market, ticker: Ticker, *, buying: bool) -> dict[str, Any]:
    """Type, price and time in force; ``toward`` is how far the price lies on the side that trades at once."""

    def price(toward: str) -> Decimal:
        best = ticker.ask if buying else ticker.bid
        sign = 1 if buying else -1
        return _floor(best * (1 + sign * Decimal(toward)), market.price_tick)

    match purpose:
        case Purpose.MARKET:
            return {"type": "market"}
        case Purpose.NEAR_LIMIT:
            return {"type": "limit", "price": price(rng.choice(("0.002", "0.0005", "-0.0005")))}
        case Purpose.STOP | Purpose.STOP_LIMIT | Purpose.STOP_CROSSED:
            return _stop_terms(purpose, market, ticker)
        case Purpose.IOC | Purpose.FOK:
            kind = {"type": "limit", "time_in_force": "IOC" if purpose is Purpose.IOC else "FOK"}
            return {**kind, "price": price(rng.choice(("0.003", "-0.003")))}
        case Purpose.POST_ONLY:
            return {"type": "limit", "post_only": True, "price": price("-0.01")}
        case Purpose.POST_ONLY_CROSSING:
            return {"type": "limit", "post_only": True, "price": price("0.01")}
        case Purpose.FAR_LIMIT | Purpose.TOO_SMALL | Purpose.TOO_BIG:
            return {"type": "limit", "price": price("-0.08")}


def _stop_terms(purpose: Purpose, market: Market, ticker: Ticker) -> dict[str, Any]:
    """Of an order that sells once the market has fallen so far; to one above the market it has fallen already."""
    at = Decimal("1.10" if purpose is Purpose.STOP_CROSSED else "0.90")
    terms = {"type": "stop_market", "stop_price": _floor(ticker.bid * at, market.price_tick)}
    if purpose is Purpose.STOP_LIMIT:
        terms |= {"type": "stop_limit", "price": _floor(ticker.bid * Decimal("0.88"), market.price_tick)}
    return terms


def _floor(value: Decimal, step: Decimal) -> Decimal:
    """Round down to a whole number of steps, but not to nothing."""
    return max((value / step).to_integral_value(ROUND_DOWN), Decimal(1)) * step
