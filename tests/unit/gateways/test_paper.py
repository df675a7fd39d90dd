"""The paper gateway: what each fault looks like from here, and what the exchange's own book says about it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.errors import ConfigurationError, ErrorCategory, ExchangeUnavailable, InvalidOrder
from services.mcp.order_execution.gateways import paper as module
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balances,
    Found,
    IdScope,
    LookupScope,
    Market,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Ticker,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.gateways.paper import PaperGateway
from services.mcp.order_execution.models import OrderRequest, OrderState, OrderType, Side, TimeInForce
from services.mcp.order_execution.paper_exchange.settings import (
    PaperFaults,
    PaperOutage,
    PaperRateLimits,
    PaperSettings,
)
from tests.virtual_time import VirtualClock, run_virtual

BTC = "BTC/USD"
D = Decimal


def order(client_id: str = "one", **changes: Any) -> OrderRequest:
    fields: dict[str, Any] = {
        "client_order_id": client_id,
        "symbol": BTC,
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "amount": D("0.01"),
        "price": D(50_000),
    }
    return OrderRequest(**{**fields, **changes})


REF = OrderRef("one", BTC)


@dataclass
class Stage:
    """An open gateway in virtual time."""

    gateway: PaperGateway
    clock: VirtualClock

    def book(self) -> list[str]:
        return [report.order.client_order_id for report in self.gateway.exchange.all_orders()]

    def state(self) -> OrderState:
        return self.gateway.exchange.all_orders()[0].order.state


def play(act: Callable[[Stage], Awaitable[None]], *, timeout: float = 15.0, seed: int = 1, **settings: Any) -> None:
    """Run a test against a gateway on an exchange in memory."""

    async def main() -> None:
        clock = VirtualClock()
        given = PaperSettings(**{"path": Path(":memory:"), **settings})
        gateway = PaperGateway(given, clock, random.Random(seed), timeout_seconds=timeout)
        await gateway.open()
        try:
            await act(Stage(gateway, clock))
        finally:
            await gateway.close()

    run_virtual(main)


READS: dict[str, Callable[[PaperGateway, VirtualClock], Awaitable[object]]] = {
    "market": lambda gateway, _: gateway.market(BTC),
    "query": lambda gateway, _: gateway.query(REF),
    "open_orders": lambda gateway, _: gateway.open_orders(),
    "closed_orders": lambda gateway, clock: gateway.closed_orders(clock.now(), clock.now()),
    "trades": lambda gateway, clock: gateway.trades(clock.now()),
    "balances": lambda gateway, _: gateway.balances(),
    "ticker": lambda gateway, _: gateway.ticker(BTC),
    "ping": lambda gateway, _: gateway.ping(),
}


# ---- traits and settings ----------------------------------------------------------------------------------


def test_the_traits_say_what_the_settings_make_of_the_exchange() -> None:
    """Ids forever and findable by default; everything can be resolved."""

    def traits(settings: PaperSettings, **overrides: Any) -> Any:
        return PaperGateway(settings, VirtualClock(), random.Random(1), **overrides).traits

    default = run_virtual(lambda: _returned(lambda: traits(PaperSettings())))
    assert (default.client_id_scope, default.lookup_scope) == (IdScope.FOREVER, LookupScope.ALL)
    assert (default.request_expiry, default.settle, default.can_resolve) == (2.0, 0.25, True)
    assert default.order_types == frozenset(OrderType)
    assert default.times_in_force == frozenset(TimeInForce)
    assert default.post_only
    assert default.cancels_by_client_id
    assert default.order_requests_per_second is None
    harsh = PaperSettings(
        client_ids="open",
        lookup="none",
        request_expiry_seconds=None,
        settle_seconds=4,
        rate_limits=PaperRateLimits(order_requests_per_second=5, burst=2),
    )
    other = run_virtual(lambda: _returned(lambda: traits(harsh, settle_seconds=7.0)))
    assert (other.client_id_scope, other.lookup_scope) == (IdScope.OPEN_ORDERS, LookupScope.NONE)
    assert (other.request_expiry, other.settle, other.cancels_by_client_id) == (None, 7.0, False)
    assert (other.order_requests_per_second, other.burst) == (5.0, 2)
    overridden = run_virtual(lambda: _returned(lambda: traits(PaperSettings(), request_expiry_seconds=9.0)))
    assert overridden.request_expiry == 9.0


async def _returned(make: Callable[[], Any]) -> Any:
    return make()


def test_an_overridden_expiry_is_the_one_that_is_sent() -> None:
    """The exchange drops by what the gateway stamps on the request."""

    async def main() -> None:
        settings = PaperSettings(path=Path(":memory:"), faults=PaperFaults(latency_seconds=(6.0, 6.0)))
        for expiry, answer in ((2.9, Rejected("request_expired")), (3.1, None)):
            gateway = PaperGateway(settings, VirtualClock(), random.Random(1), request_expiry_seconds=expiry)
            await gateway.open()
            outcome = await gateway.submit(order())
            assert outcome == answer or (answer is None and isinstance(outcome, Accepted))
            await gateway.close()

    run_virtual(main)


# ---- a good day -------------------------------------------------------------------------------------------


def test_an_accepted_order_comes_with_its_trades() -> None:
    """State, fills, fees and average price, each as the exchange has it."""

    async def act(stage: Stage) -> None:
        outcome = await stage.gateway.submit(order(type=OrderType.MARKET, price=None, amount=D(1)))
        assert isinstance(outcome, Accepted)
        placed = outcome.order
        assert placed is not None
        assert placed.fills is not None
        assert (placed.state, placed.filled, outcome.exchange_order_id) == (OrderState.FILLED, 1, "1")
        assert len(placed.fills) > 1
        assert sum(fill.amount for fill in placed.fills) == 1
        assert placed.average_price == sum(fill.amount * fill.price for fill in placed.fills)
        assert placed.fees == {"BTC": sum(fill.fee for fill in placed.fills)}
        assert await stage.gateway.query(REF) == Found(placed)
        trades = await stage.gateway.trades(stage.clock.now())
        assert isinstance(trades, TradeList)
        assert [trade.fill for trade in trades.trades] == list(placed.fills)
        assert {(trade.client_order_id, trade.exchange_order_id) for trade in trades.trades} == {("one", "1")}

    play(act)


def test_a_resting_order_is_found_listed_and_canceled() -> None:
    """By either id."""

    async def act(stage: Stage) -> None:
        gateway = stage.gateway
        outcome = await gateway.submit(order(post_only=True))
        assert isinstance(outcome, Accepted)
        assert outcome.order is not None
        assert outcome.order.fills == ()
        assert outcome.order.average_price is None
        assert await gateway.open_orders() == OrderList((outcome.order,))
        assert await gateway.query(OrderRef("", BTC, exchange_order_id="1")) == Found(outcome.order)
        assert await gateway.query(OrderRef("nobody", BTC)) == NotFound()
        canceled = await gateway.cancel(REF)
        assert isinstance(canceled, Accepted)
        assert canceled.order is not None
        assert canceled.order.state is OrderState.CANCELED
        closed = await gateway.closed_orders(stage.clock.now() - timedelta(seconds=1), stage.clock.now())
        assert closed == OrderList((canceled.order,))
        assert await gateway.cancel(REF) == Rejected("not_open")
        assert await gateway.cancel(OrderRef("nobody", BTC)) == Rejected("order_not_found")

    play(act)


def test_refusals_carry_their_code() -> None:
    """A duplicate says so."""

    async def act(stage: Stage) -> None:
        submit = stage.gateway.submit
        assert await submit(order(symbol="btc/usd")) == Rejected("unknown_symbol")
        assert await submit(order(amount=D("0.00001"))) == Rejected("min_notional")
        assert await submit(order(amount=D(1000))) == Rejected("insufficient_funds")
        assert isinstance(await submit(order()), Accepted)
        assert await submit(order()) == Rejected("duplicate_client_order_id", duplicate_id=True)
        assert stage.book() == ["one"]

    play(act)


def test_facts_about_the_market_and_the_account() -> None:
    """Rules are asked for once; what is no symbol is the caller's mistake."""

    async def act(stage: Stage) -> None:
        gateway = stage.gateway
        market, ticker = await gateway.market(BTC), await gateway.ticker(BTC)
        assert isinstance(market, Market)
        assert isinstance(ticker, Ticker)
        assert (market.base, market.quote, market.price_tick) == ("BTC", "USD", D("0.01"))
        assert ticker.bid < ticker.last < ticker.ask
        balances = await gateway.balances()
        assert isinstance(balances, Balances)
        assert balances.currencies["USD"].free == 1_000_000
        assert await gateway.ping() is None
        for ask in (gateway.market, gateway.ticker):
            with pytest.raises(InvalidOrder, match="BASE/QUOTE in capitals"):
                await ask("btc/usd")
        gateway.set_faults(PaperFaults(refused_connection=1))
        assert await gateway.market(BTC) == market
        assert isinstance(await gateway.market("ETH/USD"), Unavailable)

    play(act)


