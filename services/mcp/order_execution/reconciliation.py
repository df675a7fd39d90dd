"""Journal against exchange over a period: compare, look again at whatever differs, repair our record, verify.

The comparison is pure. What it finds is believed only after a second, targeted look at both sides, since each
of the two lists is old by the time the other one is read. The exchange is never touched: orders that are not
ours are adopted into the journal as external, never cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol

from .alerts import Alerts, Level
from .clock import Clock
from .errors import ConfigurationError, ExchangeUnavailable
from .gateways.base import (
    ExchangeOrder,
    ExchangeTrade,
    Found,
    Gateway,
    ListScope,
    NotFound,
    OrderRef,
    Unavailable,
)
from .journals.base import Journal
from .metrics import Metrics
from .models import Discrepancy, Fill, Order, OrderState, ReconciliationReport, plain_decimal

_logger = logging.getLogger(__name__)

PERIODS: Final[Mapping[str, timedelta]] = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
}
MARGIN: Final = timedelta(minutes=1)
"""How far the exchange's clock may differ from ours."""
MAX_DETAILS: Final = 1_000
"""Discrepancies kept in a report; the counts are exact beyond it."""

Differences = dict[str, tuple[str | None, str | None]]
Progress = Callable[[int, int], None]
BalanceCheck = Callable[[], Awaitable[Mapping[str, tuple[Decimal, Decimal]]]]


class Repairs(Protocol):
    """What may be done to our own record. Without it, a reconciliation only reports."""

    def current(self, order_id: str) -> Order | None:
        """The fresh record of an order that is in memory."""
        ...

    async def repair(self, order_id: str, seen: ExchangeOrder, reason: str) -> Order:
        """Take the exchange's truth over."""
        ...

    async def mark_missing(self, order_id: str, reason: str) -> Order:
        """Note that the exchange denies an order."""
        ...

    async def adopt(self, seen: ExchangeOrder) -> Order:
        """Record an order that somebody else placed."""
        ...

    async def resolve(self, order_id: str) -> None:
        """Look for an unresolved order now."""
        ...


@dataclass(frozen=True, slots=True)
class AlertThresholds:
    """Beyond which a report raises an alert. With zeros, any discrepancy does."""

    mismatch_percentage: float = 0.0
    missing_orders: int = 0
    extra_orders: int = 0

    def exceeded_by(self, report: ReconciliationReport) -> bool:
        """Whether the report is worse than any of the thresholds."""
        return (
            report.mismatch_percentage > self.mismatch_percentage
            or report.missing_orders > self.missing_orders
            or report.extra_orders > self.extra_orders
        )


def since_of(period: str, until: datetime) -> datetime:
    """The start of a period. Raises ConfigurationError for an unknown one."""
    if period not in PERIODS:
        raise ConfigurationError(f"period: expected one of {', '.join(PERIODS)}, got {period!r}", field="period")
    return until - PERIODS[period]


# ---- the comparison, pure -------------------------------------------------------------------------------------


def compare(order: Order, seen: ExchangeOrder) -> Differences:
    """Field by field: (journal's value, exchange's value), for what differs. Decimals compare by value."""
    differences: Differences = {}
    for name in ("symbol", "side", "amount", "filled", "exchange_order_id"):
        _note(differences, name, getattr(order, name), getattr(seen, name))
    if order.price is not None and seen.price is not None:
        _note(differences, "price", order.price, seen.price)
    if seen.average_price is not None and order.fills_complete and seen.fills is None:
        pass  # our own average comes from the fills themselves and is exact
    elif seen.average_price is not None and not order.fills:
        _note(differences, "average_price", order.average_price, seen.average_price)
    if seen.fills is not None:
        ours = {fill.trade_id for fill in order.fills}
        theirs = {fill.trade_id for fill in seen.fills}
        if not theirs <= ours:
            _note(differences, "fills", str(len(ours)), str(len(ours | theirs)))
        elif theirs == ours:
            _compare_fees(differences, order, seen.fills)
    _note(differences, "state", order.state.value, expected_state(order, seen).value)
    return differences


