"""Answers of Nobitex taken apart: what one of them says, and nothing that it does not say."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from ...errors import ErrorCategory
from ..base import Accepted, ExchangeOrder, ExchangeTrade, OrderRef, Ticker, Unavailable, Unknown
from . import parsing
from .parsing import NotUnderstood
from .transport import Lost, Reply

PAGE_SIZE: Final = 100
"""Rows of a full page."""


def accepted(row: object, client_order_id: str) -> Accepted | Unknown:
    """An acknowledgement without an id acknowledges nothing."""
    try:
        order_id = parsing.identity(row.get("id") if isinstance(row, dict) else None, "id")
    except NotUnderstood:
        return Unknown(ErrorCategory.BAD_RESPONSE, "accepted, and no id")
    if isinstance(row, dict) and row.get("clientOrderId") not in (None, client_order_id):
        return Unknown(ErrorCategory.BAD_RESPONSE, "it acknowledged another order")
    # What else it says is not taken over: the documented sample names another side than was asked for.
    return Accepted(order_id)


def is_sorted(page: list[ExchangeOrder]) -> bool:
    """Whether ids only rise: a walk along them relies on it."""
    ids = [int(order.exchange_order_id) for order in page]
    return all(one < other for one, other in pairwise(ids))


def named(ref: OrderRef, key: str) -> dict[str, Any]:
    """How an order is named in a request: the exchange's id is a number there."""
    if ref.exchange_order_id is not None and ref.exchange_order_id.isdigit():
        return {key: int(ref.exchange_order_id)}
    return {"clientOrderId": ref.client_order_id}


def ticker(symbol: str, data: Mapping[str, Any]) -> Ticker:
    """Best prices of an order book. Raises NotUnderstood."""
    asks, bids = data.get("asks"), data.get("bids")
    last = parsing.number(data.get("lastTradePrice"), "lastTradePrice")
    return Ticker(symbol, _best(bids, last), _best(asks, last), last)


def _best(side: object, otherwise: Any) -> Any:
    if isinstance(side, list) and side and isinstance(side[0], list) and side[0]:
        return parsing.number(side[0][0], "price")
    return otherwise


def too_many(what: str) -> Unavailable:
    """Our own bound on pages: asking again will not help, and the exchange is not to blame."""
    return Unavailable(ErrorCategory.BAD_RESPONSE, what, local=True)


def trades(
    data: Mapping[str, Any], names: Mapping[str, str], symbol: str | None
) -> tuple[list[ExchangeTrade], bool]:
    """One page of trades, and whether there is another one. Raises NotUnderstood."""
    rows = data.get("trades")
    if not isinstance(rows, list):
        raise NotUnderstood("trades")
    # Trades without an order of their own (conversions, say) are nobody's fills.
    read = [parsing.trade(row, names, symbol) for row in rows if not _is_orderless(row)]
    more = data.get("hasNext")
    # Where it is not said, a full page has another one behind it.
    return read, bool(rows) if more is True else more is not False and len(rows) >= PAGE_SIZE


def _is_orderless(row: object) -> bool:
    return isinstance(row, dict) and "orderId" in row and row["orderId"] is None


def permissions(answer: Reply | Lost, public_key: str) -> tuple[str, ...]:
    """The permissions of one key among those listed; nothing where it is not listed."""
    keys = answer.data.get("keys") if isinstance(answer, Reply) and answer.data is not None else None
    for row in keys if isinstance(keys, list) else []:
        if isinstance(row, dict) and row.get("key") == public_key and isinstance(row.get("permissions"), str):
            return tuple(item.strip() for item in row["permissions"].split(","))
    return ()
