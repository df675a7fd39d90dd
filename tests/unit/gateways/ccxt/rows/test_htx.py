"""HTX: its answers, and what its requests look like."""

from __future__ import annotations

import json
from typing import Any

from services.mcp.order_execution.gateways.base import Found, NotFound
from tests.unit.gateways.ccxt.captured import CapturedGateway, Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "submitted", "filled": "filled", "canceled": "canceled"}


def told(data: Any) -> Any:
    return {"status": "ok", "data": data}


def refusal(code: str, msg: str = "") -> tuple[int, Any]:
    return 200, {"status": "error", "err-code": code, "err-msg": msg, "data": None}


class TestHtx(ExchangeSuite):
    exchange = "htx"
    market_id = "btcusdt"
    before = {"/v1/account/accounts": told([{"id": 1, "type": "spot", "subtype": "", "state": "working"}])}
    acknowledged = told("42")
    cancelled = told("42")
    missing = refusal("base-record-invalid", "record invalid")
    gone = refusal("order-orderstate-error", "the order state is error")
    refusals = {
        "insufficient_funds": refusal("account-frozen-balance-insufficient-error", "not enough"),
        "min_notional": refusal("order-value-min-error", "Order total cannot be lower than: 10 USDT"),
        "price_out_of_range": refusal("order-limitorder-price-max-error"),
        "invalid_price": refusal("order-orderprice-precision-error"),
        "invalid_symbol": refusal("base-symbol-error", "The symbol is invalid"),
        "market_closed": refusal("base-symbol-trade-disabled"),
    }
    throttled = refusal("base-request-exceed-frequency-limit")
    bad_keys = refusal("api-signature-not-valid", "Signature not valid: Incorrect Access key")
    ambiguous = refusal("timeout", "Request Timeout")
    ticker_json = {
        "status": "ok",
        "ts": 1,
        "tick": {"bid": [20000.1, 1], "ask": [20000.3, 1], "close": 20000.2},
    }
    balance_json = told(
        {
            "id": 1,
            "type": "spot",
            "list": [
                {"currency": "btc", "type": "trade", "balance": "0.2"},
                {"currency": "btc", "type": "frozen", "balance": "0.1"},
            ],
        }
    )

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "id": number,
            "client-order-id": "@ID" if number == 42 else f"other-{number}",
            "symbol": "btcusdt",
            "account-id": 1,
            "amount": "0.00012",
            "price": "20000.5",
            "created-at": CREATED_MS,
            "type": "buy-limit",
            "field-amount": filled,
            "field-cash-amount": "0",
            "field-fees": "0",
            "source": "api",
            "state": STATES[state],
        }

    def one(self, row: Any) -> Any:
        return told(row)

    def opened(self, rows: list[Any]) -> Any:
        return told(rows)

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told(rows)

    def trade(self, number: int = 7) -> Any:
        return {
            "id": 1_000 + number,
            "trade-id": number,
            "order-id": 42,
            "match-id": 1,
            "symbol": "btcusdt",
            "type": "buy-limit",
            "role": "taker",
            "price": "20000",
            "filled-amount": "0.00005",
            "filled-fees": "0.0000001",
            "fee-currency": "btc",
            "created-at": CREATED_MS,
        }

    def made(self) -> CapturedGateway:
        made = super().made()
        made.exchange.markets[self.symbol]["baseId"] = "btc"
        return made

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/v1/order/orders/place")
        assert '"client-order-id":"0123456789abcdef0123456789abcdef"' in write.body

    async def test_orders_are_searched_in_the_lists(self) -> None:
        """Its lookup by client id forgets within hours, the lists within months."""
        made = self.made()

        def script(sent: Sent) -> str:
            rows = [] if sent.path.endswith("openOrders") else [self.row(state="filled", filled="0.00012")]
            return json.dumps(self.with_id(made, told(rows)))

        assert isinstance(await made.answer(script).query(self.ref()), Found)
        assert [sent.path for sent in made.line.sent] == ["/v1/order/openOrders", "/v1/order/orders"]
        assert await self.answering(told([])).query(self.ref()) == NotFound()
