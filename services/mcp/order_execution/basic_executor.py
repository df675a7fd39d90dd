"""BasicOrderExecutor: the simple one. No journal, no breaker, no background; equally unable to double an order.

It retries only what provably was not sent. What is ambiguous is raised as OrderUnresolved, and calling again
with the same id looks the order up; it never sends it a second time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Self, TypeVar

from . import bootstrap, lifecycle
from .clock import Clock, SystemClock
from .config import Settings, load_settings
from .config_sources import merge
from .errors import (
    ConfigurationError,
    DuplicateOrder,
    ErrorCategory,
    ExchangeUnavailable,
    ExecutorClosed,
    ExecutorHalted,
    InvalidOrder,
    OrderNotFound,
    OrderNotSent,
    OrderUnresolved,
)
from .gateways.base import (
    Accepted,
    Found,
    Gateway,
    LookupScope,
    Market,
    NotFound,
    NotSent,
    Rejected,
    Unavailable,
    Unknown,
)
from .interface import OrderExecutionInterface
from .models import (
    CircuitState,
    ExecutionStats,
    Order,
    OrderEvent,
    OrderRequest,
    ReconciliationReport,
)
from .parameters import parse_deadline, parse_request
from .pretrade import check_traits, quantise
from .registry import Subscription
from .resolving import ref_of
from .retry import Retryable, RetryBudget, RetryPolicy, run_with_retry
from .statistics import Outcomes, outcome_of, quantile
from .submission import SubmissionCounters, verdict

_logger = logging.getLogger(__name__)

R = TypeVar("R")
MAX_REMEMBERED: Final = 10_000
CANCEL_LOOKS: Final = 10
MAX_UNREAD: Final = 100_000


class BasicOrderExecutor(OrderExecutionInterface):
    """One attempt per order, again only if it provably did not leave.

    Orders are remembered in memory only, so after a restart it knows an order only if the exchange can look it up.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = load_settings(config)
        self._config: dict[str, Any] = merge({}, config or {})
        self.clock: Clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._gateway = gateway
        self._open_lock = asyncio.Lock()
        self._is_open = self._closed = False
        self._halted: str | None = None
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        """One lock for each id, and an entry for each call that holds it or waits for it."""
        self._subscriptions: list[Subscription] = []
        self._outcomes = Outcomes()
        self._counters = SubmissionCounters()
        self._fills = 0
        self._started_at = self.clock.now()

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._settings

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Put a configuration in force, whole or not at all. Raises ConfigurationError."""
        if not isinstance(config, Mapping):
            raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
        merged = merge(self._config, config)
        settings = load_settings(merged)
        if self._is_open and settings.gateway != self._settings.gateway:
            raise ConfigurationError("gateway: can only be changed before the executor is used", field="gateway")
        self._config, self._settings = merged, settings

    async def _opened(self) -> Gateway:
        async with self._open_lock:
            if self._closed:
                raise ExecutorClosed
            if self._gateway is None:
                self._gateway = bootstrap.make_gateway(self._settings, self.clock, self._rng)
            if not self._is_open:
                await self._gateway.open()
                self._is_open = True
            return self._gateway

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    # ---- orders -------------------------------------------------------------------------------------------

    async def execute_order(self, order_params: Mapping[str, Any]) -> str:
        """Place an order; see the interface. The same id is never sent twice, unless it provably did not leave."""
        try:
            gateway = await self._opened()
            request = parse_request(order_params, new_id=uuid.uuid4().hex)
            deadline = self.clock.monotonic() + parse_deadline(order_params, self._settings.retry.deadline_seconds)
            lock, calls = self._locks.setdefault(request.client_order_id, (asyncio.Lock(), []))
            calls.append(None)
            try:
                async with lock:
                    order = await self._execute(gateway, request, deadline)
            finally:
                calls.pop()
                if not calls:
                    self._locks.pop(request.client_order_id, None)
        except BaseException as error:
            self._outcomes.count(outcome_of(error))
            raise
        self._outcomes.count("accepted")
        return order.order_id

    async def _execute(self, gateway: Gateway, request: OrderRequest, deadline: float) -> Order:
        known = self._orders.get(request.client_order_id)
        if known is not None:
            differing = lifecycle.differing_fields(known, request)
            if differing:
                raise DuplicateOrder(known.order_id, differing)
            if not known.restartable:
                return await self._answer_again(gateway, known)
        if self._halted is not None:
            raise ExecutorHalted(self._halted, order_id=request.client_order_id)
        check_traits(request, gateway.traits, gateway.name)
        market = await self._read(lambda: gateway.market(request.symbol))
        if not isinstance(market, Market):
            raise OrderNotSent(f"the rules of {request.symbol} are not to be had: {market.message}")
        request = quantise(request, market)
        order = known or lifecycle.new_order(request, self.clock.now())
        try:
            await run_with_retry(
                lambda: self._attempt(gateway, order),
                self._policy(),
                RetryBudget(self._settings.retry.budget_tokens),
                deadline,
                self.clock.monotonic,
                self._rng,
                on_retry=lambda attempt, delay, error: self._count_retry(),
            )
        except Retryable as error:
            current = self._orders[order.order_id]
            self._keep(lifecycle.never_left(current, self.clock.now(), lifecycle.NEVER_SENT, str(error)))
            raise OrderNotSent(
                f"order {order.order_id} was never sent: {error}", order_id=order.order_id
            ) from error
        return self._answer(self._orders[order.order_id])

    async def _attempt(self, gateway: Gateway, order: Order) -> None:
        """Send once and keep what it came to. Raises Retryable when it provably did not leave."""
        current = self._orders.get(order.order_id, order)
        sending = self._keep(lifecycle.intend(current, self.clock.now()))
        started = self.clock.monotonic()
        outcome: Accepted | Rejected | NotSent | Unknown
        try:
            async with asyncio.timeout(self._settings.gateway.timeout_seconds):
                outcome = await gateway.submit(lifecycle.request_of(sending))
        except asyncio.CancelledError:
            self._keep(lifecycle.unknown(sending, self.clock.now(), "the caller was cancelled"))
            raise
        except TimeoutError:
            outcome = Unknown(ErrorCategory.TIMEOUT, "no answer in time")
        except Exception as error:
            _logger.exception("the %s gateway failed while writing", gateway.name)
            outcome = Unknown(ErrorCategory.INTERNAL, type(error).__name__)
        now = self.clock.now()
        if isinstance(outcome, Accepted):
            self._counters.acknowledged(self.clock.monotonic() - started)
            accepted = self._keep(lifecycle.accepted(sending, now, outcome.exchange_order_id))
            if outcome.order is not None:
                self._keep_all(lifecycle.merge(accepted, outcome.order, now, read=False))
        elif isinstance(outcome, NotSent):
            self._keep(lifecycle.not_sent(sending, now, outcome.message))
            raise Retryable(outcome.category, outcome.message, outcome.retry_after)
        elif isinstance(outcome, Rejected) and not outcome.duplicate_id:
            self._keep(lifecycle.rejected(sending, now, outcome.reason))
        else:
            detail = outcome.reason if isinstance(outcome, Rejected) else outcome.message
            self._keep(lifecycle.unknown(sending, now, detail))

    async def _answer_again(self, gateway: Gateway, known: Order) -> Order:
        """Give a repeated call its answer; what was unresolved is looked up, never sent again."""
        if known.state.is_unresolved:
            known = await self._look(gateway, known)
        return self._answer(known)

    def _answer(self, order: Order) -> Order:
        if order.state.is_unresolved:
            raise OrderUnresolved(order.order_id, "the exchange's answer was lost; call again to look it up")
        return verdict(order)

    async def _look(self, gateway: Gateway, order: Order) -> Order:
        """Ask the exchange once; only a found order changes ours."""
        can_ask = order.exchange_order_id is not None or gateway.traits.lookup_scope is not LookupScope.NONE
        if not can_ask:
            return order
        answer = await self._read(lambda: gateway.query(ref_of(order)))
        if isinstance(answer, Found) and not lifecycle.conflict(order, answer.order):
            self._keep_all(lifecycle.merge(order, answer.order, self.clock.now(), read=True))
        return self._orders.get(order.order_id, order)

    async def get_order_status(self, order_id: str) -> Order:
        """Ask the exchange for the order; where it does not answer, what was last known. Raises OrderNotFound."""
        gateway = await self._opened()
        order = self._orders.get(order_id)
        if order is None:
            raise OrderNotFound(order_id)
        return order if order.state.is_final else await self._look(gateway, order)

    async def wait_for_order(self, order_id: str, timeout: float | None = None) -> Order:
        """Poll until the order is final. Raises OrderNotFound, and TimeoutError after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            while True:
                order = await self.get_order_status(order_id)
                if order.state.is_final:
                    return order
                await asyncio.sleep(min(self._settings.confirmation.poll_interval_seconds, 1.0))

    async def cancel_order(self, order_id: str) -> bool:
        """Cancel and look what became of it. False: it may still trade. Raises OrderNotFound."""
        gateway = await self._opened()
        order = await self.get_order_status(order_id)
        for look in range(CANCEL_LOOKS):
            if order.state.is_final:
                return True
            refused = isinstance(await self._cancel_once(gateway, order), Rejected)
            order = await self._look(gateway, self._orders.get(order_id, order))
            if refused and look and not order.state.is_final:
                return False
            await asyncio.sleep(min(0.05 * 2.0**look, 2.0))
        return order.state.is_final

    async def _cancel_once(self, gateway: Gateway, order: Order) -> object:
        try:
            async with asyncio.timeout(self._settings.gateway.timeout_seconds):
                return await gateway.cancel(ref_of(order))
        except TimeoutError:
            return Unknown(ErrorCategory.TIMEOUT, "no answer in time")

    # ---- the rest of the interface ------------------------------------------------------------------------

    async def get_execution_stats(self) -> ExecutionStats:
        """Return counts since the start. There is no breaker and no journal to tell of."""
        orders = self._orders.values()
        return ExecutionStats(
            orders=self._outcomes.counts(),
            open_orders=sum(not order.state.is_final for order in orders),
            unresolved_orders=sum(order.state.is_unresolved for order in orders),
            fills=self._fills,
            retries=self._counters.retries,
            ack_latency_p50=quantile(self._counters.ack_seconds, 0.50),
            ack_latency_p99=quantile(self._counters.ack_seconds, 0.99),
            error_rate_per_minute=0.0,
            circuits={"submit": CircuitState.CLOSED},
            journal_lag=0.0,
            halted=self._halted,
            started_at=self._started_at,
            last_reconciliation_at=None,
        )

    async def reconcile_orders(self, period: str = "daily") -> ReconciliationReport:
        """Look every remembered order up at the exchange. Raises ExchangeUnavailable."""
        from .reconciliation import since_of  # noqa: PLC0415 - the package's import stays light

        gateway = await self._opened()
        started = self.clock.now()
        since = since_of(period, started)
        counts = {"matched": 0, "mismatched": 0, "missing": 0, "unresolved": 0}
        remembered = [order for order in self._orders.values() if order.created_at >= since]
        for order in remembered:
            counts[await self._compare(gateway, order)] += 1
        return ReconciliationReport(
            period=period,
            since=since,
            until=started,
            started_at=started,
            finished_at=self.clock.now(),
            total_orders=len(remembered),
            matched_orders=counts["matched"],
            mismatched_orders=counts["mismatched"],
            missing_orders=counts["missing"],
            extra_orders=0,
            unresolved_orders=counts["unresolved"],
            repaired=counts["mismatched"],
        )

    async def _compare(self, gateway: Gateway, order: Order) -> str:
        if order.exchange_order_id is None:
            return "unresolved" if order.state.is_unresolved else "matched"
        answer = await self._read(lambda: gateway.query(ref_of(order)))
        if isinstance(answer, Unavailable):
            raise ExchangeUnavailable(answer.message, category=answer.category, retry_after=answer.retry_after)
        if isinstance(answer, NotFound):
            return "missing"
        before = self._orders[order.order_id]
        self._keep_all(lifecycle.merge(before, answer.order, self.clock.now(), read=True))
        after = self._orders[order.order_id]
        return "matched" if (after.state, after.filled) == (order.state, order.filled) else "mismatched"

    def events(self) -> AsyncIterator[OrderEvent]:
        """Every state change and fill that this executor's own calls bring to light."""
        subscription = Subscription(MAX_UNREAD)
        self._subscriptions.append(subscription)
        return subscription

    async def halt(self, reason: str) -> None:
        """Refuse new orders until ``resume()``; not remembered over a restart."""
        if not reason:
            raise InvalidOrder("reason", "why the executor is halted, in a few words")
        self._halted = reason

    async def resume(self) -> None:
        """Lift ``halt()``."""
        self._halted = None

    async def close(self) -> None:
        """Close the gateway; harmless when repeated."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
        if self._gateway is not None and self._is_open:
            self._is_open = False
            await self._gateway.close()

    # ---- inside -------------------------------------------------------------------------------------------

    async def _read(self, call: Callable[[], Awaitable[R]]) -> R | Unavailable:
        try:
            async with asyncio.timeout(self._settings.gateway.timeout_seconds):
                return await call()
        except TimeoutError:
            return Unavailable(ErrorCategory.TIMEOUT, "no answer in time")

    def _policy(self) -> RetryPolicy:
        section = self._settings.retry
        return RetryPolicy(
            max_retries=section.max_retries,
            backoff_base=section.backoff_base,
            initial_delay=section.initial_delay,
            max_delay=section.max_delay,
            retryable_errors=frozenset(section.retryable_errors),
        )

    def _count_retry(self) -> None:
        self._counters.retries += 1

    def _keep(self, event: OrderEvent) -> Order:
        order = event.order
        self._orders[order.order_id] = order
        self._fills += event.fill is not None
        if len(self._orders) > MAX_REMEMBERED:
            self._forget_one()
        for subscription in self._subscriptions:
            subscription.push(event)
        return order

    def _keep_all(self, events: list[OrderEvent]) -> None:
        for event in events:
            self._keep(event)

    def _forget_one(self) -> None:
        """Forget the oldest final order; one that may still trade is never forgotten."""
        for order_id, order in self._orders.items():
            if order.state.is_final:
                del self._orders[order_id]
                return
