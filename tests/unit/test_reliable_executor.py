"""The executor under virtual time, on an exchange in memory whose every answer is scripted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution import (
    CircuitOpen,
    CircuitState,
    ConfigurationError,
    DuplicateOrder,
    ErrorCategory,
    ExchangeUnavailable,
    ExecutorClosed,
    ExecutorHalted,
    InsufficientFunds,
    InvalidOrder,
    JournalUnavailable,
    OrderNotFound,
    OrderNotSent,
    OrderRejected,
    OrderState,
    OrderUnresolved,
    ReliableOrderExecutor,
    RiskLimitExceeded,
)
from services.mcp.order_execution.gateways.base import NotSent, Rejected
from services.mcp.order_execution.models import EventKind, Step
from services.mcp.order_execution.transaction_log import TransactionLog, TransactionLogReader
from tests.fakes import BLIND, FOREVER, OPEN_ONLY
from tests.worlds import ORDER, REFUSED, World, scenario


@scenario()
async def test_the_intent_is_durable_before_the_order_leaves(w: World) -> None:
    """When the exchange sees the order, the disk already has it."""
    on_disk: list[bool] = []
    w.exchange.before_send = lambda request: on_disk.append(request.client_order_id in w.store.orders)
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert on_disk == [True]
    assert (order.state, order.attempts) == (OrderState.OPEN, 1)
    assert order.confirmed(Step.RECEIPT)


@scenario()
async def test_a_lost_reply_is_found_not_sent_again(w: World) -> None:
    """The order rests once; the caller gets its id."""
    w.exchange.script.append("lost reply")
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert (order.state, order.attempts) == (OrderState.OPEN, 1)
    assert len(w.exchange.orders) == 1


@scenario()
async def test_a_lost_request_is_sent_again_under_the_same_id_once_it_cannot_arrive(w: World) -> None:
    """Not before request expiry and settle time have passed, and durably announced."""
    w.exchange.script.append("lost request")
    start = w.clock.monotonic()
    order_id = await w.bot.execute_order(ORDER)
    assert w.clock.monotonic() - start >= FOREVER.unresolvable_for
    assert [request.client_order_id for request in w.exchange.submits] == [order_id, order_id]
    assert (await w.journalled(order_id))[:4] == ["intent", "unknown", "resend", "accepted"]


@pytest.mark.parametrize("seconds", [0.1, 1.0, 1.9])
@pytest.mark.parametrize("traits", [FOREVER, OPEN_ONLY])
def test_a_late_arrival_is_never_doubled(seconds: float, traits: Any) -> None:
    """Even where the exchange would take a second copy: the settle wait prevents it."""

    @scenario(traits=traits)
    async def run(w: World) -> None:
        w.exchange.script.append(seconds)
        order_id = await w.bot.execute_order(ORDER)
        await asyncio.sleep(30)
        assert len(w.exchange.named(order_id)) == 1
        assert len(w.exchange.submits) == 1

    run()


@scenario(traits=OPEN_ONLY)
async def test_an_order_that_filled_at_once_is_found_among_the_closed_ones(w: World) -> None:
    """A lookup that covers open orders only is no proof of absence."""

    def place_and_fill(request: Any) -> None:
        placed = w.exchange.place(request)
        w.exchange.fill(placed.exchange_order_id, "0.1")

    w.exchange.script.append("lost request")
    w.exchange.before_send = place_and_fill
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert order.state is OrderState.FILLED
    assert len(w.exchange.orders) == 1


@scenario()
async def test_what_provably_was_not_sent_is_retried_at_once(w: World) -> None:
    """A refused connection costs a backoff, no settle wait."""
    w.exchange.script.extend([REFUSED, REFUSED])
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert (order.attempts, order.state) == (3, OrderState.OPEN)
    assert (await w.bot.get_execution_stats()).retries == 2


@scenario()
async def test_an_order_that_never_left_starts_afresh(w: World) -> None:
    """After the last retry it is EXPIRED, never_sent; the same id may be executed again."""
    w.exchange.script.extend([REFUSED] * 4)
    params = {**ORDER, "client_order_id": "mine"}
    with pytest.raises(OrderNotSent) as caught:
        await w.bot.execute_order(params)
    assert caught.value.order_id == "mine"
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.reason, order.attempts) == (OrderState.EXPIRED, "never_sent", 4)
    assert await w.bot.execute_order(params) == "mine"
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_errors_that_are_not_retryable_are_not_retried(w: World) -> None:
    """An authentication failure is sent once."""
    w.exchange.script.append(NotSent(ErrorCategory.AUTHENTICATION, "bad key"))
    with pytest.raises(OrderNotSent):
        await w.bot.execute_order(ORDER)
    assert len(w.exchange.submits) == 1


@scenario()
async def test_a_refusal_of_the_exchange_is_final_and_repeats(w: World) -> None:
    """The same id gives the same refusal, without asking the exchange again, also after a restart."""
    w.exchange.script.append(Rejected("min_notional"))
    params = {**ORDER, "client_order_id": "mine"}
    for _ in range(2):
        with pytest.raises(OrderRejected, match="min_notional"):
            await w.bot.execute_order(params)
    await w.bot.close()
    w.start()
    with pytest.raises(OrderRejected, match="min_notional"):
        await w.bot.execute_order(params)
    assert len(w.exchange.submits) == 1


@scenario()
async def test_the_same_id_and_parameters_give_the_same_order(w: World) -> None:
    """Before and after a restart, and for concurrent calls."""
    params = {**ORDER, "client_order_id": "mine"}
    ids = await asyncio.gather(*(w.bot.execute_order(params) for _ in range(10)))
    await w.crash()
    ids.append(await w.bot.execute_order(params))
    assert set(ids) == {"mine"}
    assert len(w.exchange.submits) == 1


@scenario()
async def test_the_same_id_with_other_parameters_is_an_error(w: World) -> None:
    """It names what differs; also while the first call is under way, and after a restart."""
    params = {**ORDER, "client_order_id": "mine"}
    other = {**params, "amount": "0.2"}
    w.exchange.latency = 1.0
    first = asyncio.create_task(w.bot.execute_order(params))
    await asyncio.sleep(0.5)
    with pytest.raises(DuplicateOrder, match="amount"):
        await w.bot.execute_order(other)
    await first
    await w.crash()
    with pytest.raises(DuplicateOrder, match="amount"):
        await w.bot.execute_order(other)


@scenario()
async def test_a_call_that_runs_out_of_time_says_unresolved_and_a_later_one_goes_on_waiting(w: World) -> None:
    """The order is resolved in between, in the background."""
    w.exchange.script.append("lost reply")
    params = {**ORDER, "client_order_id": "mine", "deadline_seconds": 1}
    asyncio.get_running_loop().call_later(0.0, setattr, w.exchange, "down", None)
    w.exchange.before_send = lambda request: setattr(w.exchange, "hidden", {"X1"})
    w.exchange.down = None
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order(params)
    assert (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN
    w.exchange.hidden = set()
    assert await w.bot.execute_order({**params, "deadline_seconds": 30}) == "mine"
    assert len(w.exchange.submits) == 1


@scenario()
async def test_an_exchange_that_does_not_answer_says_nothing(w: World) -> None:
    """An hour of outage: not one order is called rejected, and each is found or settled afterwards."""
    w.exchange.script.extend(["lost reply"] * 3 + ["lost request"] * 3)

    async def place(number: int) -> str:
        try:
            return await w.bot.execute_order({**ORDER, "client_order_id": f"o{number}"})
        except (OrderUnresolved, OrderNotSent) as error:
            return type(error).__name__

    await w.bot.open()
    tasks = [asyncio.create_task(place(number)) for number in range(6)]
    await asyncio.sleep(0.0015)  # the requests are out
    w.exchange.down = "503"
    for minute in range(60):
        await asyncio.sleep(60)
        states = {(await w.bot.get_order_status(f"o{n}")).state for n in range(6)}
        assert states <= {OrderState.UNKNOWN, OrderState.OPEN}, (minute, states)
    w.exchange.down = None
    await asyncio.sleep(120)
    assert "OrderRejected" not in await asyncio.gather(*tasks)
    for number in range(6):
        order = await w.bot.get_order_status(f"o{number}")
        assert len(w.exchange.named(order.order_id)) == (order.state is OrderState.OPEN)
        if order.state is not OrderState.OPEN:
            assert (order.state, order.reason) == (OrderState.REJECTED, "never_arrived")
    assert (await w.bot.get_execution_stats()).unresolved_orders == 0


@scenario()
async def test_a_cancelled_caller_leaves_an_honest_record(w: World) -> None:
    """The order is UNKNOWN, goes on being resolved, and is found."""
    w.exchange.script.append("placed, hang")
    task = asyncio.create_task(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "unknown" in await w.journalled("mine")
    await asyncio.sleep(1)
    assert (await w.bot.get_order_status("mine")).state is OrderState.OPEN
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_a_caller_cancelled_before_sending_leaves_nothing_behind(w: World) -> None:
    """Cancelled while the intent is being made durable: never sent, and said so."""
    await w.bot.open()
    await w.bot.execute_order(ORDER)
    await w.journal.flush()
    w.journal.commit_seconds = 5.0
    task = asyncio.create_task(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.reason) == (OrderState.EXPIRED, "never_sent")
    assert w.exchange.named("mine") == []
    assert w.bot._core is not None
    assert not w.bot._core.funds.reservations.get("mine")


@scenario()
async def test_a_hanging_exchange_is_a_timeout_and_a_timeout_is_unknown(w: World) -> None:
    """The per-attempt limit ends the wait; the order that did land is found."""
    await w.bot.configure({"retry": {"deadline_seconds": 120}})
    w.exchange.script.append("placed, hang")
    w.exchange.hang = 1000.0
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert order.state is OrderState.OPEN
    assert "unknown" in await w.journalled(order.order_id)


@scenario()
async def test_a_defect_of_the_gateway_counts_as_unknown(w: World) -> None:
    """An exception that nobody classified does not lose the order."""
    w.exchange.script.append(RuntimeError("defect"))
    w.exchange.before_send = lambda request: w.exchange.place(request) and None
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert order.state is OrderState.OPEN
    assert len(w.exchange.orders) == 1


@scenario()
async def test_a_duplicate_id_answer_means_look_it_up(w: World) -> None:
    """The order that is there is ours: adopted, not rejected."""
    params = {**ORDER, "client_order_id": "mine"}
    w.exchange.before_send = lambda request: None if w.exchange.orders else w.exchange.place(request) and None
    assert await w.bot.execute_order(params) == "mine"
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_another_order_under_our_id_is_never_adopted(w: World) -> None:
    """It stays unresolved, and a human is told."""
    params = {**ORDER, "client_order_id": "mine", "deadline_seconds": 20}
    w.exchange.before_send = lambda request: (
        None if w.exchange.orders else w.exchange.place(replace(request, amount=Decimal(9))) and None
    )
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order(params)
    assert (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN


@scenario(traits=BLIND)
async def test_where_nothing_can_be_looked_up_an_unknown_order_stays_unknown(w: World) -> None:
    """No resend, no verdict, however long it takes."""
    w.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved) as caught:
        await w.bot.execute_order({**ORDER, "deadline_seconds": 30})
    await asyncio.sleep(100_000)
    assert (await w.bot.get_order_status(caught.value.order_id)).state is OrderState.UNKNOWN
    assert len(w.exchange.submits) == 1


@scenario({"retry": {"max_retries": 0}})
async def test_without_retries_a_proven_absence_is_a_rejection_with_its_reason(w: World) -> None:
    """never_arrived, and the same call gets the same answer."""
    w.exchange.script.append("lost request")
    params = {**ORDER, "client_order_id": "mine"}
    for _ in range(2):
        with pytest.raises(OrderRejected, match="never_arrived"):
            await w.bot.execute_order(params)
    assert len(w.exchange.submits) == 1


@scenario({"retry": {"max_retries": 0}})
async def test_later_truth_reopens_what_was_closed_here(w: World) -> None:
    """An order declared never to have arrived that turns up after all is adopted by a reconciliation."""
    w.exchange.script.append("lost request")
    with pytest.raises(OrderRejected):
        await w.bot.execute_order({**ORDER, "client_order_id": "mine"})
    w.exchange.place(w.exchange.submits[0])
    await w.bot.reconcile_orders()
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.exchange_order_id) == (OrderState.OPEN, "X1")
    assert "reopened" in await w.journalled("mine")


# ---- restart ---------------------------------------------------------------------------------------------------


@scenario()
async def test_after_a_crash_an_order_that_landed_is_found(w: World) -> None:
    """Killed while the exchange answered; the next life adopts it, and the same call gives its id."""
    w.exchange.script.append("placed, hang")
    params = {**ORDER, "client_order_id": "mine"}
    w.background(w.bot.execute_order(params))
    await asyncio.sleep(1)
    await w.crash()
    assert await w.bot.execute_order(params) == "mine"
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_after_a_crash_an_order_that_did_not_land_starts_afresh_when_it_is_executed_again(w: World) -> None:
    """Its caller died without an answer: executing everything again places it, once."""
    w.exchange.script.append("hang")
    params = {**ORDER, "client_order_id": "mine"}
    w.background(w.bot.execute_order(params))
    await asyncio.sleep(1)
    await w.crash()
    await w.bot.open()
    await asyncio.sleep(60)  # recovered, and nobody has asked for it yet
    assert (await w.bot.get_order_status("mine")).reason == "never_arrived"
    assert w.exchange.named("mine") == []
    assert await w.bot.execute_order(params) == "mine"
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_new_orders_wait_until_the_old_ones_are_resolved(w: World) -> None:
    """And are refused, never sent, when that takes too long."""
    w.exchange.script.append("hang")
    w.background(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(1)
    await w.crash()
    with pytest.raises(OrderNotSent, match="earlier life"):
        await w.bot.execute_order({**ORDER, "deadline_seconds": 1})
    await w.bot.execute_order(ORDER)


@scenario()
async def test_an_order_waiting_for_a_retry_is_not_sent_after_a_restart(w: World) -> None:
    """Its price is stale: EXPIRED, never_sent."""
    w.exchange.script.extend([NotSent(ErrorCategory.MAINTENANCE, "closed", retry_after=30.0)])
    w.background(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(1)
    await w.crash()
    await w.bot.open()
    await asyncio.sleep(60)
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.reason) == (OrderState.EXPIRED, "never_sent")
    assert w.exchange.orders == {}


@scenario()
async def test_a_wish_to_cancel_survives_a_crash(w: World) -> None:
    """The next life goes on cancelling."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.cancel_script.extend(["lost request"] * 3)
    w.background(w.bot.cancel_order(order_id))
    await asyncio.sleep(0.02)
    await w.crash()
    await w.bot.open()
    assert (await w.bot.wait_for_order(order_id, 60)).state is OrderState.CANCELED


