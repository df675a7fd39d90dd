"""Orders and events as bytes and back, field by field and exactly.

The text is JSON. Decimals are strings that keep every digit and the exponent; times are ISO 8601 with their
offset. A field that an older record lacks takes its default, so fields with a default need no migration.
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
    to_plain,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def encode_order(order: Order) -> bytes:
    """Write the whole record. Raises TypeError for a value that no order may hold."""
    try:
        return orjson.dumps(order, default=_plain)
    except orjson.JSONEncodeError:
        # An exchange's words may hold half a surrogate pair, which UTF-8 cannot say.
        return orjson.dumps(_cleaned(to_plain(order)))


def decode_order(body: bytes | str) -> Order:
    """Read a record. Raises JournalError when it is not one."""
    try:
        data = orjson.loads(body)
        return Order(**{name: _read_field(name, value) for name, value in data.items()})
    except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation) as error:
        raise JournalError(f"a record of the journal cannot be read ({error}): {body[:80]!r}") from error


class KeptOrder:
    """An order as the journal keeps it: ``values`` are its fields in JSON, ``decode()`` makes the record of them.

    A reconciliation mostly needs no more than a look at a few values. Raises JournalError for bytes
    that are no record.
    """

    __slots__ = ("_body", "values")

    def __init__(self, body: bytes | str) -> None:
        self._body = body
        try:
            values = orjson.loads(body)
        except ValueError as error:
            raise JournalError(f"a record of the journal cannot be read ({error}): {body[:80]!r}") from error
        self.values: Mapping[str, Any] = values if isinstance(values, dict) else {}

    @property
    def created_at(self) -> datetime:
        """When the order was created. Raises JournalError when that is not told."""
        try:
            return datetime.fromisoformat(self.values["created_at"])
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(f"a record of the journal has no time: {self._body[:80]!r}") from error

    def decode(self) -> Order:
        """The whole record. Raises JournalError when it is not one."""
        return decode_order(self._body)


def encode_event(event: OrderEvent) -> bytes:
    """Write the change alone, as ``OrderEvent.to_dict()`` gives it."""
    data = event.to_dict()
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        return orjson.dumps(_cleaned(data))


def decode_event(body: bytes | str) -> dict[str, object]:
    """Read a change back as the dictionary that was written. Raises JournalError when it is not one."""
    try:
        data = orjson.loads(body)
    except ValueError as error:
        raise JournalError(f"an event of the journal cannot be read ({error}): {body[:80]!r}") from error
    if not isinstance(data, dict):
        raise JournalError(f"an event of the journal is not an object: {body[:80]!r}")
    return data


def clean_text(text: str) -> str:
    """Replace what UTF-8 cannot say (half a surrogate pair) by a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def to_micros(at: datetime) -> int:
    """Microseconds since 1970 in UTC: exact, and sorts as the times do."""
    return (at - _EPOCH) // _MICROSECOND


def _plain(value: object) -> object:
    """Tell orjson how to write what it does not know."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"an order cannot hold a {type(value).__name__}")


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
