"""Reads of an exchange that has a row: lookups and lists, each complete for what was asked or Unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from ...errors import ErrorCategory
from ..base import (
    ExchangeOrder,
    ExchangeTrade,
    Found,
    ListScope,
    NotFound,
    OrderList,
    OrderRef,
    TradeList,
    Unavailable,
)
from . import classify, parsing
from .client_ids import Remembered
from .listing import Ask, TooMuch, lookup_params, rows_of, walk
from .parsing import NotUnderstood
from .row import ListCall, Lookup, Row
from .transport import Trace, tracing

R = TypeVar("R")
AHEAD: Final = timedelta(hours=1)
"""How far into the future lists by time are asked for: clocks differ."""
UNSENT_LOOKBACK: Final = timedelta(days=1)
_TOO_OLD: Final = Unavailable(
    ErrorCategory.BAD_RESPONSE, "it is older than what the exchange surely finds by client id", local=True
)


async def guarded(row: Row | None, ask: Callable[[], Awaitable[R]]) -> R | Unavailable:
    """Make a read; whatever is no answer, or not understood, is Unavailable."""
    with tracing(Trace()) as trace:
        try:
            return await ask()
        except TooMuch as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, str(error), local=True)
        except NotUnderstood as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, f"not understood: {error}")
        except Exception as error:  # noqa: BLE001 - ccxt raises anything; the trace says what happened
            wording = classify.NO_WORDING if row is None else row.wording
            return classify.failed_read(trace, error, wording, documented=row is not None)


class Reader:
    """Asks one exchange, through ccxt's implicit methods, and reads its rows by ccxt's parsers."""

    def __init__(self, row: Row, exchange: Any, ids: Remembered, now: Callable[[], datetime]) -> None:
        self._row = row
        self._exchange = exchange
        self._ids = ids
        self._now = now
        """By the exchange's clock."""

    async def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        return await getattr(self._exchange, method)(dict(params))

    def _market_of(self, told: Any) -> Any:
        """Find ccxt's market of a row: a market's id alone may be that of a spot and of another market."""
        key = self._row.market_key
        market_id = classify.at(told, key) if key else None
        for market in self._exchange.markets_by_id.get(market_id, ()) if isinstance(market_id, str) else ():
            if market.get("spot"):
                return market
        return None

    def _order(self, told: Any) -> ExchangeOrder:
        return parsing.order(
            self._exchange.parse_order(self._wrapped(told), self._market_of(told)), self._ids.decode
        )

    def _trade(self, told: Any) -> ExchangeTrade:
        return parsing.trade(
            self._exchange.parse_trade(self._wrapped(told), self._market_of(told)), self._ids.decode
        )

    def _wrapped(self, told: Any) -> Any:
        return told if self._row.wrap is None else {self._row.wrap: told}

    # ---- one order ----------------------------------------------------------------------------------------

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look one order up. NotFound: every place that there is has said so, and an order as old is there."""
        asked = False
        for lookup in self._row.lookups:
            name = lookup.by_exchange_id if ref.exchange_order_id is not None else lookup.by_client_id
            if name is None:
                continue
            asked = True
            params = lookup_params(lookup, self._exchange.market(ref.symbol)["id"], name, self._wanted(ref))
            answer = await self._look(lookup, params, ref)
            if not isinstance(answer, NotFound):
                return answer
        if ref.exchange_order_id is not None:
            older = asked and self._row.scan_seconds is not None and self._is_older(ref, self._row.lookup_memory)
            return await self._scan(ref) if older else NotFound()
        # An old order that rests is found by most lookups: only that they do not find it proves nothing.
        return await self._scan(ref) if not asked or self._is_older(ref, self._row.lookup_memory) else NotFound()

    def _wanted(self, ref: OrderRef) -> str | int:
        """The id of the order, as the exchange has it."""
        if ref.exchange_order_id is not None:
            return ref.exchange_order_id
        sent_as = self._ids.encode(ref.client_order_id)
        return int(sent_as) if self._row.numeric_id else sent_as

    def _is_older(self, ref: OrderRef, memory: float | None) -> bool:
        """Whether the order is older than so many seconds."""
        return (
            memory is not None and ref.sent_at is not None and self._now() - ref.sent_at > timedelta(seconds=memory)
        )

    async def _look(
        self, lookup: Lookup, params: Mapping[str, Any], ref: OrderRef
    ) -> Found | NotFound | Unavailable:
        row = self._row
        with tracing(Trace()) as trace:
            try:
                answer = await self._ask(lookup.method, params)
                seen = self._seen(lookup, answer)
            except NotUnderstood as error:
                return Unavailable(ErrorCategory.BAD_RESPONSE, f"not understood: {error}")
            except Exception as error:  # noqa: BLE001 - ccxt raises anything; the trace says what happened
                if classify.not_found(trace, row):
                    return NotFound()
                return classify.failed_read(trace, error, row.wording, documented=True)
        matching = [order for order in seen if _is(order, ref)]
        if matching:
            return Found(max(matching, key=lambda order: (not order.state.is_final, order.created_at)))
        if lookup.listed and not seen:
            return NotFound()
        return Unavailable(ErrorCategory.BAD_RESPONSE, "it answered with another order")

    def _seen(self, lookup: Lookup, answer: Any) -> list[ExchangeOrder]:
        found = classify.at(answer, lookup.rows)
        if isinstance(found, dict) and not lookup.keyed:
            told: list[Any] = [found]
        else:
            told = rows_of(answer, lookup.rows, keyed=lookup.keyed)
        return parsing.each(told, self._order)

    async def _scan(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Search the lists, open orders first: an order can leave them for the closed ones, never return.

        Only rows that mention the id are read, and those of every state: what others placed, and what no longer is
        in one list nor yet final in the other, must not keep the order from being found.
        """
        seconds = self._row.scan_seconds
        if seconds is None:
            return _TOO_OLD
        now = self._now()
        since = min(ref.sent_at or now - UNSENT_LOOKBACK, now) - timedelta(seconds=seconds)
        for calls, start, end in (
            ((self._row.open_orders,), None, None),
            (self._row.closed_orders, since, now + AHEAD),
        ):
            rows = await self._rows(calls, ref.symbol, start, end)
            if isinstance(rows, Unavailable):
                return rows
            answer = self._among(rows, ref)
            if not isinstance(answer, NotFound):
                return answer
        return _TOO_OLD if self._is_older(ref, self._row.scan_memory) else NotFound()

    def _among(self, rows: Iterable[Any], ref: OrderRef) -> Found | NotFound | Unavailable:
        """The order among these rows. Unavailable: a row that has its id is not understood, or is another order."""
        mine = [row for row in rows if classify.mentions(row, {str(self._wanted(ref))})]
        if not mine:
            return NotFound()
        try:
            orders = parsing.each(mine, self._order)
        except NotUnderstood as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, f"an order is not understood: {error}")
        seen = {order.exchange_order_id: order for order in orders if _is(order, ref)}
        if not seen:
            return Unavailable(ErrorCategory.BAD_RESPONSE, "another order names its id")
        placed = [order for order in seen.values() if order.filled or not order.state.is_final]
        if len(placed) > 1:
            words = f"the exchange has several orders under its id: {', '.join(sorted(seen))}"
            return Unavailable(ErrorCategory.BAD_RESPONSE, words, local=True)
        return Found(placed[0] if placed else max(seen.values(), key=lambda order: order.created_at))

    # ---- lists --------------------------------------------------------------------------------------------

    async def open_orders(self, symbol: str | None) -> OrderList | Unavailable:
        """All open orders."""
        listed = await self._orders((self._row.open_orders,), symbol, None, None)
        if isinstance(listed, Unavailable):
            return listed
        rest = tuple(order for order in listed if not order.state.is_final)
        return OrderList(rest, tells_client_ids=self._ids.tells)

    async def closed_orders(self, since: datetime, until: datetime, symbol: str | None) -> OrderList | Unavailable:
        """Final orders that were created in the period, or of whose end the exchange tells that it was in it."""
        listed = await self._orders(self._row.closed_orders, symbol, since, until)
        if isinstance(listed, Unavailable):
            return listed
        within = (
            order
            for order in listed
            if order.state.is_final and (since <= order.created_at < until or since <= order.updated_at < until)
        )
        return OrderList(tuple(within), tells_client_ids=self._ids.tells)

    async def _orders(
        self, calls: Iterable[ListCall], symbol: str | None, since: datetime | None, until: datetime | None
    ) -> list[ExchangeOrder] | Unavailable:
        rows = await self._rows(calls, symbol, since, until)
        if isinstance(rows, Unavailable):
            return rows
        try:
            orders = parsing.each(rows, self._order)
        except NotUnderstood as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, f"an order is not understood: {error}")
        return _chosen({order.exchange_order_id: order for order in orders}, symbol)

    async def trades(self, since: datetime, symbol: str | None) -> TradeList | Unavailable:
        """All own trades since then."""
        rows = await self._rows(self._row.trades, symbol, since, self._now() + AHEAD)
        if isinstance(rows, Unavailable):
            return rows
        try:
            trades = parsing.each(rows, self._trade)
        except NotUnderstood as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, f"a trade is not understood: {error}")
        chosen = _chosen({(trade.exchange_order_id, trade.fill.trade_id): trade for trade in trades}, symbol)
        return TradeList(tuple(trade for trade in chosen if trade.fill.at >= since))

    async def _rows(
        self, calls: Iterable[ListCall], symbol: str | None, since: datetime | None, until: datetime | None
    ) -> list[Any] | Unavailable:
        if symbol is None and self._row.list_scope is ListScope.SYMBOL:
            return Unavailable(ErrorCategory.INTERNAL, f"{self._row.name} lists one symbol at a time", local=True)
        market_id = None if symbol is None else self._exchange.market(symbol)["id"]
        if until is not None:
            until = min(until, self._now() + AHEAD)

        call = next((call for call in calls if self._reaches(call, since)), None)
        if call is None:
            words = f"{self._row.name} lists nothing so old any more"
            return Unavailable(ErrorCategory.BAD_RESPONSE, words, local=True)
        return await guarded(self._row, lambda: walk(self._paced(), call, market_id, since, until))

    def _paced(self) -> Ask:
        """Ask for the pages of one list: as many as may come at once, then no faster than is documented."""
        rates, asked = self._row.rates, 0

        async def ask(method: str, params: Mapping[str, Any]) -> Any:
            nonlocal asked
            asked += 1
            if asked > rates.burst and rates.reads is not None:
                await asyncio.sleep(1.0 / rates.reads)
            return await self._ask(method, params)

        return ask

    def _reaches(self, call: ListCall, since: datetime | None) -> bool:
        if call.memory is None or since is None:
            return True
        return self._now() - since <= timedelta(seconds=call.memory)


def _is(order: ExchangeOrder, ref: OrderRef) -> bool:
    """Whether this is the order that was asked for."""
    if ref.exchange_order_id is not None:
        return order.exchange_order_id == ref.exchange_order_id
    return order.client_order_id == ref.client_order_id


T = TypeVar("T", ExchangeOrder, ExchangeTrade)


def _chosen(found: Mapping[Any, T], symbol: str | None) -> list[T]:
    """Each once, and those of the symbol alone where one was asked for."""
    return [item for item in found.values() if symbol is None or item.symbol == symbol]
