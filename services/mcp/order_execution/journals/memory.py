"""A journal that keeps nothing: for tests and simulations. It fulfils the contract, durability apart.

``store`` outlives the journal object, as a disk outlives a process: give it to the next one to restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ..errors import JournalError, JournalLocked, JournalReadOnly, JournalUnavailable
from ..models import Order, OrderEvent
from .base import Journal, JournalHealth

BATCH: Final = 500


@dataclass(slots=True)
class MemoryStore:
    """What a disk would hold."""

    orders: dict[str, Order] = field(default_factory=dict)
    events: list[dict[str, object]] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)
    writer: object | None = None


class MemoryJournal(Journal):
    """Holds everything in ``store``. ``commit_seconds`` is how long a durable write takes.

    ``fail_next`` and ``fail_forever`` make appends fail as a disk would; ``refuse`` makes commits be refused.
    """

    def __init__(
        self, store: MemoryStore | None = None, *, read_only: bool = False, commit_seconds: float = 0.0
    ) -> None:
        self.store = store or MemoryStore()
        self.read_only = read_only
        self.commit_seconds = commit_seconds
        self.fail_next = False
        self.fail_forever = False
        self.refuse: JournalUnavailable | None = None
        self.commits = 0
        self._failure: str | None = None
        self._open = False

    async def open(self) -> None:
        """Take the store. Raises JournalLocked while another journal writes to it."""
        if not self.read_only:
            if self.store.writer not in (None, self):
                raise JournalLocked("another journal writes to this store")
            self.store.writer = self
        self._failure = None
        self._open = True

    async def close(self) -> None:
        """Let go of the store."""
        if self.store.writer is self:
            self.store.writer = None
        self._open = False

    def abandon(self) -> None:
        """Let go as a killed process does: at once, with nothing written any more."""
        self.store.writer = None
        self._open = False

    async def commit(self, event: OrderEvent) -> None:
        """Append; see the contract."""
        self._check_writable()
        if self.refuse is not None:
            raise self.refuse
        if self._failure is not None:
            raise JournalUnavailable(f"the journal failed and was not opened anew: {self._failure}")
        self.commits += 1
        if self.fail_next or self.fail_forever:
            self.fail_next = False
            self._failure = "the disk failed"
            raise JournalError(self._failure)
        self._write(event)
        await asyncio.sleep(self.commit_seconds)

    def enqueue(self, event: OrderEvent) -> None:
        """Append behind; see the contract."""
        self._check_writable()
        if self.fail_forever:
            self._failure = "the disk failed"
        if self._failure is None:
            self._write(event)

    async def flush(self) -> None:
        """Nothing waits. Raises JournalError after a failure."""
        if self._failure is not None:
            raise JournalError(self._failure)

    async def get(self, order_id: str) -> Order | None:
        """Return the order, or None."""
        return self.store.orders.get(order_id)

    async def find_by_exchange_id(self, exchange_order_id: str) -> Order | None:
        """Return the order that has this id at the exchange, or None."""
        for order in self.store.orders.values():
            if order.exchange_order_id == exchange_order_id:
                return order
        return None

    async def claim(self) -> list[Order]:
        """Return every order that is not final."""
        return [order for order in self.store.orders.values() if not order.state.is_final]

    def owns(self, order_id: str) -> bool:
        """Whether this journal is the store's writer."""
        return self.store.writer is self

    async def history(self, order_id: str) -> list[dict[str, object]]:
        """Return the order's events, oldest first."""
        return [event for event in self.store.events if event["order_id"] == order_id]

    async def scan(self, since: datetime, until: datetime) -> AsyncIterator[list[Order]]:
        """All orders of the period and all non-final ones, in batches."""
        found = [
            order
            for order in self.store.orders.values()
            if not order.state.is_final or since <= order.created_at < until
        ]
        for start in range(0, len(found), BATCH):
            yield found[start : start + BATCH]

    async def count(self) -> int:
        """How many orders there are."""
        return len(self.store.orders)

    async def get_flag(self, name: str) -> str | None:
        """Return a setting, or None."""
        return self.store.flags.get(name)

    async def set_flag(self, name: str, value: str | None) -> None:
        """Set or clear a setting."""
        self._check_writable()
        if value is None:
            self.store.flags.pop(name, None)
        else:
            self.store.flags[name] = value

    def health(self) -> JournalHealth:
        """Whether it failed."""
        return JournalHealth(lag=0.0, failure=self._failure)

    def _check_writable(self) -> None:
        if self.read_only:
            raise JournalReadOnly("opened for reading only")
        if not self._open or self.store.writer is not self:
            raise JournalUnavailable("the journal is not open")

    def _write(self, event: OrderEvent) -> None:
        before = self.store.orders.get(event.order_id)
        expected = 1 if before is None else before.version + 1
        if event.order.version != expected:
            self._failure = f"{event.order_id}: version {event.order.version} where {expected} is due"
            raise JournalError(self._failure)
        self.store.orders[event.order_id] = event.order
        self.store.events.append(event.to_dict())
