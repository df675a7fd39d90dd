"""Kraken: its answers, and what its requests look like."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from services.mcp.order_execution.gateways.base import Accepted, Found, NotFound, Rejected, Unavailable
from tests.unit.gateways.ccxt.captured import CapturedGateway, Reply, Sent
from tests.unit.gateways.ccxt.exchange_suite import CREATED_MS, ExchangeSuite

STATES = {"open": "open", "filled": "closed", "canceled": "canceled"}


def told(result: Any) -> Any:
    return {"error": [], "result": result}


def refusal(*words: str) -> tuple[int, Any]:
    return 200, {"error": list(words)}


class TestKraken(ExchangeSuite):
    exchange = "kraken"
    symbol = "BTC/USD"
    market_id = "XXBTZUSD"
    order_id = "OAAAAA-BBBBB-CCCC42"
    acknowledged = told({"descr": {"order": "buy 0.00012 XBTUSD @ limit 20000.5"}, "txid": ["OAAAAA-BBBBB-CCCC42"]})
    cancelled = told({"count": 1})
    missing = (200, told({"open": {}, "closed": {}}))
    gone = refusal("EOrder:Unknown order")
    refusals = {
        "insufficient_funds": refusal("EOrder:Insufficient funds"),
        "min_notional": refusal("EOrder:Cost minimum not met"),
        "invalid_amount": refusal("EGeneral:Invalid arguments:volume"),
        "invalid_price": refusal("EOrder:Invalid price"),
        "would_trade": refusal("EOrder:Post only order"),
        "invalid_symbol": refusal("EQuery:Unknown asset pair"),
        "market_closed": refusal("EService:Market in cancel_only mode"),
    }
    duplicate = refusal("EOrder:Duplicate client order id")
    throttled = refusal("EOrder:Rate limit exceeded")
    untimely = refusal("EAPI:Invalid nonce")
    bad_keys = refusal("EAPI:Invalid key")
    ambiguous = refusal("EService:Timeout")
    ticker_json = told(
        {"XXBTZUSD": {"a": ["20000.3", "1", "1"], "b": ["20000.1", "1", "1"], "c": ["20000.2", "1"]}}
    )
    balance_json = told({"BTC": {"balance": "0.3", "hold_trade": "0.1"}})

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Any:
        return {
            "id": f"OAAAAA-BBBBB-CCCC{number}",
            "cl_ord_id": "@ID" if number == 42 else f"other-{number}",
            "status": STATES[state],
            "opentm": CREATED_MS / 1_000,
            "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "20000.5", "price2": "0"},
            "vol": "0.00012000",
            "vol_exec": filled,
            "cost": "0",
            "fee": "0",
            "price": "0",
            "stopprice": "0",
            "limitprice": "0",
            "oflags": "fciq",
        }

    def keyed(self, rows: list[Any]) -> Any:
        return {row["id"]: {name: value for name, value in row.items() if name != "id"} for row in rows}

    def one(self, row: Any) -> Any:
        return told({**self.keyed([row]), "open": self.keyed([row]), "closed": {}})

    def opened(self, rows: list[Any]) -> Any:
        return told({"open": self.keyed(rows)})

    def closed(self, rows: list[Any], *, more: bool = False) -> Any:
        return told({"closed": self.keyed(rows), "trades": self.keyed(rows)})

    def trade(self, number: int = 7) -> Any:
        return {
            "id": f"TAAAAA-{number}",
            "ordertxid": "OAAAAA-BBBBB-CCCC42",
            "pair": "XXBTZUSD",
            "time": CREATED_MS / 1_000,
            "type": "buy",
            "ordertype": "limit",
            "price": "20000",
            "cost": "1",
            "fee": "0.0026",
            "vol": "0.00005",
        }

    fill_has_fee = False

    def made(self) -> CapturedGateway:
        made = super().made()
        told = made.exchange.markets[self.symbol]
        made.exchange.options["marketsByAltname"] = {"XBTUSD": told}
        return made

    async def test_a_missing_order_is_not_found(self) -> None:
        """By the exchange's id as an error; by ours as two empty lists."""
        assert await self.answering(refusal("EOrder:Invalid order")[1]).query(self.ref("O-999")) == NotFound()
        made = self.answering(self.missing[1])
        assert await made.query(self.ref()) == NotFound()
        assert [sent.path.rsplit("/", 1)[1] for sent in made.line.sent] == ["OpenOrders", "ClosedOrders"]

    def check_request(self, write: Sent) -> None:
        assert (write.method, write.path) == ("POST", "/0/private/AddOrder")
        assert "deadline=2026-11-21T12%3A00%3A10" in write.body
        assert "userref" not in write.body

    async def test_lookups_name_the_id_by_its_own_parameter(self) -> None:
        """Where ccxt would send userref."""
        made = self.answering(self.opened([self.row()]))
        assert isinstance(await made.query(self.ref()), Found)
        (sent,) = made.line.sent
        assert "cl_ord_id=" in sent.body
        assert "userref" not in sent.body

    async def test_a_cancel_that_counts_nothing_is_refused(self) -> None:
        """A count of 0 in a good answer."""
        outcome = await self.answering(told({"count": 0})).cancel(self.ref(self.order_id))
        assert outcome == Rejected("not_open")

    async def test_nonces_rise(self) -> None:
        """Though the clock stands still, and many leave at once."""
        made = self.answering(self.acknowledged)
        outcomes = await asyncio.gather(*(made.submit(self.request()) for _ in range(20)))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        nonces = [int(dict(part.split("=") for part in sent.body.split("&"))["nonce"]) for sent in made.line.sent]
        assert nonces == sorted(set(nonces))

    async def test_an_order_is_found_by_the_exchanges_id(self) -> None:
        """QueryOrders gives an object by id."""
        made = self.answering(told(self.keyed([self.row()])))
        found = await made.query(self.ref(self.order_id))
        assert isinstance(found, Found), found
        self.check(found.order)

    def finding(self, row: Any) -> Any:
        return self.answering(self.opened([row]))

    async def test_no_answer_is_no_absence(self) -> None:
        """As everywhere; another order comes under another id."""
        text = json.dumps(self.opened([self.row()]))
        for reply in (Reply("<html></html>", status=404), Reply(""), Reply("{}"), Reply(text[:-9])):
            for ref in (self.ref("O-999"), self.ref()):
                assert isinstance(await self.made().answer(reply).query(ref), Unavailable)
        made = self.answering(told(self.keyed([self.row()])))
        assert isinstance(await made.query(self.ref("O-999")), Unavailable)
