"""The synchronous engine: three phases, three outcomes, and no wait without an end."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution import ErrorCategory
from services.mcp.order_execution.errors import ConfigurationError, JournalLocked
from services.mcp.order_execution.gateways.base import NotSent, Rejected
from tests.unit.trading_system.engine_world import QUICK, EngineWorld, kill_the_thread, limit, until
from trading_system.execution import (
    EngineDied,
    ExecutionOutcome,
    ExecutionPhase,
    NobitexExecutionEngine,
    Order,
    OrderForbidden,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionBook,
)


def test_an_accepted_order_is_a_success_in_the_last_phase(world: EngineWorld) -> None:
    """With the exchange's id, and the order as it stands."""
    engine = world.engine()
    result = engine.execute_order(limit())
    assert (result.success, result.phase, result.outcome) == (
        True,
        ExecutionPhase.POST_COMMIT,
        ExecutionOutcome.SUCCESS,
    )
    assert (result.order_id, result.exchange_order_id, result.retry_count) == ("o1", "X1", 0)
    assert result.execution_time > 0
    order = engine.get_order("o1")
    assert order is not None
    assert (order.status, order.symbol, order.remaining_quantity) == (OrderStatus.OPEN, "BTC/USD", Decimal("0.1"))
    assert engine.get_order("nobody") is None


def test_a_refusal_of_the_exchange_is_a_failure_of_the_commit(world: EngineWorld) -> None:
    """Nothing rests there."""
    world.exchange.script.append(Rejected("min_notional"))
    result = world.engine().execute_order(limit())
    assert (result.success, result.failed, result.unresolved) == (False, True, False)
    assert result.phase is ExecutionPhase.COMMIT
    assert result.error_message is not None
    assert "min_notional" in result.error_message


@pytest.mark.parametrize(
    "order",
    [
        limit(price=None),
        Order("!!", OrderSide.BUY, OrderType.LIMIT, 1, 2),
        limit(quantity="0.00000001"),
        limit(quantity="900", price="90000"),
    ],
)
def test_what_is_refused_before_anything_is_sent_fails_in_the_first_phase(world: EngineWorld, order: Order) -> None:
    """A missing price, a symbol that cannot be read, a step, funds."""
    result = world.engine().execute_order(order)
    assert (result.failed, result.phase) == (True, ExecutionPhase.PRE_COMMIT)
    assert world.exchange.submits == []


def test_silence_is_neither_success_nor_failure(world: EngineWorld) -> None:
    """The third outcome: it may be at the exchange. Asked again later, the same order gives its answer."""
    world.exchange.script.append("lost reply")
    world.exchange.hidden.add("X1")
    world.exchange.traits = replace(QUICK, settle=60.0)
    engine = world.engine()
    result = engine.execute_order(limit(), timeout=0.3)
    assert (result.success, result.failed, result.unresolved) == (False, False, True)
    assert result.phase is ExecutionPhase.COMMIT
    assert "may be on the exchange" in (result.error_message or "").lower()
    world.exchange.hidden.clear()
    again = engine.execute_order(limit(), timeout=5)
    assert (again.success, again.exchange_order_id) == (True, "X1")
    assert len(world.exchange.placed) == 1


def test_what_was_provably_not_sent_is_sent_again(world: EngineWorld) -> None:
    """And the result says how often."""
    world.exchange.script.extend([NotSent(ErrorCategory.CONNECTION, "refused")] * 2)
    result = world.engine().execute_order(limit())
    assert (result.success, result.retry_count) == (True, 2)
    history = world.engines[0].get_order_history("o1")
    until(lambda: sum(e.get("kind") == "retry" for e in world.engines[0].get_order_history("o1")) == 2)
    assert history[0]["kind"] == "phase:pre_commit"


def test_consecutive_failures_open_the_circuit(tmp_path: Path) -> None:
    """After that an order fails at once, in the commit, and provably unsent."""
    world = EngineWorld(tmp_path, circuit_breaker={"failure_threshold": 3, "cool_down_seconds": 300})
    world.core["retry"] = {"max_retries": 0, "deadline_seconds": 2}
    world.exchange.script.extend([NotSent(ErrorCategory.CONNECTION, "refused")] * 3)
    engine = world.engine()
    for number in range(3):
        assert engine.execute_order(limit(f"o{number}")).failed
    result = engine.execute_order(limit("o9"))
    assert (result.failed, result.phase) == (True, ExecutionPhase.COMMIT)
    assert "circuit is open" in (result.error_message or "")
    assert len(world.exchange.submits) == 3
    assert engine.get_stats()["circuit_state"] == "open"
    engine.stop()


def test_an_order_that_trades_at_once_is_waited_for(world: EngineWorld) -> None:
    """Its fills are in the answer's order, and in the position."""
    world.exchange.script.append("fill")
    engine = world.engine()
    market = Order("BTC/USD", OrderSide.BUY, OrderType.MARKET, "0.1", order_id="m1")
    assert engine.execute_order(market).success
    order = engine.get_order("m1")
    assert order is not None
    assert (order.status, len(order.fills), order.fees) == (OrderStatus.FILLED, 1, {"USD": Decimal("0.01")})
    book = engine.positions
    assert isinstance(book, PositionBook)
    until(lambda: book.position("BTC/USD").quantity == Decimal("0.1"))


