"""The table as a whole: what it names is there, and every row can keep the executor's promise."""

from __future__ import annotations

import importlib
import re

import pytest

from services.mcp.order_execution.gateways.base import LookupScope
from services.mcp.order_execution.gateways.ccxt.row import PagerKind, Row
from services.mcp.order_execution.gateways.ccxt.rows import TABLE
from tests.unit.gateways.ccxt.captured import CLIENT_ID, gateway

ROWS = [pytest.param(row, id=name) for name, row in TABLE.items()]
BIGGEST = [
    "binance",
    "okx",
    "bybit",
    "kraken",
    "coinbase",
    "kucoin",
    "gate",
    "bitget",
    "htx",
    "mexc",
    "cryptocom",
    "bitfinex",
]


def test_the_biggest_exchanges_have_rows() -> None:
    """Twelve of them."""
    assert list(TABLE) == BIGGEST


@pytest.mark.parametrize("row", ROWS)
def test_the_methods_are_ccxts(row: Row) -> None:
    """Every implicit method that a row names exists in the class that is used."""
    kind = getattr(importlib.import_module("ccxt.async_support"), row.exchange)
    calls = (row.open_orders, *row.closed_orders, *row.trades)
    names = [*(call.method for call in calls), *(lookup.method for lookup in row.lookups)]
    assert [name for name in names if not hasattr(kind, name)] == []


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_where_it_is_from(row: Row) -> None:
    """Sources for what is known, assumptions for what is not, and ccxt's version among them."""
    assert len(row.sources) >= 3
    assert any(source.startswith("ccxt 4.") for source in row.sources)
    assert any("within" in words or "lists" in words for words in row.assumptions)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_can_resolve(row: Row) -> None:
    """By lookup, or by lists whose end is known; ids of the executor's own making fit."""
    assert row.lookup_scope is LookupScope.ALL
    assert any(lookup.by_exchange_id for lookup in row.lookups)
    by_client_id = any(lookup.by_client_id for lookup in row.lookups)
    assert by_client_id or (row.scan_seconds is not None and row.closed_orders)
    assert re.fullmatch(row.ids.pattern, CLIENT_ID)
    assert len(CLIENT_ID) <= row.ids.max_length
    assert row.settle >= 5
    if row.expiry is None:
        assert row.settle >= 60, "the settle time has to cover the latest arrival"


@pytest.mark.parametrize("row", ROWS)
def test_lists_have_an_end(row: Row) -> None:
    """A list that is walked says where the next page is; one that is not says that it is whole."""
    for call in (row.open_orders, *row.closed_orders, *row.trades):
        pager = call.pager
        if pager.kind is PagerKind.WHOLE:
            continue
        assert call.limit > 0
        assert pager.param
        assert pager.at or pager.kind in (PagerKind.NUMBERED, PagerKind.OFFSET)


@pytest.mark.parametrize("row", ROWS)
def test_refusals_are_told_apart(row: Row) -> None:
    """No code means a refusal of the order and also that it may be there."""
    wording = row.wording
    plain = {refusal.code for refusal in wording.refusals if refusal.words is None}
    others = wording.duplicates + wording.not_found + wording.throttles + wording.untimely + wording.credentials
    assert plain.isdisjoint({refusal.code for refusal in others if refusal.words is None})
    for refusal in (*wording.refusals, *others, *wording.not_open):
        if refusal.words is not None:
            re.compile(refusal.words)


@pytest.mark.parametrize("row", ROWS)
async def test_a_password_is_asked_for_where_ccxt_signs_with_one(row: Row) -> None:
    """As the row says."""
    made = gateway(row.exchange)
    assert bool(made.exchange.requiredCredentials.get("password")) == row.needs_password
    await made.close()
