"""What became of an order whose answer never came: ask until the exchange says so, and believe nothing less.

"Not there" counts only once the request can no longer arrive, and then only when it is said twice. An exchange
that does not answer says nothing. Only then may the same id be sent again, while somebody still wants it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from . import lifecycle
from .alerts import Alerts, Level
from .clock import Clock
from .errors import ErrorCategory, JournalError, OrderNotSent
from .gateways.base import (
    ExchangeOrder,
    Found,
    LookupScope,
    NotFound,
    OrderList,
    OrderRef,
    TradeList,
    Unavailable,
)
from .models import Order, OrderState
from .registry import OrderRegistry
from .retry import Retryable, RetryBudget, RetryPolicy, poll_delay
from .submission import Doubt, Submission
from .wire import Wire

_logger = logging.getLogger(__name__)

LOOK_TIMEOUT_SECONDS: Final = 60.0
"""How long one look may wait for our own rate limits."""
CLOCK_SKEW: Final = timedelta(seconds=60)
"""How far the exchange's clock may differ from ours where lists are asked for by time."""
LOOKBACK: Final = timedelta(minutes=10)
"""The same, more generous where "not in the list" is evidence that an order never arrived."""
UNCHECKED: Final = timedelta(days=1)
"""How wrong a clock may have been that nothing could be compared with."""
CLOCK_PAUSE_SECONDS: Final = 5.0
"""Before an order is looked at again that our wrong clock kept from being sent."""
FAR_AHEAD: Final = timedelta(days=1)
"""Where such a list ends: later than now on any clock that may be in use by then."""
ABSENT_LOOKS: Final = 2
"""How often "not there" must be said, after the request can no longer arrive."""
SECOND_LOOK_SECONDS: Final = 0.25
EARLY_SCANS: Final = frozenset({0, 3, 6})
"""Which of the looks go through the lists too, before an absence can be proved: about 0, 1.5 and 13 s after."""
UNDECIDABLE_POLL_SECONDS: Final = 60.0
_NO_IDS: Final = Unavailable(
    ErrorCategory.BAD_RESPONSE,
    "the exchange's lists do not tell client order ids, so they prove nothing",
    local=True,
)


