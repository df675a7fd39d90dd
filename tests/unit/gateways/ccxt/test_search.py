"""An order whose answer is lost: where it is looked for, and when its absence is believed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from services.mcp.order_execution.gateways.base import Found, NotFound, OrderRef, Unavailable
from services.mcp.order_execution.models import OrderState
from tests.unit.gateways.ccxt.captured import CLIENT_ID, NOW, CapturedGateway, Sent
from tests.unit.gateways.ccxt.exchange_suite import ExchangeSuite
from tests.unit.gateways.ccxt.rows.test_bitget import TestBitget as Bitget
from tests.unit.gateways.ccxt.rows.test_bybit import TestBybit as Bybit
from tests.unit.gateways.ccxt.rows.test_coinbase import TestCoinbase as Coinbase
from tests.unit.gateways.ccxt.rows.test_cryptocom import TestCryptocom as Cryptocom
from tests.unit.gateways.ccxt.rows.test_htx import TestHtx as Htx
from tests.unit.gateways.ccxt.rows.test_kucoin import TestKucoin as Kucoin
from tests.unit.gateways.ccxt.rows.test_mexc import TestMexc as Mexc
from tests.unit.gateways.ccxt.rows.test_okx import TestOkx as Okx


def sent_before(suite: ExchangeSuite, **age: float) -> OrderRef:
    """Our order, sent so long ago, its answer lost."""
    return OrderRef(CLIENT_ID, suite.symbol, None, NOW - timedelta(**age))


def coinbase(*rows: Any) -> CapturedGateway:
    """A Coinbase that has no open orders, and these among all."""
    suite = Coinbase()
    made = suite.made()

    def script(sent: Sent) -> str:
        listed = [] if sent.query.get("order_status") == "OPEN" else list(rows)
        return json.dumps(suite.with_id(made, suite.closed(listed)))

    return made.answer(script)


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED", "OPEN"])
async def test_an_order_between_two_lists_is_found(status: str) -> None:
    """Not open when that list was made, and not final: the list of all has it."""
    found = await coinbase({**Coinbase().row(), "status": status}).query(Coinbase().ref())
    assert isinstance(found, Found), found
    assert found.order.state is OrderState.OPEN


async def test_orders_of_others_do_not_hide_ours() -> None:
    """However odd: a market order for a sum that failed has no amount."""
    odd = {**Coinbase().row(77), "status": "FAILED", "order_type": "MARKET"}
    odd["order_configuration"] = {"market_market_ioc": {"quote_size": "10"}}
    filled = Coinbase().row(state="filled", filled="0.00012")
    found = await coinbase(odd, filled).query(Coinbase().ref())
    assert isinstance(found, Found), found
    assert found.order.state is OrderState.FILLED


async def test_a_row_with_our_id_that_is_not_understood_is_no_absence() -> None:
    """Nor is one that has our id where another one should be."""
    odd = {**Coinbase().row(), "status": "UNKNOWN_ORDER_STATUS"}
    answer = await coinbase(odd).query(Coinbase().ref())
    assert isinstance(answer, Unavailable), answer
    assert not answer.local
    elsewhere = {**Coinbase().row(77), "originating_order_id": "@ID"}
    assert isinstance(await coinbase(elsewhere).query(Coinbase().ref()), Unavailable)


async def test_several_orders_under_our_id_are_told_to_a_human() -> None:
    """Which of them is meant is not guessed; one that was refused is none."""
    twice = [
        {**Coinbase().row(number), "client_order_id": "@ID", "status": "FILLED", "filled_size": "0.00012"}
        for number in (42, 43)
    ]
    answer = await coinbase(*twice).query(Coinbase().ref())
    assert isinstance(answer, Unavailable)
    assert answer.local
    assert "42, 43" in answer.message
    refused = {**twice[1], "status": "FAILED", "filled_size": "0"}
    found = await coinbase(twice[0], refused).query(Coinbase().ref())
    assert isinstance(found, Found), found
    assert found.order.exchange_order_id == "42"


async def test_the_search_reaches_back_to_the_first_attempt() -> None:
    """``sent_at`` is that of the last one."""
    made = coinbase()
    assert await made.query(Coinbase().ref()) == NotFound()
    since = made.line.sent[-1].query["start_date"]
    assert since <= (NOW - timedelta(days=1)).isoformat()


@pytest.mark.parametrize("suite", [Kucoin(), Okx(), Bitget(), Mexc(), Cryptocom()])
async def test_an_old_order_that_still_rests_is_asked_for(suite: ExchangeSuite) -> None:
    """Only the absence of an old order proves nothing; its presence does."""
    row = suite.made().row
    assert row is not None
    assert row.lookup_memory is not None
    ref = sent_before(suite, seconds=row.lookup_memory + 60)
    assert isinstance(await suite.answering(suite.one(suite.row())).query(ref), Found)
    status, missing = suite.missing
    absent = await suite.answering(missing, status).query(ref)
    assert isinstance(absent, Unavailable)
    assert absent.local


async def test_bybit_is_asked_for_by_time_what_its_lookup_forgets() -> None:
    """Without times its history covers 7 days; an order that traded is in it for years."""
    suite = Bybit()
    made = suite.made()

    def script(sent: Sent) -> str:
        covers = int(sent.query.get("startTime", 0)) <= (NOW - timedelta(days=8)).timestamp() * 1_000
        has = sent.path.endswith("/order/history") and "startTime" in sent.query and covers
        rows = [suite.row(state="filled", filled="0.00012")] if has else []
        return json.dumps(suite.with_id(made, suite.closed(rows)))

    made.answer(script)
    old = sent_before(suite, days=8)
    assert isinstance(await made.query(old), Found)
    # By the exchange's id as well.
    assert isinstance(await made.query(OrderRef(CLIENT_ID, suite.symbol, "42", old.sent_at)), Found)
    young = sent_before(suite, hours=22)
    assert await suite.answering(suite.closed([])).query(young) == NotFound()
    absent = await suite.answering(suite.closed([])).query(old)
    assert isinstance(absent, Unavailable)
    assert absent.local


@pytest.mark.parametrize("suite", [Okx(), Htx()])
async def test_absence_is_believed_while_a_cancelled_order_would_be_told(suite: ExchangeSuite) -> None:
    """They tell it for 2 hours, and HTX even forgets one that has traded."""
    status, answer = suite.missing if isinstance(suite, Okx) else (200, suite.closed([]))
    made = suite.answering(answer, status)
    assert await made.query(sent_before(suite, hours=1)) == NotFound()
    absent = await made.query(sent_before(suite, hours=3))
    assert isinstance(absent, Unavailable)
    assert absent.local
