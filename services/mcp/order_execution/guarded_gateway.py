"""A gateway for reading only, behind the wire's limits: what a reconciliation asks counts like all else."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from .clock import Clock
from .errors import ErrorCategory
from .gateways.base import (
    Balances,
    Found,
    Gateway,
    Market,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Ticker,
    TradeList,
    Unavailable,
)
from .models import OrderRequest
from .wire import Wire


class GuardedGateway(Gateway):
    """Reads through rate limiter, breaker and time limit; refuses to write."""

    def __init__(self, wire: Wire, clock: Clock, *, timeout: float) -> None:
        self._wire = wire
        self._inner = wire.gateway
        self._clock = clock
        self._timeout = timeout
        self.name = wire.gateway.name
        self.traits = wire.gateway.traits

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._timeout

    async def open(self) -> None:
        """Nothing: the inner gateway is open."""

    async def close(self) -> None:
        """Nothing: the inner gateway is somebody else's."""

    async def submit(self, request: OrderRequest) -> NotSent:
        """Refuse: this face of the gateway places nothing."""
        return NotSent(ErrorCategory.INTERNAL, "reading only")

    async def cancel(self, ref: OrderRef) -> NotSent:
        """Refuse: this face of the gateway cancels nothing."""
        return NotSent(ErrorCategory.INTERNAL, "reading only")

    async def market(self, symbol: str) -> Market | Unavailable:
        """Rules of a symbol."""
        return await self._wire.read(partial(self._inner.market, symbol), self._deadline())

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look one order up."""
        return await self._wire.query(ref, self._deadline())

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """All open orders."""
        return await self._wire.read(partial(self._inner.open_orders, symbol), self._deadline())

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """All final orders of the period."""
        call = partial(self._inner.closed_orders, since, until, symbol)
        return await self._wire.read(call, self._deadline())

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """All own trades since then."""
        return await self._wire.read(partial(self._inner.trades, since, symbol), self._deadline())

    async def balances(self) -> Balances | Unavailable:
        """The account's balances."""
        return await self._wire.read(self._inner.balances, self._deadline())

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        """Present prices."""
        return await self._wire.read(partial(self._inner.ticker, symbol), self._deadline())

    async def ping(self) -> Unavailable | None:
        """The cheapest read."""
        return await self._wire.read(self._inner.ping, self._deadline())
