"""The contract of a journal: the durable record of every intent and of what became of it.

Every append writes the event and the order's record after it in one transaction, and only as the next version
of that order. Appends of one order are carried out in the order of the calls, whichever method they use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from ..models import Order, OrderEvent
from .codec import KeptOrder, encode_order, to_micros


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """Where the journal stands."""

    lag: float
    """Seconds that the oldest entry which is not yet durable has waited; 0.0 when none waits."""
    failure: str | None = None
    """Why intents are refused until the journal is opened anew; None when it is sound."""
    waiting: int = 0
    """Entries that are not yet durable."""


class Journal(ABC):
    """Orders and their events, durable.

    One process is responsible for an order at a time. SQLite: the one writer of the file, for all orders.
    A shared database: the holder of the order's lease, fenced by an epoch that every append checks.
    """

    read_only: bool
    """True for a companion that may only read; every write then raises JournalReadOnly."""

    @abstractmethod
    async def open(self) -> None:
        """Lock, migrate and check.

        Raises JournalLocked (another writer), JournalSchemaError (newer, or not a journal), JournalError.
        """

    @abstractmethod
    async def close(self) -> None:
        """Make everything durable and release the lock; harmless when repeated."""

    @property
    def is_ready(self) -> bool:
        """Whether intents are taken at once."""
        return True

    async def ready(self) -> None:  # noqa: B027 - most backends take them at once
        """Return once intents are taken at once. To be waited for before an intent is put in force.

        What comes after an intent must not be written before it, so ``commit`` is no place to wait in.
        """

    @abstractmethod
    async def commit(self, event: OrderEvent) -> None:
        """Append and return once it is durable. For an intent, a resend and a cancel request.

        Raises JournalUnavailable (or JournalLagging, JournalFull) when the journal refuses beforehand: then
        nothing was written. Raises JournalError when the append failed: then it is unknown whether it was
        written, and the journal refuses every further ``commit`` until it is opened anew. When the task is
        cancelled while it waits, the append may or may not become durable; its place in the order's
        versions is taken all the same, so the caller goes on from the version that it appended.
        """

    @abstractmethod
    def enqueue(self, event: OrderEvent) -> None:
        """Append behind: durable with the next batch. For what the exchange can tell again.

        Never waits and never raises for a failing disk; a failure shows in ``health()`` and ``flush()``.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Return once everything appended so far is durable. Raises JournalError."""

    @abstractmethod
    async def get(self, order_id: str) -> Order | None:
        """Return the order, or None. Sees every append made before the call."""

    @abstractmethod
    async def find_by_exchange_id(self, exchange_order_id: str) -> Order | None:
        """Return the order that has this id at the exchange, or None."""

    @abstractmethod
    async def claim(self) -> list[Order]:
        """Take and return the orders that this process is now responsible for and that are not settled.

        An order is unsettled until it is final and its fills are known (``Order.is_settled``).

        SQLite: all of them. A shared database: one's own and those of dead processes, never a living one's.
        A read-only journal returns all and takes none. May be called again and again.
        """

    @abstractmethod
    def owns(self, order_id: str) -> bool:
        """Whether this process is still responsible for the order: asked last thing before each send."""

    @abstractmethod
    async def history(self, order_id: str) -> list[dict[str, object]]:
        """Return the order's events, oldest first, as ``OrderEvent.to_dict()`` wrote them."""

    @abstractmethod
    def scan(self, since: datetime, until: datetime) -> AsyncIterator[list[Order]]:
        """All orders created in ``since <= t < until`` and all unsettled ones, in batches of bounded size."""

    async def scan_kept(self, since: datetime, until: datetime) -> AsyncIterator[list[KeptOrder]]:
        """The same as ``scan``, for readers that look at few values of many orders; a backend may do it cheaper."""
        async for batch in self.scan(since, until):
            yield [KeptOrder(encode_order(order), to_micros(order.created_at)) for order in batch]

    async def count_created(self, since: datetime, until: datetime) -> int:
        """How many orders were created in ``since <= t < until``; a backend may know it without reading them."""
        count = 0
        async for batch in self.scan(since, until):
            count += sum(since <= order.created_at < until for order in batch)
        return count

    @abstractmethod
    async def count(self) -> int:
        """How many orders there are."""

    @abstractmethod
    async def get_flag(self, name: str) -> str | None:
        """Return a durable setting such as the kill switch, or None."""

    @abstractmethod
    async def set_flag(self, name: str, value: str | None) -> None:
        """Set or, with None, clear a durable setting; returns once it is durable."""

    @abstractmethod
    def health(self) -> JournalHealth:
        """Where the journal stands now; cheap, never waits."""

    def backlog(self) -> int | None:
        """How many entries are not yet durable; None once the journal has failed. Asked for every change."""
        health = self.health()
        return None if health.failure is not None else health.waiting
