"""The synchronous face of the executor: three phases, one order, one honest answer.

The engine keeps an event loop in a thread of its own and decides nothing itself: placing, resolving, retries, the
circuit, tracking and reconciliation are the core's. It may be called from many threads, and beside a running loop.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from services.mcp.order_execution import (
    OrderExecutionError,
    OrderNotFound,
    OrderUnresolved,
    ReliableOrderExecutor,
)
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ConfigurationError, InvalidOrder
from services.mcp.order_execution.metrics import LANES, Metrics
from services.mcp.order_execution.models import CircuitState
from services.mcp.order_execution.models import Order as CoreOrder
from services.mcp.order_execution.pretrade import trades_at_once
from services.mcp.order_execution.transaction_log import TransactionLog

from .api_key_manager import APIKeyManager
from .fill_follower import FillFollower
from .loop_thread import CalledFromWithin, EngineDied, LoopThread
from .orders import Order
from .outcomes import Known, message_of, outcome_of, phase_of, standing
from .positions import PositionBook, PositionManager
from .results import ExecutionOutcome, ExecutionPhase, ExecutionResult
from .risk import NoFurtherLimits, OrderForbidden, RiskManager
from .settings import EngineSettings, core_config, engine_words, load_engine_settings
from .transaction_logger import TransactionLogger
from .translation import client_order_id, core_params, engine_order, parse_stop_timeout, parse_timeout
from .under_way import UnderWay

__all__ = ["EngineDied", "ExecutionPhase", "ExecutionResult", "NobitexExecutionEngine"]

_logger = logging.getLogger(__name__)

START_SECONDS: Final = 60.0
STOP_SECONDS_MAX: Final = 3_600.0
LAST_FILLS_SECONDS: Final = 2.0
"""What the position manager is given at least to take the last fills."""
ANSWER_MARGIN_SECONDS: Final = 30.0
"""How much longer than its own deadline an order may take before the engine gives up waiting for the answer."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of ``execute_order``."""

    executor: ReliableOrderExecutor
    order_id: str
    key: str | None
    """The client order id; None where no order can have the caller's id."""
    started: float


