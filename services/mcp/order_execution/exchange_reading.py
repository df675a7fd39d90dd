"""What the exchange tells of an account's orders, by its lists and by looking one up.

A read that is not answered is made a few times more; then it is an error. Silence is never an empty list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from .clock import Clock
from .errors import ErrorCategory, ExchangeUnavailable
from .gateways.base import (
    ExchangeOrder,
    ExchangeTrade,
    Found,
    Gateway,
    ListScope,
    LookupScope,
    NotFound,
    OrderRef,
    Unavailable,
)
from .models import Order

T = TypeVar("T")

MARGIN: Final = timedelta(minutes=1)
"""How far the exchange's clock may differ from ours."""
READ_ATTEMPTS: Final = 4
READ_SECONDS_MAX: Final = 600.0
"""The longest that one read may take."""
PAUSE_SECONDS: Final = 0.5
"""Before the second attempt of a read; doubles with each further one."""
PAUSE_SECONDS_MAX: Final = 30.0
_NO_USE: Final = frozenset({ErrorCategory.AUTHENTICATION, ErrorCategory.CIRCUIT_OPEN, ErrorCategory.INTERNAL})
"""Why a read is not attempted again."""


@dataclass(slots=True)
class Listing:
    """What the lists told."""

    by_id: dict[str, ExchangeOrder] = field(default_factory=dict)
    by_client_id: dict[str, ExchangeOrder] = field(default_factory=dict)
    trades: dict[str, list[ExchangeTrade]] = field(default_factory=dict)

    def add(self, orders: Iterable[ExchangeOrder]) -> None:
        """Take a listing in; what was read later is newer."""
        for seen in orders:
            self.by_id[seen.exchange_order_id] = seen
            if seen.client_order_id is not None:
                self.by_client_id[seen.client_order_id] = seen

    def lacks_fills(self) -> bool:
        """Whether an order has traded and does not carry by which trades."""
        return any(seen.fills is None and seen.filled for seen in self.by_id.values())

    def find(self, order: Order) -> ExchangeOrder | None:
        """The listed order that ours is, by the exchange's id, else by our own."""
        if order.exchange_order_id is not None:
            return self.by_id.get(order.exchange_order_id)
        return self.by_client_id.get(order.order_id)

    def with_fills(self, seen: ExchangeOrder) -> ExchangeOrder:
        """The order with its listed trades, where it does not carry them itself."""
        trades = self.trades.get(seen.exchange_order_id)
        if seen.fills is not None or trades is None:
            return seen
        return replace(seen, fills=tuple(trade.fill for trade in trades))


class ExchangeReader:
    """Reads one account. Every method raises ExchangeUnavailable when the exchange does not answer."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock

    async def listing(
        self, since: datetime, until: datetime, symbols: Iterable[str], *, whole: bool = True
    ) -> Listing:
        """All open orders, and where they are listed, what was closed and traded in the period.

        ``symbols`` are those that are asked for where the exchange lists one symbol at a time. Of a period that is
        not read as a ``whole`` trades are asked for only if some order needs them: their list has no end in time.
        """
        traits = self._gateway.traits
        listing = Listing()
        for symbol in [None] if traits.list_scope is ListScope.ACCOUNT else symbols:
            # Open orders first: one that closes in between stands in both lists, and the later one holds.
            opened = await self.ask(partial(self._gateway.open_orders, symbol))
            listing.add(opened.orders)
            if traits.lists_closed_orders:
                closed = await self.ask(partial(self._gateway.closed_orders, since, until, symbol))
                listing.add(closed.orders)
            if traits.lists_trades and (whole or listing.lacks_fills()):
                traded = await self.ask(partial(self._gateway.trades, since, symbol))
                for trade in traded.trades:
                    if trade.exchange_order_id not in listing.by_id:
                        continue  # of a time that is not listed here
                    listing.trades.setdefault(trade.exchange_order_id, []).append(trade)
        return listing

    async def look_up(self, order: Order, listing: Listing) -> ExchangeOrder | None:
        """Ask for one order; None when the exchange says, as far as it can, that it has none."""
        listed = listing.find(order)
        seen = await self.query(
            OrderRef(
                order.order_id,
                order.symbol,
                order.exchange_order_id or (listed.exchange_order_id if listed else None),
                order.sent_at,
            )
        )
        traits = self._gateway.traits
        if seen is None and traits.lookup_scope is not LookupScope.ALL and traits.lists_closed_orders:
            # That lookup finds no closed orders.
            seen = listed if listed is not None and listed.state.is_final else await self._closed(order)
        return None if seen is None else listing.with_fills(seen)

    async def query(self, ref: OrderRef) -> ExchangeOrder | None:
        """Ask for one order; None when the exchange says that it finds none."""
        answer: Found | NotFound = await self.ask(partial(self._gateway.query, ref))
        return answer.order if isinstance(answer, Found) else None

    async def _closed(self, order: Order) -> ExchangeOrder | None:
        """Look for an order among all that closed since it was made."""
        symbol = None if self._gateway.traits.list_scope is ListScope.ACCOUNT else order.symbol
        since, until = order.created_at - MARGIN, self._clock.now() + MARGIN
        closed = await self.ask(partial(self._gateway.closed_orders, since, until, symbol))
        listing = Listing()
        listing.add(closed.orders)
        return listing.find(order)

    async def ask(self, read: Callable[[], Awaitable[T | Unavailable]]) -> T:
        """Make a read, a few times if need be."""
        attempt = 0
        while True:
            attempt += 1
            answer: T | Unavailable
            try:
                async with asyncio.timeout(READ_SECONDS_MAX):
                    answer = await read()
            except TimeoutError:
                answer = Unavailable(ErrorCategory.TIMEOUT, f"no answer within {READ_SECONDS_MAX:g} s")
            if not isinstance(answer, Unavailable):
                return answer
            pause = max(PAUSE_SECONDS * 2 ** (attempt - 1), answer.retry_after or 0.0)
            if attempt >= READ_ATTEMPTS or answer.category in _NO_USE or pause > PAUSE_SECONDS_MAX:
                raise ExchangeUnavailable(
                    f"the exchange did not answer: {answer.message}",
                    category=answer.category,
                    retry_after=answer.retry_after,
                )
            await asyncio.sleep(pause)
