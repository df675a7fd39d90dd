"""The exchange's markets, as it tells them at run time: precisions, least values, and the names of its coins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from ..base import Market
from . import symbols
from .parsing import NotUnderstood, number

RELOAD_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Markets:
    """What ``/v2/options`` said. ``read_at`` is monotonic."""

    read_at: float
    by_symbol: Mapping[str, Market] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """Display names in lower case → currency codes."""


def read_markets(data: Mapping[str, Any], now: float) -> Markets:
    """Read the options. A market whose precisions are not understood is left out. Raises NotUnderstood."""
    section = data.get("nobitex")
    if not isinstance(section, dict):
        raise NotUnderstood("nobitex")
    amounts, prices = section.get("amountPrecisions"), section.get("pricePrecisions")
    least = section.get("minOrders")
    if not isinstance(amounts, dict) or not isinstance(prices, dict):
        raise NotUnderstood("amountPrecisions")
    found = {}
    for name, step in amounts.items():
        symbol = symbols.from_path(name)
        if symbol is None or name not in prices:
            continue
        try:
            found[symbol] = _market(symbol, step, prices[name], least if isinstance(least, dict) else {})
        except NotUnderstood:
            continue
    return Markets(now, found, _names(data.get("coins")))


def _market(symbol: str, step: object, tick: object, least: Mapping[str, Any]) -> Market:
    base, _, quote = symbol.partition("/")
    amount_step, price_tick = number(step, "amountPrecisions"), number(tick, "pricePrecisions")
    if not amount_step or not price_tick:
        raise NotUnderstood("precisions")
    code = symbols.code_of_currency(quote)
    return Market(
        symbol=symbol,
        base=base,
        quote=quote,
        price_tick=price_tick,
        amount_step=amount_step,
        min_amount=amount_step,
        min_notional=number(least.get(code, 0), "minOrders") if least else Decimal(0),
    )


def _names(coins: object) -> dict[str, str]:
    names: dict[str, str] = {}
    doubtful: set[str] = set()
    for coin in coins if isinstance(coins, list) else []:
        if not isinstance(coin, dict) or not isinstance(coin.get("coin"), str):
            continue
        for key in ("coin", "name", "stdName"):
            name = coin.get(key)
            if isinstance(name, str) and name.strip():
                meant = names.setdefault(name.strip().lower(), coin["coin"].lower())
                if meant != coin["coin"].lower():
                    doubtful.add(name.strip().lower())
    # A name that two coins bear names neither.
    return {name: code for name, code in names.items() if name not in doubtful}
