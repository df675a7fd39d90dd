"""The simple executor: retries only what provably was not sent, and cannot double an order either."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution import (
    BasicOrderExecutor,
    CircuitState,
    ConfigurationError,
    DuplicateOrder,
    ErrorCategory,
    ExchangeUnavailable,
    ExecutorClosed,
    ExecutorHalted,
    InvalidOrder,
    OrderExecutionInterface,
    OrderNotFound,
    OrderNotSent,
    OrderRejected,
    OrderState,
    OrderUnresolved,
)
from services.mcp.order_execution.gateways.base import Accepted, NotSent, OrderRef, Rejected
from tests.fakes import BLIND, FOREVER, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER, REFUSED

MINE: dict[str, Any] = {**ORDER, "client_order_id": "mine"}


class Desk:
    """An exchange and a basic executor on it."""

    def __init__(self, config: dict[str, Any] | None, traits: Any) -> None:
        self.clock = VirtualClock()
        self.exchange = FakeExchange(self.clock, traits)
        self.bot = BasicOrderExecutor(config, gateway=self.exchange, clock=self.clock, rng=random.Random(1))


def desk(config: dict[str, Any] | None = None, traits: Any = FOREVER) -> Callable[..., Callable[[], None]]:
    """Run the test in virtual time at a desk of its own."""

    def decorate(test: Callable[[Desk], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                d = Desk(config, traits)
                async with d.bot:
                    await test(d)

            run_virtual(main)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


@desk()
async def test_it_places_an_order_behind_the_same_interface(d: Desk) -> None:
    """And follows it by asking the exchange."""
    assert isinstance(d.bot, OrderExecutionInterface)
    order_id = await d.bot.execute_order(ORDER)
    assert (await d.bot.get_order_status(order_id)).state is OrderState.OPEN
    d.exchange.fill("X1", "0.1")
    order = await d.bot.wait_for_order(order_id, timeout=10)
    assert (order.state, order.filled) == (OrderState.FILLED, Decimal("0.1"))


@desk()
async def test_only_what_was_not_sent_is_retried(d: Desk) -> None:
    """Refused connections are; the order then rests once."""
    d.exchange.script.extend([REFUSED, REFUSED])
    await d.bot.execute_order(ORDER)
    assert len(d.exchange.submits) == 3
    assert len(d.exchange.orders) == 1
    assert (await d.bot.get_execution_stats()).retries == 2


@pytest.mark.parametrize("fate", ["lost reply", "lost request", RuntimeError("defect")])
def test_what_is_ambiguous_is_raised_as_unresolved_and_never_sent_again(fate: object) -> None:
    """A repeated call looks the order up."""

    @desk()
    async def run(d: Desk) -> None:
        d.exchange.script.append(fate)
        with pytest.raises(OrderUnresolved):
            await d.bot.execute_order(MINE)
        if fate == "lost reply":
            assert await d.bot.execute_order(MINE) == "mine"
        else:
            with pytest.raises(OrderUnresolved):
                await d.bot.execute_order(MINE)
        assert len(d.exchange.submits) == 1

    run()


@desk({"gateway": {"timeout_seconds": 2}})
async def test_a_timeout_is_ambiguous(d: Desk) -> None:
    """The request was out."""
    d.exchange.script.append("placed, hang")
    with pytest.raises(OrderUnresolved):
        await d.bot.execute_order(MINE)
    assert (await d.bot.get_order_status("mine")).state is OrderState.OPEN


@desk()
async def test_a_cancelled_caller_leaves_an_unknown_order(d: Desk) -> None:
    """It is looked up when somebody asks."""
    d.exchange.script.append("placed, hang")
    task = asyncio.create_task(d.bot.execute_order(MINE))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await d.bot.get_order_status("mine")).state is OrderState.OPEN


@desk(traits=BLIND)
async def test_where_nothing_can_be_looked_up_it_stays_unresolved(d: Desk) -> None:
    """No guess."""
    d.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved):
        await d.bot.execute_order(MINE)
    assert (await d.bot.get_order_status("mine")).state is OrderState.UNKNOWN


@desk()
async def test_a_duplicate_id_answer_is_unresolved_until_it_is_looked_up(d: Desk) -> None:
    """Somebody placed it: perhaps an earlier life of this very bot."""
    d.exchange.script.append(Rejected("duplicate", duplicate_id=True))
    with pytest.raises(OrderUnresolved):
        await d.bot.execute_order(MINE)


@desk()
async def test_repeats_and_refusals(d: Desk) -> None:
    """Same id, same answer; other parameters, an error; never sent, afresh."""
    assert await d.bot.execute_order(MINE) == await d.bot.execute_order(MINE) == "mine"
    with pytest.raises(DuplicateOrder):
        await d.bot.execute_order({**MINE, "amount": "0.2"})
    d.exchange.script.append(Rejected("min_notional"))
    for _ in range(2):
        with pytest.raises(OrderRejected):
            await d.bot.execute_order({**ORDER, "client_order_id": "bad"})
    d.exchange.script.extend([NotSent(ErrorCategory.AUTHENTICATION, "key")])
    with pytest.raises(OrderNotSent):
        await d.bot.execute_order({**ORDER, "client_order_id": "again"})
    assert await d.bot.execute_order({**ORDER, "client_order_id": "again"}) == "again"
    assert len(d.exchange.submits) == 4
    with pytest.raises(InvalidOrder):
        await d.bot.execute_order({**ORDER, "amount": "0.12345"})
    stats = await d.bot.get_execution_stats()
    assert stats.orders == {"accepted": 3, "rejected": 2, "not_sent": 1, "unresolved": 0, "invalid": 2}
    assert stats.circuit_state is CircuitState.CLOSED


@pytest.mark.parametrize("fate", ["ok", "lost request", "lost reply"])
def test_a_cancel_is_judged_by_what_the_order_says(fate: str) -> None:
    """Whatever became of the cancel's own answer."""

    @desk()
    async def run(d: Desk) -> None:
        order_id = await d.bot.execute_order(ORDER)
        d.exchange.cancel_script.append(fate)
        assert await d.bot.cancel_order(order_id) is True
        assert await d.bot.cancel_order(order_id) is True

    run()


