"""The lines of the log, byte for byte: tools read them, so what makes them may change but they may not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import (
    EventKind,
    Fill,
    Order,
    OrderEvent,
    OrderState,
    OrderType,
    Side,
    plain_decimal,
)
from services.mcp.order_execution.redaction import MASK, Redactor
from services.mcp.order_execution.transaction_log import TransactionLog
from services.mcp.order_execution.transaction_log.lines import Lines

AT = datetime(2026, 1, 31, 12, 0, 0, 331, tzinfo=UTC)
TEHRAN = timezone(timedelta(hours=3, minutes=30))
SECRET = 'hunter2"\\/é'
FILL = Fill("t1", Decimal("50000.5"), Decimal("4E-8"), Decimal("0.001"), "USD", AT - timedelta(seconds=3))


class FixedClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return AT

    def monotonic(self) -> float:
        return 0.0


def order_of(**changes: Any) -> Order:
    order = Order(
        order_id="a1",
        symbol="BTC/USD",
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=Decimal("0.10"),
        price=Decimal("5E+4"),
        created_at=AT,
        updated_at=AT,
        state=OrderState.OPEN,
        exchange_order_id="X7",
        attempts=1,
        version=2,
    )
    return replace(order, **changes)


def event_of(kind: EventKind = EventKind.ACCEPTED, **more: Any) -> OrderEvent:
    changes = more.pop("order", {})
    more = {"previous": OrderState.SENDING, "at": AT, **more}
    return OrderEvent(order_of(**changes), kind, **more)


@pytest.fixture
def log(tmp_path: Path) -> TransactionLog:
    log = TransactionLog(tmp_path, FixedClock(), redact=[SECRET], inline=True)
    log.open()
    return log


def written(log: TransactionLog, stream: str, day: str = "2026-01-31") -> str:
    return (log.path / f"{stream}-{day}.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", list(EventKind))
def test_an_event_of_every_kind(log: TransactionLog, kind: EventKind) -> None:
    """One line with the change and what the order is."""
    log.record(event_of(kind))
    assert written(log, "orders") == (
        f'{{"order_id":"a1","version":2,"kind":"{kind.value}","at":"2026-01-31T12:00:00.000331+00:00",'
        '"previous":"sending","state":"open","exchange_order_id":"X7","attempts":1,"filled":"0","reason":null,'
        '"fill":null,"detail":null,"symbol":"BTC/USD","side":"buy","type":"limit","amount":"0.10",'
        '"price":"50000"}\n'
    )


def test_a_fill_stands_in_two_files(log: TransactionLog) -> None:
    """Within its event, and on its own with what its reader needs to know of the order."""
    log.record(event_of(EventKind.FILL, fill=FILL, order={"filled": Decimal("4E-8")}))
    assert written(log, "orders") == (
        '{"order_id":"a1","version":2,"kind":"fill","at":"2026-01-31T12:00:00.000331+00:00","previous":"sending",'
        '"state":"open","exchange_order_id":"X7","attempts":1,"filled":"0.00000004","reason":null,'
        '"fill":{"trade_id":"t1","price":"50000.5","amount":"0.00000004","fee":"0.001","fee_currency":"USD",'
        '"at":"2026-01-31T11:59:57.000331+00:00"},"detail":null,"symbol":"BTC/USD","side":"buy","type":"limit",'
        '"amount":"0.10","price":"50000"}\n'
    )
    assert written(log, "fills") == (
        '{"at":"2026-01-31T12:00:00.000331+00:00","order_id":"a1","exchange_order_id":"X7","kind":"fill",'
        '"state":"open","filled":"0.00000004","symbol":"BTC/USD","side":"buy","trade_id":"t1","price":"50000.5",'
        '"amount":"0.00000004","fee":"0.001","fee_currency":"USD",'
        '"traded_at":"2026-01-31T11:59:57.000331+00:00"}\n'
    )


def test_what_an_order_lacks_is_null(log: TransactionLog) -> None:
    """A first event has no state before it, a market order no price, a new order no id of the exchange."""
    order = {"price": None, "type": OrderType.MARKET, "exchange_order_id": None, "attempts": 0, "version": 1}
    log.record(event_of(EventKind.INTENT, previous=None, at=AT.replace(microsecond=0), order=order))
    assert written(log, "orders") == (
        '{"order_id":"a1","version":1,"kind":"intent","at":"2026-01-31T12:00:00+00:00","previous":null,'
        '"state":"open","exchange_order_id":null,"attempts":0,"filled":"0","reason":null,"fill":null,'
        '"detail":null,"symbol":"BTC/USD","side":"buy","type":"market","amount":"0.10","price":null}\n'
    )


def test_a_time_of_another_zone_is_told_as_it_is_and_filed_by_its_utc_day(log: TransactionLog) -> None:
    """Half past one in Tehran is still the day before."""
    log.record(event_of(at=datetime(2026, 2, 1, 1, 30, tzinfo=TEHRAN)))
    assert '"at":"2026-02-01T01:30:00+03:30"' in written(log, "orders")


def test_an_error_with_and_without_an_order(log: TransactionLog) -> None:
    """Whatever its detail holds."""
    log.record_error("a1", "execute", "OSError", {"n": 1, "amount": Decimal("1E-8"), "at": AT, "side": Side.BUY})
    log.record_error(None, "start", "OSError")
    assert written(log, "errors") == (
        '{"at":"2026-01-31T12:00:00.000331+00:00","order_id":"a1","kind":"error","phase":"execute",'
        '"error":"OSError","detail":{"n":1,"amount":"0.00000001","at":"2026-01-31T12:00:00.000331+00:00",'
        '"side":"buy"}}\n'
        '{"at":"2026-01-31T12:00:00.000331+00:00","order_id":null,"kind":"error","phase":"start",'
        '"error":"OSError","detail":null}\n'
    )


def test_notes_of_orders_and_of_fills(log: TransactionLog) -> None:
    """A fill's detail stands beside its names, an order's under ``detail``."""
    log.record_note("a1", "phase", {"phase": "sent"})
    log.record_note("a1", "phase")
    log.record_note("a1", "fill", {"trade_id": "t1", "kind": "mine"}, stream="fills", at=AT - timedelta(days=1))
    assert written(log, "orders") == (
        '{"detail":{"phase":"sent"},"at":"2026-01-31T12:00:00.000331+00:00","order_id":"a1","kind":"phase"}\n'
        '{"detail":null,"at":"2026-01-31T12:00:00.000331+00:00","order_id":"a1","kind":"phase"}\n'
    )
    assert written(log, "fills", "2026-01-30") == (
        '{"trade_id":"t1","kind":"fill","at":"2026-01-30T12:00:00.000331+00:00","order_id":"a1"}\n'
    )


def test_secrets_in_every_text_of_an_event(log: TransactionLog) -> None:
    """By their value, even where JSON writes them differently, by name=value, and as the user of a URL."""
    order = {
        "order_id": f"a{SECRET}",
        "symbol": f"{SECRET}/USD",
        "exchange_order_id": "token=abc",
        "reason": "https://user:abc@host refused",
    }
    fill = replace(FILL, trade_id="secret: abc", fee_currency=SECRET)
    log.record(event_of(EventKind.FILL, fill=fill, detail='{"apiKey": "abc"}', order=order))
    assert written(log, "orders") == (
        '{"order_id":"a***","version":2,"kind":"fill","at":"2026-01-31T12:00:00.000331+00:00",'
        '"previous":"sending","state":"open","exchange_order_id":"token=***","attempts":1,"filled":"0",'
        '"reason":"https://***@host refused","fill":{"trade_id":"secret: ***","price":"50000.5",'
        '"amount":"0.00000004","fee":"0.001","fee_currency":"***","at":"2026-01-31T11:59:57.000331+00:00"},'
        '"detail":"{\\"apiKey\\": \\"***\\"}","symbol":"***/USD","side":"buy","type":"limit","amount":"0.10",'
        '"price":"50000"}\n'
    )
    assert written(log, "fills") == (
        '{"at":"2026-01-31T12:00:00.000331+00:00","order_id":"a***","exchange_order_id":"token=***",'
        '"kind":"fill","state":"open","filled":"0","symbol":"***/USD","side":"buy","trade_id":"secret: ***",'
        '"price":"50000.5","amount":"0.00000004","fee":"0.001","fee_currency":"***",'
        '"traded_at":"2026-01-31T11:59:57.000331+00:00"}\n'
    )


def test_a_long_text_is_cut_and_a_torn_character_replaced(log: TransactionLog) -> None:
    """An exchange's words may be of any length, and hold half a surrogate pair."""
    log.record(event_of(detail="x" * 5_000, order={"reason": "half \ud83d, whole é"}))
    line = written(log, "orders")
    assert '"reason":"half ?, whole é"' in line
    assert f'"detail":"{"x" * 4_096}…"' in line


