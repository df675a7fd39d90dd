"""From Nobitex's rows to ours: tolerant of shapes, never of a number or state that is not understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

from ...models import NOTHING, ZERO, Fill, OrderState, OrderType, Side
from ..base import Balance, ExchangeOrder, ExchangeTrade
from . import symbols

_STATES: Final = MappingProxyType(
    {
        "new": OrderState.OPEN,
        "active": OrderState.OPEN,
        "inactive": OrderState.OPEN,
        "done": OrderState.FILLED,
        "canceled": OrderState.CANCELED,
    }
)
_TYPES: Final = MappingProxyType(
    {
        "limit": OrderType.LIMIT,
        "market": OrderType.MARKET,
        "stoplimit": OrderType.STOP_LIMIT,
        "stopmarket": OrderType.STOP_MARKET,
    }
)
DIGITS_MAX: Final = 28
"""Significant digits of a number: more than any market has, and all that decimal arithmetic keeps here."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_ID: Final = re.compile(r"[1-9][0-9]{0,29}")


class NotUnderstood(ValueError):
    """An answer has a shape that is not documented; nothing is made of it."""


def number(value: object, field: str) -> Decimal:
    """An exact number from text, int or Decimal; ``"0E-10"`` is 0. Raises NotUnderstood."""
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)) or len(str(value)) > 60:
        raise NotUnderstood(field)
    try:
        read = Decimal(str(value).strip())
    except InvalidOperation:
        raise NotUnderstood(field) from None
    if not read.is_finite() or read < 0 or read.adjusted() > 30 or read.adjusted() < -30:
        raise NotUnderstood(field)
    return _plain(read, field)


