"""Journal against exchange over a period: compare, look again at whatever differs, repair our record, verify.

What the comparison finds is believed only after a second, targeted look at both sides, since each of the two
lists is old by the time the other one is read. The exchange is never touched: orders that are not ours are
adopted into the journal as external, never cancelled. Where the exchange lists one symbol at a time, only
symbols that the journal knows are looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final, Protocol

from .alerts import Alerts, Level
from .clock import Clock
from .comparison import Differences, alike, compare, surely_equal
from .errors import ConfigurationError
from .exchange_reading import MARGIN, ExchangeReader, Listing
from .gateways.base import ExchangeOrder, Gateway, ListScope, LookupScope, OrderRef
from .journals.base import Journal
from .journals.codec import KeptOrder, to_micros
from .metrics import Metrics
from .models import Discrepancy, Order, OrderState, ReconciliationReport, plain_decimal
from .reconciliation_run import Run

_logger = logging.getLogger(__name__)

PERIODS: Final[Mapping[str, timedelta]] = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
}
MAX_LOOKUPS: Final = 5_000
"""Orders looked up one by one in a run; those beyond it count as unresolved."""
SLICE_ORDERS: Final = 50_000
"""Orders of ours that are compared at once: only for so many is held in memory what the exchange lists."""
SLICE_MIN: Final = timedelta(minutes=2)
"""The shortest part of a period that is compared by itself, however many orders it has."""
LOOKS: Final = 3
"""How often an order that changes while it is looked at is looked at again."""
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
    """Beyond which a report raises an alert. With zeros, any discrepant order does."""

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


class Reconciler:
    """Compares one journal with one exchange account. ``repairs`` None: report only.

    ``catch_up_seconds``: how long our record may lag behind the exchange in normal operation. A difference by a
    change that is younger than that is no discrepancy but counts as in flight: whoever owns the journal is about
    to learn of it.
    """

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
        catch_up_seconds: float = 0.0,
        max_lookups: int = MAX_LOOKUPS,
    ) -> None:
        self._journal = journal
        self._gateway = gateway
        self._reader = ExchangeReader(gateway, clock)
        self._clock = clock
        self._repairs = repairs
        self._metrics = metrics
        self.alerts = alerts
        self.thresholds = thresholds or AlertThresholds()
        self._balance_check = balance_check
        self.catch_up_seconds = catch_up_seconds
        self._max_lookups = max_lookups

    async def run(self, period: str = "daily", *, progress: Progress | None = None) -> ReconciliationReport:
        """Compare, repair, verify. ``progress`` is told (done, expected) orders after every batch.

        Raises ConfigurationError for an unknown period, JournalError, and ExchangeUnavailable when the exchange
        does not answer: no report is made of silence.
        """
        started = self._clock.now()
        since = since_of(period, started)
        tell = progress or (lambda done, expected: None)
        if self._repairs is not None:
            await self._journal.flush()
        until = started + MARGIN
        run = Run(since, until, started, self._max_lookups, since, until)
        symbols = await self._symbols(since, started)
        expected = await self._journal.count_created(since, until) if progress is not None else 0
        slices = await self._slices(since, until)
        for begin, end in slices:
            run.exchange = Listing()  # two at once would take twice the memory
            # The journal comes second: whatever the exchange listed by now has its intent there.
            listing = await self._reader.listing(
                begin - MARGIN, min(end + MARGIN, until), symbols, whole=len(slices) == 1
            )
            run.enter(begin, end, listing)
            await self._compare_slice(run, partial(self._progress, tell, expected))
        for stranger in run.strangers.values():
            await self._check_stranger(stranger, run)
        await self._check_balances(run)
        if self._repairs is not None:
            await self._journal.flush()
        tell(run.total, run.total)
        report = self._report(period, run)
        self._tell(report)
        return report

    async def _slices(self, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
        """Cut the period, halving what has too many orders of ours, oldest first; mostly it stays whole."""
        uncut, slices = [(since, until)], []
        while uncut:  # each is cut a bounded number of times: halves of the shortest slice are not made
            begin, end = uncut.pop()
            if end - begin < 2 * SLICE_MIN or await self._journal.count_created(begin, end) <= SLICE_ORDERS:
                slices.append((begin, end))
            else:
                middle = begin + (end - begin) / 2
                uncut += [(middle, end), (begin, middle)]
        return slices

    @staticmethod
    def _progress(tell: Progress, expected: int, run: Run) -> None:
        tell(run.total, max(expected, len(run.exchange.by_id), run.total))

    async def _compare_slice(self, run: Run, tell: Callable[[Run], None]) -> None:
        """Our orders of one slice against the exchange's list of it, and what stands in that list alone."""
        async for batch in self._journal.scan_kept(run.begin, run.end):
            for kept in batch:
                if run.is_due(kept.created, kept.values["order_id"]) and not self._surely_matches(kept, run):
                    await self._check(kept.decode(), run)
            tell(run)
        unmet = {**run.late, **run.exchange.by_id}
        run.late = {}
        for exchange_order_id, seen in unmet.items():
            if exchange_order_id not in run.known and exchange_order_id not in run.known_before:
                await self._check_unmet(seen, run)

    async def _symbols(self, since: datetime, until: datetime) -> list[str]:
        """Every symbol that the journal knows, where the exchange needs to be asked for each."""
        symbols: dict[str, None] = {}
        if self._gateway.traits.list_scope is ListScope.SYMBOL:
            async for batch in self._journal.scan(since - MARGIN, until + MARGIN):
                symbols.update((order.symbol, None) for order in batch)
        return list(symbols)

    async def _fresh(self, order: Order) -> Order:
        """The newest record of an order."""
        return self._current(order.order_id) or await self._journal.get(order.order_id) or order

    def _current(self, order_id: str) -> Order | None:
        return None if self._repairs is None else self._repairs.current(order_id)

    def _surely_matches(self, kept: KeptOrder, run: Run) -> bool:
        """Count an order that plainly agrees, without making a record of it; whatever is not plain is checked."""
        values, listing = kept.values, run.exchange
        seen = listing.by_id.get(values.get("exchange_order_id") or "")
        if seen is None or not surely_equal(values, seen if seen.fills is not None else listing.with_fills(seen)):
            return False
        if self._current(values["order_id"]) is not None:
            return False  # what is in memory is newer
        run.total += 1
        run.matched += 1
        run.known.add(seen.exchange_order_id)
        return True

    # ---- one order of ours ------------------------------------------------------------------------------------

    async def _check(self, listed: Order, run: Run) -> None:
        order = self._current(listed.order_id) or listed
        if order.state.is_unresolved:
            order = await self._fresh(listed)
        run.total += 1
        seen = run.exchange.find(order)
        if seen is not None:
            run.known.add(seen.exchange_order_id)
        if order.state.is_unresolved or order.state is OrderState.PENDING:
            run.unresolved += 1
            run.in_flight[order.order_id] = order
            if self._repairs is not None:
                await self._repairs.resolve(order.order_id)
        elif (seen is None and order.exchange_order_id is None) or (
            seen is not None and not compare(order, run.exchange.with_fills(seen))
        ):
            run.matched += 1  # they agree, be it that nothing of it was ever at the exchange
        else:
            await self._look_again(order, run)

    async def _look_again(self, order: Order, run: Run) -> None:
        """Believe a difference only if both sides, read anew, still differ."""
        order = await self._fresh(order)
        for _ in range(LOOKS):
            if not self._may_look_up(run):
                break
            seen = await self._reader.look_up(order, run.exchange)
            before, order = order, await self._fresh(order)
            if seen is not None:
                run.known.add(seen.exchange_order_id)
                if not compare(order, seen):
                    run.matched += 1
                    return
            if order.version == before.version:
                await self._judge(order, seen, run)
                return
            # It changed while it was asked for: the answer may be older than our record.
        run.unresolved += 1

    def _may_look_up(self, run: Run) -> bool:
        run.lookups -= 1
        if run.lookups == -1:
            _logger.warning("more than %d orders would have to be looked up; the rest waits", self._max_lookups)
        return run.lookups >= 0

    async def _judge(self, order: Order, seen: ExchangeOrder | None, run: Run) -> None:
        """Both sides were read anew, and they differ."""
        now = self._clock.now()
        if order.state.is_unresolved:
            run.unresolved += 1  # whoever looks for it has not found it yet
        elif seen is not None and now - seen.updated_at < timedelta(seconds=self.catch_up_seconds):
            run.unresolved += 1
        elif seen is not None:
            run.mismatched += 1
            run.found(await self._repair(order, seen, compare(order, seen)))
        elif order.state.is_final and not order.filled:
            run.matched += 1  # exchanges forget such orders; on both sides nothing rests and nothing traded
        elif self._may_not_show_yet(order, run) or not self._can_deny():
            run.unresolved += 1
        else:
            run.missing += 1
            run.found(await self._mark_missing(order))

    def _may_not_show_yet(self, order: Order, run: Run) -> bool:
        """Whether the order changed so lately that lists and lookups may not show it."""
        settle = timedelta(seconds=self._gateway.traits.settle)
        looked = run.started if self._gateway.traits.lookup_scope is not LookupScope.ALL else self._clock.now()
        return order.updated_at + settle > looked

    def _can_deny(self) -> bool:
        """Whether the exchange's silence about an order in its lists and lookups means that it has none."""
        traits = self._gateway.traits
        return traits.lookup_scope is LookupScope.ALL or traits.lists_closed_orders

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
        differences: Differences = {"state": (order.state.value, None)}
        return Discrepancy(
            "missing", order.order_id, order.exchange_order_id, order.symbol, differences, repaired, action
        )

    # ---- one order of the exchange that was not met in the journal ---------------------------------------------

    async def _check_unmet(self, seen: ExchangeOrder, run: Run) -> None:
        """Of another slice, older than the period, or not ours."""
        if run.end < run.until and seen.created_at >= run.end - MARGIN:
            run.late[seen.exchange_order_id] = seen
            return
        ours = await self._journal.find_by_exchange_id(seen.exchange_order_id)
        if ours is None and seen.client_order_id is not None:
            ours = await self._journal.get(seen.client_order_id)
            if ours is not None and ours.exchange_order_id not in (None, seen.exchange_order_id):
                ours = None  # a second order under the same client id
        if ours is None:
            run.strangers[seen.exchange_order_id] = run.exchange.with_fills(seen)
        elif ours.order_id not in run.in_flight and run.is_due(to_micros(ours.created_at), ours.order_id):
            await self._check(ours, run)

    async def _check_stranger(self, seen: ExchangeOrder, run: Run) -> None:
        """In flight here, perhaps, or not ours."""
        if seen.client_order_id is None and any(alike(order, seen) for order in run.in_flight.values()):
            run.total += 1
            run.unresolved += 1  # it may be one of ours whose answer never came
        else:
            await self._take_in(seen, run)

    async def _take_in(self, seen: ExchangeOrder, run: Run) -> None:
        """Somebody else's order: adopted as the exchange has it now."""
        run.total += 1
        run.extra += 1
        action, repaired, order_id = None, False, seen.client_order_id
        if self._repairs is not None:
            ref = OrderRef(seen.client_order_id or "", seen.symbol, seen.exchange_order_id)
            now = await self._reader.query(ref) or seen
            if now.fills is None:
                now = replace(now, fills=seen.fills)  # its trades, as far as they were listed
            adopted = await self._repairs.adopt(now)
            order_id, repaired, action = adopted.order_id, True, "adopted as external"
        differences: Differences = {"state": (None, seen.state.value)}
        run.found(
            Discrepancy("extra", order_id, seen.exchange_order_id, seen.symbol, differences, repaired, action)
        )

    async def _check_balances(self, run: Run) -> None:
        if self._balance_check is None:
            return
        for currency, (expected, told) in (await self._balance_check()).items():
            differences: Differences = {currency: (plain_decimal(expected), plain_decimal(told))}
            run.found(
                Discrepancy("balance", None, None, None, differences, True, "took the exchange's balance over")
            )

    # ---- the report -------------------------------------------------------------------------------------------

    def _report(self, period: str, run: Run) -> ReconciliationReport:
        report = ReconciliationReport(
            period=period,
            since=run.since,
            until=run.started,
            started_at=run.started,
            finished_at=self._clock.now(),
            total_orders=run.total,
            matched_orders=run.matched,
            mismatched_orders=run.mismatched,
            missing_orders=run.missing,
            extra_orders=run.extra,
            unresolved_orders=run.unresolved,
            repaired=run.repaired,
            read_only=self._repairs is None,
            details=tuple(run.details),
        )
        return replace(report, alert_triggered=self.thresholds.exceeded_by(report))

    def _tell(self, report: ReconciliationReport) -> None:
        if self._metrics is not None:
            self._metrics.reconciled(report)
        if report.alert_triggered and self.alerts is not None:
            self.alerts.raise_alert(
                Level.ERROR,
                "reconciliation",
                f"reconciliation found {len(report.details)} discrepancies",
                f"{report.mismatched_orders} mismatched, {report.missing_orders} missing, "
                f"{report.extra_orders} extra of {report.total_orders} orders",
            )
