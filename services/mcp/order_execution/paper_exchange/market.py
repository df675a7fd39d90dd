"""What trades and at which price: symbols, their rules, the price process and the depth around the price.

Everything here follows from the seed. A price depends on seed, symbol and step alone, not on who looks or how
often, so processes that share an exchange agree without telling each other, and an absence of a year costs
nothing. The logarithm of a currency's price is a sum of waves of growing length and height: it wanders like a
random walk over seconds to hours, and stays within bounds over years.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from ..models import Side
from .records import Level, MarketRules

SYMBOL: Final = re.compile(r"[A-Z0-9]{2,15}/[A-Z0-9]{2,15}")

_COINS: Final = {
    "BTC": "65000", "ETH": "3200", "BNB": "600", "SOL": "150", "XRP": "0.6", "ADA": "0.45", "DOGE": "0.15",
    "TRX": "0.13", "TON": "6", "DOT": "6.5", "LINK": "14", "MATIC": "0.6", "POL": "0.5", "LTC": "80",
    "BCH": "400", "AVAX": "30", "SHIB": "0.000024", "PEPE": "0.000011", "UNI": "8", "ATOM": "7", "XLM": "0.11",
    "ETC": "25", "XMR": "165", "FIL": "5", "NEAR": "5.5", "APT": "8", "ARB": "0.8", "OP": "1.9", "AAVE": "100",
    "MKR": "2600", "ALGO": "0.17", "SAND": "0.35", "MANA": "0.38", "AXS": "6.5", "PAXG": "2400",
}  # fmt: skip
_STABLE: Final = {"USDT": "1", "USDC": "1", "DAI": "1", "FDUSD": "1", "TUSD": "1", "BUSD": "1"}
_FIAT: Final = {
    "USD": "1", "EUR": "1.08", "GBP": "1.27", "CHF": "1.12", "CAD": "0.73", "AUD": "0.66", "JPY": "0.0067",
    "TRY": "0.031", "AED": "0.272", "IRT": "0.00001", "RLS": "0.000001",
}  # fmt: skip

USD_PRICES: Final[Mapping[str, Decimal]] = MappingProxyType(
    {currency: Decimal(price) for table in (_COINS, _STABLE, _FIAT) for currency, price in table.items()}
)
"""What one unit of a currency is worth at the start."""

SWING: Final[Mapping[str, float]] = MappingProxyType(
    {**dict.fromkeys(_STABLE, 0.01), **dict.fromkeys(_FIAT, 0.05), "USD": 0.0}
)
"""How much a currency moves against the dollar, a coin being 1."""

LEVELS: Final = 12
HALF_SPREAD: Final = Decimal("0.0001")
LEVEL_GAP: Final = Decimal("0.0002")
WAVES: Final = 8
"""The shortest wave lasts one step, each further one four times as long: the longest 16,384 steps."""

_ROUGH: Final = Context(prec=12)
_MONEY_DIGITS: Final = 7
_START_FUNDS_USD: Final = Decimal(1_000_000)
_MAX_ORDER_USD: Final = Decimal(1_000_000_000_000)
_MIN_ORDER_USD: Final = Decimal(5)


def split_symbol(symbol: str) -> tuple[str, str] | None:
    """Base and quote of a symbol, or None where nothing trades under that name."""
    if SYMBOL.fullmatch(symbol) is None:
        return None
    base, _, quote = symbol.partition("/")
    return None if base == quote else (base, quote)


def power_of_ten(value: Decimal, digits: int = 0) -> Decimal:
    """The unit of the leading digit of ``value``, and ``digits`` places below that."""
    return Decimal(1).scaleb(value.adjusted() - digits)


def round_to(value: Decimal, unit: Decimal, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """``value`` as a whole multiple of ``unit``, in plain digits."""
    return (value / unit).to_integral_value(rounding) * unit


def plain(value: Decimal) -> Decimal:
    """The same number without trailing zeros and without an exponent above zero."""
    value = value.normalize()
    return value.quantize(Decimal(1)) if value.adjusted() < 28 and value == value.to_integral_value() else value


class Markets:
    """All symbols of one exchange; pure functions of its seed and settings, with bounded memory of results."""

    def __init__(self, seed: int, *, volatility: float, depth_usd: float) -> None:
        self._key = blake2b(str(seed).encode(), digest_size=32).digest()
        self._volatility = volatility
        self._depth_usd = Decimal(repr(depth_usd))
        self.rules = lru_cache(maxsize=1024)(self._rules)
        self.price = lru_cache(maxsize=8192)(self._price)
        self.levels = lru_cache(maxsize=256)(self._levels)
        self._lattice = lru_cache(maxsize=8192)(self._draw)

    # ---- fixed facts --------------------------------------------------------------------------------------

    def usd_price(self, currency: str) -> Decimal:
        """What one unit is worth at the start; drawn from the seed where the table does not say."""
        known = USD_PRICES.get(currency)
        if known is not None:
            return known
        exponent = -2.0 + 4.5 * (self._draw(currency, -1, 0) + 1.0) / 2.0
        price = Decimal(repr(10.0**exponent))
        return round_to(price, power_of_ten(price, 2))

    def start_funds(self, currency: str) -> Decimal:
        """A generous amount to start with: about a million dollars' worth."""
        amount = _START_FUNDS_USD / self.usd_price(currency)
        return plain(round_to(amount, power_of_ten(amount, 1)))

    def _rules(self, symbol: str) -> MarketRules | None:
        """The rules of a symbol, or None where nothing trades under that name."""
        pair = split_symbol(symbol)
        if pair is None:
            return None
        base_usd, quote_usd = self.usd_price(pair[0]), self.usd_price(pair[1])
        price = _ROUGH.divide(base_usd, quote_usd)
        tick = power_of_ten(price, _MONEY_DIGITS - 1)
        least = _ROUGH.divide(_MIN_ORDER_USD, quote_usd)
        step = power_of_ten(_ROUGH.divide(Decimal("0.0001"), base_usd))
        return MarketRules(
            symbol=symbol,
            base=pair[0],
            quote=pair[1],
            start_price=plain(round_to(price, tick)),
            price_tick=plain(tick),
            max_price=plain(power_of_ten(price, -4)),
            amount_step=plain(min(max(step, Decimal("1e-8")), Decimal(1))),
            max_amount=plain(power_of_ten(_ROUGH.divide(_MAX_ORDER_USD, base_usd))),
            min_notional=plain(round_to(least, power_of_ten(least))),
        )

    # ---- the price process --------------------------------------------------------------------------------

    def _draw(self, currency: str, wave: int, index: int) -> float:
        """A number in [-1, 1) that depends on nothing but the seed and the arguments."""
        digest = blake2b(f"{currency}|{wave}|{index}".encode(), digest_size=6, key=self._key).digest()
        return int.from_bytes(digest, "big") / 2.0**47 - 1.0

    def _wave(self, currency: str, step: int) -> float:
        total, height, length = 0.0, 1.0, 1
        for wave in range(WAVES):
            index, inside = divmod(step, length)
            left = self._lattice(currency, wave, index)
            if inside:
                left += (self._lattice(currency, wave, index + 1) - left) * inside / length
            total += height * left
            height *= 2.0
            length *= 4
        return total

    def _drift(self, currency: str, step: int) -> float:
        swing = SWING.get(currency, 1.0) * self._volatility
        return swing * (self._wave(currency, step) - self._wave(currency, 0)) if swing else 0.0

    def _price(self, symbol: str, step: int) -> Decimal:
        """The price at a step, on the tick; at step 0 the start price. The symbol must be a known one."""
        rules = self._known(symbol)
        factor = math.exp(self._drift(rules.base, step) - self._drift(rules.quote, step))
        # Twelve digits: what the last bits of a float differ by between machines does not reach the tick.
        price = rules.start_price * Decimal(f"{factor:.12f}")
        return max(round_to(price, rules.price_tick), rules.price_tick * 1000)

    # ---- depth --------------------------------------------------------------------------------------------

    def _levels(self, symbol: str, step: int, side: Side) -> tuple[Level, ...]:
        """What rests for a taker of ``side`` (asks for a buyer), best level first."""
        rules, price = self._known(symbol), self.price(symbol, step)
        away, rounding = (1, ROUND_CEILING) if side is Side.BUY else (-1, ROUND_FLOOR)
        text = f"{symbol}|{step}|{side}".encode()
        weights = blake2b(text, digest_size=2 * LEVELS, key=self._key).digest()
        unit = self._depth_usd / self.usd_price(rules.base)
        levels: list[Level] = []
        at = price
        for number in range(LEVELS):
            offset = price * (HALF_SPREAD + number * LEVEL_GAP) * away
            at = round_to(price + offset, rules.price_tick, rounding)
            if levels and (at - levels[-1].price) * away <= 0:
                at = levels[-1].price + rules.price_tick * away
            weight = Decimal(int.from_bytes(weights[2 * number : 2 * number + 2], "big")) / 65536 + Decimal("0.5")
            amount = round_to(unit * weight * (1 + number * Decimal("0.25")), rules.amount_step, ROUND_DOWN)
            levels.append(Level(at, max(amount, rules.amount_step)))
        return tuple(levels)

    def _known(self, symbol: str) -> MarketRules:
        rules = self.rules(symbol)
        if rules is None:
            raise KeyError(symbol)
        return rules
