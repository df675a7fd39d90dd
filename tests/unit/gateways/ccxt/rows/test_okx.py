"""OKX: its answers, and what its requests look like."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.mcp.order_execution.gateways.base import OrderList
from tests.unit.gateways.ccxt.captured import NOW, Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "live", "filled": "filled", "canceled": "canceled"}


def told(*data: Any) -> Any:
    return {"code": "0", "msg": "", "data": list(data)}


def refusal(code: str, msg: str) -> tuple[int, Any]:
    return 200, {"code": "1", "msg": "All operations failed", "data": [{"ordId": "", "sCode": code, "sMsg": msg}]}


class TestOkx(ExchangeSuite):
    exchange = "okx"
    market_id = "BTC-USDT"
    acknowledged = told({"clOrdId": "@ID", "ordId": "42", "sCode": "0", "sMsg": "", "tag": ""})
    cancelled = told({"clOrdId": "@ID", "ordId": "42", "sCode": "0", "sMsg": ""})
    missing = (200, {"code": "51603", "msg": "Order does not exist", "data": []})
    gone = refusal("51402", "Cancellation failed as the order has been completed")
    refusals = {
        "insufficient_funds": refusal("51008", "Order failed. Insufficient USDT balance in account."),
        "min_notional": refusal("51020", "Your order should meet or exceed the minimum order amount."),
        "price_out_of_range": refusal("51137", "The highest price limit for buy orders is 1"),
        "invalid_symbol": (200, {"code": "51001", "msg": "Instrument ID doesn't exist.", "data": []}),
        "too_many_orders": refusal("51174", "The number of pending orders reached the upper limit."),
    }
    duplicate = refusal("51016", "Client order ID already exists.")
    throttled = (200, {"code": "50011", "msg": "Too Many Requests", "data": []})
    untimely = (401, {"code": "50102", "msg": "Timestamp request expired", "data": []})
    bad_keys = (401, {"code": "50113", "msg": "Invalid Sign", "data": []})
    ambiguous = (200, {"code": "50004", "msg": "Endpoint request timeout", "data": []})
    ticker_json = told({"instId": "BTC-USDT", "last": "20000.2", "bidPx": "20000.1", "askPx": "20000.3", "ts": "1"})
    balance_json = told({"details": [{"ccy": "BTC", "eq": "0.3", "availBal": "0.2", "frozenBal": "0.1"}]})

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "instType": "SPOT",
            "instId": "BTC-USDT",
            "ordId": str(number),
            "clOrdId": "@ID" if number == 42 else f"other{number}",
            "px": "20000.5",
            "sz": "0.00012",
            "accFillSz": filled,
            "avgPx": "",
            "state": STATES[state],
            "ordType": "limit",
            "side": "buy",
            "tdMode": "cash",
            "tgtCcy": "",
            "fee": "0",
            "feeCcy": "BTC",
            "cTime": str(CREATED_MS),
            "uTime": str(CREATED_MS),
        }

    def one(self, row: Any) -> Any:
        return told(row)

    def opened(self, rows: list[Any]) -> Any:
        return told(*rows)

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told(*rows)

    def trade(self, number: int = 7) -> Any:
        return {
            "instType": "SPOT",
            "instId": "BTC-USDT",
            "tradeId": str(number),
            "billId": str(number),
            "ordId": "42",
            "clOrdId": "@ID",
            "fillPx": "20000",
            "fillSz": "0.00005",
            "side": "buy",
            "fee": "-0.0000001",
            "feeCcy": "BTC",
            "ts": str(CREATED_MS),
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v5/trade/order")
        expires = int(write.headers["expTime"]) - NOW.timestamp() * 1_000
        assert 4_000 < expires <= 5_000

    async def test_what_ended_long_ago_is_asked_of_the_archive(self) -> None:
        """Seven days are in one list, three months in another."""
        made = self.answering(told())
        for days, path in ((1, "orders-history"), (30, "orders-history-archive")):
            made.line.sent.clear()
            listed = await made.closed_orders(NOW - timedelta(days=days), NOW, self.symbol)
            assert listed == OrderList(())
            assert made.line.sent[0].path.endswith(path)
