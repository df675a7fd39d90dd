"""An exchange with moods: each request meets a fate drawn from the day's dice, and what is read lags behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Final

from services.mcp.order_execution.clock import Clock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import (
    Accepted,
    ExchangeOrder,
    Found,
    GatewayTraits,
    NotFound,
    NotSent,
    OrderRef,
    Rejected,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.models import OrderRequest
from tests.fakes import FakeExchange
from tests.worlds import REFUSED

CALM_DAYS: Final = 0.1
"""The share of days on which the exchange does what it is asked."""
LAG_SECONDS: Final = 0.45
"""How far a read may lie behind; what the gateway's traits call ``settle`` is a little more."""
LATE_SECONDS: Final = (0.1, 1.9)
"""How late a request may arrive; what the traits call ``request_expiry`` is a little more."""

_LEFT_AT: ContextVar[float] = ContextVar("left_at")
"""When the request that is being carried out had left; a late one keeps it."""


class MoodyExchange(FakeExchange):
    """``hit(what)`` is called for every fault that it makes."""

    def __init__(self, clock: Clock, traits: GatewayTraits, rng: random.Random, hit: Callable[[str], None]) -> None:
        super().__init__(clock, traits)
        self.moody = rng.random() >= CALM_DAYS
        self.left_at: dict[str, float] = {}
        """When the request that made an order had left, by the exchange's id."""
        self._rng = rng
        self._hit = hit
        self._shown_at: dict[str, tuple[float, Found]] = {}

    # ---- orders -------------------------------------------------------------------------------------------

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        _LEFT_AT.set(self.clock.monotonic())
        return await super().submit(request)

    def place(self, request: OrderRequest) -> ExchangeOrder:
        order = super().place(request)
        self.left_at[order.exchange_order_id] = _LEFT_AT.get()
        return order

    async def _fate(self, step: object, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        if self.moody:
            await asyncio.sleep(self._rng.choice([0, 0.01, 0.3]))
            name, step = self._drawn()
            if name is not None:
                self._hit(name)
        return await super()._fate(step, request)

    def _drawn(self) -> tuple[str | None, object]:
        """The fate of one order: what it is called, unless it is a good one, and what it is."""
        throttled = NotSent(ErrorCategory.RATE_LIMITED, "slow", self._rng.choice([0.5, 3.0]))
        fates: list[tuple[str | None, object]] = [
            (None, "ok"),
            (None, "ok"),
            (None, "fill"),
            ("submit: reply lost", "lost reply"),
            ("submit: request lost", "lost request"),
            ("submit: placed, no reply", "placed, hang"),
            ("submit: no reply", "hang"),
            ("submit: connection refused", REFUSED),
            ("submit: connection refused", REFUSED),
            ("submit: order rejected", Rejected("min_notional")),
            ("submit: throttled", throttled),
            ("submit: arrives late", self._rng.uniform(*LATE_SECONDS)),
        ]
        return self._rng.choice(fates)

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        if self.moody:
            await asyncio.sleep(self._rng.choice([0, 0.01, 0.3]))
        if self.down is not None:
            return Unknown(ErrorCategory.SERVER_ERROR, self.down)
        step = self._rng.choice(["ok", "ok", "ok", "lost request", "lost reply", REFUSED]) if self.moody else "ok"
        if step != "ok":
            self._hit("cancel: connection refused" if step is REFUSED else f"cancel: {step}")
        self.cancel_script.append(step)
        return await super().cancel(ref)

    # ---- reads that lag -----------------------------------------------------------------------------------

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look an order up: as it is, or as it was a moment ago."""
        answer = await super().query(ref)
        if not self.moody or not isinstance(answer, Found):
            return answer
        now = self.clock.monotonic()
        if self._too_new(answer.order):
            return NotFound()
        exchange_id = answer.order.exchange_order_id
        at, before = self._shown_at.get(exchange_id, (now, answer))
        if now - at < LAG_SECONDS and self._rng.random() < 0.5:
            if before.order != answer.order:
                self._hit("read: order of a moment ago")
            return before
        self._shown_at[exchange_id] = (now, answer)
        return answer

    def _listed(self, symbol: str | None) -> list[ExchangeOrder]:
        listed = super()._listed(symbol)
        return [order for order in listed if not self._too_new(order)] if self.moody else listed

    def _too_new(self, order: ExchangeOrder) -> bool:
        """Whether this read does not know the order yet."""
        made: datetime = order.created_at
        young = (self.clock.now() - made).total_seconds() < LAG_SECONDS
        if young and order.exchange_order_id not in self._shown_at and self._rng.random() < 0.5:
            self._hit("read: new order not shown")
            return True
        return False

    # ---- the end ------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let go of one executor; what is on its way to the exchange arrives all the same."""

    async def end(self) -> None:
        """Stop existing, at the end of the day."""
        await super().close()