# ---- each fault -------------------------------------------------------------------------------------------


def test_a_refused_connection_provably_sends_nothing() -> None:
    """NotSent for a write, Unavailable for a read, and the book stays empty."""

    async def act(stage: Stage) -> None:
        refused = NotSent(ErrorCategory.CONNECTION, "connection refused")
        assert await stage.gateway.submit(order()) == refused
        assert await stage.gateway.cancel(REF) == refused
        assert stage.book() == []

    play(act, faults=PaperFaults(refused_connection=1))


def test_a_429_provably_sends_nothing_and_says_how_long_to_wait() -> None:
    """The wait is what the settings say."""

    async def act(stage: Stage) -> None:
        outcome = await stage.gateway.submit(order())
        assert isinstance(outcome, NotSent)
        assert (outcome.category, outcome.retry_after) == (ErrorCategory.RATE_LIMITED, 7.0)
        read = await stage.gateway.query(REF)
        assert isinstance(read, Unavailable)
        assert (read.category, read.retry_after) == (ErrorCategory.RATE_LIMITED, 7.0)
        assert stage.book() == []

    play(act, faults=PaperFaults(rate_limited=1, retry_after_seconds=7))


@pytest.mark.parametrize(("fault", "booked"), [("lost_request", []), ("lost_reply", ["one"])])
def test_silence_is_unknown_whether_or_not_the_order_is_there(fault: str, booked: list[str]) -> None:
    """The caller waits until its connection breaks, and cannot tell the one from the other."""

    async def act(stage: Stage) -> None:
        begin = stage.clock.monotonic()
        outcome = await stage.gateway.submit(order())
        assert outcome == Unknown(ErrorCategory.RESET, "the connection broke before an answer came")
        assert stage.clock.monotonic() - begin == pytest.approx(0.3)
        assert stage.book() == booked

    play(act, faults=PaperFaults.model_validate({fault: 1}))


