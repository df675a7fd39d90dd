"""A journal in memory: the same contract, with a disk's delays and failures at will, for tests and trials.

:class:`MemoryStore` is the disk and outlives the process; :class:`MemoryJournal` is one process's view of it.
No threads and no files, so it runs under a virtual-time event loop, and a simulated crash loses exactly what
was not durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ..clock import Clock
from ..errors import (
    JournalError,
    JournalFull,
    JournalLagging,
    JournalLocked,
    JournalReadOnly,
    JournalUnavailable,
    LeaseLost,
)
from ..models import EventKind, Order, OrderEvent
from .base import Journal, JournalHealth
from .codec import decode_event, decode_order, encode_event, encode_order

MAX_BATCH: Final = 1024
"""Entries in one durable write."""
SCAN_PAGE: Final = 500
"""Orders in one batch of ``scan``."""

_NEEDS_SPACE: Final = frozenset({EventKind.INTENT, EventKind.RESEND})


@dataclass(frozen=True, slots=True)
class Fault:
    """How durable writes fail: ``written`` although reported as failed, ``stays`` until it is repaired."""

    why: str
    written: bool = False
    stays: bool = False


class MemoryStore:
    """What is durable. Records are kept as the bytes that a disk would hold."""

    def __init__(self) -> None:
        self.orders: dict[str, bytes] = {}
        self.events: dict[str, list[bytes]] = {}
        self.open_ids: dict[str, None] = {}
        self.by_exchange_id: dict[str, str] = {}
        self.flags: dict[str, str] = {}
        self.epoch = 0
        self.writer: MemoryJournal | None = None
        self.full = False
        """True: the disk is below the free-space threshold, so intents are refused."""
        self.fault: Fault | None = None
        """What the next durable write runs into."""

    def version(self, order_id: str) -> int:
        """How many events an order has."""
        return len(self.events.get(order_id, ()))

    def apply(self, event: OrderEvent) -> None:
        """Write one event. Raises JournalError when it is not its order's next one."""
        order = event.order
        if order.version != self.version(order.order_id) + 1:
            raise JournalError(
                f"event {order.version} ({event.kind}) of order {order.order_id} is not that order's next one; "
                "it was not written"
            )
        self.orders[order.order_id] = encode_order(order)
        self.events.setdefault(order.order_id, []).append(encode_event(event))
        if order.exchange_order_id is not None:
            self.by_exchange_id[order.exchange_order_id] = order.order_id
        if order.is_settled:
            self.open_ids.pop(order.order_id, None)
        else:
            self.open_ids[order.order_id] = None


@dataclass(slots=True, eq=False)
class _Entry:
    payload: OrderEvent | tuple[str, str | None] | None
    at: float
    future: asyncio.Future[None] | None = None
    error: JournalError | None = field(default=None)


