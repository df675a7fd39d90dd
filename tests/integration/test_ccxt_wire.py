"""What the ccxt gateway puts on the wire, and what it reads from lists that are long, old or half filled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import Accepted, Found, OrderList, Rejected, TradeList
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.models import OrderState, OrderType, Side
from tests.ccxt_venues.book import Order, Status
from tests.ccxt_venues.faults import Fate, Faults
from tests.ccxt_venues.server import DIALECTS, Venue
from tests.contract.gateways.ccxt_bench import CcxtBench

DAY = timedelta(days=1)
AMOUNTS = {"binance": "quantity", "kraken": "volume", "bybit": "qty", "okx": "sz"}
PRICES = {"binance": "price", "kraken": "price", "bybit": "price", "okx": "px"}


@pytest.fixture(params=list(DIALECTS))
def exchange(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def bench_on(exchange: str) -> AsyncIterator[CcxtBench]:
    async with Venue(exchange) as venue:
        bench = CcxtBench(venue)
        await bench.gateway.open()
        try:
            yield bench
        finally:
            await bench.gateway.close()


def booked(venue: Venue, number: int, *, closed: bool = True, ago: float = 0.0) -> list[Order]:
    """Orders of the account that the gateway did not place, made so many seconds ago."""
    venue.clock.ahead = -ago
    orders = []
    for index in range(number):
        order = venue.book.place(
            venue.symbol,
            client_id=f"other{len(venue.book.orders)}",
            buys=True,
            amount=Decimal("0.001"),
            price=Decimal(45000),
        )
        if closed and index % 2:
            venue.book.cancel(order)
        elif closed:
            venue.book.fill(order)
        orders.append(order)
    venue.clock.ahead = 0.0
    return orders


async def test_numbers_leave_exactly_as_they_were_asked_for(exchange: str) -> None:
    """No float on the way: neither the amount nor the price loses or gains a digit."""
    async with bench_on(exchange) as bench:
        market = await bench.market()
        amount, price = market.amount_step * 1_234_567, market.price_tick * 450_001 * 7
        if exchange in ("kraken", "okx"):
            price = market.price_tick * 450_001
        outcome = await bench.gateway.submit(await bench.order(amount=amount, price=price))
        assert isinstance(outcome, (Accepted, Rejected))
        (sent,) = bench.venue.asked("create")
        assert Decimal(sent.params[AMOUNTS[exchange]]) == amount
        assert Decimal(sent.params[PRICES[exchange]]) == price
        assert "e" not in sent.params[AMOUNTS[exchange]].lower()


async def test_more_digits_than_the_market_has_are_refused_here(exchange: str) -> None:
    """What would have to be rounded is not sent."""
    async with bench_on(exchange) as bench:
        market, request = await bench.market(), await bench.order()
        amount, price = request.amount + market.amount_step / 10, Decimal(45000) + market.price_tick / 10
        for finer in (await bench.order(amount=amount), await bench.order(price=price)):
            assert isinstance(await bench.gateway.submit(finer), Rejected)
        assert bench.venue.asked("create") == []


async def test_a_long_list_is_walked_to_its_end(exchange: str) -> None:
    """Several pages of closed orders and of trades, each row once."""
    async with bench_on(exchange) as bench:
        number = 1100 if exchange == "binance" else 130
        orders = booked(bench.venue, number)
        now = bench.clock.now()
        closed = await bench.gateway.closed_orders(now - DAY / 2, now + DAY / 2, bench.symbol)
        assert isinstance(closed, OrderList), closed
        assert sorted(str(item.client_order_id) for item in closed.orders) == sorted(
            str(order.client_id) for order in orders
        )
        trades = await bench.gateway.trades(now - DAY / 2, bench.symbol)
        assert isinstance(trades, TradeList), trades
        assert len({trade.fill.trade_id for trade in trades.trades}) == len(trades.trades) == number // 2
        assert sum(trade.fill.amount for trade in trades.trades) == Decimal("0.001") * (number // 2)


async def test_more_open_orders_than_fit_on_a_page_are_all_listed(exchange: str) -> None:
    """None slips between two pages."""
    async with bench_on(exchange) as bench:
        booked(bench.venue, 130, closed=False)
        listed = await bench.gateway.open_orders(bench.symbol)
        assert isinstance(listed, OrderList), listed
        assert len({order.exchange_order_id for order in listed.orders}) == len(listed.orders) == 130


async def test_a_period_longer_than_one_request_may_cover_is_asked_for_in_parts(exchange: str) -> None:
    """Orders of some days ago are listed with those of today."""
    async with bench_on(exchange) as bench:
        steps = [3.5 * 86_400, 1.5 * 86_400, 0.0]
        names = [str(order.client_id) for ago in steps for order in booked(bench.venue, 2, ago=ago)]
        now = bench.clock.now()
        closed = await bench.gateway.closed_orders(now - 4 * DAY, now + DAY / 24, bench.symbol)
        assert isinstance(closed, OrderList), closed
        assert sorted(str(item.client_order_id) for item in closed.orders) == sorted(names)
        trades = await bench.gateway.trades(now - 4 * DAY, bench.symbol)
        assert isinstance(trades, TradeList), trades
        assert len(trades.trades) == 3


async def test_an_order_that_was_canceled_when_half_was_filled_says_both(exchange: str) -> None:
    """By every way to it: by its id, by ours, and in the list of closed orders; its trade has the fee."""
    async with bench_on(exchange) as bench:
        request, accepted = await bench.rest(amount=Decimal("0.002"))
        (order,) = bench.venue.book.orders
        bench.venue.book.fill(order, Decimal("0.0007"))
        partly = await bench.gateway.query(bench.ref(request, accepted))
        assert isinstance(partly, Found)
        assert (partly.order.state, partly.order.filled) == (OrderState.PARTIALLY_FILLED, Decimal("0.0007"))
        bench.venue.book.cancel(order)
        now = bench.clock.now()
        closed = await bench.gateway.closed_orders(now - DAY / 2, now + DAY / 2, bench.symbol)
        assert isinstance(closed, OrderList)
        by_ours = await bench.gateway.query(bench.ref(request))
        by_theirs = await bench.gateway.query(bench.ref(request, accepted))
        assert isinstance(by_ours, Found)
        assert isinstance(by_theirs, Found)
        for seen in (by_ours.order, by_theirs.order, *closed.orders):
            assert (seen.state, seen.filled) == (OrderState.CANCELED, Decimal("0.0007"))
            assert seen.average_price == request.price
        trades = await bench.gateway.trades(now - DAY / 2, bench.symbol)
        assert isinstance(trades, TradeList)
        (trade,) = trades.trades
        assert (trade.exchange_order_id, trade.fill.fee) == (accepted.exchange_order_id, order.fee)
        assert trade.fill.fee_currency == order.fee_currency


@pytest.mark.parametrize("side", Side)
async def test_a_market_order_asks_for_an_amount_of_the_base_currency(exchange: str, side: Side) -> None:
    """Never for a sum of money, which some exchanges take by default."""
    async with bench_on(exchange) as bench:
        amount = Decimal("0.003")
        outcome = await bench.gateway.submit(
            await bench.order(side, type=OrderType.MARKET, price=None, amount=amount)
        )
        assert isinstance(outcome, Accepted), outcome
        (order,) = bench.venue.book.orders
        assert (order.status, order.filled) == (Status.FILLED, amount)


async def test_an_order_that_is_sent_again_carries_the_same_id(exchange: str, tmp_path: Path) -> None:
    """The executor resends what was provably not carried out; the venue books one order."""
    async with Venue(exchange) as venue:
        bench = CcxtBench(venue)
        venue.set_faults(Faults(retry_after="0"))
        venue.say(Fate.LIMITED_PAGE, "create")
        journal = SQLiteJournal(tmp_path / "journal.db", SystemClock(), min_free_bytes=0)
        settings = {"transaction_log": {"path": None}, "retry": {"initial_delay": 0.01, "max_delay": 0.05}}
        wanted = {"symbol": venue.symbol, "side": "buy", "type": "limit", "amount": "0.001", "price": "45000"}
        async with ReliableOrderExecutor(settings, gateway=bench.gateway, journal=journal) as executor:
            order_id = await executor.execute_order(wanted)
        sent = [item.client_id for item in venue.asked("create")]
        assert len(sent) == 2
        assert len(set(sent)) == 1
        (order,) = venue.book.orders
        assert order.client_id == sent[0] == bench.gateway._ids.encode(order_id)


async def test_no_secret_is_logged_or_told(exchange: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, at the finest level of logging."""
    caplog.set_level(logging.DEBUG)
    async with bench_on(exchange) as bench:
        told = []
        for fate in set(Fate) - {Fate.HANG_BEFORE, Fate.HANG_AFTER}:
            bench.venue.say(fate, "create")
            told.append(repr(await bench.gateway.submit(await bench.order())))
            bench.venue.say(fate, "balances")
            told.append(repr(await bench.gateway.balances()))
        text = caplog.text + "".join(told) + repr(bench.gateway)
        keys = bench.venue.keys
        for secret in filter(None, (keys.api_key, keys.secret, keys.passphrase)):
            assert secret not in text
        assert "signature" not in text.lower()


async def test_closing_leaves_nothing_open(exchange: str) -> None:
    """The venue sees every connection end, and closing took no time."""
    async with Venue(exchange) as venue:
        bench = CcxtBench(venue)
        await bench.gateway.open()
        await bench.rest()
        assert venue.connections > 0
        async with asyncio.timeout(0.5):
            await bench.gateway.close()
        await asyncio.sleep(0.05)
        assert venue.connections == 0