def test_an_answer_that_cannot_be_understood_is_unknown() -> None:
    """The order is there all the same."""

    async def act(stage: Stage) -> None:
        outcome = await stage.gateway.submit(order())
        assert outcome == Unknown(ErrorCategory.BAD_RESPONSE, "the answer was cut short")
        assert stage.book() == ["one"]

    play(act, faults=PaperFaults(garbled_reply=1))


@pytest.mark.parametrize(
    ("fault", "state"), [("lost_request", OrderState.OPEN), ("lost_reply", OrderState.CANCELED)]
)
def test_a_cancel_that_meets_silence_is_unknown_too(fault: str, state: OrderState) -> None:
    """It may or may not have been carried out."""

    async def act(stage: Stage) -> None:
        await stage.gateway.submit(order())
        stage.gateway.set_faults(PaperFaults.model_validate({fault: 1}))
        assert isinstance(await stage.gateway.cancel(REF), Unknown)
        assert stage.state() is state

    play(act)


def test_silence_may_last_until_the_timeout() -> None:
    """Without a time at which the connection breaks, the gateway gives up by itself."""

    async def act(stage: Stage) -> None:
        begin = stage.clock.monotonic()
        assert await stage.gateway.submit(order()) == Unknown(ErrorCategory.TIMEOUT, "no answer within 4 s")
        assert stage.clock.monotonic() - begin == pytest.approx(4)
        assert await stage.gateway.ping() == Unavailable(ErrorCategory.TIMEOUT, "no answer within 4 s")
        assert stage.clock.monotonic() - begin == pytest.approx(8)
        assert stage.book() == ["one"]

    play(act, timeout=4.0, faults=PaperFaults(lost_reply=1, hang_seconds=None))


