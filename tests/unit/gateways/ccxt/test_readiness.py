"""Markets and clock: known rules serve while newer ones are read, and nothing waits for long before a write."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Accepted, Found, NotSent, Rejected
from services.mcp.order_execution.gateways.ccxt.readiness import MARKETS_SECONDS, RETRY_SECONDS
from tests.unit.gateways.ccxt.captured import NOW, CapturedGateway, Reply, Sent, market, order
from tests.unit.gateways.ccxt.rows.test_binance import TestBinance as Binance
from tests.unit.gateways.ccxt.test_gateway import SYMBOLS

SUITE = Binance()


def holding(made: CapturedGateway, part: str) -> asyncio.Event:
    """Let no request whose address has ``part`` go on before the event."""
    gate, send = asyncio.Event(), made.line.send

    async def held(hop: Any, url: str, *rest: Any) -> Any:
        if part in url:
            await gate.wait()
        return await send(hop, url, *rest)

    made.line.send = held  # type: ignore[method-assign]
    return gate


def listing(symbols: list[Any], answer: Any) -> CapturedGateway:
    """A gateway that knows one market, an hour after it was read; the exchange now lists these."""
    made = SUITE.made()

    def script(sent: Sent) -> str:
        if "exchangeInfo" in sent.path:
            return json.dumps({"symbols": symbols})
        if sent.path.endswith("/time"):
            return json.dumps({"serverTime": int(NOW.timestamp() * 1_000)})
        return json.dumps(SUITE.with_id(made, answer))

    made.answer(script)
    made.fixed.seconds += MARKETS_SECONDS
    return made


async def drained() -> None:
    """Let what is under way in the background go on: nothing here waits for a network."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_order_does_not_wait_for_the_hourly_reading() -> None:
    """Old rules are better than none: they are used while new ones are read."""
    made = SUITE.answering(SUITE.acknowledged)
    gate = holding(made, "exchangeInfo")
    made.fixed.seconds += MARKETS_SECONDS
    async with asyncio.timeout(5):
        assert isinstance(await made.submit(SUITE.request()), Accepted)
    gate.set()
    await made.close()


async def test_a_failed_reading_is_not_repeated_with_every_request() -> None:
    """Only after a pause."""
    made = SUITE.made()

    def script(sent: Sent) -> Reply | str:
        if "exchangeInfo" in sent.path:
            return Reply(failure=ErrorCategory.TIMEOUT)
        return json.dumps(SUITE.with_id(made, SUITE.acknowledged))

    made.answer(script)
    made.fixed.seconds += MARKETS_SECONDS
    for pause, readings in ((0.0, 1), (1.0, 1), (RETRY_SECONDS, 2)):
        made.fixed.seconds += pause
        for _ in range(3):
            assert isinstance(await made.submit(SUITE.request()), Accepted)
            await drained()
        assert sum("exchangeInfo" in sent.path for sent in made.line.sent) == readings
    await made.close()


async def test_a_write_that_waits_for_the_first_reading_is_not_sent() -> None:
    """Whoever counts it as lost would be wrong: nothing of it left."""
    made = CapturedGateway("binance", timeout_seconds=0.06)
    gate = holding(made, "exchangeInfo")
    outcomes = (await made.submit(order()), await made.cancel(SUITE.ref("42")))
    for outcome in outcomes:
        assert isinstance(outcome, NotSent), outcome
        assert outcome.category is ErrorCategory.TIMEOUT
    assert made.line.writes == []
    gate.set()
    await made.close()


async def test_an_empty_list_of_markets_does_not_replace_what_is_known() -> None:
    """Nor one that has hardly any of them."""
    made = listing([], SUITE.acknowledged)
    for _ in range(3):
        assert isinstance(await made.submit(SUITE.request()), Accepted)
        await drained()
    assert any("exchangeInfo" in sent.path for sent in made.line.sent)
    assert "BTC/USDT" in made.exchange.markets
    await made.close()


async def test_an_order_of_a_delisted_market_can_be_asked_for_and_cancelled() -> None:
    """It may rest there still."""
    other = {**SYMBOLS, "symbol": "ETHUSDT", "baseAsset": "ETH"}
    made = listing([other], SUITE.one(SUITE.row()))
    made.exchange.set_markets([market(made.exchange), market(made.exchange, "ETH/USDT")])
    assert await made.readiness._task() is None
    assert made.exchange.markets["BTC/USDT"]["active"] is False
    assert made.exchange.markets["ETH/USDT"]["active"] is True
    assert isinstance(await made.query(SUITE.ref("42")), Found)
    assert isinstance(await made.cancel(SUITE.ref("42")), Accepted)
    await made.close()


async def test_a_cancel_that_ccxt_cannot_make_refuses_nothing() -> None:
    """An order of a market that is not known may rest all the same."""
    made = SUITE.made().answer("{}")
    made.exchange.set_markets([])
    outcome = await made.cancel(SUITE.ref("42"))
    assert isinstance(outcome, NotSent), outcome
    assert isinstance(await made.submit(order()), Rejected)
    assert made.line.sent == []
