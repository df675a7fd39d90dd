"""The journal's text: whatever an order may hold comes back exactly, and what is no record is refused by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals.codec import (
    READERS,
    clean_text,
    decode_event,
    decode_order,
    encode_event,
    encode_order,
    to_micros,
)
from services.mcp.order_execution.models import (
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

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
torn_texts = st.text(st.one_of(st.characters(), st.sampled_from("\ud800\udfff")), max_size=12)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone
fills = st.builds(Fill, trade_id=texts, price=decimals, amount=decimals, fee=decimals, fee_currency=texts, at=times)
confirmations = st.builds(Confirmation, st.sampled_from(Step), times, st.booleans(), st.one_of(st.none(), texts))


def orders(words: st.SearchStrategy[str]) -> st.SearchStrategy[Order]:
    """Orders of which every field is arbitrary; the exchange's ``words`` are the only free text of its own."""
    return st.builds(
        Order,
        order_id=texts,
        symbol=texts,
        side=st.sampled_from(Side),
        type=st.sampled_from(OrderType),
        amount=decimals,
        created_at=times,
        updated_at=times,
        price=st.one_of(st.none(), decimals),
        stop_price=st.one_of(st.none(), decimals),
        time_in_force=st.sampled_from(TimeInForce),
        post_only=st.booleans(),
        state=st.sampled_from(OrderState),
        exchange_order_id=st.one_of(st.none(), texts),
        filled=decimals,
        average_price=st.one_of(st.none(), decimals),
        fees=st.dictionaries(texts, decimals, max_size=3).map(MappingProxyType),
        fills=st.lists(fills, max_size=3).map(tuple),
        attempts=st.integers(0, 2**53),
        reason=st.one_of(st.none(), words),
        sent_at=st.one_of(st.none(), times),
        confirmations=st.lists(confirmations, max_size=3).map(tuple),
        cancel_requested=st.booleans(),
        external=st.booleans(),
        restartable=st.booleans(),
        version=st.integers(0, 2**53),
    )


SIMPLE = Order(
    order_id="o", symbol="A/B", side=Side.BUY, type=OrderType.MARKET, amount=Decimal("1.10"),
    created_at=datetime(2026, 1, 1, tzinfo=UTC), updated_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


def _numbers(order: Order) -> list[Decimal | None]:
    trades = [number for fill in order.fills for number in (fill.price, fill.amount, fill.fee)]
    return [order.amount, order.price, order.stop_price, order.filled, order.average_price, *trades]


@given(order=orders(texts))
def test_an_order_comes_back_exactly(order: Order) -> None:
    """Every field, and of every decimal each digit and the exponent: 1.10 is not 1.1 in the journal."""
    back = decode_order(encode_order(order))
    assert back == order
    assert list(map(repr, _numbers(back))) == list(map(repr, _numbers(order)))
    assert {name: repr(fee) for name, fee in back.fees.items()} == {
        name: repr(fee) for name, fee in order.fees.items()
    }


@given(order=orders(torn_texts))
@example(order=replace(SIMPLE, reason="half \ud800"))
def test_half_a_surrogate_pair_costs_one_character_and_not_the_record(order: Order) -> None:
    """The words are cleaned; all else stays equal in value."""
    back = decode_order(encode_order(order))
    assert back.reason == (None if order.reason is None else clean_text(order.reason))
    assert (back.order_id, back.state, back.filled, back.fills, back.version) == (
        order.order_id, order.state, order.filled, order.fills, order.version
    )  # fmt: skip


@given(
    order=orders(texts),
    kind=st.sampled_from(EventKind),
    previous=st.one_of(st.none(), st.sampled_from(OrderState)),
    at=times,
    fill=st.one_of(st.none(), fills),
    detail=st.one_of(st.none(), torn_texts),
)
def test_an_event_comes_back_as_it_was_told(
    order: Order, kind: EventKind, previous: OrderState | None, at: datetime, fill: Fill | None, detail: str | None
) -> None:
    """Only the words may change, and only where UTF-8 cannot say them."""
    event = OrderEvent(order, kind, previous, at, fill, detail)
    told = event.to_dict()
    told["detail"] = None if detail is None else clean_text(detail)
    assert decode_event(encode_event(event)) == told


@given(body=st.one_of(st.binary(max_size=40), st.text(max_size=40)))
def test_what_is_no_record_is_a_journal_error(body: bytes | str) -> None:
    """A torn or foreign record never ends in another exception."""
    for decode in (decode_order, decode_event):
        try:
            decode(body)
        except JournalError as error:
            assert "cannot be read" in str(error) or "is not an object" in str(error)
        else:
            assert decode is decode_event
            assert isinstance(orjson.loads(body), dict)


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=4,
)


@given(order=orders(texts), name=st.sampled_from(sorted(READERS)), value=plain)
@example(order=SIMPLE, name="amount", value="no number")
def test_a_record_with_one_wrong_field_is_read_or_refused(order: Order, name: str, value: object) -> None:
    """Never an exception that is not the journal's."""
    data = {**orjson.loads(encode_order(order)), name: value}
    try:
        decode_order(orjson.dumps(data))
    except JournalError as error:
        assert "cannot be read" in str(error)


@given(first=times, later=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9_000)))
def test_microseconds_sort_as_times_do(first: datetime, later: timedelta) -> None:
    """Exactly, and without a float between."""
    assert to_micros(first + later) - to_micros(first) == later // timedelta(microseconds=1)