def _plain(read: Decimal, field: str) -> Decimal:
    """In plain notation, without zeros at its end, and never rounded. Raises NotUnderstood for too many digits."""
    text = format(read, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    if len(text.replace(".", "").strip("0")) > DIGITS_MAX:
        raise NotUnderstood(field)
    return Decimal(text) if read else ZERO


def optional(value: object, field: str) -> Decimal | None:
    """A number, or None for nothing, ``"market"`` and 0."""
    if value is None or value in ("", "market"):
        return None
    return number(value, field) or None


def moment(value: object, field: str) -> datetime:
    """ISO 8601, or milliseconds since 1970. Raises NotUnderstood."""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if isinstance(value, int) and not isinstance(value, bool):
            return _EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    raise NotUnderstood(field)


def identity(value: object, field: str) -> str:
    """An id, which is a whole number above 0 or its text. Raises NotUnderstood."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not _ID.fullmatch(str(value)):
        raise NotUnderstood(field)
    return str(value)


def _word(value: object, table: Mapping[str, Any], field: str) -> Any:
    key = value.lower().replace("_", "").replace("-", "") if isinstance(value, str) else None
    if key is None or key not in table:
        raise NotUnderstood(field)
    return table[key]


def _mapping(row: object, field: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise NotUnderstood(field)
    return row


def order(row: object, names: Mapping[str, str], symbol: str | None = None) -> ExchangeOrder:
    """One order. ``symbol``: what was asked for, where the row's own names are not known. Raises NotUnderstood."""
    told = _mapping(row, "order")
    side = Side(_word(told.get("type"), {"buy": "buy", "sell": "sell"}, "type"))
    market = _symbol(told, names, symbol)
    amount = number(told.get("amount"), "amount")
    matched = _matched(told, amount)
    state = _word(told.get("status"), _STATES, "status")
    if state is OrderState.OPEN and matched:
        state = OrderState.PARTIALLY_FILLED
    if matched > amount or (state is OrderState.FILLED and matched != amount):
        raise NotUnderstood("matchedAmount")
    client_id = told.get("clientOrderId")
    if client_id is not None and not (isinstance(client_id, str) and len(client_id) <= 64 and client_id.isascii()):
        raise NotUnderstood("clientOrderId")
    at = moment(told.get("created_at"), "created_at")
    fee = number(told.get("fee", 0) or 0, "fee")
    kind = _type(told)
    base, _, quote = market.partition("/")
    return ExchangeOrder(
        exchange_order_id=identity(told.get("id"), "id"),
        client_order_id=client_id or None,
        symbol=market,
        side=side,
        type=kind,
        amount=amount,
        price=None if kind in (OrderType.MARKET, OrderType.STOP_MARKET) else optional(told.get("price"), "price"),
        stop_price=optional(told.get("param1"), "param1"),
        state=state,
        filled=matched,
        average_price=_average(told.get("averagePrice")) if matched else None,
        fees=MappingProxyType({base if side is Side.BUY else quote: fee}) if fee else NOTHING,
        created_at=at,
        updated_at=at,
    )


def _average(value: object) -> Decimal | None:
    """A mean price; None where it is not told, or has digits without end: nothing is booked by it."""
    try:
        return optional(value, "averagePrice")
    except NotUnderstood:
        return None


def _matched(told: Mapping[str, Any], amount: Decimal) -> Decimal:
    """What traded: said, or what is left said. Neither is not 0: a cancelled order may have traded."""
    if "matchedAmount" in told:
        return number(told["matchedAmount"], "matchedAmount")
    left = number(told.get("unmatchedAmount"), "unmatchedAmount")
    if left > amount:
        raise NotUnderstood("unmatchedAmount")
    return amount - left


def _type(told: Mapping[str, Any]) -> OrderType:
    """The execution; old shapes leave it out, but say ``market`` for a price, and ``Inactive`` before a trigger."""
    if told.get("execution") is not None:
        kind: OrderType = _word(told["execution"], _TYPES, "execution")
        return kind
    at_market = told.get("price") == "market"
    if optional(told.get("param1"), "param1") is not None or str(told.get("status")).lower() == "inactive":
        return OrderType.STOP_MARKET if at_market else OrderType.STOP_LIMIT
    return OrderType.MARKET if at_market else OrderType.LIMIT


def _symbol(told: Mapping[str, Any], names: Mapping[str, str], asked: str | None) -> str:
    market = told.get("market")
    found = symbols.from_market(market) if isinstance(market, str) else None
    found = found or symbols.from_names(told.get("srcCurrency"), told.get("dstCurrency"), names) or asked
    if found is None:
        raise NotUnderstood("srcCurrency")
    return found


def trade(row: object, names: Mapping[str, str], symbol: str | None = None) -> ExchangeTrade:
    """One own trade. Its fee is in what was received. Raises NotUnderstood."""
    told = _mapping(row, "trade")
    side = Side(_word(told.get("type"), {"buy": "buy", "sell": "sell"}, "type"))
    market = _symbol(told, names, symbol)
    base, _, quote = market.partition("/")
    order_id = identity(told.get("orderId"), "orderId")
    fill = Fill(
        trade_id=f"{identity(told.get('id'), 'id')}-{order_id}",
        price=number(told.get("price"), "price"),
        amount=number(told.get("amount"), "amount"),
        fee=number(told.get("fee", 0) or 0, "fee"),
        fee_currency=base if side is Side.BUY else quote,
        at=moment(told.get("timestamp"), "timestamp"),
    )
    return ExchangeTrade(order_id, market, side, fill)


def wallets(data: Mapping[str, Any]) -> dict[str, Balance]:
    """Balances by currency. Raises NotUnderstood."""
    found = {}
    for code, row in _mapping(data.get("wallets"), "wallets").items():
        told = _mapping(row, "wallet")
        total, blocked = number(told.get("balance"), "balance"), number(told.get("blocked"), "blocked")
        found[symbols.currency(code)] = Balance(max(ZERO, total - blocked), blocked)
    return found


def event(data: object, names: Mapping[str, str]) -> ExchangeOrder:
    """One event of the private order stream, whose fields have other names. Raises NotUnderstood."""
    told = _mapping(data, "event")
    row = {
        "id": told.get("orderId"),
        "clientOrderId": told.get("clientOrderId"),
        "type": told.get("side"),
        "execution": told.get("orderType"),
        "srcCurrency": told.get("srcCurrency"),
        "dstCurrency": told.get("dstCurrency"),
        "price": told.get("price"),
        "amount": told.get("amount"),
        "matchedAmount": told.get("filledAmount"),
        "averagePrice": told.get("avgFilledPrice"),
        "fee": told.get("fee") or 0,
        "status": told.get("status"),
        "param1": told.get("param1"),
        "created_at": told.get("eventTime"),
    }
    known = {**names, **{code: code for code in (str(told.get("srcCurrency")).lower(),)}}
    return order(row, known)
