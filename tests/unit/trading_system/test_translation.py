"""Between the engine's words and the core's: nothing is guessed, and an id stands for one order for good."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest

from services.mcp.order_execution.errors import InvalidOrder
from services.mcp.order_execution.parameters import parse_request
from trading_system.execution.orders import Order, OrderSide, OrderStatus, OrderTimeInForce, OrderType
from trading_system.execution.translation import (
    client_order_id,
    core_params,
    parse_stop_timeout,
    parse_timeout,
    unified_symbol,
)


@pytest.mark.parametrize(
    ("given", "unified"),
    [
        ("btc-usdt", "BTC/USDT"),
        ("BTC/USDT", "BTC/USDT"),
        ("btc_usdt", "BTC/USDT"),
        (" BTCUSDT ", "BTC/USDT"),
        ("btc-rls", "BTC/IRT"),
        ("BTCIRT", "BTC/IRT"),
        ("1inch-usdt", "1INCH/USDT"),
        ("ethbtc", "ETH/BTC"),
    ],
)
def test_symbols_are_read_in_every_form(given: str, unified: str) -> None:
    """Unified, Nobitex's own with a dash, and run together; rial has one name."""
    assert unified_symbol(given) == unified


@pytest.mark.parametrize("given", ["", "btc", "usdt", "a-b-c", "btc/", None, 7, "b t c-usdt"])
def test_a_symbol_that_cannot_be_read_is_refused_by_name(given: object) -> None:
    """Never sent somewhere else."""
    with pytest.raises(InvalidOrder) as caught:
        unified_symbol(given)
    assert caught.value.field == "symbol"


def test_an_id_stands_for_one_client_order_id_for_good() -> None:
    """A UUID loses its dashes (32 characters fit everywhere); a short id stays; anything else is digested."""
    given = str(uuid.UUID(int=7))
    assert client_order_id(given) == "0" * 31 + "7"
    assert client_order_id("my-order-1") == "my-order-1"
    strange = "strategy α / order #1 " * 3
    assert client_order_id(strange) == client_order_id(strange)
    assert len(client_order_id(strange)) == 32
    assert client_order_id(strange) != client_order_id(strange + "x")
    for bad in ("", None, 5, "x" * 2_000):
        with pytest.raises(InvalidOrder, match="order_id"):
            client_order_id(bad)


def test_the_seeds_order_becomes_a_request() -> None:
    """A market order for 0.001, as a float, with IOC, which says nothing of an order that never rests."""
    order = Order(
        order_id="o",
        symbol="btc-usdt",
        side=OrderSide.BUY,
        order_type=OrderType.MARKET,
        quantity=0.001,
        price=None,
        time_in_force=OrderTimeInForce.IOC,
        timestamp=1_700_000_000_000,
    )
    request = parse_request(core_params(order), new_id="unused")
    assert (request.client_order_id, request.symbol, request.amount) == ("o", "BTC/USDT", Decimal("0.001"))
    assert request.price is None
    assert order.status is OrderStatus.NEW
    assert order.remaining_quantity == Decimal("0.001")


def test_limit_orders_keep_their_time_in_force_and_flags() -> None:
    """GTC, IOC, FOK and post-only go through as they are."""
    for chosen in OrderTimeInForce:
        order = Order("btc-usdt", OrderSide.SELL, OrderType.LIMIT, "1", "50000", chosen)
        assert core_params(order)["time_in_force"] == chosen.value
    order = Order("btc-usdt", OrderSide.SELL, OrderType.LIMIT, "1", "50000", post_only=True)
    assert core_params(order)["post_only"] is True
    assert (
        core_params(Order("btc-usdt", OrderSide.SELL, OrderType.STOP_LIMIT, 1, 2, stop_price=3))["stop_price"] == 3
    )
    market = Order("btc-usdt", OrderSide.SELL, OrderType.MARKET, 1, time_in_force=OrderTimeInForce.FOK)
    assert core_params(market)["time_in_force"] == "FOK"


@pytest.mark.parametrize("field", ["side", "order_type", "time_in_force"])
def test_a_text_in_the_place_of_an_enum_is_refused_by_name(field: str) -> None:
    """The text buy is not OrderSide.BUY: the message says what was expected."""
    values = {"side": OrderSide.BUY, "order_type": OrderType.LIMIT, "time_in_force": OrderTimeInForce.GTC}
    order = Order("btc-usdt", quantity=1, price=2, **{**values, field: "nonsense"})  # type: ignore[arg-type]
    with pytest.raises(InvalidOrder) as caught:
        core_params(order)
    assert caught.value.field == field


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "x", True, None])
def test_a_quantity_that_is_no_number_above_zero_is_refused_when_the_order_is_made(bad: object) -> None:
    """Long before anything is sent."""
    with pytest.raises(InvalidOrder, match="quantity"):
        Order("btc-usdt", OrderSide.BUY, OrderType.MARKET, bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "bad"),
    [("timestamp", "x"), ("timestamp", -1), ("timestamp", True), ("timestamp", 1.5), ("post_only", "no")],
)
def test_what_an_order_cannot_mean_is_refused_when_it_is_made(field: str, bad: object) -> None:
    """The text no counts as true, were it taken."""
    with pytest.raises(InvalidOrder) as caught:
        Order("btc-usdt", OrderSide.BUY, OrderType.LIMIT, 1, 2, **{field: bad})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_stop_may_take_no_time_at_all() -> None:
    """Unlike an order."""
    assert [parse_stop_timeout(given, 7.0) for given in (None, 0, 0.0, "2", 1.5)] == [7, 0, 0, 2, 1.5]
    for bad in ("x", -1, float("nan"), False, object()):
        with pytest.raises(InvalidOrder, match=r"timeout: expected"):
            parse_stop_timeout(bad, 7.0)


def test_what_is_no_order_is_refused() -> None:
    """A mapping, say."""
    with pytest.raises(InvalidOrder, match="order"):
        core_params({"symbol": "btc-usdt"})  # type: ignore[arg-type]


def test_a_timeout_is_seconds_above_zero_up_to_a_day() -> None:
    """Exactly what the core takes, and named as the caller knows it."""
    assert parse_timeout(None, 60.0) == 60.0
    assert parse_timeout("0.5", 60.0) == 0.5
    assert parse_timeout(86_400, 60.0) == 86_400.0
    for bad in (0, -1, 86_401, float("nan"), "soon", True, object()):
        with pytest.raises(InvalidOrder, match=r"timeout: expected"):
            parse_timeout(bad, 60.0)
