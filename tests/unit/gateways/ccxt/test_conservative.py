"""Exchanges without a row: followed one by one, never sent twice, and that is said."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from typing import Any

import pytest

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.alerts import Alerts
from services.mcp.order_execution.errors import ErrorCategory, OrderUnresolved
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Found,
    NotFound,
    OrderList,
    OrderRef,
    Rejected,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.gateways.ccxt.conservative import PAGE_SIZES, lost_promises
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.models import OrderType, Side
from tests.fakes import RecordingSink
from tests.unit.gateways.ccxt.captured import CLIENT_ID, NOW, CapturedGateway, Reply, Sent, gateway, order
from tests.virtual_time import VirtualClock, run_virtual

BOOK = {
    "/api/v3/account": '{"balances": [{"asset": "USDT", "free": "1000000", "locked": "0"}]}',
    "/api/v3/ticker/24hr": '{"symbol": "BTCUSDT", "bidPrice": "20000", "askPrice": "20001", "lastPrice": "20000"}',
    "/api/v3/time": '{"serverTime": 1767225600000}',
}

BY_ID = OrderRef(CLIENT_ID, "BTC/USDT", "42")
BY_OURS = OrderRef(CLIENT_ID, "BTC/USDT")


def row(number: int = 42, **changes: Any) -> dict[str, Any]:
    """An order of binance.us, which has no row though it speaks as binance does."""
    told = {
        "symbol": "BTCUSDT",
        "orderId": number,
        "clientOrderId": "whatever",
        "price": "20000.5",
        "origQty": "0.00012",
        "executedQty": "0",
        "cummulativeQuoteQty": "0",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "time": 1_795_000_000_000,
    }
    return {**told, **changes}


async def test_an_order_is_placed_and_followed_by_the_exchanges_id() -> None:
    """Under no id of ours."""
    made = gateway("binanceus").answer('{"orderId": 42, "symbol": "BTCUSDT"}')
    assert await made.submit(order()) == Accepted("42")
    assert CLIENT_ID not in made.line.sent[0].text
    made.answer(json.dumps(row()))
    found = await made.query(BY_ID)
    assert isinstance(found, Found)
    assert (found.order.exchange_order_id, found.order.symbol) == ("42", "BTC/USDT")
    made.answer(json.dumps(row(status="CANCELED")))
    assert await made.cancel(BY_ID) == Accepted("42")


async def test_nothing_is_asked_by_an_id_that_was_not_sent() -> None:
    """Not found, within a scope of nothing; not cancelled."""
    made = gateway("binanceus").answer("{}")
    assert await made.query(BY_OURS) == NotFound()
    assert isinstance(await made.cancel(BY_OURS), Rejected)
    assert made.line.sent == []


async def test_absence_by_the_exchanges_id() -> None:
    """By a whole answer that ccxt recognises; everything else is no answer."""
    made = gateway("binanceus").answer(Reply('{"code": -2013, "msg": "Order does not exist."}', status=400))
    assert await made.query(BY_ID) == NotFound()
    for reply in (
        Reply("<html></html>", status=404),
        Reply(""),
        Reply("{}"),
        Reply(json.dumps(row(43))),
        Reply(json.dumps(row(status="ODD"))),
        Reply(failure=ErrorCategory.TIMEOUT),
    ):
        assert isinstance(await gateway("binanceus").answer(reply).query(BY_ID), Unavailable), reply


async def test_where_orders_cannot_be_looked_up_the_open_ones_are_listed() -> None:
    """What is not among them may be anywhere."""
    made = gateway("binanceus")
    made.exchange.has["fetchOrder"] = False
    assert isinstance(await made.answer(json.dumps([row()])).query(BY_ID), Found)
    assert isinstance(await made.answer("[]").query(BY_ID), Unavailable)
    assert isinstance(await made.answer("<html></html>").query(BY_ID), Unavailable)


async def test_open_orders_are_listed_unless_they_may_be_cut() -> None:
    """A list of exactly a usual page is none."""
    made = gateway("binanceus").answer(json.dumps([row(), row(43, status="FILLED", executedQty="0.00012")]))
    listed = await made.open_orders("BTC/USDT")
    assert isinstance(listed, OrderList)
    assert [order.exchange_order_id for order in listed.orders] == ["42"]
    page = [row(number) for number in range(100, 100 + min(PAGE_SIZES))]
    assert isinstance(await made.answer(json.dumps(page)).open_orders("BTC/USDT"), Unavailable)
    made.exchange.has["fetchOpenOrders"] = None
    assert isinstance(await made.open_orders("BTC/USDT"), Unavailable)


async def test_nothing_else_is_listed() -> None:
    """Whether such lists are whole is not known."""
    made = gateway("binanceus").answer("[]")
    assert isinstance(await made.closed_orders(NOW - timedelta(hours=1), NOW), Unavailable)
    assert isinstance(await made.trades(NOW - timedelta(hours=1)), Unavailable)
    assert made.line.sent == []


async def test_a_market_buy_for_a_sum_is_not_sent() -> None:
    """Where ccxt wants a price to make one of an amount."""
    made = gateway("bittrade").answer('{"status": "ok", "data": [{"id": 1, "type": "spot"}]}')
    outcome = await made.submit(order(type=OrderType.MARKET, side=Side.BUY, price=None))
    assert not isinstance(outcome, Accepted)
    assert made.line.writes == []


@pytest.mark.parametrize("exchange", ["luno", "coinmate", "coincheck", "btcbox"])
@pytest.mark.parametrize("side", list(Side))
async def test_a_market_order_is_not_sent(exchange: str, side: Side) -> None:
    """Ccxt's classes make of its amount a sum to spend, or of the order a limit order without a price."""
    made = gateway(exchange).answer('{"success": true, "id": 1, "data": 1, "error": false, "order_id": "1"}')
    outcome = await made.submit(order(type=OrderType.MARKET, price=None, side=side))
    assert outcome == Rejected("order_type_not_offered")
    assert made.line.writes == []


