"""Whether an id was used before this process began: without a journal, only the exchange can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

from .clock import Clock
from .errors import ErrorCategory, ExchangeUnavailable
from .exchange_reading import ExchangeReader
from .gateways.base import ExchangeOrder, Gateway, GatewayTraits, IdScope, LookupScope, OrderRef
from .models import OrderRequest

HORIZON: Final = timedelta(days=1)
"""How far back closed orders are listed; open ones are listed whatever their age."""


def asks_for(traits: GatewayTraits) -> bool:
    """Whether ids are asked for before they are sent.

    Not where the exchange itself refuses an id that was ever used, and not where it keeps no ids of ours.
    """
    return traits.accepts_client_ids and traits.client_id_scope is not IdScope.FOREVER


class EarlierOrders:
    """Finds orders of earlier processes by our id.

    Where the exchange looks up any id, each one is asked for. Elsewhere the lists of a symbol are read, once:
    what an earlier process placed cannot grow. Until ``traits.unresolvable_for`` seconds after the start it can,
    since a request may still have been on its way, so until then they are read each time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._listed: dict[str, Mapping[str, ExchangeOrder]] = {}
        """Symbol → our id → order, as listed when nothing of an earlier process could still arrive."""
        self._reading = asyncio.Lock()

    async def find(self, gateway: Gateway, request: OrderRequest) -> ExchangeOrder | None:
        """Return the order that the exchange has under the request's id; None where it tells of none.

        None is as good as the exchange's lookups and lists are. Raises ExchangeUnavailable.
        """
        reader = ExchangeReader(gateway, self._clock)
        order_id, symbol = request.client_order_id, request.symbol
        if gateway.traits.lookup_scope is LookupScope.ALL:
            return await reader.query(OrderRef(order_id, symbol))
        async with self._reading:
            listed = self._listed.get(symbol)
            if listed is None:
                listed, complete = await self._list(gateway, reader, symbol)
                if order_id not in listed and not complete:
                    raise ExchangeUnavailable(
                        "the exchange's lists do not tell client order ids: this one may have been used",
                        category=ErrorCategory.BAD_RESPONSE,
                    )
        return listed.get(order_id)

    async def _list(
        self, gateway: Gateway, reader: ExchangeReader, symbol: str
    ) -> tuple[Mapping[str, ExchangeOrder], bool]:
        """Our ids in the lists, and whether one that is not among them is in none."""
        asked_at = self._clock.monotonic()
        now = self._clock.now() - timedelta(seconds=gateway.clock_error or 0.0)
        # Open orders first: one that closes in between stands in both lists, and the later one holds.
        opened = await reader.ask(partial(gateway.open_orders, symbol))
        orders, complete = opened.orders, opened.tells_client_ids
        if gateway.traits.lists_closed_orders:
            closed = await reader.ask(partial(gateway.closed_orders, now - HORIZON, now + HORIZON, symbol))
            orders, complete = orders + closed.orders, complete and closed.tells_client_ids
        listed = _by_our_id(orders)
        if complete and asked_at - self._began >= gateway.traits.unresolvable_for:
            self._listed[symbol] = listed
        return listed, complete


def _by_our_id(orders: Iterable[ExchangeOrder]) -> dict[str, ExchangeOrder]:
    """The latest order under each id: some exchanges let an id be used again once its order has ended."""
    latest: dict[str, ExchangeOrder] = {}
    for seen in orders:
        if seen.client_order_id is None:
            continue
        held = latest.get(seen.client_order_id)
        same = held is not None and held.exchange_order_id == seen.exchange_order_id
        if held is None or same or seen.created_at > held.created_at:
            latest[seen.client_order_id] = seen
    return latest
