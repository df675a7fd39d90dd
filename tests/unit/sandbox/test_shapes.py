"""The shapes of orders and trades, quirk by quirk."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.sandbox.shapes import padded
from tests.unit.sandbox.desk import CANCEL, LIST, STATUS, desk

RIAL = {"\ufdfc", "\u0631\u06cc\u0627\u0644"}


async def test_the_old_answer_to_an_add_mixes_strings_and_numbers() -> None:
    """``matchedAmount`` and ``fee`` are the number 0, and there is neither execution nor market."""
    async with desk(shapes="old") as client:
        order = (await client.add()).body["order"]
        assert order["matchedAmount"] == 0
        assert isinstance(order["matchedAmount"], int)
        assert order["fee"] == 0
        assert order["totalPrice"] == "600.0"
        assert order["srcCurrency"] == "Bitcoin"
        assert order["dstCurrency"] == "Tether"
        assert not {"execution", "market", "averagePrice"} & set(order)
        assert datetime.fromisoformat(order["created_at"]).tzinfo is not None


async def test_the_old_status_says_nothing_matched_as_0e_10_and_not_my_order() -> None:
    """As in the sample of the documentation, which shows an own order so."""
    async with desk(shapes="old") as client:
        await client.add(clientOrderId="mine")
        order = (await client.post(STATUS, {"id": 1})).body["order"]
        assert (order["matchedAmount"], order["fee"]) == ("0E-10", "0E-10")
        assert order["price"] == "60000.0000000000000000"
        assert order["amount"] == "0.0100000000"
        assert order["isMyOrder"] is False
        assert order["clientOrderId"] == "mine"


async def test_the_new_shape_says_more() -> None:
    """Execution, market, mean price, what was paid and what the whole order comes to."""
    async with desk(shapes="new") as client:
        await client.market(dstCurrency="rls")
        order = (await client.post(STATUS, {"id": 1})).body["order"]
        assert order["execution"] == "Market"
        assert order["tradeType"] == "Spot"
        assert order["market"] == "BTC-RLS"
        assert order["dstCurrency"] in RIAL
        assert order["price"] == "market"
        assert Decimal(order["totalPrice"]) == Decimal(order["averagePrice"]) * Decimal(order["matchedAmount"])
        assert order["unmatchedAmount"] == "0"
        assert order["isMyOrder"] is True


async def test_varied_shapes_are_old_for_odd_ids_and_new_for_even_ones() -> None:
    """So that a client meets both, and a test knows which."""
    async with desk() as client:
        assert "execution" not in (await client.add()).body["order"]
        assert "execution" in (await client.add()).body["order"]


async def test_rial_is_a_sign_or_a_word() -> None:
    """The word after an add, the sign elsewhere."""
    async with desk(shapes="old") as client:
        added = (await client.add(dstCurrency="rls", price="60000000000")).body["order"]["dstCurrency"]
        listed = (await client.get(LIST)).body["orders"][0]["dstCurrency"]
        assert {added, listed} == RIAL


async def test_a_partial_fill_shows_in_the_amounts_and_not_in_the_status() -> None:
    """The order stays Active."""
    async with desk(shapes="new") as client:
        await client.add(price="65010", amount="1")
        order = (await client.post(STATUS, {"id": 1})).body["order"]
        matched = Decimal(order["matchedAmount"])
        assert order["status"] == "Active"
        assert 0 < matched < 1
        assert Decimal(order["unmatchedAmount"]) == 1 - matched
        cancelled = (await client.post(CANCEL, {"order": 1, "status": "canceled"})).body["order"]
        assert cancelled["status"] == "Canceled"
        assert Decimal(cancelled["matchedAmount"]) == matched
        listed = (await client.get(f"{LIST}?status=done&details=2")).body["orders"]
        assert [Decimal(row["matchedAmount"]) for row in listed] == [matched]


@pytest.mark.parametrize(("side", "currency"), [("buy", "BTC"), ("sell", "USDT")])
async def test_fees_are_in_the_currency_received(side: str, currency: str) -> None:
    """Base for buys, quote for sells."""
    async with desk(shapes="new") as client:
        await client.market(type=side)
        report = client.sandbox.book()[0]
        assert report.order.fee_currency == currency
        row = (await client.get("/market/trades/list")).body["trades"][0]
        received = Decimal(row["amount"] if side == "buy" else row["total"])
        assert Decimal(row["fee"]) == received * Decimal("0.002")


async def test_a_trade_row_has_what_is_documented() -> None:
    """Display names, market, total."""
    async with desk() as client:
        await client.market(dstCurrency="rls")
        row: dict[str, Any] = (await client.get("/market/trades/list")).body["trades"][0]
        assert set(row) == {
            "id", "orderId", "srcCurrency", "dstCurrency", "market", "timestamp", "type", "price", "amount",
            "total", "fee",
        }  # fmt: skip
        assert (row["srcCurrency"], row["dstCurrency"], row["market"]) == ("Bitcoin", "\ufdfc", "BTC-RLS")


def test_padding_never_cuts_digits_off() -> None:
    """Ten decimals at least."""
    assert padded(Decimal(0)) == "0E-10"
    assert padded(Decimal("0.5")) == "0.5000000000"
    assert padded(Decimal("0.123456789012")) == "0.123456789012"
