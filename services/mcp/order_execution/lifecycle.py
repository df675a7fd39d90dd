"""What a fact does to an order: pure functions from a record and a fact to the events that follow.

Every event carries the record after it. Nothing here reads a clock, waits, or writes; the registry does.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from .exact import total
from .fills import average_price, total_fees
from .gateways.base import ExchangeOrder
from .models import (
    REOPENINGS,
    RESTARTS,
    TRANSITIONS,
    Confirmation,
    EventKind,
    Fill,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    Step,
    evolve,
    make_confirmation,
    make_event,
    make_order,
    make_request,
)

NEVER_SENT: Final = "never_sent"
NEVER_ARRIVED: Final = "never_arrived"

# What every order comes past: before Python 3.12, to look a member up costs thirty times what a name costs.
_SENDING, _OPEN = OrderState.SENDING, OrderState.OPEN
_INTENT, _ACCEPTED, _RECEIPT = EventKind.INTENT, EventKind.ACCEPTED, Step.RECEIPT


class IllegalTransition(RuntimeError):
    """A defect: the transition table has no such change."""


def new_order(request: OrderRequest, now: datetime) -> Order:
    """Make the record of an order that nobody has sent yet; version 0 is never journalled."""
    return make_order(
        order_id=request.client_order_id,
        symbol=request.symbol,
        side=request.side,
        type=request.type,
        amount=request.amount,
        price=request.price,
        stop_price=request.stop_price,
        time_in_force=request.time_in_force,
        post_only=request.post_only,
        created_at=now,
        updated_at=now,
    )


def request_of(order: Order) -> OrderRequest:
    """Give back what the caller asked for."""
    return make_request(
        client_order_id=order.order_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        amount=order.amount,
        price=order.price,
        stop_price=order.stop_price,
        time_in_force=order.time_in_force,
        post_only=order.post_only,
    )


def differing_fields(order: Order, request: OrderRequest) -> tuple[str, ...]:
    """Name the parameters in which an order differs from a request for the same id."""
    names = ("symbol", "side", "type", "amount", "price", "stop_price", "time_in_force", "post_only")
    return tuple(name for name in names if getattr(order, name) != getattr(request, name))


def conflict(order: Order, seen: ExchangeOrder) -> tuple[str, ...]:
    """Name what makes ``seen`` another order than ours although it bears our id."""
    differs = [name for name in ("symbol", "side", "amount") if getattr(order, name) != getattr(seen, name)]
    if order.price is not None and seen.price is not None and order.price != seen.price:
        differs.append("price")
    return tuple(differs)


def intend(order: Order, now: datetime) -> OrderEvent:
    """Announce an attempt: journalled durably before the first byte of it leaves."""
    restart = order.state.is_final
    if restart and not (order.restartable and order.state in RESTARTS):
        raise IllegalTransition(f"{order.order_id} is {order.state} and may not start afresh")
    kind = _INTENT if restart or order.attempts == 0 else EventKind.RESEND
    if not restart:
        _check(order, kind, _SENDING)
    after = evolve(
        order,
        state=_SENDING,
        updated_at=now,
        version=order.version + 1,
        # Of one that never arrived an earlier copy was sent: answers to the next are read with that in mind.
        attempts=1 if restart and order.reason != NEVER_ARRIVED else order.attempts + 1,
        sent_at=now,
        # What is looked for by time is looked for from here: nothing of an earlier start is at the exchange.
        created_at=now if restart else order.created_at,
        reason=None,
        restartable=False,
        cancel_requested=False if restart else order.cancel_requested,
    )
    return _told(order, after, kind)


def not_sent(order: Order, now: datetime, detail: str) -> OrderEvent:
    """Record that the attempt provably never reached the exchange; it may be made again, unless it is unwanted."""
    if order.cancel_requested:
        return canceled_before_sending(order, now)
    return _event(order, EventKind.NOT_SENT, now, OrderState.PENDING, detail=detail)


def never_left(order: Order, now: datetime, reason: str, detail: str | None = None) -> OrderEvent:
    """Close an order of which provably nothing is at the exchange; unless unwanted, its id may start afresh."""
    if order.cancel_requested:
        return canceled_before_sending(order, now)
    return _event(order, EventKind.CLOSED, now, OrderState.EXPIRED, reason=reason, restartable=True, detail=detail)


def never_arrived(order: Order, now: datetime, *, restartable: bool) -> OrderEvent:
    """Close an order that the exchange twice said it does not have, when it could no longer arrive."""
    return _event(
        order, EventKind.REJECTED, now, OrderState.REJECTED, reason=NEVER_ARRIVED, restartable=restartable
    )


def rejected(order: Order, now: datetime, reason: str) -> OrderEvent:
    """Close an order that the exchange explicitly refused."""
    return _event(order, EventKind.REJECTED, now, OrderState.REJECTED, reason=reason)


def unknown(order: Order, now: datetime, detail: str) -> OrderEvent:
    """Record that the order may be at the exchange."""
    return _event(order, EventKind.UNKNOWN, now, OrderState.UNKNOWN, detail=detail)


def accepted(order: Order, now: datetime, exchange_order_id: str) -> OrderEvent:
    """Record the exchange's receipt."""
    state = OrderState.CANCELING if order.cancel_requested else _OPEN
    _check(order, _ACCEPTED, state)
    after = evolve(
        order,
        state=state,
        updated_at=now,
        version=order.version + 1,
        exchange_order_id=exchange_order_id,
        confirmations=_with_step(order, _RECEIPT, now),
    )
    return _told(order, after, _ACCEPTED)


