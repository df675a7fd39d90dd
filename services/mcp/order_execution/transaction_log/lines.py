"""What a record looks like in the transaction log: one JSON line, two for a fill, and no secret in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from ..models import Fill, OrderEvent, plain_decimal, to_plain
from ..redaction import Redactor
from .files import ERRORS, FILLS, ORDERS, day_of


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One error as it was reported."""

    at: datetime
    order_id: str | None
    phase: str
    error: str
    detail: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Note:
    """Something about an order that is no change of it: a phase, say."""

    at: datetime
    order_id: str
    kind: str
    detail: Mapping[str, object] | None
    stream: str


Record = OrderEvent | ErrorRecord | Note

Line = tuple[str, date, bytes]
"""A stream, the day (UTC) whose file the line belongs to, and the line without its end."""

_SHARED: Final = ("at", "order_id", "exchange_order_id", "kind", "state", "filled", "symbol", "side")
"""What the line of a fill tells of its order."""


class Lines:
    """Makes lines of records.

    Nearly all records are events in which nothing is to be hidden. Their values go to the encoder as they are,
    and the redactor looks at the finished line once. Only a line in which it may find something is made anew,
    value by value.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def of(self, record: Record) -> list[Line]:
        """The lines of one record. Raises AttributeError for what is none."""
        if isinstance(record, OrderEvent):
            return self._of_event(record)
        return [self._of_note(record) if isinstance(record, Note) else self._of_error(record)]

    def _of_event(self, event: OrderEvent) -> list[Line]:
        order, fill = event.order, event.fill
        about = {
            "order_id": order.order_id,
            "version": order.version,
            "kind": event.kind,
            "at": _time(event.at),
            "previous": event.previous,
            "state": order.state,
            "exchange_order_id": order.exchange_order_id,
            "attempts": order.attempts,
            "filled": _number(order.filled),
            "reason": order.reason,
            "fill": None if fill is None else _trade(fill),
            "detail": event.detail,
            "symbol": order.symbol,
            "side": order.side,
            "type": order.type,
            "amount": _number(order.amount),
            "price": None if order.price is None else _number(order.price),
        }
        # What others wrote, and where a secret may stand that is known by its surroundings alone.
        exchange_order_id, reason, detail = order.exchange_order_id or "", order.reason or "", event.detail or ""
        words = f"{order.order_id} {order.symbol} {exchange_order_id} {reason} {detail}"
        day = _day(event.at)
        if fill is None:
            return [(ORDERS, day, self._encoded(about, words))]
        words = f"{words} {fill.trade_id} {fill.fee_currency}"
        trade = _trade(fill)
        trade["traded_at"] = trade.pop("at")
        alone = {**{name: about[name] for name in _SHARED}, **trade}
        return [(ORDERS, day, self._encoded(about, words)), (FILLS, day, self._encoded(alone, words))]

    def _encoded(self, about: dict[str, Any], words: str) -> bytes:
        try:
            line = orjson.dumps(about)
        except orjson.JSONEncodeError:  # half a surrogate pair in an exchange's words: UTF-8 cannot say that
            pass
        else:
            if not self._redactor.suspects(line, words):
                return line
        return orjson.dumps(self._redactor.values(to_plain(about)))

    def _of_error(self, record: ErrorRecord) -> Line:
        about = {
            "at": record.at.isoformat(),
            "order_id": record.order_id,
            "kind": "error",
            "phase": record.phase,
            "error": record.error,
            "detail": record.detail,
        }
        return ERRORS, day_of(record.at), orjson.dumps(self._redactor.plain(about))

    def _of_note(self, record: Note) -> Line:
        note = {"at": record.at.isoformat(), "order_id": record.order_id, "kind": record.kind}
        # A fill stands as those from the exchange do, so that one reader serves both.
        detail = dict(record.detail or {}) if record.stream == FILLS else {"detail": record.detail}
        return record.stream, day_of(record.at), orjson.dumps(self._redactor.plain({**detail, **note}))


def _trade(fill: Fill) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "price": _number(fill.price),
        "amount": _number(fill.amount),
        "fee": _number(fill.fee),
        "fee_currency": fill.fee_currency,
        "at": _time(fill.at),
    }


def _number(value: Decimal) -> str:
    """``plain_decimal`` for less: only an exponent makes the two notations differ."""
    text = str(value)
    return plain_decimal(value) if "E" in text else text


def _time(at: datetime) -> datetime | str:
    """A time as the encoder takes it: it writes UTC as isoformat() does, much faster, but not every other zone."""
    return at if at.tzinfo is UTC else at.isoformat()


def _day(at: datetime) -> date:
    return at.date() if at.tzinfo is UTC else day_of(at)
