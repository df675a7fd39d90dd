"""The phases wired together: what runs in the background, and the order in which it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from . import lifecycle
from .alerts import Alerts, Level
from .cancelling import Canceller
from .circuit_breaker import BreakerEvent, CircuitBreaker
from .clock import Clock
from .confirmation import Confirmer
from .errors import ErrorCategory, JournalError, OrderNotSent
from .funds import Funds
from .gateways.base import Gateway, Market, Ticker, Unavailable
from .journals.base import Journal
from .metrics import Metrics
from .models import CircuitState, EventKind, Order, OrderEvent, OrderState
from .policies import breaker_policy, make_limiter, retry_policy, risk_limits
from .pretrade import RiskGuard
from .registry import OrderRegistry
from .resolving import Resolver
from .retry import RetryBudget, RetryPolicy, poll_delay
from .streaming import StreamFollower
from .submission import Doubt, KillSwitch, Submission
from .tracking import Tracker
from .transaction_log import TransactionLog
from .wire import Lane, Wire

if TYPE_CHECKING:
    from .config import Settings

_logger = logging.getLogger(__name__)

HALT_FLAG = "halt"
TICKER_MAX_AGE_SECONDS = 2.0
MARKET_MAX_AGE_SECONDS = 10.0
"""Gateways keep the rules of a symbol for longer; within this, not even they are asked."""
WATCH_INTERVAL_SECONDS = 1.0
RECOVERY_LOOK_SECONDS = 0.25
MIN_FINISHED = 1_000
"""Finished orders that are held whatever is configured: somebody may just be about to be told of one."""
UNRESOLVED_ALERT_AFTER = timedelta(seconds=30)


@dataclass(slots=True)
class Ports:
    """What the core is given: the implementations of its edges."""

    gateway: Gateway
    journal: Journal
    clock: Clock
    rng: random.Random
    metrics: Metrics
    alerts: Alerts
    transaction_log: TransactionLog | None


class Core:
    """One gateway, one journal, and every phase between them."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        self.settings = settings
        self.ports = ports
        self.clock = ports.clock
        self.started_at: datetime = ports.clock.now()
        self.fills = 0
        self.last_reconciliation: datetime | None = None
        self.switch = KillSwitch()
        self._recovered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._tickers: dict[str, tuple[float, Ticker]] = {}
        self._markets: dict[str, tuple[float, Market]] = {}
        self._reported_failure: str | None = None
        self._shown_open = -1
        self._wire_up()

    # ---- wiring -------------------------------------------------------------------------------------------

    def _wire_up(self) -> None:
        settings, ports, clock = self.settings, self.ports, self.ports.clock
        policy = retry_policy(settings.retry)
        self.budget = RetryBudget(settings.retry.budget_tokens)
        self.registry = OrderRegistry(
            ports.journal, clock, max_finished=max(MIN_FINISHED, settings.confirmation.max_finished_in_memory)
        )
        self.limiter = make_limiter(ports.gateway, settings, clock)
        self.breakers = {
            lane: CircuitBreaker(lane, breaker_policy(settings, lane), clock.monotonic, rng=ports.rng)
            for lane in Lane
        }
        self.wire = Wire(
            ports.gateway,
            clock,
            self.limiter,
            self.breakers,
            ports.metrics,
            timeout=settings.gateway.timeout_seconds,
        )
        self.funds = Funds(self.wire, clock)
        self.guard = RiskGuard(risk_limits(settings.risk), clock.monotonic)
        self._wire_phases(policy)
        self._listen()

    def _wire_phases(self, policy: RetryPolicy) -> None:
        settings, ports, clock = self.settings, self.ports, self.ports.clock
        self.resolver = Resolver(self.wire, self.registry, clock, ports.rng, policy, self.budget, ports.alerts)
        self.submission = Submission(
            self.wire,
            self.registry,
            ports.journal,
            clock,
            ports.rng,
            policy,
            self.budget,
            self.switch,
            ports.metrics,
            self.resolver.take,
            self._doubled,
        )
        self.canceller = Canceller(self.wire, self.registry, self.resolver, clock, ports.rng, policy)
        self.tracker = Tracker(
            self.wire,
            self.registry,
            clock,
            ports.alerts,
            interval=settings.confirmation.poll_interval_seconds,
            on_lost=self._lost,
            on_cancel_due=lambda order: self.canceller.pursue(order.order_id),
        )
        self.stream = StreamFollower(
            ports.gateway,
            self.registry,
            clock,
            ports.rng,
            policy,
            on_connect=self.tracker.kick,
            look=self._look_soon,
        )
        self.confirmer = Confirmer(
            self.registry,
            self.tracker,
            self.funds,
            clock,
            ports.metrics,
            settle=ports.gateway.traits.settle,
        )
        self.resolver.connect(self.submission, self._count_resend, self._found)

    def _listen(self) -> None:
        self.registry.listen(self.funds.hear)
        self.registry.listen(self.confirmer.hear)
        self.registry.listen(self._observe)
        if self.ports.transaction_log is not None:
            self.registry.listen(self.ports.transaction_log.record)
        for breaker in self.breakers.values():
            breaker.subscribe(self._breaker_changed)

    def reconfigure(self, settings: Settings) -> None:
        """Put new policies in force; gateway and journal stay. Nothing here can fail half way."""
        policy = retry_policy(settings.retry)
        limits = risk_limits(settings.risk)
        policies = {lane: breaker_policy(settings, lane) for lane in Lane}
        self.settings = settings
        self.submission.policy = self.resolver.policy = self.canceller.policy = self.stream.policy = policy
        self.guard.limits = limits
        self.tracker.interval = settings.confirmation.poll_interval_seconds
        for lane, item in self.breakers.items():
            item.reconfigure(policies[lane])

    # ---- start --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open journal and gateway, take over what is not final, and begin to recover it."""
        ports = self.ports
        await ports.journal.open()
        try:
            self.switch.reason = await ports.journal.get_flag(HALT_FLAG)
            claimed = await ports.journal.claim()
            await ports.gateway.open()
            if ports.transaction_log is not None:
                ports.transaction_log.open()
        except BaseException:
            await ports.gateway.close()
            await ports.journal.close()
            raise
        ports.alerts.start()
        self.take_over(claimed)
        self.tracker.start()
        self.stream.start()
        self.confirmer.start()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_at(self._recover), name="recovery"),
            loop.create_task(self._keep_at(self._watch), name="watch"),
        ]

    def take_over(self, claimed: Iterable[Order]) -> None:
        """Follow what was left behind in the journal: nothing of it is sent again without its caller."""
        now = self.clock.now()
        claimed = list(claimed)
        self.registry.load(claimed)
        for order in claimed:
            if order.state is OrderState.PENDING:
                detail = "the process ended before it was sent again; its price is stale"
                self.registry.record(lifecycle.never_left(order, now, lifecycle.NEVER_SENT, detail))
                continue
            if order.state is OrderState.SENDING:
                detail = "the process ended while it was being sent"
                self.registry.record(lifecycle.unknown(order, now, detail))
            if order.state.is_unresolved:
                self.resolver.recovered.add(order.order_id)
                # When the request left is not known on this process's clock; it was before now.
                self.resolver.take(order.order_id, Doubt(self.clock.monotonic(), ErrorCategory.RESET))

    async def _keep_at(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do background work to its end; a defect is logged, told, and the work begun again."""
        while True:
            try:
                return await work()
            except Exception as error:
                _logger.exception("%s failed", work.__name__)
                self.ports.alerts.raise_alert(
                    Level.CRITICAL, f"defect:{work.__name__}", f"{work.__name__} failed", type(error).__name__
                )
                await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def _recover(self) -> None:
        """Resolve what was left behind; new orders wait for it."""
        attempt = 0
        while not await self.tracker.round(with_fills=False):  # no new order depends on single trades
            attempt += 1
            await asyncio.sleep(poll_delay(self.resolver.policy, attempt, self.ports.rng) + 0.05)
        while self.resolver.busy and self.resolver.recovered:
            self.resolver.progress.clear()
            with suppress(TimeoutError):  # a stream may settle an order whose resolver does not look just now
                async with asyncio.timeout(RECOVERY_LOOK_SECONDS):
                    await self.resolver.progress.wait()
            self.resolver.recovered = {item for item in self.resolver.recovered if self._is_unresolved(item)}
        await self.confirmer.find_baseline()
        self._recovered.set()

    def _is_unresolved(self, order_id: str) -> bool:
        order = self.registry.get(order_id)
        undecidable = order_id in self.resolver.undecidable
        return order is not None and order.state.is_unresolved and not undecidable

    async def wait_recovered(self, deadline: float) -> None:
        """Wait until the start is complete. Raises OrderNotSent once ``deadline`` has passed."""
        if self._recovered.is_set():
            return
        try:
            async with asyncio.timeout(deadline - self.clock.monotonic()):
                await self._recovered.wait()
        except TimeoutError:
            message = "orders of an earlier life are still being resolved, so no new ones are placed"
            raise OrderNotSent(message, reason="recovering") from None

    @property
    def recovered(self) -> bool:
        """Whether the start is complete."""
        return self._recovered.is_set()

    # ---- the market ---------------------------------------------------------------------------------------

    def kept_market(self, symbol: str) -> Market | None:
        """Rules of a symbol, if they were told lately."""
        kept = self._markets.get(symbol)
        return kept[1] if kept is not None and self.clock.monotonic() < kept[0] else None

    async def market(self, symbol: str, deadline: float) -> Market:
        """Rules of a symbol. Raises InvalidOrder, and OrderNotSent when the exchange does not tell them."""
        kept = self.kept_market(symbol)
        if kept is not None:
            return kept
        now = self.clock.monotonic()
        attempt = 0
        while True:
            answer = await self.wire.read(lambda: self.ports.gateway.market(symbol), deadline)
            if isinstance(answer, Market):
                self._markets[symbol] = (now + MARKET_MAX_AGE_SECONDS, answer)
                return answer
            attempt += 1
            wait = max(poll_delay(self.submission.policy, attempt, self.ports.rng), answer.retry_after or 0.0)
            if attempt > self._read_retries() or self.clock.monotonic() + wait >= deadline:
                raise OrderNotSent(f"the rules of {symbol} are not to be had: {answer.message}")
            await asyncio.sleep(wait)

    def _read_retries(self) -> int:
        configured = self.settings.gateway.read_retries
        return self.submission.policy.max_retries if configured is None else configured

    async def ticker(self, symbol: str, deadline: float) -> Ticker | None:
        """Prices of at most two seconds ago; None when the exchange does not tell them."""
        now = self.clock.monotonic()
        known = self._tickers.get(symbol)
        if known is not None and now - known[0] <= TICKER_MAX_AGE_SECONDS:
            return known[1]
        answer = await self.wire.read(lambda: self.ports.gateway.ticker(symbol), deadline)
        if isinstance(answer, Unavailable):
            return None
        self._tickers[symbol] = (now, answer)
        return answer

    # ---- watching -----------------------------------------------------------------------------------------

    def _observe(self, event: OrderEvent) -> None:
        if event.fill is not None and event.kind is EventKind.FILL:
            self.fills += 1
            self.ports.metrics.fill_booked()
        live = self.registry.live_count
        if live != self._shown_open:
            self._shown_open = live
            self.ports.metrics.set_open(live)

    def _breaker_changed(self, event: BreakerEvent) -> None:
        self.ports.metrics.breaker_changed(event.lane, event.state)
        text = f"the {event.lane} circuit is {event.state}"
        if event.kind == "warning":
            text = f"errors on the {event.lane} lane near the threshold ({event.error_rate:.1f} a minute)"
        level = Level.WARNING
        if event.state in (CircuitState.OPEN, CircuitState.FORCED_OPEN):
            level = Level.ERROR
        if event.kind == "state" and event.state is CircuitState.CLOSED:
            level = Level.INFO
        self.ports.alerts.raise_alert(level, f"circuit:{event.lane}:{event.state}", text, event.reason or "")

    async def _watch(self) -> None:
        """Look at what nobody tells of: the journal's health, the error rates."""
        while True:
            health = self.ports.journal.health()
            self.ports.metrics.set_journal_lag(health.lag)
            self.ports.metrics.set_in_doubt(len(self.registry.unresolved()))
            for lane, breaker in self.breakers.items():
                self.ports.metrics.set_error_rate(lane, breaker.error_rate_per_minute())
            if health.failure is not None and health.failure != self._reported_failure:
                self.ports.alerts.raise_alert(
                    Level.CRITICAL, "journal", "the journal failed; no new orders are placed", health.failure
                )
            self._reported_failure = health.failure
            self._alert_unresolved()
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    def _alert_unresolved(self) -> None:
        """Tell of orders that have been unresolved for long; most are resolved before anybody could look."""
        if not self.recovered and self.clock.now() - self.started_at > UNRESOLVED_ALERT_AFTER:
            self.ports.alerts.raise_alert(
                Level.WARNING,
                "recovery",
                "no orders are placed yet",
                "orders of an earlier life are not up to date",
            )
        since = self.clock.now() - UNRESOLVED_ALERT_AFTER
        old = [
            order.order_id for order in self.registry.unresolved() if (order.sent_at or order.created_at) < since
        ]
        if old:
            self.ports.alerts.raise_alert(
                Level.WARNING, "unresolved", f"{len(old)} orders are unresolved", ", ".join(old[:10])
            )

    def _count_resend(self) -> None:
        self.submission.counters.retries += 1

    def _found(self, order: Order) -> None:
        if order.cancel_requested and not order.state.is_final:
            self.canceller.pursue(order.order_id)

    def _doubled(self, order: Order, other: str) -> None:
        """Tell of a second order under one id: the exchange broke the promise that its traits make."""
        self.ports.alerts.raise_alert(
            Level.CRITICAL,
            f"doubled:{order.order_id}",
            f"the exchange has two orders under the id {order.order_id}",
            f"{order.exchange_order_id} is followed; {other} is not, cancel it there unless it is wanted",
        )

    def _look_soon(self, order: Order) -> None:
        self.tracker.kick()
        self.resolver.hurry(order.order_id)

    def _lost(self, order: Order) -> None:
        self.resolver.take(order.order_id, Doubt(self.clock.monotonic()))

    # ---- stop ---------------------------------------------------------------------------------------------

    async def drain(self, timeout: float, placing: Callable[[], bool]) -> None:
        """Give what is being placed or resolved up to ``timeout`` seconds to finish."""
        deadline = self.clock.monotonic() + timeout
        while (placing() or self.resolver.busy) and self.clock.monotonic() < deadline:  # noqa: ASYNC110 - two conditions
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Stop every task, make the journal durable and release everything, whatever fails on the way."""
        self.registry.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for part in (self.stream, self.tracker, self.confirmer, self.resolver, self.canceller, self.funds):
            await part.close()
        failure: JournalError | None = None
        try:
            await self.ports.journal.close()
        except JournalError as error:
            failure = error
        await self.ports.gateway.close()
        if self.ports.transaction_log is not None:
            await self.ports.transaction_log.close()
        await self.ports.alerts.close()
        if failure is not None:
            raise failure
