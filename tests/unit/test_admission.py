"""Pre-commit: whatever refuses an order leaves nothing behind."""

from __future__ import annotations

import pytest

from services.mcp.order_execution import ExecutorHalted, InsufficientFunds, InvalidOrder, RiskLimitExceeded
from tests.worlds import ORDER, World, scenario

SMALL = {"risk": {"max_order_notional": "100"}}


@scenario(SMALL)
async def test_a_risk_limit_gives_the_funds_free(w: World) -> None:
    """Refused after the funds were set aside: they are free again, nothing was written or sent."""
    with pytest.raises(RiskLimitExceeded):
        await w.bot.execute_order({**ORDER, "client_order_id": "mine"})
    core = w.bot._core
    assert core is not None
    assert core.funds.reservations == {}
    assert w.on_disk("mine") is None
    assert w.exchange.submits == []


@scenario()
async def test_what_is_refused_first(w: World) -> None:
    """The kill switch before the market's rules, those before the funds."""
    too_fine_and_too_much = {**ORDER, "amount": "999.123456789123456789"}
    too_much = {**ORDER, "amount": "1000"}
    with pytest.raises(InsufficientFunds):
        await w.bot.execute_order(too_much)
    with pytest.raises(InvalidOrder, match="amount"):
        await w.bot.execute_order(too_fine_and_too_much)
    await w.bot.halt("test")
    with pytest.raises(ExecutorHalted):
        await w.bot.execute_order(too_fine_and_too_much)
    assert w.exchange.submits == []
