"""The synchronous face of the executor: three phases, one order, one honest answer.

The engine keeps an event loop in a thread of its own and decides nothing itself: placing, resolving, retries, the
circuit, tracking and reconciliation are the core's. It may be called from many threads, and beside a running loop.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from services.mcp.order_execution import (
    CircuitOpen,
    OrderEvent,
    OrderExecutionError,
    OrderNotFound,
    OrderRejected,
    OrderState,
    OrderUnresolved,
    ReliableOrderExecutor,
)
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import (
    ConfigurationError,
    ExecutorClosed,
    InvalidOrder,
    JournalUnavailable,
    OrderNotSent,
)
from services.mcp.order_execution.models import EventKind, Fill
from services.mcp.order_execution.models import Order as CoreOrder
from services.mcp.order_execution.pretrade import trades_at_once
from services.mcp.order_execution.transaction_log import TransactionLog

from .api_key_manager import APIKeyManager
from .loop_thread import EngineDied, LoopThread
from .orders import Order, OrderFill, OrderSide
from .positions import PositionBook, PositionManager
from .results import ExecutionOutcome, ExecutionPhase, ExecutionResult
from .risk import NoFurtherLimits, OrderForbidden, RiskManager
from .settings import EngineSettings, core_config, load_engine_settings
from .transaction_logger import TransactionLogger
from .translation import client_order_id, core_params, engine_order, milliseconds

__all__ = ["EngineDied", "ExecutionPhase", "ExecutionResult", "NobitexExecutionEngine"]

_logger = logging.getLogger(__name__)

START_SECONDS: Final = 60.0
ANSWER_MARGIN_SECONDS: Final = 30.0
"""How much longer than its own deadline an order may take before the engine gives up waiting for the answer."""
CATCH_UP: Final = timedelta(days=7)
"""How far back fills are told to the position manager again at the start; each counts once all the same."""
NAMES_MAX: Final = 100_000
_COMMIT_ERRORS: Final = (CircuitOpen, JournalUnavailable, OrderRejected, OrderUnresolved)


class NobitexExecutionEngine:
    """Executes orders on Nobitex or, with ``exchange_adapter: "mock"``, on a paper exchange of our own.

    ``positions`` and ``risk`` are told of fills and asked before orders; the defaults keep positions in a file and
    know the configured limits. ``executor`` replaces the core, for tests. Raises ConfigurationError.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        positions: PositionManager | None = None,
        risk: RiskManager | None = None,
        keys: APIKeyManager | None = None,
        executor: ReliableOrderExecutor | None = None,
    ) -> None:
        self.settings: EngineSettings = load_engine_settings(config)
        self._keys = keys or APIKeyManager()
        self._risk = risk or NoFurtherLimits()
        self._positions = positions
        self._own_positions: PositionBook | None = None
        self._given_executor = executor
        self._executor: ReliableOrderExecutor | None = None
        self._log: TransactionLogger | None = None
        self._thread = LoopThread("execution-engine")
        self._life = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._follower: asyncio.Task[None] | None = None

    # ---- start and stop -----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether orders can be executed."""
        return self._executor is not None and self._thread.alive

    @property
    def positions(self) -> PositionManager | None:
        """Who is told of fills; None before the first start."""
        return self._positions

    @property
    def transaction_logger(self) -> TransactionLogger | None:
        """The transaction log; None before the start, and where it is switched off."""
        return self._log

    def start(self) -> None:
        """Open journal and exchange, and begin to resolve what an earlier life left; harmless when repeated.

        Raises ConfigurationError, JournalError (JournalLocked when another engine runs on the same journal),
        ExchangeUnavailable, EngineDied.
        """
        with self._life:
            if self.is_running:
                return
            executor = self._given_executor or self._make_executor()
            if self._positions is None:
                path = self.settings.execution_engine.positions_path
                self._positions = self._own_positions = PositionBook(path)
            self._thread.start()
            try:
                self._thread.call(self._open(executor), START_SECONDS)
            except BaseException:
                self._thread.stop(START_SECONDS)
                raise
            self._executor = executor
            atexit.register(self._stop_at_exit)

    def _stop_at_exit(self) -> None:
        """A script that ends without ``stop()`` still leaves a clean journal behind."""
        try:
            self.stop()
        except Exception:
            _logger.exception("stopping the engine at the end of the process failed")

    def _make_executor(self) -> ReliableOrderExecutor:
        engine = self.settings.execution_engine
        config = core_config(self.settings)
        if engine.exchange_adapter == "nobitex" and not config["gateway"].get("api_key"):
            found = self._keys.load("nobitex")
            config["gateway"]["api_key"] = found.api_key.get_secret_value()
            if found.api_secret is not None:
                config["gateway"]["api_secret"] = found.api_secret.get_secret_value()
        log = None
        if engine.transaction_log_path is not None:
            secrets = [config["gateway"].get(name) for name in ("api_key", "api_secret")]
            log = TransactionLog(
                engine.transaction_log_path, SystemClock(), redact=[item for item in secrets if item]
            )
        return ReliableOrderExecutor(config, transaction_log=log)

    async def _open(self, executor: ReliableOrderExecutor) -> None:
        try:
            await executor.open()
        except BaseException:
            await executor.close()
            raise
        log = executor.transaction_log
        self._log = None if log is None else TransactionLogger(log=log)
        self._follower = asyncio.get_running_loop().create_task(self._follow(executor), name="fills")

    def stop(self, timeout: float | None = None) -> None:
        """Stop accepting, let what is in flight finish, release everything; harmless when repeated.

        What is unresolved stays so in the journal and is resolved after the next start. ``timeout`` is in seconds.
        Raises JournalError when the last entries could not be made durable, and TimeoutError.
        """
        atexit.unregister(self._stop_at_exit)
        with self._life:
            executor, self._executor = self._executor, None
            wait = (self.settings.execution_engine.stop_timeout if timeout is None else timeout) + START_SECONDS
            try:
                if executor is not None and self._thread.alive:
                    self._thread.call(self._close(executor), wait)
            finally:
                self._given_executor = None
                self._thread.stop(wait)
                if self._own_positions is not None:
                    self._own_positions.close()
                    self._positions = self._own_positions = None

    async def _close(self, executor: ReliableOrderExecutor) -> None:
        try:
            await executor.close()
        finally:
            follower, self._follower = self._follower, None
            if follower is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(START_SECONDS / 2):
                        await asyncio.gather(follower, return_exceptions=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- one order ----------------------------------------------------------------------------------------

    def execute_order(self, order: Order, timeout: float | None = None) -> ExecutionResult:
        """Execute an order through its three phases and say what became of it.

        The same order again gives the same answer and never a second order, before or after a restart. ``timeout``
        (seconds) shortens ``execution_engine.order_timeout``. Never raises for what becomes of an order: refusals,
        failures and the unresolved are results. Raises EngineDied when the engine is not running.
        """
        started = time.monotonic()
        executor = self._running()
        order_id = str(getattr(order, "order_id", ""))
        try:
            params = core_params(order)
            self._name(params["client_order_id"], order.order_id)
            self._phase(order_id, ExecutionPhase.PRE_COMMIT, order.to_dict())
            self._risk.check_order(order)
        except (OrderForbidden, InvalidOrder) as error:
            return self._answer(order_id, started, None, error, ExecutionPhase.PRE_COMMIT)
        if timeout is not None:
            params["deadline_seconds"] = timeout
        limit = (timeout or self.settings.execution_engine.order_timeout) + ANSWER_MARGIN_SECONDS
        limit += self.settings.execution_engine.confirmation_timeout
        try:
            known = self._thread.call(self._execute(executor, params), limit)
        except (OrderExecutionError, InvalidOrder) as error:
            return self._failed(executor, order_id, started, error)
        except TimeoutError:
            unresolved = OrderUnresolved(order_id, "the engine did not answer in time; it goes on finding out")
            return self._answer(order_id, started, None, unresolved, ExecutionPhase.COMMIT)
        return self._answer(order_id, started, known, None, ExecutionPhase.POST_COMMIT)

    def _name(self, known_as: str, order_id: str) -> None:
        """Remember what the caller calls an order, for as many as may be in flight."""
        if known_as != order_id:
            self._names[known_as] = order_id
            while len(self._names) > NAMES_MAX:
                self._names.pop(next(iter(self._names)), None)

    async def _execute(self, executor: ReliableOrderExecutor, params: dict[str, Any]) -> CoreOrder:
        """Place the order; where it trades at once, wait a moment for its end."""
        order_id = await executor.execute_order(params)
        order = await executor.get_order_status(order_id)
        if trades_at_once(order) and not order.state.is_final:
            with suppress(TimeoutError):
                timeout = self.settings.execution_engine.confirmation_timeout
                order = await executor.wait_for_order(order_id, timeout)
        return await executor.get_order_status(order_id)

    def _failed(
        self, executor: ReliableOrderExecutor, order_id: str, started: float, error: Exception
    ) -> ExecutionResult:
        """Say how far an order came that was not acknowledged."""
        phase = ExecutionPhase.COMMIT if isinstance(error, _COMMIT_ERRORS) else ExecutionPhase.PRE_COMMIT
        known = None
        with suppress(OrderExecutionError, TimeoutError, EngineDied):
            known = self._thread.call(executor.get_order_status(client_order_id(order_id)), ANSWER_MARGIN_SECONDS)
            phase = ExecutionPhase.COMMIT if known.attempts else phase
        return self._answer(order_id, started, known, error, phase)

    def _answer(
        self,
        order_id: str,
        started: float,
        known: CoreOrder | None,
        error: Exception | None,
        phase: ExecutionPhase,
    ) -> ExecutionResult:
        outcome = _outcome_of(error, known)
        result = ExecutionResult(
            success=outcome is ExecutionOutcome.SUCCESS,
            order_id=order_id,
            exchange_order_id=None if known is None else known.exchange_order_id,
            error_message=None if error is None else str(error),
            phase=phase,
            retry_count=0 if known is None else max(0, known.attempts - 1),
            execution_time=time.monotonic() - started,
            outcome=outcome,
        )
        self._counts[outcome.value] += 1
        if self._log is not None and order_id:
            if error is not None:
                self._log.log_error(order_id, phase, error)
            if result.success:
                self._phase(order_id, ExecutionPhase.POST_COMMIT, None)
            self._log.log_result(result)
        return result

    def _phase(self, order_id: str, phase: ExecutionPhase, detail: Mapping[str, Any] | None) -> None:
        if self._log is not None:
            self._log.log_phase(order_id, phase, detail)

    # ---- following ----------------------------------------------------------------------------------------

    def cancel_order(self, order_id: str) -> bool:
        """Cancel an order. True: it will trade no further, whatever it traded before.

        False: it may still trade, or nobody knows such an order. Raises EngineDied.
        """
        executor = self._running()
        limit = self.settings.execution_engine.order_timeout + ANSWER_MARGIN_SECONDS
        try:
            return self._thread.call(executor.cancel_order(client_order_id(order_id)), limit)
        except (OrderNotFound, ExecutorClosed, TimeoutError) as error:
            if self._log is not None:
                self._log.log_error(order_id, "cancel", error)
            return False

    def get_order(self, order_id: str) -> Order | None:
        """Return an order as it stands; None when nobody knows it. Raises EngineDied, TimeoutError."""
        executor = self._running()
        try:
            known = self._thread.call(executor.get_order_status(client_order_id(order_id)), ANSWER_MARGIN_SECONDS)
        except OrderNotFound:
            return None
        return engine_order(order_id, known)

    def get_stats(self) -> dict[str, Any]:
        """Counts since the start and the present condition, JSON-ready. Raises EngineDied."""
        executor = self._running()
        stats = self._thread.call(executor.get_execution_stats(), ANSWER_MARGIN_SECONDS)
        results = {outcome.value: self._counts[outcome.value] for outcome in ExecutionOutcome}
        return {**stats.to_dict(), "results": results, "running": self.is_running}

    def get_order_history(self, order_id: str) -> list[dict[str, Any]]:
        """Everything that the transaction log holds of an order, oldest first; nothing where there is no log."""
        return [] if self._log is None else self._log.get_order_history(order_id)

    def reconcile(self, period: str = "daily") -> dict[str, Any]:
        """Compare journal and exchange over the last hour, day or week, and repair our record.

        Raises ConfigurationError for another period, ExchangeUnavailable, EngineDied, TimeoutError.
        """
        executor = self._running()
        report = self._thread.call(executor.reconcile_orders(period), 3_600.0)
        return report.to_dict()

    def halt(self, reason: str) -> None:
        """Refuse new orders until ``resume()``, also after a restart; cancels go on."""
        self._thread.call(self._running().halt(reason), ANSWER_MARGIN_SECONDS)

    def resume(self) -> None:
        """Lift ``halt()``. Raises JournalError when a journal that had failed still does."""
        self._thread.call(self._running().resume(), ANSWER_MARGIN_SECONDS)

    def _running(self) -> ReliableOrderExecutor:
        executor = self._executor
        if executor is None:
            raise EngineDied("the engine is not running; call start() first")
        if not self._thread.alive:
            raise EngineDied("the engine's thread has died; start a new engine, it resolves what was in flight")
        return executor

    # ---- positions ----------------------------------------------------------------------------------------

    async def _follow(self, executor: ReliableOrderExecutor) -> None:
        """Tell the position manager of every fill, those of earlier lives included, behind the orders' way."""
        events = executor.events()
        since = executor.clock.now() - CATCH_UP
        with suppress(ExecutorClosed):
            async for order in executor.orders_since(since):
                for fill in order.fills:
                    await self._tell(order, fill)
        async for event in events:
            self._note_attempt(event)
            if event.fill is not None:
                await self._tell(event.order, event.fill)

    def _note_attempt(self, event: OrderEvent) -> None:
        """Write down that an order left, and when it is sent once more."""
        if self._log is None:
            return
        if event.kind is EventKind.INTENT:
            self._log.log_phase(event.order_id, ExecutionPhase.COMMIT, {"attempts": event.order.attempts})
        elif event.kind is EventKind.RESEND:
            self._log.log_retry(event.order_id, event.order.attempts - 1, event.order.reason or "not acknowledged")

    async def _tell(self, order: CoreOrder, fill: Fill) -> None:
        positions = self._positions
        if positions is None or order.external:
            return
        name = self._names.get(order.order_id, order.order_id)
        told = OrderFill(fill.trade_id, fill.price, fill.amount, fill.fee, fill.fee_currency, milliseconds(fill.at))
        side = OrderSide(order.side.value)
        try:
            await asyncio.to_thread(positions.apply_fill, order.symbol, side, told, name)
        except Exception as error:
            # Told again after the next start: the fill is in the journal, and counts once.
            _logger.exception("the position manager failed on %s", name)
            if self._log is not None:
                self._log.log_error(name, "positions", error)


def _outcome_of(error: Exception | None, known: CoreOrder | None) -> ExecutionOutcome:
    """Decide by type, and by what the journal knows: an order that may be there is not a failure."""
    if error is None:
        return ExecutionOutcome.SUCCESS
    if isinstance(error, OrderUnresolved):
        return ExecutionOutcome.UNRESOLVED
    if isinstance(error, (InvalidOrder, OrderForbidden, OrderNotSent, OrderRejected, ConfigurationError)):
        return ExecutionOutcome.FAILED
    if known is not None and known.state in (OrderState.REJECTED, OrderState.EXPIRED) and not known.filled:
        return ExecutionOutcome.FAILED
    return ExecutionOutcome.UNRESOLVED
