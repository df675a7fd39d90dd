"""What the engine tells of an order when a call is refused, or when looking at it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory, InvalidOrder, JournalError
from services.mcp.order_execution.gateways.base import Market, NotSent, Rejected, Unavailable
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.models import Order as CoreOrder
from tests.unit.trading_system.engine_world import QUICK, EngineWorld, limit, until
from trading_system.execution import (
    ExecutionPhase,
    ExecutionResult,
    NobitexExecutionEngine,
    Order,
    OrderForbidden,
    OrderStatus,
)
from trading_system.execution.loop_thread import CalledFromWithin

BAD_TIMEOUTS = [-1, 0, 100_000, float("nan"), "soon", True]


class Moody:
    """A risk manager that changes its mind."""

    def __init__(self) -> None:
        self.forbids: Exception | None = None

    def check_order(self, order: Order) -> None:
        """Refuse while it is in the mood."""
        if self.forbids is not None:
            raise self.forbids

    def forbid(self) -> None:
        """From now on."""
        self.forbids = OrderForbidden("the day's loss is too great")


def silence(world: EngineWorld) -> None:
    """The next order's answer is lost, and nothing about it can be found out."""

    async def query(ref: object) -> Unavailable:
        return Unavailable(ErrorCategory.TIMEOUT, "down")

    world.exchange.script.append("lost reply")
    world.exchange.query = query  # type: ignore[method-assign]
    world.exchange.traits = replace(QUICK, settle=60.0)


@contextmanager
def in_admission(world: EngineWorld, engine: NobitexExecutionEngine) -> Iterator[Future[ExecutionResult]]:
    """Another thread executes the order, and is held before anything of it is written."""
    gate, there = threading.Event(), threading.Event()
    real = world.exchange.market

    async def held(symbol: str) -> Market | Unavailable:
        there.set()
        await asyncio.to_thread(gate.wait, 10)
        return await real(symbol)

    world.exchange.market = held  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(engine.execute_order, limit())
        try:
            assert there.wait(5)
            yield other
        finally:
            gate.set()
            world.exchange.market = real  # type: ignore[method-assign]


def test_asking_again_is_not_answered_by_the_risk_manager(world: EngineWorld) -> None:
    """The order rests, whatever is forbidden by now: the same answer as before, and no second order."""
    risk = Moody()
    engine = world.engine(risk=risk)
    assert engine.execute_order(limit()).success
    risk.forbid()
    again = engine.execute_order(limit())
    assert (again.success, again.exchange_order_id, again.error_message) == (True, "X1", None)
    assert again.phase is ExecutionPhase.POST_COMMIT
    assert world.exchange.placed == ["o1"]


def test_an_unresolved_order_is_not_called_failed_by_the_risk_manager(world: EngineWorld) -> None:
    """It may be at the exchange; once it is proved absent, the risk manager's word counts, and nothing is sent."""
    risk = Moody()
    engine = world.engine(risk=risk)
    silence(world)
    assert engine.execute_order(limit(), timeout=0.3).unresolved
    risk.forbid()
    again = engine.execute_order(limit(), timeout=0.3)
    assert (again.unresolved, again.phase) == (True, ExecutionPhase.COMMIT)
    assert world.exchange.placed == ["o1"]


def test_an_order_that_was_never_sent_may_be_forbidden(world: EngineWorld) -> None:
    """Nothing of it is anywhere, and this call does not send it."""
    world.core["retry"] = {"max_retries": 0, "deadline_seconds": 2}
    world.exchange.script.append(NotSent(ErrorCategory.CONNECTION, "refused"))
    risk = Moody()
    engine = world.engine(risk=risk)
    assert engine.execute_order(limit()).failed
    risk.forbid()
    again = engine.execute_order(limit())
    assert (again.failed, again.phase) == (True, ExecutionPhase.PRE_COMMIT)
    assert again.error_message == "the day's loss is too great"
    assert len(world.exchange.submits) == 1


def test_a_rejected_order_stays_rejected(world: EngineWorld) -> None:
    """With the exchange's reason, also while the risk manager forbids."""
    world.exchange.script.append(Rejected("min_notional"))
    risk = Moody()
    engine = world.engine(risk=risk)
    assert engine.execute_order(limit()).failed
    risk.forbid()
    again = engine.execute_order(limit())
    assert again.failed
    assert "min_notional" in (again.error_message or "")


def test_a_risk_manager_that_fails_forbids(world: EngineWorld) -> None:
    """A defect in it lets nothing pass, and is told as a result."""
    risk = Moody()
    risk.forbids = ZeroDivisionError("a defect")
    result = world.engine(risk=risk).execute_order(limit())
    assert (result.failed, result.error_message) == (True, "the risk manager failed: ZeroDivisionError")
    assert world.exchange.submits == []


@pytest.mark.parametrize("changed", [{"price": "50001"}, {"quantity": "0.2"}, {"price": None}, {"post_only": True}])
def test_the_same_id_with_other_parameters_is_not_called_failed(
    world: EngineWorld, changed: dict[str, Any]
) -> None:
    """An order rests under the id; it is neither failed nor this one."""
    engine = world.engine()
    assert engine.execute_order(limit()).success
    again = engine.execute_order(limit(**changed))
    assert (again.unresolved, again.success, again.exchange_order_id) == (True, False, "X1")
    assert "an order under this id is" in (again.error_message or "")
    assert engine.execute_order(limit()).success
    assert world.exchange.placed == ["o1"]


