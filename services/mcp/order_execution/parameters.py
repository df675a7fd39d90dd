"""From what a caller passes to an exact request: every refusal names the field and what was expected."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, TypeVar

from .errors import InvalidOrder
from .models import OrderRequest, OrderType, Side, TimeInForce, make_request

MAX_DIGITS: Final = 28
"""Significant digits of an amount or price; more would be rounded by decimal arithmetic."""
MAX_EXPONENT: Final = 18
SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}(:[A-Z0-9]{1,20})?")
CLIENT_ORDER_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,64}")

_PLAIN_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,17}[1-9])?")
"""A number as it is meant to be written: no sign, no exponent, no zero too many, and within the limits."""

_IDS_AT_ONCE: Final = 400
_VERSION: Final = bytes(0x70 | byte & 0x0F for byte in range(256))
_VARIANT: Final = bytes(0x80 | byte & 0x3F for byte in range(256))
"""For each random byte what it becomes where a UUID says by what rules it is made."""
_KEYS: Final = (
    "symbol",
    "side",
    "type",
    "amount",
    "price",
    "stop_price",
    "time_in_force",
    "post_only",
    "client_order_id",
    "deadline_seconds",
)
_KNOWN_KEYS: Final = frozenset(_KEYS)
_TYPES: Final = {kind.value: kind for kind in OrderType} | {"stop": OrderType.STOP_MARKET}
_SIDES: Final = {side.value: side for side in Side}
_USUAL_TIME: Final = TimeInForce.GTC
_PRICED: Final = (OrderType.LIMIT, OrderType.STOP_LIMIT)
_STOPS: Final = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)

E = TypeVar("E", bound=StrEnum)


class OrderIds:
    """Makes ids that nobody has: 32 digits each, a UUID of version 7 without its dashes.

    The time stands first, so that what a journal keeps by id lies together for orders of one time: an entry among a
    million is as cheap as the first one. Nothing is ever read out of it. The system is asked for randomness once
    for many ids; a process that is forked off asks for its own.
    """

    def __init__(self) -> None:
        self._ends = ""
        self._used = 0
        self._process = 0

    def new(self, now: datetime) -> str:
        """The next one."""
        if self._used >= len(self._ends) or self._process != os.getpid():
            self._ends, self._used, self._process = _draw_ends(), 0, os.getpid()
        begin = self._used
        self._used = begin + 20
        millis = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
        return f"{millis:012x}{self._ends[begin : begin + 20]}"


def _draw_ends() -> str:
    """The last ten bytes of many ids, in hexadecimal."""
    drawn = bytearray(os.urandom(10 * _IDS_AT_ONCE))
    drawn[0::10] = drawn[0::10].translate(_VERSION)
    drawn[2::10] = drawn[2::10].translate(_VARIANT)
    return drawn.hex()


def check_order_id(order_id: object) -> None:
    """Refuse what cannot be an id: None of a call that failed, above all. Raises InvalidOrder."""
    if not isinstance(order_id, str):
        raise InvalidOrder("order_id", "a text, as execute_order returned it", got=order_id)


def parse_request(params: Mapping[str, Any], new_id: str) -> OrderRequest:
    """Validate ``order_params``; ``new_id`` is used where they carry no ``client_order_id``.

    Raises InvalidOrder.
    """
    if not (type(params) is dict and _KNOWN_KEYS.issuperset(params)):
        _check_keys(params)
    kind = _choice(OrderType, _TYPES, "type", params.get("type"))
    request = make_request(
        client_order_id=_client_order_id(params.get("client_order_id"), new_id),
        symbol=_symbol(params.get("symbol")),
        side=_choice(Side, _SIDES, "side", params.get("side")),
        type=kind,
        amount=parse_decimal("amount", params.get("amount")),
        price=_price("price", params.get("price"), kind, needed=kind in _PRICED),
        stop_price=_price("stop_price", params.get("stop_price"), kind, needed=kind in _STOPS),
        time_in_force=_time_in_force(params.get("time_in_force"), kind),
        post_only=_flag("post_only", params.get("post_only")),
    )
    if request.post_only and (kind is not OrderType.LIMIT or request.time_in_force is not TimeInForce.GTC):
        raise InvalidOrder("post_only", "a limit order with time_in_force GTC")
    return request


def _check_keys(params: object) -> None:
    if not isinstance(params, Mapping):
        raise InvalidOrder("order_params", "a mapping of order parameters", got=type(params).__name__)
    for key in params:
        if key not in _KEYS:
            raise InvalidOrder(str(key)[:40] or "order_params", f"no such parameter{_did_you_mean(str(key))}")


def parse_deadline(params: Mapping[str, Any], default: float) -> float:
    """Seconds that a call may take: ``deadline_seconds``, or the configured default."""
    value = params.get("deadline_seconds")
    if value is None:
        return default
    seconds = parse_decimal("deadline_seconds", value)
    if seconds > 86_400:
        raise InvalidOrder("deadline_seconds", "at most 86400 seconds", got=value)
    return float(seconds)


def parse_decimal(field: str, value: Any) -> Decimal:
    """Read a positive, exact decimal from str, int, float or Decimal; a float is read through ``str()``."""
    text = value if type(value) is str else _plain_text(value)
    if len(text) <= MAX_DIGITS and _PLAIN_NUMBER.fullmatch(text):
        number = Decimal(text)
        if number:
            return number  # just what the careful reading gives, and most numbers are written so
    return _parse_any(field, value)


def _plain_text(value: Any) -> str:
    """What a number of a plain type is written like; nothing where another kind of look is needed."""
    kind = type(value)
    if kind is Decimal or kind is float or (kind is int and value.bit_length() < 64):
        return str(value)
    return ""


def _parse_any(field: str, value: Any) -> Decimal:
    """Read whatever may be meant for a number, or say why it is none."""
    expected = "a positive number (str, int, float or Decimal)"
    if value is None or isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise InvalidOrder(field, expected, got=type(value).__name__ if value is not None else "nothing")
    if isinstance(value, int) and value.bit_length() > 128:
        raise InvalidOrder(field, f"at most {MAX_DIGITS} significant digits")
    text = str(value).strip()
    if len(text) > 100 or "_" in text:
        raise InvalidOrder(field, expected, got=text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise InvalidOrder(field, expected, got=text) from None
    if not number.is_finite():
        raise InvalidOrder(field, "a finite number", got=text)
    if number <= 0:
        raise InvalidOrder(field, "a number above zero", got=text)
    return _normal(field, number, text)


def _normal(field: str, number: Decimal, text: str) -> Decimal:
    """Strip trailing zeros, exactly, and refuse numbers that no exchange could mean."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise InvalidOrder(field, "a finite number", got=text)
    while len(digits) > 1 and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if len(digits) > MAX_DIGITS or (len(digits) + exponent > MAX_EXPONENT) or exponent < -MAX_EXPONENT:
        raise InvalidOrder(
            field,
            f"at most {MAX_DIGITS} digits, {MAX_EXPONENT} of them on either side of the point",
            got=text,
        )
    if exponent > 0:
        digits, exponent = digits + (0,) * exponent, 0
    return Decimal((sign, digits, exponent))


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not SYMBOL.fullmatch(value):
        raise InvalidOrder("symbol", 'a unified symbol such as "BTC/USD"', got=value)
    return value


