"""Placing, looking up and cancelling, promise by promise of the facts."""

from __future__ import annotations

from typing import Any

import pytest

from services.mcp.order_execution.models import OrderState
from tests.unit.sandbox.desk import CANCEL, LIST, STATUS, desk

BATCH = "/market/orders/cancel-batch"
OLD = "/market/orders/cancel-old"


# ---- placing ----------------------------------------------------------------------------------------------


async def test_an_order_that_rests_is_active() -> None:
    """HTTP 200, status ok, the order with its id."""
    async with desk() as client:
        answer = await client.add(clientOrderId="first")
        assert client.codes(answer) == (200, "ok", None)
        assert answer.body["order"]["status"] == "Active"
        assert answer.body["order"]["id"] == 1
        assert answer.body["order"]["clientOrderId"] == "first"
        assert client.sandbox.book()[0].order.client_order_id == "first"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "hold"}, "ParseError"),
        ({"type": None}, "ParseError"),
        ({"execution": "iceberg"}, "ParseError"),
        ({"amount": None}, "ParseError"),
        ({"amount": 0.01}, "ParseError"),
        ({"amount": "1e-2"}, "ParseError"),
        ({"amount": "-1"}, "ParseError"),
        ({"amount": "NaN"}, "ParseError"),
        ({"pro": True}, "ParseError"),
        ({"mode": "what"}, "ParseError"),
        ({"mode": "oco"}, "FeatureUnavailable"),
        ({"clientOrderId": "a" * 33}, "ParseError"),
        ({"clientOrderId": "a_b"}, "ParseError"),
        ({"clientOrderId": ""}, "ParseError"),
        ({"clientOrderId": 7}, "ParseError"),
        ({"stopPrice": "70000"}, "ParseError"),
        ({"price": None}, "InvalidOrderPrice"),
        ({"price": "0"}, "InvalidOrderPrice"),
        ({"execution": "stop_limit"}, "InvalidOrderPrice"),
        ({"execution": "stop_market", "price": None}, "InvalidOrderPrice"),
        ({"srcCurrency": "BTC"}, "InvalidMarketPair"),
        ({"srcCurrency": "usdt"}, "InvalidMarketPair"),
        ({"dstCurrency": "irt"}, "InvalidMarketPair"),
        ({"dstCurrency": None}, "InvalidMarketPair"),
        ({"price": "45499"}, "BadPrice"),
        ({"price": "84501"}, "BadPrice"),
        ({"execution": "stop_limit", "stopPrice": "70000", "price": "69999"}, "BadPrice"),
        ({"type": "sell", "execution": "stop_limit", "stopPrice": "60000", "price": "60001"}, "BadPrice"),
        ({"execution": "stop_market", "price": None, "stopPrice": "60000"}, "PriceConditionFailed"),
        ({"amount": "0.00018"}, "SmallOrder"),
        ({"amount": "0"}, "SmallOrder"),
        ({"amount": "100"}, "OverValueOrder"),
        ({"type": "sell", "price": "66000", "amount": "100"}, "OverValueOrder"),
        ({"execution": "market", "price": "70000"}, "UnexpectedMarketPrice"),
    ],
)
async def test_what_is_refused_with_http_200_and_a_code(changes: dict[str, Any], code: str) -> None:
    """The order is not booked, and the caller's id comes back, null where there is none."""
    async with desk() as client:
        answer = await client.add(**changes)
        assert client.codes(answer) == (200, "failed", code)
        assert answer.body["message"]
        given = changes.get("clientOrderId")
        assert answer.body["clientOrderId"] == (given if isinstance(given, str) else None)
        assert client.sandbox.book() == []


async def test_bounds_of_thirty_percent_are_inside() -> None:
    """Exactly thirty percent away is taken."""
    async with desk() as client:
        assert (await client.add(price="45500")).body["status"] == "ok"


async def test_excess_digits_are_rounded_amounts_down_and_prices_half_to_even() -> None:
    """The step of BTC/USDT is 0.01 for prices and 0.000001 for amounts."""
    async with desk() as client:
        await client.add(amount="0.0100019", price="60000.005")
        await client.add(amount="0.01", price="60000.015")
        first, second = (report.order for report in client.sandbox.book())
        assert (str(first.amount), str(first.price)) == ("0.010001", "60000.00")
        assert str(second.price) == "60000.02"


async def test_rial_markets_price_in_rial_under_the_code_rls() -> None:
    """BTC at 65,000 dollars is 65 thousand million rial here; the least order is worth some million."""
    async with desk() as client:
        small = await client.add(dstCurrency="rls", price="60000000000", amount="0.000083")
        assert small.body["code"] == "SmallOrder"
        assert (await client.add(dstCurrency="rls", price="60000000000", amount="0.000084")).body["status"] == "ok"


