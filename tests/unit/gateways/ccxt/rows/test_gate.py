"""Gate: its answers, and what its requests look like."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from services.mcp.order_execution.gateways.base import Accepted, Found, NotFound, OrderRef, Unavailable
from tests.unit.gateways.ccxt.captured import CLIENT_ID, NOW, CapturedGateway, Reply, Sent, order
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "open", "filled": "closed", "canceled": "cancelled"}


def refusal(label: str, message: str = "") -> tuple[int, Any]:
    return 400, {"label": label, "message": message}


class TestGate(ExchangeSuite):
    exchange = "gate"
    market_id = "BTC_USDT"
    acknowledged = {"id": "42", "text": "@ID", "status": "open", "currency_pair": "BTC_USDT"}
    cancelled = {"id": "42", "text": "@ID", "status": "cancelled", "currency_pair": "BTC_USDT"}
    missing = (404, {"label": "ORDER_NOT_FOUND", "message": "Order with ID 999 not found"})
    gone = refusal("ORDER_CLOSED", "Order already closed")
    refusals = {
        "insufficient_funds": refusal("BALANCE_NOT_ENOUGH", "Not enough balance"),
        "min_notional": refusal(
            "INVALID_PARAM_VALUE", "Your order size 1 USDT is too small. The minimum is 3 USDT"
        ),
        "invalid_request": refusal("INVALID_PARAM_VALUE", "Invalid parameter"),
        "invalid_precision": refusal("INVALID_PRECISION"),
        "invalid_symbol": refusal("INVALID_CURRENCY_PAIR"),
        "would_trade": refusal("POC_FILL_IMMEDIATELY", "Order would match and take immediately"),
    }
    duplicate = refusal("REPEATED_CREATION")
    throttled = (429, {"label": "TOO_MANY_REQUESTS", "message": "Request Rate limit Exceeded"})
    untimely = refusal("REQUEST_EXPIRED", "gap between request Timestamp and server time exceeds 60")
    bad_keys = (401, {"label": "INVALID_KEY", "message": "Invalid key provided"})
    ambiguous = refusal("SERVER_ERROR", "internal error")
    ticker_json = [
        {"currency_pair": "BTC_USDT", "last": "20000.2", "lowest_ask": "20000.3", "highest_bid": "20000.1"}
    ]
    balance_json = [{"currency": "BTC", "available": "0.2", "locked": "0.1"}]

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "id": str(number),
            "text": "@ID" if number == 42 else f"t-other-{number}",
            "create_time_ms": CREATED_MS,
            "update_time_ms": CREATED_MS,
            "create_time": str(CREATED_MS // 1_000),
            "update_time": str(CREATED_MS // 1_000),
            "status": STATES[state],
            "currency_pair": "BTC_USDT",
            "type": "limit",
            "account": "spot",
            "side": "buy",
            "amount": "0.00012",
            "price": "20000.5",
            "time_in_force": "gtc",
            "left": "0" if state == "filled" else "0.00012",
            "filled_total": "2.4" if state == "filled" else "0",
            "fee": "0",
            "fee_currency": "BTC",
        }

    def one(self, row: Any) -> Any:
        return row

    def opened(self, rows: list[Any]) -> Any:
        return rows

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return rows

    def trade(self, number: int = 7) -> Any:
        return {
            "id": str(number),
            "create_time": str(CREATED_MS // 1_000),
            "create_time_ms": f"{CREATED_MS}.123",
            "currency_pair": "BTC_USDT",
            "side": "buy",
            "role": "taker",
            "amount": "0.00005",
            "price": "20000",
            "order_id": "42",
            "fee": "0.0000001",
            "fee_currency": "BTC",
            "text": "@ID",
        }

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/api/v4/spot/orders")
        expires = int(write.headers["x-gate-exptime"]) - NOW.timestamp() * 1_000
        assert 4_000 < expires <= 5_000

    async def test_ids_travel_behind_t_and_within_28_characters(self) -> None:
        """Those that begin with t as well, which ccxt would send bare; all come back as they were."""
        for client_id in (CLIENT_ID, "trade1", "t", "a" * 26):
            made = self.made().answer('{"id":"42"}')
            assert await made.submit(order(client_order_id=client_id)) == Accepted("42")
            sent = made._ids.encode(client_id)
            assert f'"text":"{sent}"' in made.line.writes[0].body
            assert sent.startswith("t-")
            assert len(sent) <= 28
            assert made._ids.decode(sent) == client_id

    async def test_what_a_lookup_forgets_is_searched_in_the_lists(self) -> None:
        """An hour after its end an order is found by the exchange's id alone."""
        old = OrderRef(CLIENT_ID, self.symbol, None, NOW - timedelta(hours=2))
        made = self.listing([self.row()], [])
        assert isinstance(await made.query(old), Found)
        made = self.listing([], [])
        assert await made.query(old) == NotFound()
        assert [sent.query.get("status") for sent in made.line.sent] == [None, "open", "finished"]

    def listing(self, opened: list[Any], closed: list[Any]) -> CapturedGateway:
        """A gateway whose lookup knows nothing, and whose lists have these rows."""
        made = self.made()
        lists = {"open": self.with_id(made, opened), "finished": self.with_id(made, closed)}

        def script(sent: Sent) -> Reply | str:
            if "status" not in sent.query:
                status, answer = self.missing
                return Reply(json.dumps(answer), status=status)
            page, limit = int(sent.query["page"]), int(sent.query["limit"])
            return json.dumps(lists[sent.query["status"]][(page - 1) * limit : page * limit])

        return made.answer(script)

    async def test_pages_of_open_orders_that_shift_are_read_again(self) -> None:
        """An order that ends between two pages moves the first of the next page into the one that was read."""
        made = self.made()
        book = [*(self.row(number) for number in range(1_000, 1_100)), self.with_id(made, self.row())]

        def script(sent: Sent) -> Reply | str:
            if "status" not in sent.query:
                return Reply(json.dumps(self.missing[1]), status=self.missing[0])
            page, limit = int(sent.query["page"]), int(sent.query["limit"])
            told = book[(page - 1) * limit : page * limit]
            if len(made.line.sent) == 2:
                del book[0]
            return json.dumps(told)

        made.answer(script)
        old = OrderRef(CLIENT_ID, self.symbol, None, NOW - timedelta(hours=2))
        found = await made.query(old)
        assert isinstance(found, Found), found
        assert [sent.query.get("page") for sent in made.line.sent] == [None, *("1", "2") * 3]

    async def test_pages_that_never_stand_still_are_no_list(self) -> None:
        """It is said, not guessed."""
        made = self.made()
        first = iter(range(2_000, 3_000))

        def script(sent: Sent) -> str:
            if sent.query["page"] == "1":
                return json.dumps([self.row(number) for number in (next(first), *range(1_000, 1_099))])
            return "[]"

        listed = await made.answer(script).open_orders(self.symbol)
        assert isinstance(listed, Unavailable)
        assert len(made.line.sent) == 8
