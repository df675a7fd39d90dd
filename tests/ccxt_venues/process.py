"""The venues' process, and how other processes speak to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Remote:
    """A venue in another process: where it is, and what its account's owner holds."""

    url: str
    symbol: str
    api_key: str
    secret: str
    passphrase: str | None

    def ask(self, what: str, **told: Any) -> Any:
        """An operator's request, on which nothing goes wrong."""
        return _ask(f"{self.url}/operator/{what}", told)

    def book(self) -> list[dict[str, Any]]:
        """Every order that was ever booked."""
        orders: list[dict[str, Any]] = self.ask("book")["orders"]
        return orders


def _ask(url: str, told: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, data=json.dumps(told).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())


def make(control: str, exchange: str, **told: Any) -> Remote:
    """Open another venue."""
    return Remote(**_ask(f"{control}/make", {"exchange": exchange, **told}))


@contextmanager
def venues() -> Iterator[str]:
    """The process; the address of its control door."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ccxt_venues", str(os.getpid())],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.kill()  # forked bots may still hold the other end of its input
        process.wait(10)
        process.stdout.close()
