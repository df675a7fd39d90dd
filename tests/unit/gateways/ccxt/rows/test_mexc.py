"""MEXC: its answers, and what its requests look like."""

from __future__ import annotations

from typing import Any

from services.mcp.order_execution.gateways.base import Unavailable
from tests.unit.gateways.ccxt.captured import NOW, Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, HOUR, ExchangeSuite

STATES = {"open": "NEW", "filled": "FILLED", "canceled": "CANCELED"}


def refusal(code: int, msg: str) -> tuple[int, Any]:
    return 400, {"code": code, "msg": msg}


class TestMexc(ExchangeSuite):
    exchange = "mexc"
    acknowledged = {"symbol": "BTCUSDT", "orderId": "C02__42", "transactTime": CREATED_MS}
    order_id = "C02__42"
    cancelled = {"symbol": "BTCUSDT", "orderId": "C02__42", "origClientOrderId": "@ID", "status": "CANCELED"}
    missing = refusal(-2013, "Order does not exist.")
    gone = refusal(-2011, "Unknown order sent.")
    refusals = {
        "insufficient_funds": refusal(30004, "Insufficient position"),
        "min_notional": refusal(30002, "The minimum transaction volume cannot be less than: 5USDT"),
        "price_out_of_range": refusal(30087, "Order price exceeds allowed range"),
        "invalid_symbol": refusal(10007, "bad symbol"),
        "market_closed": refusal(30016, "trading disabled"),
        "too_many_orders": refusal(30029, "Cannot exceed the maximum order limit"),
    }
    throttled = (429, {"code": 429, "msg": "Too Many Requests"})
    untimely = refusal(700003, "Timestamp for this request is outside of the recvWindow.")
    bad_keys = refusal(700002, "Signature for this request is not valid.")
    ambiguous = refusal(500, "Internal system error")
    ticker_json = {"symbol": "BTCUSDT", "bidPrice": "20000.1", "askPrice": "20000.3", "lastPrice": "20000.2"}
    balance_json = {"balances": [{"asset": "BTC", "free": "0.2", "locked": "0.1"}]}
    pages = False

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "symbol": "BTCUSDT",
            "orderId": f"C02__{number}",
            "clientOrderId": "@ID" if number == 42 else f"other-{number}",
            "price": "20000.5",
            "origQty": "0.00012",
            "executedQty": filled,
            "cummulativeQuoteQty": "0",
            "status": STATES[state],
            "timeInForce": None,
            "type": "LIMIT",
            "side": "BUY",
            "stopPrice": None,
            "time": CREATED_MS,
            "updateTime": None,
        }

    def one(self, row: Any) -> Any:
        return row

    def opened(self, rows: list[Any]) -> Any:
        return rows

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return rows

    def trade(self, number: int = 7) -> Any:
        return {
            "symbol": "BTCUSDT",
            "id": str(number),
            "orderId": "C02__42",
            "price": "20000",
            "qty": "0.00005",
            "quoteQty": "1",
            "commission": "0.0000001",
            "commissionAsset": "BTC",
            "time": CREATED_MS,
            "isBuyer": True,
            "isMaker": False,
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v3/order")
        assert write.query["recvWindow"] == "5000"

    async def test_a_list_that_may_be_cut_is_unavailable(self) -> None:
        """In which order it comes is not documented, so that a full answer has no next page."""
        rows = [self.row(number, state="canceled") for number in range(100, 1100)]
        listed = await self.answering(rows).closed_orders(NOW - HOUR, NOW, self.symbol)
        assert isinstance(listed, Unavailable)
