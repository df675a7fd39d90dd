"""The bad day that is rehearsed: what goes wrong, when, and where everything is kept."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..clock import Clock

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


class BadDay:
    """The configurations of the day and of the day after, and where their files lie."""

    symbols = SYMBOLS

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
        self.clock = clock
        self.seconds = seconds
        """Over how long the orders are spread."""
        outages = [
            {"after_seconds": round(after * seconds, 1), "for_seconds": round(lasting * seconds, 1), "kind": kind}
            for after, lasting, kind in OUTAGES
        ]
        self.faults: dict[str, Any] = {**faults, "outages": outages}
        self.after: dict[str, Any] = self._config(seed)
        """The same exchange, journal and logs, and nothing goes wrong."""
        self.config: dict[str, Any] = copy.deepcopy(self.after)
        """The day itself."""
        self.config["gateway"]["paper"]["faults"] = self.faults

    def _config(self, seed: int) -> dict[str, Any]:
        paper = {"path": str(self.directory / "paper_exchange.db"), "seed": seed, "step_seconds": 0.25}
        return {
            "gateway": {"name": "paper", "timeout_seconds": 2.0, "paper": paper},
            "journal": {"url": f"sqlite:///{self.directory / 'journal.db'}"},
            "retry": {
                "max_retries": 6,
                "initial_delay": 0.2,
                "max_delay": 1.0,
                "deadline_seconds": 15.0,
                "budget_tokens": 40,
            },
            "circuit_breaker": {
                "error_threshold": 240,
                "failure_threshold": 5,
                "cool_down_seconds": 0.5,
                "max_cool_down_seconds": 0.8,
            },
            "confirmation": {"poll_interval_seconds": 1.0},
            "transaction_log": {"path": str(self.directory / "transactions")},
            "alerts": {"min_level": "critical"},
        }

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


_CHANCES: Final = frozenset(
    {"lost_request", "lost_reply", "late_arrival", "rate_limited", "server_error", "refused_connection"}
)


def _seconds(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{value[0]} to {value[1]} s"
    return f"{value} s"
