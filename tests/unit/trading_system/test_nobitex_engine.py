"""The synchronous engine: three phases, three outcomes, and no wait without an end."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution import ErrorCategory
from services.mcp.order_execution.errors import ConfigurationError, InvalidOrder, JournalLocked
from services.mcp.order_execution.gateways.base import NotSent, Rejected
from tests.unit.trading_system.engine_world import QUICK, EngineWorld, kill_the_thread, limit, until
from trading_system.execution import (
    EngineDied,
    ExecutionOutcome,
    ExecutionPhase,
    NobitexExecutionEngine,
    Order,
    OrderFill,
    OrderForbidden,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionBook,
)
from trading_system.execution.translation import client_order_id


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


@pytest.mark.parametrize("bad", ["x", -1, float("nan"), True, []])
def test_a_bad_timeout_stops_nothing(world: EngineWorld, bad: object) -> None:
    """It is named, and the engine goes on: half stopped, nobody could ever release what it holds."""
    engine = world.engine()
    with pytest.raises(InvalidOrder, match="timeout: expected"):
        engine.stop(bad)  # type: ignore[arg-type]
    assert engine.is_running
    assert engine.execute_order(limit()).success
    engine.stop(0)
    assert not engine.is_running


def test_a_start_lets_go_of_what_a_stop_could_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that did not end in time still holds journal and exchange: it is ended before another begins."""
    monkeypatch.setattr("trading_system.execution.nobitex_engine.START_SECONDS", 0.2)
    section = {
        "exchange_adapter": "mock",
        "journal_path": str(tmp_path / "j.db"),
        "positions_path": None,
        "transaction_log_path": None,
        "stop_timeout": 0.1,
    }
    engine = NobitexExecutionEngine({"execution_engine": section})
    engine.start()
    gate = threading.Event()
    core = engine._executor
    assert core is not None
    close = core.close

    async def slow() -> None:
        gate.wait(10)
        await close()

    monkeypatch.setattr(core, "close", slow)
    with pytest.raises(TimeoutError):
        engine.stop(0)
    assert not engine.is_running
    with pytest.raises(EngineDied, match="has not ended"):
        engine.start()
    gate.set()
    monkeypatch.setattr("trading_system.execution.nobitex_engine.START_SECONDS", 10.0)
    engine.start()
    order = Order("btc-usdt", OrderSide.BUY, OrderType.MARKET, "0.001")
    assert engine.execute_order(order).success
    engine.stop()


def test_a_limit_on_a_position_holds(tmp_path: Path) -> None:
    """By the base currency; what looks like a limit and would be none is refused before anything starts."""
    section = {
        "exchange_adapter": "mock",
        "journal_path": str(tmp_path / "j.db"),
        "positions_path": None,
        "transaction_log_path": None,
    }
    for pair in ("btc-usdt", "BTC/USDT", "BTCUSDT"):
        with pytest.raises(ConfigurationError, match=r"risk\.max_position"):
            NobitexExecutionEngine({"execution_engine": section, "risk": {"max_position": {pair: "0.001"}}})
    with NobitexExecutionEngine(
        {"execution_engine": section, "risk": {"max_position": {"btc": "0.001"}}}
    ) as engine:
        result = engine.execute_order(Order("btc-usdt", OrderSide.BUY, OrderType.LIMIT, "0.5", "60000"))
    assert result.failed
    assert "max_position" in (result.error_message or "")


def test_an_order_is_told_of_in_the_engines_words(world: EngineWorld) -> None:
    """Its amount is the caller's quantity."""
    message = world.engine().execute_order(limit(quantity="0.00000001")).error_message or ""
    assert message.startswith("quantity: expected a multiple of")


def test_a_fill_is_told_under_the_same_order_id_in_every_life(world: EngineWorld) -> None:
    """Who counts each trade of each order once must not count it twice after a restart."""
    keeper: dict[tuple[str, str], Decimal] = {}

    class Keeper:
        def apply_fill(self, symbol: str, side: OrderSide, fill: OrderFill, order_id: str) -> None:
            """Count it."""
            keeper[order_id, fill.trade_id] = fill.quantity
            told.append(order_id)

    told: list[str] = []
    given = str(uuid.UUID(int=7))
    first = world.engine(positions=Keeper())
    first.execute_order(limit(given))
    world.exchange.fill("X1", "0.1")
    until(lambda: len(told) == 1)
    first.stop()
    second = world.engine(positions=Keeper())
    until(lambda: len(told) == 2)
    assert keeper == {(client_order_id(given), "T1"): Decimal("0.1")}
    known = second.get_order(told[0])
    assert known is not None
    assert known.filled_quantity == Decimal("0.1")


def test_phases_stand_where_they_were(world: EngineWorld) -> None:
    """Also the commit, which is written down by who follows the events; and an error is one by its kind."""
    world.exchange.script.append("fill")
    engine = world.engine()
    market = Order("BTC/USD", OrderSide.BUY, OrderType.MARKET, "0.1", order_id="m1")
    assert engine.execute_order(market).success
    until(lambda: "phase:commit" in [entry["kind"] for entry in engine.get_order_history("m1")])
    kinds = [entry["kind"] for entry in engine.get_order_history("m1")]
    assert kinds.index("phase:pre_commit") < kinds.index("phase:commit") < kinds.index("accepted")
    engine.execute_order(limit("o2", quantity="0.00000001"))
    assert "error" in [entry["kind"] for entry in engine.get_order_history("o2")]


def test_a_stop_takes_no_longer_than_it_was_given(tmp_path: Path) -> None:
    """It waits for no order in flight, and for nobody who hangs on a fill, whatever other stops are given."""
    world = EngineWorld(tmp_path, confirmation={"poll_interval_seconds": 0.1, "close_timeout_seconds": 60})
    gate = threading.Event()

    class Hanging:
        def apply_fill(self, symbol: str, side: OrderSide, fill: OrderFill, order_id: str) -> None:
            """Wait for something that does not come."""
            told.append(order_id)
            gate.wait(60)

    told: list[str] = []
    world.exchange.script.extend(["fill", "hang"])
    engine = world.engine(positions=Hanging())
    assert engine.execute_order(limit("filled")).success
    until(lambda: told == ["filled"])
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(engine.execute_order, limit("flying"))
        until(lambda: len(world.exchange.submits) == 2)
        started = time.monotonic()
        engine.stop(0)
        took = time.monotonic() - started
        gate.set()
        assert flying.result(10).unresolved
    assert took < 10


@pytest.mark.parametrize("reason", [5, None, "", RuntimeError("the exception that was caught")])
def test_a_halt_without_words_breaks_nothing(world: EngineWorld, reason: object) -> None:
    """It is refused by name, before anything is written; the engine goes on."""
    engine = world.engine()
    with pytest.raises(InvalidOrder, match="reason: expected"):
        engine.halt(reason)  # type: ignore[arg-type]
    assert engine.execute_order(limit()).success
    assert engine.cancel_order("o1")