def cancel_requested(order: Order, now: datetime) -> OrderEvent:
    """Record the wish to cancel; an order whose fate is unknown stays so."""
    resting = order.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED)
    state = OrderState.CANCELING if resting else order.state
    return _event(order, EventKind.CANCEL_REQUESTED, now, state, cancel_requested=True)


def canceled_before_sending(order: Order, now: datetime) -> OrderEvent:
    """Cancel an order of which provably nothing is at the exchange."""
    return _event(
        order,
        EventKind.CLOSED,
        now,
        OrderState.CANCELED,
        cancel_requested=True,
        reason="canceled_before_sending",
    )


def canceled_for_good(order: Order, now: datetime) -> OrderEvent:
    """Cancel an order that ended without being at the exchange, so that its id does not start afresh."""
    return _event(
        order,
        EventKind.CLOSED,
        now,
        OrderState.CANCELED,
        checked=True,
        cancel_requested=True,
        restartable=False,
        reason="canceled_before_sending",
    )


def cancel_refused(order: Order, now: datetime, detail: str) -> OrderEvent:
    """Record that the exchange refused to cancel and the order goes on trading."""
    state = OrderState.PARTIALLY_FILLED if order.filled else OrderState.OPEN
    return _event(order, EventKind.UPDATED, now, state, cancel_requested=False, detail=detail)


def confirmed(order: Order, now: datetime, step: Step, *, ok: bool = True, detail: str | None = None) -> OrderEvent:
    """Record one step of confirmation."""
    return _event(
        order, EventKind.CONFIRMED, now, order.state, confirmations=_with_step(order, step, now, ok, detail)
    )


def repaired(order: Order, now: datetime, reason: str) -> OrderEvent:
    """Record that a reconciliation brings the order up to the exchange's truth, and why."""
    return _event(order, EventKind.REPAIRED, now, order.state, detail=reason)


def rewritten(order: Order, written: int, now: datetime) -> OrderEvent:
    """Bring a journal that missed events up to what is known: the next version after the ``written`` one."""
    return _event(evolve(order, version=written), EventKind.REPAIRED, now, order.state, detail="journal reopened")


def overwrite(order: Order, seen: ExchangeOrder, now: datetime) -> list[OrderEvent]:
    """Take over what a merge leaves alone: ids, average price and fees as the exchange tells them."""
    changes: dict[str, Any] = {}
    if order.exchange_order_id != seen.exchange_order_id:
        changes["exchange_order_id"] = seen.exchange_order_id
    if seen.filled == order.filled:
        if seen.average_price is not None and seen.average_price != order.average_price:
            changes["average_price"] = seen.average_price
        if seen.fees and dict(seen.fees) != dict(order.fees):
            changes["fees"] = MappingProxyType(dict(seen.fees))
    return [_event(order, EventKind.UPDATED, now, order.state, **changes)] if changes else []


