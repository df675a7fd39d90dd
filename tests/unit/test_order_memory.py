"""What an executor without a journal knows: bounded, never older than what it knew before, and told in order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.mcp.order_execution import OrderState, SubscriberTooSlow, lifecycle, order_memory
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.models import Fill, Order
from services.mcp.order_execution.order_memory import OrderMemory
from services.mcp.order_execution.parameters import parse_request
from tests.fakes import T0
from tests.virtual_time import run_virtual
from tests.worlds import ORDER


def sent(memory: OrderMemory, order_id: str) -> Order:
    """An order that was sent and accepted."""
    request = parse_request({**ORDER, "client_order_id": order_id}, "")
    sending = memory.keep(lifecycle.intend(lifecycle.new_order(request, T0), T0))
    return memory.keep(lifecycle.accepted(sending, T0, f"X-{order_id}"))


def filled(memory: OrderMemory, order_id: str) -> ExchangeOrder:
    """The same, and the exchange filled it, as a read of ours saw."""
    order = sent(memory, order_id)
    seen = ExchangeOrder(
        exchange_order_id=f"X-{order_id}",
        client_order_id=order_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        amount=order.amount,
        price=order.price,
        state=OrderState.FILLED,
        filled=order.amount,
        fills=(Fill(f"T-{order_id}", Decimal(50_000), order.amount, Decimal("0.01"), "USD", T0),),
        created_at=T0,
        updated_at=T0,
    )
    memory.see(order_id, seen, T0)
    return seen


def test_an_old_record_does_not_replace_a_newer_one() -> None:
    """Whoever changes an order takes it anew after each wait; one who does not is a defect, and changes nothing."""
    memory = OrderMemory((), max_whole=10)
    order = sent(memory, "a")
    newer = memory.keep(lifecycle.cancel_requested(order, T0))
    with pytest.raises(lifecycle.IllegalTransition, match="version 3 cannot follow 3"):
        memory.keep(lifecycle.unknown(order, T0, "lost"))
    assert memory.get("a") is newer


def test_what_a_read_told_is_merged_into_what_is_known_now() -> None:
    """Once: a second reading of the same brings nothing new, and an unknown order is not made up."""
    memory = OrderMemory((), max_whole=10)
    seen = filled(memory, "a")
    memory.see("a", seen, T0)
    memory.see("nobody", seen, T0)
    order = memory.get("a")
    assert order is not None
    assert (order.state, len(order.fills), memory.fills) == (OrderState.FILLED, 1, 1)
    assert memory.get("nobody") is None


def test_ended_orders_are_trimmed_first_and_then_forgotten() -> None:
    """The oldest first; one that may still trade is held whole for ever."""
    memory = OrderMemory((), max_whole=2, max_trimmed=1)
    live = sent(memory, "live")
    views = {name: filled(memory, name) for name in "abcd"}
    assert memory.get("a") is None
    trimmed = memory.get("b")
    assert trimmed is not None
    assert (trimmed.state, trimmed.filled, trimmed.fills, trimmed.confirmations) == (
        OrderState.FILLED,
        Decimal("0.1"),
        (),
        (),
    )
    assert [order.order_id for order in memory] == ["live", "c", "d"]
    memory.see("b", views["b"], T0)
    assert (memory.get("b"), memory.fills) == (trimmed, 4)
    assert memory.get("live") is live


def test_an_order_that_a_call_decides_for_is_held() -> None:
    """Whatever else ends meanwhile; it makes room once the call has ended."""
    in_use = {"a"}
    memory = OrderMemory(in_use, max_whole=1, max_trimmed=1)
    for name in "abc":
        filled(memory, name)
    assert [order.order_id for order in memory] == ["a"]
    order = memory.get("a")
    assert order is not None
    assert len(order.fills) == 1
    in_use.clear()
    for name in "de":
        filled(memory, name)
    assert [order.order_id for order in memory] == ["e"]


def test_a_trimmed_order_that_starts_afresh_is_whole_again() -> None:
    """One that never left may be executed again however long ago that was."""
    memory = OrderMemory((), max_whole=1)
    request = parse_request({**ORDER, "client_order_id": "a"}, "")
    sending = memory.keep(lifecycle.intend(lifecycle.new_order(request, T0), T0))
    memory.keep(lifecycle.never_left(sending, T0, lifecycle.NEVER_SENT))
    filled(memory, "b")
    filled(memory, "c")
    old = memory.get("a")
    assert old is not None
    again = memory.keep(lifecycle.intend(old, T0))
    assert memory.get("a") is again
    assert again in list(memory)


def test_subscribers_hear_every_event_and_the_slow_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads nothing ends by itself, with an error, and harms nobody."""

    async def main() -> None:
        memory = OrderMemory((), max_whole=10)
        first = memory.subscribe()
        monkeypatch.setattr(order_memory, "MAX_UNREAD", 1)
        slow = memory.subscribe()
        sent(memory, "a")
        assert memory._subscriptions == [first]
        memory.close()
        assert [event.kind.value async for event in first] == ["intent", "accepted"]
        await anext(slow)
        with pytest.raises(SubscriberTooSlow):
            await anext(slow)

    run_virtual(main)
