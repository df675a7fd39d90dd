"""Every state that an exchange documents is read: one row that is not spoils each list that it is in."""

from __future__ import annotations

from typing import Any

import pytest

from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.gateways.ccxt.parsing import order
from services.mcp.order_execution.models import OrderState
from tests.unit.gateways.ccxt.exchange_suite import ExchangeSuite
from tests.unit.gateways.ccxt.rows.test_binance import TestBinance as Binance
from tests.unit.gateways.ccxt.rows.test_bitfinex import TestBitfinex as Bitfinex
from tests.unit.gateways.ccxt.rows.test_bitget import TestBitget as Bitget
from tests.unit.gateways.ccxt.rows.test_bybit import TestBybit as Bybit
from tests.unit.gateways.ccxt.rows.test_coinbase import TestCoinbase as Coinbase
from tests.unit.gateways.ccxt.rows.test_cryptocom import TestCryptocom as Cryptocom
from tests.unit.gateways.ccxt.rows.test_gate import TestGate as Gate
from tests.unit.gateways.ccxt.rows.test_htx import TestHtx as Htx
from tests.unit.gateways.ccxt.rows.test_kraken import TestKraken as Kraken
from tests.unit.gateways.ccxt.rows.test_mexc import TestMexc as Mexc
from tests.unit.gateways.ccxt.rows.test_okx import TestOkx as Okx
from tests.unit.gateways.ccxt.test_parsing import TOLD

OPEN, CANCELED, EXPIRED, REJECTED = (
    OrderState.OPEN,
    OrderState.CANCELED,
    OrderState.EXPIRED,
    OrderState.REJECTED,
)


def read(suite: ExchangeSuite, row: Any) -> ExchangeOrder:
    made = suite.made()
    return made._reader._order(suite.with_id(made, row))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("ACTIVE", OPEN),
        ("CANCELED", CANCELED),
        ("CANCELED was: PARTIALLY FILLED @ 20000.0(0.00002)", CANCELED),
        ("IOC CANCELED", CANCELED),
        ("IOC CANCELED was: PARTIALLY FILLED @ 20000.0(0.00002)", CANCELED),
        ("FILLORKILL CANCELED", CANCELED),
        ("POSTONLY CANCELED", CANCELED),
        ("INSUFFICIENT BALANCE (U1)", CANCELED),
    ],
)
def test_bitfinex_ends_orders_by_rule(status: str, state: OrderState) -> None:
    """Of which ccxt reads the first word alone."""
    row = Bitfinex().row()
    (at,) = (number for number, value in enumerate(row) if isinstance(value, str) and value.startswith("ACTIVE"))
    row[at] = status
    assert read(Bitfinex(), row).state is state


@pytest.mark.parametrize(
    "ended",
    [
        "cancelled",
        "ioc",
        "poc",
        "fok",
        "stp",
        "small",
        "depth_not_enough",
        "trader_not_enough",
        "liquidate_cancelled",
    ],
)
def test_gate_says_how_an_order_ended(ended: str) -> None:
    """In more words than ccxt knows: none of it was filled, so it was cancelled."""
    row = {**Gate().row(), "status": "cancelled", "finish_as": ended}
    assert read(Gate(), row).state is CANCELED


@pytest.mark.parametrize(
    ("suite", "key", "states"),
    [
        (Htx, "state", {"created": OPEN, "submitted": OPEN, "partial-filled": OPEN, "canceling": OPEN}),
        (Htx, "state", {"partial-canceled": CANCELED, "canceled": CANCELED}),
        (Mexc, "status", {"NEW": OPEN, "CANCELED": CANCELED, "PARTIALLY_CANCELED": CANCELED}),
        (Okx, "state", {"live": OPEN, "partially_filled": OPEN, "canceled": CANCELED, "mmp_canceled": CANCELED}),
        (Binance, "status", {"NEW": OPEN, "PENDING_NEW": OPEN, "PENDING_CANCEL": OPEN, "CANCELED": CANCELED}),
        (Binance, "status", {"REJECTED": REJECTED, "EXPIRED": EXPIRED, "EXPIRED_IN_MATCH": EXPIRED}),
        (Bybit, "orderStatus", {"New": OPEN, "Untriggered": OPEN, "Cancelled": CANCELED, "Rejected": REJECTED}),
        (Bybit, "orderStatus", {"PartiallyFilledCanceled": CANCELED, "Deactivated": CANCELED}),
        (Kraken, "status", {"pending": OPEN, "open": OPEN, "canceled": CANCELED, "expired": EXPIRED}),
        (Bitget, "status", {"init": OPEN, "new": OPEN, "live": OPEN, "cancelled": CANCELED}),
        (Cryptocom, "status", {"NEW": OPEN, "PENDING": OPEN, "ACTIVE": OPEN, "CANCELED": CANCELED}),
        (Cryptocom, "status", {"REJECTED": REJECTED, "EXPIRED": EXPIRED}),
        (Coinbase, "status", {"PENDING": OPEN, "OPEN": OPEN, "QUEUED": OPEN, "CANCEL_QUEUED": OPEN}),
        (Coinbase, "status", {"EDIT_QUEUED": OPEN, "CANCELLED": CANCELED, "FAILED": CANCELED}),
    ],
)
def test_documented_states(suite: type[ExchangeSuite], key: str, states: dict[str, OrderState]) -> None:
    """Of an order of which nothing was filled."""
    told = {status: read(suite(), {**suite().row(), key: status}).state for status in states}
    assert told == states


@pytest.mark.parametrize("status", ["canceled", "expired"])
def test_an_order_that_ended_without_an_amount_is_not_filled(status: str) -> None:
    """What it traded is no amount that it was for."""
    told = {**TOLD, "status": status, "amount": None, "filled": "0.00005"}
    assert order(told, lambda shown: shown).state is not OrderState.FILLED
