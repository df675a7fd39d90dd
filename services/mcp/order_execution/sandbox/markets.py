"""What trades in the sandbox, and the five ways in which Nobitex writes its names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Final

from ..paper_exchange.exchange import PaperExchange
from .unthrottled import unthrottled

RIAL_SIGN: Final = "\ufdfc"
RIAL_WORD: Final = "\u0631\u06cc\u0627\u0644"

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rls": "Rial", "usdt": "Tether", "btc": "Bitcoin", "eth": "Ethereum", "ltc": "Litecoin", "xrp": "Ripple",
        "bch": "Bitcoin Cash", "bnb": "Binance Coin", "doge": "Dogecoin", "ada": "Cardano", "trx": "Tron",
        "dot": "Polkadot", "sol": "Solana", "link": "Chainlink", "shib": "Shiba Inu", "1m_pepe": "1M Pepe",
    }
)  # fmt: skip
"""Currency code → display name."""

CODES: Final = frozenset(NAMES)
QUOTES: Final = ("rls", "usdt")
FINEST: Final = Decimal("1e-8")
"""Nobitex takes at most eight decimals."""

_MINIMUM: Final = {"rls": Decimal(3_000_000), "usdt": Decimal(11)}
_AMOUNT_STEP: Final = {"btc": Decimal("0.000001"), "eth": Decimal("0.00001"), "usdt": Decimal("0.01")}


def paper_currency(code: str) -> str:
    """The paper exchange's name of a currency: capitals and digits only."""
    return code.replace("_", "").upper()


@dataclass(frozen=True, slots=True)
class MarketInfo:
    """One market. Steps and the least worth of an order are in its own units."""

    src: str
    dst: str
    symbol: str
    """As the paper exchange writes it."""
    price_step: Decimal
    amount_step: Decimal
    minimum: Decimal

    @property
    def path(self) -> str:
        """As in URLs and channels: ``BTCIRT``."""
        return self.src.upper() + ("IRT" if self.dst == "rls" else self.dst.upper())

    @property
    def dashed(self) -> str:
        """As in the statistics: ``btc-rls``."""
        return f"{self.src}-{self.dst}"

    @property
    def market(self) -> str:
        """As in orders and trades: ``BTC-RLS``."""
        return self.dashed.upper()

    def whole_price(self, price: Decimal) -> Decimal:
        """A price on the tick; what is too fine is rounded half to even."""
        return (price / self.price_step).to_integral_value(ROUND_HALF_EVEN) * self.price_step

    def whole_amount(self, amount: Decimal) -> Decimal:
        """An amount in whole steps; what is too fine is cut off."""
        return (amount / self.amount_step).to_integral_value(ROUND_DOWN) * self.amount_step


class Markets:
    """All markets of the sandbox. Making it funds their currencies at the paper exchange."""

    def __init__(self, exchange: PaperExchange) -> None:
        infos = [
            info
            for code in NAMES
            for quote in QUOTES
            if code not in (quote, "rls") and (info := _market(exchange, code, quote)) is not None
        ]
        self._all: dict[tuple[str, str], MarketInfo] = {(info.src, info.dst): info for info in infos}
        self._by_path = {info.path: info for info in infos}
        self._by_symbol = {info.symbol: info for info in infos}
        self.minimums: dict[str, Decimal] = {
            quote: max(info.minimum for info in infos if info.dst == quote) for quote in QUOTES
        }

    def __iter__(self) -> Iterator[MarketInfo]:
        return iter(self._all.values())

    def pair(self, src: str, dst: str) -> MarketInfo | None:
        """The market of two currency codes."""
        return self._all.get((src, dst))

    def by_path(self, path: str) -> MarketInfo | None:
        """The market of a path symbol such as ``BTCIRT``."""
        return self._by_path.get(path)

    def by_symbol(self, symbol: str) -> MarketInfo:
        """The market of a paper symbol. Raises KeyError for one that was never traded here."""
        return self._by_symbol[symbol]

    def knows(self, symbol: str) -> bool:
        """Whether a paper symbol is a market of the sandbox."""
        return symbol in self._by_symbol


def _market(exchange: PaperExchange, src: str, dst: str) -> MarketInfo | None:
    symbol = f"{paper_currency(src)}/{paper_currency(dst)}"
    rules = unthrottled(exchange.rules(symbol))
    if rules is None:
        return None
    return MarketInfo(
        src=src,
        dst=dst,
        symbol=symbol,
        price_step=max(rules.price_tick, FINEST),
        amount_step=max(rules.amount_step, _AMOUNT_STEP.get(src, rules.amount_step)),
        minimum=max(rules.min_notional, _MINIMUM[dst]),
    )