# ---- against the plain way --------------------------------------------------------------------------------

SECRETS = (SECRET, "2026-01", "0.10", "limit", "abcd efgh")


def _plainly(event: OrderEvent, redactor: Redactor) -> tuple[bytes, bytes]:
    """The order's line and the fill's, with no shortcut: every value is made plain and passes the redactor."""
    order = event.order
    about = {
        **event.to_dict(),
        "symbol": order.symbol,
        "side": order.side.value,
        "type": order.type.value,
        "amount": plain_decimal(order.amount),
        "price": None if order.price is None else plain_decimal(order.price),
    }
    line = orjson.dumps(redactor.plain(about)) + b"\n"
    if event.fill is None:
        return line, b""
    shared = ("at", "order_id", "exchange_order_id", "kind", "state", "filled", "symbol", "side")
    trade = event.fill.to_dict()
    trade["traded_at"] = trade.pop("at")
    return line, orjson.dumps(redactor.plain({**{name: about[name] for name in shared}, **trade})) + b"\n"


_WORDS = st.sampled_from(
    [
        "",
        "a1",
        "token=abc",
        "api_key: x",
        "a:b",
        "http://u:p@h",
        "https://h",
        *SECRETS,
        '"',
        "\\n",
        "é",
        "\ud83d",
        "\x7f",
    ]
)
_TEXTS = st.text(st.characters(), max_size=20) | st.lists(_WORDS, max_size=4).map("".join) | st.just("y" * 5_000)
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [Decimal("0E-9"), Decimal("-0"), Decimal("1E+30"), Decimal("0.10"), Decimal("1E-5000")]
)
_ZONES = st.sampled_from([UTC, TEHRAN, timezone(timedelta(seconds=5)), timezone(timedelta(0), "named")])
_SPAN = (datetime(1, 1, 3), datetime(9999, 12, 29))  # noqa: DTZ001 - the zone is drawn
_TIMES = st.datetimes(*_SPAN, timezones=_ZONES)
_FILLS = st.none() | st.builds(Fill, _TEXTS, _DECIMALS, _DECIMALS, _DECIMALS, _TEXTS, _TIMES)
_ORDERS = st.builds(
    order_of,
    order_id=_TEXTS,
    symbol=_TEXTS,
    exchange_order_id=st.none() | _TEXTS,
    reason=st.none() | _TEXTS,
    filled=_DECIMALS,
    amount=_DECIMALS,
    price=st.none() | _DECIMALS,
    side=st.sampled_from(Side),
    type=st.sampled_from(OrderType),
    state=st.sampled_from(OrderState),
)
_EVENTS = st.builds(
    OrderEvent,
    _ORDERS,
    st.sampled_from(EventKind),
    st.none() | st.sampled_from(OrderState),
    _TIMES,
    _FILLS,
    st.none() | _TEXTS,
)


