"""What all counters of the sandbox share."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from ..clock import Clock
from ..paper_exchange.exchange import PaperExchange
from .calls import Refusal, failed
from .faults import Weather
from .keys import DemoKeys
from .markets import CODES, MarketInfo, Markets
from .rate_limits import RateLimits
from .settings import SandboxSettings, WireFaults

ANONYMOUS: Final = "~"
"""Ids that the sandbox gives to orders without a ``clientOrderId`` begin so; no caller's id can."""
CLIENT_ID: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
_WHOLE: Final = re.compile(r"[0-9]{1,18}")


@dataclass
class House:
    """The exchange, its markets and keys, and the weather outside, which may change."""

    settings: SandboxSettings
    exchange: PaperExchange
    markets: Markets
    keys: DemoKeys
    clock: Clock
    rng: random.Random
    limits: RateLimits
    weather: Weather

    @property
    def faults(self) -> WireFaults:
        """The faults in force."""
        return self.weather.faults

    @property
    def lag(self) -> float:
        """Seconds that a new order stays hidden from lookups and lists."""
        return self.faults.lookup_lag_seconds

    def varied(self, old: Any, new: Any) -> Any:
        """One of two documented ways to say the same."""
        if self.settings.shapes == "varied":
            return self.rng.choice((old, new))
        return old if self.settings.shapes == "old" else new


def bad_request(message: str) -> Refusal:
    """A request whose parameters cannot be read."""
    return Refusal(failed("ParseError", message, status=400))


def choice(query: dict[str, Any], name: str, allowed: tuple[str, ...], default: str | None = None) -> str | None:
    """A parameter that is one of a few words. Raises Refusal."""
    value = query.get(name)
    if value is None:
        return default
    if value not in allowed:
        raise bad_request(f"{name}: one of {', '.join(allowed)}")
    return str(value)


def whole(query: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """A parameter that is a whole number within bounds. Raises Refusal."""
    text = query.get(name)
    if text is None:
        return default
    if _WHOLE.fullmatch(text) is None or not least <= int(text) <= most:
        raise bad_request(f"{name}: a whole number from {least} to {most}")
    return int(text)


def currency(fields: dict[str, Any], name: str) -> str | None:
    """A parameter that is a currency code. Raises Refusal."""
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or value not in CODES):
        raise bad_request(f"{name}: a currency code")
    return value


def fits(info: MarketInfo, src: str | None, dst: str | None) -> bool:
    """Whether a market trades these currencies; None stands for any."""
    return (src is None or info.src == src) and (dst is None or info.dst == dst)


def plain(value: Decimal) -> str:
    """A decimal in plain digits without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