class NobitexExecutionEngine:
    """Executes orders on Nobitex or, with ``exchange_adapter: "mock"``, on a paper exchange of our own.

    ``positions`` and ``risk`` are told of fills and asked before orders; the defaults keep positions in a file and
    know the configured limits. ``metrics`` is what the core counts in; the default has a registry of its own.
    ``executor`` replaces the core, for tests. Raises ConfigurationError.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        positions: PositionManager | None = None,
        risk: RiskManager | None = None,
        keys: APIKeyManager | None = None,
        metrics: Metrics | None = None,
        executor: ReliableOrderExecutor | None = None,
    ) -> None:
        self.settings: EngineSettings = load_engine_settings(config)
        self._metrics = metrics or (Metrics() if executor is None else executor.metrics)
        self._keys = keys or APIKeyManager()
        self._risk = risk or NoFurtherLimits()
        self._positions = positions
        self._own_positions: PositionBook | None = None
        self._given_executor = executor
        self._executor: ReliableOrderExecutor | None = None
        self._log: TransactionLogger | None = None
        wait = self.settings.execution_engine.stop_timeout + START_SECONDS
        self._thread = LoopThread("execution-engine", self._release, wait)
        self._life = threading.RLock()
        self._books = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._under_way = UnderWay()
        self._opened: ReliableOrderExecutor | None = None
        """What must be closed before the loop ends, however it ends."""
        self._follower: FillFollower | None = None

    # ---- start and stop -----------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether orders can be executed."""
        return self._executor is not None and self._thread.alive

    @property
    def metrics(self) -> Metrics:
        """The core's Prometheus metrics, which count on over a stop and a start; ``serve(port)`` shows them."""
        return self._metrics

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

        After the thread died it starts anew. Raises ConfigurationError, JournalError (JournalLocked when another
        engine runs on the same journal), ExchangeUnavailable, EngineDied.
        """
        with self._life, engine_words(self.settings):
            if self.is_running:
                return
            self._bury()
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

    def _bury(self) -> None:
        """Let go of what an engine whose thread died, or did not end in time, still holds.

        What it did not write is resolved anew.
        """
        if self._executor is None and self._thread.ended:
            return
        try:
            self.stop()
        except (OrderExecutionError, TimeoutError):
            _logger.exception("what the engine that died held could not be released")

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
            config["gateway"] |= self._keys.load("nobitex").as_settings()
        log = None
        if engine.transaction_log_path is not None:
            secrets = [config["gateway"].get(name) for name in ("api_key", "api_secret")]
            log = TransactionLog(
                engine.transaction_log_path, SystemClock(), redact=[item for item in secrets if item]
            )
        for lane in LANES:
            self._metrics.breaker_changed(lane, CircuitState.CLOSED)  # whatever an earlier life ended with
        return ReliableOrderExecutor(config, transaction_log=log, metrics=self._metrics)

    async def _open(self, executor: ReliableOrderExecutor) -> None:
        self._opened = executor
        await executor.open()
        log = executor.transaction_log
        self._log = None if log is None else TransactionLogger(log=log)
        if self._positions is not None:
            self._follower = FillFollower(executor, self._positions, self._log)
            self._follower.start()

    def stop(self, timeout: float | None = None) -> None:
        """Stop accepting, let what is in flight finish, release everything; harmless when repeated.

        What is unresolved stays so in the journal and is resolved after the next start. ``timeout`` (seconds) is
        this once in the place of ``execution_engine.stop_timeout``. Raises InvalidOrder for a bad one, and then
        nothing is stopped; JournalError when the last entries could not be made durable; TimeoutError, after which
        it may be called again.
        """
        seconds = parse_stop_timeout(timeout, self.settings.execution_engine.stop_timeout)
        wait = START_SECONDS + seconds
        atexit.unregister(self._stop_at_exit)
        with self._life:
            executor, self._executor = self._executor, None
            try:
                if executor is not None and self._thread.alive:
                    with suppress(EngineDied):  # then it is released at the end of the thread
                        self._thread.call(self._release(None if timeout is None else seconds), wait)
            finally:
                self._given_executor = None
                try:
                    self._thread.stop(wait)
                finally:
                    if self._own_positions is not None:
                        self._own_positions.close()
                        self._positions = self._own_positions = None
            if executor is not None and self._thread.end_error is not None:
                raise self._thread.end_error

    async def _release(self, seconds: float | None = None) -> None:
        """Close what is open. Also run when the loop ends by itself: a new engine must be able to start.

        ``seconds``: what may be given to what is in flight, and to the position manager; None: as configured.
        """
        executor = self._opened
        if executor is None:
            return
        if self._follower is not None:
            self._follower.expect_end()
        if seconds is not None:
            shorter = {"confirmation": {"close_timeout_seconds": min(seconds, STOP_SECONDS_MAX)}}
            with suppress(
                ConfigurationError
            ):  # something else is wrong by now; then it takes as long as was configured
                await executor.configure(shorter)
        try:
            await executor.close()
        finally:
            follower, self._follower = self._follower, None
            if follower is not None:
                given = self.settings.execution_engine.stop_timeout if seconds is None else seconds
                await follower.close(max(LAST_FILLS_SECONDS, given))
        self._opened = None

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
        failures and the unresolved are results. A refusal of this call (a bad timeout, the risk manager, other
        parameters under a known id) says nothing of an order that was placed before: then its record is told.

        Raises EngineDied when the engine is not running, or dies meanwhile: the order may be at the exchange.
        """
        key = None
        with suppress(InvalidOrder):
            key = client_order_id(getattr(order, "order_id", None))
        call = _Call(self._running(), str(getattr(order, "order_id", "")), key, time.monotonic())
        with self._under_way.call(key):
            return self._decide(call, order, timeout)

    def _decide(self, call: _Call, order: Order, timeout: float | None) -> ExecutionResult:
        params: dict[str, Any] | None = None
        try:
            params = core_params(order)
            self._phase(call.order_id, ExecutionPhase.PRE_COMMIT, order.to_dict())
            limit = self._limit(call.executor, timeout)
            self._ask_risk_manager(order)
        except (OrderForbidden, InvalidOrder) as error:
            return self._refused(call, params, error)
        if timeout is not None:
            params["deadline_seconds"] = timeout
        try:
            placed = self._thread.call(self._execute(call.executor, params), limit)
        except (EngineDied, CalledFromWithin):
            raise
        except OrderExecutionError as error:
            return self._answer(call, self._look(call), error)
        except TimeoutError:
            unresolved = OrderUnresolved(call.order_id, "the engine did not answer in time; it goes on finding out")
            return self._answer(call, Known(), unresolved)
        except Exception as error:
            _logger.exception("executing order %s failed", call.order_id)
            return self._answer(call, Known(), OrderUnresolved(call.order_id, f"a defect: {type(error).__name__}"))
        return self._answer(call, Known(placed, told=True), None)

    def _limit(self, executor: ReliableOrderExecutor, timeout: object) -> float:
        """Seconds that the answer may take. Raises InvalidOrder for a bad ``timeout``."""
        core = executor.settings
        seconds = parse_timeout(timeout, core.retry.deadline_seconds)
        waits = core.confirmation.timeout_seconds + self.settings.execution_engine.confirmation_timeout
        return seconds + waits + ANSWER_MARGIN_SECONDS

    def _ask_risk_manager(self, order: Order) -> None:
        """Raise OrderForbidden, also where the risk manager itself fails."""
        try:
            self._risk.check_order(order)
        except OrderForbidden:
            raise
        except Exception as error:
            _logger.exception("the risk manager failed on %s", order.order_id)
            raise OrderForbidden(f"the risk manager failed: {type(error).__name__}") from error

    async def _execute(self, executor: ReliableOrderExecutor, params: dict[str, Any]) -> CoreOrder | None:
        """Place the order; where it trades at once, wait a moment for its end."""
        order_id = await executor.execute_order(params)
        order = None
        try:
            order = await executor.get_order_status(order_id)
            if trades_at_once(order) and not order.state.is_final:
                with suppress(TimeoutError):
                    timeout = self.settings.execution_engine.confirmation_timeout
                    order = await executor.wait_for_order(order_id, timeout)
            return await executor.get_order_status(order_id)
        except OrderExecutionError as error:
            # Accepted it is, whether or not it can be looked at: the engine stops meanwhile, say.
            _logger.warning("order %s was accepted, but cannot be looked at: %s", order_id, error)
            return order

    def _refused(self, call: _Call, params: dict[str, Any] | None, error: Exception) -> ExecutionResult:
        """Answer a call that did nothing: by the order that stands under its id, if there is one."""
        known = self._look(call)
        answer: Exception | None = error
        if params is not None and known.order is not None and known.decides:
            _logger.warning("order %s is known, so it is told how it stands; this call: %s", call.order_id, error)
            answer = standing(known.order, params)
        return self._answer(call, known, answer)

    def _look(self, call: _Call) -> Known:
        """What the core knows of the order, and whether that can be relied on."""
        if call.key is None:
            return Known(told=True)
        mark = self._under_way.begun(call.key)
        order, told = None, True
        try:
            order = self._thread.call(call.executor.get_order_status(call.key), ANSWER_MARGIN_SECONDS)
        except OrderNotFound:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer, and then nothing is proved
            _logger.warning("order %s cannot be looked up: %s", call.order_id, error)
            told = False
        return Known(order, told, self._under_way.alone_since(call.key, mark))

    def _answer(self, call: _Call, known: Known, error: Exception | None) -> ExecutionResult:
        outcome = outcome_of(error, known)
        result = ExecutionResult(
            success=outcome is ExecutionOutcome.SUCCESS,
            order_id=call.order_id,
            exchange_order_id=None if known.order is None else known.order.exchange_order_id,
            error_message=message_of(error, outcome),
            phase=phase_of(error, known, outcome),
            retry_count=0 if known.order is None else max(0, known.order.attempts - 1),
            execution_time=time.monotonic() - call.started,
            outcome=outcome,
        )
        with self._books:
            self._counts[outcome.value] += 1
        if self._log is not None and call.key is not None:
            if error is not None:
                self._log.log_error(call.order_id, result.phase, error)
            if result.success:
                self._phase(call.order_id, ExecutionPhase.POST_COMMIT, None)
            self._log.log_result(result)
        return result

    def _phase(self, order_id: str, phase: ExecutionPhase, detail: Mapping[str, Any] | None) -> None:
        if self._log is not None:
            self._log.log_phase(order_id, phase, detail)

    # ---- following ----------------------------------------------------------------------------------------

    def cancel_order(self, order_id: str) -> bool:
        """Cancel an order. True: it will trade no further, whatever it traded before.

        False: it may still trade, or nobody knows such an order. Raises InvalidOrder for what is no order id,
        EngineDied.
        """
        executor = self._running()
        key = client_order_id(order_id)
        limit = executor.settings.retry.deadline_seconds + ANSWER_MARGIN_SECONDS
        try:
            return self._thread.call(executor.cancel_order(key), limit)
        except (OrderExecutionError, TimeoutError) as error:
            if self._log is not None:
                self._log.log_error(order_id, "cancel", error)
            return False

    def get_order(self, order_id: str) -> Order | None:
        """Return an order as it stands; None when nobody knows it.

        Raises EngineDied, TimeoutError, JournalError.
        """
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
            raise self._thread.death()
        return executor
