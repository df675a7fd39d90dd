"""The mix of orders that a rehearsal places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import InvalidOrder
from services.mcp.order_execution.parameters import parse_request
from services.mcp.order_execution.pretrade import quantise
from services.mcp.order_execution.rehearsal.plan import (
    BEYOND_ANY_FUNDS,
    CANCELLED,
    MIX,
    NOBITEX_MIX,
    REFUSED_HERE,
    PlannedOrder,
    Purpose,
    plan_orders,
)


def plan(desk: Any, count: int = 40, seed: int = 1, mix: Mapping[Purpose, int] = MIX) -> list[PlannedOrder]:
    return plan_orders(count, seed, [desk.market], {"BTC/USD": desk.ticker}, mix)


def test_the_same_seed_gives_the_same_orders(desk: Any) -> None:
    """A rehearsal can be repeated, and another seed is another rehearsal."""
    assert plan(desk) == plan(desk)
    assert plan(desk, seed=2) != plan(desk)


def test_every_twenty_orders_hold_the_whole_mix(desk: Any) -> None:
    """Each purpose comes as often as the mix says, whatever the seed."""
    for mix in (MIX, NOBITEX_MIX):
        assert sum(mix.values()) == 20
        for seed in range(20):
            purposes = [order.purpose for order in plan(desk, 20, seed, mix)]
            assert Counter(purposes) == Counter(mix)


def test_ids_are_unique(desk: Any) -> None:
    """Each order has an id of its own, which holds the seed."""
    ids = [order.order_id for order in plan(desk, 200, 7)]
    assert len(set(ids)) == 200
    assert ids[0] == "rehearsal-7-0001"


def test_orders_pass_the_market_rules_unless_they_are_meant_not_to(desk: Any) -> None:
    """Whatever is not there to be refused is valid, in the market's steps, for 50 to 500 of the quote currency."""
    for order in plan(desk, 200) + plan(desk, 200, mix=NOBITEX_MIX):
        request = parse_request(order.params, "unused")
        if order.purpose is Purpose.TOO_SMALL:
            with pytest.raises(InvalidOrder, match="amount"):
                quantise(request, desk.market)
            continue
        assert quantise(request, desk.market).amount == request.amount
        notional = request.amount * desk.ticker.last
        expected = BEYOND_ANY_FUNDS if order.purpose is Purpose.TOO_BIG else Decimal(500)
        assert Decimal(49) < notional <= expected


def test_only_resting_orders_are_cancelled(desk: Any) -> None:
    """Those that are to be cancelled say when; no other one does."""
    for order in plan(desk, 60) + plan(desk, 60, mix=NOBITEX_MIX):
        assert (order.cancel_after is not None) == (order.purpose in CANCELLED)


def test_prices_do_what_the_purpose_says(desk: Any) -> None:
    """Post-only orders that rest lie beyond the spread, those that cross would trade, far ones are far."""
    for order in plan(desk, 200) + plan(desk, 200, mix=NOBITEX_MIX):
        price, buying = order.params.get("price"), order.params["side"] == "buy"
        best = desk.ticker.ask if buying else desk.ticker.bid
        crosses = price is not None and (price >= best if buying else price <= best)
        if order.purpose is Purpose.POST_ONLY_CROSSING:
            assert crosses
        if order.purpose in (Purpose.POST_ONLY, Purpose.FAR_LIMIT):
            assert not crosses
        if order.purpose is Purpose.FAR_LIMIT:
            assert abs(price / best - 1) > Decimal("0.07")
        if order.purpose in (Purpose.STOP, Purpose.STOP_LIMIT):
            assert order.params["stop_price"] < desk.ticker.bid
        if order.purpose is Purpose.STOP_LIMIT:
            assert order.params["price"] < order.params["stop_price"]
        if order.purpose is Purpose.STOP_CROSSED:
            assert order.params["stop_price"] > desk.ticker.bid


def test_a_market_in_rial_has_orders_of_the_same_worth(desk: Any) -> None:
    """A dollar is about a million rial, so that no order there is too small by mistake."""
    rial = replace(desk.market, symbol="BTC/IRT", quote="IRT")
    million = Decimal(1_000_000)
    prices = replace(
        desk.ticker,
        symbol="BTC/IRT",
        bid=desk.ticker.bid * million,
        ask=desk.ticker.ask * million,
        last=desk.ticker.last * million,
    )
    for order in plan_orders(40, 1, [rial], {"BTC/IRT": prices}, NOBITEX_MIX):
        if order.purpose not in REFUSED_HERE:
            assert 49 * million < order.params["amount"] * prices.last <= 500 * million
