"""Symbols and currencies: ``BTC/IRT`` is ``BTCIRT`` in paths, ``btc`` and ``rls`` in requests, names in answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

RIAL_NAMES = frozenset({"rls", "rial", "irt", "﷼", "ریال", "irr"})
TETHER_NAMES = frozenset({"usdt", "tether", "تتر"})

_MARKET = re.compile(r"([A-Za-z0-9_]{1,20})-([A-Za-z0-9_]{1,20})")


def codes(symbol: str) -> tuple[str, str]:
    """``BTC/IRT`` → ``btc``, ``rls``."""
    base, _, quote = symbol.partition("/")
    return base.lower(), code_of_currency(quote)


def code_of_currency(name: str) -> str:
    """``IRT`` → ``rls``; any other in lower case."""
    return "rls" if name.upper() in ("IRT", "RLS") else name.lower()


def currency(code: str) -> str:
    """``rls`` → ``IRT``; any other in upper case."""
    return "IRT" if code.lower() in RIAL_NAMES else code.upper()


def path_symbol(symbol: str) -> str:
    """``BTC/IRT`` → ``BTCIRT``."""
    return symbol.replace("/", "")


def from_path(name: str) -> str | None:
    """``BTCIRT`` → ``BTC/IRT``; None where it ends in no quote currency of the exchange."""
    for quote in ("IRT", "USDT"):
        if name.endswith(quote) and name != quote:
            return f"{name.removesuffix(quote)}/{quote}"
    return None


def from_market(name: str) -> str | None:
    """``BTC-RLS`` → ``BTC/IRT``."""
    parts = _MARKET.fullmatch(name)
    return f"{currency(parts[1])}/{currency(parts[2])}" if parts else None


def from_names(src: object, dst: object, names: Mapping[str, str]) -> str | None:
    """``Bitcoin`` and ``﷼`` → ``BTC/IRT``, by the names that the exchange gives its coins."""
    base, quote = _known(src, names), _known(dst, names)
    return f"{currency(base)}/{currency(quote)}" if base and quote else None


def _known(name: object, names: Mapping[str, str]) -> str | None:
    if not isinstance(name, str) or not name.strip():
        return None
    text = name.strip().lower()
    if text in RIAL_NAMES:
        return "rls"
    return "usdt" if text in TETHER_NAMES else names.get(text)
