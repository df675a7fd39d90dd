"""Symbols, their rules, the price process and the depth: plausible, and the same for everyone who looks."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import Side
from services.mcp.order_execution.paper_exchange.market import LEVELS, USD_PRICES, Markets, plain, split_symbol
from tests.unit.paper_exchange.desk import D

MARKETS = Markets(7, volatility=0.0003, depth_usd=25_000.0)
SYMBOLS = ["BTC/USD", "ETH/USDT", "DOGE/USD", "SHIB/BTC", "BTC/IRT", "USDT/IRT", "EUR/USD", "QQQ/ZZZ", "USD/BTC"]

currencies = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=15)
symbols = st.builds("{}/{}".format, currencies, currencies).filter(lambda symbol: split_symbol(symbol) is not None)


def markets(seed: int = 7, volatility: float = 0.0003) -> Markets:
    return Markets(seed, volatility=volatility, depth_usd=25_000.0)


@pytest.mark.parametrize(
    "text",
    [
        "BTC",
        "btc/usd",
        "BTC/usd",
        "B/USD",
        "BTC/USD/EUR",
        "BTC-USD",
        "BTC/BTC",
        " BTC/USD",
        "BTC/USD\n",
        "",
        "A" * 40,
    ],
)
def test_only_base_and_quote_in_capitals_are_a_symbol(text: str) -> None:
    """Two to fifteen capitals and digits each, and different ones."""
    assert split_symbol(text) is None
    assert MARKETS.rules(text) is None


def test_common_currencies_start_at_plausible_prices() -> None:
    """At step 0 the price is the start price, whatever the seed."""
    assert markets(1).price("BTC/USD", 0) == markets(2).price("BTC/USD", 0) == D(65000)
    assert MARKETS.price("DOGE/USD", 0) == D("0.15")
    assert MARKETS.price("ETH/BTC", 0) == D("0.04923077")
    assert MARKETS.price("BTC/IRT", 0) == D(6_500_000_000)


def test_rules_of_bitcoin_in_dollars() -> None:
    """Cents, satoshis, and five dollars at least."""
    rules = MARKETS.rules("BTC/USD")
    assert rules is not None
    assert (rules.price_tick, rules.amount_step, rules.min_notional) == (D("0.01"), D("1e-8"), D(5))
    assert (rules.base, rules.quote) == ("BTC", "USD")


@given(symbols)
def test_any_symbol_trades_under_plausible_rules(symbol: str) -> None:
    """Prices have six to eight digits, the least order is near five dollars, and steps are fine enough for it."""
    rules = MARKETS.rules(symbol)
    assert rules is not None
    assert 10**6 <= rules.start_price / rules.price_tick < 10**7 + 1
    quote_usd = MARKETS.usd_price(rules.quote)
    assert D("3.3") < rules.min_notional * quote_usd < D("6.8")
    assert rules.amount_step * rules.start_price * 50 < rules.min_notional
    assert D("1e-8") <= rules.amount_step <= 1
    assert rules.start_price < rules.max_price
    assert MARKETS.price(symbol, 0) == rules.start_price


@pytest.mark.parametrize("currency", [*USD_PRICES, "NEW", "OTHER"])
def test_start_funds_are_about_a_million_dollars(currency: str) -> None:
    """A round number of every currency."""
    funds = MARKETS.start_funds(currency)
    assert D(900_000) < funds * MARKETS.usd_price(currency) < D(1_100_000)
    assert len(funds.normalize().as_tuple().digits) <= 2


def test_unknown_currencies_take_their_price_from_the_seed() -> None:
    """The same seed gives the same price; another seed another one."""
    assert markets(1).usd_price("NEW") == markets(1).usd_price("NEW") > 0
    assert len({markets(seed).usd_price("NEW") for seed in range(20)}) > 15


def test_a_price_depends_on_seed_symbol_and_step_alone() -> None:
    """Not on who looks, in which order or how often, nor on the caller's decimal context."""
    one, other = markets(), markets()
    forwards = [one.price("ETH/USD", step) for step in range(500)]
    with localcontext(prec=12):
        backwards = [other.price("ETH/USD", step) for step in reversed(range(500))]
    assert forwards == backwards[::-1]
    assert forwards != [markets(8).price("ETH/USD", step) for step in range(500)]


