"""Bitget: its answers, and what its requests look like."""

from __future__ import annotations

from typing import Any

from tests.unit.gateways.ccxt.captured import Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "live", "filled": "filled", "canceled": "cancelled"}


def told(data: Any) -> Any:
    return {"code": "00000", "msg": "success", "requestTime": CREATED_MS, "data": data}


def refusal(code: str, msg: str) -> tuple[int, Any]:
    return 400, {"code": code, "msg": msg, "requestTime": CREATED_MS, "data": None}


class TestBitget(ExchangeSuite):
    exchange = "bitget"
    acknowledged = told({"orderId": "42", "clientOid": "@ID"})
    cancelled = told({"orderId": "42", "clientOid": "@ID"})
    missing = refusal("43001", "The order does not exist")
    gone = refusal("43001", "The order does not exist")
    refusals = {
        "insufficient_funds": refusal("43012", "Insufficient balance"),
        "min_notional": refusal("45110", "less than the minimum amount 1 USDT"),
        "price_out_of_range": refusal("41117", "selling price cannot be lower than 1"),
        "invalid_precision": refusal("40808", "Parameter verification exception size checkBDScale error"),
        "invalid_symbol": refusal("40034", "Parameter BTCX does not exist"),
        "account_restricted": refusal("40085", "You are in Unified Account mode"),
    }
    duplicate = refusal("43118", "clientOrderId duplicate")
    throttled = (429, {"code": "429", "msg": "Too Many Requests", "data": None})
    untimely = refusal("40008", "Request timestamp expired")
    bad_keys = refusal("40006", "Invalid ACCESS_KEY")
    ambiguous = refusal("40725", "service return an error")
    ticker_json = told(
        [{"symbol": "BTCUSDT", "bidPr": "20000.1", "askPr": "20000.3", "lastPr": "20000.2", "ts": "1"}]
    )
    balance_json = told([{"coin": "BTC", "available": "0.2", "frozen": "0.1", "locked": "0", "uTime": "1"}])

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "userId": "1",
            "symbol": "BTCUSDT",
            "orderId": str(number),
            "clientOid": "@ID" if number == 42 else f"other-{number}",
            "price": "20000.5",
            "size": "0.00012",
            "orderType": "limit",
            "side": "buy",
            "status": STATES[state],
            "priceAvg": "0",
            "baseVolume": filled,
            "quoteVolume": "0",
            "enterPointSource": "API",
            "feeDetail": "",
            "orderSource": "normal",
            "cTime": str(CREATED_MS),
            "uTime": str(CREATED_MS),
        }

    def one(self, row: Any) -> Any:
        return told([row])

    def opened(self, rows: list[Any]) -> Any:
        return told(rows)

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told(rows)

    def trade(self, number: int = 7) -> Any:
        return {
            "userId": "1",
            "symbol": "BTCUSDT",
            "orderId": "42",
            "tradeId": str(number),
            "orderType": "limit",
            "side": "buy",
            "priceAvg": "20000",
            "size": "0.00005",
            "amount": "1",
            "feeDetail": {"deduction": "no", "feeCoin": "BTC", "totalDeductionFee": "", "totalFee": "-0.0000001"},
            "tradeScope": "taker",
            "cTime": str(CREATED_MS),
            "uTime": str(CREATED_MS),
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v2/spot/trade/place-order")
        assert f'"clientOid":"{"0123456789abcdef" * 2}"' in write.body
