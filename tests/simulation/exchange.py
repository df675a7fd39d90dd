"""A model of an exchange: orders, fills, balances, client ids, and views that lag behind. It knows no executor.

Written apart from the paper exchange and from tests/fakes.py, so that no mistake of theirs is repeated here by
copying. Money is moved at each fill; the oracle adds it up again from the fills alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from services.mcp.order_execution.gateways.base import (
    Balance,
    Balances,
    ExchangeOrder,
    ExchangeTrade,
    GatewayTraits,
    IdScope,
    LookupScope,
    Market,
    OrderRef,
)
from services.mcp.order_execution.models import Fill, OrderRequest, OrderState, OrderType, Side, TimeInForce

FEE = Decimal("0.001")
PRICE = Decimal(50_000)
FINAL = (OrderState.FILLED, OrderState.CANCELED, OrderState.EXPIRED, OrderState.REJECTED)
START = {"USD": Decimal(100_000), "BTC": Decimal(5)}


class Refused(Exception):
    """The exchange refuses; ``duplicate``: since the client id is taken."""

    def __init__(self, reason: str, *, duplicate: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.duplicate = duplicate


@dataclass(slots=True)
class Entry:
    """One order in the book, and everything that the oracle wants to know of it."""

    number: int
    intent: str
    request: OrderRequest
    left_at: float
    """When the message that became this order left the client (monotonic)."""
    created_at: datetime
    order: ExchangeOrder
    visible_at: float
    closed_at: float | None = None
    fills: list[Fill] = field(default_factory=list)


class SimulatedExchange:
    """One account on one exchange. Every method is synchronous: what it does is done at once."""

    def __init__(
        self,
        traits: GatewayTraits,
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
        *,
        index_lag: float,
        carry_fills: bool,
    ) -> None:
        self.traits = traits
        self.index_lag = index_lag
        self.carry_fills = carry_fills
        self.entries: list[Entry] = []
        self.trades: list[tuple[float, ExchangeTrade]] = []
        self.money = dict(START)
        self.on_change: Callable[[ExchangeOrder], None] = lambda order: None
        self.refuses_to_cancel: Callable[[Entry], bool] = lambda entry: False
        self.clock = now
        self._monotonic = monotonic
        self._by_id: dict[str, Entry] = {}

    # ---- what happens in the book -------------------------------------------------------------------------

    def place(self, request: OrderRequest, left_at: float, fate: str = "rest") -> ExchangeOrder:
        """Take an order in. ``fate``: rest, fill, part (then it rests), die (canceled by the exchange).

        Raises Refused.
        """
        self._refuse_duplicate(request.client_order_id)
        if request.price is not None and request.price > 2 * PRICE:
            raise Refused("price_out_of_range")
        currency, needed = self._needs(request)
        if self._free(currency) < needed:
            raise Refused("insufficient_funds")
        number = len(self.entries) + 1
        now = self.clock()
        order = ExchangeOrder(
            exchange_order_id=f"X{number}",
            client_order_id=request.client_order_id if self.traits.accepts_client_ids else None,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            amount=request.amount,
            price=request.price,
            time_in_force=request.time_in_force,
            state=OrderState.OPEN,
            filled=Decimal(0),
            fills=(),
            created_at=now,
            updated_at=now,
        )
        entry = Entry(
            number, request.client_order_id, request, left_at, now, order, self._monotonic() + self.index_lag
        )
        self.entries.append(entry)
        self._by_id[order.exchange_order_id] = entry
        self._play_out(entry, fate)
        self.on_change(self._told(entry))
        return self._told(entry)

    def _play_out(self, entry: Entry, fate: str) -> None:
        """What becomes of the order at once."""
        request = entry.request
        if fate == "fill" or (request.type is OrderType.MARKET and fate == "rest"):
            self.fill(entry, entry.request.amount)
        elif fate == "part" or request.type is OrderType.MARKET:
            self.fill(entry, entry.request.amount / 2)
        elif fate == "die":
            self.close(entry, OrderState.EXPIRED)
        if request.time_in_force is TimeInForce.IOC or request.type is OrderType.MARKET:
            self.close(entry, OrderState.CANCELED)

    def _refuse_duplicate(self, client_order_id: str) -> None:
        scope = self.traits.client_id_scope
        for entry in self.entries:
            if entry.intent != client_order_id:
                continue
            if scope is IdScope.FOREVER or (scope is IdScope.OPEN_ORDERS and entry.closed_at is None):
                raise Refused("duplicate_client_order_id", duplicate=True)

    def fill(self, entry: Entry, amount: Decimal) -> None:
        """Trade a part of an order; the last part ends it."""
        amount = min(amount, entry.request.amount - entry.order.filled)
        if entry.closed_at is not None or amount <= 0:
            return
        price = entry.request.price or PRICE
        base, quote = entry.request.symbol.split("/")
        fee = amount * price * FEE
        fill = Fill(f"T{len(self.trades) + 1}", price, amount, fee, quote, self.clock())
        entry.fills.append(fill)
        sign = 1 if entry.request.side is Side.BUY else -1
        self.money[base] += sign * amount
        self.money[quote] -= sign * amount * price + fee
        filled = entry.order.filled + amount
        done = filled == entry.request.amount
        entry.order = replace(
            entry.order,
            filled=filled,
            fills=tuple(entry.fills),
            average_price=price,
            fees={quote: sum((item.fee for item in entry.fills), Decimal(0))},
            state=OrderState.FILLED if done else OrderState.PARTIALLY_FILLED,
            updated_at=self.clock(),
        )
        if done:
            entry.closed_at = self._monotonic()
        self.trades.append(
            (
                self._monotonic() + self.index_lag,
                ExchangeTrade(
                    entry.order.exchange_order_id,
                    entry.request.symbol,
                    entry.request.side,
                    fill,
                    entry.order.client_order_id,
                ),
            )
        )
        self.on_change(self._told(entry))

    def close(self, entry: Entry, state: OrderState) -> None:
        """End an order that rests."""
        if entry.closed_at is None:
            entry.closed_at = self._monotonic()
            entry.order = replace(entry.order, state=state, updated_at=self.clock())
            self.on_change(self._told(entry))

    def cancel(self, ref: OrderRef) -> ExchangeOrder:
        """Cancel. Raises Refused where nothing of it rests."""
        entry = self._named(ref, by_client_id=self.traits.cancels_by_client_id)
        if entry is None or entry.closed_at is not None:
            raise Refused("not_open")
        if self.refuses_to_cancel(entry):
            raise Refused("not_now")
        self.close(entry, OrderState.CANCELED)
        return self._told(entry)

    def resting(self) -> Iterator[Entry]:
        """Orders that may still trade."""
        return (entry for entry in self.entries if entry.closed_at is None)

    # ---- what it tells ------------------------------------------------------------------------------------

    def query(self, ref: OrderRef) -> ExchangeOrder | None:
        """Look one order up, as far as this exchange's lookup goes and its index has caught up."""
        entry = self._named(ref, by_client_id=self.traits.lookup_scope is not LookupScope.NONE)
        if entry is None or entry.visible_at > self._monotonic():
            return None
        by_client_id = ref.exchange_order_id is None
        if by_client_id and self.traits.lookup_scope is LookupScope.OPEN_ORDERS and entry.closed_at is not None:
            return None
        return self._told(entry)

    def _named(self, ref: OrderRef, *, by_client_id: bool) -> Entry | None:
        if ref.exchange_order_id is not None:
            return self._by_id.get(ref.exchange_order_id)
        if not by_client_id or not self.traits.accepts_client_ids:
            return None
        found = [entry for entry in self.entries if entry.intent == ref.client_order_id]
        return next((entry for entry in found if entry.closed_at is None), found[-1] if found else None)

    def open_orders(self, symbol: str | None) -> list[ExchangeOrder]:
        """List what rests, as far as the index has caught up."""
        now = self._monotonic()
        return [
            self._told(entry)
            for entry in self.entries
            if entry.closed_at is None and entry.visible_at <= now and symbol in (None, entry.request.symbol)
        ]

    def closed_orders(self, since: datetime, until: datetime, symbol: str | None) -> list[ExchangeOrder]:
        """List what ended in the period. The index lags: an order is in neither list for a moment."""
        now = self._monotonic()
        return [
            self._told(entry)
            for entry in self.entries
            if entry.closed_at is not None
            and entry.closed_at + self.index_lag <= now
            and since <= entry.order.updated_at < until + timedelta(microseconds=1)
            and symbol in (None, entry.request.symbol)
        ]

    def listed_trades(self, since: datetime, symbol: str | None) -> list[ExchangeTrade]:
        """List own trades, as far as the index has caught up."""
        now = self._monotonic()
        return [
            trade
            for visible_at, trade in self.trades
            if visible_at <= now and trade.fill.at >= since and symbol in (None, trade.symbol)
        ]

    def balances(self) -> Balances:
        """What is free and what open orders block."""
        blocked = dict.fromkeys(self.money, Decimal(0))
        for entry in self.resting():
            currency, amount = self._needs(entry.request, entry.order.filled)
            blocked[currency] += amount
        return Balances({name: Balance(total - blocked[name], blocked[name]) for name, total in self.money.items()})

    def market(self, symbol: str) -> Market:
        """The rules of a symbol."""
        base, quote = symbol.split("/")
        return Market(
            symbol=symbol,
            base=base,
            quote=quote,
            price_tick=Decimal("0.01"),
            amount_step=Decimal("0.0001"),
            min_amount=Decimal("0.0001"),
            min_notional=Decimal(5),
        )

    def _told(self, entry: Entry) -> ExchangeOrder:
        if self.carry_fills:
            return entry.order
        return replace(entry.order, fills=None)

    def _needs(self, request: OrderRequest, filled: Decimal = Decimal(0)) -> tuple[str, Decimal]:
        base, quote = request.symbol.split("/")
        rest = request.amount - filled
        if request.side is Side.SELL:
            return base, rest
        return quote, rest * (request.price or PRICE) * (1 + FEE)

    def _free(self, currency: str) -> Decimal:
        return self.balances().currencies[currency].free
