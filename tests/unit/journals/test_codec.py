"""Orders and events as bytes."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals.codec import (
    READERS,
    KeptOrder,
    clean_text,
    decode_event,
    decode_order,
    encode_event,
    encode_order,
    to_micros,
)
from services.mcp.order_execution.models import (
    NOTHING,
    Confirmation,
    EventKind,
    Fill,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Side,
    Step,
    TimeInForce,
)
from tests.contract.journals.stories import eventful, intent

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
money = st.decimals(allow_nan=False, allow_infinity=False)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])
moments = st.datetimes(timezones=zones).map(lambda at: at.replace(fold=0))  # means nothing in a fixed zone
fills = st.builds(Fill, text, money, money, money, text, moments)
confirmations = st.builds(Confirmation, st.sampled_from(Step), moments, st.booleans(), st.none() | text)
fees = st.just(NOTHING) | st.dictionaries(text, money).map(MappingProxyType)
orders = st.builds(
    Order,
    order_id=text,
    symbol=text,
    side=st.sampled_from(Side),
    type=st.sampled_from(OrderType),
    amount=money,
    created_at=moments,
    updated_at=moments,
    price=st.none() | money,
    stop_price=st.none() | money,
    time_in_force=st.sampled_from(TimeInForce),
    post_only=st.booleans(),
    state=st.sampled_from(OrderState),
    exchange_order_id=st.none() | text,
    filled=money,
    average_price=st.none() | money,
    fees=fees,
    fills=st.lists(fills, max_size=3).map(tuple),
    attempts=st.integers(0, 2**31),
    reason=st.none() | text,
    sent_at=st.none() | moments,
    confirmations=st.lists(confirmations, max_size=3).map(tuple),
    cancel_requested=st.booleans(),
    external=st.booleans(),
    restartable=st.booleans(),
    version=st.integers(0, 2**31),
)


@given(orders)
def test_any_order_comes_back_equal(order: Order) -> None:
    """Every field of every order survives, with its type, its digits and its exponent."""
    again = decode_order(encode_order(order))
    assert again == order
    assert repr(again) == repr(order)


@given(orders, st.sampled_from(EventKind), st.none() | fills, moments)
def test_any_event_comes_back_as_it_was_told(
    order: Order, kind: EventKind, fill: Fill | None, at: datetime
) -> None:
    """An event's body is ``to_dict`` again."""
    event = OrderEvent(order=order, kind=kind, previous=None, at=at, fill=fill)
    assert decode_event(encode_event(event)) == event.to_dict()


def test_no_field_of_an_order_is_forgotten() -> None:
    """A field added to ``Order`` must be given its reader."""
    assert set(READERS) == {field.name for field in fields(Order)}


def test_what_holds_its_default_is_not_written() -> None:
    """A record in which everything is said, as earlier versions wrote it, reads alike."""
    order = intent("o-1").order
    data = orjson.loads(encode_order(order))
    assert not {"fees", "fills", "filled", "restartable", "external", "reason", "stop_price"} & data.keys()
    everything = {**order.to_dict(), **data}
    del everything["remaining"]
    assert set(everything) == set(READERS)
    assert decode_order(orjson.dumps(everything)) == order


def test_an_event_that_says_everything_reads_alike() -> None:
    """As earlier versions wrote it, and in the same order of fields."""
    event = eventful("o-1")[0]
    assert decode_event(orjson.dumps(event.to_dict())) == event.to_dict()
    assert list(decode_event(encode_event(event))) == list(event.to_dict())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"17",
        b'"text"',
        b"{}",
        b'{"order_id":"o-1"}',
        b'{"order_id":"o-1","surprise":1}',
        encode_order(intent("o-1").order).replace(b"60000.10", b"sixty"),
        encode_order(intent("o-1").order).replace(b"sending", b"dreaming"),
        encode_order(eventful("o-1")[-1].order).replace(b"trade_id", b"trade"),
    ],
)
def test_what_is_no_record_is_said_to_be_damaged(body: bytes) -> None:
    """A record that cannot be read is an error that shows it, never a guess."""
    with pytest.raises(JournalError, match="cannot be read"):
        decode_order(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_what_is_no_event_is_said_to_be_damaged(body: bytes) -> None:
    """The same for events."""
    with pytest.raises(JournalError, match="an event of the journal"):
        decode_event(body)


def test_a_value_that_no_order_may_hold_is_refused() -> None:
    """A defect upstream is not written as something else."""
    wrong: Any = object()
    with pytest.raises(TypeError):
        encode_order(intent("o-1", reason=wrong).order)


def test_text_that_utf8_cannot_say_is_cleaned_everywhere() -> None:
    """Half a surrogate pair becomes a question mark in keys and lists too; sound text stays as it is."""
    order = eventful("o-1")[-1].order
    fill = Fill("t\udc00", Decimal(1), Decimal(1), Decimal(0), "B\udc00", order.created_at)
    dirty = intent("o-2", fills=(fill,), fees=MappingProxyType({"B\udc00": Decimal("1E-18")})).order
    clean = decode_order(encode_order(dirty))
    assert clean.fills[0].trade_id == "t?"
    assert clean.fees == {"B?": Decimal("1E-18")}
    assert clean_text("naïve 🚀") == "naïve 🚀"


@given(st.lists(moments, min_size=2))
def test_micros_sort_as_the_times_do(times: list[datetime]) -> None:
    """The column by which the journal sorts loses nothing, whatever the offset."""
    assert [to_micros(at) for at in sorted(times)] == sorted(to_micros(at) for at in times)
    assert len({to_micros(at) for at in times}) == len(set(times))


def test_a_kept_order_is_decoded_only_when_asked() -> None:
    """Its values are at hand before; what is no JSON is refused at once, what is no order when it is decoded."""
    order = intent("o-1").order
    body = encode_order(order)
    kept = KeptOrder(body, 7)
    assert kept.values["order_id"] == order.order_id
    assert kept.decode() == order
    assert kept.created == 7
    with pytest.raises(JournalError):
        KeptOrder(b"{", 0)
    with pytest.raises(JournalError):
        KeptOrder(b"[1]", 0).decode()
