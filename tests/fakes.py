"""Fakes for the executor's edges: an exchange in memory whose every answer can be scripted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.mcp.order_execution.alerts import Alert
from services.mcp.order_execution.clock import Clock
from services.mcp.order_execution.errors import ErrorCategory, InvalidOrder
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balance,
    Balances,
    ExchangeOrder,
    ExchangeTrade,
    Found,
    Gateway,
    GatewayTraits,
    IdScope,
    LookupScope,
    Market,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Ticker,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.models import (
    Fill,
    OrderRequest,
    OrderState,
    OrderType,
    TimeInForce,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)

FOREVER = GatewayTraits(
    client_id_scope=IdScope.FOREVER,
    lookup_scope=LookupScope.ALL,
    lists_closed_orders=True,
    lists_trades=True,
    request_expiry=2.0,
    settle=0.5,
    order_types=frozenset(OrderType),
    times_in_force=frozenset(TimeInForce),
    post_only=True,
    client_id_max_length=64,
)
OPEN_ONLY = replace(FOREVER, client_id_scope=IdScope.OPEN_ORDERS, lookup_scope=LookupScope.OPEN_ORDERS)
BLIND = replace(
    FOREVER,
    client_id_scope=IdScope.NONE,
    lookup_scope=LookupScope.NONE,
    lists_closed_orders=False,
    lists_trades=False,
    accepts_client_ids=False,
    cancels_by_client_id=False,
)

Step = Callable[["FakeExchange", OrderRequest], "Accepted | Rejected | NotSent | Unknown | None"]


class FakeExchange(Gateway):
    """An exchange in memory. Orders rest until ``fill`` or ``close_order``; ``script``: the next submits' fates.

    A script entry is one of the words of ``_fate``, an outcome to answer without placing, or a callable.
    """

    name = "fake"

    def __init__(self, clock: Clock, traits: GatewayTraits = FOREVER, *, hang: float = 30.0) -> None:
        self.clock = clock
        self.traits = traits
        self.hang = hang
        self.script: deque[object] = deque()
        self.cancel_script: deque[object] = deque()
        self.down: str | None = None
        self.latency = 0.0
        self.orders: dict[str, ExchangeOrder] = {}
        self.submits: list[OrderRequest] = []
        self.placed: list[str] = []
        """The client id of every order that ever came to rest, also where the exchange does not keep it."""
        self.cancels: list[OrderRef] = []
        self.reads: list[str] = []
        self.free = {"USD": Decimal(1_000_000), "BTC": Decimal(100)}
        self.hidden: set[str] = set()
        self.before_send: Callable[[OrderRequest], None] = lambda request: None
        self._ids = 0
        self._trades = 0
        self._late: list[asyncio.Task[None]] = []
        self.trades_listed: list[ExchangeTrade] = []
        self.carry_fills = True
        self.hints: asyncio.Queue[ExchangeOrder | BaseException | None] = asyncio.Queue()
        """What the order stream tells; None ends it, an error breaks it."""
        self.connects = 0

    # ---- what a test looks at and does --------------------------------------------------------------------

    def named(self, client_order_id: str) -> list[ExchangeOrder]:
        """Every order that ever existed under a client id."""
        return [order for order in self.orders.values() if order.client_order_id == client_order_id]

    def place(self, request: OrderRequest) -> ExchangeOrder:
        """Put an order into the book."""
        self._ids += 1
        self.placed.append(request.client_order_id)
        now = self.clock.now()
        order = ExchangeOrder(
            exchange_order_id=f"X{self._ids}",
            client_order_id=request.client_order_id if self.traits.accepts_client_ids else None,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            amount=request.amount,
            price=request.price,
            stop_price=request.stop_price,
            time_in_force=request.time_in_force,
            post_only=request.post_only,
            state=OrderState.OPEN,
            filled=Decimal(0),
            fills=(),
            created_at=now,
            updated_at=now,
        )
        self.orders[order.exchange_order_id] = order
        return order

    def fill(self, exchange_order_id: str, amount: str, price: str = "50000") -> Fill:
        """Trade a part of an order."""
        order = self.orders[exchange_order_id]
        self._trades += 1
        now = self.clock.now()
        fill = Fill(f"T{self._trades}", Decimal(price), Decimal(amount), Decimal("0.01"), "USD", now)
        filled = order.filled + fill.amount
        state = OrderState.FILLED if filled >= order.amount else OrderState.PARTIALLY_FILLED
        if order.state.is_final:
            state = order.state
        fills = (*(order.fills or ()), fill)
        self.orders[exchange_order_id] = replace(
            order, filled=filled, state=state, fills=fills, updated_at=now, average_price=fill.price
        )
        self.trades_listed.append(
            ExchangeTrade(exchange_order_id, order.symbol, order.side, fill, order.client_order_id)
        )
        base, quote = order.symbol.split("/")
        sign = 1 if order.side == "buy" else -1
        self.free[base] = self.free.get(base, Decimal(0)) + sign * fill.amount
        self.free[quote] = self.free.get(quote, Decimal(0)) - sign * fill.amount * fill.price - fill.fee
        return fill

    def close_order(self, exchange_order_id: str, state: OrderState = OrderState.CANCELED) -> None:
        """End an order."""
        order = self.orders[exchange_order_id]
        self.orders[exchange_order_id] = replace(order, state=state, updated_at=self.clock.now())

    async def _read(self, name: str) -> Unavailable | None:
        self.reads.append(name)
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.down is not None:
            return Unavailable(ErrorCategory.SERVER_ERROR, self.down)
        return None

    def _shown(self, order: ExchangeOrder) -> ExchangeOrder:
        return order if self.carry_fills else replace(order, fills=None)

    # ---- the gateway --------------------------------------------------------------------------------------

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        for task in self._late:
            task.cancel()

    async def market(self, symbol: str) -> Market | Unavailable:
        problem = await self._read("market")
        if problem is not None:
            return problem
        base, quote = symbol.split("/")
        if base == "NOPE":
            raise InvalidOrder("symbol", "a symbol of this exchange", got=symbol)
        return Market(
            symbol=symbol,
            base=base,
            quote=quote,
            price_tick=Decimal("0.01"),
            amount_step=Decimal("0.0001"),
            min_amount=Decimal("0.0001"),
            max_amount=Decimal(1000),
            min_notional=Decimal(5),
        )

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        self.before_send(request)
        self.submits.append(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.down is not None:
            return Unknown(ErrorCategory.SERVER_ERROR, self.down)
        step = self.script.popleft() if self.script else "ok"
        return await self._fate(step, request)

    async def _fate(self, step: object, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        if isinstance(step, (Accepted, Rejected, NotSent, Unknown)):
            return step
        if isinstance(step, BaseException):
            raise step
        if step == "lost request":
            return Unknown(ErrorCategory.TIMEOUT, "lost")
        if step == "hang":
            await asyncio.sleep(self.hang)
            return Unknown(ErrorCategory.TIMEOUT, "hung")
        if isinstance(step, float):  # arrives so many seconds late
            self._late.append(asyncio.get_running_loop().create_task(self._arrive(step, request), name="late"))
            return Unknown(ErrorCategory.TIMEOUT, "late")
        duplicate = self._duplicate(request)
        if duplicate:
            return Rejected("duplicate_client_order_id", duplicate_id=True)
        order = self.place(request)
        if step == "lost reply":
            return Unknown(ErrorCategory.RESET, "reply lost")
        if step == "placed, hang":
            await asyncio.sleep(self.hang)
        if step == "fill":
            self.fill(order.exchange_order_id, str(order.amount))
        return Accepted(order.exchange_order_id, self._shown(self.orders[order.exchange_order_id]))

    async def _arrive(self, seconds: float, request: OrderRequest) -> None:
        await asyncio.sleep(seconds)
        if not self._duplicate(request):
            self.place(request)

    def _duplicate(self, request: OrderRequest) -> bool:
        scope = self.traits.client_id_scope
        same = self.named(request.client_order_id)
        if scope is IdScope.FOREVER:
            return bool(same)
        return scope is IdScope.OPEN_ORDERS and any(not order.state.is_final for order in same)

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        self.cancels.append(ref)
        step = self.cancel_script.popleft() if self.cancel_script else "ok"
        if isinstance(step, (Accepted, Rejected, NotSent, Unknown)):
            return step
        if isinstance(step, BaseException):
            raise step
        order = self._find(ref)
        if step == "lost request":
            return Unknown(ErrorCategory.TIMEOUT, "lost")
        if order is None or order.state.is_final:
            return Rejected("not_open")
        if callable(step):
            step(order)
        self.close_order(order.exchange_order_id)
        if step == "lost reply":
            return Unknown(ErrorCategory.RESET, "reply lost")
        return Accepted(order.exchange_order_id)

    def _find(self, ref: OrderRef) -> ExchangeOrder | None:
        if ref.exchange_order_id is not None:
            return self.orders.get(ref.exchange_order_id)
        scope = self.traits.lookup_scope
        for order in self.named(ref.client_order_id):
            if scope is LookupScope.ALL or (scope is LookupScope.OPEN_ORDERS and not order.state.is_final):
                return order
        return None

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        problem = await self._read("query")
        if problem is not None:
            return problem
        order = self._find(ref)
        if order is None or order.exchange_order_id in self.hidden:
            return NotFound()
        return Found(self._shown(order))

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        problem = await self._read("open_orders")
        if problem is not None:
            return problem
        return OrderList(tuple(self._shown(o) for o in self._listed(symbol) if not o.state.is_final))

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        problem = await self._read("closed_orders")
        if problem is not None:
            return problem
        return OrderList(
            tuple(self._shown(o) for o in self._listed(symbol) if o.state.is_final and o.updated_at >= since)
        )

    def _listed(self, symbol: str | None) -> list[ExchangeOrder]:
        return [
            order
            for order in self.orders.values()
            if symbol in (None, order.symbol) and order.exchange_order_id not in self.hidden
        ]

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        problem = await self._read("trades")
        if problem is not None:
            return problem
        return TradeList(tuple(t for t in self.trades_listed if t.fill.at >= since and symbol in (None, t.symbol)))

    async def balances(self) -> Balances | Unavailable:
        problem = await self._read("balances")
        if problem is not None:
            return problem
        blocked: dict[str, Decimal] = {}
        for order in self.orders.values():
            if order.state.is_final:
                continue
            base, quote = order.symbol.split("/")
            rest = order.amount - order.filled
            currency, amount = (base, rest) if order.side == "sell" else (quote, rest * (order.price or 50_000))
            blocked[currency] = blocked.get(currency, Decimal(0)) + amount
        return Balances(
            {
                name: Balance(total - blocked.get(name, Decimal(0)), blocked.get(name, Decimal(0)))
                for name, total in self.free.items()
            }
        )

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        problem = await self._read("ticker")
        if problem is not None:
            return problem
        return Ticker(symbol, Decimal(49_990), Decimal(50_010), Decimal(50_000))

    async def ping(self) -> Unavailable | None:
        return await self._read("ping")

    async def stream(self) -> AsyncIterator[ExchangeOrder]:
        self.connects += 1
        while True:
            hint = await self.hints.get()
            if hint is None:
                return
            if isinstance(hint, BaseException):
                raise hint
            yield hint


class RecordingSink:
    """An alert sink that keeps what it was sent."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> None:
        self.alerts.append(alert)


def ago(seconds: float) -> datetime:
    """A time before the epoch of the virtual clock."""
    return T0 - timedelta(seconds=seconds)