async def test_the_same_order_within_ten_seconds_is_a_duplicate() -> None:
    """Whatever its clientOrderId; after ten seconds it is not."""
    async with desk() as client:
        assert (await client.add(pro=None, clientOrderId="one")).body["status"] == "ok"
        again = await client.add(pro=None, clientOrderId="two")
        assert client.codes(again) == (200, "failed", "DuplicateOrder")
        assert (await client.add(pro=None, amount="0.011")).body["status"] == "ok"
        client.clock.advance(9.9)
        assert (await client.add(pro=None)).body["code"] == "DuplicateOrder"
        client.clock.advance(0.1)
        assert (await client.add(pro=None)).body["status"] == "ok"


async def test_a_refused_order_arms_the_duplicate_guard_too() -> None:
    """The stricter reading of an open question."""
    async with desk() as client:
        assert (await client.add(pro=None, amount="100")).body["code"] == "OverValueOrder"
        assert (await client.add(pro=None, amount="100")).body["code"] == "DuplicateOrder"


async def test_pro_switches_the_duplicate_guard_off() -> None:
    """Two orders of the same specification are booked."""
    async with desk() as client:
        await client.add()
        await client.add()
        assert len(client.sandbox.book()) == 2


async def test_a_client_order_id_is_unique_among_open_orders_only() -> None:
    """While the first is open the second is refused; afterwards the id may be used again."""
    async with desk() as client:
        await client.add(clientOrderId="mine")
        assert (await client.add(clientOrderId="mine")).body["code"] == "DuplicateClientOrderId"
        await client.post(CANCEL, {"clientOrderId": "mine", "status": "canceled"})
        assert (await client.add(clientOrderId="mine")).body["status"] == "ok"
        assert len(client.sandbox.book()) == 2


async def test_orders_without_an_id_of_their_own_do_not_collide() -> None:
    """Any number may be open, each with ``clientOrderId`` null."""
    async with desk() as client:
        for _ in range(3):
            assert (await client.add()).body["order"]["clientOrderId"] is None


async def test_a_market_order_fills_within_one_percent_and_is_done() -> None:
    """Its price reads ``market``."""
    async with desk() as client:
        answer = await client.market(price="65000")
        assert answer.body["order"]["status"] == "Done"
        assert answer.body["order"]["price"] == "market"
        assert client.sandbox.book()[0].order.price == 65650


async def test_what_a_market_order_cannot_fill_is_cancelled() -> None:
    """Expected too low, nothing trades: Canceled with nothing matched."""
    async with desk() as client:
        order = (await client.market(price="64000")).body["order"]
        assert order["status"] == "Canceled"
        assert float(order["matchedAmount"]) == 0


async def test_a_stop_order_waits_inactive() -> None:
    """And shows its stop price as ``param1``."""
    async with desk() as client:
        order = (await client.add(execution="stop_market", price=None, stopPrice="70000")).body["order"]
        assert (order["status"], order["param1"], order["execution"]) == ("Inactive", "70000", "StopMarket")


async def test_a_closed_market_and_an_unwilling_exchange() -> None:
    """The operator closes markets and names the code of refusal."""
    async with desk(faults={"closed_markets": ["btc-usdt"]}) as client:
        assert (await client.add()).body["code"] == "MarketClosed"
        assert (await client.add(dstCurrency="rls", price="60000000000")).body["status"] == "ok"
        client.sandbox.set_faults(client.sandbox.faults.model_copy(update={"refuse_adds": "TradingUnavailable"}))
        assert (await client.add(dstCurrency="rls", price="60000000000")).body["code"] == "TradingUnavailable"


async def test_an_accepted_order_may_be_taken_off_by_the_system() -> None:
    """The answer said Active; a look afterwards says Canceled."""
    async with desk(faults={"system_cancel": 1.0}) as client:
        answer = await client.add()
        assert answer.body["order"]["status"] == "Active"
        assert client.sandbox.book()[0].order.state is OrderState.CANCELED


async def test_a_batch_answers_each_order_for_itself() -> None:
    """Good ones are booked, bad ones refused, in their order."""
    async with desk() as client:
        good = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.01", "price": "60000"}
        answer = await client.post("/market/orders/batch-add", {"data": [good, {**good, "amount": "100"}, 5, good]})
        results = answer.body["results"]
        assert [result.get("code") for result in results] == [
            None,
            "OverValueOrder",
            "ParseError",
            "DuplicateOrder",
        ]
        assert (await client.post("/market/orders/batch-add", {"data": []})).status == 400


# ---- looking up -------------------------------------------------------------------------------------------