def _choice(kind: type[E], names: Mapping[str, E], field: str, value: Any) -> E:
    chosen = names.get(value.lower()) if isinstance(value, str) else None
    if chosen is None:
        raise InvalidOrder(field, f"one of {', '.join(kind)}", got=value)
    return chosen


def _price(field: str, value: Any, kind: OrderType, *, needed: bool) -> Decimal | None:
    if value is None:
        if needed:
            raise InvalidOrder(field, f"a positive number, since a {kind} order needs one")
        return None
    if not needed:
        raise InvalidOrder(field, f"nothing, since a {kind} order has none", got=value)
    return parse_decimal(field, value)


def _time_in_force(value: Any, kind: OrderType) -> TimeInForce:
    if value is None:
        return _USUAL_TIME
    try:
        chosen = TimeInForce(value.upper() if isinstance(value, str) else value)
    except ValueError:
        raise InvalidOrder("time_in_force", f"one of {', '.join(TimeInForce)}", got=value) from None
    if kind in _STOPS and chosen is not TimeInForce.GTC:
        raise InvalidOrder("time_in_force", f"GTC, since a {kind} order waits for its trigger", got=value)
    return chosen


def _flag(field: str, value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidOrder(field, "True or False", got=value)
    return value


def _client_order_id(value: Any, new_id: str) -> str:
    if value is None:
        return new_id
    if not isinstance(value, str) or not CLIENT_ORDER_ID.fullmatch(value):
        raise InvalidOrder("client_order_id", "1 to 64 of the characters A-Z a-z 0-9 . _ : / -", got=value)
    return value


def _did_you_mean(key: str) -> str:
    close = difflib.get_close_matches(key, _KEYS, n=1)
    return f"; did you mean {close[0]!r}?" if close else f" (there are {', '.join(_KEYS)})"
