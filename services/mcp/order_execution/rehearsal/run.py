"""One rehearsal from beginning to end: place, suffer, resolve, restart, reconcile, and look into the book."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from ..errors import (
    InsufficientFunds,
    InvalidOrder,
    OrderExecutionError,
    OrderNotFound,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
    RiskLimitExceeded,
)
from ..gateways.base import ExchangeOrder, Gateway, Market, OrderList, Ticker
from ..lifecycle import NEVER_ARRIVED
from ..models import CircuitState, ExecutionStats, Order, OrderEvent, OrderState, ReconciliationReport, to_plain
from ..reliable_executor import ReliableOrderExecutor
from .day import BadDay
from .plan import PlannedOrder, plan_orders
from .record import Answer, Trace, Verdict, judge
from .report import build_report
from .view import Snapshot, View

CALLS_MAX: Final = 40
"""How often a caller executes one order again, under the same id, before it gives up."""
PAUSE_MAX_SECONDS: Final = 1.0
RESOLVE_SECONDS: Final = 30.0
"""How long to wait, after the last call was answered, for whatever is unresolved."""
CANCEL_CALLS_MAX: Final = 5
SHOW_SECONDS: Final = 0.125
EVENTS_KEPT: Final = 50


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    orders: int
    seed: int
    concurrency: int
    directory: Path
    seconds: float
    """Over how long the orders are spread."""


class RehearsalFailed(OrderExecutionError):
    """The rehearsal could not be carried out; this says nothing about the promise."""


class Rehearsal:
    """Runs once. ``observer`` is the exchange seen without any fault: prices before, its book afterwards."""

    def __init__(self, options: Options, day: BadDay, observer: Gateway, view: View) -> None:
        self.options = options
        self._day = day
        self._observer = observer
        self._view = view
        self._started = day.clock.monotonic()
        self._phase = "opening"
        self._traces: dict[str, Trace] = {}
        self._unresolved: dict[str, float] = {}
        self._last: deque[tuple[float, str, OrderState | None]] = deque(maxlen=EVENTS_KEPT)
        self._stats: ExecutionStats | None = None
        self._outages = day.outages()
        self._retried = 0

    async def run(self) -> dict[str, Any]:
        """Carry it out and return the report. Raises RehearsalFailed, and what opening raises."""
        await self._plan()
        await self._day.begin()
        self._started = self._day.clock.monotonic()
        async with (
            self._day.executor() as bad,
            _Background(self._follow(bad), self._show(bad)),
        ):
            await self._place(bad)
            await self._resolve(bad)
            self._retried = (await bad.get_execution_stats()).retries
        await self._day.end()
        async with (
            self._day.executor_after() as good,
            _Background(self._follow(good), self._show(good)),
        ):
            return await self._account(good)

    # ---- placing ------------------------------------------------------------------------------------------

    async def _plan(self) -> None:
        markets, prices = [], {}
        for symbol in self._day.symbols:
            market, ticker = await self._observer.market(symbol), await self._observer.ticker(symbol)
            if not isinstance(market, Market) or not isinstance(ticker, Ticker):
                raise RehearsalFailed(f"{self._day.where} did not tell the price of {symbol}")
            markets.append(market)
            prices[symbol] = ticker
        planned = plan_orders(self.options.orders, self.options.seed, markets, prices, self._day.mix)
        self._traces = {order.order_id: Trace(order) for order in planned}

    async def _place(self, executor: ReliableOrderExecutor) -> None:
        """Execute every order, spread over the bad day, so many at a time; cancel what is to be cancelled."""
        self._phase = "placing"
        room = asyncio.Semaphore(self.options.concurrency)
        pace = self._day.seconds / max(len(self._traces), 1)
        async with asyncio.TaskGroup() as group:
            for number, trace in enumerate(self._traces.values()):
                group.create_task(self._one(executor, trace, number * pace, room))

    async def _one(
        self, executor: ReliableOrderExecutor, trace: Trace, start: float, room: asyncio.Semaphore
    ) -> None:
        await asyncio.sleep(start)
        async with room:
            accepted = await self._execute(executor, trace)
        if accepted and trace.planned.cancel_after is not None:
            await asyncio.sleep(trace.planned.cancel_after * self._day.seconds)
            await self._cancel(executor, trace)

    async def _execute(self, executor: ReliableOrderExecutor, trace: Trace) -> bool:
        """Do what a bot does: execute the same order again for as long as its answer is none."""
        for _ in range(CALLS_MAX):
            answer, words, pause = await self._call(executor, trace.planned)
            trace.answers.append((self._elapsed(), answer, words))
            self._last.append((self._elapsed(), f"{trace.planned.order_id}  caller is told: {answer}", None))
            if pause is None:
                return answer is Answer.ACCEPTED
            await asyncio.sleep(min(pause, PAUSE_MAX_SECONDS))
        return False

    async def _call(
        self, executor: ReliableOrderExecutor, planned: PlannedOrder
    ) -> tuple[Answer, str, float | None]:
        """Execute once: the answer, its words, and after what pause to ask again (None: not at all)."""
        try:
            await executor.execute_order(planned.params)
        except (InvalidOrder, InsufficientFunds, RiskLimitExceeded) as error:
            return Answer.REFUSED, str(error), None
        except OrderRejected as error:
            never = error.reason == NEVER_ARRIVED
            return (Answer.NEVER_ARRIVED if never else Answer.REJECTED), str(error), None
        except OrderNotSent as error:
            return Answer.NOT_SENT, str(error), getattr(error, "retry_after", None) or 0.25
        except OrderUnresolved as error:
            return Answer.UNRESOLVED, str(error), 0.25
        return Answer.ACCEPTED, "", None

    async def _cancel(self, executor: ReliableOrderExecutor, trace: Trace) -> None:
        for _ in range(CANCEL_CALLS_MAX):
            if await executor.cancel_order(trace.planned.order_id):
                return
            await asyncio.sleep(PAUSE_MAX_SECONDS)

    async def _resolve(self, executor: ReliableOrderExecutor) -> None:
        """Wait until nothing is unresolved and nothing is being cancelled, for a bounded time."""
        self._phase = "resolving"
        deadline = self._day.clock.monotonic() + RESOLVE_SECONDS
        while self._day.clock.monotonic() < deadline:
            if not await self._is_open(executor):
                return
            await asyncio.sleep(SHOW_SECONDS)

    async def _is_open(self, executor: ReliableOrderExecutor) -> bool:
        """Whether the fate of any order is open, by what the executor knows now: not every event was heard."""
        for trace in self._traces.values():
            order = trace.order
            if order is not None and (order.state.is_unresolved or order.state is OrderState.CANCELING):
                trace.order = order = await executor.get_order_status(order.order_id)
                if order.state.is_unresolved or order.state is OrderState.CANCELING:
                    return True
        return False

    # ---- accounting ---------------------------------------------------------------------------------------

    async def _account(self, executor: ReliableOrderExecutor) -> dict[str, Any]:
        """After the restart: reconcile twice, and hold the exchange's own book against everything that was told."""
        await self._resolve(executor)
        self._phase = "reconciling"
        first = await executor.reconcile_orders("hourly")
        second = await executor.reconcile_orders("hourly")
        records = await self._records(executor, first)
        book = await self._book()
        verdict = judge(self._traces.values(), records, book, discrepancies=len(second.details))
        stats = await executor.get_execution_stats()
        self._phase = "done"
        return self._report(verdict, first, stats)

    async def _records(self, executor: ReliableOrderExecutor, report: ReconciliationReport) -> Mapping[str, Order]:
        records: dict[str, Order] = {}
        names = {*self._traces, *(item.order_id for item in report.details if item.order_id is not None)}
        for name in sorted(names):
            try:
                records[name] = await executor.get_order_status(name)
            except OrderNotFound:
                continue
        for name, trace in self._traces.items():
            trace.order = records.get(name)
        return records

    async def _book(self) -> list[ExchangeOrder]:
        until = self._day.clock.now() + timedelta(minutes=1)
        since = until - timedelta(days=1)
        lists = (await self._observer.open_orders(), await self._observer.closed_orders(since, until))
        book: dict[str, ExchangeOrder] = {}
        for found in lists:
            if not isinstance(found, OrderList):
                raise RehearsalFailed(f"the exchange's book could not be read: {found.message}")
            book |= {order.exchange_order_id: order for order in found.orders}
        return list(book.values())

    def _report(
        self, verdict: Verdict, reconciliation: ReconciliationReport, stats: ExecutionStats
    ) -> dict[str, Any]:
        facts = {
            "started_at": self._day.clock.now() - timedelta(seconds=self._elapsed()),
            "seconds": round(self._elapsed(), 3),
            "seed": self.options.seed,
            "concurrency": self.options.concurrency,
            "exchange": self._day.where,
            "faults": self._day.told(),
            "outages": [list(outage) for outage in self._outages],
            "files": self._day.files(),
        }
        plain_stats = {**stats.to_dict(), "retries": self._retried}
        return build_report(
            facts=facts,
            traces=list(self._traces.values()),
            verdict=verdict,
            reconciliation=to_plain(reconciliation.to_dict()),
            stats=plain_stats,
        )

    # ---- watching -----------------------------------------------------------------------------------------

    async def _follow(self, executor: ReliableOrderExecutor) -> None:
        async for event in executor.events():
            self._note(event)

    def _note(self, event: OrderEvent) -> None:
        at = self._elapsed()
        trace = self._traces.get(event.order_id)
        if trace is not None:
            trace.note(event, at)
        if event.state.is_unresolved:
            self._unresolved.setdefault(event.order_id, at)
        else:
            self._unresolved.pop(event.order_id, None)
        fill = "" if event.fill is None else f" {_short(event.fill.amount)} at {_short(event.fill.price)}"
        self._last.append((at, f"{event.order_id}  {event.kind} → {event.state}{fill}", event.state))

    async def _show(self, executor: ReliableOrderExecutor) -> None:
        while True:
            self._stats = await executor.get_execution_stats()
            self._view.show(self._snapshot())
            await asyncio.sleep(SHOW_SECONDS)

    def _snapshot(self) -> Snapshot:
        now = self._elapsed()
        orders = [trace.order for trace in self._traces.values() if trace.order is not None]
        circuits = {} if self._stats is None else dict(self._stats.circuits)
        return Snapshot(
            elapsed=now,
            phase=self._phase,
            planned=self.options.orders,
            answered=sum(bool(trace.answers) for trace in self._traces.values()),
            states=Counter(order.state for order in orders),
            unresolved=sorted(((name, now - since) for name, since in self._unresolved.items()), key=_by_age),
            circuits=circuits or {"submit": CircuitState.CLOSED},
            attempts=sum(order.attempts for order in orders),
            resends=sum(trace.resends for trace in self._traces.values()),
            ever_unknown=sum(trace.was_unknown for trace in self._traces.values()),
            outage=self._phase != "reconciling" and any(since <= now < until for since, until in self._outages),
            last_events=list(self._last),
        )

    def _elapsed(self) -> float:
        return self._day.clock.monotonic() - self._started


class _Background:
    """Coroutines that run beside a block and are cancelled at its end; their errors are its errors."""

    def __init__(self, *coroutines: Any) -> None:
        self._coroutines = coroutines
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.ensure_future(coroutine) for coroutine in self._coroutines]
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


def _by_age(item: tuple[str, float]) -> float:
    return -item[1]


def _short(value: Decimal) -> str:
    return f"{value.normalize():f}"
