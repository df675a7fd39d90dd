"""Coinbase: its answers, and what its requests look like."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from services.mcp.order_execution.gateways.base import Found, NotFound, Rejected
from services.mcp.order_execution.models import TimeInForce
from tests.unit.gateways.ccxt.captured import Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "OPEN", "filled": "FILLED", "canceled": "CANCELLED"}
CREATED = datetime.fromtimestamp(CREATED_MS / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def refusal(error: str, preview: str = "") -> tuple[int, Any]:
    told = {"error": error, "message": "", "error_details": "", "preview_failure_reason": preview or error}
    return 200, {"success": False, "failure_reason": "UNKNOWN_FAILURE_REASON", "error_response": told}


class TestCoinbase(ExchangeSuite):
    exchange = "coinbase"
    market_id = "BTC-USDT"
    acknowledged = {
        "success": True,
        "success_response": {"order_id": "42", "product_id": "BTC-USDT", "side": "BUY", "client_order_id": "@ID"},
    }
    cancelled = {
        "results": [{"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": "42"}]
    }
    missing = (
        404,
        {"error": "unknown", "error_details": "order with this orderID was not found", "message": "not found"},
    )
    gone = (200, {"results": [{"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": "42"}]})
    refusals = {
        "insufficient_funds": refusal("INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND"),
        "min_notional": refusal("UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
        "invalid_price": refusal("INVALID_PRICE_PRECISION"),
        "invalid_precision": refusal("INVALID_SIZE_PRECISION"),
        "would_trade": refusal("INVALID_LIMIT_PRICE_POST_ONLY"),
        "invalid_symbol": refusal("INVALID_PRODUCT_ID"),
    }
    throttled = (429, {"error": "rate_limit_exceeded", "message": "Rate limit exceeded"})
    bad_keys = (403, {"error": "PERMISSION_DENIED", "message": "Missing required scopes"})
    ambiguous = refusal("UNKNOWN_FAILURE_REASON")
    ticker_json = {"trades": [{"price": "20000.2", "time": CREATED}], "best_bid": "20000.1", "best_ask": "20000.3"}
    balance_json = {
        "accounts": [
            {
                "uuid": "u",
                "currency": "BTC",
                "available_balance": {"value": "0.2", "currency": "BTC"},
                "hold": {"value": "0.1", "currency": "BTC"},
                "type": "ACCOUNT_TYPE_CRYPTO",
            }
        ],
        "has_next": False,
        "cursor": "",
    }
    fill_has_fee = False  # it is told in the quote currency

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        limit = {"base_size": "0.00012", "limit_price": "20000.5", "post_only": False}
        return {
            "order_id": str(number),
            "client_order_id": "@ID" if number == 42 else f"other-{number}",
            "product_id": "BTC-USDT",
            "side": "BUY",
            "status": STATES[state],
            "order_configuration": {"limit_limit_gtc": limit},
            "order_type": "LIMIT",
            "time_in_force": "GOOD_UNTIL_CANCELLED",
            "created_time": CREATED,
            "filled_size": filled,
            "filled_value": "0",
            "average_filled_price": "0",
            "total_fees": "0",
        }

    def one(self, row: Any) -> Any:
        return {"order": row}

    def opened(self, rows: list[Any]) -> Any:
        return self.closed(rows)

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return {"orders": rows, "sequence": "0", "has_next": more, "cursor": "next" if more else ""}

    def trade(self, number: int = 7) -> Any:
        return {
            "entry_id": "e",
            "trade_id": str(number),
            "order_id": "42",
            "trade_time": CREATED,
            "trade_type": "FILL",
            "price": "20000",
            "size": "0.00005",
            "commission": "0.002",
            "product_id": "BTC-USDT",
            "liquidity_indicator": "TAKER",
            "size_in_quote": False,
            "side": "BUY",
        }

    def traded(self, rows: list[Any]) -> Any:
        return {"fills": rows, "cursor": ""}

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v3/brokerage/orders")
        assert json.loads(write.body)["client_order_id"] == "0123456789abcdef" * 2

    async def test_orders_are_searched_in_the_lists(self) -> None:
        """There is no lookup by client id."""
        assert isinstance(await self.answering(self.opened([self.row()])).query(self.ref()), Found)
        made = self.answering(self.opened([]))
        assert await made.query(self.ref()) == NotFound()
        assert [sent.query.get("order_status") for sent in made.line.sent] == ["OPEN", None]

    async def test_a_cancel_that_failed_is_refused_by_its_reason(self) -> None:
        """Though it comes with HTTP 200 and ccxt tells no reason."""
        outcome = await self.answering(self.gone[1]).cancel(self.ref("42"))
        assert outcome == Rejected("not_open")

    def test_fill_or_kill_is_not_offered(self) -> None:
        """What ccxt cannot read back is not placed."""
        assert TimeInForce.FOK not in self.made().traits.times_in_force