@scenario()
async def test_the_kill_switch_survives_a_restart(w: World) -> None:
    """Halted: no new orders, cancels go on; resume lifts it."""
    order_id = await w.bot.execute_order(ORDER)
    await w.bot.halt("fat finger")
    with pytest.raises(ExecutorHalted, match="fat finger"):
        await w.bot.execute_order(ORDER)
    await w.crash()
    with pytest.raises(ExecutorHalted):
        await w.bot.execute_order(ORDER)
    assert await w.bot.cancel_order(order_id)
    assert (await w.bot.get_execution_stats()).halted == "fat finger"
    await w.bot.resume()
    await w.bot.execute_order(ORDER)
    with pytest.raises(InvalidOrder):
        await w.bot.halt("")


# ---- cancel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["ok", "lost request", "lost reply"])
def test_a_cancel_resolves_its_own_ambiguity(fate: str) -> None:
    """A cancel that times out is not a cancel that failed: what counts is what the order says."""

    @scenario()
    async def run(w: World) -> None:
        order_id = await w.bot.execute_order(ORDER)
        w.exchange.cancel_script.append(fate)
        assert await w.bot.cancel_order(order_id) is True
        assert (await w.bot.get_order_status(order_id)).state is OrderState.CANCELED

    run()


@scenario()
async def test_fills_that_arrive_while_cancelling_are_kept(w: World) -> None:
    """A partial fill just before the cancel is in the order."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.cancel_script.append(lambda order: w.exchange.fill(order.exchange_order_id, "0.04"))
    assert await w.bot.cancel_order(order_id)
    order = await w.bot.get_order_status(order_id)
    assert (order.state, order.filled) == (OrderState.CANCELED, Decimal("0.04"))


@scenario()
async def test_a_cancel_that_is_refused_leaves_the_order_open(w: World) -> None:
    """False: it may still trade. It is not canceling any more."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.cancel_script.extend([Rejected("frozen")] * 5)
    assert await w.bot.cancel_order(order_id) is False
    assert (await w.bot.get_order_status(order_id)).state is OrderState.OPEN


