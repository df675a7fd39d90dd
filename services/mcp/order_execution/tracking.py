"""Following open orders by lists: what one round asks does not grow with how many orders there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from . import lifecycle
from .alerts import Alerts, Level
from .clock import Clock
from .gateways.base import (
    ExchangeOrder,
    ExchangeTrade,
    Found,
    ListScope,
    NotFound,
    OrderList,
    TradeList,
    Unavailable,
)
from .models import Order, OrderEvent, OrderState, Step
from .registry import OrderRegistry
from .resolving import CLOCK_SKEW, ref_of
from .wire import Wire

_logger = logging.getLogger(__name__)

MAX_SINGLE_LOOKUPS: Final = 10
"""Orders asked for one by one in a round, where the lists did not tell of them."""
READ_TIMEOUT_SECONDS: Final = 60.0
FILLS_LOOKS: Final = 10
"""Complete rounds in which the exchange may leave open by which trades a final order was filled."""
FOLLOWED: Final = frozenset({OrderState.OPEN, OrderState.PARTIALLY_FILLED, OrderState.CANCELING})


@dataclass(slots=True)
class _Round:
    """What one round knows."""

    started: float
    seen: dict[str, ExchangeOrder] = field(default_factory=dict)
    """By the exchange's id."""


class Tracker:
    """Brings every open order up to date, round by round."""

    def __init__(
        self,
        wire: Wire,
        registry: OrderRegistry,
        clock: Clock,
        alerts: Alerts,
        *,
        interval: float,
        on_lost: Callable[[Order], None],
        on_cancel_due: Callable[[Order], None],
    ) -> None:
        self.interval = interval
        self.last_success: datetime | None = None
        self.rounds = 0
        self._wire = wire
        self._registry = registry
        self._clock = clock
        self._alerts = alerts
        self._on_lost = on_lost
        self._on_cancel_due = on_cancel_due
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._missing: dict[str, tuple[int, float]] = {}
        """Order id → how often the exchange denied it, and when it did so last (monotonic)."""
        self._untold: dict[str, int] = {}
        self._single_cursor = 0

    def start(self) -> None:
        """Begin to follow in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tracker")

    def kick(self) -> None:
        """Look soon, rather than at the next interval."""
        self._kick.set()

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._rest()
            if self._registry.live_count == 0 and not self._registry.unsettled():
                continue
            try:
                await self.round()
            except Exception as error:
                _logger.exception("a tracking round failed")
                self._alerts.raise_alert(
                    Level.ERROR, "tracker", "following open orders failed", type(error).__name__
                )

    async def _rest(self) -> None:
        """Wait for the interval; a kick shortens it, yet never below a twentieth of it."""
        await asyncio.sleep(min(self.interval / 20, 0.25))
        try:
            async with asyncio.timeout(self.interval):
                await self._kick.wait()
        except TimeoutError:
            pass
        self._kick.clear()

    # ---- one round ----------------------------------------------------------------------------------------

    async def round(self, *, with_fills: bool = True) -> bool:
        """Bring every open order up to date. False when the exchange did not answer everything.

        ``with_fills``: whether the single trades count, by which orders were filled.
        """
        async with self._lock:
            followed = [order for order in self._registry.live() if order.state in FOLLOWED]
            if not followed and not self._registry.unsettled():
                return True
            started_at = self._clock.now()
            complete = await self._follow(followed) if followed else True
            told = await self._complete_fills(followed)
            complete = complete and (told or not with_fills)
            self._recancel(followed)
            if complete:
                self.last_success = started_at
                self.rounds += 1
            return complete

    async def _follow(self, followed: list[Order]) -> bool:
        """Bring open orders up to date: first by lists, then one by one where no list told of them."""
        current = _Round(self._clock.monotonic())
        complete = await self._read_lists(current, followed)
        self._apply(current.seen)
        absent = [o for o in followed if o.exchange_order_id not in current.seen and self._is_followed(o)]
        if absent and complete:
            complete = await self._read_closed(current, absent)
            absent = [o for o in absent if o.exchange_order_id not in current.seen]
            complete = await self._read_singly(absent) and complete
        return complete

    def _is_followed(self, order: Order) -> bool:
        current = self._registry.get(order.order_id)
        return current is not None and current.state in FOLLOWED

    async def _read_lists(self, current: _Round, followed: list[Order]) -> bool:
        for symbol in self._scopes(followed):
            listing = await self._read_open(symbol)
            if listing is None:
                return False
            current.seen.update((seen.exchange_order_id, seen) for seen in listing.orders)
        return True

    def _scopes(self, orders: Iterable[Order]) -> list[str | None]:
        """What to ask lists for: the account, or each symbol."""
        if self._wire.gateway.traits.list_scope is ListScope.ACCOUNT:
            return [None]
        return list(dict.fromkeys(order.symbol for order in orders))

    async def _read_open(self, symbol: str | None) -> OrderList | None:
        gateway = self._wire.gateway
        answer = await self._wire.read(lambda: gateway.open_orders(symbol), self._deadline())
        return None if isinstance(answer, Unavailable) else answer

    async def _read_closed(self, current: _Round, absent: list[Order]) -> bool:
        """Ask what closed since the last complete round, for orders that left the open ones."""
        gateway = self._wire.gateway
        if not gateway.traits.lists_closed_orders:
            return True
        oldest = min(order.updated_at for order in absent)
        since = (oldest if self.last_success is None else min(self.last_success, oldest)) - CLOCK_SKEW
        until = self._clock.now() + CLOCK_SKEW
        for symbol in self._scopes(absent):
            answer = await self._wire.read(partial(gateway.closed_orders, since, until, symbol), self._deadline())
            if isinstance(answer, Unavailable):
                return False
            closed = {seen.exchange_order_id: seen for seen in answer.orders}
            current.seen.update(closed)
            self._apply(closed)
        return True

    async def _read_singly(self, absent: list[Order]) -> bool:
        """Ask for orders that no list told of, a bounded number in each round."""
        absent = [order for order in absent if self._is_followed(order)]
        if not absent:
            return True
        start = self._single_cursor % len(absent)
        self._single_cursor += MAX_SINGLE_LOOKUPS
        complete = len(absent) <= MAX_SINGLE_LOOKUPS
        for order in (absent[start:] + absent[:start])[:MAX_SINGLE_LOOKUPS]:
            answer = await self._wire.query(ref_of(order), self._deadline())
            if isinstance(answer, Found):
                self._missing.pop(order.order_id, None)
                self._merge(order.order_id, answer.order)
            elif isinstance(answer, NotFound):
                self._note_missing(order)
            else:
                complete = False
        return complete

    async def sight(self, order_ids: Iterable[str]) -> None:
        """See orders that were final before any list could show them, by one list of closed ones."""
        gateway = self._wire.gateway
        known = (self._registry.get(order_id) for order_id in order_ids)
        unseen = [order for order in known if order is not None and not order.confirmed(Step.VISIBLE)]
        if not unseen or not gateway.traits.lists_closed_orders:
            return
        since = min(order.sent_at or order.created_at for order in unseen) - CLOCK_SKEW
        until = self._clock.now() + CLOCK_SKEW
        for symbol in self._scopes(unseen):
            call = partial(gateway.closed_orders, since, until, symbol)
            answer = await self._wire.read(call, self._deadline())
            if isinstance(answer, Unavailable):
                return
            closed = {seen.exchange_order_id: seen for seen in answer.orders}
            for order in unseen:
                seen = closed.get(order.exchange_order_id or "")
                if seen is not None:
                    self._merge(order.order_id, seen)

    def _note_missing(self, order: Order) -> None:
        """An accepted order that is denied three times, a settle time apart, is unknown; never a verdict."""
        misses, last = self._missing.get(order.order_id, (0, float("-inf")))
        now = self._clock.monotonic()
        if now - last < self._wire.gateway.traits.settle:
            return  # its index may not have caught up
        misses += 1
        self._missing[order.order_id] = (misses, now)
        current = self._registry.get(order.order_id)
        if misses < 3 or current is None or current.state not in FOLLOWED:
            return
        self._missing.pop(order.order_id, None)
        detail = "the exchange accepted it and now says that it has no such order"
        lost = self._registry.record(lifecycle.unknown(current, self._clock.now(), detail))
        self._on_lost(lost)

    # ---- applying -----------------------------------------------------------------------------------------

    def _apply(self, by_id: dict[str, ExchangeOrder]) -> None:
        """Merge what lists told into the orders that they tell of."""
        for order in self._registry.live():
            if order.state not in FOLLOWED or order.exchange_order_id is None:
                continue
            seen = by_id.get(order.exchange_order_id)
            if seen is not None:
                self._missing.pop(order.order_id, None)
                self._merge(order.order_id, seen)

    def _merge(self, order_id: str, seen: ExchangeOrder) -> None:
        order = self._registry.get(order_id)
        if order is not None:
            self._registry.record_all(lifecycle.merge(order, seen, self._clock.now(), read=True))

    async def _complete_fills(self, followed: list[Order]) -> bool:
        """Ask by which trades orders were filled, where the exchange has told only how much."""
        gateway = self._wire.gateway
        for order in self._registry.unsettled():
            # Killed between its last trade and this step, it lacks nothing but that it is said.
            self._registry.record_all(lifecycle.complete(order, self._clock.now()))
        lacking = self._lacking_fills(followed)
        if not gateway.traits.lists_trades:
            return await self._read_fills_singly()
        if not lacking:
            return True
        since = min(order.sent_at or order.created_at for order in lacking) - CLOCK_SKEW
        for symbol in self._scopes(lacking):
            answer = await self._wire.read(partial(gateway.trades, since, symbol), self._deadline())
            if not isinstance(answer, TradeList):
                return False
            # An order may have moved on while the trades were being listed.
            book_trades(self._registry, self._lacking_fills(lacking), answer.trades, self._clock.now())
        self._note_untold(self._registry.unsettled())
        return True

    def _lacking_fills(self, followed: list[Order]) -> list[Order]:
        current = (self._registry.get(order.order_id) for order in followed)
        live = [order for order in current if order is not None and not order.state.is_final]
        return [order for order in (*live, *self._registry.unsettled()) if not order.fills_complete]

    async def _read_fills_singly(self) -> bool:
        """Look final orders up whose fills are not told: such an answer may carry them."""
        complete = True
        asked = self._registry.unsettled()[:MAX_SINGLE_LOOKUPS]
        for order in asked:
            answer = await self._wire.query(ref_of(order), self._deadline())
            if isinstance(answer, Found):
                self._merge(order.order_id, answer.order)
            elif isinstance(answer, Unavailable):
                complete = False
        if complete:
            self._note_untold([order for order in self._registry.unsettled() if order in asked])
        return complete

    def _note_untold(self, orders: Iterable[Order]) -> None:
        """Stop asking for fills that the exchange does not tell; what was filled stays as it told it."""
        untold = {order.order_id: self._untold.get(order.order_id, 0) + 1 for order in orders}
        self._untold = {order_id: looks for order_id, looks in untold.items() if looks < FILLS_LOOKS}
        for order_id in untold.keys() - self._untold.keys():
            order = self._registry.get(order_id)
            if order is not None:
                detail = "the exchange does not tell by which trades it was filled"
                self._registry.record(
                    lifecycle.confirmed(order, self._clock.now(), Step.FILLS, ok=False, detail=detail)
                )

    def _recancel(self, followed: list[Order]) -> None:
        """Pursue cancels whose own fate was lost, so that a wish to cancel is not forgotten."""
        for order in followed:
            current = self._registry.get(order.order_id)
            if current is not None and current.state is OrderState.CANCELING:
                self._on_cancel_due(current)

    def _deadline(self) -> float:
        return self._clock.monotonic() + READ_TIMEOUT_SECONDS


def book_trades(
    registry: OrderRegistry, orders: Iterable[Order], trades: Iterable[ExchangeTrade], now: datetime
) -> None:
    """Book listed trades on the orders that they belong to, each once."""
    by_exchange_id: dict[str, list[ExchangeTrade]] = {}
    for trade in trades:
        by_exchange_id.setdefault(trade.exchange_order_id, []).append(trade)
    for order in orders:
        events: list[OrderEvent] = []
        current = order
        known = {fill.trade_id for fill in order.fills}
        for trade in by_exchange_id.get(order.exchange_order_id or "", ()):
            if trade.fill.trade_id not in known:
                known.add(trade.fill.trade_id)
                current = lifecycle.book_fill(current, trade.fill, now, events)
        registry.record_all(events)
        if current.state.is_final:
            registry.record_all(lifecycle.complete(current, now))
