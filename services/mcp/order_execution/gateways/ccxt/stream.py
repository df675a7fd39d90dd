"""Order updates from ccxt's streams. Hints only: what is not understood is left to the lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from ..base import ExchangeOrder, Unavailable
from .parsing import Decode, NotUnderstood, order

LIFETIME_SECONDS: Final = 3_600.0
"""After that the connection is made anew, and whoever follows it reads the lists once more."""
CLOSE_SECONDS: Final = 5.0
BATCH_MAX: Final = 10_000


class StreamBroken(Exception):
    """The stream could not be had, or ended."""


async def follow(
    exchange: Any,
    decode: Decode,
    ready: Callable[[], Awaitable[Unavailable | None]],
    ended: Callable[[ExchangeOrder], Awaitable[ExchangeOrder | None]],
) -> AsyncIterator[ExchangeOrder]:
    """Give each update of an order of the account; ends after an hour, and raises with the connection.

    No update ends an order: how much of it was filled, and of how much, stands in it as each exchange likes.
    The order itself is asked for by ``ended``; None leaves it to the lists.
    """
    problem = await ready()
    if problem is not None:
        raise StreamBroken(problem.message)
    end = asyncio.get_running_loop().time() + LIFETIME_SECONDS
    try:
        while (left := end - asyncio.get_running_loop().time()) > 0:
            for told in await _next(exchange, left):
                seen = _seen(told, decode)
                if seen is not None and seen.state.is_final:
                    seen = await ended(seen)
                if seen is not None:
                    yield seen
    finally:
        await _disconnect(exchange)


async def _next(exchange: Any, seconds: float) -> list[Any]:
    """What comes next; nothing once the time is up. Raises StreamBroken."""
    try:
        async with asyncio.timeout(seconds):
            told = await exchange.watch_orders()
    except TimeoutError:
        return []
    except Exception as error:  # noqa: BLE001 - whatever it is, the stream is over
        # The words of ccxt's errors hold addresses with keys in them.
        raise StreamBroken(type(error).__name__) from None
    return told[:BATCH_MAX] if isinstance(told, list) else []


async def _disconnect(exchange: Any) -> None:
    """Close the connections, so that the next stream makes its own."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await exchange.close_ws_clients()
    except TimeoutError:
        return  # the sockets are the exchange object's, which closes them with its session


def _seen(told: Any, decode: Decode) -> ExchangeOrder | None:
    """The order of an update; None for what is not understood: the lists will tell."""
    try:
        return order(dict(told), decode) if isinstance(told, dict) else None
    except NotUnderstood:
        return None
