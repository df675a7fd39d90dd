"""From ccxt's structures to ours: exact, and nothing is made up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.gateways.base import Balance, Ticker
from services.mcp.order_execution.gateways.ccxt import parsing
from services.mcp.order_execution.gateways.ccxt.parsing import NotUnderstood
from services.mcp.order_execution.models import OrderState, OrderType, Side, TimeInForce

TOLD: dict[str, Any] = {
    "id": "42",
    "clientOrderId": "mine",
    "symbol": "BTC/USDT",
    "side": "buy",
    "type": "limit",
    "amount": "0.5",
    "price": "20000.10",
    "filled": "0",
    "status": "open",
    "timestamp": 1_795_000_000_000,
}


def read(**changes: Any) -> Any:
    return parsing.order({**TOLD, **changes}, lambda shown: shown)


def test_an_order_is_read_exactly() -> None:
    """Numbers from text, times in UTC."""
    seen = read()
    assert (seen.exchange_order_id, seen.client_order_id, seen.symbol) == ("42", "mine", "BTC/USDT")
    assert (seen.amount, seen.price, seen.filled) == (Decimal("0.5"), Decimal("20000.1"), 0)
    assert (seen.side, seen.type, seen.state) == (Side.BUY, OrderType.LIMIT, OrderState.OPEN)
    assert seen.created_at.isoformat() == "2026-11-18T11:06:40+00:00"
    assert seen.time_in_force is TimeInForce.GTC


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("open", "0", OrderState.OPEN),
        ("open", "0.1", OrderState.PARTIALLY_FILLED),
        ("QUEUED", "0", OrderState.OPEN),
        ("closed", "0.5", OrderState.FILLED),
        ("closed", "0.1", OrderState.CANCELED),
        ("canceled", "0.1", OrderState.CANCELED),
        ("canceled", "0.5", OrderState.FILLED),
        ("expired", "0", OrderState.EXPIRED),
        ("rejected", "0", OrderState.REJECTED),
    ],
)
def test_states(status: str, filled: str, state: OrderState) -> None:
    """What is done and all traded is filled; what is done with less will trade no more."""
    assert read(status=status, filled=filled).state is state


@pytest.mark.parametrize(
    "changes",
    [
        {"status": None},
        {"status": "trigger_wait"},
        {"filled": None},
        {"filled": "0.6"},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "NaN"},
        {"amount": "1e40"},
        {"amount": "0." + "123456789" * 4},
        {"amount": True},
        {"amount": []},
        {"side": None},
        {"side": "both"},
        {"timestamp": None},
        {"timestamp": "soon"},
        {"timestamp": 10**30},
        {"id": None},
        {"id": ""},
        {"id": "\x1f"},
        {"id": "a b"},
        {"id": "4" * 129},
        {"symbol": None},
        {"symbol": ""},
        {"symbol": "BTC\n/USDT"},
        {"price": "much"},
    ],
)
def test_what_is_not_understood_is_no_order(changes: dict[str, Any]) -> None:
    """Rather no list than a wrong one."""
    with pytest.raises(NotUnderstood):
        read(**changes)


def test_symbols_are_in_any_script() -> None:
    """One such order by hand must not hide all others."""
    assert read(symbol="币安人生/USDT").symbol == "币安人生/USDT"


def test_an_order_for_a_sum_has_the_amount_that_it_traded() -> None:
    """A market buy that somebody placed by hand for a sum of money names no amount."""
    seen = read(amount=None, filled="0.3", status="closed", type="market", price=None)
    assert (seen.amount, seen.state) == (Decimal("0.3"), OrderState.FILLED)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"type": "market"}, OrderType.MARKET),
        ({"type": "limit_maker"}, OrderType.LIMIT),
        ({"type": "ioc"}, OrderType.LIMIT),
        ({"type": None, "price": None}, OrderType.MARKET),
        ({"type": "stop_loss_limit", "triggerPrice": "1"}, OrderType.STOP_LIMIT),
        ({"type": "market", "triggerPrice": "1"}, OrderType.STOP_MARKET),
    ],
)
def test_types(told: dict[str, Any], kind: OrderType) -> None:
    """By words, else by what the order has."""
    seen = read(**told)
    assert seen.type is kind
    assert (seen.price is None) == (kind in (OrderType.MARKET, OrderType.STOP_MARKET))


def test_time_in_force_and_post_only() -> None:
    """What ccxt calls PO is a flag of ours; words that we have not are good until cancelled."""
    assert read(timeInForce="IOC").time_in_force is TimeInForce.IOC
    assert read(timeInForce="PO").post_only
    assert read(postOnly=True).post_only
    assert read(timeInForce="GTD").time_in_force is TimeInForce.GTC


def test_fees_are_told_by_currency() -> None:
    """Summed; a rebate is negative; what names no currency, or is nothing, is left out."""
    fees = [
        {"cost": "0.1", "currency": "BNB"},
        {"cost": "0.2", "currency": "BNB"},
        {"cost": "-0.01", "currency": "BTC"},
        {"cost": "1", "currency": None},
        {"cost": "0", "currency": "USDT"},
        None,
    ]
    assert read(fees=fees).fees == {"BNB": Decimal("0.3"), "BTC": Decimal("-0.01")}
    assert read(fee={"cost": "0.1", "currency": "BTC"}, fees=[]).fees == {"BTC": Decimal("0.1")}
    assert read(fees="none").fees == {}


def test_a_mean_price_without_end_is_not_told() -> None:
    """Nothing is booked by it."""
    endless = "1." + "3" * 40
    assert read(filled="0.1", average=endless).average_price is None
    assert read(filled="0.1", average="3").average_price == 3
    assert read(average="3").average_price is None


def test_the_last_update_is_not_before_the_first() -> None:
    """By update or trade, whichever is told."""
    later = TOLD["timestamp"] + 5_000
    assert (read(lastUpdateTimestamp=later).updated_at - read().created_at).total_seconds() == 5
    assert (read(lastTradeTimestamp=later).updated_at - read().created_at).total_seconds() == 5
    assert read(lastUpdateTimestamp=1).updated_at == read().created_at


TRADE = {
    "id": "7",
    "order": "42",
    "symbol": "BTC/USDT",
    "side": "sell",
    "price": "20000",
    "amount": "0.1",
    "timestamp": 1_795_000_000_000,
    "fee": {"cost": "0.02", "currency": "USDT"},
}


def test_a_trade_is_read_with_its_order_and_fee() -> None:
    """One that names no fee has none, in the quote currency."""
    seen = parsing.trade(TRADE, lambda shown: shown)
    assert (seen.exchange_order_id, seen.side, seen.client_order_id) == ("42", Side.SELL, None)
    assert (seen.fill.trade_id, seen.fill.fee, seen.fill.fee_currency) == ("7", Decimal("0.02"), "USDT")
    free = parsing.trade({**TRADE, "fee": None, "clientOrderId": "mine"}, lambda shown: shown)
    assert (free.fill.fee, free.fill.fee_currency, free.client_order_id) == (0, "USDT", "mine")
    two = [{"cost": "1", "currency": "A"}, {"cost": "1", "currency": "B"}]
    with pytest.raises(NotUnderstood):
        parsing.trade({**TRADE, "fees": two}, lambda shown: shown)


@pytest.mark.parametrize(
    ("mode", "price", "amount", "tick", "step"),
    [
        (parsing.TICK_SIZE, "0.01", "0.00001", "0.01", "0.00001"),
        (parsing.TICK_SIZE, "0.05", "10", "0.05", "10"),
        (parsing.DECIMAL_PLACES, 2, "8", "0.01", "0.00000001"),
        (parsing.DECIMAL_PLACES, "-1", 0, "10", "1"),
        (3, 5, 8, "1E-18", "1E-8"),
        (parsing.TICK_SIZE, None, "", "1E-18", "1E-18"),
    ],
)
def test_precisions_in_ccxts_three_modes(mode: int, price: Any, amount: Any, tick: str, step: str) -> None:
    """Ticks, decimal places, and significant digits, which are no tick for prices."""
    told = {"symbol": "A/B", "base": "A", "quote": "B", "precision": {"price": price, "amount": amount}}
    rules = parsing.market(told, mode)
    assert (rules.price_tick, rules.amount_step) == (Decimal(tick), Decimal(step))
    assert (rules.min_amount, rules.max_amount, rules.min_notional) == (0, None, 0)


def test_limits_of_a_market() -> None:
    """Least and most, as far as they are told."""
    limits = {"amount": {"min": "0.1", "max": "5"}, "cost": {"min": "10"}}
    told = {"symbol": "A/B", "base": "A", "quote": "B", "precision": {}, "limits": limits}
    rules = parsing.market(told, parsing.TICK_SIZE)
    assert (rules.min_amount, rules.max_amount, rules.min_notional) == (Decimal("0.1"), 5, 10)
    with pytest.raises(NotUnderstood):
        parsing.market({**told, "precision": {"price": "x"}}, parsing.TICK_SIZE)


def test_balances_complete_each_other() -> None:
    """Of free, used and total two are enough; a row that tells nothing is left out."""
    told = {
        "info": {},
        "free": {"A": "1"},
        "A": {"free": "1", "used": "2", "total": "3"},
        "B": {"free": None, "used": "2", "total": "5"},
        "C": {"free": "1", "used": None, "total": "5"},
        "D": {"free": "1", "used": None, "total": None},
        "E": {"free": None, "used": None, "total": None},
        "F": "odd",
    }
    assert parsing.balances(told) == {
        "A": Balance(Decimal(1), Decimal(2)),
        "B": Balance(Decimal(3), Decimal(2)),
        "C": Balance(Decimal(1), Decimal(4)),
        "D": Balance(Decimal(1), Decimal(0)),
    }


def test_a_ticker_without_an_offer_has_the_last_price() -> None:
    """Without any price there is no ticker."""
    assert parsing.ticker("A/B", {"bid": "1", "last": "2"}) == Ticker("A/B", Decimal(1), Decimal(2), Decimal(2))
    assert parsing.ticker("A/B", {"bid": "1", "ask": "3"}) == Ticker("A/B", Decimal(1), Decimal(3), Decimal(1))
    with pytest.raises(NotUnderstood):
        parsing.ticker("A/B", {})


def test_whatever_a_parser_raises_means_not_understood() -> None:
    """Those of ccxt raise anything."""

    def fails(row: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(NotUnderstood, match="ZeroDivisionError"):
        parsing.each([1], fails)
    with pytest.raises(NotUnderstood, match="amount"):
        parsing.each([{**TOLD, "amount": "x"}], lambda row: parsing.order(row, lambda shown: shown))
    assert parsing.each([1, 2], str) == ["1", "2"]