class MemoryJournal(Journal):
    """Orders and events in a :class:`MemoryStore`, with group commit.

    ``commit_seconds``: how long one durable write takes. Faults: :meth:`fail_next`, :meth:`fail_forever`,
    :meth:`pause`, :meth:`crash`, and ``store.full``.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        store: MemoryStore | None = None,
        read_only: bool = False,
        commit_seconds: float = 0.0,
        max_lag_seconds: float = 5.0,
        max_waiting: int = 100_000,
    ) -> None:
        self.read_only = read_only
        self.store = MemoryStore() if store is None else store
        self.commit_seconds = commit_seconds
        self._clock = clock
        self._max_lag = max_lag_seconds
        self._max_waiting = max_waiting
        self._incoming: deque[_Entry] = deque()
        self._in_hand: list[_Entry] = []
        self._task: asyncio.Task[None] | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._opened = False
        self._dead = False
        self._epoch = 0
        self._failure: str | None = None

    # ---- faults -------------------------------------------------------------------------------------------

    def fail_next(self, why: str = "injected fault", *, written: bool = False) -> None:
        """Let the next durable write fail; ``written``: it reached the disk although it was reported failed."""
        self.store.fault = Fault(why, written=written)

    def fail_forever(self, why: str = "injected fault") -> None:
        """Let every durable write fail, also after opening anew, until :meth:`repair`."""
        self.store.fault = Fault(why, stays=True)

    def repair(self) -> None:
        """End :meth:`fail_forever`."""
        self.store.fault = None

    def pause(self) -> None:
        """Let no write become durable until :meth:`resume`."""
        self._resumed.clear()

    def resume(self) -> None:
        """End :meth:`pause`."""
        self._resumed.set()

    def crash(self, *, written: bool = False) -> None:
        """Die as by kill -9: what was not durable is lost, and this object can do nothing further.

        ``written``: the batch that was being written reached the disk, though nobody was told.
        """
        if written and not self._dead:
            self._write_batch(self._in_hand)
        self._dead = True
        self._opened = False
        self._in_hand = []
        self._incoming.clear()
        self._resumed.set()
        if self.store.writer is self:
            self.store.writer = None

    # ---- the contract -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Become the store's writer. Raises JournalLocked while another journal is, JournalError."""
        if self._dead or self._opened:
            raise JournalError("the process is dead" if self._dead else "the journal is already open")
        if not self.read_only:
            if self.store.writer is not None:
                raise JournalLocked("another journal writes to this store")
            self.store.writer = self
            self.store.epoch += 1
            self._epoch = self.store.epoch
        self._failure = None
        self._opened = True

    async def close(self) -> None:
        """Make everything durable and let go of the store. Raises JournalError when the last entries failed."""
        if not self._opened:
            return
        failed_before = self._failure is not None
        await self._settled()
        while self._opened and (self._incoming or self._in_hand):  # what came in while it waited
            await self._settled()
        if not self._opened:
            return
        self._opened = False
        if self.store.writer is self:
            self.store.writer = None
        if self._failure is not None and not failed_before:
            raise JournalError(f"the journal lost its last entries: {self._failure}")

    async def commit(self, event: OrderEvent) -> None:
        """Append and return once it is durable. See :meth:`Journal.commit`."""
        order_id = event.order_id
        self._require_writer()
        if not self._opened:
            raise JournalUnavailable("the journal is not open", order_id=order_id)
        if self._failure is not None:
            raise JournalUnavailable(
                f"the journal refuses orders until it is opened anew: {self._failure}", order_id=order_id
            )
        health = self.health()
        if health.lag > self._max_lag or health.waiting >= self._max_waiting:
            raise JournalLagging(f"the journal lags {health.lag:.1f} s behind", order_id=order_id)
        if self.store.full and event.kind in _NEEDS_SPACE:
            raise JournalFull("too little disk is free for further orders", order_id=order_id)
        await self._append_and_wait(event)

    def enqueue(self, event: OrderEvent) -> None:
        """Append behind. After a failure the entry is dropped; see :meth:`Journal.enqueue`."""
        self._require_writer()
        if self._failure is not None:
            return
        self._require_open()
        if self.health().waiting >= self._max_waiting:
            self._failure = f"more than {self._max_waiting} entries wait to be written"
            return
        self._put(_Entry(event, self._clock.monotonic()))

    async def flush(self) -> None:
        """Return once everything appended so far is durable. Raises JournalError after any failure."""
        self._require_open()
        await self._settled()
        if self._failure is not None:
            raise JournalError(f"not everything is durable: {self._failure}")

    async def get(self, order_id: str) -> Order | None:
        """Return the order, or None."""
        await self._ready_to_read()
        body = self.store.orders.get(order_id)
        return None if body is None else decode_order(body)

    async def find_by_exchange_id(self, exchange_order_id: str) -> Order | None:
        """Return the order that has this id at the exchange, or None."""
        await self._ready_to_read()
        order_id = self.store.by_exchange_id.get(exchange_order_id)
        return None if order_id is None else decode_order(self.store.orders[order_id])

    async def claim(self) -> list[Order]:
        """Return all orders that are not settled, oldest first."""
        await self._ready_to_read()
        orders = [decode_order(self.store.orders[order_id]) for order_id in self.store.open_ids]
        return sorted(orders, key=_age)

    def owns(self, order_id: str) -> bool:
        """Whether this journal is still the store's writer."""
        return self._opened and not self.read_only and self.store.epoch == self._epoch

    async def history(self, order_id: str) -> list[dict[str, object]]:
        """Return the order's events, oldest first."""
        await self._ready_to_read()
        return [decode_event(body) for body in self.store.events.get(order_id, ())]

    async def scan(self, since: datetime, until: datetime) -> AsyncIterator[list[Order]]:
        """All orders created in ``since <= t < until`` and all unsettled ones, in batches of at most 500."""
        await self._ready_to_read()
        for batch in _batches(sorted(self._in_scope(since, until), key=_age)):
            yield batch
            self._require_open()

    async def count(self) -> int:
        """How many orders there are."""
        await self._ready_to_read()
        return len(self.store.orders)

    async def get_flag(self, name: str) -> str | None:
        """Return a durable setting, or None."""
        await self._ready_to_read()
        return self.store.flags.get(name)

    async def set_flag(self, name: str, value: str | None) -> None:
        """Set or clear a durable setting. Raises JournalError."""
        self._require_writer()
        self._require_open()
        if self._failure is not None:
            raise JournalError(f"the journal cannot be written until it is opened anew: {self._failure}")
        await self._append_and_wait((name, value))

    def health(self) -> JournalHealth:
        """Where the journal stands now."""
        failure = self._failure
        if not self._opened:
            return JournalHealth(lag=0.0, failure=failure or "the journal is not open")
        oldest = self._in_hand[0] if self._in_hand else self._incoming[0] if self._incoming else None
        lag = 0.0 if oldest is None else max(0.0, self._clock.monotonic() - oldest.at)
        return JournalHealth(lag=lag, failure=failure, waiting=len(self._in_hand) + len(self._incoming))

    # ---- writing ------------------------------------------------------------------------------------------

    async def _append_and_wait(self, payload: OrderEvent | tuple[str, str | None]) -> None:
        future = asyncio.get_running_loop().create_future()
        self._put(_Entry(payload, self._clock.monotonic(), future))
        await future

    def _put(self, entry: _Entry) -> None:
        self._incoming.append(entry)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write(), name="memory-journal")

    async def _write(self) -> None:
        """Make what waits durable, batch by batch, and end."""
        while self._incoming:
            # Taken before the write begins, as by a disk: later entries ride the next batch.
            size = min(len(self._incoming), MAX_BATCH)
            self._in_hand = [self._incoming.popleft() for _ in range(size)]
            await asyncio.sleep(self.commit_seconds)
            await self._resumed.wait()
            if self._dead:
                return  # whoever waits waits for ever, as the dead do
            batch, self._in_hand = self._in_hand, []
            self._write_batch(batch)
            for entry in batch:
                _settle(entry)

    def _write_batch(self, batch: list[_Entry]) -> None:
        entries = [entry for entry in batch if entry.payload is not None]
        if not entries:
            return
        fault = self.store.fault
        if self._failure is not None:
            _fail_all(entries, JournalError, f"not written: {self._failure}")
        elif self.store.epoch != self._epoch:
            self._failure = "another journal has opened this store for writing"
            _fail_all(entries, LeaseLost, self._failure)
        elif fault is not None:
            self.store.fault = fault if fault.stays else None
            self._failure = f"an append failed: {fault.why}"
            if fault.written:
                self._apply_all(entries)
            _fail_all(entries, JournalError, f"the append failed and may or may not be on disk: {fault.why}")
        else:
            self._apply_all(entries)

    def _apply_all(self, entries: list[_Entry]) -> None:
        """Write the entries; one that is wrong in itself fails alone."""
        for entry in entries:
            try:
                self._apply(entry)
            except JournalError as error:
                entry.error = error
                self._failure = self._failure or str(error)

    def _apply(self, entry: _Entry) -> None:
        payload = entry.payload
        if isinstance(payload, OrderEvent):
            self.store.apply(payload)
        elif payload is not None:
            name, value = payload
            if value is None:
                self.store.flags.pop(name, None)
            else:
                self.store.flags[name] = value

    # ---- guards -------------------------------------------------------------------------------------------

    def _require_writer(self) -> None:
        if self.read_only:
            raise JournalReadOnly("the journal was opened for reading only")

    def _require_open(self) -> None:
        if not self._opened:
            raise JournalError("the journal is not open")

    async def _ready_to_read(self) -> None:
        self._require_open()
        await self._settled()

    async def _settled(self) -> None:
        if self._incoming or self._in_hand:
            future = asyncio.get_running_loop().create_future()
            self._put(_Entry(None, self._clock.monotonic(), future))
            await future

    def _in_scope(self, since: datetime, until: datetime) -> Iterator[Order]:
        for order_id, body in self.store.orders.items():
            order = decode_order(body)
            if order_id in self.store.open_ids or since <= order.created_at < until:
                yield order


def _fail_all(entries: list[_Entry], kind: type[JournalError], why: str) -> None:
    for entry in entries:
        entry.error = kind(why)


def _age(order: Order) -> tuple[datetime, str]:
    return order.created_at, order.order_id


def _batches(orders: list[Order]) -> Iterator[list[Order]]:
    for start in range(0, len(orders), SCAN_PAGE):
        yield orders[start : start + SCAN_PAGE]


def _settle(entry: _Entry) -> None:
    """Tell who waits how the entry fared."""
    if entry.future is None or entry.future.done():
        return
    if entry.error is None:
        entry.future.set_result(None)
    else:
        entry.future.set_exception(entry.error)
