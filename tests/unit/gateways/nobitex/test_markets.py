"""Markets come from the exchange at run time; one that is not understood is left out, not guessed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.mcp.order_execution.gateways.nobitex.markets import read_markets
from services.mcp.order_execution.gateways.nobitex.parsing import NotUnderstood

OPTIONS = {
    "nobitex": {
        "amountPrecisions": {"BTCIRT": "0.000001", "ETHUSDT": "0.001", "BADIRT": "x", "ZEROIRT": "0", "ODD": "1"},
        "pricePrecisions": {"BTCIRT": "10", "ETHUSDT": "0.01", "BADIRT": "1", "ZEROIRT": "1"},
        "minOrders": {"rls": "3000000", "usdt": "11", "2": "3000000"},
    },
    "coins": [{"coin": "btc", "name": "Bitcoin", "stdName": None}, "junk", {"name": "nobody"}],
}


def test_steps_ticks_and_least_values() -> None:
    """As the exchange says them, by our symbols."""
    markets = read_markets(OPTIONS, 5.0)
    assert set(markets.by_symbol) == {"BTC/IRT", "ETH/USDT"}
    btc = markets.by_symbol["BTC/IRT"]
    assert (btc.price_tick, btc.amount_step, btc.min_notional) == (10, Decimal("0.000001"), 3_000_000)
    assert markets.by_symbol["ETH/USDT"].min_notional == 11
    assert markets.names["bitcoin"] == "btc"


@pytest.mark.parametrize("data", [{}, {"nobitex": []}, {"nobitex": {"amountPrecisions": {}}}])
def test_options_that_are_not_understood_are_no_options(data: dict[str, object]) -> None:
    """The exchange then counts as unavailable."""
    with pytest.raises(NotUnderstood):
        read_markets(data, 0.0)