def test_an_order_that_trades_at_once_and_does_not_is_still_a_success(world: EngineWorld) -> None:
    """It was accepted; the wait for its end is bounded."""
    engine = world.engine()
    market = Order("BTC/USD", OrderSide.BUY, OrderType.MARKET, "0.1", order_id="m1")
    started = time.monotonic()
    assert engine.execute_order(market).success
    assert time.monotonic() - started < 3


def test_cancel_says_whether_the_order_will_trade_no_further(world: EngineWorld) -> None:
    """False for one that nobody knows."""
    engine = world.engine()
    engine.execute_order(limit())
    assert engine.cancel_order("o1") is True
    order = engine.get_order("o1")
    assert order is not None
    assert order.status is OrderStatus.CANCELED
    assert order.status.is_final
    assert engine.cancel_order("nobody") is False


def test_the_same_order_after_a_restart_gives_the_same_answer(world: EngineWorld) -> None:
    """And fills that were not told before the stop are told after it, each once."""
    first = world.engine()
    first.execute_order(limit())
    first.stop()
    world.exchange.fill("X1", "0.1")
    second = world.engine()
    result = second.execute_order(limit())
    assert (result.success, result.exchange_order_id) == (True, "X1")
    book = second.positions
    assert isinstance(book, PositionBook)
    until(lambda: book.position("BTC/USD").quantity == Decimal("0.1"))
    second.stop()
    third = world.engine()
    threading.Event().wait(0.2)
    again = third.positions
    assert isinstance(again, PositionBook)
    assert again.position("BTC/USD").quantity == Decimal("0.1")
    assert len(world.exchange.placed) == 1


def test_a_risk_manager_has_the_first_word(world: EngineWorld) -> None:
    """What it forbids is neither written nor sent."""

    class Cautious:
        def check_order(self, order: Order) -> None:
            """Forbid buying."""
            if order.side is OrderSide.BUY:
                raise OrderForbidden("no buying today")

    engine = world.engine(risk=Cautious())
    result = engine.execute_order(limit())
    assert (result.failed, result.phase, result.error_message) == (
        True,
        ExecutionPhase.PRE_COMMIT,
        "no buying today",
    )
    assert world.exchange.submits == []
    assert world.store.orders == {}


def test_a_position_manager_that_fails_harms_no_order(world: EngineWorld) -> None:
    """It is logged; the fill is in the journal and told again after the next start."""
    told: list[str] = []

    class Broken:
        def apply_fill(self, symbol: str, side: OrderSide, fill: object, order_id: str) -> None:
            """Fail."""
            told.append(order_id)
            raise RuntimeError("a defect")

    world.exchange.script.extend(["fill", "fill"])
    engine = world.engine(positions=Broken())
    assert engine.execute_order(limit("a")).success
    assert engine.execute_order(limit("b")).success
    until(lambda: told == ["a", "b"])


def test_many_threads_may_execute_at_once(world: EngineWorld) -> None:
    """Each order once, and two threads with the same order get the same answer."""
    engine = world.engine()
    orders = [limit(f"o{number % 20}", quantity="0.001") for number in range(40)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(engine.execute_order, orders))
    assert all(result.success for result in results)
    assert len(world.exchange.placed) == 20


async def test_it_works_beside_a_running_loop(world: EngineWorld) -> None:
    """A notebook, say, has one."""
    result = await asyncio.to_thread(world.engine().execute_order, limit())
    assert result.success


def test_an_engine_that_is_not_running_says_so(world: EngineWorld) -> None:
    """Before the start, after the stop, and when its thread has died."""
    engine = NobitexExecutionEngine({"execution_engine": {"exchange_adapter": "mock"}})
    with pytest.raises(EngineDied, match="call start"):
        engine.execute_order(limit())
    running = world.engine()
    kill_the_thread(running)
    with pytest.raises(EngineDied, match="has died"):
        running.execute_order(limit())
    running.stop()


def test_two_engines_do_not_share_a_journal(world: EngineWorld) -> None:
    """The second one is refused, and leaves nothing behind."""
    world.engine()
    with pytest.raises(JournalLocked):
        world.engine()
    assert not world.engines[-1].is_running


def test_the_kill_switch_and_reconciliation_are_at_hand(world: EngineWorld) -> None:
    """Halt refuses new orders in the first phase; a reconciliation finds everything accounted for."""
    engine = world.engine()
    engine.execute_order(limit())
    engine.halt("drill")
    result = engine.execute_order(limit("o2"))
    assert (result.failed, result.phase) == (True, ExecutionPhase.PRE_COMMIT)
    engine.resume()
    assert engine.execute_order(limit("o2")).success
    assert engine.reconcile("hourly")["is_clean"]
    assert engine.get_stats()["results"] == {"success": 2, "failed": 1, "unresolved": 0}


def test_without_keys_nobitex_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With where the keys could be."""
    monkeypatch.chdir(tmp_path)
    for name in ("NOBITEX_API_KEY", "NOBITEX_API_SECRET", "NOBITEX_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    engine = NobitexExecutionEngine({"exchange": {"api_key": None, "api_secret": None}})
    with pytest.raises(ConfigurationError, match="NOBITEX_API_KEY"):
        engine.start()
    assert not engine.is_running
    engine.stop()
