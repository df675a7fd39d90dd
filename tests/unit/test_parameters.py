"""From what a caller passes to an exact request."""

from __future__ import annotations

import copy
import math
import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.errors import InvalidOrder
from services.mcp.order_execution.models import OrderType, Side, TimeInForce
from services.mcp.order_execution.parameters import OrderIds, parse_deadline, parse_decimal, parse_request

GOOD: dict[str, Any] = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "amount": 0.1, "price": 50000.0}


def test_ids_are_unique_and_stand_in_the_order_of_their_time() -> None:
    """A thousand ids of one moment differ; one of a later moment sorts behind them, and an exchange takes them."""
    ids, now = OrderIds(), datetime(2026, 1, 1, tzinfo=UTC)
    made = {ids.new(now) for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(uuid.UUID(order_id).version == 7 and len(order_id) == 32 for order_id in made)
    assert ids.new(now + timedelta(milliseconds=1)) > max(made)
    assert made.isdisjoint(OrderIds().new(now) for _ in range(1_000))


def test_an_id_tells_its_time_and_is_random_in_the_rest() -> None:
    """The milliseconds stand first; of the other digits two say that it is a UUID of version 7, the rest vary."""
    ids, now = OrderIds(), datetime(2026, 1, 1, tzinfo=UTC)
    made = [ids.new(now) for _ in range(2_000)]
    assert {order_id[:12] for order_id in made} == {f"{int(now.timestamp() * 1000):012x}"}
    kinds = [set(digits) for digits in zip(*(order_id[12:] for order_id in made), strict=True)]
    assert [kinds[0], kinds[4]] == [{"7"}, set("89ab")]
    assert all(kind == set("0123456789abcdef") for place, kind in enumerate(kinds) if place not in (0, 4))


def test_a_process_that_was_forked_off_draws_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parent and child hold the same randomness; the child must not use it."""
    parent, now = OrderIds(), datetime(2026, 1, 1, tzinfo=UTC)
    parent.new(now)
    child = copy.copy(parent)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    drawn = child.new(now)
    monkeypatch.undo()
    assert drawn != parent.new(now)


@pytest.mark.parametrize("value", [0.1, "0.1", Decimal("0.1"), "0.10", "1e-1"])
def test_a_number_means_what_it_says_whatever_its_type(value: object) -> None:
    """A float is read through str, so 0.1 is one tenth."""
    assert parse_decimal("amount", value) == Decimal("0.1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ("-Infinity", "finite"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite"),
        (-1, "above zero"),
        (0, "above zero"),
        ("0.00", "above zero"),
        ("", "positive number"),
        ("1_000", "positive number"),
        ("ten", "positive number"),
        (None, "positive number"),
        (True, "positive number"),
        ([1], "positive number"),
        (b"1", "positive number"),
        ("1" * 200, "positive number"),
        ("1.00000000000000000000000000001", "digits"),
        ("1e30", "digits"),
        ("1e-30", "digits"),
        (10**50, "digits"),
    ],
)
def test_a_bad_number_is_refused_by_name(value: object, expected: str) -> None:
    """The error names the field and what was expected."""
    with pytest.raises(InvalidOrder, match=expected) as caught:
        parse_decimal("amount", value)
    assert caught.value.field == "amount"


def test_the_seed_order_is_read() -> None:
    """The order of the user's document."""
    request = parse_request(GOOD, "new")
    assert (request.client_order_id, request.side, request.type) == ("new", Side.BUY, OrderType.LIMIT)
    assert (request.amount, request.price, request.time_in_force) == (
        Decimal("0.1"),
        Decimal(50000),
        TimeInForce.GTC,
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbol": "BTCUSD"}, "symbol"),
        ({"symbol": None}, "symbol"),
        ({"symbol": "btc/usd"}, "symbol"),
        ({"side": "hold"}, "side"),
        ({"side": None}, "side"),
        ({"type": "iceberg"}, "type"),
        ({"type": 3}, "type"),
        ({"price": None}, "price"),
        ({"type": "market"}, "price"),
        ({"stop_price": 1}, "stop_price"),
        ({"type": "stop_limit"}, "stop_price"),
        ({"time_in_force": "GTD"}, "time_in_force"),
        ({"type": "stop", "price": None, "stop_price": 1, "time_in_force": "IOC"}, "time_in_force"),
        ({"post_only": "yes"}, "post_only"),
        ({"post_only": True, "time_in_force": "IOC"}, "post_only"),
        ({"client_order_id": "no spaces"}, "client_order_id"),
        ({"client_order_id": ""}, "client_order_id"),
        ({"client_order_id": 7}, "client_order_id"),
        ({"client_order_id": "x" * 65}, "client_order_id"),
        ({"quantity": 1}, "quantity"),
    ],
)
def test_each_bad_parameter_has_its_own_error(changes: dict[str, Any], field: str) -> None:
    """Nothing is guessed; the field is named."""
    with pytest.raises(InvalidOrder) as caught:
        parse_request({**GOOD, **changes}, "new")
    assert caught.value.field == field


def test_a_mistyped_key_is_met_with_the_right_one() -> None:
    """The error helps."""
    with pytest.raises(InvalidOrder, match="did you mean 'amount'"):
        parse_request({**GOOD, "amout": 1}, "new")


def test_whatever_behaves_like_a_mapping_is_read_like_one() -> None:
    """And a key that there is not is refused in it likewise."""
    assert parse_request(MappingProxyType(GOOD), "new") == parse_request(GOOD, "new")
    with pytest.raises(InvalidOrder, match="did you mean 'amount'"):
        parse_request(MappingProxyType({**GOOD, "amout": 1}), "new")


@pytest.mark.parametrize(("kind", "meant"), [("STOP", OrderType.STOP_MARKET), (OrderType.STOP_MARKET, None)])
def test_a_choice_goes_by_its_name_in_any_case(kind: str, meant: OrderType | None) -> None:
    """Also by another name that it has, and as the member itself."""
    asked = {**GOOD, "type": kind, "price": None, "stop_price": 1, "side": "Sell"}
    request = parse_request(asked, "new")
    assert (request.type, request.side) == (meant or kind, Side.SELL)
    assert type(request.type) is OrderType


def test_only_a_mapping_is_an_order() -> None:
    """A list is refused by type."""
    with pytest.raises(InvalidOrder, match="mapping"):
        parse_request([1], "new")  # type: ignore[arg-type]


def test_a_deadline_of_ones_own() -> None:
    """Seconds, positive, at most a day; the default otherwise."""
    assert parse_deadline({}, 60.0) == 60.0
    assert parse_deadline({"deadline_seconds": "1.5"}, 60.0) == 1.5
    with pytest.raises(InvalidOrder, match="86400"):
        parse_deadline({"deadline_seconds": 100_000}, 60.0)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.decimals(), st.binary(max_size=4)
)


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "stop_price", "time_in_force", "post_only", "client_order_id", "x"]), ANYTHING
    )
)
def test_arbitrary_parameters_end_in_a_request_or_in_our_error(changes: dict[str, Any]) -> None:
    """Never another exception, and what is accepted is exact and positive."""
    with suppress(InvalidOrder):
        request = parse_request({**GOOD, **changes}, "new")
        assert request.amount > 0
        assert request.price is None or math.isfinite(request.price)
