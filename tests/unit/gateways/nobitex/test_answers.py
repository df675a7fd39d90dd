"""Answers of Nobitex taken apart: what one of them says, and nothing that it does not say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Accepted, ExchangeOrder, OrderRef, Ticker, Unknown
from services.mcp.order_execution.gateways.nobitex import answers, parsing
from services.mcp.order_execution.gateways.nobitex.parsing import NotUnderstood
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply

NAMES = {"Bitcoin": "BTC", "Tether": "USDT"}
KEY = "pub"


def row(number: int) -> ExchangeOrder:
    """A listed order."""
    return parsing.order(
        {
            "id": number,
            "type": "buy",
            "execution": "Limit",
            "market": "BTC-USDT",
            "price": "5",
            "amount": "1",
            "matchedAmount": 0,
            "status": "Active",
            "created_at": "2026-01-01T12:00:00+00:00",
        },
        NAMES,
    )


def trade(number: int, **changes: Any) -> dict[str, Any]:
    """A listed trade."""
    return {
        "id": number,
        "orderId": 7,
        "market": "BTC-USDT",
        "type": "buy",
        "price": 1,
        "amount": 1,
        "timestamp": "2026-01-01T12:00:00+00:00",
        **changes,
    }


@pytest.mark.parametrize("told", [{"id": 7}, {"id": "7", "clientOrderId": None}, {"id": 7, "clientOrderId": "o1"}])
def test_an_acknowledgement_is_its_id_and_nothing_else(told: dict[str, Any]) -> None:
    """The documented sample names another side than was asked for, so the rest is not taken over."""
    assert answers.accepted({**told, "type": "sell", "amount": "99"}, "o1") == Accepted("7")


@pytest.mark.parametrize("told", [None, [], "7", {}, {"id": None}, {"id": 0}, {"id": True}, {"id": "seven"}])
def test_an_acknowledgement_without_an_id_acknowledges_nothing(told: object) -> None:
    """The order may rest all the same."""
    assert answers.accepted(told, "o1") == Unknown(ErrorCategory.BAD_RESPONSE, "accepted, and no id")


def test_an_acknowledgement_of_another_order_is_not_ours() -> None:
    """Nothing is said of ours then."""
    outcome = answers.accepted({"id": 7, "clientOrderId": "other"}, "o1")
    assert isinstance(outcome, Unknown)
    assert "another order" in outcome.message


def test_a_page_is_sorted_when_its_ids_only_rise() -> None:
    """As numbers, not as text, and none twice."""
    assert answers.is_sorted([])
    assert answers.is_sorted([row(9), row(10), row(100)])
    assert not answers.is_sorted([row(10), row(9)])
    assert not answers.is_sorted([row(9), row(9)])


def test_an_order_is_named_by_the_exchanges_id_where_that_is_known() -> None:
    """A number there; else, and for an id that is none, by ours."""
    assert answers.named(OrderRef("o1", "BTC/USDT", "77"), "order") == {"order": 77}
    assert answers.named(OrderRef("o1", "BTC/USDT"), "order") == {"clientOrderId": "o1"}
    assert answers.named(OrderRef("o1", "BTC/USDT", "X1"), "id") == {"clientOrderId": "o1"}


def test_prices_are_the_best_of_each_side() -> None:
    """The last trade stands in for a side that is empty."""
    book = {"lastTradePrice": "60000", "asks": [["60001", "1"], ["60002", "9"]], "bids": [["59999", "1"]]}
    bid, ask, last = Decimal(59_999), Decimal(60_001), Decimal(60_000)
    assert answers.ticker("BTC/USDT", book) == Ticker("BTC/USDT", bid, ask, last)
    assert answers.ticker("BTC/USDT", {**book, "asks": []}) == Ticker("BTC/USDT", bid, last, last)
    assert answers.ticker("BTC/USDT", {**book, "bids": None}) == Ticker("BTC/USDT", last, ask, last)


@pytest.mark.parametrize("change", [{"lastTradePrice": None}, {"asks": [["dear", "1"]]}, {"bids": [[None]]}])
def test_prices_that_are_none_are_not_understood(change: dict[str, Any]) -> None:
    """Nothing is made of them."""
    book = {"lastTradePrice": "60000", "asks": [["60001", "1"]], "bids": [["59999", "1"]]}
    with pytest.raises(NotUnderstood):
        answers.ticker("BTC/USDT", {**book, **change})


def test_our_own_bound_is_no_fault_of_the_exchange() -> None:
    """Local, and no time is given after which it would be otherwise."""
    told = answers.too_many("more than 2000 orders")
    assert (told.local, told.retry_after, told.message) == (True, None, "more than 2000 orders")


def test_trades_without_an_order_are_nobodys_fills() -> None:
    """Conversions are listed among them; a row that lacks the very field is not understood."""
    rows, more = answers.trades({"trades": [trade(1), trade(2, orderId=None)], "hasNext": False}, NAMES, None)
    assert [item.exchange_order_id for item in rows] == ["7"]
    assert not more
    lacking = trade(3)
    del lacking["orderId"]
    with pytest.raises(NotUnderstood):
        answers.trades({"trades": [lacking]}, NAMES, None)


@pytest.mark.parametrize("told", [{}, {"trades": None}, {"trades": {"1": {}}}])
def test_a_page_of_trades_is_a_list(told: dict[str, Any]) -> None:
    """Anything else is not understood."""
    with pytest.raises(NotUnderstood):
        answers.trades(told, NAMES, None)


@pytest.mark.parametrize(
    ("count", "told", "more"),
    [
        (1, True, True),
        (0, True, False),
        (100, False, False),
        (100, None, True),
        (99, None, False),
        (100, "yes", True),
    ],
)
def test_there_is_another_page_where_it_is_said_or_the_page_is_full(count: int, told: object, more: bool) -> None:
    """An empty page ends the walk whatever it says."""
    page: dict[str, Any] = {"trades": [trade(number + 1) for number in range(count)], "hasNext": told}
    if told is None:
        del page["hasNext"]
    rows, another = answers.trades(page, NAMES, None)
    assert (len(rows), another) == (count, more)


def test_permissions_are_those_of_the_key_itself() -> None:
    """Another key's are not told for it."""
    keys = [{"key": "other", "permissions": "WITHDRAW"}, {"key": KEY, "permissions": "READ, TRADE"}]
    assert answers.permissions(Reply(200, {"keys": keys}), KEY) == ("READ", "TRADE")


@pytest.mark.parametrize(
    "answer",
    [
        Lost(ErrorCategory.TIMEOUT, "no answer", sent=True),
        Reply(401, None),
        Reply(200, {}),
        Reply(200, {"keys": "all"}),
        Reply(200, {"keys": ["pub", None]}),
        Reply(200, {"keys": [{"key": KEY, "permissions": ["READ"]}, {"key": "other", "permissions": "READ"}]}),
    ],
)
def test_permissions_that_are_not_told_are_none(answer: Reply | Lost) -> None:
    """Nothing is guessed."""
    assert answers.permissions(answer, KEY) == ()
