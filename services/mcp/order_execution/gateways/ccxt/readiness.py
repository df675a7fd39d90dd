"""What has to be known before an order: the rules of the markets and the exchange's clock, read now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from ...clock import Clock
from ...errors import ErrorCategory
from ..base import Unavailable
from . import parsing
from .parsing import NotUnderstood
from .reading import guarded
from .row import Row

_logger: Final = logging.getLogger(__name__)

MARKETS_SECONDS: Final = 3_600.0
"""How long the rules of markets are used before they are read anew; the exchange's clock is read with them."""
RETRY_SECONDS: Final = 60.0
"""Pause after a reading that failed, while older rules serve."""
LOST_SHARE: Final = 0.5
"""A list of markets that lacks more of the known ones than this is not believed."""


class Readiness:
    """Markets and clock of one exchange. Rules that are known serve while newer ones are read.

    ``measured`` takes what the exchange's clock said, and how many seconds the answer took.
    """

    def __init__(
        self, row: Row | None, exchange: Any, clock: Clock, measured: Callable[[datetime, float], None]
    ) -> None:
        self.clock_doubtful = True
        """The exchange refused a timestamp, or its clock was never read."""
        self._row = row
        self._exchange = exchange
        self._clock = clock
        self._measured = measured
        self._markets_at: float | None = None
        self._tried_at: float | None = None
        self._loading: asyncio.Task[Unavailable | None] | None = None

    async def close(self) -> None:
        """Stop reading; harmless when repeated."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    def known(self) -> None:
        """Take the markets that the exchange's object has for read just now."""
        self._markets_at = self._clock.monotonic()

    async def ready(self) -> Unavailable | None:
        """See to it that the markets are known: waits for the first reading alone, never for a later one."""
        if self._markets_at is None:
            # Whoever stops waiting must not take along the others, ccxt's streams among them.
            return await asyncio.shield(self._task())
        now = self._clock.monotonic()
        rested = self._tried_at is None or now - self._tried_at >= RETRY_SECONDS
        if now - self._markets_at >= MARKETS_SECONDS and rested:
            self._task()
        return None

    async def ready_within(self, seconds: float) -> Unavailable | None:
        """The same before a write, which nobody shall count as sent because of this: it must not take long."""
        try:
            async with asyncio.timeout(seconds):
                problem = await self.ready()
                if problem is None and self.clock_doubtful:
                    # A timestamp ahead of the exchange's clock keeps a late copy good for longer than traits say.
                    await self.read_clock()
                return problem
        except TimeoutError:
            return Unavailable(ErrorCategory.TIMEOUT, f"markets and clock took longer than {seconds:g} s")

    def _task(self) -> asyncio.Task[Unavailable | None]:
        if self._loading is None or self._loading.done():
            self._loading = asyncio.get_running_loop().create_task(
                self._load(), name=f"markets of {self._exchange.id}"
            )
        return self._loading

    async def _load(self) -> Unavailable | None:
        """Read markets and clock."""
        self._tried_at = self._clock.monotonic()
        loaded = await guarded(self._row, self.read_markets)
        if isinstance(loaded, Unavailable):
            _logger.warning("the markets of %s could not be read: %s", self._exchange.id, loaded.message)
            return loaded
        self.known()
        await self.read_clock()
        return None

    async def read_markets(self) -> None:
        """Ask for the markets. Raises NotUnderstood for a list that has hardly any of those that are known."""
        method = None if self._row is None else self._row.markets_method
        self._exchange.revise = self._revised
        try:
            if method is None:
                await self._exchange.load_markets(True)
            else:
                self._exchange.set_markets(await getattr(self._exchange, method)())
        finally:
            self._exchange.revise = None

    def _revised(self, told: Any) -> list[Any]:
        """The markets as they are told now, and those that are told no longer: an order of one may rest there."""
        listed = list(told.values() if isinstance(told, dict) else told or ())
        symbols = {market["symbol"] for market in listed}
        known = self._exchange.markets or {}
        gone = [market for symbol, market in known.items() if symbol not in symbols]
        if not symbols or len(gone) > LOST_SHARE * len(known):
            raise NotUnderstood("markets")
        return [*listed, *({**market, "active": False} for market in gone)]

    async def read_clock(self) -> None:
        """Compare clocks to the millisecond, where the exchange tells its own; else its Date headers have to do."""
        self.clock_doubtful = False
        if not self._exchange.has.get("fetchTime"):
            return
        before = self._clock.monotonic()
        theirs = await guarded(self._row, self._exchange.fetch_time)
        try:
            self._measured(parsing.moment(theirs, "time"), self._clock.monotonic() - before)
        except NotUnderstood:
            return  # the Date headers have to do
