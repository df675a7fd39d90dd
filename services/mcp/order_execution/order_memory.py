"""What an executor without a journal knows of its orders: in memory only, and bounded.

Orders that may still trade are always held. Of those that ended the latest are held whole, older ones without
their single fills and confirmations, and the oldest not at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

from . import lifecycle
from .gateways.base import ExchangeOrder
from .models import Order, OrderEvent
from .registry import Subscription

MAX_TRIMMED: Final = 100_000
"""How many ended orders are held without their fills, beyond those that are held whole; about 1 kB each."""
MAX_UNREAD: Final = 100_000
"""How many events a subscription may leave unread."""


class OrderMemory:
    """Every order that one executor knows; the one place where an order changes and is told to subscribers."""

    def __init__(self, in_use: Container[str], *, max_whole: int, max_trimmed: int = MAX_TRIMMED) -> None:
        """Hold ``max_whole`` ended orders whole; ``in_use`` tells which ids a call is deciding for just now."""
        self.fills = 0
        """How many fills were booked."""
        self._in_use = in_use
        self._max_whole = max_whole
        self._max_trimmed = max_trimmed
        self._live: dict[str, Order] = {}
        self._ended: OrderedDict[str, Order] = OrderedDict()
        self._trimmed: OrderedDict[str, Order] = OrderedDict()
        self._subscriptions: list[Subscription] = []

    def get(self, order_id: str) -> Order | None:
        """Return the order as it is known now."""
        return self._whole(order_id) or self._trimmed.get(order_id)

    def _whole(self, order_id: str) -> Order | None:
        return self._live.get(order_id) or self._ended.get(order_id)

    def __iter__(self) -> Iterator[Order]:
        """Every order that is held whole, as of now."""
        return iter([*self._live.values(), *self._ended.values()])

    def keep(self, event: OrderEvent) -> Order:
        """Apply an event and tell it. Raises IllegalTransition where it was made from an old record."""
        order = event.order
        before = self.get(order.order_id)
        if before is not None and order.version != before.version + 1:
            raise lifecycle.IllegalTransition(
                f"{order.order_id}: version {order.version} cannot follow {before.version}"
            )
        for orders in (self._live, self._ended, self._trimmed):
            orders.pop(order.order_id, None)
        (self._ended if order.state.is_final else self._live)[order.order_id] = order
        self.fills += event.fill is not None
        self._make_room()
        for subscription in self._subscriptions:
            subscription.push(event)
        self._subscriptions = [item for item in self._subscriptions if not item.closed]
        return order

    def keep_all(self, events: Iterable[OrderEvent]) -> None:
        """Apply several events in their order."""
        for event in events:
            self.keep(event)

    def see(self, order_id: str, seen: ExchangeOrder, now: datetime) -> None:
        """Bring an order, as it is known now, up to what a read of the exchange told of it.

        One whose fills are no longer held is left alone: they would be booked a second time.
        """
        order = self._whole(order_id)
        if order is not None:
            self.keep_all(lifecycle.merge(order, seen, now, read=True))

    def subscribe(self) -> Subscription:
        """Every event from now on."""
        subscription = Subscription(MAX_UNREAD)
        self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions:
            subscription.close()

    def _make_room(self) -> None:
        surplus = len(self._ended) - self._max_whole
        if surplus <= 0:
            return
        # An order that a call is about to answer for stays whole, though a few more may be held for it.
        for order_id in list(islice((item for item in self._ended if item not in self._in_use), surplus)):
            self._trimmed[order_id] = replace(self._ended.pop(order_id), fills=(), confirmations=())
        while len(self._trimmed) > self._max_trimmed:
            self._trimmed.popitem(last=False)