@desk()
async def test_a_refused_cancel_is_told(d: Desk) -> None:
    """False: it may still trade."""
    order_id = await d.bot.execute_order(ORDER)
    d.exchange.cancel_script.extend([Rejected("frozen")] * 3)
    assert await d.bot.cancel_order(order_id) is False
    d.exchange.down = "503"
    d.exchange.cancel_script.extend(["lost request"] * 20)
    assert await d.bot.cancel_order(order_id) is False


@desk()
async def test_the_kill_switch(d: Desk) -> None:
    """Refuses new orders only."""
    order_id = await d.bot.execute_order(ORDER)
    await d.bot.halt("stop")
    with pytest.raises(ExecutorHalted):
        await d.bot.execute_order(ORDER)
    assert await d.bot.cancel_order(order_id)
    await d.bot.resume()
    await d.bot.execute_order(ORDER)
    with pytest.raises(InvalidOrder):
        await d.bot.halt("")


@desk()
async def test_reconciling_looks_every_remembered_order_up(d: Desk) -> None:
    """Filled behind our back: mismatched and adopted; then matched; unresolved stays apart; denied is missing."""
    first = await d.bot.execute_order(ORDER)
    d.exchange.fill("X1", "0.1")
    assert (await d.bot.reconcile_orders()).mismatched_orders == 1
    assert (await d.bot.reconcile_orders("weekly")).matched_orders == 1
    assert (await d.bot.get_order_status(first)).state is OrderState.FILLED
    d.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved):
        await d.bot.execute_order(ORDER)
    d.exchange.hidden = {"X1"}
    report = await d.bot.reconcile_orders()
    assert (report.unresolved_orders, report.missing_orders) == (1, 1)
    d.exchange.down = "503"
    with pytest.raises(ExchangeUnavailable):
        await d.bot.reconcile_orders()
    with pytest.raises(ConfigurationError):
        await d.bot.reconcile_orders("yearly")


@desk()
async def test_events_configuration_and_the_end(d: Desk) -> None:
    """The rest of the interface."""
    events = d.bot.events()
    d.exchange.script.append("fill")
    order_id = await d.bot.execute_order(ORDER)
    await d.bot.configure({"retry": {"max_retries": 1}})
    assert d.bot.settings.retry.max_retries == 1
    with pytest.raises(ConfigurationError):
        await d.bot.configure({"gateway": {"timeout_seconds": 3}})
    with pytest.raises(OrderNotFound):
        await d.bot.get_order_status("nobody")
    with pytest.raises(TimeoutError):
        await d.bot.wait_for_order(await d.bot.execute_order(ORDER), timeout=2)
    await d.bot.close()
    kinds = [event.kind.value async for event in events if event.order_id == order_id]
    assert kinds == ["intent", "accepted", "fill", "closed"]
    with pytest.raises(ExecutorClosed):
        await d.bot.execute_order(ORDER)


