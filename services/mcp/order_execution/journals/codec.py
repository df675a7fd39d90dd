"""Orders and events as bytes and back, field by field and exactly.

The text is JSON. Decimals are strings that keep every digit and the exponent; times are ISO 8601 with their
offset. A field that holds its default is not written; one that a record lacks takes it, so that new fields with a
default need no migration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

import orjson

from ..errors import JournalError
from ..models import (
    NOTHING,
    Confirmation,
    Fill,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Side,
    Step,
    TimeInForce,
    plain_decimal,
    to_plain,
)

_NO_EVENT: Final = MappingProxyType(
    dict.fromkeys(
        (
            *("order_id", "version", "kind", "at", "previous", "state"),
            *("exchange_order_id", "attempts", "filled", "reason", "fill", "detail"),
        )
    )
)
"""The fields of ``OrderEvent.to_dict()`` in their order: one that is nothing is not written."""
_GTC: Final = TimeInForce.GTC
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode_order(order: Order) -> bytes:
    """Write the record, less the fields that hold their default. Raises TypeError for what no order may hold."""
    data = _order_values(order)
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        # An exchange's words may hold half a surrogate pair, which UTF-8 cannot say.
        return orjson.dumps(_cleaned(to_plain(data)))


def _order_values(order: Order) -> dict[str, object]:
    """Field by field rather than by a loop: it is done for every change of every order."""
    data: dict[str, object] = {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "amount": str(order.amount),
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "state": order.state,
        "version": order.version,
    }
    if order.price is not None:
        data["price"] = str(order.price)
    if order.stop_price is not None:
        data["stop_price"] = str(order.stop_price)
    if order.time_in_force is not _GTC:
        data["time_in_force"] = order.time_in_force
    if order.exchange_order_id is not None:
        data["exchange_order_id"] = order.exchange_order_id
    if order.attempts:
        data["attempts"] = order.attempts
    if order.reason is not None:
        data["reason"] = order.reason
    if order.sent_at is not None:
        data["sent_at"] = order.sent_at
    return _with_progress(order, data)


def _with_progress(order: Order, data: dict[str, object]) -> dict[str, object]:
    """What has come of the order, as far as there is anything."""
    if order.confirmations:
        data["confirmations"] = [_confirmation_values(item) for item in order.confirmations]
    if (filled := str(order.filled)) != "0":
        data["filled"] = filled
    if order.average_price is not None:
        data["average_price"] = str(order.average_price)
    if order.fees:
        data["fees"] = {currency: str(fee) for currency, fee in order.fees.items()}
    if order.fills:
        data["fills"] = [_fill_values(fill) for fill in order.fills]
    for name in ("post_only", "cancel_requested", "external", "restartable"):
        if getattr(order, name):
            data[name] = True
    return data


def _confirmation_values(item: Confirmation) -> dict[str, object]:
    return {"step": item.step, "at": item.at, "ok": item.ok, "detail": item.detail}


def _fill_values(fill: Fill) -> dict[str, object]:
    return {
        "trade_id": fill.trade_id,
        "price": str(fill.price),
        "amount": str(fill.amount),
        "fee": str(fill.fee),
        "fee_currency": fill.fee_currency,
        "at": fill.at,
    }


def decode_order(body: bytes | str) -> Order:
    """Read a record. Raises JournalError when it is not one."""
    try:
        data = orjson.loads(body)
        return Order(**{name: _read_field(name, value) for name, value in data.items()})
    except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation) as error:
        raise JournalError(f"a record of the journal cannot be read ({error}): {body[:80]!r}") from error


class KeptOrder:
    """An order as the journal keeps it: ``values`` are its fields in JSON, ``decode()`` makes the record of them.

    A reconciliation mostly needs no more than a look at a few values; ``created`` is when the order was created, in
    microseconds. Raises JournalError for bytes that are no record.
    """

    __slots__ = ("_body", "created", "values")

    def __init__(self, body: bytes | str, created: int) -> None:
        self._body = body
        self.created = created
        try:
            values = orjson.loads(body)
        except ValueError as error:
            raise JournalError(f"a record of the journal cannot be read ({error}): {body[:80]!r}") from error
        self.values: Mapping[str, Any] = values if isinstance(values, dict) else {}

    def decode(self) -> Order:
        """The whole record. Raises JournalError when it is not one."""
        return decode_order(self._body)


def encode_event(event: OrderEvent) -> bytes:
    """Write the change alone, as ``OrderEvent.to_dict()`` gives it, less what is nothing."""
    order = event.order
    data: dict[str, object] = {
        "order_id": order.order_id,
        "version": order.version,
        "kind": event.kind,
        "at": event.at,
        "state": order.state,
        "attempts": order.attempts,
        "filled": plain_decimal(order.filled),
    }
    if event.previous is not None:
        data["previous"] = event.previous
    if order.exchange_order_id is not None:
        data["exchange_order_id"] = order.exchange_order_id
    if order.reason is not None:
        data["reason"] = order.reason
    if event.fill is not None:
        data["fill"] = event.fill.to_dict()
    if event.detail is not None:
        data["detail"] = event.detail
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        return orjson.dumps(_cleaned(to_plain(data)))


def decode_event(body: bytes | str) -> dict[str, object]:
    """Read a change back as ``OrderEvent.to_dict()`` gave it. Raises JournalError when it is not one."""
    try:
        data = orjson.loads(body)
    except ValueError as error:
        raise JournalError(f"an event of the journal cannot be read ({error}): {body[:80]!r}") from error
    if not isinstance(data, dict):
        raise JournalError(f"an event of the journal is not an object: {body[:80]!r}")
    return {**_NO_EVENT, **data}


def clean_text(text: str) -> str:
    """Replace what UTF-8 cannot say (half a surrogate pair) by a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def to_micros(at: datetime) -> int:
    """Microseconds since 1970 in UTC: exact, and sorts as the times do."""
    return (at - _EPOCH) // _MICROSECOND


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return value


def _same(value: Any) -> Any:
    return value


def _fees(data: dict[str, str]) -> Mapping[str, Decimal]:
    return MappingProxyType({name: Decimal(fee) for name, fee in data.items()}) if data else NOTHING


def _fills(data: list[dict[str, Any]]) -> tuple[Fill, ...]:
    return tuple(
        Fill(
            trade_id=item["trade_id"],
            price=Decimal(item["price"]),
            amount=Decimal(item["amount"]),
            fee=Decimal(item["fee"]),
            fee_currency=item["fee_currency"],
            at=datetime.fromisoformat(item["at"]),
        )
        for item in data
    )


def _confirmations(data: list[dict[str, Any]]) -> tuple[Confirmation, ...]:
    return tuple(
        Confirmation(Step(item["step"]), datetime.fromisoformat(item["at"]), item["ok"], item["detail"])
        for item in data
    )


def _read_field(name: str, value: Any) -> Any:
    return None if value is None else READERS[name](value)


READERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "order_id": _same,
        "symbol": _same,
        "side": Side,
        "type": OrderType,
        "amount": Decimal,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
        "price": Decimal,
        "stop_price": Decimal,
        "time_in_force": TimeInForce,
        "post_only": _same,
        "state": OrderState,
        "exchange_order_id": _same,
        "filled": Decimal,
        "average_price": Decimal,
        "fees": _fees,
        "fills": _fills,
        "attempts": _same,
        "reason": _same,
        "sent_at": datetime.fromisoformat,
        "confirmations": _confirmations,
        "cancel_requested": _same,
        "external": _same,
        "restartable": _same,
        "version": _same,
    }
)
"""How each field of an order is read back; a test holds it complete."""
