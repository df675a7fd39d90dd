"""From ccxt's unified structures to our records: what is not told, or not understood, is not made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

from ...models import NOTHING, ZERO, Fill, OrderState, OrderType, Side, TimeInForce
from ..base import Balance, ExchangeOrder, ExchangeTrade, Market, Ticker

DIGITS_MAX: Final = 28
EXPONENT_MAX: Final = 30
NAME_MAX: Final = 64
FINEST: Final = Decimal("1E-18")
"""The step where an exchange states none."""
TICK_SIZE: Final = 4
DECIMAL_PLACES: Final = 2
_TEXT: Final = re.compile(r"[!-~]{1,128}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OVER: Final = (
    "canceled",
    "cancelled",
    # What ended an order at Gate, where ccxt does not know the word.
    "poc",
    "fok",
    "stp",
    "small",
    "depth_not_enough",
    "trader_not_enough",
    "liquidate_cancelled",
)
_FINAL: Final = MappingProxyType(
    {
        **dict.fromkeys(_OVER, OrderState.CANCELED),
        "expired": OrderState.EXPIRED,
        "rejected": OrderState.REJECTED,
    }
)
_OPEN: Final = frozenset(
    {
        "open",
        "new",
        "pending",
        "pending_new",
        "queued",
        "canceling",
        "cancel_queued",
        "edit_queued",
        "partially_filled",
    }
)
_ENDED_BY_RULE: Final = re.compile(r"(ioc|fillorkill|postonly) cancell?ed\b.*")
"""Bitfinex, where ccxt reads the first word alone."""

Decode = Callable[[str | None], str | None]
"""From the client id that an exchange shows to ours."""


class NotUnderstood(ValueError):
    """An answer has a shape that is not understood; nothing is made of it."""


def number(value: object, field: str, *, signed: bool = False) -> Decimal:
    """An exact number. Raises NotUnderstood for what is none, and for more digits than arithmetic here keeps."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)) or len(str(value)) > 80:
        raise NotUnderstood(field)
    try:
        read = Decimal(str(value).strip())
    except InvalidOperation:
        raise NotUnderstood(field) from None
    if not read.is_finite() or (read < 0 and not signed) or abs(read.adjusted()) > EXPONENT_MAX:
        raise NotUnderstood(field)
    return plain(read, field)


