"""One turn: what the exchange does while it holds its file, with orders, trades, funds and depth kept in step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

from ..models import ZERO, OrderRequest, OrderState, OrderType, Side, TimeInForce
from .admission import malformed, too_small
from .ledger import Ledger
from .market import Markets
from .matching import Book, amount_of, cost_of, fee_for, is_market, is_stop, priority, touches
from .records import BookedOrder, Level, MarketRules, Refused, Trade, from_us
from .store import Store, World

_ORDER_ID: Final = re.compile(r"[1-9][0-9]{0,17}")
_BY_CLIENT_ID: Final = {
    "all": "client_order_id = ?",
    "forever": "client_order_id = ?",
    "open": "client_order_id = ? AND is_open = 1",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What the exchange charges, and among which orders client ids are unique and found."""

    maker_fee: Decimal
    taker_fee: Decimal
    client_ids: Literal["forever", "open", "none"]
    lookup: Literal["all", "open", "none"]


class Turn:
    """Everything that happens in one transaction. ``world`` says when, and is changed in place."""

    def __init__(self, store: Store, markets: Markets, terms: Terms, world: World, step_us: int) -> None:
        self.store = store
        self.world = world
        self._markets = markets
        self._terms = terms
        self._step_us = step_us
        self.ledger = Ledger(store, markets.start_funds if world.funds_at_will else lambda _: ZERO)
        self._books: dict[str, tuple[int, Book]] = {}

    def flush(self) -> None:
        """Write what is written once per turn."""
        self.ledger.flush()
        for symbol, (step, book) in self._books.items():
            if step == self.world.step and (book.taken[Side.BUY] or book.taken[Side.SELL]):
                self.store.save_taken(symbol, step, book.taken)
        self.store.save_world(self.world)

    def wall(self) -> datetime:
        """What the wall clock says at the instant that the turn has come to."""
        return from_us(self.world.instant_us - self.world.offset_us)

    def book(self, symbol: str) -> Book:
        """The depth of the present step, less what own orders took."""
        step = self.world.step
        known = self._books.get(symbol)
        if known is None or known[0] != step:
            book = Book(lambda side: self._markets.levels(symbol, step, side), taken=self.store.taken(symbol, step))
            known = self._books[symbol] = (step, book)
        return known[1]

    # ---- finding ------------------------------------------------------------------------------------------

    def find(
        self, exchange_order_id: str | None, client_order_id: str, booked_until_us: int | None = None
    ) -> BookedOrder | None:
        """One order, by the exchange's id where it is given, else by client id as far as those are looked up.

        Of several orders under one client id an open one comes first, then the newest.
        """
        if exchange_order_id is not None:
            if _ORDER_ID.fullmatch(exchange_order_id) is None:
                return None
            condition, key = "id = ?", exchange_order_id
        elif self._terms.lookup == "none":
            return None
        else:
            condition, key = _BY_CLIENT_ID[self._terms.lookup], client_order_id
        found = self.store.orders(condition, (key,), order_by="is_open DESC, id DESC LIMIT 1")
        if not found or (booked_until_us is not None and found[0].booked_us > booked_until_us):
            return None
        return found[0]

    # ---- placing ------------------------------------------------------------------------------------------

    def place(self, request: OrderRequest) -> BookedOrder | Refused:
        """Book an order and trade what trades at once."""
        rules = self._markets.rules(request.symbol)
        if rules is None:
            return Refused("unknown_symbol")
        if self._terms.client_ids != "none":
            condition = _BY_CLIENT_ID[self._terms.client_ids]
            if self.store.orders(condition, (request.client_order_id,), order_by="id LIMIT 1"):
                return Refused("duplicate_client_order_id", duplicate_id=True)
        price = self._markets.price(request.symbol, self.world.step)
        refusal = malformed(request, rules)
        if refusal is None and too_small(request, rules, price):
            refusal = "min_notional"
        if refusal is None and request.stop_price is not None:
            crossed = touches(request.side, request.stop_price, price)
            refusal = "stop_price_crossed" if crossed else None
        refusal = refusal or self._unaffordable(request, rules)
        if refusal is None and request.post_only and request.type is OrderType.LIMIT:
            takes = self.book(request.symbol).offer(request.side, rules.amount_step, limit=request.price)
            refusal = "post_only_would_take" if takes else None
        return self._enter(request) if refusal is None else Refused(refusal)

    def _unaffordable(self, request: OrderRequest, rules: MarketRules) -> str | None:
        if request.side is Side.SELL:
            currency, needed = rules.base, request.amount
        elif request.type is OrderType.MARKET:
            takes = self.book(request.symbol).offer(request.side, request.amount, limit=request.price)
            currency, needed = rules.quote, cost_of(takes)
        else:
            currency, needed = rules.quote, request.amount * (request.price or request.stop_price or ZERO)
        return "insufficient_funds" if needed > self.ledger.funds(currency).free else None

    def _enter(self, request: OrderRequest) -> BookedOrder:
        self.world.orders += 1
        at = self.wall()
        order = BookedOrder(
            id=self.world.orders,
            client_order_id=request.client_order_id,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            amount=request.amount,
            price=request.price,
            stop_price=request.stop_price,
            time_in_force=request.time_in_force,
            post_only=request.post_only,
            created_at=at,
            updated_at=at,
            booked_us=self.world.instant_us,
            waiting=is_stop(request.type),
        )
        self.ledger.move(order.blocked_currency, blocked=order.blocked)
        return self._keep(order, order if order.waiting else self._execute(order))

    def _keep(self, before: BookedOrder, after: BookedOrder) -> BookedOrder:
        """Write the order; what it keeps blocked follows from what it has become."""
        if after.blocked != before.blocked:
            self.ledger.move(after.blocked_currency, blocked=after.blocked - before.blocked)
        self.store.save_order(after)
        return after

    # ---- trading ------------------------------------------------------------------------------------------

    def _execute(self, order: BookedOrder) -> BookedOrder:
        """Trade against the depth as a taker; what is left rests or is closed, as the order says."""
        book = self.book(order.symbol)
        free = self.ledger.funds(order.blocked_currency).free + order.blocked
        rules = self._markets.rules(order.symbol)
        takes = book.offer(
            order.side,
            order.remaining,
            limit=order.price,
            budget=free if order.type is OrderType.STOP_MARKET and order.side is Side.BUY else None,
            step=rules.amount_step if rules else Decimal(1),
        )
        if takes and order.post_only:
            return self._close(order, OrderState.CANCELED, "post_only_would_take")
        if order.time_in_force is TimeInForce.FOK and amount_of(takes) < order.remaining:
            return self._close(order, OrderState.EXPIRED, "fok_not_fillable")
        for level in takes:
            order = self._trade(order, level, maker=False)
        book.take(order.side, amount_of(takes))
        if not order.is_open:
            return order
        if is_market(order.type):
            unpaid = book.offer(order.side, order.remaining, limit=order.price)
            return self._close(order, OrderState.CANCELED, "insufficient_funds" if unpaid else "no_liquidity")
        if order.time_in_force is TimeInForce.IOC:
            return self._close(order, OrderState.CANCELED, "ioc_remainder")
        return order

    def _trade(self, order: BookedOrder, level: Level, *, maker: bool) -> BookedOrder:
        self.world.trades += 1
        rate = self._terms.maker_fee if maker else self._terms.taker_fee
        fee, cost, at = (
            fee_for(order.side, level.price, level.amount, rate),
            level.price * level.amount,
            self.wall(),
        )
        if order.side is Side.BUY:
            self.ledger.move(order.quote, -cost)
            self.ledger.move(order.base, level.amount - fee)
        else:
            self.ledger.move(order.base, -level.amount)
            self.ledger.move(order.quote, cost - fee)
        self.store.save_trade(
            Trade(
                id=self.world.trades,
                order_id=order.id,
                client_order_id=order.client_order_id,
                symbol=order.symbol,
                side=order.side,
                price=level.price,
                amount=level.amount,
                fee=fee,
                fee_currency=order.fee_currency,
                maker=maker,
                at=at,
            )
        )
        filled = order.filled + level.amount
        return replace(
            order,
            filled=filled,
            cost=order.cost + cost,
            fee=order.fee + fee,
            state=OrderState.FILLED if filled == order.amount else OrderState.PARTIALLY_FILLED,
            updated_at=at,
        )

    def _close(self, order: BookedOrder, state: OrderState, reason: str) -> BookedOrder:
        return replace(order, state=state, reason=reason, waiting=False, updated_at=self.wall())

    def cancel(self, order: BookedOrder) -> BookedOrder:
        """Close an open order."""
        return self._keep(order, self._close(order, OrderState.CANCELED, "canceled_by_request"))

    # ---- the passing of time ------------------------------------------------------------------------------

    def pass_to(self, step: int) -> None:
        """Let the price move on to a later step and match what it sets off on the way."""
        steps = steps_between(self.world.step, step)
        watched: dict[str, list[BookedOrder]] = {}
        for symbol in self.store.open_symbols():
            prices = [self._markets.price(symbol, at) for at in steps]
            orders = self.store.within_reach(symbol, min(prices), max(prices))
            if orders:
                watched[symbol] = orders
        now = self.world.instant_us
        for at in steps if watched else ():
            self.world.step = at
            self.world.instant_us = min(self.world.origin_us + at * self._step_us, now)
            for symbol, orders in watched.items():
                watched[symbol] = self._match(symbol, orders)
        self.world.step = step
        self.world.instant_us = now

    def _match(self, symbol: str, orders: Iterable[BookedOrder]) -> list[BookedOrder]:
        """Match one symbol's open orders at the present step; returns those that are still open."""
        book = self.book(symbol)
        after = {order.id: order for order in orders}
        for side in Side:
            resting = [order for order in after.values() if order.side is side and not order.waiting]
            for order in sorted(resting, key=priority):
                got = amount_of(book.offer(side, order.remaining, limit=order.price))
                if not got or order.price is None:
                    break  # whoever comes later in the queue reaches no further
                book.take(side, got)
                traded = self._trade(order, Level(order.price, got), maker=True)
                after[order.id] = self._keep(order, traded)
        price = self._markets.price(symbol, self.world.step)
        for order in list(after.values()):
            if order.waiting and order.stop_price is not None and touches(order.side, order.stop_price, price):
                woken = replace(order, waiting=False, updated_at=self.wall())
                after[order.id] = self._keep(order, self._execute(woken))
        return [order for order in after.values() if order.is_open]


MAX_STEPS: Final = 240
"""So many steps are looked at, at most, after an absence; of more, these evenly spaced ones."""


def steps_between(last: int, now: int) -> list[int]:
    """The steps after ``last`` up to ``now`` that are looked at: all, or evenly spaced ones that end with it."""
    count = now - last
    if count <= MAX_STEPS:
        return list(range(last + 1, now + 1))
    return [last + count * number // MAX_STEPS for number in range(1, MAX_STEPS + 1)]
