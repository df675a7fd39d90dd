"""Confirmation: each step is recorded once, balances are judged with patience, and nothing grows for ever."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from services.mcp.order_execution import confirmation
from services.mcp.order_execution.models import Step
from tests.worlds import ORDER, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}


def step_of(order: object, step: Step) -> object:
    """One recorded step of an order."""
    return next((item for item in order.confirmations if item.step is step), None)  # type: ignore[attr-defined]


@scenario()
async def test_balances_that_moved_as_the_fills_say_are_confirmed(w: World) -> None:
    """The last step, with its time."""
    w.exchange.script.append("fill")
    await w.bot.execute_order(MINE)
    await asyncio.sleep(10)
    step = step_of(await w.bot.get_order_status("mine"), Step.BALANCE)
    assert step is not None
    assert step.ok


@scenario()
async def test_a_balance_that_differs_is_recorded_and_expected_from_there_on(w: World) -> None:
    """Somebody took coins out: the next order's check starts from what is there."""
    await w.bot.open()
    await asyncio.sleep(1)
    w.exchange.script.append("fill")
    await w.bot.execute_order(MINE)
    w.exchange.free["BTC"] -= 3
    await asyncio.sleep(20)
    step = step_of(await w.bot.get_order_status("mine"), Step.BALANCE)
    assert step is not None
    assert not step.ok
    assert "BTC: expected 100.1, the exchange says 97.1" in (step.detail or "")
    w.exchange.script.append("fill")
    await w.bot.execute_order({**MINE, "client_order_id": "next"})
    await asyncio.sleep(20)
    after = step_of(await w.bot.get_order_status("next"), Step.BALANCE)
    assert after is not None
    assert after.ok


@scenario()
async def test_balances_that_are_not_told_leave_the_step_open(w: World) -> None:
    """The order waits for the next check rather than being called right or wrong."""
    await w.bot.open()
    await asyncio.sleep(1)
    balances = w.exchange.balances
    w.exchange.script.append("fill")

    async def broken() -> object:
        raise RuntimeError("a defect")

    w.exchange.balances = broken  # type: ignore[method-assign,assignment]
    await w.bot.execute_order(MINE)
    await asyncio.sleep(30)
    assert step_of(await w.bot.get_order_status("mine"), Step.BALANCE) is None
    w.exchange.balances = balances  # type: ignore[method-assign]
    w.exchange.script.append("fill")
    await w.bot.execute_order({**MINE, "client_order_id": "next"})
    await asyncio.sleep(30)
    assert step_of(await w.bot.get_order_status("mine"), Step.BALANCE) is not None


@scenario()
async def test_a_baseline_is_not_kept_unless_it_holds(w: World) -> None:
    """Balances that change with every look, while an order is open, are nothing to expect anything from."""
    await w.bot.execute_order(MINE)
    core = w.bot._core
    assert core is not None
    balances = w.exchange.balances

    async def restless() -> object:
        w.exchange.free["USD"] += Decimal(1)
        return await balances()

    w.exchange.balances = restless  # type: ignore[method-assign,assignment]
    await core.confirmer.find_baseline()
    assert not core.funds.has_baseline
    assert await core.confirmer.deviations() == {}
    w.exchange.balances = balances  # type: ignore[method-assign]
    assert await core.confirmer.deviations() == {}
    assert core.funds.has_baseline
    w.exchange.free["USD"] += Decimal(5)
    assert list(await core.confirmer.deviations()) == ["USD"]
    assert await core.confirmer.deviations() == {}


@scenario()
async def test_a_check_that_fails_by_a_defect_is_not_the_last_one(w: World) -> None:
    """It is logged, and the next fill tries again."""
    core = await _opened(w)
    check = core.confirmer.check_balances

    async def broken() -> None:
        core.confirmer.check_balances = check
        raise RuntimeError("a defect")

    core.confirmer.check_balances = broken
    w.exchange.script.extend(["fill", "fill"])
    await w.bot.execute_order(MINE)
    await asyncio.sleep(10)
    await w.bot.execute_order({**MINE, "client_order_id": "next"})
    await asyncio.sleep(10)
    assert step_of(await w.bot.get_order_status("mine"), Step.BALANCE) is not None


async def _opened(w: World) -> object:
    await w.bot.open()
    assert w.bot._core is not None
    return w.bot._core


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest goes unchecked; nothing fails."""
    monkeypatch.setattr(confirmation, "MAX_UNCHECKED", 2)
    monkeypatch.setattr(confirmation, "MAX_COUNTED", 2)

    @scenario()
    async def story(w: World) -> None:
        core = await _opened(w)
        for number in range(5):
            await w.bot.execute_order({**MINE, "client_order_id": f"open{number}"})
        assert len(core.confirmer._counted) <= 2
        w.exchange.script.extend(["fill"] * 5)
        for number in range(5):
            await w.bot.execute_order({**MINE, "client_order_id": f"o{number}"})
        assert len(core.confirmer._unchecked) <= 2
        await asyncio.sleep(20)
        assert core.confirmer._unchecked == {}

    story()


@scenario()
async def test_waiting_for_acceptance_alone_waits_for_nothing(w: World) -> None:
    """The order is there already."""
    core = await _opened(w)
    await w.bot.execute_order(MINE)
    order = await core.confirmer.wait("mine", "accepted", 0.0)
    assert order is not None
    assert order.order_id == "mine"
