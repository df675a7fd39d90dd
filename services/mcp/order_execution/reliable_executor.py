"""ReliableOrderExecutor: one order's way, readable in one place.

validate → risk limits → funds → durable intent → send → classify → resolve → confirm → track
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from . import bootstrap, lifecycle
from .admission import admit
from .alerts import Alerts, Level
from .calls import Calls, answer_at_close, check_same
from .clock import Clock, SystemClock
from .core import HALT_FLAG, Core
from .errors import (
    ConfigurationError,
    ExecutorClosed,
    InvalidOrder,
    JournalError,
    OrderNotFound,
    OrderRejected,
    OrderUnresolved,
)
from .gateways.base import Gateway
from .interface import OrderExecutionInterface
from .journals.base import Journal
from .metrics import Metrics
from .models import (
    CircuitState,
    ExecutionStats,
    Order,
    OrderEvent,
    OrderRequest,
    ReconciliationReport,
)
from .monitoring import log_execution_time
from .parameters import OrderIds, check_order_id, parse_deadline, parse_request
from .policies import check_policies
from .pretrade import trades_at_once
from .reconciling import reconcile
from .reopening import reopen
from .statistics import Outcomes, outcome_of, quantile
from .submission import verdict
from .transaction_log import TransactionLog
from .verdicts import SLOW_JOURNAL_SECONDS, VERDICT_SECONDS, survives_restart
from .wire import Lane

if TYPE_CHECKING:
    from .config import Settings
    from .reconciliation import AlertThresholds


class ReliableOrderExecutor(OrderExecutionInterface):
    """Places each order exactly once, or says honestly that it is unresolved, and follows it to its end.

    Opens itself on first use (``open()`` does it at once). Journal, gateway, clock, randomness and sinks are
    chosen by the configuration, or given. Belongs to one event loop.

    Raises ConfigurationError for a bad configuration.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        journal: Journal | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        metrics: Metrics | None = None,
        alerts: Alerts | None = None,
        transaction_log: TransactionLog | None = None,
    ) -> None:
        self._settings = check_policies(bootstrap.read_settings(config))
        self._config: dict[str, Any] = bootstrap.laid_over({}, config or {})
        self.clock: Clock = clock or SystemClock()
        self._ids = OrderIds()
        self.metrics = metrics or Metrics()
        self.alerts: Alerts | None = alerts
        self._gateway = gateway
        self._journal = journal
        self._transaction_log = transaction_log
        self._rng = rng
        self._core: Core | None = None
        self._opening = asyncio.Lock()
        self._reconciling = asyncio.Lock()
        self._resuming = asyncio.Lock()
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._outcomes = Outcomes()
        self._calls = Calls(self.clock)

    # ---- configuration, start, stop -----------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._settings

    @property
    def transaction_log(self) -> TransactionLog | None:
        """The transaction log that is written, once the executor is open."""
        return self._transaction_log if self._core is None else self._core.ports.transaction_log

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Put a configuration in force over the present one, whole or not at all.

        Gateway, journal and logs can only be chosen before the first use. Raises ConfigurationError.
        """
        if not isinstance(config, Mapping):
            raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
        merged = bootstrap.laid_over(self._config, config)
        settings = check_policies(bootstrap.read_settings(merged))
        if self._core is not None:
            for section in ("gateway", "journal", "transaction_log", "alerts"):
                if getattr(settings, section) != getattr(self._settings, section):
                    raise ConfigurationError(
                        f"{section}: can only be changed before the executor is used; close it and make a new one",
                        field=section,
                    )
            self._core.reconfigure(settings)
        self._config, self._settings = merged, settings

    async def open(self) -> None:
        """Open journal and gateway and begin to recover; harmless when repeated.

        Raises ConfigurationError, JournalError (JournalLocked, …), ExchangeUnavailable, ExecutorClosed.
        """
        await self._opened()

    async def _opened(self) -> Core:
        if self._core is not None and not self._closed:
            return self._core
        async with self._opening:
            if self._closed:
                raise ExecutorClosed
            if self._core is None:
                ports = bootstrap.make_ports(
                    self._settings,
                    clock=self.clock,
                    rng=self._rng,
                    gateway=self._gateway,
                    journal=self._journal,
                    metrics=self.metrics,
                    alerts=self.alerts,
                    transaction_log=self._transaction_log,
                )
                core = Core(self._settings, ports)
                await core.open()
                self.alerts = ports.alerts
                self._core = core
            return self._core

    async def close(self) -> None:
        """Stop accepting, let what is in flight finish within ``confirmation.close_timeout_seconds``, release.

        What is unresolved by then stays so in the journal, and is resolved after the next start.
        """
        if self._closing is None:  # a caller that is cancelled meanwhile must not leave it half closed
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="close")
        elif self._closing.done():
            return
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        async with self._opening:
            self._closed = self._calls.closing = True
            core = self._core
        if core is not None:
            await core.drain(self._settings.confirmation.close_timeout_seconds, lambda: self._calls.placing)
            await self._calls.end()
            async with self._resuming:  # not between closing and opening the journal
                await core.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    # ---- one order's way ----------------------------------------------------------------------------------

    @log_execution_time
    async def execute_order(self, order_params: Mapping[str, Any]) -> str:
        """Place an order and return its id once the exchange has accepted it.

        The same ``client_order_id`` with the same parameters gives the same answer, before or after a restart;
        only an order that provably never left starts afresh. ``confirmation.wait_for`` makes the call wait
        longer: until the order is ``visible`` at the exchange, or ``final``; it returns after
        ``confirmation.timeout_seconds`` all the same.

        Raises InvalidOrder (DuplicateOrder), OrderNotSent (CircuitOpen, ExecutorHalted, RiskLimitExceeded,
        InsufficientFunds, JournalUnavailable, …), OrderRejected, OrderUnresolved.
        """
        try:
            core = self._core
            if core is None or self._closed:
                core = await self._opened()
            request = parse_request(order_params, new_id=self._ids.new(self.clock.now()))
            deadline = self.clock.monotonic() + parse_deadline(order_params, core.settings.retry.deadline_seconds)
            order = await self._unless_closed(
                core, request, deadline, order_params.get("client_order_id") is not None
            )
        except BaseException as error:
            self._note_failure(error, order_params)
            raise
        self._outcomes.count("accepted")
        self.metrics.order_finished("accepted", request.side)
        return order.order_id

    async def _unless_closed(self, core: Core, request: OrderRequest, deadline: float, known_id: bool) -> Order:
        """Place or join an order; ``close()`` ends the wait. A refusal is told once it is kept."""
        waiting = self._calls.until_closed()
        try:
            try:
                with waiting:
                    return await self._execute(core, request, deadline, known_id)
            except TimeoutError:
                if not waiting.expired:
                    raise
                return answer_at_close(core.registry.get(request.client_order_id), request)
        except OrderRejected as refusal:
            if await self._survives(core, request.client_order_id, deadline):
                raise
            detail = f"it was refused ({refusal.reason}), but the journal cannot keep that"
            raise OrderUnresolved(request.client_order_id, detail) from refusal

    async def _survives(self, core: Core, order_id: str, deadline: float) -> bool:
        seconds = max(VERDICT_SECONDS, deadline - self.clock.monotonic())
        return await survives_restart(core.ports.journal, core.registry, order_id, seconds)

    async def _execute(self, core: Core, request: OrderRequest, deadline: float, known_id: bool) -> Order:
        """Join an order that is known, or place a new one; one call at a time decides for an id."""
        order_id = request.client_order_id
        core.registry.want(order_id, deadline)
        try:
            with await self._calls.turn(request, deadline):
                known = await self._known(core, order_id, deadline) if known_id else None
                if known is not None:
                    check_same(known, request)
                    if not known.state.is_final:
                        known = await core.submission.decided(order_id, deadline)
                    # One that recovery proved absent starts afresh, rather than be called rejected first.
                    if not (known.state.is_final and known.restartable):
                        return verdict(known)
                order = await self._place(core, request, deadline, known)
        finally:
            core.registry.unwant(order_id, deadline)
        if not core.ports.gateway.traits.can_resolve:  # this exchange cannot tell its id again after a crash
            await self._survives(core, order_id, deadline)
        if core.settings.confirmation.wait_for != "accepted":
            await self._confirmed(core, order_id)
        elif trades_at_once(order) and not order.is_settled:
            core.tracker.kick()
        return order

    async def _known(self, core: Core, order_id: str, deadline: float) -> Order | None:
        """Look whether this order was placed before. Raises OrderUnresolved when the journal does not say."""
        try:
            async with asyncio.timeout(deadline - self.clock.monotonic()):
                return await core.registry.find(order_id)
        except TimeoutError:
            detail = "the journal did not say within the deadline whether it was placed before"
            raise OrderUnresolved(order_id, detail) from None

    async def _place(self, core: Core, request: OrderRequest, deadline: float, known: Order | None) -> Order:
        request = await admit(core, request, deadline)
        order = known or lifecycle.new_order(request, self.clock.now())
        try:
            return await core.submission.place(order, deadline)
        finally:
            core.guard.leave(request.client_order_id)
            current = core.registry.get(order.order_id)
            if current is None or (current.state.is_final and current.exchange_order_id is None):
                core.funds.release(order.order_id)

    async def _confirmed(self, core: Core, order_id: str) -> None:
        section = core.settings.confirmation
        deadline = self.clock.monotonic() + section.timeout_seconds
        await core.confirmer.wait(order_id, section.wait_for, deadline)

    def _note_failure(self, error: BaseException, params: object) -> None:
        outcome = outcome_of(error)
        side = str(params.get("side"))[:4] if isinstance(params, Mapping) else "none"
        self._outcomes.count(outcome)
        self.metrics.order_finished(outcome, side if side in ("buy", "sell") else "none")
        log = None if self._core is None else self._core.ports.transaction_log
        if log is not None:
            order_id = getattr(error, "order_id", None)
            if order_id is None and isinstance(params, Mapping):
                order_id = params.get("client_order_id")
            log.record_error(
                None if order_id is None else str(order_id)[:64],
                "execute",
                type(error).__name__,
                {"message": str(error)},
            )

    # ---- following ----------------------------------------------------------------------------------------

    async def get_order_status(self, order_id: str) -> Order:
        """Return the order as it is known now, even ahead of the journal. Raises OrderNotFound, InvalidOrder."""
        check_order_id(order_id)
        core = await self._opened()
        order = await core.registry.find(order_id)
        if order is None:
            raise OrderNotFound(order_id)
        if order.state.is_final and order.exchange_order_id is None:
            await self._survives(core, order_id, 0.0)  # as a verdict that execute_order raises
        return order

    async def wait_for_order(self, order_id: str, timeout: float | None = None) -> Order:
        """Wait until the order is final.

        Raises OrderNotFound, TimeoutError after ``timeout`` seconds, and JournalError where the exchange does
        not have the order and the journal fails to keep that: after a crash it could be placed again.
        """
        order: Order | None = await self.get_order_status(order_id)
        core = await self._opened()
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        if order is not None and not order.state.is_final:
            core.tracker.kick()
            order = await core.registry.wait_until(order_id, lambda item: item.state.is_final, deadline)
        if order is None:
            if self._closed:
                raise ExecutorClosed(order_id=order_id)
            raise TimeoutError(f"order {order_id} is not final after {timeout} s")
        deadline = deadline or self.clock.monotonic() + SLOW_JOURNAL_SECONDS
        if order.exchange_order_id is None and not await self._survives(core, order_id, deadline):
            raise JournalError(f"order {order_id} ended as {order.state.value}, and the journal cannot keep that")
        return order

    @log_execution_time
    async def cancel_order(self, order_id: str) -> bool:
        """Cancel an order. True: it will trade no further, whatever it traded before.

        False: it may still trade, since the exchange refused, or did not answer within
        ``retry.deadline_seconds``; in the latter case cancelling goes on. Also False for an order that never
        left while the journal fails: the same id could start afresh after a restart. Raises OrderNotFound.
        """
        core = await self._opened()
        order = await self.get_order_status(order_id)
        deadline = self.clock.monotonic() + core.settings.retry.deadline_seconds
        if not await core.canceller.cancel(order, deadline):
            return False
        if await self._survives(core, order_id, 0.0):
            return True
        order = core.registry.get(order_id) or order
        return order.exchange_order_id is not None  # the exchange can tell that one again

    def events(self) -> AsyncIterator[OrderEvent]:
        """Every state change and fill from now on, in order.

        Raises ExecutorClosed before the first use (``open()``), and SubscriberTooSlow to a reader that falls
        too far behind.
        """
        if self._core is None or self._closed:
            raise ExecutorClosed("the executor is not open; call open() first")
        return self._core.registry.subscribe()

    async def orders_since(self, since: datetime) -> AsyncIterator[Order]:
        """Every order that was created since then, and every older one that is not settled, from the journal."""
        core = await self._opened()
        async for batch in core.ports.journal.scan(since, self.clock.now() + timedelta(days=1)):
            for order in batch:
                yield core.registry.get(order.order_id) or order

    async def order_history(self, order_id: str) -> list[dict[str, object]]:
        """Every event of an order, oldest first, from the journal. Raises OrderNotFound."""
        core = await self._opened()
        await self.get_order_status(order_id)
        return await core.ports.journal.history(order_id)

    # ---- condition ----------------------------------------------------------------------------------------

    async def get_execution_stats(self) -> ExecutionStats:
        """Return counts since the start and the present condition."""
        core = await self._opened()
        latencies = core.submission.counters.ack_seconds
        return ExecutionStats(
            orders=self._outcomes.counts(),
            open_orders=core.registry.live_count,
            unresolved_orders=len(core.registry.unresolved()),
            fills=core.fills,
            retries=core.submission.counters.retries,
            ack_latency_p50=quantile(latencies, 0.50),
            ack_latency_p99=quantile(latencies, 0.99),
            error_rate_per_minute=core.breakers[Lane.SUBMIT].error_rate_per_minute(),
            circuits={lane.value: breaker.state for lane, breaker in core.breakers.items()},
            journal_lag=core.ports.journal.health().lag,
            halted=core.switch.reason,
            started_at=core.started_at,
            last_reconciliation_at=core.last_reconciliation,
        )

    async def reconcile_orders(
        self,
        period: str = "daily",
        *,
        progress: Callable[[int, int], None] | None = None,
        thresholds: AlertThresholds | None = None,
    ) -> ReconciliationReport:
        """Compare journal and exchange over the last hour, day or week, and repair our record.

        ``progress`` is told (done, expected) orders; ``thresholds`` decide whether the report raises an alert.

        Raises ConfigurationError for another period, ExchangeUnavailable when the exchange does not answer.
        """
        core = await self._opened()
        async with self._reconciling:  # two runs at once could adopt one order twice
            report = await reconcile(core, period, progress=progress, thresholds=thresholds)
        core.last_reconciliation = report.finished_at
        return report

    async def force_circuit_open(self, reason: str, lane: str = Lane.SUBMIT) -> None:
        """Open a breaker by hand; it stays open until ``reset_circuit``."""
        (await self._opened()).breakers[Lane(lane)].force_open(reason)

    async def reset_circuit(self, lane: str = Lane.SUBMIT) -> CircuitState:
        """Close a breaker by hand and forget the errors that it counted."""
        core = await self._opened()
        core.breakers[Lane(lane)].reset()
        return core.breakers[Lane(lane)].state

    async def halt(self, reason: str) -> None:
        """Refuse new orders until ``resume()``, also after a restart; cancels and queries go on."""
        if not isinstance(reason, str) or not reason:
            raise InvalidOrder("reason", "why the executor is halted, in a few words", got=reason)
        core = await self._opened()
        core.switch.reason = reason
        core.ports.alerts.raise_alert(Level.CRITICAL, "halt", "the executor is halted", reason)
        await core.ports.journal.set_flag(HALT_FLAG, reason)

    async def resume(self) -> None:
        """Lift ``halt()``, and open a journal anew that had failed. Raises JournalError if it still fails."""
        core = await self._opened()
        async with self._resuming:  # two at once would open the journal under one another
            if self._closed:
                raise ExecutorClosed
            await reopen(core.ports.journal, core.registry, self.clock, core.take_over)
        await core.ports.journal.set_flag(HALT_FLAG, None)
        core.switch.reason = None
        for key in ("halt", "journal"):
            core.ports.alerts.clear(key)
