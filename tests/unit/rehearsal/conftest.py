"""What the tests of the rehearsal share: markets, orders, traces and a small report."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import lifecycle
from services.mcp.order_execution.gateways.base import ExchangeOrder, Market, Ticker
from services.mcp.order_execution.models import Order, OrderRequest, OrderState, OrderType, Side
from services.mcp.order_execution.rehearsal.plan import PlannedOrder, Purpose
from services.mcp.order_execution.rehearsal.record import Answer, Trace

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Desk:
    """Makes the records that the tests speak of."""

    market = Market(
        symbol="BTC/USD",
        base="BTC",
        quote="USD",
        price_tick=Decimal("0.01"),
        amount_step=Decimal("0.00000001"),
        min_amount=Decimal("0.0001"),
        min_notional=Decimal(5),
    )
    ticker = Ticker("BTC/USD", bid=Decimal(49990), ask=Decimal(50010), last=Decimal(50000))

    def planned(self, name: str, purpose: Purpose = Purpose.MARKET) -> PlannedOrder:
        """A planned order."""
        params: dict[str, Any] = {"client_order_id": name, "symbol": "BTC/USD", "side": "buy"}
        return PlannedOrder(purpose, {**params, "type": "market", "amount": Decimal("0.1")})

    def order(self, name: str, state: OrderState = OrderState.FILLED, at: str | None = "x") -> Order:
        """A journalled order; ``at`` is its id at the exchange."""
        return Order(
            order_id=name,
            symbol="BTC/USD",
            side=Side.BUY,
            type=OrderType.MARKET,
            amount=Decimal("0.1"),
            created_at=NOW,
            updated_at=NOW,
            state=state,
            exchange_order_id=f"{at}-{name}" if at else None,
        )

    def booked(self, name: str | None, exchange_id: str) -> ExchangeOrder:
        """An order in the exchange's book."""
        return ExchangeOrder(
            exchange_order_id=exchange_id,
            client_order_id=name,
            symbol="BTC/USD",
            side=Side.BUY,
            type=OrderType.MARKET,
            amount=Decimal("0.1"),
            state=OrderState.FILLED,
            filled=Decimal("0.1"),
            created_at=NOW,
            updated_at=NOW,
        )

    def trace(self, name: str, answer: Answer | None = Answer.ACCEPTED) -> Trace:
        """A planned order with its last answer."""
        trace = Trace(self.planned(name))
        if answer is not None:
            trace.answers.append((1.0, answer, ""))
        return trace

    def lived(self, name: str) -> Trace:
        """A trace of an order that was unknown for a while, was sent again and accepted."""
        trace = self.trace(name)
        request = OrderRequest(name, "BTC/USD", Side.BUY, OrderType.MARKET, Decimal("0.1"))
        event = lifecycle.intend(lifecycle.new_order(request, NOW), NOW)
        trace.note(event, 0.5)
        event = lifecycle.unknown(event.order, NOW, "no answer <within> 2 s")
        trace.note(event, 1.0)
        event = lifecycle.intend(event.order, NOW)
        trace.note(event, 3.0)
        event = lifecycle.accepted(event.order, NOW, f"x-{name}")
        trace.note(event, 3.5)
        return trace


@pytest.fixture
def desk() -> Desk:
    return Desk()
