"""Prices of market orders, and the expected price that is too far off."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.mcp.order_execution.models import OrderType, Side
from services.mcp.order_execution.sandbox.intents import BadOrder, Intent, read_pro
from services.mcp.order_execution.sandbox.markets import MarketInfo

MARKET = MarketInfo(
    src="btc",
    dst="usdt",
    symbol="BTC/USDT",
    price_step=Decimal("0.01"),
    amount_step=Decimal("0.000001"),
    minimum=Decimal(11),
)


def intent(**changes: object) -> Intent:
    fields: dict[str, object] = {"side": Side.BUY, "type": OrderType.MARKET, "price": None, "stop_price": None}
    return Intent(market=MARKET, amount=Decimal(1), **{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "expected", "worst"),
    [
        (Side.BUY, "100", "101.00"),
        (Side.SELL, "100", "99.00"),
        (Side.BUY, None, "101.00"),
        (Side.SELL, "95", "94.05"),
    ],
)
def test_a_market_order_trades_up_to_one_percent_beyond_what_was_expected(
    side: Side, expected: str | None, worst: str
) -> None:
    """Buying at 100 fills below 101; without a price the market's own counts."""
    price = None if expected is None else Decimal(expected)
    assert intent(side=side, price=price).checked_price(Decimal(100)) == Decimal(worst)


def test_an_expected_price_far_off_is_unexpected() -> None:
    """More than five percent, in the sandbox's reading."""
    assert intent(price=Decimal(105)).checked_price(Decimal(100)) is not None
    with pytest.raises(BadOrder) as refused:
        intent(price=Decimal("105.01")).checked_price(Decimal(100))
    assert refused.value.code == "UnexpectedMarketPrice"


def test_pro_is_yes_or_nothing() -> None:
    """Not true, not no."""
    assert (read_pro(None), read_pro("yes")) == (False, True)
    for wrong in (True, "no", 1):
        with pytest.raises(BadOrder):
            read_pro(wrong)