def adopt_external(seen: ExchangeOrder, order_id: str, now: datetime) -> list[OrderEvent]:
    """Record an order that somebody else placed; it is followed, never cancelled."""
    order = Order(
        order_id=order_id,
        symbol=seen.symbol,
        side=seen.side,
        type=seen.type,
        amount=seen.amount,
        price=seen.price,
        stop_price=seen.stop_price,
        time_in_force=seen.time_in_force,
        post_only=seen.post_only,
        created_at=seen.created_at,
        updated_at=now,
        state=OrderState.OPEN,
        exchange_order_id=seen.exchange_order_id,
        external=True,
    )
    first = _event(order, EventKind.ADOPTED, now, OrderState.OPEN)
    return [first, *merge(first.order, seen, now, read=True)]


def merge(
    order: Order, seen: ExchangeOrder, now: datetime, *, read: bool, authoritative: bool = False
) -> list[OrderEvent]:
    """Bring an order up to what the exchange tells of it; events only for what is new.

    ``read`` tells that a read of ours saw the order, which confirms that it is visible. A view in which an
    order is still open says nothing against an end that the exchange itself reported (views may be stale),
    unless it is ``authoritative``: read anew because the two disagreed.
    """
    if order.state.is_final and not _may_reopen(order, seen, authoritative):
        return _late_fills(order, seen, now, read=read)
    events: list[OrderEvent] = []
    if order.state.is_final:
        current = _reopen(order, seen, now, events)
    elif order.state.is_unresolved or order.state is OrderState.PENDING:
        events.append(_found(order, seen, now))
        current = events[-1].order
    else:
        current = order
    current = _book_fills(current, seen, now, events)
    return _settle(current, seen, now, events, read=read)


def _may_reopen(order: Order, seen: ExchangeOrder, authoritative: bool) -> bool:
    """Whether the exchange's view overrules how the order was closed here."""
    closed_here = order.exchange_order_id is None
    return (closed_here or authoritative) and order.state in REOPENINGS and order.state is not seen.state


def _reopen(order: Order, seen: ExchangeOrder, now: datetime, events: list[OrderEvent]) -> Order:
    state = OrderState.PARTIALLY_FILLED if order.filled else OrderState.OPEN
    events.append(
        _event(
            order,
            EventKind.REOPENED,
            now,
            state,
            checked=True,
            exchange_order_id=seen.exchange_order_id,
            reason=None,
            restartable=False,
            detail=f"the exchange has it as {seen.state}; it was {order.state} here ({order.reason})",
        )
    )
    return events[-1].order


def _found(order: Order, seen: ExchangeOrder, now: datetime) -> OrderEvent:
    return _event(
        order,
        EventKind.ACCEPTED,
        now,
        OrderState.CANCELING if order.cancel_requested else OrderState.OPEN,
        checked=order.state is OrderState.PENDING,
        exchange_order_id=seen.exchange_order_id,
        confirmations=_with_step(order, Step.RECEIPT, now),
        detail="found at the exchange",
    )


def _book_fills(order: Order, seen: ExchangeOrder, now: datetime, events: list[OrderEvent]) -> Order:
    """Append the fills that are new, each once, by trade id."""
    known = {fill.trade_id for fill in order.fills}
    for fill in seen.fills or ():
        if fill.trade_id in known:
            continue
        known.add(fill.trade_id)
        order = book_fill(order, fill, now, events)
    return order


def book_fill(order: Order, fill: Fill, now: datetime, events: list[OrderEvent]) -> Order:
    """Append one new fill and its event. What was filled only ever grows."""
    fills = (*order.fills, fill)
    booked = total(item.amount for item in fills)
    state = order.state
    if state is OrderState.OPEN:
        state = OrderState.PARTIALLY_FILLED
    events.append(
        _event(
            order,
            EventKind.FILL,
            now,
            state,
            fill=fill,
            fills=fills,
            filled=max(order.filled, booked),
            average_price=average_price(fills) if booked >= order.filled else order.average_price,
            fees=total_fees(fills),
        )
    )
    return events[-1].order