def test_an_answer_that_takes_longer_than_the_timeout_is_no_answer() -> None:
    """Slow on the way there, nothing was placed; slow on the way back, it was."""

    async def act(stage: Stage) -> None:
        assert isinstance(await stage.gateway.submit(order()), Unknown)
        assert stage.book() == ["one"]
        assert isinstance(await stage.gateway.open_orders(), Unavailable)

    play(act, timeout=1.0, faults=PaperFaults(latency_seconds=(1.8, 1.8)))


def test_a_server_error_is_carried_out_or_not() -> None:
    """Unknown either way; over many orders both happen."""

    async def act(stage: Stage) -> None:
        for number in range(40):
            outcome = await stage.gateway.submit(order(f"c{number}"))
            assert outcome == Unknown(ErrorCategory.SERVER_ERROR, "502: bad gateway")
        assert 5 < len(stage.book()) < 35
        read = await stage.gateway.open_orders()
        assert read == Unavailable(ErrorCategory.SERVER_ERROR, "502: bad gateway")

    play(act, faults=PaperFaults(server_error=1))


def test_a_late_request_arrives_after_its_caller_gave_up() -> None:
    """Unknown first, not there at first, and there later."""

    async def act(stage: Stage) -> None:
        assert isinstance(await stage.gateway.submit(order()), Unknown)
        stage.gateway.set_faults(PaperFaults())
        seen = [await stage.gateway.query(REF)]
        for _ in range(20):
            await asyncio.sleep(0.1)
            seen.append(await stage.gateway.query(REF))
        assert seen[0] == NotFound()
        assert isinstance(seen[-1], Found)
        assert stage.book() == ["one"]

    play(act, seed=3, faults=PaperFaults(late_arrival=1, late_seconds_max=1.9, hang_seconds=0.01))


def test_late_requests_are_booked_within_the_expiry_or_never() -> None:
    """After expiry and settle time nothing that was missing turns up any more."""

    async def act(stage: Stage) -> None:
        for number in range(60):
            await stage.gateway.submit(order(f"c{number}"))
        traits = stage.gateway.traits
        await asyncio.sleep(traits.unresolvable_for)
        there = stage.book()
        await asyncio.sleep(600)
        assert stage.book() == there
        assert 0 < len(there) < 60

    play(act, faults=PaperFaults(late_arrival=1, late_seconds_max=6, hang_seconds=0))


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(
    ("fault", "category"),
    [
        ("refused_connection", ErrorCategory.CONNECTION),
        ("rate_limited", ErrorCategory.RATE_LIMITED),
        ("lost_request", ErrorCategory.RESET),
        ("lost_reply", ErrorCategory.RESET),
        ("late_arrival", ErrorCategory.RESET),
        ("server_error", ErrorCategory.SERVER_ERROR),
        ("garbled_reply", ErrorCategory.BAD_RESPONSE),
    ],
)
def test_a_read_that_meets_a_fault_is_unavailable(name: str, fault: str, category: ErrorCategory) -> None:
    """Never NotFound, never an empty list, never an exception."""

    async def act(stage: Stage) -> None:
        answer = await READS[name](stage.gateway, stage.clock)
        assert isinstance(answer, Unavailable)
        assert answer.category is category

    play(act, faults=PaperFaults.model_validate({fault: 1}))


@pytest.mark.parametrize("name", READS)
def test_reads_beyond_the_rate_limit_are_unavailable(name: str) -> None:
    """With the time after which they would be answered."""

    async def act(stage: Stage) -> None:
        await stage.gateway.ping()
        answer = await READS[name](stage.gateway, stage.clock)
        assert isinstance(answer, Unavailable)
        assert answer.category is ErrorCategory.RATE_LIMITED
        assert answer.retry_after == pytest.approx(2.0)

    play(act, rate_limits=PaperRateLimits(read_requests_per_second=0.5, burst=1))


def test_orders_beyond_the_rate_limit_are_not_sent() -> None:
    """The exchange's own limit, not a fault."""

    async def act(stage: Stage) -> None:
        assert isinstance(await stage.gateway.submit(order()), Accepted)
        outcome = await stage.gateway.submit(order("two"))
        assert isinstance(outcome, NotSent)
        assert outcome.retry_after == pytest.approx(2.0)
        assert stage.book() == ["one"]

    play(act, rate_limits=PaperRateLimits(order_requests_per_second=0.5, burst=1))