def test_orders_that_ended_long_ago_keep_their_totals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ended ones make room, and they answer still: for their status, and when they are executed again."""
    monkeypatch.setattr("services.mcp.order_execution.basic_executor.MAX_REMEMBERED", 1)

    @desk()
    async def run(d: Desk) -> None:
        d.exchange.script.extend(["ok", "fill", "fill", "ok"])
        ids = [await d.bot.execute_order(ORDER) for _ in range(4)]
        old = await d.bot.get_order_status(ids[1])
        assert (old.state, old.filled, old.fills) == (OrderState.FILLED, Decimal("0.1"), ())
        assert len((await d.bot.get_order_status(ids[2])).fills) == 1
        for order_id in (ids[0], ids[3]):
            assert (await d.bot.get_order_status(order_id)).state is OrderState.OPEN
        assert await d.bot.execute_order({**ORDER, "client_order_id": ids[1]}) == ids[1]
        assert (await d.bot.get_execution_stats()).fills == 2
        assert (await d.bot.reconcile_orders()).total_orders == 3
        assert len(d.exchange.placed) == 4

    run()


@desk()
async def test_what_is_no_mapping_is_no_configuration(d: Desk) -> None:
    """The old one stays in force."""
    with pytest.raises(ConfigurationError, match="expected a mapping, got list"):
        await d.bot.configure([1])  # type: ignore[arg-type]
    assert d.bot.settings.retry.max_retries == 3


@desk()
async def test_a_market_that_is_not_to_be_had_sends_nothing(d: Desk) -> None:
    """The order may be executed again under the same id."""
    d.exchange.down = "503"
    with pytest.raises(OrderNotSent, match="rules of BTC/USD are not to be had: 503"):
        await d.bot.execute_order(MINE)
    assert d.exchange.submits == []
    d.exchange.down = None
    assert await d.bot.execute_order(MINE) == "mine"


@desk({"gateway": {"timeout_seconds": 2}})
async def test_a_read_that_hangs_ends_with_the_timeout(d: Desk) -> None:
    """It tells nothing: what was last known is given, and nothing new is sent."""
    await d.bot.execute_order(MINE)
    d.exchange.fill("X1", "0.1")
    d.exchange.latency = 60.0
    started = d.clock.monotonic()
    assert (await d.bot.get_order_status("mine")).state is OrderState.OPEN
    with pytest.raises(OrderNotSent, match="no answer in time"):
        await d.bot.execute_order({**ORDER, "client_order_id": "other"})
    assert d.clock.monotonic() - started == pytest.approx(4)
    assert len(d.exchange.submits) == 1


@desk({"gateway": {"timeout_seconds": 2}})
async def test_a_cancel_that_hangs_is_judged_by_what_the_order_says(d: Desk) -> None:
    """No answer is no refusal: the order is looked at, and it is gone."""
    await d.bot.execute_order(MINE)
    cancel = d.exchange.cancel

    async def slow(ref: OrderRef) -> object:
        answer = await cancel(ref)
        await asyncio.sleep(60)
        return answer

    d.exchange.cancel = slow  # type: ignore[method-assign,assignment]
    assert await d.bot.cancel_order("mine") is True
    assert len(d.exchange.cancels) == 1


@desk()
async def test_a_receipt_without_the_order_is_a_receipt(d: Desk) -> None:
    """Some exchanges answer with the id alone."""
    d.exchange.script.append(Accepted("X77"))
    assert await d.bot.execute_order(MINE) == "mine"
    d.exchange.down = "503"
    order = await d.bot.get_order_status("mine")
    assert (order.state, order.exchange_order_id, order.filled) == (OrderState.OPEN, "X77", Decimal(0))


@desk()
async def test_two_calls_for_one_id_send_one_order(d: Desk) -> None:
    """The second waits for the first and gets the same answer."""
    d.exchange.latency = 1.0
    answers = await asyncio.gather(*(d.bot.execute_order(MINE) for _ in range(3)))
    assert answers == ["mine"] * 3
    assert len(d.exchange.submits) == 1
    assert d.bot._locks == {}


@desk()
async def test_a_caller_that_gives_up_waiting_leaves_the_turn_of_the_others_alone(d: Desk) -> None:
    """The one that sends goes on, and a third call still sends nothing of its own."""
    d.exchange.latency = 1.0
    sending = asyncio.create_task(d.bot.execute_order(MINE))
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(d.bot.execute_order(MINE))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await d.bot.execute_order(MINE) == await sending == "mine"
    assert len(d.exchange.submits) == 1


def test_the_gateway_is_the_configured_one_where_none_is_given(tmp_path: Path) -> None:
    """The paper exchange in a file of its own."""

    async def main() -> None:
        config = {"gateway": {"name": "paper", "paper": {"path": str(tmp_path / "exchange.db")}}}
        async with BasicOrderExecutor(config, rng=random.Random(1)) as bot:
            assert bot._gateway is not None
            assert bot._gateway.name == "paper"

    asyncio.run(main())
    assert (tmp_path / "exchange.db").exists()
