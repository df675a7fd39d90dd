"""The exchange's counter: every operation is one turn, and brings the exchange up to the present first.

Time passes lazily. There is no thread and no task: whoever comes next moves the prices on, matches what they set
off, and books the requests that were under way and have arrived meanwhile, each as of its own instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final, TypeVar

from ..clock import Clock
from ..models import Side
from .limits import Lane, Limits
from .market import USD_PRICES, Markets
from .records import (
    Account,
    BookedOrder,
    Depth,
    MarketRules,
    OrderReport,
    Quote,
    Refused,
    Throttled,
    Trade,
    to_us,
)
from .requests import CancelRequest, Request, decode, encode
from .schema import Character
from .settings import PaperSettings
from .store import Store
from .turn import Terms, Turn

MAX_IN_FLIGHT: Final = 10_000
"""Of more requests under way than these, the further ones are lost."""

T = TypeVar("T")


class PaperExchange:
    """One account on one exchange. All methods raise ExchangeDown where its file fails.

    Requests carry their age, the seconds since they were sent, and their expiry: older than that they are
    refused. Reads take ``lag``, the seconds that a new order stays hidden from them.
    """

    def __init__(self, settings: PaperSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._store = Store(settings.path)
        self._character = Character(settings.seed, settings.step_seconds, settings.volatility, settings.depth_usd)
        self._markets = Markets(settings.seed, volatility=settings.volatility, depth_usd=settings.depth_usd)
        self._terms = Terms(settings.maker_fee, settings.taker_fee, settings.client_ids, settings.lookup)
        self._limits = Limits(settings.rate_limits)

    def open(self) -> None:
        """Open the exchange's file. Raises ConfigurationError, or ExchangeDown while it is busy."""
        self._store.open(self._character, self._clock.now(), self._settings.balances)

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        self._store.close()

    # ---- requests -----------------------------------------------------------------------------------------

    def submit(
        self, request: Request, *, age: float = 0.0, expiry: float | None = None
    ) -> OrderReport | Refused | Throttled:
        """Place an order, or cancel one."""
        lane = Lane.CANCEL if isinstance(request, CancelRequest) else Lane.ORDER
        with self._turn() as turn:
            throttled = self._limits.admit(self._store, lane, turn.world.instant_us)
            if throttled is not None:
                return throttled
            answer = _carry_out(turn, request, age, expiry)
            return self._report(answer) if isinstance(answer, BookedOrder) else answer

    def submit_later(self, request: Request, *, delay: float, expiry: float | None = None) -> None:
        """Put a request on a way of ``delay`` seconds: it arrives whether or not its sender lives to see it."""
        with self._turn() as turn:
            if self._store.in_flight() < MAX_IN_FLIGHT:
                due = turn.world.instant_us + max(1, round(delay * 1e6))
                self._store.launch(due, delay, expiry, encode(request))

    # ---- reads --------------------------------------------------------------------------------------------

    def query(
        self, exchange_order_id: str | None, client_order_id: str, *, lag: float = 0.0
    ) -> OrderReport | Throttled | None:
        """One order, by the exchange's id where it is given, else by client id as far as those are looked up."""

        def read(turn: Turn) -> OrderReport | None:
            order = turn.find(exchange_order_id, client_order_id, _hidden_after(turn, lag))
            return None if order is None else self._report(order)

        return self._read(read)

    def open_orders(self, symbol: str | None = None, *, lag: float = 0.0) -> list[OrderReport] | Throttled:
        """All open orders, or those of one symbol."""
        return self._list("is_open = 1", (), symbol, lag)

    def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None, *, lag: float = 0.0
    ) -> list[OrderReport] | Throttled:
        """All closed orders that were created or closed in the period, both ends included."""
        condition = (  # two searches by index: an OR would scan all closed orders
            "id IN (SELECT id FROM orders WHERE is_open = 0 AND created_us BETWEEN ? AND ?"
            " UNION ALL SELECT id FROM orders WHERE is_open = 0 AND updated_us BETWEEN ? AND ?)"
        )
        period = (to_us(since), to_us(until))
        return self._list(condition, (*period, *period), symbol, lag)

    def _list(
        self, condition: str, parameters: tuple[object, ...], symbol: str | None, lag: float
    ) -> list[OrderReport] | Throttled:
        condition += " AND booked_us <= ?"
        last: tuple[object, ...] = ()
        if symbol is not None:
            condition += " AND symbol = ?"
            last = (symbol,)
        return self._read(lambda turn: self._reports(condition, (*parameters, _hidden_after(turn, lag), *last)))

    def trades(self, since: datetime, symbol: str | None = None) -> list[Trade] | Throttled:
        """All own trades since then, oldest first."""
        condition = "at_us >= ?" + ("" if symbol is None else " AND symbol = ?")
        parameters = (to_us(since), *(() if symbol is None else (symbol,)))
        return self._read(lambda _: self._store.trades(condition, parameters))

    def balances(self) -> Account | Throttled:
        """The account's funds, by currency. Common currencies are funded by being looked at."""

        def read(turn: Turn) -> Account:
            account = self._store.all_funds()
            missing = [currency for currency in USD_PRICES if currency not in account]
            if not (missing and turn.world.funds_at_will):
                return account
            self._fund(turn, *missing)
            return self._store.all_funds()

        return self._read(read)

    def quote(self, symbol: str) -> Quote | Throttled | None:
        """Present prices, or None where nothing trades under that name."""

        def read(turn: Turn) -> Quote | None:
            if self._markets.rules(symbol) is None:
                return None
            book = turn.book(symbol)
            last = self._markets.price(symbol, turn.world.step)
            return Quote(symbol, bid=book.best(Side.SELL), ask=book.best(Side.BUY), last=last)

        return self._read(read)

    def depth(self, symbol: str) -> Depth | Throttled | None:
        """What rests around the price now, own orders apart; None where nothing trades under that name."""

        def read(turn: Turn) -> Depth | None:
            if self._markets.rules(symbol) is None:
                return None
            book = turn.book(symbol)
            return Depth(symbol, bids=tuple(book.left(Side.SELL)), asks=tuple(book.left(Side.BUY)))

        return self._read(read)

    def rules(self, symbol: str) -> MarketRules | Throttled | None:
        """The rules of a symbol, or None where nothing trades under that name. Funds its currencies."""

        def read(turn: Turn) -> MarketRules | None:
            rules = self._markets.rules(symbol)
            if rules is not None:
                self._fund(turn, rules.base, rules.quote)
            return rules

        return self._read(read)

    def now(self) -> datetime | Throttled:
        """What the exchange takes for the present: the cheapest question there is."""
        return self._read(lambda turn: turn.wall())

    def all_orders(self) -> list[OrderReport]:
        """Every order that was ever booked, oldest first: the truth that tests and demos compare with."""
        with self._turn():
            return self._reports("1", ())

    # ---- inside -------------------------------------------------------------------------------------------

    def _read(self, read: Callable[[Turn], T]) -> T | Throttled:
        with self._turn() as turn:
            return self._limits.admit(self._store, Lane.READ, turn.world.instant_us) or read(turn)

    @staticmethod
    def _fund(turn: Turn, *currencies: str) -> None:
        if turn.world.funds_at_will:
            for currency in currencies:
                turn.ledger.funds(currency)
            turn.ledger.flush()

    def _report(self, order: BookedOrder) -> OrderReport:
        trades = self._store.trades("order_id = ?", (order.id,)) if order.filled else ()
        return OrderReport(order, tuple(trades))

    def _reports(self, condition: str, parameters: tuple[object, ...]) -> list[OrderReport]:
        return [self._report(order) for order in self._store.orders(condition, parameters)]

    @contextmanager
    def _turn(self) -> Iterator[Turn]:
        """Take the exchange, bring it up to the present, and give it back."""
        with self._store.transaction():
            world = self._store.world()
            now = to_us(self._clock.now()) + world.offset_us  # read while no other process can be ahead of it
            if now < world.instant_us:
                world.offset_us += world.instant_us - now
                now = world.instant_us
            turn = Turn(self._store, self._markets, self._terms, world, self._character.step_us)
            for due, age, expiry, request in self._store.land(now):
                self._advance(turn, due)
                _carry_out(turn, decode(request), age, expiry)
            self._advance(turn, now)
            yield turn
            turn.flush()

    def _advance(self, turn: Turn, instant_us: int) -> None:
        world = turn.world
        world.instant_us = max(world.instant_us, instant_us)
        step = (world.instant_us - world.origin_us) // self._character.step_us
        if step > world.step:
            turn.pass_to(step)


def _carry_out(turn: Turn, request: Request, age: float, expiry: float | None) -> BookedOrder | Refused:
    if expiry is not None and age > expiry:
        return Refused("request_expired")
    if not isinstance(request, CancelRequest):
        return turn.place(request)
    order = turn.find(request.exchange_order_id, request.client_order_id)
    if order is None:
        return Refused("order_not_found")
    return turn.cancel(order) if order.is_open else Refused("not_open")


def _hidden_after(turn: Turn, lag: float) -> int:
    """Orders that were booked later than this are not shown yet."""
    return turn.world.instant_us - round(lag * 1e6)