def test_outages_begin_and_end() -> None:
    """Counted from the opening, or from when the weather was changed."""

    async def act(stage: Stage) -> None:
        seen = []
        for number in range(6):
            seen.append(type(await stage.gateway.submit(order(f"c{number}"))))
            await asyncio.sleep(1)
        assert seen == [Accepted, Accepted, NotSent, NotSent, Accepted, Accepted]
        again = PaperOutage(after_seconds=0, for_seconds=60, kind="server_error")
        stage.gateway.set_faults(PaperFaults(outages=(again,)))
        assert isinstance(await stage.gateway.submit(order("last")), Unknown)
        assert "last" not in stage.book()

    play(act, faults=PaperFaults(outages=(PaperOutage(after_seconds=1.5, for_seconds=2),)))


def test_new_orders_may_be_hidden_for_a_while() -> None:
    """No longer than the settle time that the traits promise."""

    async def act(stage: Stage) -> None:
        gateway = stage.gateway
        assert isinstance(await gateway.submit(order()), Accepted)
        assert await gateway.query(REF) == NotFound()
        assert await gateway.open_orders() == OrderList(())
        await asyncio.sleep(gateway.traits.settle)
        assert isinstance(await gateway.query(REF), Found)
        with pytest.raises(ValueError, match="lookup_lag_seconds"):
            gateway.set_faults(PaperFaults(lookup_lag_seconds=1))

    play(act, faults=PaperFaults(lookup_lag_seconds=0.2))


# ---- cancellation and failures ----------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "booked"), [(0.1, []), (0.7, ["one"])])
def test_a_cancelled_task_has_placed_the_order_or_not(after: float, booked: list[str]) -> None:
    """Cancelled on the way there nothing is placed, on the way back it is; the cancellation passes through."""

    async def act(stage: Stage) -> None:
        task = asyncio.ensure_future(stage.gateway.submit(order()))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(10)
        assert stage.book() == booked

    play(act, faults=PaperFaults(latency_seconds=(1.0, 1.0)))


def test_a_failing_file_is_an_exchange_that_does_not_answer() -> None:
    """Unknown for a write, Unavailable for a read."""

    async def act(stage: Stage) -> None:
        await stage.gateway.close()
        await stage.gateway.close()
        outcome, read = await stage.gateway.submit(order()), await stage.gateway.ping()
        assert isinstance(outcome, Unknown)
        assert isinstance(read, Unavailable)
        assert outcome.category is read.category is ErrorCategory.SERVER_ERROR

    play(act)


def test_opening_waits_for_a_busy_file_and_then_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process makes the file; for a bounded time."""
    monkeypatch.setattr("services.mcp.order_execution.paper_exchange.schema.BUSY_SECONDS", 0.0)
    path = tmp_path / "paper.db"

    async def main() -> None:
        gateway = PaperGateway(PaperSettings(path=path), VirtualClock(), random.Random(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(ExchangeUnavailable, match="busy"):
                await gateway.open()
            task = asyncio.ensure_future(gateway.open())
            await asyncio.sleep(module.OPEN_PAUSE_SECONDS * 2.5)
            assert not task.done()
            other.execute("ROLLBACK")
            await task
        assert await gateway.ping() is None
        await gateway.close()

    run_virtual(main)


def test_a_file_that_is_not_ours_is_a_wrong_setting(tmp_path: Path) -> None:
    """Told at once."""
    path = tmp_path / "notes"
    path.write_text("something else entirely, " * 50)

    async def main() -> None:
        gateway = PaperGateway(PaperSettings(path=path), VirtualClock(), random.Random(1))
        with pytest.raises(ConfigurationError, match=r"gateway\.paper\.path"):
            await gateway.open()
        await gateway.close()

    run_virtual(main)


def test_a_market_in_which_time_passes_fills_a_resting_order() -> None:
    """Seen through the gateway: open, then filled by the market alone."""

    async def act(stage: Stage) -> None:
        outcome = await stage.gateway.submit(order(price=D(64_900), amount=D("0.1")))
        assert isinstance(outcome, Accepted)
        for _ in range(2000):
            await asyncio.sleep(5)
            found = await stage.gateway.query(REF)
            assert isinstance(found, Found)
            if found.order.state.is_final:
                break
        assert found.order.state is OrderState.FILLED
        assert found.order.average_price == 64_900

    play(act)
