"""Bitfinex: its answers, and what its requests look like."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.mcp.order_execution.gateways.base import Accepted, Found, NotFound, OrderList
from services.mcp.order_execution.gateways.ccxt.client_ids import derived_number
from tests.unit.gateways.ccxt.captured import CLIENT_ID, Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "ACTIVE", "filled": "EXECUTED @ 20000.5(0.00012)", "canceled": "CANCELED"}


def refusal(code: int, text: str) -> tuple[int, Any]:
    return 500, ["error", code, text]


def notified(kind: str, data: Any, status: str = "SUCCESS", text: str = "") -> Any:
    return [CREATED_MS, kind, None, None, data, None, status, text]


class TestBitfinex(ExchangeSuite):
    exchange = "bitfinex"
    symbol = "BTC/USD"
    market_id = "tBTCUSD"
    missing = (200, [])
    gone = (200, notified("oc-req", [42], "ERROR", "Order not found."))
    refusals = {
        "insufficient_funds": refusal(10001, "Invalid order: not enough exchange balance for 1 BTCUSD at 1"),
        "min_notional": refusal(10001, "Invalid order: minimum size for BTCUSD is 0.0002"),
        "invalid_symbol": refusal(10020, "symbol: invalid"),
        "invalid_request": refusal(10001, "Invalid order: reason unknown"),
    }
    throttled = (429, ["error", 11010, "ratelimit: error"])
    untimely = refusal(10114, "nonce: small")
    bad_keys = refusal(10100, "apikey: invalid")
    ambiguous = refusal(20060, "maintenance")
    ticker_json = [20000.1, 1, 20000.3, 1, 0, 0, 20000.2, 1, 1, 1]
    balance_json = [["exchange", "BTC", 0.3, 0, 0.2, None, None]]
    fill_has_fee = True

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        left = 0 if state == "filled" else 0.00012
        told: list[Any] = [None] * 32
        told[0], told[2], told[3] = number, "@ID" if number == 42 else number * 1_000, "tBTCUSD"
        told[4] = told[5] = CREATED_MS + number
        told[6], told[7], told[8], told[12], told[13], told[16], told[17] = (
            left,
            0.00012,
            "EXCHANGE LIMIT",
            0,
            STATES[state],
            20000.5,
            0,
        )
        return told

    @property
    def acknowledged(self) -> Any:  # type: ignore[override]
        return notified("on-req", [self.row()], text="Submitting 1 orders.")

    @property
    def cancelled(self) -> Any:  # type: ignore[override]
        return notified("oc-req", self.row())

    def one(self, row: Any) -> Any:
        return [row]

    def opened(self, rows: list[Any]) -> Any:
        return rows

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return rows

    def trade(self, number: int = 7) -> Any:
        return [number, "tBTCUSD", CREATED_MS, 42, 0.00005, 20000, "EXCHANGE LIMIT", 20000.5, -1, -0.0000001, "BTC"]

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/v2/auth/w/order/submit")
        assert json.loads(write.body)["cid"] == derived_number(CLIENT_ID)

    async def test_an_order_is_found_by_its_number_after_a_new_start(self) -> None:
        """The number is derived anew, though no list tells the id behind it."""
        made = self.made()
        row = self.row()
        row[2] = derived_number(CLIENT_ID)
        found = await made.answer(json.dumps([row])).query(self.ref())
        assert isinstance(found, Found), found
        assert found.order.client_order_id == CLIENT_ID
        fresh = self.made()
        listed = await fresh.answer(json.dumps([row])).open_orders(self.symbol)
        assert isinstance(listed, OrderList)
        assert (listed.orders[0].client_order_id, listed.tells_client_ids) == (None, False)

    async def test_orders_are_searched_in_the_lists(self) -> None:
        """Open ones first, then two weeks of history."""
        made = self.answering([])
        assert await made.query(self.ref()) == NotFound()
        assert [sent.path for sent in made.line.sent] == ["/v2/auth/r/orders", "/v2/auth/r/orders/hist"]

    async def test_nonces_rise(self) -> None:
        """Though the clock stands still, and many leave at once."""
        made = self.answering(self.acknowledged)
        outcomes = await asyncio.gather(*(made.submit(self.request()) for _ in range(20)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        nonces = [int(sent.headers["bfx-nonce"]) for sent in made.line.sent]
        assert nonces == sorted(set(nonces))
