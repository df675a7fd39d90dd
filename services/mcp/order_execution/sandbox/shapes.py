"""How orders and trades look in answers: the old and the newer samples of the documentation, quirks included.

With ``shapes = "varied"`` orders with odd ids take the old shape and those with even ids the new one.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from ..models import OrderState, OrderType, Side
from ..paper_exchange.records import BookedOrder, OrderReport, Trade, to_us
from .house import ANONYMOUS, House, plain
from .markets import NAMES, RIAL_SIGN, RIAL_WORD

EXECUTIONS: Final = {
    OrderType.LIMIT: "Limit",
    OrderType.MARKET: "Market",
    OrderType.STOP_LIMIT: "StopLimit",
    OrderType.STOP_MARKET: "StopMarket",
}
_UNIT: Final = Decimal("1e-10")
_STATUS: Final = {OrderState.FILLED: "Done", OrderState.CANCELED: "Canceled", OrderState.EXPIRED: "Canceled"}


class Shapes:
    """Renders what the exchange booked."""

    def __init__(self, house: House) -> None:
        self._house = house

    # ---- words --------------------------------------------------------------------------------------------

    def status(self, order: BookedOrder) -> str:
        """``New``, ``Active``, ``Inactive``, ``Done`` or ``Canceled``."""
        if not order.is_open:
            return _STATUS[order.state]
        if self.is_new(order):
            return "New"
        return "Inactive" if order.waiting else "Active"

    def is_new(self, order: BookedOrder) -> bool:
        """Whether an open order has not entered the book yet, as far as the outside is told."""
        age = self._house.clock.now() - order.created_at
        return order.is_open and age < timedelta(seconds=self._house.faults.new_seconds)

    def _old(self, order: BookedOrder) -> bool:
        mode = self._house.settings.shapes
        return mode == "old" or (mode == "varied" and order.id % 2 == 1)

    def _names(self, symbol: str, rial: str) -> dict[str, str]:
        info = self._house.markets.by_symbol(symbol)
        return {"srcCurrency": NAMES[info.src], "dstCurrency": rial if info.dst == "rls" else NAMES[info.dst]}

    # ---- single orders ------------------------------------------------------------------------------------

    def placed(self, order: BookedOrder) -> dict[str, Any]:
        """The order in the answer to ``orders/add``."""
        if not self._old(order) or order.stop_price is not None:
            return self._new(order)
        touched = order.filled > 0
        return {
            "type": order.side.value,
            **self._names(order.symbol, RIAL_WORD),
            "price": price_of(order),
            "amount": plain(order.amount),
            "totalPrice": f"{worth(order):.1f}",
            "matchedAmount": plain(order.filled) if touched else 0,
            "unmatchedAmount": plain(order.remaining),
            "id": order.id,
            "status": self.status(order),
            "partial": False,
            "fee": plain(order.fee) if touched else 0,
            "created_at": order.created_at.isoformat(timespec="microseconds"),
            "clientOrderId": client_id(order),
        }

    def looked_up(self, order: BookedOrder) -> dict[str, Any]:
        """The order in the answer to ``orders/status``; the old sample says ``isMyOrder: false`` of an own one."""
        if not self._old(order):
            return {**self._new(order), "isMyOrder": True}
        return {
            "unmatchedAmount": f"{order.remaining:.10f}",
            "fee": padded(order.fee),
            "matchedAmount": padded(order.filled),
            "partial": False,
            "price": "market" if order.type in MARKET_TYPES else f"{order.price or 0:.16f}",
            "created_at": order.created_at.isoformat(timespec="microseconds"),
            "id": order.id,
            **self._names(order.symbol, RIAL_SIGN),
            "totalPrice": f"{worth(order):.20f}",
            "type": order.side.value,
            "isMyOrder": False,
            "status": self.status(order),
            "amount": f"{order.amount:.10f}",
            "clientOrderId": client_id(order),
        }

    def canceled(self, order: BookedOrder) -> dict[str, Any]:
        """The order in the answer to ``orders/update-status``."""
        return self._new(order)

    def _new(self, order: BookedOrder) -> dict[str, Any]:
        stop = {} if order.stop_price is None else {"param1": plain(order.stop_price)}
        return {
            "id": order.id,
            "type": order.side.value,
            "execution": EXECUTIONS[order.type],
            "tradeType": "Spot",
            **self._names(order.symbol, RIAL_SIGN),
            "market": self._house.markets.by_symbol(order.symbol).market,
            "price": price_of(order),
            **stop,
            "amount": plain(order.amount),
            "totalPrice": plain(order.cost),
            "totalOrderPrice": plain(worth(order)),
            "matchedAmount": plain(order.filled),
            "unmatchedAmount": plain(order.remaining),
            "averagePrice": average(order),
            "status": self.status(order),
            "partial": 0 < order.filled < order.amount,
            "fee": plain(order.fee),
            "created_at": order.created_at.isoformat(timespec="microseconds"),
            "clientOrderId": client_id(order),
            **UNDOCUMENTED,
        }

    # ---- rows ---------------------------------------------------------------------------------------------

    def row(self, order: BookedOrder, *, detailed: bool) -> dict[str, Any]:
        """The order in ``orders/list``: without ``details=2`` it has no id."""
        row: dict[str, Any] = {
            "type": order.side.value,
            "execution": EXECUTIONS[order.type],
            **self._names(order.symbol, RIAL_SIGN),
            "price": price_of(order),
            "amount": plain(order.amount),
            "matchedAmount": padded(order.filled),
            "clientOrderId": client_id(order),
        }
        if order.stop_price is not None:
            row["param1"] = plain(order.stop_price)
        if not self._old(order):
            row |= {
                "tradeType": "Spot",
                "market": self._house.markets.by_symbol(order.symbol).market,
                **UNDOCUMENTED,
            }
        if detailed:
            row |= {
                "id": order.id,
                "status": self.status(order),
                "fee": padded(order.fee),
                "created_at": order.created_at.isoformat(timespec="microseconds"),
                "averagePrice": average(order),
            }
        return row

    def trade(self, trade: Trade) -> dict[str, Any]:
        """A trade in ``trades/list``."""
        return {
            "id": trade.id,
            "orderId": trade.order_id,
            **self._names(trade.symbol, RIAL_SIGN),
            "market": self._house.markets.by_symbol(trade.symbol).market,
            "timestamp": trade.at.isoformat(timespec="microseconds"),
            "type": trade.side.value,
            "price": plain(trade.price),
            "amount": plain(trade.amount),
            "total": plain(trade.price * trade.amount),
            "fee": plain(trade.fee),
        }

    # ---- events -------------------------------------------------------------------------------------------

    def order_event(self, report: OrderReport) -> dict[str, Any]:
        """What ``private:orders`` says of an order: other names, and codes for currencies."""
        order = report.order
        info = self._house.markets.by_symbol(order.symbol)
        last = report.trades[-1] if report.trades else None
        return {
            "amount": plain(order.amount),
            "avgFilledPrice": average(order),
            "clientOrderId": client_id(order),
            "dstCurrency": info.dst,
            "eventTime": to_us(self._house.clock.now()) // 1000,
            "fee": plain(order.fee),
            "filledAmount": plain(order.filled),
            "lastFillTime": None if last is None else to_us(last.at) // 1000,
            "marketType": "Spot",
            "orderId": order.id,
            "orderType": EXECUTIONS[order.type],
            "param1": None if order.stop_price is None else plain(order.stop_price),
            "price": None if order.type in MARKET_TYPES or order.price is None else plain(order.price),
            "side": "Buy" if order.side is Side.BUY else "Sell",
            "srcCurrency": info.src,
            "status": self.status(order),
            "tradeAmount": None if last is None else plain(last.amount),
            "tradeId": None if last is None else last.id,
            "tradePrice": None if last is None else plain(last.price),
        }

    def trade_event(self, trade: Trade) -> dict[str, Any]:
        """What ``private:trades`` says of a trade."""
        info = self._house.markets.by_symbol(trade.symbol)
        row = self.trade(trade)
        del row["market"]
        return {**row, "orderId": trade.order_id, "srcCurrency": info.src, "dstCurrency": info.dst}


UNDOCUMENTED: Final[dict[str, Any]] = {"tags": [], "leverage": None, "origin": {"channel": 7}}
"""Fields that no documentation knows: such may appear at any time, and are to be ignored."""

MARKET_TYPES: Final = frozenset({OrderType.MARKET, OrderType.STOP_MARKET})


def client_id(order: BookedOrder) -> str | None:
    """The caller's id, or None where it gave none."""
    return None if order.client_order_id.startswith(ANONYMOUS) else order.client_order_id


def price_of(order: BookedOrder) -> str:
    """The price, or the word ``market``."""
    return "market" if order.type in MARKET_TYPES or order.price is None else plain(order.price)


def worth(order: BookedOrder) -> Decimal:
    """The whole order's worth in the quote currency."""
    return order.amount * (order.price or order.stop_price or Decimal(0))


def average(order: BookedOrder) -> str:
    """The mean price of execution, ``0`` without one."""
    if not order.filled:
        return "0"
    return plain((order.cost / order.filled).quantize(_UNIT, ROUND_HALF_EVEN))


def padded(value: Decimal) -> str:
    """At least ten decimals, and nothing at all as ``0E-10``."""
    return max(f"{value:.10f}", plain(value), key=len) if value else "0E-10"
