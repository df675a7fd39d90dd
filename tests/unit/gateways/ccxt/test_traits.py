"""From rows to traits: what is known is promised, and nothing else."""

from __future__ import annotations

import json

import pytest

from services.mcp.order_execution.gateways.base import IdScope, ListScope, LookupScope
from services.mcp.order_execution.gateways.ccxt.rows import TABLE
from services.mcp.order_execution.models import OrderType, TimeInForce
from tests.fakes import BLIND
from tests.unit.gateways.ccxt.captured import gateway, order

TOLD = [name for name, row in TABLE.items() if row.expiry is not None and row.expiry.is_told]
FIXED = [name for name, row in TABLE.items() if row.expiry is not None and not row.expiry.is_told]


async def test_a_row_is_promised_as_it_stands() -> None:
    """With what the exchange is told added to what clocks may differ."""
    traits = gateway("kraken").traits
    assert (traits.request_expiry, traits.settle) == (13.0, 5.0)
    assert (traits.client_id_scope, traits.lookup_scope) == (IdScope.OPEN_ORDERS, LookupScope.ALL)
    assert (traits.lists_closed_orders, traits.lists_trades, traits.cancels_by_client_id) == (True, True, True)
    assert traits.times_in_force == frozenset(TimeInForce)
    assert traits.order_requests_per_second == TABLE["kraken"].rates.orders
    assert gateway("binance").traits.order_types == frozenset(OrderType)
    assert gateway("binance").traits.list_scope is ListScope.SYMBOL
    assert gateway("bitfinex").traits.request_expiry is None


async def test_durations_can_be_overridden() -> None:
    """By whoever measured better; what clocks may differ is added to what the exchange is told."""
    for exchange, expiry in (("binance", 4.5), ("bitstamp", 2.0)):
        traits = gateway(exchange, settle_seconds=1.0, request_expiry_seconds=2.0).traits
        assert (traits.settle, traits.request_expiry) == (1.0, expiry)
    assert gateway("binance", request_expiry_seconds=60.0).traits.request_expiry == 60.0


@pytest.mark.parametrize("exchange", FIXED)
def test_no_setting_makes_a_fixed_expiry_shorter(exchange: str) -> None:
    """Where the exchange is told nothing its own time holds."""
    expiry = TABLE[exchange].expiry
    assert expiry is not None
    made = gateway(exchange, request_expiry_seconds=2.0)
    assert made.traits.request_expiry == expiry.seconds + expiry.margin


@pytest.mark.parametrize("exchange", TOLD)
async def test_what_is_told_is_on_the_wire(exchange: str) -> None:
    """In the request that places the order."""
    made = gateway(exchange).answer("{}")
    await made.submit(order())
    (write,) = made.line.writes
    expiry = TABLE[exchange].expiry
    assert expiry is not None
    assert (expiry.header or expiry.param or "recv").lower() in (
        write.text + json.dumps(dict(write.headers))
    ).lower()


async def test_without_a_row_nothing_is_promised() -> None:
    """But the pace that ccxt keeps."""
    traits = gateway("bitstamp").traits
    assert not traits.can_resolve
    assert (traits.accepts_client_ids, traits.cancels_by_client_id, traits.streams_orders) == (False,) * 3
    assert traits.lookup_scope is LookupScope.NONE
    assert (traits.lists_closed_orders, traits.lists_trades) == (False, False)
    assert traits.list_scope is ListScope.SYMBOL
    names = "client_id_scope lookup_scope lists_closed_orders lists_trades accepts_client_ids cancels_by_client_id"
    for name in names.split():
        assert getattr(traits, name) == getattr(BLIND, name), name
    assert traits.settle == 60.0
    assert traits.order_types == frozenset({OrderType.LIMIT})
    assert traits.order_requests_per_second is not None
    assert traits.burst == 1