async def test_an_id_in_the_last_of_several_answers_is_believed() -> None:
    """Some POST what they read before an order: nothing else would ever resolve it."""
    made = gateway("binanceus")

    async def several(*arguments: Any) -> dict[str, Any]:
        for _ in range(2):
            await made.exchange.privatePostOrderTest({"symbol": "BTCUSDT", "side": "BUY"})
        return {"id": "42"}

    made.exchange.create_order = several
    assert await made.answer('{"orderId": 42}').submit(order()) == Accepted("42")
    assert isinstance(await made.answer('{"orderId": 43}').submit(order()), Unknown)


def test_what_is_lost_is_named() -> None:
    """With the exchange."""
    words = " ".join(lost_promises("bitstamp"))
    assert "bitstamp" in words
    assert "no client order id is sent" in words
    assert "unresolved" in words


def test_the_executor_places_once_and_says_what_it_cannot_know() -> None:
    """The answer is lost: nothing is sent again, the order stays unresolved, and a human is told."""

    async def main() -> None:
        clock, told = VirtualClock(), RecordingSink()
        made = CapturedGateway("binanceus", clock=clock).know()

        def script(sent: Sent) -> Reply | str:
            return Reply(failure=ErrorCategory.RESET) if sent.method == "POST" else BOOK.get(sent.path, "[]")

        made.answer(script)
        executor = ReliableOrderExecutor(
            {"transaction_log": {"path": None}},
            gateway=made,
            journal=MemoryJournal(clock),
            clock=clock,
            rng=random.Random(1),
            alerts=Alerts([told], clock),
        )
        await executor.open()
        try:
            with pytest.raises(OrderUnresolved):
                await executor.execute_order(
                    {"symbol": "BTC/USDT", "side": "buy", "type": "limit", "amount": "0.00100", "price": "20000.5"}
                )
            await asyncio.sleep(3_600)
            stats = await executor.get_execution_stats()
        finally:
            await executor.close()
        assert len(made.line.writes) == 1
        assert stats.unresolved_orders == 1
        assert [alert for alert in told.alerts if "is unresolved" in alert.title]

    run_virtual(main)
