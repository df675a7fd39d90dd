"""Pure matching: what the depth gives, prices and priorities."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import OrderType, Side
from services.mcp.order_execution.paper_exchange.matching import (
    Book,
    amount_of,
    cost_of,
    fee_for,
    is_market,
    is_stop,
    priority,
    reaches,
    touches,
)
from services.mcp.order_execution.paper_exchange.records import Level
from tests.unit.paper_exchange.desk import D
from tests.unit.paper_exchange.test_records import ORDER

ASKS = (Level(D(101), D(1)), Level(D(102), D(2)), Level(D(103), D(3)))
BIDS = (Level(D(99), D(1)), Level(D(98), D(2)), Level(D(97), D(3)))


def book(taken: dict[Side, Decimal] | None = None) -> Book:
    return Book(lambda side: ASKS if side is Side.BUY else BIDS, taken=taken)


def test_an_offer_goes_from_the_best_price_to_worse_ones() -> None:
    """And takes nothing."""
    one = book()
    assert one.offer(Side.BUY, D("1.5")) == [Level(D(101), D(1)), Level(D(102), D("0.5"))]
    assert one.offer(Side.SELL, D("0.5")) == [Level(D(99), D("0.5"))]
    assert one.taken == {Side.BUY: 0, Side.SELL: 0}


def test_an_offer_stops_at_the_limit() -> None:
    """A level at the limit itself is reached."""
    assert amount_of(book().offer(Side.BUY, D(10), limit=D(102))) == 3
    assert amount_of(book().offer(Side.SELL, D(10), limit=D("98.5"))) == 1
    assert book().offer(Side.SELL, D(10), limit=D(100)) == []


def test_an_offer_ends_with_the_depth() -> None:
    """However much is wanted."""
    assert amount_of(book().offer(Side.BUY, D(100))) == 6


def test_an_offer_stays_within_the_budget_in_whole_steps() -> None:
    """What is left of the budget buys at the next level, cut to steps."""
    offer = book().offer(Side.BUY, D(10), budget=D(200), step=D("0.1"))
    assert offer == [Level(D(101), D(1)), Level(D(102), D("0.9"))]
    assert cost_of(offer) <= 200
    assert book().offer(Side.BUY, D(10), budget=D(5), step=D("0.1")) == []


def test_what_was_taken_is_the_front_of_its_side() -> None:
    """The other side keeps its depth."""
    one = book({Side.BUY: D("1.5"), Side.SELL: D(0)})
    assert list(one.left(Side.BUY)) == [Level(D(102), D("1.5")), Level(D(103), D(3))]
    assert list(one.left(Side.SELL)) == list(BIDS)
    one.take(Side.BUY, D("1.5"))
    assert one.best(Side.BUY) == 103
    one.take(Side.BUY, D(3))
    assert list(one.left(Side.BUY)) == []
    assert one.best(Side.BUY) == 103


@given(st.lists(st.decimals("0.1", "3", places=1), max_size=6), st.sampled_from([None, D(101), D(102)]))
def test_nothing_is_given_twice(wants: list[Decimal], limit: Decimal | None) -> None:
    """Whatever the sequence, takers together get the depth within their limit at most."""
    one, got = book(), D(0)
    for want in wants:
        amount = amount_of(one.offer(Side.BUY, want, limit=limit))
        assert amount <= want
        one.take(Side.BUY, amount)
        got += amount
    there = amount_of(level for level in ASKS if limit is None or level.price <= limit)
    assert got == min(sum(wants, D(0)), there)


def test_a_book_keeps_its_own_count() -> None:
    """It does not change the mapping that it was given."""
    taken = {Side.BUY: D(0), Side.SELL: D(0)}
    book(taken).take(Side.BUY, D(1))
    assert taken[Side.BUY] == 0


@pytest.mark.parametrize(
    ("side", "limit", "price", "yes"),
    [(Side.BUY, 10, 10, True), (Side.BUY, 10, 11, False), (Side.SELL, 10, 10, True), (Side.SELL, 10, 9, False)],
)
def test_a_limit_reaches_prices_up_to_itself(side: Side, limit: int, price: int, yes: bool) -> None:
    """Lower for a buyer, higher for a seller."""
    assert reaches(side, D(limit), D(price)) is yes


@pytest.mark.parametrize(
    ("side", "stop", "price", "yes"),
    [(Side.BUY, 10, 10, True), (Side.BUY, 10, 9, False), (Side.SELL, 10, 10, True), (Side.SELL, 10, 11, False)],
)
def test_a_stop_is_touched_from_its_own_side(side: Side, stop: int, price: int, yes: bool) -> None:
    """A buy stop by a rise, a sell stop by a fall."""
    assert touches(side, D(stop), D(price)) is yes


def test_fees_follow_what_is_received() -> None:
    """Rounded to a millionth of a millionth."""
    assert fee_for(Side.BUY, D(50), D(2), D("0.001")) == D("0.002")
    assert fee_for(Side.SELL, D(50), D(2), D("0.001")) == D("0.1")
    assert fee_for(Side.BUY, D(50), D("1e-8"), D("0.0000001")) == 0


def test_priority_is_price_then_time() -> None:
    """Highest bid, lowest ask, and the older of equals."""
    bids = [replace(ORDER, id=number, price=D(price)) for number, price in ((1, 9), (2, 10), (3, 10))]
    asks = [replace(order, side=Side.SELL) for order in bids]
    assert [order.id for order in sorted(bids, key=priority)] == [2, 3, 1]
    assert [order.id for order in sorted(asks, key=priority)] == [1, 2, 3]
    assert priority(replace(ORDER, price=None)) == (0, 1)


def test_kinds_of_orders() -> None:
    """Which never rest, and which wait."""
    assert [kind for kind in OrderType if is_market(kind)] == [OrderType.MARKET, OrderType.STOP_MARKET]
    assert [kind for kind in OrderType if is_stop(kind)] == [OrderType.STOP_MARKET, OrderType.STOP_LIMIT]
