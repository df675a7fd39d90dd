"""BasicOrderExecutor: the simple one. No journal, no breaker, no background; equally unable to double an order.

It retries only what provably was not sent. What is ambiguous is raised as OrderUnresolved, and calling again
with the same id looks the order up; it never sends it a second time. What it can promise across restarts, where
it remembers nothing, stands at the class.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from . import bootstrap, earlier_orders, lifecycle
from .basic_submission import BasicSubmission
from .clock import Clock, SystemClock
from .earlier_orders import EarlierOrders
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
    OrderState,
    ReconciliationReport,
)
from .order_memory import OrderMemory
from .parameters import OrderIds, check_order_id, parse_deadline, parse_request
from .pretrade import check_traits, quantise
from .resolving import ref_of
from .statistics import Outcomes, outcome_of, quantile
from .submission import verdict

if TYPE_CHECKING:
    from .config import Settings

R = TypeVar("R")
MAX_REMEMBERED: Final = 10_000
"""How many ended orders are held whole; a hundred thousand older ones are held without their single fills."""
CANCEL_LOOKS: Final = 10


class BasicOrderExecutor(OrderExecutionInterface):
    """One attempt per order, again only if it provably did not leave. Belongs to one event loop.

    While it lives, an id is never sent a second time once it may have left: it knows every order that may still
    trade, and the latest 110,000 that ended (of the older ones the totals, no longer the single fills).

    After a restart it knows nothing. An id that it chooses itself is new. One that the caller gives, and that is
    not in memory, may have been used before:

    * Where the exchange refuses an id that was ever used (``IdScope.FOREVER``) the order is sent. Any refusal is
      looked up before it is believed. OrderNotSent and the errors below it speak of this executor alone then:
      execute the same id again, rather than another one.
    * Else, where the exchange looks up any id (``LookupScope.ALL``), it is asked first, once for each such order.
    * Else its lists are read first, once for each symbol: the open orders, and where they are listed, the closed
      ones of the last day. What is older, or closed and not listed, is not found, and would be placed again.
      Where lists do not tell the ids of ours, nothing is sent under an id that the caller gives.
    * Where the exchange keeps no ids of ours, nothing can be asked: use no id again after a restart.

    What is found is answered for as if it had been remembered. While the exchange does not answer, nothing is sent
    and OrderUnresolved is raised. One gap stays: a request of a process that died may still be on its way, unseen,
    for ``traits.unresolvable_for`` seconds; wait as long before its ids are used again. ReliableOrderExecutor,
    which has a journal, needs none of this.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        gateway: Gateway | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = bootstrap.read_settings(config)
        self._config: dict[str, Any] = bootstrap.laid_over({}, config or {})
        self.clock: Clock = clock or SystemClock()
        self._ids = OrderIds()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._gateway = gateway
        self._open_lock = asyncio.Lock()
        self._is_open = self._closed = False
        self._halted: str | None = None
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        """One lock for each id, and an entry for each call that holds it or waits for it."""
        self._memory = OrderMemory(self._locks, max_whole=MAX_REMEMBERED)
        self._earlier = EarlierOrders(self.clock)
        self._submission = BasicSubmission(
            self._memory, self.clock, self._rng, lambda: self._settings, self._check_accepting
        )
        self._outcomes = Outcomes()
        self._started_at = self.clock.now()

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._settings

    async def configure(self, config: Mapping[str, Any]) -> None:
        """Put a configuration in force, whole or not at all. Raises ConfigurationError."""
        if not isinstance(config, Mapping):
            raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
        merged = bootstrap.laid_over(self._config, config)
        settings = bootstrap.read_settings(merged)
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
        """Place an order; see the interface, and the class for when the same id could be sent twice.

        Raises InvalidOrder (DuplicateOrder), OrderNotSent (ExecutorHalted), OrderRejected, OrderUnresolved and
        ExecutorClosed.
        """
        try:
            gateway = await self._opened()
            request = parse_request(order_params, new_id=self._ids.new(self.clock.now()))
            is_given = order_params.get("client_order_id") is not None
            deadline = self.clock.monotonic() + parse_deadline(order_params, self._settings.retry.deadline_seconds)
            lock, calls = self._locks.setdefault(request.client_order_id, (asyncio.Lock(), []))
            calls.append(None)
            try:
                async with lock:
                    order = await self._execute(gateway, request, deadline, is_given=is_given)
            finally:
                calls.pop()
                if not calls:
                    self._locks.pop(request.client_order_id, None)
        except BaseException as error:
            self._outcomes.count(outcome_of(error))
            raise
        self._outcomes.count("accepted")
        return order.order_id

    async def _execute(self, gateway: Gateway, request: OrderRequest, deadline: float, *, is_given: bool) -> Order:
        """Decide for an id; the caller holds its lock. ``is_given``: the caller chose it."""
        known = self._memory.get(request.client_order_id)
        if known is None and is_given and earlier_orders.asks_for(gateway.traits):
            known = await self._look_for_earlier(gateway, request, deadline)
        if known is not None:
            differing = lifecycle.differing_fields(known, request)
            if differing:
                raise DuplicateOrder(known.order_id, differing)
            if not known.restartable:
                return await self._answer_again(gateway, known)
        self._check_accepting(request.client_order_id)
        check_traits(request, gateway.traits, gateway.name)
        market = await self._read(lambda: gateway.market(request.symbol))
        if not isinstance(market, Market):
            raise OrderNotSent(f"the rules of {request.symbol} are not to be had: {market.message}")
        request = quantise(request, market)
        order = known or lifecycle.new_order(request, self.clock.now())
        refusals = self._submission.doubtful
        if known is None and is_given and gateway.traits.lookup_scope is LookupScope.ALL:
            refusals[order.order_id] = None
        try:
            await self._submission.place(gateway, order, deadline)
        finally:
            refusal = refusals.pop(order.order_id, None)
        order = self._memory.get(order.order_id) or order
        if refusal is not None:
            order = await self._believe(gateway, order, refusal)
        return self._answer(order)

    async def _believe(self, gateway: Gateway, order: Order, refusal: Rejected) -> Order:
        """Take a refusal for what it says once the exchange has no order under the id.

        One of an earlier process may rest there, and have blocked the very funds that this one lacked.
        """
        answer = await self._read(lambda: gateway.query(ref_of(order)))
        if isinstance(answer, Found) and not lifecycle.conflict(order, answer.order):
            self._memory.see(order.order_id, answer.order, self.clock.now())
        current = self._memory.get(order.order_id) or order
        if isinstance(answer, NotFound) and not refusal.duplicate_id and current.state is OrderState.UNKNOWN:
            current = self._memory.keep(lifecycle.rejected(current, self.clock.now(), refusal.reason))
        return current

    async def _look_for_earlier(self, gateway: Gateway, request: OrderRequest, deadline: float) -> Order | None:
        """Ask the exchange for an order that an earlier process placed under this id, and remember it.

        Raises InvalidOrder for an unknown symbol, DuplicateOrder, and OrderUnresolved where it cannot be known.
        """
        order_id = request.client_order_id
        await self._read(lambda: gateway.market(request.symbol))
        try:
            async with asyncio.timeout(deadline - self.clock.monotonic()):
                seen = await self._earlier.find(gateway, request)
        except (ExchangeUnavailable, TimeoutError) as error:
            detail = "the exchange did not tell whether it was placed before; it was not sent now. Call again"
            raise OrderUnresolved(order_id, detail) from error
        if seen is None:
            return None
        order = lifecycle.new_order(request, seen.created_at)
        differing = lifecycle.conflict(order, seen)
        if differing:
            raise DuplicateOrder(order_id, differing)
        self._memory.keep_all(lifecycle.merge(order, seen, self.clock.now(), read=True))
        return self._memory.get(order_id)

    def _check_accepting(self, order_id: str) -> None:
        """Raise ExecutorClosed or ExecutorHalted where nothing may be sent any more."""
        if self._closed:
            raise ExecutorClosed(order_id=order_id)
        if self._halted is not None:
            raise ExecutorHalted(self._halted, order_id=order_id)

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
            self._memory.see(order.order_id, answer.order, self.clock.now())
        return self._memory.get(order.order_id) or order

    async def get_order_status(self, order_id: str) -> Order:
        """Ask the exchange for the order; where it does not answer, what was last known. Raises OrderNotFound."""
        gateway = await self._opened()
        order = self._remembered(order_id)
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
        """Cancel and look what became of it. False: it may still trade. Raises OrderNotFound.

        An order that is just being sent and turns out not to have left is not sent again, whatever this answers.
        """
        gateway = await self._opened()
        if self._cancel_here(order_id):
            return True
        await self.get_order_status(order_id)
        accepted = False
        for look in range(CANCEL_LOOKS):
            if self._cancel_here(order_id):
                return True
            outcome = await self._cancel_once(gateway, self._remembered(order_id))
            accepted = accepted or isinstance(outcome, Accepted)
            order = await self._look(gateway, self._remembered(order_id))
            if order.state.is_final:
                continue
            # A refusal proves nothing before the order has arrived, or once an earlier cancel was accepted.
            believable = not accepted and order.state is not OrderState.SENDING
            if look and believable and isinstance(outcome, Rejected):
                return False
            await asyncio.sleep(min(0.05 * 2.0**look, 2.0))
        return self._cancel_here(order_id)

    def _cancel_here(self, order_id: str) -> bool:
        """Cancel what is provably not at the exchange. True if the order will trade no further."""
        return self._submission.stop(self._remembered(order_id)).state.is_final

    def _remembered(self, order_id: str) -> Order:
        check_order_id(order_id)
        order = self._memory.get(order_id)
        if order is None:
            raise OrderNotFound(order_id)
        return order

    async def _cancel_once(self, gateway: Gateway, order: Order) -> object:
        try:
            async with asyncio.timeout(self._settings.gateway.timeout_seconds):
                return await gateway.cancel(ref_of(order))
        except TimeoutError:
            return Unknown(ErrorCategory.TIMEOUT, "no answer in time")

    # ---- the rest of the interface ------------------------------------------------------------------------

    async def get_execution_stats(self) -> ExecutionStats:
        """Return counts since the start. There is no breaker and no journal to tell of."""
        orders = list(self._memory)
        return ExecutionStats(
            orders=self._outcomes.counts(),
            open_orders=sum(not order.state.is_final for order in orders),
            unresolved_orders=sum(order.state.is_unresolved for order in orders),
            fills=self._memory.fills,
            retries=self._submission.counters.retries,
            ack_latency_p50=quantile(self._submission.counters.ack_seconds, 0.50),
            ack_latency_p99=quantile(self._submission.counters.ack_seconds, 0.99),
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
        remembered = [order for order in self._memory if order.created_at >= since]
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
        before = self._memory.get(order.order_id) or order
        self._memory.see(order.order_id, answer.order, self.clock.now())
        after = self._memory.get(order.order_id) or order
        return "matched" if (after.state, after.filled) == (before.state, before.filled) else "mismatched"

    def events(self) -> AsyncIterator[OrderEvent]:
        """Every state change and fill that this executor's own calls bring to light. Raises ExecutorClosed."""
        if self._closed:
            raise ExecutorClosed
        return self._memory.subscribe()

    async def halt(self, reason: str) -> None:
        """Refuse new orders until ``resume()``; not remembered over a restart."""
        if not isinstance(reason, str) or not reason:
            raise InvalidOrder("reason", "why the executor is halted, in a few words", got=reason)
        self._halted = reason

    async def resume(self) -> None:
        """Lift ``halt()``."""
        self._halted = None

    async def close(self) -> None:
        """Close the gateway; harmless when repeated."""
        self._closed = True
        self._memory.close()
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
