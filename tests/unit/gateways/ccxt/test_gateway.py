"""The gateway's own part: readiness, exactness, what is asked of the exchange and when."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory, InvalidOrder
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Market,
    NotSent,
    OrderRef,
    Rejected,
    Ticker,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.gateways.ccxt.gateway import Quantity
from services.mcp.order_execution.gateways.ccxt.readiness import MARKETS_SECONDS
from services.mcp.order_execution.models import OrderType, Side, TimeInForce
from tests.unit.gateways.ccxt.captured import CLIENT_ID, NOW, CapturedGateway, Reply, Sent, gateway, market, order

SYMBOLS = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "isSpotTradingAllowed": True,
    "orderTypes": ["LIMIT", "MARKET"],
    "permissions": ["SPOT"],
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
        {"filterType": "NOTIONAL", "minNotional": "5"},
    ],
}
ACK = json.dumps({"symbol": "BTCUSDT", "orderId": 42, "clientOrderId": CLIENT_ID})


def binance(sent: Sent) -> str:
    """What a fresh gateway asks before its first order, and the order itself."""
    if sent.path.endswith("exchangeInfo"):
        return json.dumps({"symbols": [SYMBOLS]})
    if sent.path.endswith("/time"):
        return json.dumps({"serverTime": int((NOW + timedelta(seconds=2)).timestamp() * 1_000)})
    return ACK


def fresh(script: Any = binance) -> CapturedGateway:
    return CapturedGateway("binance").answer(script)


async def test_markets_and_clock_are_read_before_the_first_order_and_then_kept() -> None:
    """For an hour; orders carry the exchange's time."""
    made = fresh()
    assert await made.submit(order()) == Accepted("42")
    assert [sent.path for sent in made.line.sent] == ["/api/v3/exchangeInfo", "/api/v3/time", "/api/v3/order"]
    assert made.clock_error == -2.0
    stamp = int((NOW + timedelta(seconds=2)).timestamp() * 1_000)
    assert f"timestamp={stamp}" in made.line.sent[2].body
    await made.submit(order())
    assert len(made.line.sent) == 4
    made.fixed.seconds += MARKETS_SECONDS
    assert await made.submit(order()) == Accepted("42")
    assert len(made.line.sent) == 5
    assert await made.readiness._task() is None  # in the background
    assert sorted(sent.path for sent in made.line.sent[5:]) == ["/api/v3/exchangeInfo", "/api/v3/time"]


async def test_rules_are_exact() -> None:
    """Ticks, steps and limits as the exchange wrote them."""
    rules = await fresh().market("BTC/USDT")
    assert rules == Market(
        symbol="BTC/USDT",
        base="BTC",
        quote="USDT",
        price_tick=Decimal("0.01"),
        amount_step=Decimal("0.00001"),
        min_amount=Decimal("0.00001"),
        max_amount=Decimal(9000),
        min_notional=Decimal(5),
    )


async def test_without_markets_nothing_is_sent() -> None:
    """Neither order nor cancel; old markets are better than none."""
    made = fresh("<html></html>")
    ref = OrderRef(CLIENT_ID, "BTC/USDT", "42")
    for outcome in (await made.submit(order()), await made.cancel(ref)):
        assert isinstance(outcome, NotSent)
    for answer in (
        await made.market("BTC/USDT"),
        await made.ticker("BTC/USDT"),
        await made.query(ref),
        await made.open_orders(),
        await made.balances(),
    ):
        assert isinstance(answer, Unavailable)
    assert made.line.writes == []
    made.answer(binance)
    assert isinstance(await made.market("BTC/USDT"), Market)
    made.fixed.seconds += MARKETS_SECONDS
    made.answer("<html></html>")
    assert isinstance(await made.market("BTC/USDT"), Market)