class _Kept:
    """Files that keep what is appended."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def append(self, name: str, data: bytes) -> None:
        self.data[name] = self.data.get(name, b"") + data


@given(_EVENTS, st.sets(st.sampled_from(SECRETS)))
def test_whatever_an_event_holds_its_line_is_the_plain_one(event: OrderEvent, secrets: set[str]) -> None:
    """No shortcut of the writer shows in the file."""
    log = TransactionLog("unused", FixedClock(), redact=secrets, inline=True)
    kept = _Kept()
    log._write(kept, [event])  # type: ignore[arg-type]
    day = event.at.astimezone(UTC).date().isoformat()
    order, fill = _plainly(event, Redactor(secrets))
    assert kept.data[f"orders-{day}.jsonl"] == order
    assert kept.data.get(f"fills-{day}.jsonl", b"") == fill


def test_no_name_of_ours_is_taken_for_a_secret() -> None:
    """Events are searched for secrets by their words alone, so their names must hide nothing."""
    line = orjson.loads(_plainly(event_of(fill=FILL), Redactor())[0])
    names = [*line, *line["fill"], "traded_at"]
    assert MASK not in Redactor().plain(dict.fromkeys(names, "x")).values()


def test_an_ordinary_event_is_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dear way is for what is suspected."""
    monkeypatch.setattr(Redactor, "values", lambda self, record: pytest.fail("made twice"))
    made = Lines(Redactor([SECRET])).of(event_of(EventKind.FILL, fill=FILL, detail="insufficient balance: 5 < 6"))
    assert [(stream, day.isoformat()) for stream, day, _ in made] == [
        ("orders", "2026-01-31"),
        ("fills", "2026-01-31"),
    ]
