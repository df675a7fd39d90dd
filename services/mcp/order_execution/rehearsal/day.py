"""The bad day that is rehearsed: what goes wrong, when, and where everything is kept."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ..bootstrap import make_gateway
from ..clock import Clock
from ..config import load_settings
from ..gateways.base import Gateway
from ..reliable_executor import ReliableOrderExecutor
from .plan import MIX, Purpose

SYMBOLS: Final = ("BTC/USD", "ETH/USD", "SOL/USDT", "DOGE/USDT")
SECONDS: Final = 12.0
"""Over how long the orders are spread, unless it is said otherwise."""

FAULTS: Final[Mapping[str, Any]] = {
    "lost_request": 0.05,
    "lost_reply": 0.10,
    "late_arrival": 0.06,
    "late_seconds_max": 1.8,
    "rate_limited": 0.03,
    "retry_after_seconds": 0.5,
    "server_error": 0.04,
    "refused_connection": 0.02,
    "latency_seconds": (0.02, 0.15),
    "hang_seconds": 0.4,
}
"""Worse than any real day: three requests in ten meet a fault."""

OUTAGES: Final = ((0.28, 0.18, "refused"), (0.71, 0.14, "timeout"))
"""When the exchange is out, for how long (both as parts of the day), and how that looks."""


RETRY: Final[Mapping[str, Any]] = {
    "max_retries": 6,
    "initial_delay": 0.2,
    "max_delay": 1.0,
    "deadline_seconds": 15.0,
    "budget_tokens": 40,
}
CIRCUIT_BREAKER: Final[Mapping[str, Any]] = {
    "error_threshold": 240,
    "failure_threshold": 5,
    "cool_down_seconds": 0.5,
    "max_cool_down_seconds": 0.8,
}


class BadDay:
    """The day and the day after on the paper exchange: their configurations, and where their files lie."""

    symbols: tuple[str, ...] = SYMBOLS
    mix: Mapping[Purpose, int] = MIX
    where = "the paper exchange"

    def __init__(
        self,
        directory: Path,
        seed: int,
        clock: Clock,
        *,
        seconds: float = SECONDS,
        faults: Mapping[str, Any] = FAULTS,
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.clock = clock
        self.seconds = seconds
        """Over how long the orders are spread."""
        self.faults: dict[str, Any] = {"outages": planned_outages(seconds), **faults}
        self.after: dict[str, Any] = self._config()
        """The same exchange, journal and logs, and nothing goes wrong."""
        self.config: dict[str, Any] = self._bad_config()
        """The day itself."""

    def _config(self) -> dict[str, Any]:
        paper = {"path": str(self.directory / "paper_exchange.db"), "seed": self.seed, "step_seconds": 0.25}
        return configuration(self.directory, {"name": "paper", "timeout_seconds": 2.0, "paper": paper})

    def _bad_config(self) -> dict[str, Any]:
        config = copy.deepcopy(self.after)
        config["gateway"]["paper"]["faults"] = self.faults
        return config

    async def __aenter__(self) -> Self:
        """Make the exchange ready, in good weather."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing running."""

    def observer(self) -> Gateway:
        """The exchange seen without any fault."""
        rng = random.Random(self.seed)  # noqa: S311 - jitter
        return make_gateway(load_settings(self.after), self.clock, rng)

    def executor(self) -> ReliableOrderExecutor:
        """The executor that lives through the day."""
        return ReliableOrderExecutor(self.config)

    def executor_after(self) -> ReliableOrderExecutor:
        """The one that is started afterwards, on the same journal."""
        return ReliableOrderExecutor(self.after)

    async def begin(self) -> None:
        """Let the weather turn bad: here it is as soon as the executor opens."""

    async def end(self) -> None:
        """Let it be good again: here it is for the executor afterwards."""

    def outages(self) -> list[tuple[float, float]]:
        """When the exchange is out, in seconds after the opening: from, until."""
        spans = [(float(item["after_seconds"]), float(item["for_seconds"])) for item in self.faults["outages"]]
        return [(after, after + lasting) for after, lasting in spans]

    def told(self) -> dict[str, str]:
        """Say the faults in words."""
        words = {}
        for name, value in self.faults.items():
            if name == "outages":
                continue
            shown = f"{value:.0%} of requests" if name in _CHANCES else _seconds(value)
            words[name.replace("_", " ")] = shown
        for number, item in enumerate(self.faults["outages"], start=1):
            words[f"outage {number}"] = f"{item['for_seconds']} s after {item['after_seconds']} s, {item['kind']}"
        return words

    def files(self) -> dict[str, str]:
        """Where everything lies."""
        return {
            "report": str(self.directory / "report.html"),
            "report as JSON": str(self.directory / "report.json"),
            "journal": str(self.directory / "journal.db"),
            "transaction log": str(self.directory / "transactions"),
            "the exchange itself": str(self.directory / "paper_exchange.db"),
        }


def planned_outages(seconds: float) -> list[dict[str, Any]]:
    """The outages of a day of so many seconds."""
    return [
        {"after_seconds": round(after * seconds, 1), "for_seconds": round(lasting * seconds, 1), "kind": kind}
        for after, lasting, kind in OUTAGES
    ]


def configuration(directory: Path, gateway: Mapping[str, Any]) -> dict[str, Any]:
    """An executor's configuration with everything in one directory."""
    return {
        "gateway": dict(gateway),
        "journal": {"url": f"sqlite:///{directory / 'journal.db'}"},
        "retry": dict(RETRY),
        "circuit_breaker": dict(CIRCUIT_BREAKER),
        "confirmation": {"poll_interval_seconds": 1.0},
        "transaction_log": {"path": str(directory / "transactions")},
        "alerts": {"min_level": "critical"},
    }


_CHANCES: Final = frozenset(
    {
        "lost_request",
        "lost_reply",
        "late_arrival",
        "rate_limited",
        "server_error",
        "garbled_reply",
        "refused_connection",
        "hang",
    }
)


def _seconds(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{value[0]} to {value[1]} s"
    return f"{value} s"
