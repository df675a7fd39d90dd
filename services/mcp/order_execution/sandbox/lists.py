"""Lists of own orders and trades, with Nobitex's filters, orders of sorting and paging."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from ..paper_exchange.records import BookedOrder
from .calls import Call, Reply
from .house import House, bad_request, choice, currency, fits, whole
from .intents import EXECUTION_WORDS
from .shapes import Shapes
from .unthrottled import unthrottled

PAGE_MAX: Final = 1_000
TRADES_PAGE_MAX: Final = 100
TRADES_WINDOW: Final = timedelta(days=3)
NUMBER_MAX: Final = 2**62

_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS: Final = datetime(9000, 1, 1, tzinfo=UTC)

_STATUSES: Final[dict[str, Callable[[BookedOrder], bool]]] = {
    "all": lambda _: True,
    "open": lambda order: order.is_open,
    "done": lambda order: order.filled > 0,
    "close": lambda order: not order.is_open,
}
_KEYS: Final[dict[str, Callable[[BookedOrder], Any]]] = {
    "id": lambda order: order.id,
    "created_at": lambda order: (order.created_at, order.id),
    "price": lambda order: (order.price or Decimal(0), order.id),
}
_ORDERS: Final = tuple(sign + key for key in _KEYS for sign in ("", "-"))


class ListCounter:
    """Answers ``orders/list`` and ``trades/list``."""

    def __init__(self, house: House, shapes: Shapes) -> None:
        self._house = house
        self._shapes = shapes

    def orders(self, call: Call) -> Reply:
        """``GET /market/orders/list``: open orders only, and no ids, unless one asks for more."""
        query = call.query()
        status = choice(query, "status", tuple(_STATUSES), "open") or "open"
        detailed = choice(query, "details", ("1", "2"), "1") == "2"
        if "fromId" in query and "page" in query:
            raise bad_request("fromId and page cannot be combined")
        after = whole(query, "fromId", 0, 0, NUMBER_MAX)
        page, size = whole(query, "page", 1, 1, 10**6), whole(query, "pageSize", 100, 1, PAGE_MAX)
        chosen = [order for order in self._orders(query, status) if order.id > after]
        shown = _sorted(chosen, query)[(page - 1) * size : page * size]
        rows = [self._shapes.row(order, detailed=detailed) for order in shown]
        more = self._house.varied({}, {"hasNext": len(chosen) > page * size})
        return Reply({"status": "ok", "orders": rows, **more})

    def _orders(self, query: dict[str, str], status: str) -> Iterable[BookedOrder]:
        side = choice(query, "type", ("buy", "sell"))
        execution = choice(query, "execution", tuple(EXECUTION_WORDS))
        kind = None if execution is None else EXECUTION_WORDS[execution]
        src, dst = currency(query, "srcCurrency"), currency(query, "dstCurrency")
        if choice(query, "tradeType", ("spot", "margin")) == "margin":
            return
        for order in self._booked(closed_too=status != "open").values():
            known = self._house.markets.knows(order.symbol)
            if (
                known
                and _STATUSES[status](order)
                and (side is None or order.side.value == side)
                and (kind is None or order.type is kind)
                and fits(self._house.markets.by_symbol(order.symbol), src, dst)
            ):
                yield order

    def _booked(self, *, closed_too: bool) -> dict[int, BookedOrder]:
        """By id. Open ones are read first: what closes meanwhile is met again among the closed."""
        exchange, lag = self._house.exchange, self._house.lag
        reports = unthrottled(exchange.open_orders(lag=lag))
        if closed_too:
            reports += unthrottled(exchange.closed_orders(_EVER, _ALWAYS, lag=lag))
        return {report.order.id: report.order for report in reports}

    def trades(self, call: Call) -> Reply:
        """``GET /market/trades/list``: own trades of the last three days, newest first."""
        query = call.query()
        src, dst = currency(query, "srcCurrency"), currency(query, "dstCurrency")
        if (src is None) != (dst is None):
            raise bad_request("srcCurrency and dstCurrency: both or neither")
        least = whole(query, "fromId", 0, 0, NUMBER_MAX)
        page, size = whole(query, "page", 1, 1, 10**6), whole(query, "pageSize", 30, 1, TRADES_PAGE_MAX)
        found = unthrottled(self._house.exchange.trades(self._house.clock.now() - TRADES_WINDOW))
        markets = self._house.markets
        chosen = [
            trade
            for trade in found
            if trade.id >= least and markets.knows(trade.symbol) and fits(markets.by_symbol(trade.symbol), src, dst)
        ]
        chosen.reverse()
        shown = chosen[(page - 1) * size : page * size]
        more = len(chosen) > page * size
        return Reply({"status": "ok", "trades": [self._shapes.trade(trade) for trade in shown], "hasNext": more})


def _sorted(orders: list[BookedOrder], query: dict[str, str]) -> list[BookedOrder]:
    default = "-id" if "fromId" in query else {"buy": "-price", "sell": "price"}.get(query.get("type", ""))
    order = choice(query, "order", _ORDERS, default or "-created_at") or "-id"
    return sorted(orders, key=_KEYS[order.removeprefix("-")], reverse=order.startswith("-"))
