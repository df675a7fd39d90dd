"""KuCoin: its answers, and what its requests look like."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.mcp.order_execution.gateways.base import OrderRef, Unavailable
from tests.unit.gateways.ccxt.captured import CLIENT_ID, NOW, Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite


def told(data: Any) -> Any:
    return {"code": "200000", "data": data}


def refusal(code: str, msg: str) -> tuple[int, Any]:
    return 200, {"code": code, "msg": msg}


class TestKucoin(ExchangeSuite):
    exchange = "kucoin"
    market_id = "BTC-USDT"
    acknowledged = told({"orderId": "42", "clientOid": "@ID"})
    cancelled = told({"orderId": "42", "clientOid": "@ID"})
    missing = (400, {"code": "400100", "msg": "order does not exist."})
    gone = refusal("400100", "order_not_exist_or_not_allow_to_cancel")
    refusals = {
        "insufficient_funds": refusal("200004", "Balance insufficient!"),
        "min_notional": refusal("400100", "Order size below the minimum requirement."),
        "invalid_amount": refusal("600100", "Order size increment invalid."),
        "invalid_symbol": refusal("400600", "validation.createOrder.symbolNotAvailable"),
        "price_out_of_range": refusal("400760", "order price should be more than 1"),
        "account_restricted": refusal("400200", "Forbidden to place an order"),
    }
    duplicate = refusal("126044", "clientOid duplicate")
    throttled = refusal("429000", "Too many requests.")
    untimely = (400, {"code": "400002", "msg": "KC-API-TIMESTAMP Invalid"})
    bad_keys = (401, {"code": "400005", "msg": "Signature error"})
    ambiguous = refusal("500000", "Internal Server Error")
    ticker_json = told({"symbol": "BTC-USDT", "buy": "20000.1", "sell": "20000.3", "last": "20000.2", "time": 1})
    balance_json = told(
        [{"id": "1", "currency": "BTC", "type": "trade", "balance": "0.3", "available": "0.2", "holds": "0.1"}]
    )

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "id": str(number),
            "clientOid": "@ID" if number == 42 else f"other-{number}",
            "symbol": "BTC-USDT",
            "opType": "DEAL",
            "type": "limit",
            "side": "buy",
            "price": "20000.5",
            "size": "0.00012",
            "dealSize": filled,
            "dealFunds": "0",
            "fee": "0",
            "feeCurrency": "USDT",
            "timeInForce": "GTC",
            "postOnly": False,
            "active": state == "open",
            "cancelExist": state == "canceled",
            "createdAt": CREATED_MS,
            "lastUpdatedAt": CREATED_MS,
            "tradeType": "TRADE",
        }

    def one(self, row: Any) -> Any:
        return told(row)

    def opened(self, rows: list[Any]) -> Any:
        return told(rows)

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told({"lastId": 123 if rows else 0, "items": rows})

    def trade(self, number: int = 7) -> Any:
        return {
            "id": number,
            "tradeId": number,
            "orderId": "42",
            "symbol": "BTC-USDT",
            "side": "buy",
            "liquidity": "taker",
            "price": "20000",
            "size": "0.00005",
            "funds": "1",
            "fee": "0.0000001",
            "feeCurrency": "BTC",
            "createdAt": CREATED_MS,
            "tradeType": "TRADE",
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v1/hf/orders")

    async def test_what_it_forgets_is_not_absent(self) -> None:
        """After two days "not there" proves nothing any more."""
        status, answer = self.missing
        old = OrderRef(CLIENT_ID, self.symbol, None, NOW - timedelta(days=3))
        assert isinstance(await self.answering(answer, status).query(old), Unavailable)
