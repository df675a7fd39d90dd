"""An exchange without a row: nothing is taken for granted, and nothing is sent a second time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ...errors import ErrorCategory
from ..base import (
    Found,
    NotFound,
    OrderList,
    OrderRef,
    TradeList,
    Unavailable,
)
from . import classify, parsing
from .client_ids import IdForm, Remembered
from .parsing import NotUnderstood
from .transport import Trace, tracing

PLAIN: Final = IdForm(64, r"[A-Za-z0-9._:/-]+")
PAGE_SIZES: Final = frozenset({10, 20, 25, 30, 50, 100, 200, 250, 300, 500, 1000})
"""A list of exactly so many rows may be the first page of a longer one."""


def lost_promises(exchange: str) -> tuple[str, ...]:
    """What does not hold at an exchange without a row, in words for whoever configures it."""
    return (
        f"{exchange} has no row in the table of exchanges, so it is treated conservatively",
        "no client order id is sent: how this exchange keeps them apart is not known",
        "an order whose answer is lost is never sent again and stays unresolved: an alert asks a human to look",
        "limit orders alone are placed: what becomes of a market order here is not known",
        "closed orders and trades are not listed: orders are followed one by one, by the exchange's id",
    )


class ConservativeReader:
    """Asks by ccxt's unified methods, one order at a time."""

    def __init__(self, exchange: Any, ids: Remembered) -> None:
        self._exchange = exchange
        self._ids = ids

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look an order up by the exchange's id; by ours nothing is found here."""
        if ref.exchange_order_id is None:
            return NotFound()
        if not self._exchange.has.get("fetchOrder"):
            return await self._among_open(ref)
        with tracing(Trace()) as trace:
            try:
                told = await self._exchange.fetch_order(ref.exchange_order_id, ref.symbol)
                order = parsing.order(told, self._ids.decode)
            except NotUnderstood as error:
                return Unavailable(ErrorCategory.BAD_RESPONSE, f"not understood: {error}")
            except Exception as error:  # noqa: BLE001 - ccxt raises anything; the trace says what happened
                if classify.not_found(trace, None):
                    return NotFound()
                return classify.failed_read(trace, error, classify.NO_WORDING, documented=False)
        if order.exchange_order_id != ref.exchange_order_id:
            return Unavailable(ErrorCategory.BAD_RESPONSE, "it answered with another order")
        return Found(order)

    async def _among_open(self, ref: OrderRef) -> Found | Unavailable:
        listed = await self.open_orders(ref.symbol)
        if isinstance(listed, Unavailable):
            return listed
        for order in listed.orders:
            if order.exchange_order_id == ref.exchange_order_id:
                return Found(order)
        return Unavailable(ErrorCategory.BAD_RESPONSE, "it is not open, and this exchange tells no more of it")

    async def open_orders(self, symbol: str | None) -> OrderList | Unavailable:
        """All open orders, unless there may be more than the exchange has told."""
        if not self._exchange.has.get("fetchOpenOrders"):
            return Unavailable(ErrorCategory.INTERNAL, "ccxt cannot list open orders of this exchange")
        told = await self._exchange.fetch_open_orders(symbol)
        if not isinstance(told, list) or len(told) in PAGE_SIZES:
            return Unavailable(ErrorCategory.BAD_RESPONSE, "the list of open orders may not be complete")
        orders = parsing.each(told, lambda row: parsing.order(row, self._ids.decode))
        return OrderList(tuple(order for order in orders if not order.state.is_final))

    async def closed_orders(self, since: datetime, until: datetime, symbol: str | None) -> OrderList | Unavailable:
        """Not to be had: whether such a list is complete is not known."""
        return Unavailable(ErrorCategory.INTERNAL, "closed orders are not listed at an exchange without a row")

    async def trades(self, since: datetime, symbol: str | None) -> TradeList | Unavailable:
        """Not to be had, for the same reason."""
        return Unavailable(ErrorCategory.INTERNAL, "trades are not listed at an exchange without a row")
