"""Journal against exchange: what differs is found, looked at again, repaired and verified."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import (
    ConfigurationError,
    ErrorCategory,
    ExchangeUnavailable,
    OrderState,
    OrderType,
    OrderUnresolved,
    Side,
    reconciliation_run,
)
from services.mcp.order_execution.gateways.base import (
    ExchangeOrder,
    Found,
    ListScope,
    LookupScope,
    NotFound,
    OrderRef,
    Unavailable,
)
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.models import Order, OrderRequest
from services.mcp.order_execution.reconciliation import AlertThresholds, Reconciler, since_of
from tests.fakes import BLIND, FOREVER, OPEN_ONLY, T0
from tests.worlds import ORDER, World, scenario


def test_an_unknown_period_is_refused() -> None:
    """It names the choices."""
    with pytest.raises(ConfigurationError, match="hourly, daily, weekly"):
        since_of("yearly", T0)


@scenario()
async def test_what_agrees_is_clean(w: World) -> None:
    """Placed, filled, canceled, rejected, never sent: everything is accounted for."""
    w.exchange.script.extend(["ok", "fill", "lost reply"])
    ids = [await w.bot.execute_order(ORDER) for _ in range(3)]
    await w.bot.cancel_order(ids[0])
    report = await w.bot.reconcile_orders()
    assert (report.total_orders, report.matched_orders, report.details) == (3, 3, ())
    assert report.is_clean
    assert not report.alert_triggered
    assert (await w.bot.get_execution_stats()).last_reconciliation_at == report.finished_at


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_a_mismatch_is_repaired_and_a_second_run_finds_nothing(w: World) -> None:
    """The exchange filled an order behind our back."""
    await w.stop_following()
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    report = await w.bot.reconcile_orders("hourly")
    assert (report.mismatched_orders, report.repaired, report.alert_triggered) == (1, 1, True)
    assert report.mismatch_percentage == 100.0
    assert report.details[0].differences["state"] == ("open", "filled")
    order = await w.bot.get_order_status(order_id)
    assert order.state is OrderState.FILLED
    assert "repaired" in await w.journalled(order_id)
    assert (await w.bot.reconcile_orders("hourly")).is_clean


@scenario()
async def test_an_extra_order_is_adopted_never_cancelled(w: World) -> None:
    """It is external in our journal, open at the exchange, and matched from then on."""
    await w.bot.open()
    w.exchange.place(OrderRequest("theirs", "BTC/USD", Side.SELL, OrderType.LIMIT, Decimal(1), Decimal(60_000)))
    report = await w.bot.reconcile_orders()
    assert (report.extra_orders, report.details[0].action) == (1, "adopted as external")
    assert (await w.bot.get_order_status("theirs")).external
    assert w.exchange.cancels == []
    assert (await w.bot.reconcile_orders()).is_clean


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_a_missing_order_becomes_unresolved_not_closed(w: World) -> None:
    """The exchange denies what it accepted: no verdict, an alert, and no resend."""
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    report = await w.bot.reconcile_orders()
    assert report.missing_orders == 1
    assert (await w.bot.get_order_status(order_id)).state is OrderState.UNKNOWN
    again = await w.bot.reconcile_orders()
    assert (again.unresolved_orders, again.is_clean) == (1, True)
    assert len(w.exchange.submits) == 1


@scenario()
async def test_orders_in_flight_are_neither_missing_nor_matched(w: World) -> None:
    """An order that is just being sent is no discrepancy."""
    await w.bot.open()
    w.exchange.script.append("hang")
    placing = asyncio.create_task(w.bot.execute_order(ORDER))
    await asyncio.sleep(1)
    report = await w.bot.reconcile_orders()
    assert (report.unresolved_orders, report.missing_orders, report.is_clean) == (1, 0, True)
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)


@scenario()
async def test_orders_placed_while_it_runs_are_no_discrepancy(w: World) -> None:
    """The lists are old by the time they are compared; a second look settles it."""
    await w.bot.open()
    w.exchange.latency = 0.2
    running = asyncio.create_task(w.bot.reconcile_orders())
    for _ in range(10):
        await w.bot.execute_order(ORDER)
    assert (await running).is_clean


@scenario()
async def test_no_report_is_made_of_silence(w: World) -> None:
    """An exchange that does not answer is an error, not a list of missing orders."""
    await w.bot.execute_order(ORDER)
    w.exchange.down = "503"
    with pytest.raises(ExchangeUnavailable):
        await w.bot.reconcile_orders()


@scenario(traits=replace(FOREVER, list_scope=ListScope.SYMBOL))
async def test_lists_by_symbol_are_asked_for_each_symbol(w: World) -> None:
    """Where the exchange lists one symbol at a time."""
    await w.bot.execute_order(ORDER)
    await w.bot.execute_order({**ORDER, "symbol": "ETH/USD", "price": "3000"})
    w.exchange.reads.clear()
    assert (await w.bot.reconcile_orders()).matched_orders == 2
    assert w.exchange.reads.count("closed_orders") == 2


@scenario(traits=replace(FOREVER, lists_closed_orders=False))
async def test_without_a_list_of_closed_orders_each_is_looked_up(w: World) -> None:
    """Slower, and just as sure."""
    w.exchange.script.append("fill")
    await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    assert (await w.bot.reconcile_orders()).is_clean


@scenario()
async def test_fills_that_the_exchange_lists_apart_are_compared(w: World) -> None:
    """Trades are laid to the orders they belong to."""
    w.exchange.carry_fills = False
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    await w.bot.reconcile_orders()
    assert (await w.bot.get_order_status(order_id)).fills_complete
    assert (await w.bot.reconcile_orders()).is_clean


@scenario()
async def test_a_balance_that_differs_is_told_once(w: World) -> None:
    """Expected by the fills, told by the exchange; from then on the told one holds."""
    await w.bot.open()
    await asyncio.sleep(1)
    w.exchange.free["USD"] += 7
    report = await w.bot.reconcile_orders()
    assert [(item.kind, list(item.differences)) for item in report.details] == [("balance", ["USD"])]
    assert (await w.bot.reconcile_orders()).is_clean


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_a_companion_only_reports(w: World) -> None:
    """Nothing is repaired beside the process that owns the journal."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    w.exchange.place(OrderRequest("theirs", "BTC/USD", Side.SELL, OrderType.LIMIT, Decimal(1), Decimal(60_000)))
    await w.journal.flush()
    companion = MemoryJournal(w.clock, store=w.store, read_only=True)
    await companion.open()
    told: list[tuple[int, int]] = []
    report = await Reconciler(companion, w.exchange, w.clock, repairs=None).run(
        "daily", progress=lambda done, total: told.append((done, total))
    )
    assert (report.mismatched_orders, report.extra_orders, report.repaired, report.read_only) == (1, 1, 0, True)
    assert w.on_disk(order_id).state is OrderState.OPEN
    assert told == [(1, 2), (2, 2)]