@scenario({"retry": {"deadline_seconds": 5}})
async def test_a_cancel_without_an_answer_goes_on_after_the_call(w: World) -> None:
    """False after the deadline; CANCELING until the exchange answers; then canceled."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.down = "503"
    w.exchange.cancel_script.extend(["lost request"] * 20)
    assert await w.bot.cancel_order(order_id) is False
    assert (await w.bot.get_order_status(order_id)).state is OrderState.CANCELING
    w.exchange.down = None
    assert (await w.bot.wait_for_order(order_id, 300)).state is OrderState.CANCELED


@scenario()
async def test_cancelling_what_is_final_or_unknown_to_all(w: World) -> None:
    """A final order trades no further; an id that nobody knows is an error."""
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    assert await w.bot.cancel_order(order_id) is True
    assert (await w.bot.get_order_status(order_id)).state is OrderState.FILLED
    with pytest.raises(OrderNotFound):
        await w.bot.cancel_order("nobody")
    with pytest.raises(OrderNotFound):
        await w.bot.get_order_status("nobody")


@scenario()
async def test_cancelling_an_unresolved_order_cancels_it_once_it_is_found(w: World) -> None:
    """The wish waits for the order's own fate; it is not sent again meanwhile."""
    w.exchange.script.append(1.0)
    placing = asyncio.create_task(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(0.5)
    assert await w.bot.cancel_order("mine") is True
    await placing
    assert (await w.bot.get_order_status("mine")).state is OrderState.CANCELED
    assert len(w.exchange.submits) == 1


@scenario()
async def test_cancelling_an_order_that_waits_for_a_retry_keeps_it_from_being_sent(w: World) -> None:
    """Nothing of it is at the exchange, and nothing will be."""
    w.exchange.script.append(NotSent(ErrorCategory.MAINTENANCE, "closed", retry_after=20.0))
    placing = asyncio.create_task(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(1)
    assert await w.bot.cancel_order("mine") is True
    with pytest.raises(OrderRejected, match="canceled_before_sending"):
        await placing
    assert (await w.bot.get_order_status("mine")).state is OrderState.CANCELED
    assert w.exchange.orders == {}


# ---- tracking, confirmation, events ----------------------------------------------------------------------------


@scenario()
async def test_every_step_of_confirmation_is_recorded(w: World) -> None:
    """Receipt, visible, fills, balance: each with its time, in this order."""
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(6)
    exchange_id = (await w.bot.get_order_status(order_id)).exchange_order_id
    assert exchange_id is not None
    w.exchange.fill(exchange_id, "0.1")
    await w.bot.wait_for_order(order_id, 10)
    await asyncio.sleep(10)
    order = await w.bot.get_order_status(order_id)
    assert [step.step for step in order.confirmations] == [Step.RECEIPT, Step.VISIBLE, Step.FILLS, Step.BALANCE]
    assert all(step.ok for step in order.confirmations)


@scenario()
async def test_a_balance_that_moved_otherwise_is_recorded_as_such(w: World) -> None:
    """The step says what was expected and what the exchange said."""
    await w.bot.open()
    await asyncio.sleep(1)
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.free["BTC"] += Decimal("0.5")
    await asyncio.sleep(30)
    last = (await w.bot.get_order_status(order_id)).confirmations[-1]
    assert (last.step, last.ok) == (Step.BALANCE, False)
    assert "BTC" in str(last.detail)


@scenario()
async def test_following_orders_costs_requests_per_round_not_per_order(w: World) -> None:
    """Fifty open orders, one list call a round."""
    await asyncio.gather(*(w.bot.execute_order(ORDER) for _ in range(50)))
    await asyncio.sleep(20)
    w.exchange.reads.clear()
    await asyncio.sleep(50)
    assert set(w.exchange.reads) <= {"open_orders"}
    assert len(w.exchange.reads) <= 11


@scenario()
async def test_many_orders_that_close_at_once_are_told_by_one_list(w: World) -> None:
    """The closed orders are listed, not asked for one by one."""
    ids = await asyncio.gather(*(w.bot.execute_order(ORDER) for _ in range(50)))
    for order_id in ids:
        order = await w.bot.get_order_status(order_id)
        assert order.exchange_order_id is not None
        w.exchange.fill(order.exchange_order_id, "0.1")
    w.exchange.reads.clear()
    await w.bot.wait_for_order(ids[0], 30)
    assert all([(await w.bot.get_order_status(item)).state is OrderState.FILLED for item in ids])
    assert "query" not in w.exchange.reads


@scenario()
async def test_trades_are_listed_where_orders_do_not_carry_their_fills(w: World) -> None:
    """Each fill is booked by its trade id."""
    w.exchange.carry_fills = False
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.fill("X1", "0.04")
    w.exchange.fill("X1", "0.06", "49000")
    order = await w.bot.wait_for_order(order_id, 30)
    await asyncio.sleep(10)
    order = await w.bot.get_order_status(order_id)
    assert [item.trade_id for item in order.fills] == ["T1", "T2"]
    assert order.average_price == Decimal(49400)
    assert order.confirmed(Step.FILLS)


@scenario()
async def test_an_accepted_order_that_the_exchange_denies_becomes_unknown_never_final(w: World) -> None:
    """Silence and denial give no verdict on what was accepted; when it shows again it goes on."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.hidden = {"X1"}
    await asyncio.sleep(1000)
    assert (await w.bot.get_order_status(order_id)).state is OrderState.UNKNOWN
    assert len(w.exchange.submits) == 1
    w.exchange.hidden = set()
    await asyncio.sleep(200)
    assert (await w.bot.get_order_status(order_id)).state is OrderState.OPEN


@scenario()
async def test_events_tell_every_change_and_fill_in_order(w: World) -> None:
    """Versions without a gap, from the intent to the last step."""
    await w.bot.open()
    events = w.bot.events()
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    await asyncio.sleep(10)
    await w.bot.close()
    seen = [event async for event in events if event.order_id == order_id]
    assert [event.order.version for event in seen] == list(range(1, len(seen) + 1))
    assert [event.kind for event in seen[:4]] == [
        EventKind.INTENT,
        EventKind.ACCEPTED,
        EventKind.FILL,
        EventKind.CLOSED,
    ]


@scenario({"confirmation": {"wait_for": "final", "timeout_seconds": 20}})
async def test_the_call_can_wait_until_the_order_is_final(w: World) -> None:
    """Or until the timeout; the order was accepted in either case."""
    asyncio.get_running_loop().call_later(3, lambda: w.exchange.fill("X1", "0.1"))
    order_id = await w.bot.execute_order(ORDER)
    assert (await w.bot.get_order_status(order_id)).state is OrderState.FILLED
    start = w.clock.monotonic()
    other = await w.bot.execute_order(ORDER)
    assert w.clock.monotonic() - start == pytest.approx(20, abs=1)
    assert (await w.bot.get_order_status(other)).state is OrderState.OPEN


@scenario({"confirmation": {"wait_for": "visible"}})
async def test_the_call_can_wait_until_the_order_is_visible(w: World) -> None:
    """A read of ours has seen it."""
    order = await w.bot.get_order_status(await w.bot.execute_order(ORDER))
    assert order.confirmed(Step.VISIBLE)


@scenario()
async def test_waiting_for_an_order_ends_with_it_or_with_the_timeout(w: World) -> None:
    """TimeoutError; the order goes on."""
    order_id = await w.bot.execute_order(ORDER)
    with pytest.raises(TimeoutError):
        await w.bot.wait_for_order(order_id, timeout=3)
    assert (await w.bot.get_order_status(order_id)).state is OrderState.OPEN


# ---- limits of ours --------------------------------------------------------------------------------------------


@scenario()
async def test_two_concurrent_orders_cannot_spend_the_same_balance(w: World) -> None:
    """Funds are reserved before the first byte leaves; the second order is refused, not sent."""
    w.exchange.free["USD"] = Decimal(6000)
    w.exchange.latency = 0.5
    results = await asyncio.gather(w.bot.execute_order(ORDER), w.bot.execute_order(ORDER), return_exceptions=True)
    assert sum(isinstance(item, InsufficientFunds) for item in results) == 1
    assert len(w.exchange.submits) == 1
    assert w.bot._core is not None
    await asyncio.sleep(10)
    await w.bot._core.funds.refresh(max_age=0)
    assert w.bot._core.funds.reservations == {}


@pytest.mark.parametrize(
    ("risk", "params", "limit"),
    [
        ({"max_order_notional": 4000}, {}, "max_order_notional"),
        ({"max_order_notional": 4000}, {"type": "market", "price": None}, "max_order_notional"),
        ({"price_collar_percent": 1}, {"price": "40000"}, "price_collar_percent"),
        ({"max_position": {"BTC": "100.05"}}, {}, "max_position"),
    ],
)
def test_each_risk_limit_refuses_before_anything_is_sent(
    risk: dict[str, Any], params: dict[str, Any], limit: str
) -> None:
    """The error names the limit."""

    @scenario({"risk": risk})
    async def run(w: World) -> None:
        with pytest.raises(RiskLimitExceeded) as caught:
            await w.bot.execute_order({**ORDER, **params})
        assert caught.value.limit == limit
        assert w.exchange.submits == []
        assert w.store.orders == {}

    run()


@scenario({"risk": {"max_open_orders": 3, "max_orders_per_minute": 5}})
async def test_limits_hold_for_concurrent_calls(w: World) -> None:
    """Ten at once, three pass; later five a minute."""
    results = await asyncio.gather(*(w.bot.execute_order(ORDER) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(item, str) for item in results) == 3
    for order_id in [item for item in results if isinstance(item, str)]:
        await w.bot.cancel_order(order_id)
    for _ in range(2):
        w.exchange.script.append("fill")
        await w.bot.execute_order(ORDER)
    with pytest.raises(RiskLimitExceeded, match="minute"):
        await w.bot.execute_order(ORDER)
    await asyncio.sleep(61)
    await w.bot.execute_order(ORDER)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"symbol": "NOPE/USD"}, "symbol"),
        ({"amount": "0.00001"}, "amount"),
        ({"amount": "0.12345"}, "amount"),
        ({"price": "50000.001"}, "price"),
        ({"amount": "0.0001", "price": "1"}, "amount"),
        ({"amount": "100000"}, "amount"),
        ({"client_order_id": "a/b"}, "client_order_id"),
    ],
)
def test_what_the_market_does_not_take_is_refused_before_sending(params: dict[str, Any], field: str) -> None:
    """Its own error for each; nothing is rounded."""

    @scenario()
    async def run(w: World) -> None:
        with pytest.raises(InvalidOrder) as caught:
            await w.bot.execute_order({**ORDER, **params})
        assert caught.value.field == field
        assert w.exchange.submits == []
        assert (await w.bot.get_execution_stats()).orders["invalid"] == 1

    run()


# ---- breaker ---------------------------------------------------------------------------------------------------


@scenario({"circuit_breaker": {"failure_threshold": 3, "cool_down_seconds": 30}, "retry": {"max_retries": 0}})
async def test_an_open_circuit_refuses_orders_and_lets_cancels_through(w: World) -> None:
    """It is probed by a read after the cool-down, then closed."""
    order_id = await w.bot.execute_order(ORDER)
    w.exchange.script.extend([REFUSED] * 3)
    for _ in range(3):
        with pytest.raises(OrderNotSent):
            await w.bot.execute_order(ORDER)
    with pytest.raises(CircuitOpen) as caught:
        await w.bot.execute_order({**ORDER, "client_order_id": "mine"})
    assert caught.value.retry_after is not None
    assert (await w.bot.get_execution_stats()).circuit_state is CircuitState.OPEN
    assert await w.bot.cancel_order(order_id) is True
    await asyncio.sleep(31)
    submits = len(w.exchange.submits)
    w.exchange.reads.clear()
    assert await w.bot.execute_order({**ORDER, "client_order_id": "mine"}) == "mine"
    assert "ping" in w.exchange.reads
    assert len(w.exchange.submits) == submits + 1
    assert (await w.bot.get_execution_stats()).circuit_state is CircuitState.CLOSED


@scenario({"circuit_breaker": {"failure_threshold": 1, "cool_down_seconds": 30}, "retry": {"max_retries": 0}})
async def test_a_failed_probe_reopens_the_circuit_without_sending_an_order(w: World) -> None:
    """No live order is ever a probe."""
    w.exchange.script.append(REFUSED)
    with pytest.raises(OrderNotSent):
        await w.bot.execute_order(ORDER)
    await asyncio.sleep(31)
    assert w.bot._core is not None
    original = w.exchange.ping
    w.exchange.ping = lambda: w.exchange._read("ping")  # type: ignore[method-assign]
    w.exchange.down = "503"
    w.bot._core._tickers.clear()
    market = await original.__self__.market("BTC/USD") if False else None
    assert market is None
    with pytest.raises(OrderNotSent):
        await w.bot.execute_order({**ORDER, "deadline_seconds": 2})
    assert len(w.exchange.submits) == 1


@scenario()
async def test_a_refusal_of_the_exchange_is_health(w: World) -> None:
    """Rejections never open the circuit."""
    await w.bot.configure({"circuit_breaker": {"failure_threshold": 2}})
    w.exchange.script.extend([Rejected("min_notional")] * 5)
    for _ in range(5):
        with pytest.raises(OrderRejected):
            await w.bot.execute_order(ORDER)
    assert (await w.bot.get_execution_stats()).circuit_state is CircuitState.CLOSED


@scenario()
async def test_a_circuit_forced_open_stays_so_until_it_is_reset(w: World) -> None:
    """It never heals by itself."""
    await w.bot.force_circuit_open("maintenance")
    await asyncio.sleep(100_000)
    with pytest.raises(CircuitOpen):
        await w.bot.execute_order(ORDER)
    assert await w.bot.reset_circuit() is CircuitState.CLOSED
    await w.bot.execute_order(ORDER)


# ---- journal ---------------------------------------------------------------------------------------------------


@scenario()
async def test_without_a_journal_nothing_is_sent_and_cancels_go_on(w: World) -> None:
    """The first failure stops new orders until resume() has opened the journal anew."""
    order_id = await w.bot.execute_order(ORDER)
    w.journal.fail_next()
    for _ in range(2):
        with pytest.raises(JournalUnavailable):
            await w.bot.execute_order({**ORDER, "client_order_id": "mine"})
    assert len(w.exchange.submits) == 1
    assert await w.bot.cancel_order(order_id) is True
    await w.bot.resume()
    assert await w.bot.execute_order({**ORDER, "client_order_id": "mine"}) == "mine"


@scenario()
async def test_an_order_whose_lease_is_lost_is_not_sent(w: World) -> None:
    """Asked last thing before the send."""
    from services.mcp.order_execution import LeaseLost

    await w.bot.open()
    w.journal.owns = lambda order_id: False  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        await w.bot.execute_order(ORDER)
    assert w.exchange.submits == []


# ---- configuration and life ------------------------------------------------------------------------------------


@scenario()
async def test_a_bad_configuration_leaves_the_old_one_in_force(w: World) -> None:
    """Whole or not at all; the error names the field."""
    await w.bot.configure({"retry": {"max_retries": 5}})
    with pytest.raises(ConfigurationError, match=r"retry\.max_retries"):
        await w.bot.configure({"circuit_breaker": {"cool_down_seconds": 5}, "retry": {"max_retries": -1}})
    with pytest.raises(ConfigurationError, match="mapping"):
        await w.bot.configure([1])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="error_threshold"):
        await w.bot.configure({"circuit_breaker": {"error_threshold": 900_000}})
    assert w.bot.settings.retry.max_retries == 5
    assert w.bot.settings.circuit_breaker.cool_down_seconds == 60
    await w.bot.open()
    with pytest.raises(ConfigurationError, match="gateway"):
        await w.bot.configure({"gateway": {"timeout_seconds": 1}})
    await w.bot.configure({"confirmation": {"poll_interval_seconds": 1}})


@scenario()
async def test_a_closed_executor_refuses(w: World) -> None:
    """And closing again is harmless."""
    await w.bot.execute_order(ORDER)
    await w.bot.close()
    await w.bot.close()
    with pytest.raises(ExecutorClosed):
        await w.bot.execute_order(ORDER)
    with pytest.raises(ExecutorClosed):
        w.bot.events()


@scenario({"confirmation": {"close_timeout_seconds": 10}})
async def test_closing_lets_what_is_in_flight_finish(w: World) -> None:
    """An order that is being resolved is known before the journal closes."""
    w.exchange.script.append(1.0)
    placing = asyncio.create_task(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(0.1)
    await w.bot.close()
    assert await placing == "mine"
    assert w.on_disk("mine").state is OrderState.OPEN


@scenario({"confirmation": {"close_timeout_seconds": 1}})
async def test_closing_in_time_leaves_the_rest_to_the_next_life(w: World) -> None:
    """The caller hears that it is unresolved; nothing is guessed."""
    w.exchange.script.append("lost request")
    placing = asyncio.create_task(w.bot.execute_order({**ORDER, "client_order_id": "mine"}))
    await asyncio.sleep(0.1)
    await w.bot.close()
    with pytest.raises(OrderUnresolved):
        await placing
    assert w.on_disk("mine").state is OrderState.UNKNOWN


@scenario()
async def test_after_everything_nothing_is_left_over(w: World) -> None:
    """No task, no reservation, no waiter."""
    w.exchange.script.extend(["ok", "lost reply", "lost request", REFUSED, Rejected("no"), 0.5])
    await asyncio.gather(*(w.bot.execute_order(ORDER) for _ in range(6)), return_exceptions=True)
    for order_id in list(w.store.orders):
        await w.bot.cancel_order(order_id)
    await asyncio.sleep(60)
    core = w.bot._core
    assert core is not None
    await core.funds.refresh(max_age=0)
    assert core.funds.reservations == {}
    assert core.registry._waiters == {}
    assert core.registry._wanted == {}
    await w.bot.close()
    await w.exchange.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@scenario()
async def test_first_uses_at_once_open_it_once(w: World) -> None:
    """The journal is locked by one opening; the others find it done."""
    opened: list[float] = []

    async def slow() -> None:
        await asyncio.sleep(1)
        opened.append(w.clock.monotonic())

    w.exchange.open = slow  # type: ignore[method-assign]
    orders = [{**ORDER, "client_order_id": f"o{number}"} for number in range(3)]
    assert await asyncio.gather(*(w.bot.execute_order(order) for order in orders)) == ["o0", "o1", "o2"]
    assert (w.store.epoch, len(opened)) == (1, 1)


@scenario()
async def test_an_executor_that_was_never_used_closes_without_touching_anything(w: World) -> None:
    """No journal is opened only to be closed; and it stays closed."""
    await w.bot.close()
    assert (w.store.epoch, w.exchange.reads) == (0, [])
    with pytest.raises(ExecutorClosed):
        await w.bot.open()


@scenario()
async def test_it_is_open_within_a_with_block(w: World) -> None:
    """At its begin, before any order."""
    async with w.bot as bot:
        assert bot is w.bot
        assert w.store.writer is w.journal


def test_a_refusal_is_in_the_transaction_log_with_its_order(tmp_path: Path) -> None:
    """Under the id that the caller gave, or under none; the log in use can be asked for."""

    @scenario()
    async def run(w: World) -> None:
        log = TransactionLog(tmp_path, w.clock, inline=True)
        w.bot = ReliableOrderExecutor(
            w.config, gateway=w.exchange, journal=w.journal, clock=w.clock, transaction_log=log
        )
        assert w.bot.transaction_log is log
        await w.bot.open()
        assert w.bot.transaction_log is log
        with pytest.raises(InvalidOrder):
            await w.bot.execute_order({**ORDER, "client_order_id": "bad", "amount": "-1"})
        with pytest.raises(InvalidOrder):
            await w.bot.execute_order([1])  # type: ignore[arg-type]
        with pytest.raises(InvalidOrder):
            await w.bot.execute_order({**ORDER, "side": "sideways"})
        await w.bot.halt("stop")
        with pytest.raises(ExecutorHalted):
            await w.bot.execute_order({**ORDER, "client_order_id": "halted"})

    run()
    errors = list(TransactionLogReader(tmp_path).errors())
    assert [(item["order_id"], item["error"]) for item in errors] == [
        ("bad", "InvalidOrder"),
        (None, "InvalidOrder"),
        (None, "InvalidOrder"),
        ("halted", "ExecutorHalted"),
    ]


@scenario()
async def test_a_timeout_of_another_part_is_not_mistaken_for_a_close(w: World) -> None:
    """It reaches the caller as what it is, and nothing was sent."""
    await w.bot.open()

    def slow(*_: object) -> None:
        raise TimeoutError("the limits took too long")

    assert w.bot._core is not None
    w.bot._core.guard.check = slow  # type: ignore[method-assign]
    with pytest.raises(TimeoutError, match="the limits took too long"):
        await w.bot.execute_order(ORDER)
    assert w.exchange.submits == []
    assert (await w.bot.get_execution_stats()).orders["failed"] == 1


@scenario({"confirmation": {"poll_interval_seconds": 600}})
async def test_an_order_that_trades_at_once_is_looked_at_at_once(w: World) -> None:
    """Its fills are asked for soon after the receipt, not at the next interval."""
    w.exchange.carry_fills = False
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order({**ORDER, "time_in_force": "IOC"})
    await asyncio.sleep(5)
    order = await w.bot.get_order_status(order_id)
    assert (order.state, len(order.fills)) == (OrderState.FILLED, 1)
    assert order.is_settled


@scenario()
async def test_waiting_for_what_is_final_returns_at_once(w: World) -> None:
    """Without asking the exchange."""
    w.exchange.script.append("fill")
    order_id = await w.bot.execute_order(ORDER)
    asked = len(w.exchange.reads)
    assert (await w.bot.wait_for_order(order_id, timeout=0)).state is OrderState.FILLED
    assert len(w.exchange.reads) == asked


@scenario()
async def test_waiting_for_an_order_that_does_not_end_ends_at_its_timeout(w: World) -> None:
    """The error names the order; the order itself is followed on."""
    order_id = await w.bot.execute_order(ORDER)
    started = w.clock.monotonic()
    with pytest.raises(TimeoutError, match=f"{order_id} is not final after 3 s"):
        await w.bot.wait_for_order(order_id, timeout=3)
    assert w.clock.monotonic() - started == pytest.approx(3)
    w.exchange.fill("X1", "0.1")
    assert (await w.bot.wait_for_order(order_id, timeout=30)).state is OrderState.FILLED


@scenario()
async def test_waiting_for_an_order_ends_when_the_executor_closes(w: World) -> None:
    """The caller is told that nobody follows the order any longer."""
    order_id = await w.bot.execute_order(ORDER)
    waiting = asyncio.create_task(w.bot.wait_for_order(order_id))
    await asyncio.sleep(1)
    await w.bot.close()
    with pytest.raises(ExecutorClosed) as caught:
        await waiting
    assert caught.value.order_id == order_id


@scenario()
async def test_orders_and_their_histories_can_be_read_back(w: World) -> None:
    """All since a time, and older ones that are still open; each event of one, oldest first."""
    w.exchange.script.append("fill")
    old_done, old_open = [await w.bot.execute_order(ORDER) for _ in range(2)]
    await asyncio.sleep(3600)
    since = w.clock.now()
    new = await w.bot.execute_order(ORDER)
    listed = {order.order_id: order.state async for order in w.bot.orders_since(since)}
    assert listed == {old_open: OrderState.OPEN, new: OrderState.OPEN}
    kinds = [event["kind"] for event in await w.bot.order_history(old_done)]
    assert kinds[:3] == ["intent", "accepted", "fill"]
    with pytest.raises(OrderNotFound):
        await w.bot.order_history("nobody")


@scenario()
async def test_no_reconciliation_is_made_of_silence(w: World) -> None:
    """While orders of an earlier life are not resolved it says that the exchange does not answer."""
    await w.bot.execute_order(ORDER)
    bot = await w.crash()
    w.exchange.down = "503"
    with pytest.raises(ExchangeUnavailable) as caught:
        await bot.reconcile_orders()
    assert caught.value.category is ErrorCategory.TIMEOUT
    assert (await bot.get_execution_stats()).last_reconciliation_at is None
    w.exchange.down = None
    report = await bot.reconcile_orders()
    assert (report.matched_orders, report.total_orders) == (1, 1)
    assert (await bot.get_execution_stats()).last_reconciliation_at == report.finished_at
