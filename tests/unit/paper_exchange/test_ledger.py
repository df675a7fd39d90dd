"""Funds during one turn."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from services.mcp.order_execution.paper_exchange.ledger import Ledger
from services.mcp.order_execution.paper_exchange.records import Funds
from services.mcp.order_execution.paper_exchange.schema import Character
from services.mcp.order_execution.paper_exchange.store import Store
from tests.unit.paper_exchange.desk import NOON, D


def opened(balances: dict[str, Decimal] | None) -> Store:
    store = Store(Path(":memory:"))
    store.open(Character(1, 1.0, 0.0001, 1.0), NOON, balances)
    return store


def test_moves_add_up_and_are_written_once() -> None:
    """Until the end of the turn nothing is written."""
    store = opened({"USD": D(100)})
    with store.transaction():
        ledger = Ledger(store, lambda _: D(0))
        ledger.move("USD", D(-30), D(10))
        ledger.move("USD", blocked=D(5))
        assert ledger.funds("USD") == Funds(D(70), D(15))
        assert store.funds("USD") == Funds(D(100), D(0))
        ledger.flush()
        assert store.funds("USD") == Funds(D(70), D(15))
    store.close()


def test_a_new_currency_gets_its_start_funds_once() -> None:
    """Kept from then on, whatever the start funds would be later."""
    store = opened(None)
    with store.transaction():
        first = Ledger(store, lambda currency: D(7) if currency == "EUR" else D(0))
        assert first.funds("EUR") == Funds(D(7))
        first.flush()
        assert Ledger(store, lambda _: D(9)).funds("EUR") == Funds(D(7))
    store.close()