@scenario({"confirmation": {"poll_interval_seconds": 3600}})
async def test_thresholds_decide_about_the_alert(w: World) -> None:
    """One mismatch of one order is 100 %."""
    await w.stop_following()
    await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    report = await w.bot.reconcile_orders(thresholds=AlertThresholds(mismatch_percentage=100.0))
    assert (report.mismatched_orders, report.alert_triggered) == (1, False)


@scenario()
async def test_trades_that_are_not_told_are_silence_too(w: World) -> None:
    """Every list must answer."""
    await w.bot.open()

    async def silent(since: object, symbol: object = None) -> Unavailable:
        return Unavailable(ErrorCategory.TIMEOUT, "silence")

    w.exchange.trades = silent  # type: ignore[method-assign,assignment]
    with pytest.raises(ExchangeUnavailable):
        await w.bot.reconcile_orders()


async def companion(w: World, **options: Any) -> Reconciler:
    """A reconciler that only reads the bot's disk."""
    await w.journal.flush()
    journal = MemoryJournal(w.clock, store=w.store, read_only=True)
    await journal.open()
    return Reconciler(journal, w.exchange, w.clock, repairs=None, **options)


POLLED_HOURLY = {"confirmation": {"poll_interval_seconds": 3600}}


@scenario(POLLED_HOURLY)
async def test_what_the_owner_has_not_asked_for_yet_is_no_discrepancy(w: World) -> None:
    """A fill of a second ago is news, not an error; one of an hour ago should have been heard of."""
    await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    reconciler = await companion(w, catch_up_seconds=20)
    report = await reconciler.run()
    assert (report.unresolved_orders, report.is_clean) == (1, True)
    await asyncio.sleep(21)
    assert (await reconciler.run()).mismatched_orders == 1