async def test_many_wait_for_one_reading_of_the_markets() -> None:
    """And one that is cancelled does not take the others along."""
    made = fresh()
    gate = asyncio.Event()
    send = made.line.send

    async def slow(*arguments: Any) -> Any:
        await gate.wait()
        return await send(*arguments)

    made.line.send = slow  # type: ignore[method-assign]
    tasks = [asyncio.ensure_future(made.market("BTC/USDT")) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    gate.set()
    rest = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(rest[0], asyncio.CancelledError)
    assert all(isinstance(one, Market) for one in rest[1:])
    assert [sent.path for sent in made.line.sent].count("/api/v3/exchangeInfo") == 1


async def test_an_unknown_symbol_is_the_callers_mistake() -> None:
    """Derivatives are none of ours either."""
    made = gateway("binance")
    made.know(market(made.exchange), market(made.exchange, "ETH/USDT", spot=False, swap=True, type="swap"))
    for symbol in ("NO/SUCH", "ETH/USDT"):
        for ask in (made.market, made.ticker):
            with pytest.raises(InvalidOrder):
                await ask(symbol)
        assert await made.submit(order(symbol)) == Rejected("invalid_symbol")
    assert made.line.sent == []


async def test_nothing_is_rounded_in_secret() -> None:
    """An amount or price off the grid is refused here."""
    made = gateway("binance")
    assert await made.submit(order(amount=Decimal("0.000123"))) == Rejected("invalid_amount")
    assert await made.submit(order(price=Decimal("1.001"))) == Rejected("invalid_price")
    assert await made.submit(order(amount=Decimal("0.000001"))) == Rejected("invalid_precision")
    stop = order(type=OrderType.STOP_LIMIT, stop_price=Decimal("1.001"))
    assert await made.submit(stop) == Rejected("invalid_price")
    assert made.line.sent == []


async def test_what_an_order_is_reaches_the_exchange() -> None:
    """Time in force, post-only, stop price; no float on the way."""
    made = gateway("binance").answer(ACK)
    await made.submit(order(time_in_force=TimeInForce.IOC))
    await made.submit(order(post_only=True))
    await made.submit(order(type=OrderType.STOP_LIMIT, side=Side.SELL, stop_price=Decimal("19000.25")))
    await made.submit(order(type=OrderType.MARKET, price=None))
    ioc, maker, stop, at_market = (sent.body for sent in made.line.sent)
    assert "timeInForce=IOC" in ioc
    assert "type=LIMIT_MAKER" in maker
    assert "type=STOP_LOSS_LIMIT" in stop
    assert "stopPrice=19000.25" in stop
    assert "side=SELL" in stop
    assert "type=MARKET" in at_market
    assert "price=" not in at_market
    assert "quantity=0.00012" in at_market


async def test_large_and_small_numbers_are_written_plainly() -> None:
    """Without exponents and without a digit lost."""
    made = gateway("binance")
    told = market(made.exchange, precision={"amount": "0.000000001", "price": "0.000000001"})
    made.know(told).answer(ACK)
    amount, price = Decimal("123456789.123456789"), Decimal("0.000000001")
    assert await made.submit(order(amount=amount, price=price)) == Accepted("42")
    assert "quantity=123456789.123456789&price=0.000000001" in made.line.sent[0].body


async def test_a_market_without_precision_gets_what_was_asked_for() -> None:
    """Some exchanges tell none; ccxt then says what it can do."""
    made = gateway("binance")
    made.know(market(made.exchange, precision={"amount": None, "price": None})).answer(ACK)
    outcome = await made.submit(order())
    assert isinstance(outcome, Accepted | NotSent)
    assert all("0.00012" in sent.body for sent in made.line.writes)


async def test_an_exchange_may_acknowledge_with_less() -> None:
    """An id is needed; ours, where it is told, has to be right."""
    for text, kind in (
        ('{"orderId": 42}', Accepted),
        ('{"orderId": ""}', Unknown),
        ('{"orderId": 42, "clientOrderId": "another"}', Unknown),
        ("[]", Unknown),
    ):
        assert isinstance(await gateway("binance").answer(text).submit(order()), kind), text


async def test_the_clock_is_asked_again_after_a_refused_timestamp() -> None:
    """Before the next order, not within this one."""
    made = gateway("binance").answer(Reply('{"code": -1021, "msg": "outside of the recvWindow"}', status=400))
    assert isinstance(await made.submit(order()), NotSent)
    made.answer(binance)
    await made.submit(order())
    assert [sent.path for sent in made.line.sent] == ["/api/v3/time", "/api/v3/order"]


async def test_cancelling_the_task_passes_through() -> None:
    """It is never turned into an answer."""
    made = gateway("binance")

    async def silent(*arguments: Any) -> Any:
        await asyncio.Event().wait()

    made.line.send = silent  # type: ignore[method-assign]
    ref = OrderRef(CLIENT_ID, "BTC/USDT", "42")
    for call in (made.submit(order()), made.cancel(ref), made.query(ref), made.ping()):
        task = asyncio.ensure_future(call)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_price_that_is_not_told_comes_from_the_book() -> None:
    """Where a ticker has none."""

    def script(sent: Sent) -> str:
        if "depth" in sent.path:
            return '{"lastUpdateId": 1, "bids": [["1.5", "1"]], "asks": [["2.5", "1"]]}'
        return '{"symbol": "BTCUSDT"}'

    made = gateway("binance").answer(script)
    assert await made.ticker("BTC/USDT") == Ticker("BTC/USDT", Decimal("1.5"), Decimal("2.5"), Decimal("1.5"))


@pytest.mark.parametrize(
    ("exchange", "known", "path"),
    [
        ("binance", True, "/api/v3/time"),
        ("bitfinex", True, "/v2/ticker/BTCUSDT"),
        ("cryptocom", False, "/exchange/v1/public/get-instruments"),
    ],
)
async def test_a_ping_is_the_cheapest_read(exchange: str, known: bool, path: str) -> None:
    """The clock, else a price, else the markets."""
    made = gateway(exchange) if known else CapturedGateway(exchange)
    made.answer("<html></html>")
    assert isinstance(await made.ping(), Unavailable)
    assert made.line.sent[0].path == path


async def test_a_ping_that_is_answered_says_nothing() -> None:
    """None is good."""
    assert await fresh().ping() is None


async def test_opening_without_a_row_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """In the log, at once; with a row there is nothing to say."""
    made = gateway("bitstamp")
    with caplog.at_level(logging.WARNING):
        await made.open()
    assert "is never sent again" in caplog.text
    assert made.line.opened == 1
    await made.close()
    await made.close()
    caplog.clear()
    known = gateway("binance")
    await known.open()
    await known.close()
    assert caplog.records == []


async def test_a_failed_read_of_the_account_is_unavailable() -> None:
    """Never an empty one."""
    made = gateway("binance").answer(Reply(failure=ErrorCategory.TIMEOUT))
    assert await made.balances() == Unavailable(ErrorCategory.TIMEOUT, "lost")


def test_a_quantity_is_text_that_can_be_compared() -> None:
    """Amounts are compared with 0 in places."""
    amount = Quantity("0.5")
    assert amount == "0.5"
    assert (amount > 0, amount >= 0.5, amount < 1, amount <= 0) == (True, True, True, False)


async def test_spot_markets_are_loaded_alone_where_the_row_says_so() -> None:
    """MEXC's usual way asks for its contracts as well."""
    told = {"symbol": "ETHUSDT", "baseAsset": "ETH", "quoteAsset": "USDT", "status": "1"}
    made = CapturedGateway("mexc").answer(json.dumps({"symbols": [told]}))
    with pytest.raises(InvalidOrder):
        await made.market("BTC/USDT")
    assert [sent.path for sent in made.line.sent] == ["/api/v3/exchangeInfo", "/api/v3/time"]


async def test_rules_that_are_not_understood_are_none() -> None:
    """A market with a step of nonsense cannot be traded."""
    made = gateway("binance")
    made.know(market(made.exchange, precision={"amount": "0.1", "price": "x"}))
    assert isinstance(await made.market("BTC/USDT"), Unavailable)
    assert isinstance(await made.submit(order()), Rejected | NotSent)
    assert made.line.sent == []


async def test_a_cancel_without_a_request_claims_nothing() -> None:
    """Whatever ccxt returned."""
    made = gateway("binance")

    async def nothing(*arguments: Any) -> dict[str, Any]:
        return {"id": "42"}

    made.exchange.cancel_order = nothing
    assert isinstance(await made.cancel(OrderRef(CLIENT_ID, "BTC/USDT", "42")), Unknown)


async def test_a_count_that_is_no_number_is_no_refusal() -> None:
    """Kraken leaves it out when a cancel is pending."""
    made = gateway("kraken").answer('{"error": [], "result": {"pending": true}}')
    assert await made.cancel(OrderRef(CLIENT_ID, "BTC/USDT", "42")) == Accepted("42")


async def test_a_stream_can_be_had_from_the_exchange_itself() -> None:
    """Nothing is connected before it is followed."""
    made = gateway("binance", base_url=None)
    assert made.traits.streams_orders
    stream = made.stream()
    assert stream is not None
    await stream.aclose()  # type: ignore[attr-defined]
    assert made.line.sent == []
    await made.close()
