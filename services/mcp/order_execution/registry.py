"""The orders in memory: the one place where an order changes, is journalled, and is told to whoever listens.

Orders that are not settled (final, with their fills known) are always held; settled ones as far as the bound
goes, and the journal knows the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

from .clock import Clock
from .errors import JournalUnavailable, SubscriberTooSlow
from .journals.base import Journal
from .models import Order, OrderEvent

_logger = logging.getLogger(__name__)

Listener = Callable[[OrderEvent], None]


@dataclass(slots=True, eq=False)
class _Untold:
    """An event that nobody has heard yet."""

    event: OrderEvent
    ready: bool = False


class Subscription(AsyncIterator[OrderEvent]):
    """Every event from the moment of subscribing, in order, up to a bound of unread ones."""

    def __init__(self, max_unread: int) -> None:
        self._unread: deque[OrderEvent] = deque()
        self._max_unread = max_unread
        self._news = asyncio.Event()
        self._overrun = False
        self.closed = False

    def push(self, event: OrderEvent) -> None:
        """Hand over one event; beyond the bound the subscription ends with an error."""
        if len(self._unread) >= self._max_unread:
            self._overrun = self.closed = True
        else:
            self._unread.append(event)
        self._news.set()

    def close(self) -> None:
        """End the iteration once everything unread was read."""
        self.closed = True
        self._news.set()

    async def __anext__(self) -> OrderEvent:
        while not self._unread:
            if self._overrun:
                raise SubscriberTooSlow(f"more than {self._max_unread} events were left unread")
            if self.closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.popleft()


class OrderRegistry:
    """Every order that this process follows. Not thread-safe: it belongs to one event loop."""

    def __init__(
        self, journal: Journal, clock: Clock, *, max_finished: int = 10_000, max_unread: int = 100_000
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._live: dict[str, Order] = {}
        self._unsettled: dict[str, Order] = {}
        """Final, but their fills are not told yet."""
        self._finished: OrderedDict[str, Order] = OrderedDict()
        self._by_exchange_id: dict[str, str] = {}
        self._max_finished = max_finished
        self._max_unread = max_unread
        self._waiters: dict[str, list[asyncio.Future[Order | None]]] = {}
        self._wanted: dict[str, list[float]] = {}
        self._listeners: list[Listener] = []
        self._subscriptions: list[Subscription] = []
        self._untold: dict[str, list[_Untold]] = {}
        """Events of orders of which one is still being made durable: nobody hears a later one before it."""
        self._closed = False
        self._suspended = False
        self._unwritten: OrderedDict[str, int] = OrderedDict()
        """Orders whose last change may not be durable, and the how manieth change it was."""
        self._changes = 0
        self._refused: set[str] = set()
        """Orders whose intent was reported as failed since the journal was last sound: nothing of them was sent."""

    # ---- looking ------------------------------------------------------------------------------------------

    def get(self, order_id: str) -> Order | None:
        """Return the order if it is in memory."""
        return self._live.get(order_id) or self._finished.get(order_id) or self._unsettled.get(order_id)

    def get_by_exchange_id(self, exchange_order_id: str) -> Order | None:
        """Return the order that has this id at the exchange, if it is in memory and not settled."""
        order_id = self._by_exchange_id.get(exchange_order_id)
        return None if order_id is None else self.get(order_id)

    async def find(self, order_id: str) -> Order | None:
        """Return the order from memory or from the journal."""
        known = self.get(order_id)
        if known is not None:
            return known
        read = await self._journal.get(order_id)
        return self.get(order_id) or read  # it may have been started afresh while it was read

    def live(self) -> Iterator[Order]:
        """Every order that is not final, as of the first look."""
        yield from list(self._live.values())

    @property
    def live_count(self) -> int:
        """How many orders are not final."""
        return len(self._live)

    def unsettled(self) -> list[Order]:
        """Every final order whose fills are not told yet."""
        return list(self._unsettled.values())

    def unresolved(self) -> list[Order]:
        """Every order of which nobody here knows whether the exchange has it."""
        return [order for order in self._live.values() if order.state.is_unresolved]

    # ---- changing -----------------------------------------------------------------------------------------

    def load(self, orders: Iterable[Order]) -> None:
        """Take over what the journal holds; no event is made of it."""
        for order in orders:
            self._keep(order)

    async def commit(self, event: OrderEvent) -> Order:
        """Apply an event and return once it is durable.

        The change is in force from the call on, except where the journal refuses it. When the caller is
        cancelled meanwhile, the change stays: whether it is durable yet is the journal's affair.
        """
        if self._suspended:
            raise JournalUnavailable("the journal is being opened anew")
        order_id = event.order.order_id
        self._note_unwritten(order_id)
        before = self._keep(event.order)
        untold = _Untold(event)
        waiting = self._untold.get(order_id)
        if waiting is None:
            self._untold[order_id] = [untold]
        else:
            waiting.append(untold)
        try:
            await self._journal.commit(event)
        except asyncio.CancelledError:
            self._tell(untold)
            raise
        except BaseException as error:
            if isinstance(error, JournalUnavailable):
                self._changes -= 1  # it was refused before it was appended, so it is none of those that wait
            undone = self._undo(event.order, before)
            self._tell(untold, undone=undone)
            if undone and before is None:
                self._refused.add(order_id)
            raise
        self._tell(untold)
        return event.order

    def record(self, event: OrderEvent) -> Order:
        """Apply an event whose durability may ride behind."""
        order_id = event.order.order_id
        self._note_unwritten(order_id)
        if not self._suspended:
            self._journal.enqueue(event)
        self._keep(event.order)
        waiting = self._untold.get(order_id)
        if waiting is None:
            self._publish(event)
        else:
            waiting.append(_Untold(event, ready=True))
            self._wake(order_id)
        return event.order

    def _note_unwritten(self, order_id: str) -> None:
        """Remember what may get lost with the journal, and forget what it has written: it writes in order."""
        if not self._suspended:
            waiting = self._journal.backlog()
            if waiting is not None:
                self._forget_written(self._changes - waiting)
        self._changes += 1
        self._unwritten[order_id] = self._changes
        self._unwritten.move_to_end(order_id)

    def _forget_written(self, changes: int) -> None:
        written = []
        for order_id, number in self._unwritten.items():
            if number > changes:
                break
            written.append(order_id)
        for order_id in written:
            del self._unwritten[order_id]
        if not self._unwritten:
            self._refused.clear()

    def record_all(self, events: Iterable[OrderEvent]) -> None:
        """Apply several events in their order."""
        for event in events:
            self.record(event)

    # ---- a journal that failed ----------------------------------------------------------------------------

    @property
    def is_suspended(self) -> bool:
        """Whether changes are kept in memory only, since the journal is being opened anew."""
        return self._suspended

    def suspend(self) -> None:
        """Keep changes in memory only, and commit nothing, until ``go_on()``."""
        self._suspended = True

    def go_on(self) -> None:
        """End ``suspend()``; what was not written until now is the caller's to write."""
        self._suspended = False
        self._unwritten.clear()
        self._refused.clear()

    def was_refused(self, order_id: str) -> bool:
        """Whether an order is not in memory since its intent was reported as failed: nothing of it was sent."""
        return order_id in self._refused

    def may_be_lost(self, order_id: str) -> bool:
        """Whether the last change of an order may not be on disk, if the journal failed or is being reopened."""
        return order_id in self._unwritten

    def changed_since_failure(self) -> set[str]:
        """Orders that the journal may not hold as they are: all unsettled ones, and those that changed lately."""
        return self._unwritten.keys() | self._live.keys() | self._unsettled.keys()

    def _keep(self, order: Order) -> Order | None:
        """Hold an order as it is now, and give back what was held of it."""
        order_id = order.order_id
        before = self._drop(order_id)
        if not order.state.is_final:
            self._live[order_id] = order
        elif not order.is_settled:
            self._unsettled[order_id] = order
        else:
            self._finished[order_id] = order
            self._evict()
            return before
        if order.exchange_order_id is not None:
            self._by_exchange_id[order.exchange_order_id] = order_id
        return before

    def _evict(self) -> None:
        """Forget the oldest settled orders, which the journal knows; never what it may not have written."""
        while len(self._finished) > self._max_finished:
            oldest = next(iter(self._finished))
            if oldest in self._unwritten:
                return
            del self._finished[oldest]

    def _drop(self, order_id: str) -> Order | None:
        """Let go of an order, which is held in one place."""
        known = (
            self._live.pop(order_id, None)
            or self._finished.pop(order_id, None)
            or self._unsettled.pop(order_id, None)
        )
        if known is not None and known.exchange_order_id is not None:
            self._by_exchange_id.pop(known.exchange_order_id, None)
        return known

    def _undo(self, refused: Order, before: Order | None) -> bool:
        if self.get(refused.order_id) is not refused:
            return False  # something newer came in between
        self._drop(refused.order_id)
        if before is not None:
            self._keep(before)
        return True

    def forget(self, order_id: str) -> None:
        """Let go of an order that another process has taken over."""
        self._drop(order_id)

    # ---- telling ------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` on every event, at once; an error of its own is logged and harms nobody."""
        self._listeners.append(listener)

    def subscribe(self) -> Subscription:
        """Every event from now on."""
        subscription = Subscription(self._max_unread)
        self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """End all subscriptions and all waiting."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
        for order_id in list(self._waiters):
            self._wake(order_id)

    def _tell(self, untold: _Untold, *, undone: bool = False) -> None:
        """Publish an event that was being made durable, or drop it, and the later ones that waited for it."""
        order_id = untold.event.order.order_id
        waiting = self._untold[order_id]
        untold.ready = True
        if undone:
            waiting.remove(untold)
        while waiting and waiting[0].ready:
            self._publish(waiting.pop(0).event)
        if not waiting:
            del self._untold[order_id]

    def _publish(self, event: OrderEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _logger.exception("a listener failed on %s of %s", event.kind, event.order_id)
        if self._subscriptions:
            for subscription in self._subscriptions:
                subscription.push(event)
            self._subscriptions = [item for item in self._subscriptions if not item.closed]
        if event.order.order_id in self._waiters:
            self._wake(event.order.order_id, event.order)

    def _wake(self, order_id: str, order: Order | None = None) -> None:
        for waiter in self._waiters.pop(order_id, ()):
            if not waiter.done():
                waiter.set_result(order)

    # ---- waiting ------------------------------------------------------------------------------------------

    async def wait_until(
        self, order_id: str, done: Callable[[Order], bool], deadline: float | None
    ) -> Order | None:
        """Wait until the order fulfils ``done``; None once ``deadline`` (monotonic) has passed."""
        told: Order | None = None
        while True:
            order = self.get(order_id) or told  # many orders that end at once push each other out of memory
            if order is not None and done(order):
                return order
            if self._closed:
                return None
            remaining = None if deadline is None else deadline - self._clock.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            waiter: asyncio.Future[Order | None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(order_id, []).append(waiter)
            try:
                async with asyncio.timeout(remaining):
                    told = await waiter or told
            except TimeoutError:
                return None
            finally:
                self._forget_waiter(order_id, waiter)

    def _forget_waiter(self, order_id: str, waiter: asyncio.Future[Order | None]) -> None:
        waiters = self._waiters.get(order_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[order_id]

    # ---- who still wants the order to be placed -----------------------------------------------------------

    def want(self, order_id: str, deadline: float) -> None:
        """Note that a caller waits until ``deadline`` (monotonic) for this order to be placed."""
        self._wanted.setdefault(order_id, []).append(deadline)

    def unwant(self, order_id: str, deadline: float) -> None:
        """Take one caller's ``want`` back."""
        deadlines = self._wanted.get(order_id, [])
        if deadline in deadlines:
            deadlines.remove(deadline)
        if not deadlines:
            self._wanted.pop(order_id, None)

    def is_wanted(self, order_id: str) -> bool:
        """Whether any caller waits for this order to be placed."""
        return order_id in self._wanted

    def wanted_until(self, order_id: str) -> float | None:
        """The latest deadline of any caller that waits for this order to be placed; None without one."""
        return max(self._wanted.get(order_id, ()), default=None)
