"""Which orders are refused for what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.mcp.order_execution.models import OrderRequest, OrderType, Side, TimeInForce
from services.mcp.order_execution.paper_exchange.admission import malformed, too_small
from services.mcp.order_execution.paper_exchange.market import Markets
from tests.unit.paper_exchange.desk import D

_RULES = Markets(0, volatility=0.0, depth_usd=1.0).rules("BTC/USD")
assert _RULES is not None
RULES = _RULES
GOOD = OrderRequest("one", "BTC/USD", Side.BUY, OrderType.LIMIT, D("0.01"), D("50000"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"type": OrderType.MARKET, "price": None},
        {"type": OrderType.MARKET},
        {"type": OrderType.STOP_MARKET, "price": None, "stop_price": D(70000)},
        {"type": OrderType.STOP_LIMIT, "stop_price": D(70000), "post_only": True},
        {"post_only": True},
        {"time_in_force": TimeInForce.FOK},
        {"amount": RULES.max_amount},
        {"price": RULES.max_price},
        {"client_order_id": "x" * 64},
    ],
)
def test_what_keeps_the_rules_is_not_malformed(changes: dict[str, object]) -> None:
    """Each kind of order in its proper form."""
    assert malformed(replace(GOOD, **changes), RULES) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client_order_id": ""}, "client_order_id"),
        ({"client_order_id": "x" * 65}, "client_order_id"),
        ({"price": None}, "price_required"),
        ({"type": OrderType.STOP_LIMIT, "price": None, "stop_price": D(1)}, "price_required"),
        ({"type": OrderType.STOP_MARKET}, "stop_price_required"),
        ({"stop_price": D(70000)}, "stop_price_not_allowed"),
        ({"type": OrderType.MARKET, "price": None, "post_only": True}, "post_only_conflict"),
        ({"time_in_force": TimeInForce.IOC, "post_only": True}, "post_only_conflict"),
        ({"amount": D(0)}, "amount_range"),
        ({"amount": D(-1)}, "amount_range"),
        ({"amount": D("1e-9")}, "amount_range"),
        ({"amount": D("NaN")}, "amount_range"),
        ({"amount": D("Infinity")}, "amount_range"),
        ({"amount": RULES.max_amount * 10}, "amount_range"),
        ({"amount": D("1e400")}, "amount_range"),
        ({"amount": D("0.010000001")}, "amount_step"),
        ({"price": D(0)}, "price_range"),
        ({"price": D("NaN")}, "price_range"),
        ({"price": RULES.max_price * 2}, "price_range"),
        ({"price": D("50000.005")}, "price_tick"),
        ({"type": OrderType.STOP_LIMIT, "stop_price": D("70000.001")}, "price_tick"),
        ({"type": OrderType.STOP_LIMIT, "stop_price": D(-1)}, "price_range"),
    ],
)
def test_each_broken_rule_has_its_code(changes: dict[str, object], code: str) -> None:
    """The first broken rule is told; hostile numbers break nothing but their rule."""
    assert malformed(replace(GOOD, **changes), RULES) == code  # type: ignore[arg-type]


def test_worth_is_measured_at_the_orders_own_price_where_it_has_one() -> None:
    """Else at its stop price, else at the market."""
    small = replace(GOOD, amount=D("0.0001"))
    assert not too_small(small, RULES, D(1))
    assert too_small(replace(small, price=D(49_999)), RULES, D(65_000))
    stop = replace(small, type=OrderType.STOP_MARKET, price=None, stop_price=D(49_999))
    assert too_small(stop, RULES, D(65_000))
    market = replace(small, type=OrderType.MARKET, price=None)
    assert not too_small(market, RULES, D(50_000))
    assert too_small(market, RULES, D(49_999))