@scenario(POLLED_HOURLY)
async def test_an_answer_that_is_older_than_our_record_is_not_believed(w: World) -> None:
    """The order ended while it was asked for: a stale "open" must not reopen it."""
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    query, asked = w.exchange.query, []

    async def slow(ref: OrderRef) -> Found | NotFound | Unavailable:
        w.exchange.hidden.clear()
        answer = await query(ref)
        if not asked:
            asked.append(ref)
            assert await w.bot.cancel_order(order_id)
        return answer

    w.exchange.hidden = {"X1"}
    w.exchange.query = slow  # type: ignore[method-assign]
    report = await w.bot.reconcile_orders()
    assert (report.matched_orders, report.is_clean, len(asked)) == (1, True, 1)
    assert (await w.bot.get_order_status(order_id)).state is OrderState.CANCELED


@scenario(POLLED_HOURLY)
async def test_an_order_that_keeps_changing_is_in_flight(w: World) -> None:
    """It is looked at a few times, then left to the next run."""
    order_id = await w.bot.execute_order({**ORDER, "amount": "1"})
    await asyncio.sleep(10)
    query = w.exchange.query

    async def trading(ref: OrderRef) -> Found | NotFound | Unavailable:
        answer = await query(ref)
        w.exchange.fill("X1", "0.1")
        w.bot._core.tracker.kick()  # type: ignore[union-attr]
        await asyncio.sleep(1)
        return answer

    assert w.bot._core is not None
    tracker = w.bot._core.tracker
    following = tracker.round

    async def miss_one_round() -> bool:
        tracker.round = following  # type: ignore[method-assign]
        return True

    tracker.round = miss_one_round  # type: ignore[method-assign]
    w.exchange.fill("X1", "0.1")
    w.exchange.query = trading  # type: ignore[method-assign]
    report = await w.bot.reconcile_orders()
    assert (report.unresolved_orders, report.is_clean) == (1, True)
    assert (await w.bot.get_order_status(order_id)).filled == Decimal("0.4")


@scenario()
async def test_a_canceled_order_that_the_exchange_forgot_is_no_discrepancy(w: World) -> None:
    """Nothing rests and nothing traded, on both sides."""
    order_id = await w.bot.execute_order(ORDER)
    await w.bot.cancel_order(order_id)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    report = await w.bot.reconcile_orders()
    assert (report.matched_orders, report.is_clean) == (1, True)


@scenario()
async def test_a_filled_order_that_the_exchange_denies_is_missing_and_stays_filled(w: World) -> None:
    """Its fills were told by the exchange itself; a human has to look."""
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    report = await w.bot.reconcile_orders()
    assert (report.missing_orders, report.repaired, report.alert_triggered) == (1, 0, True)
    assert report.details[0].action == "kept as it was closed"
    assert report.details[0].to_dict()["differences"] == {"state": ["filled", None]}
    assert (await w.bot.get_order_status(order_id)).state is OrderState.FILLED


@scenario(POLLED_HOURLY)
async def test_an_order_that_changed_a_moment_ago_is_not_missing(w: World) -> None:
    """Lookups need their settle time."""
    await w.bot.execute_order(ORDER)
    w.exchange.hidden = {"X1"}
    report = await (await companion(w)).run()
    assert (report.unresolved_orders, report.missing_orders) == (1, 0)


@scenario(POLLED_HOURLY, traits=replace(FOREVER, lookup_scope=LookupScope.OPEN_ORDERS, lists_closed_orders=False))
async def test_where_the_exchange_cannot_deny_an_order_none_is_missing(w: World) -> None:
    """It finds only open orders: silence is no verdict."""
    await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    report = await w.bot.reconcile_orders()
    assert (report.unresolved_orders, report.missing_orders, report.is_clean) == (1, 0, True)


