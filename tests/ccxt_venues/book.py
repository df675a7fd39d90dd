"""The account that every venue of the tests keeps: orders that rest, balances, fees. It matches nothing.

A limit order rests until a test fills it; a market order fills at once, at the market's price. What an exchange
calls things is the business of its dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from enum import StrEnum
from typing import Final

from services.mcp.order_execution.clock import Clock

ZERO: Final = Decimal(0)
PENNY: Final = Decimal("0.00000001")
"""Fees are whole multiples of it."""
ORDERS_MAX: Final = 100_000


class Status(StrEnum):
    """Where an order is."""

    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Refusal(StrEnum):
    """Why an order or a cancel is refused."""

    SYMBOL = "symbol"
    FUNDS = "funds"
    NOTIONAL = "notional"
    AMOUNT = "amount"
    PRICE = "price"
    DUPLICATE = "duplicate"
    WOULD_TAKE = "would take"
    UNKNOWN = "unknown"
    """There is no such order, or it is no longer open."""


class Refused(Exception):
    """The account refuses; nothing has changed."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One market: its rules, and the price at which it stands still."""

    base: str
    quote: str
    tick: Decimal
    step: Decimal
    min_amount: Decimal
    min_notional: Decimal
    price: Decimal

    @property
    def symbol(self) -> str:
        """As the library names it."""
        return f"{self.base}/{self.quote}"

    @property
    def bid(self) -> Decimal:
        """The best price at which somebody buys."""
        return self.price - self.tick

    @property
    def ask(self) -> Decimal:
        """The best price at which somebody sells."""
        return self.price + self.tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One execution. ``at`` is in milliseconds since 1970."""

    number: int
    price: Decimal
    amount: Decimal
    fee: Decimal
    fee_currency: str
    maker: bool
    at: int


@dataclass(slots=True, kw_only=True)
class Order:
    """One order, as booked. Times are in milliseconds since 1970, except the last two, which are monotonic."""

    number: int
    client_id: str | None
    listing: Listing
    buys: bool
    market: bool
    amount: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    """It waits for this price, which never comes: the market stands still."""
    time_in_force: str
    post_only: bool
    created: int
    updated: int
    visible_at: float
    closed_at: float | None = None
    status: Status = Status.OPEN
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    trades: list[Trade] = field(default_factory=list)

    @property
    def left(self) -> Decimal:
        """What is not filled yet."""
        return self.amount - self.filled

    @property
    def average(self) -> Decimal:
        """The average price of what is filled; 0 where nothing is."""
        return self.cost / self.filled if self.filled else ZERO

    @property
    def fee(self) -> Decimal:
        """All fees together; they are in one currency."""
        return sum((trade.fee for trade in self.trades), ZERO)

    @property
    def fee_currency(self) -> str | None:
        """The currency of the fees; None where there are none."""
        return self.trades[0].fee_currency if self.trades else None

    def blocks(self) -> tuple[str, Decimal]:
        """The currency and the amount that it holds back while it is open."""
        if self.buys:
            return self.listing.quote, self.left * (self.price or self.stop_price or ZERO)
        return self.listing.base, self.left


class Book:
    """One account. ``ids_forever``: a client id is never taken twice; else only not among open orders."""

    def __init__(
        self,
        clock: Clock,
        listings: list[Listing],
        *,
        ids_forever: bool = False,
        fees_in_quote: bool = False,
        fee: Decimal = Decimal("0.001"),
        lag: float = 0.0,
        canceled_kept: float | None = None,
    ) -> None:
        self.clock = clock
        self.listings = {listing.symbol: listing for listing in listings}
        self.ids_forever = ids_forever
        self.fees_in_quote = fees_in_quote
        self.fee = fee
        self.lag = lag
        """For so many seconds a new order is in no lookup and no list."""
        self.canceled_kept = canceled_kept
        """After so many seconds a canceled order without a fill is in no lookup and no list; None: kept."""
        self.fate: Callable[[Order], str] = lambda order: "rest"
        """What becomes of an order that would rest: rest, fill, part (half of it) or die (the exchange cancels)."""
        self.orders: list[Order] = []
        self.funds = {listing.base: Decimal(10) for listing in listings}
        self.funds.update({listing.quote: Decimal(1_000_000) for listing in listings})
        self._by_client: dict[str, list[Order]] = {}
        self._blocked = dict.fromkeys(self.funds, ZERO)
        self._trades = 0

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self.clock.now().timestamp() * 1000)

    # ---- writes -------------------------------------------------------------------------------------------

    def place(
        self,
        symbol: str,
        *,
        client_id: str | None,
        buys: bool,
        amount: Decimal,
        price: Decimal | None,
        stop_price: Decimal | None = None,
        time_in_force: str = "GTC",
        post_only: bool = False,
    ) -> Order:
        """Book an order; ``price`` None makes it a market order. Raises Refused."""
        listing = self.listings.get(symbol)
        if listing is None or len(self.orders) >= ORDERS_MAX:
            raise Refused(Refusal.SYMBOL)
        self._check(listing, amount, price, buys=buys, post_only=post_only)
        if client_id is not None and self._taken(client_id):
            raise Refused(Refusal.DUPLICATE)
        now = self.now()
        order = Order(
            number=len(self.orders) + 1,
            client_id=client_id,
            listing=listing,
            buys=buys,
            market=price is None,
            amount=amount,
            price=price,
            stop_price=stop_price,
            time_in_force=time_in_force,
            post_only=post_only,
            created=now,
            updated=now,
            visible_at=self.clock.monotonic() + self.lag,
        )
        self._check_funds(order)
        self.orders.append(order)
        self._block(order, 1)
        if client_id is not None:
            self._by_client.setdefault(client_id, []).append(order)
        self._begin(order)
        return order

    def _begin(self, order: Order) -> None:
        if order.stop_price is not None:
            return
        if order.market:
            self.fill(order, price=order.listing.ask if order.buys else order.listing.bid)
        elif order.time_in_force in ("IOC", "FOK"):
            self._close(order, Status.EXPIRED)
        else:
            fate = self.fate(order)
            if fate == "fill":
                self.fill(order)
            elif fate == "part":
                self.fill(order, order.amount / 2)
            elif fate == "die":
                self._close(order, Status.CANCELED)

    def _check(
        self, listing: Listing, amount: Decimal, price: Decimal | None, *, buys: bool, post_only: bool
    ) -> None:
        if amount < listing.min_amount or amount % listing.step:
            raise Refused(Refusal.AMOUNT)
        if price is not None and (price <= 0 or price % listing.tick):
            raise Refused(Refusal.PRICE)
        if amount * (listing.price if price is None else price) < listing.min_notional:
            raise Refused(Refusal.NOTIONAL)
        if post_only and price is not None and (price >= listing.ask if buys else price <= listing.bid):
            raise Refused(Refusal.WOULD_TAKE)

    def _taken(self, client_id: str) -> bool:
        same = self._by_client.get(client_id, [])
        return bool(same) if self.ids_forever else any(order.status is Status.OPEN for order in same)

    def _check_funds(self, order: Order) -> None:
        currency, amount = order.blocks()
        if order.market and order.buys:
            amount = order.amount * order.listing.ask
        if self.free(currency) < amount:
            raise Refused(Refusal.FUNDS)

    def cancel(self, order: Order | None) -> Order:
        """Take an open order off the book. Raises Refused."""
        if order is None or order.status is not Status.OPEN:
            raise Refused(Refusal.UNKNOWN)
        self._close(order, Status.CANCELED)
        return order

    def fill(self, order: Order, amount: Decimal | None = None, price: Decimal | None = None) -> Trade:
        """Let others trade with an open order: all that is left, or so much."""
        if order.status is not Status.OPEN:
            raise Refused(Refusal.UNKNOWN)
        amount = order.left if amount is None else amount
        price = price or order.price or order.listing.price
        self._trades += 1
        received, paid = (order.listing.base, order.listing.quote)
        gained, spent = amount, amount * price
        if not order.buys:
            received, paid, gained, spent = paid, received, spent, gained
        in_quote = self.fees_in_quote or not order.buys
        fee = ((amount * price if in_quote else amount) * self.fee).quantize(PENNY, ROUND_UP)
        trade = Trade(
            number=self._trades,
            price=price,
            amount=amount,
            fee=fee,
            fee_currency=order.listing.quote if in_quote else order.listing.base,
            maker=not order.market,
            at=self.now(),
        )
        self.funds[received] += gained
        self.funds[paid] -= spent
        self.funds[trade.fee_currency] -= fee
        order.trades.append(trade)
        self._block(order, -1)
        order.filled += amount
        self._block(order, 1)
        order.cost += amount * price
        order.updated = trade.at
        if not order.left:
            self._close(order, Status.FILLED)
        return trade

    def _close(self, order: Order, status: Status) -> None:
        self._block(order, -1)
        order.status = status
        order.updated = self.now()
        order.closed_at = self.clock.monotonic()

    # ---- reads --------------------------------------------------------------------------------------------

    def seen(self) -> Iterator[Order]:
        """The orders that lookups and lists show at present, oldest first."""
        return (order for order in self.orders if self.is_seen(order))

    def is_seen(self, order: Order) -> bool:
        """Whether lookups and lists show it at present."""
        now = self.clock.monotonic()
        forgotten = (
            self.canceled_kept is not None
            and order.status is Status.CANCELED
            and not order.filled
            and now - (order.closed_at or 0.0) > self.canceled_kept
        )
        return now >= order.visible_at and not forgotten

    def find(self, number: int) -> Order | None:
        """An order by its number, whether it is seen already or not."""
        return self.orders[number - 1] if 0 < number <= len(self.orders) else None

    def named(self, client_id: str) -> Order | None:
        """The newest order with this client id, among those that are seen."""
        seen = [order for order in self._by_client.get(client_id, []) if self.is_seen(order)]
        return seen[-1] if seen else None

    def resting(self, client_id: str) -> Order | None:
        """The open order with this client id, whether it is seen already or not: what a cancel finds."""
        same = self._by_client.get(client_id, [])
        return next((order for order in same if order.status is Status.OPEN), None)

    def blocked(self, currency: str) -> Decimal:
        """What open orders hold back."""
        return self._blocked.get(currency, ZERO)

    def _block(self, order: Order, sign: int) -> None:
        currency, amount = order.blocks()
        self._blocked[currency] += sign * amount

    def free(self, currency: str) -> Decimal:
        """What may be spent."""
        return self.funds.get(currency, ZERO) - self.blocked(currency)
