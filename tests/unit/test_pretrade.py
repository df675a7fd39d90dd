"""The pre-commit phase: what the market or our own limits forbid is refused before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.errors import InvalidOrder, RiskLimitExceeded
from services.mcp.order_execution.gateways.base import (
    GatewayTraits,
    IdScope,
    LookupScope,
    Market,
    Ticker,
)
from services.mcp.order_execution.models import ZERO, Order, OrderRequest, OrderType, Side, TimeInForce
from services.mcp.order_execution.pretrade import (
    RiskGuard,
    RiskLimits,
    check_traits,
    estimated_price,
    funds_needed,
    quantise,
    trades_at_once,
)

D = Decimal
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARKET = Market(
    symbol="BTC/USD",
    base="BTC",
    quote="USD",
    price_tick=D("0.5"),
    amount_step=D("0.001"),
    min_amount=D("0.002"),
    max_amount=D(10),
    min_notional=D(10),
)
TICKER = Ticker("BTC/USD", bid=D(99), ask=D(101), last=D(100))
TRAITS = GatewayTraits(
    client_id_scope=IdScope.FOREVER,
    lookup_scope=LookupScope.ALL,
    lists_closed_orders=True,
    lists_trades=True,
    request_expiry=None,
    settle=1.0,
    client_id_max_length=8,
    client_id_pattern="[a-z0-9]+",
)


def request(**changes: Any) -> OrderRequest:
    usual: dict[str, Any] = {
        "client_order_id": "a",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "amount": D(1),
        "price": D(100),
    }
    return OrderRequest(**{**usual, **changes})


def market_order(side: Side = Side.BUY, **changes: Any) -> OrderRequest:
    return request(**{"type": OrderType.MARKET, "price": None, "side": side, **changes})


def live(
    order_id: str, side: Side = Side.BUY, symbol: str = "BTC/USD", amount: str = "1", filled: str = "0"
) -> Order:
    return Order(
        order_id=order_id,
        symbol=symbol,
        side=side,
        type=OrderType.LIMIT,
        amount=D(amount),
        filled=D(filled),
        created_at=NOW,
        updated_at=NOW,
    )


# ---- what the exchange offers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": OrderType.STOP_MARKET}, "type"),
        ({"time_in_force": TimeInForce.IOC}, "time_in_force"),
        ({"post_only": True}, "post_only"),
        ({"client_order_id": "abcdefghi"}, "client_order_id"),
        ({"client_order_id": "A"}, "client_order_id"),
    ],
)
def test_what_the_exchange_does_not_offer_is_refused(changes: dict[str, Any], field: str) -> None:
    """By the field, naming the exchange."""
    with pytest.raises(InvalidOrder, match="here") as refused:
        check_traits(request(**changes), TRAITS, "here")
    assert refused.value.field == field


def test_what_the_exchange_offers_passes() -> None:
    """A plain order, and any id where the exchange takes none."""
    check_traits(request(), TRAITS, "here")


# ---- the market's rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": D("1.0005")}, "amount"),
        ({"amount": D("0.001")}, "amount"),
        ({"amount": D("10.001")}, "amount"),
        ({"amount": D("0.002")}, "amount"),  # 0.2 USD
        ({"price": D("100.3")}, "price"),
        ({"type": OrderType.STOP_LIMIT, "stop_price": D("99.9")}, "stop_price"),
    ],
)
def test_what_breaks_a_rule_of_the_market_is_refused(changes: dict[str, Any], field: str) -> None:
    """Never rounded: what was asked for is what is placed, or nothing."""
    with pytest.raises(InvalidOrder) as refused:
        quantise(request(**changes), MARKET)
    assert refused.value.field == field


@pytest.mark.parametrize("amount", ["0.1", "10", "0.100"])
def test_what_keeps_the_rules_passes_unchanged(amount: str) -> None:
    """The bounds themselves are inside."""
    assert quantise(request(amount=D(amount)), MARKET).amount == D(amount)


# ---- what an order costs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "ticker", "price"),
    [
        (request(), None, D(100)),
        (market_order(), TICKER, D(101) * D("1.01")),
        (market_order(Side.SELL), TICKER, D(99)),
        (market_order(), None, None),
        (request(type=OrderType.STOP_MARKET, price=None, stop_price=D(110)), None, D(110) * D("1.01")),
    ],
)
def test_the_price_is_estimated_at_worst(asked: OrderRequest, ticker: Ticker | None, price: Decimal | None) -> None:
    """The limit where there is one; else what the market asks, with a margin for a buyer; else nothing."""
    assert estimated_price(asked, ticker) == price


def test_funds_are_what_the_order_gives() -> None:
    """A seller gives the base currency, a buyer the quote; an unknown price gives no sum."""
    assert funds_needed(request(side=Side.SELL), MARKET, None) == ("BTC", D(1))
    assert funds_needed(request(), MARKET, D(100)) == ("USD", D(100))
    assert funds_needed(market_order(), MARKET, None) is None


def test_what_trades_at_once() -> None:
    """Market orders, and those that may not rest."""
    assert trades_at_once(market_order())
    assert trades_at_once(request(time_in_force=TimeInForce.FOK))
    assert not trades_at_once(request())


# ---- our own limits ---------------------------------------------------------------------------------------


class Judge:
    """A guard with a clock that the test moves."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.guard = RiskGuard(RiskLimits(**limits), lambda: self.now)

    def check(
        self,
        asked: OrderRequest,
        *orders: Order,
        ticker: Ticker | None = TICKER,
        position: Decimal | None = ZERO,
    ) -> None:
        """Ask the guard."""
        self.guard.check(asked, MARKET, ticker, orders, position)

    def refuses(self, limit: str, *args: Any, **named: Any) -> bool:
        """Whether it refuses by this limit."""
        try:
            self.check(*args, **named)
        except RiskLimitExceeded as refusal:
            return refusal.limit == limit
        return False


