"""Events for journals: orders that live through plausible lives, without an executor."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from services.mcp.order_execution.models import (
    Confirmation,
    EventKind,
    Fill,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Side,
    Step,
    TimeInForce,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment, counted from noon."""
    return NOON + timedelta(seconds=seconds)


def intent(order_id: str, seconds: float = 0.0, **fields: Any) -> OrderEvent:
    """The first event of an order, created ``seconds`` after noon."""
    values: dict[str, Any] = {
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "amount": Decimal("0.5"),
        "price": Decimal("60000.10"),
        "state": OrderState.SENDING,
        "attempts": 1,
    }
    moments = {"created_at": at(seconds), "updated_at": at(seconds)}
    order = Order(order_id=order_id, version=1, **{**values, **moments, **fields})
    return OrderEvent(order=order, kind=EventKind.INTENT, previous=None, at=at(seconds))


def then(event: OrderEvent, kind: EventKind, **changes: Any) -> OrderEvent:
    """The next event of the same order, a second later."""
    moment = event.at + timedelta(seconds=1)
    order = replace(event.order, **{"updated_at": moment, "version": event.order.version + 1, **changes})
    fill = order.fills[-1] if kind is EventKind.FILL else None
    return OrderEvent(order=order, kind=kind, previous=event.state, at=moment, fill=fill, detail=f"{kind} it is")


def accepted(event: OrderEvent, exchange_order_id: str | None = None) -> OrderEvent:
    """The exchange has it."""
    number = exchange_order_id or f"x-{event.order_id}"
    return then(event, EventKind.ACCEPTED, state=OrderState.OPEN, exchange_order_id=number)


def closed(event: OrderEvent, state: OrderState = OrderState.FILLED) -> OrderEvent:
    """It will trade no further."""
    return then(event, EventKind.CLOSED, state=state)


def eventful(order_id: str) -> list[OrderEvent]:
    """An order in which every field holds something."""
    first = intent(
        order_id,
        type=OrderType.STOP_LIMIT,
        stop_price=Decimal("59999.999999999999999999"),
        time_in_force=TimeInForce.IOC,
        post_only=True,
        amount=Decimal("1E+2"),
        sent_at=at(0.000001),
    )
    second = accepted(first)
    fill = Fill("t-1", Decimal(60000), Decimal("1E-18"), Decimal("-0.1"), "BNB", at(2.5))
    third = then(
        second,
        EventKind.FILL,
        state=OrderState.PARTIALLY_FILLED,
        fills=(fill,),
        filled=fill.amount,
        average_price=fill.price,
        fees=MappingProxyType({"BNB": Decimal("-0.1")}),
    )
    fourth = then(
        third,
        EventKind.UPDATED,
        reason="naïve – ünïcode “words” 漢字 🚀",
        confirmations=(
            Confirmation(Step.RECEIPT, at(1)),
            Confirmation(Step.FILLS, at(2), ok=False, detail="short"),
        ),
        cancel_requested=True,
        external=True,
        restartable=True,
        attempts=3,
    )
    return [first, second, third, fourth]
