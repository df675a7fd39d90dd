"""Tells the position manager of every fill, behind the orders' way, and goes on whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Final

from services.mcp.order_execution import OrderEvent, OrderNotFound, ReliableOrderExecutor
from services.mcp.order_execution.alerts import Level
from services.mcp.order_execution.errors import ExecutorClosed, OrderExecutionError, SubscriberTooSlow
from services.mcp.order_execution.exact import EXACT, total
from services.mcp.order_execution.journals.worker_thread import WorkerThread
from services.mcp.order_execution.models import EventKind, Fill, plain_decimal
from services.mcp.order_execution.models import Order as CoreOrder

from .orders import OrderFill, OrderSide
from .positions import PositionManager
from .results import ExecutionPhase
from .transaction_logger import TransactionLogger
from .translation import milliseconds

_logger = logging.getLogger(__name__)

CATCH_UP: Final = timedelta(days=7)
"""How far back fills are told again at the start; each counts once all the same."""
PAUSE_SECONDS: Final = 5.0
PAUSE_MAX_SECONDS: Final = 300.0
SLOW_SECONDS: Final = 30.0
"""After this long without an answer of the position manager somebody is told."""
TOLD_MAX: Final = 100_000
"""Fills that are remembered as told, so that catching up again gets on."""
OWED_MAX: Final = 10_000
"""Fills that are kept to be told again; further ones are told after the next start."""
ALERT: Final = "positions"

_Key = tuple[str, str]


class _End(Enum):
    """Stands for the end of the events."""

    END = auto()


class FillFollower:
    """Follows one open executor; make it right after ``open()``, so that no event slips through between.

    A fill that the position manager does not take is told again after ``pause`` seconds, then after twice as long,
    and so on; so is everything, where events were missed or the journal could not be read. Every failure is logged
    and alerted; so is an order that was filled by trades that the exchange does not tell: its position lacks them.
    """

    def __init__(
        self,
        executor: ReliableOrderExecutor,
        positions: PositionManager,
        log: TransactionLogger | None = None,
        *,
        pause: float = PAUSE_SECONDS,
        slow: float = SLOW_SECONDS,
    ) -> None:
        self._executor = executor
        self._positions = positions
        self._log = log
        self._slow = slow
        self._first_pause = self._pause = pause
        self._events: AsyncIterator[OrderEvent] | None = executor.events()
        self._behind = True
        self._since: datetime = executor.clock.now() - CATCH_UP
        self._older: set[str] = set()
        """Orders from before ``_since`` that were not settled: once they are, ``orders_since`` leaves them out."""
        self._told: dict[_Key, None] = {}
        self._owed: dict[_Key, tuple[CoreOrder, Fill]] = {}
        self._lacking: dict[str, None] = {}
        """Orders of which it was told that their trades are not to be had."""
        self._due: float | None = None
        """When what is owed is told again, on the loop's clock."""
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Not one of the interpreter's pool, which is gone before the fills of what is stopped at exit are taken.
        self._thread = WorkerThread("positions")

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="fills")

    def expect_end(self) -> None:
        """The executor is about to close: what it does not answer from now on is told after the next start."""
        self._ending.set()

    async def close(self, seconds: float) -> None:
        """Take in what was told until the executor closed, for at most ``seconds``; the rest follows a start."""
        self._ending.set()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            _logger.error("the position manager did not take the last fills; they are told after the next start")
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        self._thread.stop(0.0 if task.cancelled() else 1.0)

    async def _run(self) -> None:
        """Follow until the executor closes; a failure leads to another round, after a pause."""
        while True:
            try:
                if self._events is None:
                    self._events = self._executor.events()
                if self._behind:
                    await self._catch_up()
                await self._follow(self._events)
            except ExecutorClosed:
                return
            except SubscriberTooSlow as error:
                self._events, self._behind = None, True
                self._complain("events were missed; they are read from the journal", error)
            except Exception as error:
                _logger.exception("following fills failed")
                self._behind = True
                self._complain("positions stand still", error)
                await self._rest()
                if self._ending.is_set():
                    return
            else:
                return

    async def _catch_up(self) -> None:
        """Tell what the journal holds; what was told already is left out."""
        try:
            async for order in self._executor.orders_since(self._since):
                if order.created_at < self._since:
                    self._older.add(order.order_id)
                await self._take_order(order)
            for order_id in sorted(self._older):
                with suppress(OrderNotFound):
                    order = await self._executor.get_order_status(order_id)
                    await self._take_order(order)
        except OrderExecutionError as error:
            if not self._ending.is_set():
                raise
            # The journal is closed by then, or closing; the last events are taken in all the same.
            _logger.info("what the journal holds is told after the next start: %s", error)
            return
        self._behind = False
        self._all_is_well()

    async def _take_order(self, order: CoreOrder) -> None:
        for fill in order.fills:
            await self._tell(order, fill)
        self._check_told(order)

    async def _follow(self, events: AsyncIterator[OrderEvent]) -> None:
        """Return when the executor has closed and every event was taken in. Raises SubscriberTooSlow."""
        while (event := await self._next(events)) is not _End.END:
            if event is None:
                await self._pay()
                continue
            self._note_attempt(event)
            if event.fill is not None:
                await self._tell(event.order, event.fill)
            self._check_told(event.order)
        await self._pay()

    async def _next(self, events: AsyncIterator[OrderEvent]) -> OrderEvent | _End | None:
        """The next event, or the end; None when it is time to tell again what is owed."""
        if self._due is None:
            return await anext(events, _End.END)
        try:
            async with asyncio.timeout_at(self._due):
                return await anext(events, _End.END)
        except TimeoutError:
            return None

    def _note_attempt(self, event: OrderEvent) -> None:
        """Write down that an order left, and when it is sent once more."""
        if self._log is None:
            return
        if event.kind is EventKind.INTENT:
            attempts = {"attempts": event.order.attempts}
            self._log.log_phase(event.order_id, ExecutionPhase.COMMIT, attempts, at=event.at)
        elif event.kind is EventKind.RESEND:
            why = event.order.reason or "not acknowledged"
            self._log.log_retry(event.order_id, event.order.attempts - 1, why, at=event.at)

    # ---- telling ------------------------------------------------------------------------------------------

    async def _tell(self, order: CoreOrder, fill: Fill) -> None:
        """Tell of one fill, once in this life; what fails is owed."""
        key = (order.order_id, fill.trade_id)
        if order.external or key in self._told:
            return
        if await self._apply(order, fill):
            self._owed.pop(key, None)
            self._told[key] = None
            if len(self._told) > TOLD_MAX:
                del self._told[next(iter(self._told))]
        elif key in self._owed or len(self._owed) < OWED_MAX:
            self._owed[key] = (order, fill)
            if self._due is None:
                self._due = asyncio.get_running_loop().time() + self._pause
        else:
            _logger.error("a fill of order %s is told after the next start: too many are owed", order.order_id)

    async def _pay(self) -> None:
        """Tell once more what the position manager did not take."""
        self._due = None
        self._pause = min(self._pause * 2, PAUSE_MAX_SECONDS)
        for order, fill in list(self._owed.values()):
            await self._tell(order, fill)
        self._all_is_well()

    async def _apply(self, order: CoreOrder, fill: Fill) -> bool:
        """Hand one fill to the position manager, in a thread. It has all the time it takes, but not unseen."""
        name = order.order_id
        told = OrderFill(fill.trade_id, fill.price, fill.amount, fill.fee, fill.fee_currency, milliseconds(fill.at))
        side = OrderSide(order.side.value)
        job = partial(self._positions.apply_fill, order.symbol, side, told, name)
        call = asyncio.ensure_future(self._thread.call(job))
        # A second call beside one that hangs would hang too, and take one more thread.
        while not (await asyncio.wait({call}, timeout=self._slow))[0]:
            slow = f"the position manager has not answered for {self._slow:g} s"
            self._complain(slow, TimeoutError(f"a fill of order {name}"))
        try:
            call.result()
        except Exception as error:
            _logger.exception("the position manager failed on %s", name)
            if self._log is not None:
                self._log.log_error(name, "positions", error)
            self._complain("the position manager failed; it is told again", error)
            return False
        return True

    def _check_told(self, order: CoreOrder) -> None:
        """Tell of an order that was filled, and whose trades will never be told; nothing is made up for them."""
        if order.order_id in self._lacking:
            if order.fills_complete:  # a reconciliation found them after all
                del self._lacking[order.order_id]
                if self._executor.alerts is not None:
                    self._executor.alerts.clear(f"{ALERT}:{order.order_id}")
            return
        if not order.is_settled or order.fills_complete or order.external:
            return
        self._lacking[order.order_id] = None
        if len(self._lacking) > TOLD_MAX:
            del self._lacking[next(iter(self._lacking))]
        lacks = plain_decimal(EXACT.subtract(order.filled, total(fill.amount for fill in order.fills)))
        what = f"the position of {order.symbol} lacks {lacks}: the exchange does not tell by which trades"
        _logger.error("%s order %s (%s) was filled", what, order.order_id, order.side.value)
        if self._log is not None:
            self._log.log_error(order.order_id, "positions", "trades_untold", lacks=lacks)
        if self._executor.alerts is not None:
            detail = f"order {order.order_id} ({order.side.value}, average price {order.average_price})"
            self._executor.alerts.raise_alert(Level.ERROR, f"{ALERT}:{order.order_id}", what, detail)

    # ---- failures -----------------------------------------------------------------------------------------

    def _complain(self, what: str, error: Exception) -> None:
        _logger.warning("%s: %s", what, error)
        if self._executor.alerts is not None:
            self._executor.alerts.raise_alert(Level.ERROR, ALERT, what, f"{type(error).__name__}: {error}")

    def _all_is_well(self) -> None:
        if not self._owed and not self._behind:
            self._pause = self._first_pause
            if self._executor.alerts is not None:
                self._executor.alerts.clear(ALERT)

    async def _rest(self) -> None:
        """Pause, longer each time; not while the engine stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._ending.wait()
        self._pause = min(self._pause * 2, PAUSE_MAX_SECONDS)