def test_no_limit_refuses_nothing() -> None:
    """Neither many orders nor a missing price."""
    Judge().check(request(amount=D(10)), *(live(str(n)) for n in range(100)), ticker=None, position=None)


def test_one_order_may_cost_so_much() -> None:
    """Up to the limit, by the limit price or the market's; without any price the cost is not known."""
    judge = Judge(max_order_notional=D(100))
    assert not judge.refuses("max_order_notional", request())
    assert judge.refuses("max_order_notional", request(amount=D("1.001")))
    assert judge.refuses("max_order_notional", market_order())
    assert judge.refuses("max_order_notional", market_order(amount=D("0.1")), ticker=None)


def test_a_limit_price_may_be_so_far_away() -> None:
    """On both sides; market orders have no price to be far away."""
    judge = Judge(price_collar_percent=D(5))
    assert not judge.refuses("price_collar_percent", request(price=D(105)))
    assert judge.refuses("price_collar_percent", request(price=D("105.5")))
    assert judge.refuses("price_collar_percent", request(price=D("94.5")))
    assert judge.refuses("price_collar_percent", request(), ticker=None)
    assert not judge.refuses("price_collar_percent", market_order(), ticker=None)


def test_so_many_orders_may_be_open() -> None:
    """Those on their way count from the moment they were let through, each once."""
    judge = Judge(max_open_orders=2)
    assert not judge.refuses("max_open_orders", request(client_order_id="c"), live("a"))
    judge.guard.admit(request(client_order_id="b"))
    assert judge.refuses("max_open_orders", request(client_order_id="c"), live("a"))
    assert not judge.refuses("max_open_orders", request(client_order_id="c"), live("b"))
    assert not judge.refuses("max_open_orders", request(client_order_id="b"), live("a"))
    judge.guard.leave("b")
    assert not judge.refuses("max_open_orders", request(client_order_id="c"), live("a"))


def test_so_many_orders_may_be_placed_in_a_minute() -> None:
    """In any sixty seconds, not by the clock's minutes."""
    judge = Judge(max_orders_per_minute=2)
    judge.guard.admit(request(client_order_id="a"))
    judge.now += 59
    judge.guard.admit(request(client_order_id="b"))
    assert judge.refuses("max_orders_per_minute", request(client_order_id="c"))
    judge.now += 1
    assert not judge.refuses("max_orders_per_minute", request(client_order_id="c"))


def test_so_much_may_be_held() -> None:
    """What is held, what open buys may still add, and this order together; sells are always let through."""
    judge = Judge(max_position={"BTC": D(5)})
    open_orders = (
        live("a", amount="2", filled="1"),
        live("b", Side.SELL, amount="9"),
        live("c", symbol="ETH/USD", amount="9"),
    )
    assert not judge.refuses("max_position", request(client_order_id="d"), *open_orders, position=D(3))
    assert judge.refuses("max_position", request(client_order_id="d"), *open_orders, position=D("3.001"))
    judge.guard.admit(request(client_order_id="e", amount=D("0.5")))
    assert judge.refuses("max_position", request(client_order_id="d"), *open_orders, position=D(3))
    assert judge.refuses("max_position", request(client_order_id="d"), position=None)
    assert not judge.refuses("max_position", request(side=Side.SELL, amount=D(9)), position=None)


def test_the_market_is_asked_only_where_a_limit_needs_it() -> None:
    """A price costs a request."""
    assert not RiskLimits().need_price(market_order())
    assert RiskLimits(max_order_notional=D(1)).need_price(market_order())
    assert not RiskLimits(max_order_notional=D(1)).need_price(request())
    assert RiskLimits(price_collar_percent=D(1)).need_price(request())
    assert not RiskLimits(price_collar_percent=D(1)).need_price(market_order())
