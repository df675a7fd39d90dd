"""Bybit: its answers, and what its requests look like."""

from __future__ import annotations

import json
from typing import Any

from services.mcp.order_execution.gateways.base import Found
from tests.unit.gateways.ccxt.captured import Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "New", "filled": "Filled", "canceled": "Cancelled"}


def told(result: Any) -> Any:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": CREATED_MS}


def refusal(code: int, msg: str) -> tuple[int, Any]:
    return 200, {"retCode": code, "retMsg": msg, "result": {}, "retExtInfo": {}, "time": CREATED_MS}


class TestBybit(ExchangeSuite):
    exchange = "bybit"
    acknowledged = told({"orderId": "42", "orderLinkId": "@ID"})
    cancelled = told({"orderId": "42", "orderLinkId": "@ID"})
    missing = (200, told({"list": [], "nextPageCursor": "", "category": "spot"}))
    gone = refusal(170213, "Order does not exist.")
    refusals = {
        "insufficient_funds": refusal(170131, "Insufficient balance."),
        "min_notional": refusal(170140, "Order value exceeded lower limit."),
        "price_out_of_range": refusal(170193, "Buy order price cannot be higher than 1."),
        "invalid_amount": refusal(170137, "Order quantity has too many decimals."),
        "invalid_symbol": refusal(170121, "Invalid symbol."),
        "would_trade": refusal(170218, "The LIMIT-MAKER order is rejected due to invalid price."),
        "rejected": refusal(170210, "New order rejected."),
    }
    duplicate = refusal(170141, "Duplicate clientOrderId")
    throttled = refusal(10006, "Too many visits!")
    untimely = refusal(10002, "invalid request, please check your server timestamp or recv_window param")
    bad_keys = refusal(10003, "API key is invalid.")
    ambiguous = refusal(170007, "Timeout waiting for response from backend server.")
    ticker_json = told(
        {
            "category": "spot",
            "list": [{"symbol": "BTCUSDT", "bid1Price": "20000.1", "ask1Price": "20000.3", "lastPrice": "20000.2"}],
        }
    )
    balance_json = told(
        {
            "list": [
                {
                    "accountType": "UNIFIED",
                    "coin": [{"coin": "BTC", "walletBalance": "0.3", "locked": "0.1", "totalOrderIM": "0"}],
                }
            ]
        }
    )

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "symbol": "BTCUSDT",
            "orderId": str(number),
            "orderLinkId": "@ID" if number == 42 else f"other-{number}",
            "price": "20000.5",
            "qty": "0.00012",
            "cumExecQty": filled,
            "cumExecValue": "0",
            "cumExecFee": "0",
            "avgPrice": "",
            "orderStatus": STATES[state],
            "orderType": "Limit",
            "timeInForce": "GTC",
            "side": "Buy",
            "createdTime": str(CREATED_MS),
            "updatedTime": str(CREATED_MS),
            "tpslMode": "",
        }

    def one(self, row: Any) -> Any:
        return told({"list": [row], "nextPageCursor": ""})

    def opened(self, rows: list[Any]) -> Any:
        return told({"list": rows, "nextPageCursor": ""})

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told({"list": rows, "nextPageCursor": f"after-{rows[-1]['orderId']}" if more else ""})

    def trade(self, number: int = 7) -> Any:
        return {
            "symbol": "BTCUSDT",
            "execId": str(number),
            "orderId": "42",
            "orderLinkId": "@ID",
            "execPrice": "20000",
            "execQty": "0.00005",
            "execFee": "0.0000001",
            "feeCurrency": "BTC",
            "side": "Buy",
            "execType": "Trade",
            "execTime": str(CREATED_MS),
            "isMaker": False,
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/v5/order/create")
        assert write.headers["X-BAPI-RECV-WINDOW"] == "5000"

    async def test_an_order_that_ended_is_found_in_the_history(self) -> None:
        """The open ones are asked first, then the history, by orderLinkId both times."""
        made = self.made()

        def script(sent: Sent) -> str:
            rows = [self.row(state="filled", filled="0.00012")] if sent.path.endswith("history") else []
            return json.dumps(self.with_id(made, self.opened(rows)))

        assert isinstance(await made.answer(script).query(self.ref()), Found)
        assert [sent.path for sent in made.line.sent] == ["/v5/order/realtime", "/v5/order/history"]
        assert all("orderLinkId=" in sent.url for sent in made.line.sent)