async def test_status_by_id_finds_any_order_and_by_client_id_open_ones_only() -> None:
    """What is done or cancelled is not found by its clientOrderId."""
    async with desk(shapes="new") as client:
        await client.market(clientOrderId="done")
        await client.add(clientOrderId="open")
        assert (await client.post(STATUS, {"id": 1})).body["order"]["clientOrderId"] == "done"
        assert (await client.post(STATUS, {"clientOrderId": "open"})).body["order"]["id"] == 2
        assert (await client.post(STATUS, {"clientOrderId": "done"})).body["code"] == "NotFound"


async def test_the_id_wins_where_both_are_given() -> None:
    """As documented."""
    async with desk() as client:
        await client.add(clientOrderId="one")
        await client.add(clientOrderId="two")
        assert (await client.post(STATUS, {"id": 1, "clientOrderId": "two"})).body["order"]["id"] == 1


@pytest.mark.parametrize("target", [STATUS, CANCEL])
async def test_without_any_id_the_code_is_null_id_and_client_order_id(target: str) -> None:
    """Also where the field is called by the other endpoint's name."""
    async with desk() as client:
        wrong = {"order": 1} if target == STATUS else {"id": 1, "status": "canceled"}
        assert client.codes(await client.post(target, wrong)) == (200, "failed", "NullIdAndClientOrderId")


async def test_an_id_is_a_number() -> None:
    """The stricter reading: digits in a string are refused."""
    async with desk() as client:
        for wrong in ("1", True, 1.0):
            assert (await client.post(STATUS, {"id": wrong})).status == 400


async def test_what_is_not_found_is_said_in_every_way_that_was_reported() -> None:
    """404 with a code, 404 with a detail, 200 with a code: the documentation says nothing of it."""
    async with desk() as client:
        seen = set()
        for _ in range(40):
            answer = await client.post(STATUS, {"id": 99})
            seen.add((answer.status, answer.body.get("code"), "detail" in answer.body))
        assert seen == {(404, "NotFound", False), (404, None, True), (200, "NotFound", False)}


async def test_a_new_order_may_be_hidden_from_lookups_for_a_while() -> None:
    """By id, by client id and in lists."""
    async with desk(shapes="new", faults={"lookup_lag_seconds": 2}) as client:
        await client.add(clientOrderId="mine")
        for body in ({"id": 1}, {"clientOrderId": "mine"}):
            assert (await client.post(STATUS, body)).body["code"] == "NotFound"
        assert (await client.get(LIST)).body["orders"] == []
        client.clock.advance(2)
        assert (await client.post(STATUS, {"id": 1})).body["status"] == "ok"
        assert len((await client.get(LIST)).body["orders"]) == 1


async def test_the_number_of_open_orders() -> None:
    """Counts what is open; there are no margin orders."""
    async with desk() as client:
        await client.add()
        await client.market()
        assert (await client.get("/market/orders/open-count")).body == {"status": "ok", "count": 1}
        assert (await client.get("/market/orders/open-count?tradeType=margin")).body["count"] == 0


# ---- cancelling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"order": 1}, {"clientOrderId": "mine"}])
async def test_a_cancel_by_either_id(body: dict[str, Any]) -> None:
    """The field of the exchange's id is called ``order`` here."""
    async with desk(shapes="new") as client:
        await client.add(clientOrderId="mine")
        answer = await client.post(CANCEL, {**body, "status": "canceled"})
        assert client.codes(answer) == (200, "ok", None)
        assert answer.body["updatedStatus"] == "Canceled"
        assert answer.body["order"]["status"] == "Canceled"
        assert client.sandbox.book()[0].order.state is OrderState.CANCELED


async def test_the_order_in_the_answer_to_a_cancel_is_optional() -> None:
    """It came late to the documentation."""
    async with desk(limits=None) as client:
        seen = set()
        for number in range(1, 21):
            await client.add()
            seen.add("order" in (await client.post(CANCEL, {"order": number, "status": "canceled"})).body)
        assert seen == {True, False}


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (CANCEL, {"order": 1, "status": "canceled"}),
        (BATCH, {"orderIds": [1]}),
        (OLD, {}),
    ],
)
async def test_a_cancel_may_be_said_to_be_done_before_it_is(target: str, body: dict[str, Any]) -> None:
    """Until then the order rests; the answer to the single cancel shows no order."""
    async with desk(shapes="new", faults={"cancel_lag_seconds": 2}) as client:
        await client.add()
        answer = await client.post(target, body)
        assert answer.body["status"] == "ok"
        assert "order" not in answer.body
        assert (await client.post(STATUS, {"id": 1})).body["order"]["status"] == "Active"
        client.clock.advance(2)
        assert (await client.post(STATUS, {"id": 1})).body["order"]["status"] == "Canceled"
        again = await client.post(BATCH, {"orderIds": [1, 2]})
        assert {result["status"] for result in again.body["orders"].values()} == {"failed"}


