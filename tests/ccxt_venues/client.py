"""The raw ccxt classes, pointed at a venue of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt.async_support as ccxt_async

from tests.ccxt_venues.server import Venue


def point(exchange: Any, base_url: str) -> None:
    """Put every REST host of a ccxt object at one address; paths are kept."""
    exchange.urls["api"] = {
        name: _moved(url, base_url) for name, url in exchange.urls["api"].items() if isinstance(url, str)
    }


def _moved(url: str, base_url: str) -> str:
    path = url.partition("://")[2].partition("/")[2]
    return f"{base_url}/{path}".rstrip("/")


@asynccontextmanager
async def raw(venue: Venue, **options: Any) -> AsyncIterator[Any]:
    """A ccxt object as anybody would make it, numbers as strings, without its rate limiter."""
    keys = venue.keys
    given = {"apiKey": keys.api_key, "secret": keys.secret, "password": keys.passphrase, "timeout": 5000}
    exchange = getattr(ccxt_async, venue.dialect.name)(
        {**given, "enableRateLimit": False, "number": str, **options}
    )
    exchange.timeout_on_exit = 0
    point(exchange, venue.base_url)
    try:
        yield exchange
    finally:
        await exchange.close()
