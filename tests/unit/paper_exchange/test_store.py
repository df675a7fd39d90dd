"""The state in its file: what is written is read, whole or not at all, at a cost that does not grow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, getcontext
from pathlib import Path

import pytest

from services.mcp.order_execution.models import OrderState, OrderType, Side, TimeInForce
from services.mcp.order_execution.paper_exchange.records import Funds, OrderReport, Trade
from services.mcp.order_execution.paper_exchange.schema import Character, ExchangeDown
from services.mcp.order_execution.paper_exchange.store import Store
from tests.unit.paper_exchange.desk import BTC, NOON, D, Desk
from tests.unit.paper_exchange.test_records import ORDER

CHARACTER = Character(seed=1, step_seconds=1.0, volatility=0.0001, depth_usd=25_000.0)
TRADE = Trade(
    id=1,
    order_id=1,
    client_order_id="one",
    symbol=BTC,
    side=Side.BUY,
    price=D("100.10"),
    amount=D("1e-8"),
    fee=D("1e-12"),
    fee_currency="BTC",
    maker=True,
    at=NOON,
)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Path(":memory:"))
    store.open(CHARACTER, NOON, None)
    yield store
    store.close()


def test_orders_and_trades_are_read_as_they_were_written(store: Store) -> None:
    """Every field and every digit, new or changed."""
    stop = replace(
        ORDER,
        id=2,
        client_order_id="two",
        side=Side.SELL,
        type=OrderType.STOP_MARKET,
        price=None,
        stop_price=D("1e-16"),
        time_in_force=TimeInForce.FOK,
        post_only=True,
        waiting=True,
        reason="why",
    )
    with store.transaction():
        store.save_order(ORDER)
        store.save_order(stop)
        store.save_trade(TRADE)
    changed = replace(ORDER, filled=D(1), cost=D(100), fee=D("0.001"), state=OrderState.CANCELED, reason="said so")
    with store.transaction():
        assert store.orders("1") == [ORDER, stop]
        assert store.trades("1") == [TRADE]
        store.save_order(changed)
        assert store.orders("id = ?", (1,)) == [changed]
        assert store.open_symbols() == [BTC]


def test_an_error_undoes_the_whole_turn(store: Store) -> None:
    """And the next one begins as if nothing had been."""

    def turn() -> None:
        with store.transaction():
            store.save_order(ORDER)
            store.save_funds("USD", Funds(D(1)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turn()
    with store.transaction():
        assert store.orders("1") == []
        assert store.all_funds() == {}


def test_decimals_are_exact_inside_a_turn_and_untouched_outside(store: Store) -> None:
    """Sums of many digits lose none; the caller's context stays what it was."""
    before = getcontext().prec
    with store.transaction():
        large, small = D(10) ** 20, D("1e-20")
        assert large + small - large == small
        store.save_funds("USD", Funds(large + small, D("1e-20")))
    with store.transaction():
        assert store.funds("USD") == Funds(Decimal("100000000000000000000.00000000000000000001"), D("1e-20"))
    assert getcontext().prec == before


def test_a_failing_file_is_the_exchange_being_down(store: Store) -> None:
    """Reported as such; a defect of our own SQL is not."""
    with pytest.raises(ExchangeDown, match="no such table"), store.transaction():
        store.orders("id IN (SELECT id FROM nowhere)")

    def twice() -> None:
        with store.transaction():
            store.save_trade(TRADE)
            store.save_trade(TRADE)

    with pytest.raises(sqlite3.IntegrityError):
        twice()
    with store.transaction():
        assert store.trades("1") == []


def test_a_closed_store_is_down(store: Store) -> None:
    """Closing twice is harmless."""
    store.close()
    store.close()
    with pytest.raises(ExchangeDown, match="not open"), store.transaction():
        pass


def test_only_orders_within_reach_are_looked_at(store: Store) -> None:
    """Buys at or above the lowest price, sells at or below the highest, stops on their own sides."""
    base = replace(ORDER, type=OrderType.STOP_LIMIT, stop_price=D(100), price=D(1))
    orders = [
        replace(ORDER, id=1, price=D(100)),
        replace(ORDER, id=2, price=D(99)),
        replace(ORDER, id=3, side=Side.SELL, price=D(105)),
        replace(ORDER, id=4, side=Side.SELL, price=D(106)),
        replace(base, id=5, waiting=True, stop_price=D(105)),
        replace(base, id=6, waiting=True, stop_price=D(106)),
        replace(base, id=7, waiting=True, side=Side.SELL, stop_price=D(100)),
        replace(base, id=8, waiting=True, side=Side.SELL, stop_price=D(99)),
        replace(ORDER, id=9, price=D(103), state=OrderState.CANCELED),
        replace(ORDER, id=10, price=D(103), symbol="ETH/USD"),
    ]
    with store.transaction():
        for order in orders:
            store.save_order(order)
        assert sorted(order.id for order in store.within_reach(BTC, D(100), D(105))) == [1, 3, 5, 7]


def test_requests_land_once_and_in_order(store: Store) -> None:
    """Those that are due, earliest first; the others stay under way."""
    with store.transaction():
        for due, text in ((30, "late"), (10, "first"), (20, "second"), (20, "third")):
            store.launch(due, 0.5, None, text)
        assert store.in_flight() == 4
        assert [request for *_, request in store.land(25)] == ["first", "second", "third"]
        assert list(store.land(25)) == []
        assert [(due, request) for due, _, _, request in store.land(30)] == [(30, "late")]


def test_what_was_taken_belongs_to_one_step(store: Store) -> None:
    """Another step has nothing taken."""
    with store.transaction():
        store.save_taken(BTC, 5, {Side.BUY: D("0.5"), Side.SELL: D(0)})
        assert store.taken(BTC, 5) == {Side.BUY: D("0.5"), Side.SELL: D(0)}
        assert store.taken(BTC, 6) is None
        assert store.taken("ETH/USD", 5) is None


def test_the_cost_of_an_operation_does_not_grow_with_closed_orders() -> None:
    """Counted in steps of SQLite's machine: with 1,500 closed orders and trades as with 15."""
    desk = Desk()
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost() -> dict[str, int]:
        nonlocal steps
        costs = {}
        now = desk.clock.now()
        one = desk.place("buy", "0.001", "50000")
        for name, operation in {
            "submit": lambda: desk.place("buy", "0.001", "50000"),
            "market": lambda: desk.place("buy", "0.001"),
            "query": lambda: desk.exchange.query(None, one.order.client_order_id),
            "query by id": lambda: desk.again(one),
            "open orders": desk.exchange.open_orders,
            "open orders of a symbol": lambda: desk.exchange.open_orders(BTC),
            "closed orders": lambda: desk.exchange.closed_orders(now, now),
            "trades": lambda: desk.exchange.trades(now),
            "balances": desk.exchange.balances,
            "cancel": lambda: desk.cancel(one),
            "a step": lambda: desk.clock.advance(1) or desk.exchange.quote(BTC),
        }.items():
            steps = 0
            operation()
            costs[name] = steps
        for report in desk.exchange.open_orders():  # type: ignore[union-attr]
            assert isinstance(report, OrderReport)
            desk.cancel(report)
        return costs

    def history(orders: int) -> None:
        for _ in range(orders):
            desk.place("buy", "0.0001")
            desk.cancel(desk.place("buy", "0.001", "50000"))
        desk.clock.advance(10)

    desk.exchange._store._connection.set_progress_handler(count, 1)
    history(15)
    few = cost()
    history(750)
    many = cost()
    assert all(few.values())
    assert {name: costs for name, costs in many.items() if costs > few[name] * 1.5 + 20} == {}