def test_parameters_that_cannot_be_read_say_nothing_of_the_order_under_the_id(world: EngineWorld) -> None:
    """They are refused before the core is asked; the id is looked up all the same."""
    engine = world.engine()
    assert engine.execute_order(limit()).success
    again = engine.execute_order(replace(limit(), symbol="!!"))
    assert (again.unresolved, again.exchange_order_id) == (True, "X1")
    new = engine.execute_order(replace(limit("o2"), symbol="!!"))
    assert (new.failed, new.phase) == (True, ExecutionPhase.PRE_COMMIT)


@pytest.mark.parametrize("timeout", BAD_TIMEOUTS)
def test_a_bad_timeout_changes_nothing_that_is_told_of_an_order(world: EngineWorld, timeout: Any) -> None:
    """The order rests; a new one is not sent."""
    engine = world.engine()
    assert engine.execute_order(limit()).success
    again = engine.execute_order(limit(), timeout=timeout)
    assert (again.success, again.exchange_order_id) == (True, "X1")
    new = engine.execute_order(limit("o2"), timeout=timeout)
    assert (new.failed, new.phase) == (True, ExecutionPhase.PRE_COMMIT)
    assert "timeout: expected" in (new.error_message or "")
    assert world.exchange.placed == ["o1"]


def test_what_another_call_is_about_to_send_is_not_called_failed(world: EngineWorld) -> None:
    """Nothing is on record yet, and still nothing is proved: neither for the risk manager nor for a bad timeout."""
    risk = Moody()
    engine = world.engine(risk=risk)
    with in_admission(world, engine) as other:
        assert engine.execute_order(limit(), timeout=-1).unresolved
        assert engine.execute_order(limit(price="50001")).unresolved
        risk.forbid()
        assert engine.execute_order(limit()).unresolved
    assert other.result(5).success
    assert world.exchange.placed == ["o1"]


def test_where_the_order_cannot_be_looked_up_nothing_is_proved(world: EngineWorld) -> None:
    """The journal does not answer: a refusal of this call is no proof that no earlier one placed it."""

    class Deaf(MemoryJournal):
        async def get(self, order_id: str) -> CoreOrder | None:
            """Fail."""
            raise JournalError("the disk does not answer")

    risk = Moody()
    engine = world.engine(Deaf(world.clock, store=world.store), risk=risk)
    risk.forbid()
    assert engine.execute_order(limit()).unresolved
    risk.forbids = None
    assert engine.execute_order(limit()).unresolved
    assert world.exchange.submits == []
    assert engine.cancel_order("o1") is False


def test_a_defect_of_the_core_leaves_an_order_unresolved(
    world: EngineWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a result like any other, and says nothing about the exchange."""
    engine = world.engine()

    async def broken(params: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(engine._executor, "execute_order", broken)
    result = engine.execute_order(limit())
    assert result.unresolved
    assert "a defect: ZeroDivisionError" in (result.error_message or "")


def test_an_accepted_order_is_a_success_even_if_it_cannot_be_looked_at(
    world: EngineWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange has it."""
    engine = world.engine()

    async def broken(order_id: str) -> CoreOrder:
        raise JournalError("the disk does not answer")

    monkeypatch.setattr(engine._executor, "get_order_status", broken)
    result = engine.execute_order(limit())
    assert (result.success, result.exchange_order_id) == (True, None)
    monkeypatch.undo()
    assert engine.execute_order(limit()).exchange_order_id == "X1"


def test_an_engine_that_does_not_answer_in_time_leaves_it_unresolved(
    world: EngineWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait has an end, and the order goes its way."""
    engine = world.engine()
    monkeypatch.setattr(engine, "_limit", lambda executor, timeout: 0.1)
    world.exchange.latency = 0.5
    result = engine.execute_order(limit())
    assert result.unresolved
    assert "did not answer in time" in (result.error_message or "")


@pytest.mark.parametrize("order_id", ["", "x" * 1_001, 7])
def test_what_can_be_no_orders_id_fails(world: EngineWorld, order_id: Any) -> None:
    """Nobody can have placed it; and there is a result, not an error."""
    result = world.engine().execute_order(limit(order_id))
    assert (result.failed, result.phase) == (True, ExecutionPhase.PRE_COMMIT)


def test_cancelling_what_can_be_no_orders_id_is_an_error_of_the_caller(world: EngineWorld) -> None:
    """It is not told as an order that may still trade."""
    engine = world.engine()
    with pytest.raises(InvalidOrder):
        engine.cancel_order("")


def test_the_engine_is_not_called_from_its_own_thread(world: EngineWorld) -> None:
    """That is no outcome of an order: nothing was done."""
    engine = world.engine()

    async def within() -> ExecutionResult:
        return engine.execute_order(limit())

    with pytest.raises(CalledFromWithin):
        engine._thread.call(within(), 5)
    assert engine.get_order("o1") is None


def test_a_stop_meanwhile_leaves_an_honest_answer(world: EngineWorld) -> None:
    """An order that is being found out is unresolved to its caller, not failed."""
    engine = world.engine()
    silence(world)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.execute_order, limit())
        until(lambda: world.exchange.placed == ["o1"])
        engine.stop()
        assert waiting.result(10).unresolved


def test_the_order_stands_as_it_did(world: EngineWorld) -> None:
    """After all those refused calls it can be looked at, cancelled, and is told as accepted."""
    risk = Moody()
    engine = world.engine(risk=risk)
    assert engine.execute_order(limit()).success
    risk.forbid()
    assert engine.cancel_order("o1")
    known = engine.get_order("o1")
    assert known is not None
    assert known.status is OrderStatus.CANCELED
    assert engine.execute_order(limit()).success
    assert engine.get_stats()["results"] == {"success": 2, "failed": 0, "unresolved": 0}