@scenario(POLLED_HOURLY, traits=OPEN_ONLY)
async def test_where_only_open_orders_are_looked_up_lists_tell_what_is_missing(w: World) -> None:
    """Neither open nor among all that closed since it was made."""
    await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    assert (await w.bot.reconcile_orders()).missing_orders == 1


@scenario(POLLED_HOURLY, traits=BLIND)
async def test_a_listed_order_without_a_client_id_may_be_one_that_is_in_flight(w: World) -> None:
    """Adopting it as somebody else's would count it twice; an order on other terms is somebody else's."""
    w.exchange.script.append("lost reply")
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order({**ORDER, "deadline_seconds": 5})
    w.exchange.place(OrderRequest("", "BTC/USD", Side.SELL, OrderType.LIMIT, Decimal(1), Decimal(60_000)))
    report = await (await companion(w)).run()
    assert (report.total_orders, report.unresolved_orders, report.extra_orders) == (3, 2, 1)
    assert [item.exchange_order_id for item in report.details] == ["X2"]


@scenario()
async def test_a_second_order_under_one_client_id_is_extra(w: World) -> None:
    """The doubled order that must never be: it is found, and adopted under an id of its own."""
    order_id = await w.bot.execute_order(ORDER)
    placed = w.exchange.orders["X1"]
    w.exchange.orders["X2"] = replace(placed, exchange_order_id="X2")
    report = await w.bot.reconcile_orders()
    assert (report.matched_orders, report.extra_orders) == (1, 1)
    assert report.details[0].order_id == "external-X2"
    assert (await w.bot.get_order_status(order_id)).exchange_order_id == "X1"
    again = await w.bot.reconcile_orders()
    assert (again.matched_orders, again.is_clean) == (2, True)


