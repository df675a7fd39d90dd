"""Names of markets and currencies."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution.paper_exchange.exchange import PaperExchange
from services.mcp.order_execution.sandbox.markets import FINEST, Markets, paper_currency
from services.mcp.order_execution.sandbox.settings import SandboxSettings
from tests.unit.sandbox.desk import HandClock


@pytest.fixture(name="markets")
def _markets() -> Markets:
    exchange = PaperExchange(SandboxSettings(path=Path(":memory:")).paper(), HandClock())
    exchange.open()
    try:
        return Markets(exchange)
    finally:
        exchange.close()


def test_every_form_of_a_name(markets: Markets) -> None:
    """Path, dashes, capitals, and the paper exchange's own."""
    info = markets.pair("1m_pepe", "rls")
    assert info is not None
    assert (info.path, info.dashed, info.market, info.symbol) == (
        "1M_PEPEIRT",
        "1m_pepe-rls",
        "1M_PEPE-RLS",
        "1MPEPE/RLS",
    )
    assert markets.by_path("1M_PEPEIRT") is info
    assert markets.by_symbol("1MPEPE/RLS") is info
    assert paper_currency("1m_pepe") == "1MPEPE"


def test_only_rial_and_tether_are_paid_with(markets: Markets) -> None:
    """And neither with itself; rial is traded for nothing."""
    assert {info.dst for info in markets} == {"rls", "usdt"}
    assert markets.pair("usdt", "rls") is not None
    assert [markets.pair(*pair) for pair in (("rls", "usdt"), ("usdt", "usdt"), ("btc", "eth"))] == [None] * 3
    assert markets.knows("BTC/USDT")
    assert not markets.knows("BTC/USD")


def test_steps_are_at_most_eight_decimals_and_on_the_exchanges_own(markets: Markets) -> None:
    """Minimums are at least the documented ones."""
    for info in markets:
        assert info.price_step >= FINEST
        assert info.amount_step >= FINEST
    assert markets.minimums["usdt"] == 11
    assert markets.minimums["rls"] >= 3_000_000


def test_rounding(markets: Markets) -> None:
    """Amounts down, prices half to even."""
    info = markets.pair("btc", "usdt")
    assert info is not None
    assert info.whole_amount(Decimal("0.0000019")) == Decimal("0.000001")
    assert [info.whole_price(Decimal(price)) for price in ("0.005", "0.015")] == [Decimal("0.00"), Decimal("0.02")]