class Resolver:
    """Follows every unresolved order in a task of its own until it is resolved."""

    def __init__(
        self,
        wire: Wire,
        registry: OrderRegistry,
        clock: Clock,
        rng: random.Random,
        policy: RetryPolicy,
        budget: RetryBudget,
        alerts: Alerts,
        *,
        max_concurrent_looks: int = 20,
    ) -> None:
        self.policy = policy
        self.budget = budget
        self.undecidable: set[str] = set()
        """Orders that were looked for and of which this exchange can never say that it does not have them."""
        self.recovered: set[str] = set()
        """Orders from an earlier life of this process: nobody was told a verdict about them."""
        self._wire = wire
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._alerts = alerts
        self._opened_at = (clock.now(), clock.monotonic())
        self.progress = asyncio.Event()
        """Set whenever an order was resolved, or turned out to be undecidable; whoever waits clears it."""
        self._doubts: dict[str, Doubt] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = False
        self._hurry: dict[str, asyncio.Event] = {}
        self._looks = asyncio.Semaphore(max_concurrent_looks)
        self._resend: Callable[[Order, float], Awaitable[Order]] | None = None
        self._give_up: Callable[[str, str, str], None] | None = None
        self._count_resend: Callable[[], None] = lambda: None
        self._after_found: Callable[[Order], None] = lambda order: None

    def connect(
        self, submission: Submission, count_resend: Callable[[], None], after_found: Callable[[Order], None]
    ) -> None:
        """Give the resolver the means to send again, once both are made."""
        self._resend = submission.attempt
        self._give_up = submission.give_up
        self._count_resend = count_resend
        self._after_found = after_found

    def take(self, order_id: str, doubt: Doubt) -> None:
        """Go on resolving this order from here; a task that already does goes on with what is newly known."""
        before = self._doubts.get(order_id)
        if before is not None:  # an earlier copy is looked for too
            both = None not in (before.began, doubt.began)
            doubt.began = min(before.began or 0.0, doubt.began or 0.0) if both else None
        self._doubts[order_id] = doubt
        if order_id not in self._tasks and not self._closed:
            task = asyncio.get_running_loop().create_task(self._follow(order_id), name=f"resolve {order_id}")
            self._tasks[order_id] = task

    def hurry(self, order_id: str) -> None:
        """Look now rather than at the next turn."""
        if order_id in self._hurry:
            self._hurry[order_id].set()

    @property
    def busy(self) -> bool:
        """Whether any order is being resolved that can be."""
        return any(order_id not in self.undecidable for order_id in self._tasks)

    async def close(self) -> None:
        """Stop asking; what is unresolved stays so in the journal and is resolved after the next start."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one order ----------------------------------------------------------------------------------------

    async def _follow(self, order_id: str) -> None:
        self._hurry[order_id] = asyncio.Event()
        try:
            while await self._turn_or_pause(order_id):
                pass
        finally:
            self._tasks.pop(order_id, None)
            self._doubts.pop(order_id, None)
            self._hurry.pop(order_id, None)
            self.undecidable.discard(order_id)
            self.progress.set()

    async def _turn_or_pause(self, order_id: str) -> bool:
        """Take one turn; a defect is told to a human, and the order, still UNKNOWN, is followed all the same."""
        try:
            return await self._turn(order_id)
        except Exception as error:
            _logger.exception("resolving %s failed", order_id)
            self._alerts.raise_alert(
                Level.CRITICAL, f"resolve:{order_id}", f"resolving {order_id} failed", type(error).__name__
            )
            await self._pause(order_id, UNDECIDABLE_POLL_SECONDS)
            return True

    async def _turn(self, order_id: str) -> bool:
        """Settle one doubt: look until found or provably absent. True if there is more to do."""
        order = self._registry.get(order_id)
        if order is None:
            return False
        if order.state is OrderState.PENDING:
            return await self._send_again(order)
        if not order.state.is_unresolved:
            return False
        absent = await self._look_until_certain(order_id, self._doubts[order_id])
        if not absent:
            return False
        return await self._conclude(order_id)

    async def _look_until_certain(self, order_id: str, doubt: Doubt) -> bool:
        """Ask until the order is found (False) or is provably absent (True)."""
        misses = absent = 0
        while True:
            order = self._registry.get(order_id)
            if order is None or not order.state.is_unresolved:
                return False
            asked_at = self._clock.monotonic()
            certain_at = doubt.left_by + self._wire.gateway.traits.unresolvable_for
            async with self._looks:
                # Lists are dear where they are limited: early ones are few, for those that prove an absence.
                answer = await self.look(order, thorough=asked_at >= certain_at or misses in EARLY_SCANS)
            order = self._registry.get(order_id)
            if order is None or not order.state.is_unresolved:
                return False
            if isinstance(answer, Found):
                if self._adopt(order, answer.order):
                    return False
                await self._pause(order_id, UNDECIDABLE_POLL_SECONDS)
                continue
            if isinstance(answer, Unavailable):
                misses += 1
                await self._bear_with(order, answer, misses)
                continue
            if order.exchange_order_id is not None or not self._wire.gateway.traits.can_resolve:
                self._report_undecidable(order)
                await self._pause(order_id, UNDECIDABLE_POLL_SECONDS)
                continue
            if asked_at < certain_at:
                misses += 1
                await self._pause(order_id, self._until(certain_at, misses))
                continue
            absent += 1
            if absent >= ABSENT_LOOKS:
                return True
            await self._pause(order_id, max(self._wire.gateway.traits.settle, SECOND_LOOK_SECONDS))

    async def _bear_with(self, order: Order, answer: Unavailable, misses: int) -> None:
        """Wait before an exchange is asked again that did not answer."""
        wait = max(poll_delay(self.policy, misses, self._rng), answer.retry_after or 0.0)
        if answer.local and answer.retry_after is None:  # it never will: a human must look
            self._report_undecidable(order, answer.message)
            wait = UNDECIDABLE_POLL_SECONDS
        await self._pause(order.order_id, wait)

    def _until(self, certain_at: float, misses: int) -> float:
        """Look now and then before it is certain, since a late arrival shows early; then exactly when it is."""
        remaining = certain_at - self._clock.monotonic()
        return max(0.001, min(remaining, 0.1 * 2.0 ** min(misses, 10)))

    async def _pause(self, order_id: str, seconds: float) -> None:
        event = self._hurry[order_id]
        event.clear()
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    def _adopt(self, order: Order, seen: ExchangeOrder) -> bool:
        """Take the exchange's order for ours, unless it plainly is another one under the same id."""
        differing = lifecycle.conflict(order, seen)
        if differing:
            self._alerts.raise_alert(
                Level.CRITICAL,
                f"conflict:{order.order_id}",
                f"the exchange has another order under the id {order.order_id}",
                f"it differs in {', '.join(differing)}; ours stays unresolved",
            )
            self.undecidable.add(order.order_id)
            self.progress.set()
            return False
        self._registry.record_all(lifecycle.merge(order, seen, self._clock.now(), read=True))
        current = self._registry.get(order.order_id)
        if current is not None:
            self._after_found(current)
        return True

    def _report_undecidable(self, order: Order, why: str | None = None) -> None:
        if order.order_id in self.undecidable:
            return
        self.undecidable.add(order.order_id)
        self.progress.set()
        if why is None and order.exchange_order_id is None:
            why = "this exchange cannot tell whether it has the order"
        why = why or "it was accepted, and now the exchange does not show it"
        self._alerts.raise_alert(
            Level.CRITICAL,
            f"undecidable:{order.order_id}",
            f"order {order.order_id} is unresolved",
            f"{why}; look at the exchange. It is not sent again.",
        )

    # ---- what to do about a proven absence ----------------------------------------------------------------

    async def _conclude(self, order_id: str) -> bool:
        order = self._registry.get(order_id)
        if order is None or not order.state.is_unresolved:
            return False
        doubt = self._doubts[order_id]
        if doubt.duplicate and order.attempts > 1:
            # The exchange says that the id exists, and shows it nowhere: an earlier copy may be what it means.
            self._report_undecidable(order)
            await self._pause(order_id, UNDECIDABLE_POLL_SECONDS)
            return True
        if doubt.refusal is not None:
            self._registry.record(lifecycle.rejected(order, self._clock.now(), doubt.refusal))
            return False
        deadline = self._may_send_again(order, doubt)
        if deadline is not None and self.budget.try_spend():
            return await self._send_again(order)
        # Who was told that it is canceled must not see it placed by another call that waits for it.
        restartable = order_id in self.recovered and not order.cancel_requested
        self._registry.record(lifecycle.never_arrived(order, self._clock.now(), restartable=restartable))
        return False

    def _may_send_again(self, order: Order, doubt: Doubt) -> float | None:
        """The deadline of whoever still wants the order to be placed; None if it may not be sent again."""
        deadline = self._registry.wanted_until(order.order_id)
        if deadline is None or deadline <= self._clock.monotonic() or order.cancel_requested:
            return None
        if order.attempts > self.policy.max_retries or not self.policy.retries(doubt.category):
            return None
        return deadline

    async def _send_again(self, order: Order) -> bool:
        """Send the same id once more. True if the order is unresolved again, or still waits to be sent."""
        order_id = order.order_id
        deadline = self._registry.wanted_until(order_id)
        if self._resend is None or self._give_up is None:
            raise RuntimeError("the resolver was not connected")
        if deadline is None or deadline <= self._clock.monotonic() or order.cancel_requested:
            self._give_up(order_id, lifecycle.NEVER_SENT, "nobody waits for it any more")
            return False
        self._count_resend()
        try:
            await self._resend(order, deadline)
        except Retryable as error:
            if order.attempts > self.policy.max_retries or not self.policy.retries(error.category):
                self._withhold(order_id, error)
                return False
            await self._pause(order_id, self.policy.delay(order.attempts, error.retry_after, self._rng))
        except (OrderNotSent, JournalError) as error:
            if getattr(error, "reason", None) == "clock":  # what that clock says of absence is not believed either
                await self._pause(order_id, CLOCK_PAUSE_SECONDS)
                return True
            self._withhold(order_id, error)
            return False
        current = self._registry.get(order_id)
        if current is not None and (current.state.is_unresolved or current.state is OrderState.PENDING):
            return True
        self.budget.success()
        return False

    def _withhold(self, order_id: str, error: Exception) -> None:
        """Close an order that is provably absent and that we ourselves now refuse to send."""
        reason = getattr(error, "reason", lifecycle.NEVER_SENT)
        order = self._registry.get(order_id)
        if order is not None and order.state is OrderState.UNKNOWN:
            self._registry.record(lifecycle.never_left(order, self._clock.now(), reason, str(error)))
        elif self._give_up is not None:
            self._give_up(order_id, reason, str(error))

    # ---- one look -----------------------------------------------------------------------------------------

    async def look(self, order: Order, *, thorough: bool = True) -> Found | NotFound | Unavailable:
        """Look for the order wherever this exchange may have it.

        NotFound means that the exchange said so for every place that there is; unless ``thorough``, that a lookup
        by id does not find it, where there is one.
        """
        traits = self._wire.gateway.traits
        deadline = self._clock.monotonic() + LOOK_TIMEOUT_SECONDS
        ref = ref_of(order)
        if ref.exchange_order_id is not None or traits.lookup_scope is not LookupScope.NONE:
            answer = await self._wire.query(ref, deadline)
            if not isinstance(answer, NotFound):
                return answer
            if ref.exchange_order_id is not None or traits.lookup_scope is LookupScope.ALL or not thorough:
                return answer
        return await self._scan(order, deadline)

    async def _scan(self, order: Order, deadline: float) -> Found | NotFound | Unavailable:
        """Search the lists, open orders first: an order can leave them for the closed ones, never return."""
        gateway = self._wire.gateway
        opened = await self._wire.read(lambda: gateway.open_orders(order.symbol), deadline)
        if isinstance(opened, Unavailable):
            return opened
        found = self._with_our_id(opened, order)
        if found is not None:
            return Found(found)
        if not opened.tells_client_ids:
            return _NO_IDS
        since, until = self._period(order)
        if gateway.traits.lists_closed_orders:
            closed = await self._wire.read(lambda: gateway.closed_orders(since, until, order.symbol), deadline)
            if isinstance(closed, Unavailable):
                return closed
            found = self._with_our_id(closed, order)
            if found is not None:
                return Found(found)
            if not closed.tells_client_ids:
                return _NO_IDS
        if gateway.traits.lists_trades:
            return await self._scan_trades(order, since, deadline)
        return NotFound()

    def _period(self, order: Order) -> tuple[datetime, datetime]:
        """When the order may have been made, on the exchange's clock, whatever ours was set to meanwhile."""
        now, at = self._clock.now(), self._clock.monotonic()
        doubt = self._doubts.get(order.order_id)
        began = None if doubt is None else doubt.began
        sent = order.sent_at or order.created_at
        error = self._wire.gateway.clock_error
        if error is not None:
            # It was sent by a clock compared with theirs; only ``created_at`` may be of another one.
            told = now - timedelta(seconds=error)
            moments = [sent, told if began is None else told - timedelta(seconds=at - began)]
            if sent - UNCHECKED < order.created_at < sent:
                moments.append(order.created_at)
            return min(moments) - LOOKBACK, max(told, *moments) + FAR_AHEAD
        steady = self._opened_at[0] + timedelta(seconds=at - self._opened_at[1])  # no step of our clock moves this
        moments = [sent, order.created_at, now, steady]
        if began is None:  # sent in an earlier life, by a clock of which nothing is known
            return min(moments) - UNCHECKED, max(moments) + FAR_AHEAD
        age = timedelta(seconds=at - began)
        return min(sent, order.created_at, now - age, steady - age) - LOOKBACK, max(moments) + FAR_AHEAD

    def _with_our_id(self, listing: OrderList, order: Order) -> ExchangeOrder | None:
        """The order of a list that bears our id; of several, which never should be, the first that fits."""
        ours = [seen for seen in listing.orders if seen.client_order_id == order.order_id]
        if len({seen.exchange_order_id for seen in ours}) > 1:
            self._alerts.raise_alert(
                Level.CRITICAL,
                f"doubled:{order.order_id}",
                f"the exchange has several orders under the id {order.order_id}",
                ", ".join(sorted(seen.exchange_order_id for seen in ours)),
            )
        return next((seen for seen in ours if not lifecycle.conflict(order, seen)), ours[0] if ours else None)

    async def _scan_trades(self, order: Order, since: datetime, deadline: float) -> Found | NotFound | Unavailable:
        gateway = self._wire.gateway
        trades = await self._wire.read(lambda: gateway.trades(since, order.symbol), deadline)
        if not isinstance(trades, TradeList):
            return trades
        for trade in trades.trades:
            if trade.client_order_id == order.order_id:
                ref = OrderRef(order.order_id, order.symbol, trade.exchange_order_id, order.sent_at)
                answer = await self._wire.query(ref, deadline)
                if isinstance(answer, NotFound):
                    # It traded, so it exists: an answer that denies it is no answer.
                    return Unavailable(ErrorCategory.BAD_RESPONSE, "it has trades and yet is not found")
                return answer
        return NotFound()


def ref_of(order: Order) -> OrderRef:
    """What a gateway needs to find this order."""
    return OrderRef(order.order_id, order.symbol, order.exchange_order_id, order.sent_at)
