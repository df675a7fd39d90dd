"""The end of a day: the exchange's own book against what is known, what is on disk and what callers were told."""

from __future__ import annotations

from services.mcp.order_execution.errors import OrderExecutionError, OrderNotFound
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.models import Order, OrderState
from tests.simulation.fuzz.day import IDS, Day, Told


async def reckon(day: Day) -> None:
    """Note on the day whatever breaks the promise."""
    for order_id in IDS:
        await _one_order(day, order_id)
    for told in day.told:
        _what_was_told(day, told)
    await _everything_is_at_rest(day)
    await _a_reconciliation_finds_nothing(day)


async def _one_order(day: Day, order_id: str) -> None:
    there = day.world.exchange.named(order_id)
    if len(there) > 1:
        day.violate(f"{order_id} is doubled")
    try:
        order = await day.world.bot.get_order_status(order_id)
    except OrderNotFound:
        if there:
            day.violate(f"{order_id} is lost")
        return
    day.states[order.state.value] += 1
    _as_at_the_exchange(day, order, there)
    await day.world.journal.flush()
    if day.world.on_disk(order_id) != order:
        day.violate(f"{order_id} is {order.state}, version {order.version}, and another on disk")


def _as_at_the_exchange(day: Day, order: Order, there: list[ExchangeOrder]) -> None:
    order_id = order.order_id
    if order.state.is_unresolved or order.state is OrderState.PENDING:
        day.violate(f"{order_id} is still {order.state}")
    elif bool(there) != (order.exchange_order_id is not None):
        day.violate(f"{order_id} is {order.state} ({order.reason}), and at the exchange {there}")
    elif there and there[0].state is not order.state and order.state is not OrderState.CANCELING:
        day.violate(f"{order_id} is {order.state}, and {there[0].state} at the exchange")
    elif there and there[0].filled != order.filled:
        day.violate(f"{order_id} traded {order.filled}, and {there[0].filled} at the exchange")
    if order.cancel_requested and not order.state.is_final:
        day.violate(f"{order_id} is {order.state}: the wish to cancel it was not carried out")
    if order.order_id in day.canceled and not there and order.restartable:
        day.violate(f"{order_id} was told to be canceled, and is free to start afresh")


def _what_was_told(day: Day, told: Told) -> None:
    """A verdict holds for every request that had left by then, and two of them for ever."""
    exchange = day.world.exchange
    there = exchange.named(told.order_id)
    earlier = [order for order in there if exchange.left_at[order.exchange_order_id] <= told.at]
    if told.verdict == "placed" and not earlier:
        day.violate(f"{told.order_id} was told to be placed, and was not there")
    elif told.verdict == "not_sent" and earlier:
        day.violate(f"{told.order_id} was told not to be sent, and had left")
    elif told.verdict == "rejected" and there:
        day.violate(f"{told.order_id} was told to be rejected, and is there as {there[0].state}")
    elif told.verdict == "canceled":
        if any(not order.state.is_final for order in there):
            day.violate(f"{told.order_id} was told to be canceled, and rests")
        if day.filled(told.order_id) != told.filled:
            day.violate(f"{told.order_id} was told to be canceled, and traded afterwards")


async def _everything_is_at_rest(day: Day) -> None:
    core = day.world.core
    await core.funds.refresh(max_age=0)
    left = {
        "reservations": core.funds.reservations,
        "wishes to place": core.registry._wanted,
        "waiters": core.registry._waiters,
        "untold events": core.registry._untold,
        "admitted orders": core.guard._admitted,
    }
    for what, items in left.items():
        if items:
            day.violate(f"{what} are left: {items}")


async def _a_reconciliation_finds_nothing(day: Day) -> None:
    try:
        report = await day.world.bot.reconcile_orders("hourly")
    except OrderExecutionError as error:
        day.violate(f"reconciling in good weather: {error!r}")
        return
    if report.details:
        day.violate(f"a reconciliation finds {[detail.to_dict() for detail in report.details][:2]}")
