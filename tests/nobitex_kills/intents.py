"""What the bot wants: orders of every kind that Nobitex takes, drawn from a seed, with what to do next."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from tests.nobitex_kills.exchange import Served

STEPS = {"BTC/USDT": Decimal("0.000001"), "ETH/USDT": Decimal("0.00001"), "BTC/IRT": Decimal("0.000001")}
"""Symbol → its step of amounts."""
KINDS = ("rest", "take", "near", "market", "big", "stop", "stop limit", "crossed stop", "twin")


@dataclass(frozen=True, slots=True)
class Intent:
    """One order of the list."""

    kind: str
    params: dict[str, Any]
    then: str = "nothing"
    """nothing; cancel (once it is placed); race (cancel while it is being placed); or wait (until it is final)."""

    @property
    def name(self) -> str:
        """Its id, the same in every life."""
        return str(self.params["client_order_id"])


@dataclass(frozen=True, slots=True)
class Price:
    """The best prices of a symbol."""

    bid: Decimal
    ask: Decimal
    usd: Decimal
    """What one unit of the base is worth."""


def prices(exchange: Served) -> dict[str, Price]:
    """Present prices of every symbol of the list."""
    found = {}
    for symbol in STEPS:
        book = exchange.get(f"/v3/orderbook/{symbol.replace('/', '')}")
        usd = exchange.get(f"/v3/orderbook/{symbol.partition('/')[0]}USDT")
        bid, ask = Decimal(book["bids"][0][0]), Decimal(book["asks"][0][0])
        found[symbol] = Price(bid, ask, Decimal(usd["bids"][0][0]))
    return found


def draw_intents(rng: random.Random, count: int, market: dict[str, Price], *, twins: bool) -> list[Intent]:
    """So many orders. Each has its own amount, or Nobitex would take it for a repetition; twins do not."""
    made: list[Intent] = []
    kinds = KINDS if twins else KINDS[:-1]
    while len(made) < count:
        number = len(made)
        kind = rng.choice(kinds)
        symbol = rng.choice(list(STEPS))
        params = _params(rng, kind, symbol, market[symbol])
        worth = 60_000 if kind == "big" else rng.randint(50, 400)
        step = STEPS[symbol]
        amount = (worth / market[symbol].usd / step).to_integral_value(ROUND_DOWN) * step + number * step
        params |= {"symbol": symbol, "amount": str(amount), "client_order_id": f"o{number}"}
        made.append(Intent(kind, params, _then(rng, kind)))
        if kind == "twin":
            made.append(Intent(kind, {**params, "client_order_id": f"o{number + 1}"}, _then(rng, kind)))
    return made


def _then(rng: random.Random, kind: str) -> str:
    if kind in ("market", "crossed stop"):
        return rng.choice(("wait", "nothing"))
    return rng.choice(("nothing", "cancel", "race", "wait"))


def _params(rng: random.Random, kind: str, symbol: str, price: Price) -> dict[str, Any]:
    side = rng.choice(("buy", "sell"))
    best, toward = (price.ask, Decimal(1)) if side == "buy" else (price.bid, Decimal(-1))

    def at(part: str) -> str:
        return _rounded(best * (1 + toward * Decimal(part)))

    match kind:
        case "market":
            return {"side": side, "type": "market"}
        case "take" | "big":
            return {"side": side, "type": "limit", "price": at("0.004")}
        case "near":
            return {"side": side, "type": "limit", "price": at("-0.0004")}
        case "stop":
            return {"side": side, "type": "stop_market", "stop_price": at("0.08")}
        case "stop limit":
            return {"side": side, "type": "stop_limit", "stop_price": at("0.08"), "price": at("0.09")}
        case "crossed stop":  # the market has passed it already, so the exchange refuses it
            return {"side": side, "type": "stop_market", "stop_price": at("-0.08")}
    return {"side": side, "type": "limit", "price": at("-0.08")}


def _rounded(price: Decimal) -> str:
    """Five significant digits: on the grid of every market here."""
    unit = Decimal(1).scaleb(price.adjusted() - 4)
    return format((price / unit).to_integral_value() * unit, "f")
