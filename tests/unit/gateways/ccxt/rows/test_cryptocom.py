"""Crypto.com: its answers, and what its requests look like."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.gateways.ccxt.captured import Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "ACTIVE", "filled": "FILLED", "canceled": "CANCELED"}


def told(result: Any) -> Any:
    return {"id": 1, "method": "private/x", "code": 0, "result": result}


def refusal(code: int, message: str, status: int = 400) -> tuple[int, Any]:
    return status, {"id": 1, "method": "private/create-order", "code": code, "message": message, "result": {}}


class TestCryptocom(ExchangeSuite):
    exchange = "cryptocom"
    market_id = "BTC_USDT"
    acknowledged = told({"order_id": "42", "client_oid": "@ID"})
    cancelled = told({"order_id": "42", "client_oid": "@ID"})
    missing = refusal(40401, "NOT_FOUND")
    gone = refusal(316, "NO_ACTIVE_ORDER", 500)
    refusals = {
        "insufficient_funds": refusal(306, "INSUFFICIENT_AVAILABLE_BALANCE", 500),
        "min_notional": refusal(415, "BELOW_MIN_ORDER_SIZE", 500),
        "invalid_amount": refusal(213, "Invalid quantity"),
        "price_out_of_range": refusal(315, "FAR_AWAY_LIMIT_PRICE", 500),
        "market_closed": refusal(208, "INSTRUMENT_NOT_TRADABLE"),
        "invalid_symbol": refusal(30003, "SYMBOL_NOT_FOUND"),
    }
    duplicate = refusal(204, "DUPLICATE_CLORDID")
    throttled = refusal(42901, "RATE_LIMIT", 429)
    untimely = refusal(40102, "INVALID_NONCE")
    bad_keys = refusal(40101, "UNAUTHORIZED", 401)
    ambiguous = refusal(40801, "REQUEST_TIMEOUT", 408)
    ticker_json = told({"data": [{"i": "BTC_USDT", "b": "20000.1", "k": "20000.3", "a": "20000.2", "t": 1}]})
    balance_json = told(
        {
            "data": [
                {
                    "instrument_name": "USD",
                    "position_balances": [{"instrument_name": "BTC", "quantity": "0.3", "reserved_qty": "0.1"}],
                }
            ]
        }
    )

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "order_id": str(number),
            "client_oid": "@ID" if number == 42 else f"other-{number}",
            "instrument_name": "BTC_USDT",
            "order_type": "LIMIT",
            "time_in_force": "GOOD_TILL_CANCEL",
            "side": "BUY",
            "exec_inst": [],
            "quantity": "0.00012",
            "limit_price": "20000.5",
            "avg_price": "0",
            "cumulative_quantity": filled,
            "cumulative_value": "0",
            "cumulative_fee": "0",
            "fee_instrument_name": "BTC",
            "status": STATES[state],
            "create_time": CREATED_MS + number,
            "update_time": CREATED_MS + number,
        }

    def one(self, row: Any) -> Any:
        return told(row)

    def opened(self, rows: list[Any]) -> Any:
        return told({"data": rows})

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told({"data": rows})

    def trade(self, number: int = 7) -> Any:
        return {
            "trade_id": str(number),
            "order_id": "42",
            "client_oid": "@ID",
            "instrument_name": "BTC_USDT",
            "side": "BUY",
            "traded_price": "20000",
            "traded_quantity": "0.00005",
            "fees": "-0.0000001",
            "fee_instrument_name": "BTC",
            "taker_side": "TAKER",
            "create_time": CREATED_MS,
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/exchange/v1/private/create-order")
        assert json.loads(write.body)["params"]["client_oid"] == "0123456789abcdef" * 2