def plain(read: Decimal, field: str) -> Decimal:
    """In plain notation, without zeros at its end, and never rounded. Raises NotUnderstood for too many digits."""
    text = format(read, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    if len(text.lstrip("-").replace(".", "").strip("0")) > DIGITS_MAX:
        raise NotUnderstood(field)
    return Decimal(text) if read else ZERO


def optional(value: object, field: str) -> Decimal | None:
    """A number above 0; None for nothing and for 0."""
    return None if value is None or value == "" else number(value, field) or None


def moment(value: object, field: str) -> datetime:
    """Milliseconds since 1970. Raises NotUnderstood."""
    try:
        if isinstance(value, (int, str)) and not isinstance(value, bool) and int(value) > 0:
            return _EPOCH + timedelta(milliseconds=int(value))
    except (ValueError, OverflowError):
        pass
    raise NotUnderstood(field)


def name(value: object, field: str) -> str:
    """A symbol or a currency, in whatever script: some tokens have Chinese names. Raises NotUnderstood."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX or not value.isprintable():
        raise NotUnderstood(field)
    return value


def text(value: object, field: str) -> str:
    """An id: visible ASCII, and not too much of it. Raises NotUnderstood."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not _TEXT.fullmatch(str(value)):
        raise NotUnderstood(field)
    return str(value)


# ---- orders -----------------------------------------------------------------------------------------------


def order(told: Mapping[str, Any], decode: Decode) -> ExchangeOrder:
    """One order. Raises NotUnderstood."""
    filled = number(told.get("filled"), "filled")
    whole = number(told.get("amount"), "amount") if told.get("amount") is not None else None
    amount = filled if whole is None else whole
    if not amount or filled > amount:
        raise NotUnderstood("amount")
    state = _state(told.get("status"), filled, whole)
    created = moment(told.get("timestamp"), "timestamp")
    stop_price = optional(told.get("triggerPrice") or told.get("stopPrice"), "triggerPrice")
    kind = _type(told.get("type"), told.get("price"), stop_price)
    time_in_force = str(told.get("timeInForce") or "GTC").upper()
    return ExchangeOrder(
        exchange_order_id=text(told.get("id"), "id"),
        client_order_id=decode(told.get("clientOrderId")),
        symbol=name(told.get("symbol"), "symbol"),
        side=_side(told.get("side")),
        type=kind,
        amount=amount,
        price=optional(told.get("price"), "price") if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
        stop_price=stop_price,
        time_in_force=TimeInForce(time_in_force) if time_in_force in list(TimeInForce) else TimeInForce.GTC,
        post_only=told.get("postOnly") is True or time_in_force in ("PO", "GTX"),
        state=state,
        filled=filled,
        average_price=_average(told.get("average")) if filled else None,
        fees=fees(told),
        created_at=created,
        updated_at=_updated(told, created),
    )


def _state(status: object, filled: Decimal, amount: Decimal | None) -> OrderState:
    """The state; where the amount is not told, an order that was cancelled is not taken for one that was filled."""
    word = status.lower() if isinstance(status, str) else ""
    if word in _OPEN:
        return OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN
    if word == "closed":
        # Done, and not all of it traded: the rest never will.
        return OrderState.FILLED if amount is None or filled == amount else OrderState.CANCELED
    if _ENDED_BY_RULE.fullmatch(word):
        word = "canceled"
    if word in _FINAL:
        return OrderState.FILLED if filled == amount else _FINAL[word]
    raise NotUnderstood("status")


def _side(value: object) -> Side:
    word = value.lower() if isinstance(value, str) else value
    if word not in ("buy", "sell"):
        raise NotUnderstood("side")
    return Side(word)


def _type(value: object, price: object, stop_price: Decimal | None) -> OrderType:
    """The type, as far as words tell it; orders of types that we do not place are told by what they have."""
    word = value.lower() if isinstance(value, str) else ""
    if "market" in word:
        at_market = True
    elif "limit" in word:
        at_market = False
    else:
        at_market = price is None
    if stop_price is not None:
        return OrderType.STOP_MARKET if at_market else OrderType.STOP_LIMIT
    return OrderType.MARKET if at_market else OrderType.LIMIT


def _average(value: object) -> Decimal | None:
    """A mean price; None where it is not told, or has digits without end: nothing is booked by it."""
    try:
        return optional(value, "average")
    except NotUnderstood:
        return None


def fees(told: Mapping[str, Any]) -> Mapping[str, Decimal]:
    """Fees by currency, as far as they are told; one that is given back is negative."""
    listed = told.get("fees") or ([told["fee"]] if told.get("fee") else [])
    found: dict[str, Decimal] = {}
    for fee in listed if isinstance(listed, list) else []:
        if isinstance(fee, dict) and fee.get("cost") is not None and fee.get("currency"):
            currency = str(fee["currency"])
            found[currency] = found.get(currency, ZERO) + number(fee["cost"], "fee", signed=True)
    kept = {currency: cost for currency, cost in found.items() if cost}
    return MappingProxyType(kept) if kept else NOTHING


def _updated(told: Mapping[str, Any], created: datetime) -> datetime:
    for key in ("lastUpdateTimestamp", "lastTradeTimestamp"):
        if told.get(key):
            return max(created, moment(told[key], key))
    return created


def trade(told: Mapping[str, Any], decode: Decode) -> ExchangeTrade:
    """One own trade. Raises NotUnderstood."""
    fee = fees(told)
    if len(fee) > 1:
        raise NotUnderstood("fees")
    symbol = name(told.get("symbol"), "symbol")
    currency, cost = next(iter(fee.items()), (symbol.partition("/")[2], ZERO))
    fill = Fill(
        trade_id=text(told.get("id"), "id"),
        price=number(told.get("price"), "price"),
        amount=number(told.get("amount"), "amount"),
        fee=cost,
        fee_currency=currency,
        at=moment(told.get("timestamp"), "timestamp"),
    )
    shown = told.get("clientOrderId")
    return ExchangeTrade(
        text(told.get("order"), "order"),
        symbol,
        _side(told.get("side")),
        fill,
        decode(shown if isinstance(shown, str) else None),
    )


# ---- everything else --------------------------------------------------------------------------------------


def market(told: Mapping[str, Any], precision_mode: int) -> Market:
    """The rules of a market. Raises NotUnderstood."""
    precision = told.get("precision") or {}
    limits = told.get("limits") or {}
    amounts, costs = limits.get("amount") or {}, limits.get("cost") or {}
    return Market(
        symbol=name(told.get("symbol"), "symbol"),
        base=name(told.get("base"), "base"),
        quote=name(told.get("quote"), "quote"),
        price_tick=_step(precision.get("price"), precision_mode, price=True),
        amount_step=_step(precision.get("amount"), precision_mode, price=False),
        min_amount=optional(amounts.get("min"), "limits.amount.min") or ZERO,
        max_amount=optional(amounts.get("max"), "limits.amount.max"),
        min_notional=optional(costs.get("min"), "limits.cost.min") or ZERO,
    )


def _step(value: object, mode: int, *, price: bool) -> Decimal:
    """A precision as a step. Significant digits are no step: the gateway checks them with each order."""
    if value is None or value == "":
        return FINEST
    if mode == TICK_SIZE:
        return number(value, "precision") or FINEST
    if mode == DECIMAL_PLACES or not price:
        return plain(Decimal(1).scaleb(-int(number(value, "precision", signed=True))), "precision")
    return FINEST


def balances(told: Mapping[str, Any]) -> dict[str, Balance]:
    """Balances by currency. Raises NotUnderstood."""
    found = {}
    for code, row in told.items():
        if code in ("info", "free", "used", "total", "timestamp", "datetime", "debt") or not isinstance(row, dict):
            continue
        free, used, total = (row.get(key) for key in ("free", "used", "total"))
        if free is None and used is None and total is None:
            continue
        if free is None:
            free = number(total, "total", signed=True) - number(used or 0, "used")
        if used is None:
            used = ZERO if total is None else max(ZERO, number(total, "total", signed=True) - number(free, "free"))
        found[str(code)] = Balance(max(ZERO, number(free, "free", signed=True)), number(used, "used", signed=True))
    return found


def ticker(symbol: str, told: Mapping[str, Any]) -> Ticker:
    """Present prices; a side without an offer has the last price. Raises NotUnderstood."""
    last = optional(told.get("last"), "last") or optional(told.get("close"), "close")
    bid, ask = optional(told.get("bid"), "bid") or last, optional(told.get("ask"), "ask") or last
    if bid is None or ask is None:
        raise NotUnderstood("bid")
    return Ticker(symbol, bid, ask, last or bid)


def each(rows: Iterable[Any], read: Callable[[Any], Any]) -> list[Any]:
    """Read every row. Raises NotUnderstood for the first that is not understood, whatever ccxt raises for it."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except NotUnderstood:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # ccxt's parsers raise anything for a row of another shape.
            raise NotUnderstood(type(error).__name__) from None
    return found
