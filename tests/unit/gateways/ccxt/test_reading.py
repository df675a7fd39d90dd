"""Reads by a row: which order is which, and what is no answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Found, OrderList, OrderRef, TradeList, Unavailable
from services.mcp.order_execution.gateways.ccxt.listing import PAGES_MAX
from services.mcp.order_execution.gateways.ccxt.row import Rates
from tests.unit.gateways.ccxt.captured import CLIENT_ID, NOW, Reply, Sent, gateway
from tests.unit.gateways.ccxt.rows.test_bybit import TestBybit as Bybit
from tests.unit.gateways.ccxt.rows.test_kraken import TestKraken as Kraken
from tests.virtual_time import run_virtual

HOUR = timedelta(hours=1)
SUITE = Bybit()


def answer(*rows: Any) -> str:
    made = gateway("bybit")
    return json.dumps(SUITE.with_id(made, SUITE.opened(list(rows))))


async def test_of_two_orders_under_one_id_the_living_one_counts() -> None:
    """An id may be used again after its order ended; the newest is meant."""
    old, new = SUITE.row(state="canceled"), SUITE.row(43)
    new["orderLinkId"] = "@ID"
    found = await gateway("bybit").answer(answer(old, new)).query(OrderRef(CLIENT_ID, "BTC/USDT"))
    assert isinstance(found, Found)
    assert found.order.exchange_order_id == "43"


async def test_a_list_of_other_orders_is_no_answer_to_a_lookup() -> None:
    """It should have had one order, or none."""
    other = await gateway("bybit").answer(answer(SUITE.row(43))).query(OrderRef(CLIENT_ID, "BTC/USDT"))
    assert other == Unavailable(ErrorCategory.BAD_RESPONSE, "it answered with another order")


async def test_rows_of_other_symbols_are_left_out_where_one_was_asked_for() -> None:
    """A row names its market itself; an unknown market is another one."""
    foreign = {**SUITE.row(43), "symbol": "ETHUSDT"}
    listed = await gateway("bybit").answer(answer(SUITE.row(), foreign)).open_orders("BTC/USDT")
    assert isinstance(listed, OrderList)
    assert [order.exchange_order_id for order in listed.orders] == ["42"]
    everything = await gateway("bybit").answer(answer(SUITE.row(), foreign)).open_orders()
    assert isinstance(everything, OrderList)
    assert len(everything.orders) == 2


async def test_a_symbol_is_needed_where_lists_are_by_symbol() -> None:
    """It is said, and nothing is asked."""
    made = gateway("binance")
    answer = await made.open_orders()
    assert isinstance(answer, Unavailable)
    assert answer.local
    assert made.line.sent == []


async def test_an_order_in_two_pages_is_listed_once() -> None:
    """Pages overlap where orders come and go."""
    pages = [SUITE.closed([SUITE.row(43, state="canceled")] * 2, more=True), SUITE.closed([])]
    made = gateway("bybit")
    made.answer(lambda sent: json.dumps(pages[min(len(made.line.sent), 2) - 1]))
    listed = await made.closed_orders(NOW - HOUR, NOW + HOUR, "BTC/USDT")
    assert isinstance(listed, OrderList)
    assert len(listed.orders) == 1


async def test_more_than_is_ever_read_says_so() -> None:
    """Asking again would not help, and no other request need heed it."""
    made = gateway("bybit")
    made._reader._row = replace(made._reader._row, rates=Rates())  # type: ignore[union-attr]
    made.answer(
        lambda sent: json.dumps({**SUITE.closed([SUITE.row()], more=True), "n": 1}).replace(
            "after-42", f"after-{len(made.line.sent)}"
        )
    )
    answer = await made.closed_orders(NOW - HOUR, NOW + HOUR, "BTC/USDT")
    assert isinstance(answer, Unavailable)
    assert answer.local
    assert len(made.line.sent) == PAGES_MAX


async def test_what_is_asked_ends_an_hour_from_now() -> None:
    """However far in the future a caller wants to be sure."""
    made = gateway("bybit").answer(answer())
    await made.closed_orders(NOW - HOUR, NOW + timedelta(days=9), "BTC/USDT")
    (sent,) = made.line.sent
    assert int(sent.query["endTime"]) == int((NOW + HOUR).timestamp() * 1_000)


async def test_trades_since_are_not_those_before() -> None:
    """Whatever an exchange adds."""
    early = {**SUITE.trade(), "execTime": str(int((NOW - 2 * HOUR).timestamp() * 1_000))}
    listed = await gateway("bybit").answer(json.dumps(SUITE.traded([early]))).trades(NOW - HOUR, "BTC/USDT")
    assert listed == TradeList(())
    odd = {**SUITE.trade(), "execQty": "x"}
    answered = await gateway("bybit").answer(json.dumps(SUITE.traded([odd]))).trades(NOW - HOUR, "BTC/USDT")
    assert isinstance(answered, Unavailable)


async def test_a_search_that_is_not_answered_proves_nothing() -> None:
    """Neither of its two lists may be missing."""
    for broken in ("openOrders", "orders"):

        def script(sent: Sent, broken: str = broken) -> Reply | str:
            if sent.path.endswith(f"/{broken}"):
                return Reply(failure=ErrorCategory.RESET)
            return '{"status": "ok", "data": []}'

        answered = await gateway("htx").answer(script).query(OrderRef(CLIENT_ID, "BTC/USDT"))
        assert isinstance(answered, Unavailable), broken


async def test_a_symbol_that_is_gone_makes_no_answer() -> None:
    """A delisted market is no proof of anything."""
    answered = await gateway("bybit").answer(answer()).query(OrderRef(CLIENT_ID, "GONE/USDT"))
    assert isinstance(answered, Unavailable)


def test_the_pages_of_a_list_keep_to_the_documented_rate() -> None:
    """As many as may come at once, and then one after another."""

    async def main() -> None:
        suite = Kraken()
        made = suite.made()
        row = suite.with_id(made, suite.row(7, state="canceled"))

        def script(sent: Sent) -> str:
            first = int(dict(parse_qsl(sent.body)).get("ofs", 0))
            listed = {f"O{first + number}": row for number in range(50 if first < 950 else 10)}
            return json.dumps({"error": [], "result": {"closed": listed, "count": 960}})

        made.answer(script)
        began = asyncio.get_running_loop().time()
        listed = await made.closed_orders(NOW - 2 * HOUR, NOW + HOUR)
        took = asyncio.get_running_loop().time() - began
        assert isinstance(listed, OrderList)
        assert (len(listed.orders), len(made.line.sent)) == (960, 20)
        assert took == pytest.approx((20 - made.traits.burst) / (made.traits.read_requests_per_second or 0))

    run_virtual(main)
