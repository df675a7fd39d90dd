"""What a reconciliation may do to our own record. The exchange is never touched: nothing is sent or cancelled."""

from __future__ import annotations

from . import lifecycle
from .clock import Clock
from .errors import OrderNotFound
from .gateways.base import ExchangeOrder
from .journals.base import Journal
from .models import Order
from .registry import OrderRegistry
from .resolving import Resolver
from .submission import Doubt
from .tracking import FOLLOWED


class RegistryRepairs:
    """Repairs through the registry, so that each one is journalled and told like any other event."""

    def __init__(self, registry: OrderRegistry, resolver: Resolver, journal: Journal, clock: Clock) -> None:
        self._registry = registry
        self._resolver = resolver
        self._journal = journal
        self._clock = clock

    def current(self, order_id: str) -> Order | None:
        """The fresh record of an order that is in memory."""
        return self._registry.get(order_id)

    async def repair(self, order_id: str, seen: ExchangeOrder, reason: str) -> Order:
        """Take the exchange's truth over; an order that was closed here may reopen."""
        order = await self._find(order_id)
        now = self._clock.now()
        order = self._registry.record(lifecycle.repaired(order, now, reason))
        self._registry.record_all(lifecycle.merge(order, seen, now, read=True, authoritative=True))
        order = self._registry.get(order_id) or order
        self._registry.record_all(lifecycle.overwrite(order, seen, now))
        return self._registry.get(order_id) or order

    async def mark_missing(self, order_id: str, reason: str) -> Order:
        """An order that we believe open and the exchange denies becomes UNKNOWN; a final one stays as it is."""
        order = await self._find(order_id)
        if order.state not in FOLLOWED:
            return order
        lost = self._registry.record(lifecycle.unknown(order, self._clock.now(), reason))
        self._resolver.take(order_id, Doubt(self._clock.monotonic()))
        return lost

    async def adopt(self, seen: ExchangeOrder) -> Order:
        """Record an order that is not ours as external, under its own id where that is free."""
        order_id = seen.client_order_id
        if order_id is None or await self._registry.find(order_id) is not None:
            order_id = f"external-{seen.exchange_order_id}"
        for event in lifecycle.adopt_external(seen, order_id, self._clock.now()):
            self._registry.record(event)
        return await self._find(order_id)

    async def resolve(self, order_id: str) -> None:
        """Look for an unresolved order now."""
        self._resolver.hurry(order_id)

    async def _find(self, order_id: str) -> Order:
        order = await self._registry.find(order_id)
        if order is None:
            raise OrderNotFound(order_id)
        return order