def complete(order: Order, now: datetime) -> list[OrderEvent]:
    """Confirm the fills of a final order once they add up."""
    if not order.fills_complete or order.confirmed(Step.FILLS):
        return []
    return [confirmed(order, now, Step.FILLS)]


def _settle(
    order: Order, seen: ExchangeOrder, now: datetime, events: list[OrderEvent], *, read: bool
) -> list[OrderEvent]:
    """Bring totals, state and confirmations up to date, in one event where anything is new."""
    changes: dict[str, Any] = {}
    if seen.filled > order.filled:
        changes["filled"] = seen.filled
        changes["average_price"] = seen.average_price
    if seen.fees and order.fees != seen.fees and not (order.fills and order.fills_complete):
        changes["fees"] = MappingProxyType(dict(seen.fees))
    if order.exchange_order_id is None:
        changes["exchange_order_id"] = seen.exchange_order_id
    state = _state_after(order, seen, changes.get("filled", order.filled))
    if state.is_final and seen.reason is not None and seen.reason != order.reason:
        changes["reason"] = seen.reason
    steps = order.confirmations
    if read and not order.confirmed(Step.VISIBLE):
        steps = (*steps, make_confirmation(Step.VISIBLE, now))
    booked = evolve(order, filled=changes.get("filled", order.filled))
    if state.is_final and booked.fills_complete and not order.confirmed(Step.FILLS):
        steps = (*steps, make_confirmation(Step.FILLS, now))
    only_steps = not changes and state is order.state
    if only_steps and steps is order.confirmations:
        return events
    if steps is not order.confirmations:
        changes["confirmations"] = steps
    kind = EventKind.CONFIRMED if only_steps else EventKind.UPDATED
    if state.is_final and not order.state.is_final:
        kind = EventKind.REJECTED if state is OrderState.REJECTED else EventKind.CLOSED
    events.append(_event(order, kind, now, state, **changes))
    return events


def _state_after(order: Order, seen: ExchangeOrder, filled: Decimal) -> OrderState:
    if order.state.is_final:
        return order.state
    if seen.state.is_final:
        # An order that traded was not rejected, whatever the exchange calls its end.
        return OrderState.CANCELED if seen.state is OrderState.REJECTED and filled else seen.state
    if order.cancel_requested:
        return OrderState.CANCELING
    return OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN


def _late_fills(order: Order, seen: ExchangeOrder, now: datetime, *, read: bool) -> list[OrderEvent]:
    """Keep what a final order turns out to have traded: fills that arrived while it was being cancelled."""
    events: list[OrderEvent] = []
    order = _book_fills(order, seen, now, events)
    if not seen.state.is_final:
        return events
    if seen.state is OrderState.FILLED and order.state in REOPENINGS:
        events.append(_event(order, EventKind.REOPENED, now, OrderState.FILLED, checked=True))
        order = events[-1].order
    return _settle(order, seen, now, events, read=read)


def _with_step(
    order: Order, step: Step, now: datetime, ok: bool = True, detail: str | None = None
) -> tuple[Confirmation, ...]:
    if order.confirmations and order.confirmed(step):
        return order.confirmations
    return (*order.confirmations, make_confirmation(step, now, ok, detail))


def _event(
    order: Order,
    kind: EventKind,
    now: datetime,
    state: OrderState,
    *,
    checked: bool = False,
    fill: Fill | None = None,
    detail: str | None = None,
    **changes: Any,
) -> OrderEvent:
    """Make the next version; ``checked`` tells that the caller has proved an exceptional transition."""
    if not checked:
        _check(order, kind, state)
    after = evolve(order, state=state, updated_at=now, version=order.version + 1, **changes)
    return _told(order, after, kind, fill, detail)


def _told(
    before: Order, after: Order, kind: EventKind, fill: Fill | None = None, detail: str | None = None
) -> OrderEvent:
    return make_event(after, kind, None if before.version == 0 else before.state, after.updated_at, fill, detail)


def _check(order: Order, kind: EventKind, state: OrderState) -> None:
    if state is not order.state and state not in TRANSITIONS[order.state]:
        raise IllegalTransition(f"{order.order_id}: {order.state} → {state} ({kind})")