async def test_what_is_done_or_cancelled_cannot_be_cancelled() -> None:
    """HTTP 200 and failed, with the present status or without a word."""
    async with desk() as client:
        await client.market()
        seen = set()
        for _ in range(20):
            answer = await client.post(CANCEL, {"order": 1, "status": "canceled"})
            assert (answer.status, answer.body["status"]) == (200, "failed")
            assert "code" not in answer.body
            seen.add(answer.body.get("updatedStatus"))
        assert seen == {"Done", None}
        assert client.sandbox.book()[0].order.state is OrderState.FILLED


async def test_a_cancel_of_what_does_not_exist_is_not_found() -> None:
    """And a clientOrderId searches open orders only."""
    async with desk(shapes="new") as client:
        await client.market(clientOrderId="done")
        for body in ({"order": 9}, {"clientOrderId": "done"}):
            assert (await client.post(CANCEL, {**body, "status": "canceled"})).body["code"] == "NotFound"


async def test_a_status_other_than_canceled_changes_nothing() -> None:
    """``active`` is for new orders, anything else for nobody."""
    async with desk() as client:
        await client.add()
        assert (await client.post(CANCEL, {"order": 1, "status": "active"})).body["status"] == "failed"
        assert (await client.post(CANCEL, {"order": 1})).status == 400
        assert client.sandbox.book()[0].order.is_open


async def test_a_new_order_refuses_to_be_cancelled_for_a_while() -> None:
    """It shows as New; then it is Active, and can be."""
    async with desk(shapes="new", faults={"new_seconds": 1}) as client:
        assert (await client.add()).body["order"]["status"] == "New"
        assert (await client.post(CANCEL, {"order": 1, "status": "canceled"})).body["updatedStatus"] == "New"
        client.clock.advance(1)
        assert (await client.post(STATUS, {"id": 1})).body["order"]["status"] == "Active"
        assert (await client.post(CANCEL, {"order": 1, "status": "canceled"})).body["status"] == "ok"


async def test_the_mass_cancel_spares_stop_orders_that_wait() -> None:
    """An empty body cancels everything else."""
    async with desk() as client:
        await client.add()
        await client.add(dstCurrency="rls", price="60000000000")
        await client.add(execution="stop_market", price=None, stopPrice="70000")
        assert (await client.post(OLD)).body == {"status": "ok"}
        assert [report.order.is_open for report in client.sandbox.book()] == [False, False, True]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"dstCurrency": "rls"}, [True, False]),
        ({"srcCurrency": "eth"}, [True, True]),
        ({"execution": "market"}, [True, True]),
        ({"execution": "limit", "tradeType": "spot"}, [False, False]),
        ({"tradeType": "margin"}, [True, True]),
    ],
)
async def test_the_mass_cancel_has_filters(filters: dict[str, Any], left: list[bool]) -> None:
    """By currencies, execution and kind of trade."""
    async with desk() as client:
        await client.add()
        await client.add(dstCurrency="rls", price="60000000000")
        assert (await client.post(OLD, filters)).body == {"status": "ok"}
        assert [report.order.is_open for report in client.sandbox.book()] == left


@pytest.mark.parametrize(
    "body", [{"hours": 2}, {"execution": "x"}, {"tradeType": "x"}, {"srcCurrency": "x"}, {"srcCurrency": []}]
)
async def test_the_mass_cancel_refuses_what_it_does_not_understand(body: dict[str, Any]) -> None:
    """``hours`` included, whose meaning the documentation leaves open."""
    async with desk() as client:
        await client.add()
        assert (await client.post(OLD, body)).status == 400
        assert client.sandbox.book()[0].order.is_open


async def test_a_batch_of_cancels_answers_by_id() -> None:
    """Open ones go, others fail each for itself."""
    async with desk() as client:
        await client.add()
        await client.market()
        orders = (await client.post(BATCH, {"orderIds": [1, 2, 3]})).body["orders"]
        assert [orders[number]["status"] for number in ("1", "2", "3")] == ["ok", "failed", "failed"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "Order_ids list is empty"),
        (None, "Order_ids list is empty"),
        (list(range(1, 22)), "The maximum number of orderIds should be 20"),
        (["x"], 'Invalid integer value: "x"'),
    ],
)
async def test_a_batch_of_cancels_that_cannot_be_read(ids: object, message: str) -> None:
    """The documented messages come without a code, as none is documented."""
    async with desk() as client:
        answer = await client.post(BATCH, {"orderIds": ids})
        assert answer.body["status"] == "failed"
        assert "code" not in answer.body
        assert answer.body["message"] == message
