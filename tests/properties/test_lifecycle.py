"""The state machine of an order: whatever is told, in whatever order and however often, what it says stays true."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.mcp.order_execution import fills, lifecycle
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.journals.codec import decode_event, decode_order, encode_event, encode_order
from services.mcp.order_execution.models import (
    FINAL_STATES,
    REOPENINGS,
    RESTARTS,
    TRANSITIONS,
    ZERO,
    Fill,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    Side,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
AMOUNT = Decimal(10)
PRICE = Decimal(100)


def fill(number: int, amount: Decimal) -> Fill:
    """One trade."""
    return Fill(f"T{number}", PRICE + number, amount, amount / 100, "USD", AT + timedelta(seconds=number))


class Life(RuleBasedStateMachine):
    """An exchange that really has the order, and views of it that are old, new, thin or rich."""

    @initialize()
    def begin(self) -> None:
        request = OrderRequest("o", "BTC/USD", Side.BUY, OrderType.LIMIT, AMOUNT, PRICE)
        self.now = AT
        self.order: Order = lifecycle.new_order(request, AT)
        self.events: list[OrderEvent] = []
        self.apply([lifecycle.intend(self.order, AT)])
        self.views = [self._view(())]
        self.trades: list[Fill] = []

    def _view(self, trades: tuple[Fill, ...], state: OrderState | None = None) -> ExchangeOrder:
        filled = sum((trade.amount for trade in trades), ZERO)
        natural = OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN
        if filled == AMOUNT:
            natural = OrderState.FILLED
        return ExchangeOrder(
            exchange_order_id="X1",
            client_order_id="o",
            symbol="BTC/USD",
            side=Side.BUY,
            type=OrderType.LIMIT,
            amount=AMOUNT,
            price=PRICE,
            state=state or natural,
            filled=filled,
            fills=trades,
            average_price=fills.average_price(trades),
            created_at=AT,
            updated_at=AT,
        )

    def apply(self, events: list[OrderEvent]) -> None:
        """Take events over, each checked."""
        for event in events:
            self._check(event)
            self.order = event.order
            self.events.append(event)

    def _check(self, event: OrderEvent) -> None:
        before, after = self.order, event.order
        assert after.version == before.version + 1
        assert after.filled >= before.filled, "what was filled has shrunk"
        assert {item.trade_id for item in before.fills} <= {item.trade_id for item in after.fills}
        assert len({item.trade_id for item in after.fills}) == len(after.fills), "a fill is booked twice"
        assert after.filled + after.remaining == after.amount
        if after.state is not before.state:
            legal = TRANSITIONS[before.state] | REOPENINGS.get(before.state, frozenset())
            if before.state is OrderState.PENDING:
                legal |= {OrderState.OPEN, OrderState.CANCELING}  # found although it was thought unsent
            if before.state in RESTARTS and before.restartable:
                legal |= {OrderState.SENDING}
            assert after.state in legal, f"{before.state} → {after.state}"

    # ---- what the exchange does ---------------------------------------------------------------------------

    @property
    def _ended(self) -> bool:
        return self.views[-1].state in FINAL_STATES

    @rule(part=st.integers(1, 4))
    def it_trades(self, part: int) -> None:
        left = AMOUNT - sum((trade.amount for trade in self.trades), ZERO)
        if not self._ended and left:
            self.trades.append(fill(len(self.trades), min(left, Decimal(part))))
            self.views.append(self._view(tuple(self.trades)))

    @rule(state=st.sampled_from([OrderState.CANCELED, OrderState.EXPIRED]))
    def it_ends(self, state: OrderState) -> None:
        if not self._ended:
            self.views.append(self._view(tuple(self.trades), state))

    # ---- what we are told ---------------------------------------------------------------------------------

    @rule(age=st.integers(0, 5), fills=st.booleans(), read=st.booleans())
    def a_view_arrives(self, age: int, fills: bool, read: bool) -> None:
        view = self.views[max(0, len(self.views) - 1 - age)]
        seen = view if fills else replace(view, fills=None)
        self.apply(lifecycle.merge(self.order, seen, self.now, read=read))

    @rule(copies=st.integers(1, 3))
    def the_latest_view_arrives_again_and_again(self, copies: int) -> None:
        for _ in range(copies):
            self.apply(lifecycle.merge(self.order, self.views[-1], self.now, read=True))
        assert lifecycle.merge(self.order, self.views[-1], self.now, read=True) == []

    @rule()
    def the_attempt_is_ambiguous(self) -> None:
        if self.order.state is OrderState.SENDING:
            self.apply([lifecycle.unknown(self.order, self.now, "timeout")])

    @rule()
    def a_cancel_is_wished(self) -> None:
        if not self.order.state.is_final and not self.order.cancel_requested:
            self.apply([lifecycle.cancel_requested(self.order, self.now)])

    @rule()
    def the_cancel_is_refused(self) -> None:
        if self.order.state is OrderState.CANCELING:
            self.apply([lifecycle.cancel_refused(self.order, self.now, "no")])

    # ---- what always holds --------------------------------------------------------------------------------

    @invariant()
    def nothing_is_claimed_that_the_exchange_does_not_have(self) -> None:
        if not hasattr(self, "trades"):
            return
        truth = {trade.trade_id: trade for trade in self.trades}
        assert self.order.filled <= sum((trade.amount for trade in self.trades), ZERO)
        for booked in self.order.fills:
            assert truth[booked.trade_id] == booked
        if self.order.state.is_final:
            assert self._ended, f"{self.order.state} here, and the order lives"

    @invariant()
    def a_record_survives_the_disk(self) -> None:
        if hasattr(self, "events") and self.events:
            assert decode_order(encode_order(self.order)) == self.order
            assert decode_event(encode_event(self.events[-1])) == self.events[-1].to_dict()

    def teardown(self) -> None:
        """In the end we are told the latest, and have it exactly."""
        if hasattr(self, "trades"):
            self.apply(lifecycle.merge(self.order, self.views[-1], self.now, read=True))
            assert self.order.fills_complete
            assert {item.trade_id for item in self.order.fills} == {item.trade_id for item in self.trades}
            if self._ended:
                assert self.order.state is self.views[-1].state
                assert self.order.is_settled


TestLife = Life.TestCase


@given(state=st.sampled_from(list(OrderState)), target=st.sampled_from(list(OrderState)))
def test_an_illegal_transition_is_a_defect_and_not_an_event(state: OrderState, target: OrderState) -> None:
    """The table decides; nothing else gets past it."""
    request = OrderRequest("o", "BTC/USD", Side.BUY, OrderType.LIMIT, AMOUNT, PRICE)
    order = replace(lifecycle.new_order(request, AT), state=state, version=3)
    legal = target is state or target in TRANSITIONS[state]
    try:
        event = lifecycle._event(order, lifecycle.EventKind.UPDATED, AT, target)
    except lifecycle.IllegalTransition:
        assert not legal
        return
    assert legal
    assert event.order.state is target