def expected_state(order: Order, seen: ExchangeOrder) -> OrderState:
    """The state in which we should have an order that the exchange shows like this."""
    if seen.state.is_final:
        traded = seen.state is OrderState.REJECTED and seen.filled > 0
        return OrderState.CANCELED if traded else seen.state
    if order.state is OrderState.CANCELING:
        return OrderState.CANCELING
    return OrderState.PARTIALLY_FILLED if max(order.filled, seen.filled) else OrderState.OPEN


def _compare_fees(differences: Differences, order: Order, fills: Iterable[Fill]) -> None:
    fees: dict[str, Decimal] = {}
    for fill in fills:
        if fill.fee:
            fees[fill.fee_currency] = fees.get(fill.fee_currency, Decimal(0)) + fill.fee
    if dict(order.fees) != fees:
        _note(differences, "fees", _fees(order.fees), _fees(fees))


def _fees(fees: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{plain_decimal(amount)} {currency}" for currency, amount in sorted(fees.items()))


def _note(differences: Differences, name: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        differences[name] = (_text(ours), _text(theirs))


def _text(value: object) -> str | None:
    if value is None:
        return None
    return plain_decimal(value) if isinstance(value, Decimal) else str(value)


# ---- the runner -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Exchange:
    """What the exchange's lists told."""

    by_id: dict[str, ExchangeOrder] = field(default_factory=dict)
    by_client_id: dict[str, ExchangeOrder] = field(default_factory=dict)
    trades: dict[str, list[ExchangeTrade]] = field(default_factory=dict)

    def add(self, orders: Iterable[ExchangeOrder]) -> None:
        """Take a listing in; what was read later is newer."""
        for seen in orders:
            self.by_id[seen.exchange_order_id] = seen
            if seen.client_order_id is not None:
                self.by_client_id[seen.client_order_id] = seen

    def find(self, order: Order) -> ExchangeOrder | None:
        """The listed order that ours is, by the exchange's id, else by our own."""
        if order.exchange_order_id is not None:
            return self.by_id.get(order.exchange_order_id)
        return self.by_client_id.get(order.order_id)

    def with_fills(self, seen: ExchangeOrder) -> ExchangeOrder:
        """The order with its listed trades, where it does not carry them itself."""
        trades = self.trades.get(seen.exchange_order_id)
        if seen.fills is not None or trades is None:
            return seen
        return replace(seen, fills=tuple(trade.fill for trade in trades))


@dataclass(slots=True)
class _Tally:
    """What was found so far."""

    total: int = 0
    matched: int = 0
    mismatched: int = 0
    missing: int = 0
    extra: int = 0
    unresolved: int = 0
    repaired: int = 0
    details: list[Discrepancy] = field(default_factory=list)

    def found(self, discrepancy: Discrepancy) -> None:
        """Keep a discrepancy, up to the bound."""
        self.repaired += discrepancy.repaired
        if len(self.details) < MAX_DETAILS:
            self.details.append(discrepancy)


class Reconciler:
    """Compares one journal with one exchange account. ``repairs`` None: report only."""

    def __init__(
        self,
        journal: Journal,
        gateway: Gateway,
        clock: Clock,
        *,
        repairs: Repairs | None,
        metrics: Metrics | None = None,
        alerts: Alerts | None = None,
        thresholds: AlertThresholds | None = None,
        balance_check: BalanceCheck | None = None,
    ) -> None:
        self._journal = journal
        self._gateway = gateway
        self._clock = clock
        self._repairs = repairs
        self._metrics = metrics
        self._alerts = alerts
        self.thresholds = thresholds or AlertThresholds()
        self._balance_check = balance_check

    async def run(self, period: str = "daily", *, progress: Progress | None = None) -> ReconciliationReport:
        """Compare, repair, verify.

        Raises ConfigurationError for an unknown period, and ExchangeUnavailable when the exchange does not
        answer: no report is made of silence.
        """
        started = self._clock.now()
        since = since_of(period, started)
        if self._repairs is not None:
            await self._journal.flush()
        exchange = await self._read_exchange(since - MARGIN, started + MARGIN)
        expected = await self._journal.count()
        tally = _Tally()
        known: set[str] = set()
        async for batch in self._journal.scan(since, started + MARGIN):
            for order in batch:
                await self._check(order, exchange, known, tally)
            if progress is not None:
                progress(tally.total, max(expected, tally.total))
        for exchange_order_id, seen in exchange.by_id.items():
            if exchange_order_id not in known:
                await self._check_extra(seen, exchange, tally)
        await self._check_balances(tally)
        if self._repairs is not None:
            await self._journal.flush()
        report = self._report(period, since, started, tally)
        self._tell(report)
        return report

    # ---- reading the exchange ---------------------------------------------------------------------------------

    async def _read_exchange(self, since: datetime, until: datetime) -> _Exchange:
        exchange = _Exchange()
        for symbol in await self._scopes(since, until):
            if self._gateway.traits.lists_closed_orders:
                exchange.add(_orders(await self._gateway.closed_orders(since, until, symbol)))
            # Open orders last: an order that closes in between is looked at again, none slips through.
            exchange.add(_orders(await self._gateway.open_orders(symbol)))
            if self._gateway.traits.lists_trades:
                answer = await self._gateway.trades(since, symbol)
                if isinstance(answer, Unavailable):
                    raise _silence(answer)
                for trade in answer.trades:
                    exchange.trades.setdefault(trade.exchange_order_id, []).append(trade)
        return exchange

    async def _scopes(self, since: datetime, until: datetime) -> list[str | None]:
        """What lists are asked for: the account, or every symbol that the journal knows of."""
        if self._gateway.traits.list_scope is ListScope.ACCOUNT:
            return [None]
        symbols: dict[str | None, None] = {}
        async for batch in self._journal.scan(since, until):
            symbols.update((order.symbol, None) for order in batch)
        return list(symbols)

    async def _query(self, order: Order) -> ExchangeOrder | None:
        """Look one order up; None when the exchange says that it has none."""
        ref = OrderRef(order.order_id, order.symbol, order.exchange_order_id, order.sent_at)
        answer = await self._gateway.query(ref)
        if isinstance(answer, Found):
            return answer.order
        if isinstance(answer, NotFound):
            return None
        raise _silence(answer)

    async def _fresh(self, order: Order) -> Order:
        """The newest record of an order."""
        current = None if self._repairs is None else self._repairs.current(order.order_id)
        return current or await self._journal.get(order.order_id) or order

    # ---- one order --------------------------------------------------------------------------------------------

    async def _check(self, listed: Order, exchange: _Exchange, known: set[str], tally: _Tally) -> None:
        order = await self._fresh(listed)
        tally.total += 1
        seen = exchange.find(order)
        if seen is not None:
            known.add(seen.exchange_order_id)
        if order.state.is_unresolved or order.state is OrderState.PENDING:
            tally.unresolved += 1
            if self._repairs is not None:
                await self._repairs.resolve(order.order_id)
            return
        if seen is None and order.exchange_order_id is None:
            tally.matched += 1  # never placed, and the exchange does not show it
            return
        if seen is not None and not compare(order, exchange.with_fills(seen)):
            tally.matched += 1
            return
        await self._look_again(order, exchange, known, tally)

    async def _look_again(self, order: Order, exchange: _Exchange, known: set[str], tally: _Tally) -> None:
        """Believe a difference only if both sides, read anew, still differ."""
        listed = exchange.find(order)
        ref = (
            order
            if order.exchange_order_id is not None or listed is None
            else replace(order, exchange_order_id=listed.exchange_order_id)
        )
        seen = await self._query(ref)
        order = await self._fresh(order)
        if seen is not None:
            known.add(seen.exchange_order_id)
            seen = exchange.with_fills(seen)
            differences = compare(order, seen)
            if not differences:
                tally.matched += 1
                return
            tally.mismatched += 1
            tally.found(await self._repair(order, seen, differences))
            return
        if order.state.is_unresolved or self._changed_lately(order):
            tally.unresolved += 1
            return
        tally.missing += 1
        tally.found(await self._mark_missing(order))

    def _changed_lately(self, order: Order) -> bool:
        """Whether the exchange's lookups may not show the order's last change yet."""
        return self._clock.now() - order.updated_at < timedelta(seconds=self._gateway.traits.settle)

    async def _repair(self, order: Order, seen: ExchangeOrder, differences: Differences) -> Discrepancy:
        kind = "fills" if set(differences) <= {"fills", "fees"} else "mismatched"
        repaired, action = False, None
        if self._repairs is not None:
            reason = "differs from the exchange in " + ", ".join(differences)
            after = await self._repairs.repair(order.order_id, seen, reason)
            left = compare(after, seen)
            repaired = not left
            action = "took the exchange's values over" if repaired else f"still differs in {', '.join(left)}"
        return Discrepancy(
            kind, order.order_id, seen.exchange_order_id, order.symbol, differences, repaired, action
        )

    async def _mark_missing(self, order: Order) -> Discrepancy:
        action, repaired = None, False
        if self._repairs is not None:
            after = await self._repairs.mark_missing(order.order_id, "the exchange says that it has no such order")
            repaired = after.state is not order.state
            action = "unresolved until the exchange or a human tells" if repaired else "kept as it was closed"
        return Discrepancy(
            "missing",
            order.order_id,
            order.exchange_order_id,
            order.symbol,
            {"state": (order.state.value, None)},
            repaired,
            action,
        )

    async def _check_extra(self, seen: ExchangeOrder, exchange: _Exchange, tally: _Tally) -> None:
        """An order that no journal order of the period is: older than the period, brand new, or not ours."""
        ours = await self._journal.find_by_exchange_id(seen.exchange_order_id)
        if ours is None and seen.client_order_id is not None:
            ours = await self._journal.get(seen.client_order_id)
            if ours is not None and ours.exchange_order_id not in (None, seen.exchange_order_id):
                ours = None  # another order under the same client id
        if ours is not None:
            known: set[str] = set()
            await self._check(ours, exchange, known, tally)
            return
        tally.total += 1
        tally.extra += 1
        action, repaired, order_id = None, False, seen.client_order_id
        if self._repairs is not None:
            adopted = await self._repairs.adopt(exchange.with_fills(seen))
            order_id, repaired, action = adopted.order_id, True, "adopted as external"
        tally.found(
            Discrepancy(
                "extra",
                order_id,
                seen.exchange_order_id,
                seen.symbol,
                {"state": (None, seen.state.value)},
                repaired,
                action,
            )
        )

    async def _check_balances(self, tally: _Tally) -> None:
        if self._balance_check is None:
            return
        for currency, (expected, told) in (await self._balance_check()).items():
            differences: Differences = {currency: (plain_decimal(expected), plain_decimal(told))}
            action = "took the exchange's balance over"
            tally.found(Discrepancy("balance", None, None, None, differences, True, action))

    # ---- the report -------------------------------------------------------------------------------------------

    def _report(self, period: str, since: datetime, started: datetime, tally: _Tally) -> ReconciliationReport:
        report = ReconciliationReport(
            period=period,
            since=since,
            until=started,
            started_at=started,
            finished_at=self._clock.now(),
            total_orders=tally.total,
            matched_orders=tally.matched,
            mismatched_orders=tally.mismatched,
            missing_orders=tally.missing,
            extra_orders=tally.extra,
            unresolved_orders=tally.unresolved,
            repaired=tally.repaired,
            read_only=self._repairs is None,
            details=tuple(tally.details),
        )
        return replace(report, alert_triggered=self.thresholds.exceeded_by(report))

    def _tell(self, report: ReconciliationReport) -> None:
        if self._metrics is not None:
            self._metrics.reconciled(report)
        if report.alert_triggered and self._alerts is not None:
            self._alerts.raise_alert(
                Level.ERROR,
                "reconciliation",
                f"reconciliation found {len(report.details)} discrepancies",
                f"{report.mismatched_orders} mismatched, {report.missing_orders} missing, "
                f"{report.extra_orders} extra of {report.total_orders} orders",
            )


def _orders(answer: object) -> tuple[ExchangeOrder, ...]:
    if isinstance(answer, Unavailable):
        raise _silence(answer)
    orders: tuple[ExchangeOrder, ...] = getattr(answer, "orders", ())
    return orders


def _silence(answer: Unavailable) -> ExchangeUnavailable:
    return ExchangeUnavailable(
        f"the exchange did not answer: {answer.message}", category=answer.category, retry_after=answer.retry_after
    )