def test_a_coin_wanders_as_its_volatility_says() -> None:
    """Step by step by about the volatility, over hours by much more, and it comes back."""
    prices = [float(MARKETS.price("BTC/USD", step)) for step in range(4000)]
    moves = [abs(after / before - 1) for before, after in pairwise(prices)]
    assert 1e-4 < sum(moves) / len(moves) < 5e-4
    day = [float(MARKETS.price("BTC/USD", step)) for step in range(0, 86_400, 600)]
    assert max(day) / min(day) > 1.01


@given(st.integers(0, 10**9), st.integers(0, 50))
def test_bitcoin_never_falls_to_fifty_thousand(step: int, seed: int) -> None:
    """The waves are bounded: with the default volatility a coin stays within a sixth of its start price."""
    assert D(55_000) < markets(seed).price("BTC/USD", step) < D(76_000)


def test_a_volatility_of_nothing_leaves_prices_alone() -> None:
    """And the dollar does not move against itself in any case."""
    calm = markets(volatility=0.0)
    assert {calm.price("BTC/USD", step) for step in range(50)} == {D(65000)}


def test_stable_coins_stay_where_they_are() -> None:
    """Within a fifth of a percent."""
    assert all(abs(MARKETS.price("USDC/USD", step * 1000) - 1) < D("0.002") for step in range(300))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_depth_lies_around_the_price_on_ticks_and_steps(symbol: str) -> None:
    """Asks rise from above the price, bids fall from below it, and every amount is positive."""
    rules = MARKETS.rules(symbol)
    assert rules is not None
    for step in (0, 1, 77_777):
        price = MARKETS.price(symbol, step)
        asks, bids = MARKETS.levels(symbol, step, Side.BUY), MARKETS.levels(symbol, step, Side.SELL)
        assert len(asks) == len(bids) == LEVELS
        ask_prices, bid_prices = [level.price for level in asks], [level.price for level in bids]
        assert bid_prices[0] < price < ask_prices[0]
        assert ask_prices == sorted(set(ask_prices))
        assert bid_prices == sorted(set(bid_prices), reverse=True)
        assert bid_prices[-1] > 0
        for level in (*asks, *bids):
            assert level.amount > 0
            assert level.amount % rules.amount_step == 0
            assert level.price % rules.price_tick == 0


def test_each_level_holds_what_the_setting_says() -> None:
    """The best one half to one and a half of it, deeper ones more; each step anew."""
    worth = [level.amount * level.price for level in MARKETS.levels("BTC/USD", 3, Side.BUY)]
    assert D(12_000) < worth[0] < D(38_000)
    assert sum(worth) > 12 * D(25_000)
    assert MARKETS.levels("BTC/USD", 3, Side.BUY) != MARKETS.levels("BTC/USD", 4, Side.BUY)


def test_thin_depth_holds_one_step_at_least() -> None:
    """A level is never empty, and levels never share a price."""
    thin = Markets(1, volatility=0.0001, depth_usd=1e-9)
    rules = thin.rules("SHIB/USD")
    assert rules is not None
    assert {level.amount for level in thin.levels("SHIB/USD", 0, Side.SELL)} == {rules.amount_step}


def test_levels_stay_apart_at_the_lowest_price() -> None:
    """A price never falls below a thousand ticks, where levels would round to the same tick."""
    wild = Markets(3, volatility=0.05, depth_usd=25_000.0)
    rules = wild.rules("ETH/SOL")
    assert rules is not None
    floor = rules.price_tick * 1000
    step = next(step for step in range(0, 10**6, 997) if wild.price("ETH/SOL", step) == floor)
    for side in Side:
        prices = [level.price for level in wild.levels("ETH/SOL", step, side)]
        assert len(set(prices)) == LEVELS
        assert min(prices) > 0


def test_a_price_of_no_symbol_is_an_error() -> None:
    """Callers ask for the rules first."""
    with pytest.raises(KeyError):
        MARKETS.price("nothing", 1)


@pytest.mark.parametrize(
    ("value", "written"), [("1E+3", "1000"), ("0.0100", "0.01"), ("5", "5"), ("1E+40", "1E+40")]
)
def test_numbers_are_plain(value: str, written: str) -> None:
    """Without an exponent above zero, as far as a context can write them out."""
    assert str(plain(Decimal(value))) == written