@scenario(POLLED_HOURLY, traits=replace(FOREVER, request_expiry=None, settle=3600))
async def test_an_order_in_flight_is_counted_once(w: World) -> None:
    """Also when the exchange lists two orders under its id."""
    w.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order({**ORDER, "client_order_id": "mine", "deadline_seconds": 5})
    request = OrderRequest("mine", "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal("0.1"), Decimal(50_000))
    w.exchange.place(request)
    w.exchange.place(request)
    report = await (await companion(w)).run()
    assert (report.total_orders, report.unresolved_orders, report.extra_orders) == (1, 1, 0)


@scenario()
async def test_an_extra_order_is_adopted_as_it_is_now(w: World) -> None:
    """The list is old by the time it is adopted from; one that cannot be looked up is adopted as listed."""
    await w.bot.open()
    await asyncio.sleep(1)
    request = OrderRequest("theirs", "BTC/USD", Side.SELL, OrderType.LIMIT, Decimal(1), Decimal(60_000))
    w.exchange.place(request)
    w.exchange.place(replace(request, client_order_id="others"))
    query = w.exchange.query

    async def later(ref: OrderRef) -> Found | NotFound | Unavailable:
        if ref.exchange_order_id != "X1":
            return NotFound()
        w.exchange.fill("X1", "1")
        return await query(ref)

    w.exchange.query = later  # type: ignore[method-assign]
    report = await w.bot.reconcile_orders()
    w.exchange.query = query  # type: ignore[method-assign]
    assert report.extra_orders == 2
    assert (await w.bot.get_order_status("theirs")).state is OrderState.FILLED
    assert (await w.bot.get_order_status("others")).state is OrderState.OPEN


@scenario()
async def test_an_older_order_that_closed_within_the_period_is_matched(w: World) -> None:
    """The exchange lists it; the journal has it, before the period."""
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(7200)
    await w.bot.cancel_order(order_id)
    report = await w.bot.reconcile_orders("hourly")
    assert (report.total_orders, report.matched_orders, report.is_clean) == (1, 1, True)


@scenario(POLLED_HOURLY)
async def test_lookups_are_bounded(w: World) -> None:
    """What goes beyond the bound is left to a later run, and no verdict is made of it."""
    for _ in range(3):
        await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1", "X2", "X3"}
    w.exchange.reads.clear()
    report = await (await companion(w, max_lookups=1)).run()
    assert (report.missing_orders, report.unresolved_orders) == (1, 2)
    assert w.exchange.reads.count("query") == 1


def test_details_are_bounded_and_counts_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of a bad day stays readable."""
    monkeypatch.setattr(reconciliation_run, "MAX_DETAILS", 2)

    @scenario(POLLED_HOURLY)
    async def play(w: World) -> None:
        await w.stop_following()
        for number in range(1, 4):
            await w.bot.execute_order(ORDER)
            w.exchange.fill(f"X{number}", "0.1")
        report = await w.bot.reconcile_orders()
        assert (report.mismatched_orders, report.repaired, len(report.details)) == (3, 3, 2)

    play()


@scenario(POLLED_HOURLY)
async def test_a_repair_that_does_not_hold_is_told(w: World) -> None:
    """A fill that the exchange no longer has cannot be taken back; the report says what is left."""
    await w.bot.execute_order({**ORDER, "amount": "1"})
    w.exchange.fill("X1", "0.5")
    await w.bot.reconcile_orders()
    w.exchange.orders["X1"] = replace(w.exchange.orders["X1"], filled=Decimal(0), fills=(), state=OrderState.OPEN)
    report = await w.bot.reconcile_orders()
    assert (report.mismatched_orders, report.repaired) == (1, 0)
    assert report.details[0].action == "still differs in filled"


@scenario(POLLED_HOURLY)
async def test_fills_that_we_lack_are_told_as_such(w: World) -> None:
    """The amounts agree, the trades do not."""
    await w.stop_following()
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.1")
    fills, w.exchange.orders["X1"] = w.exchange.orders["X1"].fills, replace(w.exchange.orders["X1"], fills=None)
    w.exchange.traits = replace(FOREVER, lists_trades=False)
    assert (await w.bot.reconcile_orders()).mismatched_orders == 1
    w.exchange.orders["X1"] = replace(w.exchange.orders["X1"], fills=fills)
    report = await w.bot.reconcile_orders()
    assert (report.details[0].kind, report.details[0].repaired, report.mismatched_orders) == ("fills", True, 1)
    assert (await w.bot.get_order_status(order_id)).fills == fills


@scenario()
async def test_progress_comes_to_its_end(w: World) -> None:
    """(done, expected), the last one complete."""
    await w.bot.open()
    told: list[tuple[int, int]] = []
    await w.bot.reconcile_orders(progress=lambda done, expected: told.append((done, expected)))
    assert told[-1] == (0, 0)
    for _ in range(3):
        await w.bot.execute_order(ORDER)
    await w.bot.reconcile_orders(progress=lambda done, expected: told.append((done, expected)))
    assert told[-1] == (3, 3)
    assert all(done <= expected for done, expected in told)


class Owner:
    """Whoever owns the records: the order turns out to be unresolved while it is asked for."""

    def __init__(self, first: Order) -> None:
        unknown = replace(first, state=OrderState.UNKNOWN, version=first.version + 1)
        self.records = [first, first, unknown, unknown]
        self.touched: list[str] = []

    def current(self, order_id: str) -> Order | None:
        return self.records.pop(0)

    async def repair(self, order_id: str, seen: ExchangeOrder, reason: str) -> Order:
        raise AssertionError(order_id)

    async def mark_missing(self, order_id: str, reason: str) -> Order:
        raise AssertionError(order_id)

    async def adopt(self, seen: ExchangeOrder) -> Order:
        raise AssertionError(seen)

    async def resolve(self, order_id: str) -> None:
        self.touched.append(order_id)


@scenario(POLLED_HOURLY)
async def test_an_order_that_becomes_unresolved_meanwhile_is_left_to_its_resolver(w: World) -> None:
    """Two repairs of one order would be one too many."""
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    await asyncio.sleep(10)
    w.exchange.hidden = {"X1"}
    owner = Owner(order)
    report = await Reconciler(w.journal, w.exchange, w.clock, repairs=owner).run()
    assert (report.unresolved_orders, report.missing_orders, owner.records) == (1, 0, [])
