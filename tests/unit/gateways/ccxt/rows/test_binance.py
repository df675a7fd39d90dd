"""Binance: its answers, and what its requests look like."""

from __future__ import annotations

from typing import Any

from tests.unit.gateways.ccxt.captured import Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "NEW", "filled": "FILLED", "canceled": "CANCELED"}


def refusal(code: int, msg: str) -> tuple[int, Any]:
    return 400, {"code": code, "msg": msg}


class TestBinance(ExchangeSuite):
    exchange = "binance"
    acknowledged = {"symbol": "BTCUSDT", "orderId": 42, "clientOrderId": "@ID", "transactTime": CREATED_MS}
    cancelled = {"symbol": "BTCUSDT", "orderId": 42, "origClientOrderId": "@ID", "status": "CANCELED"}
    missing = refusal(-2013, "Order does not exist.")
    gone = refusal(-2011, "Unknown order sent.")
    refusals = {
        "insufficient_funds": refusal(-2010, "Account has insufficient balance for requested action."),
        "min_notional": refusal(-1013, "Filter failure: NOTIONAL"),
        "invalid_amount": refusal(-1013, "Filter failure: LOT_SIZE"),
        "price_out_of_range": refusal(-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        "too_many_orders": refusal(-1013, "Filter failure: MAX_NUM_ORDERS"),
        "would_trade": refusal(-2010, "Order would immediately match and take."),
        "market_closed": refusal(-1013, "Market is closed."),
        "invalid_symbol": refusal(-1121, "Invalid symbol."),
        "rejected": refusal(-2010, "This action is disabled on this account."),
    }
    duplicate = refusal(-2010, "Duplicate order sent.")
    throttled = refusal(-1015, "Too many new orders; current limit is 50 orders per TEN_SECONDS.")
    untimely = refusal(-1021, "Timestamp for this request is outside of the recvWindow.")
    bad_keys = refusal(-2015, "Invalid API-key, IP, or permissions for action.")
    ambiguous = refusal(
        -1006, "An unexpected response was received from the message bus. Execution status unknown."
    )
    ticker_json = {"symbol": "BTCUSDT", "bidPrice": "20000.1", "askPrice": "20000.3", "lastPrice": "20000.2"}
    balance_json = {"balances": [{"asset": "BTC", "free": "0.20000000", "locked": "0.10000000"}]}

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "symbol": "BTCUSDT",
            "orderId": number,
            "clientOrderId": "@ID" if number == 42 else f"other-{number}",
            "price": "20000.50000000",
            "origQty": "0.00012",
            "executedQty": filled,
            "cummulativeQuoteQty": "0",
            "status": STATES[state],
            "timeInForce": "GTC",
            "type": "LIMIT",
            "side": "BUY",
            "stopPrice": "0.00000000",
            "time": CREATED_MS + number,
            "updateTime": CREATED_MS + number,
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
            "id": number,
            "orderId": 42,
            "price": "20000.00000000",
            "qty": "0.00005000",
            "quoteQty": "1.00000000",
            "commission": "0.00000010",
            "commissionAsset": "BTC",
            "time": CREATED_MS,
            "isBuyer": True,
            "isMaker": False,
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v3/order")
        assert "recvWindow=5000" in write.body
