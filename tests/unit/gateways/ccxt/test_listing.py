"""Walks through lists: all rows or none, page after page, in each way that an exchange has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.mcp.order_execution.gateways.ccxt.listing import (
    PAGES_MAX,
    TooMuch,
    lookup_params,
    rows_of,
    stamp,
    walk,
)
from services.mcp.order_execution.gateways.ccxt.parsing import NotUnderstood
from services.mcp.order_execution.gateways.ccxt.row import ListCall, Lookup, Pager, PagerKind, Stamp

AT = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
MS = 1_795_262_400_250


class Exchange:
    """Keeps what it was asked; answers from a script."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        self.asked.append(dict(params))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


def rows(*times: int) -> list[dict[str, Any]]:
    return [{"id": f"r{time}", "time": time} for time in times]


def call(pager: Pager, **changes: Any) -> ListCall:
    return ListCall(**{"method": "list", "limit": 2, "pager": pager, "since": "from", "until": "to", **changes})


async def walked(exchange: Exchange, listed: ListCall, since: datetime | None = AT) -> list[Any]:
    until = None if since is None else since + timedelta(hours=1)
    return [row["id"] for row in await walk(exchange.ask, listed, "BTCUSDT", since, until)]


def test_moments_are_written_as_each_exchange_wants_them() -> None:
    """Milliseconds, whole seconds, RFC 3339."""
    assert stamp(AT, Stamp.MILLISECONDS) == MS
    assert stamp(AT, Stamp.SECONDS) == MS // 1_000
    assert stamp(AT, Stamp.RFC3339) == "2026-11-21T12:00:00.250Z"


def test_rows_are_a_list_or_an_object_by_id() -> None:
    """Anything else is not understood."""
    assert rows_of({"a": {"b": [{"x": 1}]}}, ("a", "b"), keyed=False) == [{"x": 1}]
    assert rows_of({"a": {"one": {"x": 1}}}, ("a",), keyed=True) == [{"x": 1, "id": "one"}]
    assert rows_of([[1], [2]], (), keyed=False) == [[1], [2]]
    for odd in ({}, {"a": None}, {"a": "text"}, {"a": [1]}, None):
        with pytest.raises(NotUnderstood):
            rows_of(odd, ("a",), keyed=False)


async def test_one_answer_has_all_unless_it_is_full() -> None:
    """A full one may be cut."""
    whole = call(Pager(kind=PagerKind.WHOLE))
    exchange = Exchange(rows(1))
    assert await walked(exchange, whole) == ["r1"]
    assert exchange.asked == [{"symbol": "BTCUSDT", "from": MS, "to": MS + 3_600_000, "limit": 2}]
    with pytest.raises(TooMuch):
        await walked(Exchange(rows(1, 2)), whole)
    unbounded = call(Pager(kind=PagerKind.WHOLE), limit=0, limit_param=None, since=None, until=None, symbol=None)
    exchange = Exchange(rows(1, 2, 3))
    assert await walked(exchange, unbounded) == ["r1", "r2", "r3"]
    assert exchange.asked == [{}]


async def test_a_cursor_leads_on_until_there_is_none() -> None:
    """Or until a page is empty; one that leads to itself is no list."""
    listed = call(Pager(kind=PagerKind.CURSOR, param="cursor", at=("next",)), rows=("rows",))
    exchange = Exchange({"rows": rows(1), "next": "a"}, {"rows": rows(2), "next": "b"}, {"rows": [], "next": "c"})
    assert await walked(exchange, listed) == ["r1", "r2"]
    assert [asked.get("cursor") for asked in exchange.asked] == [None, "a", "b"]
    assert await walked(Exchange({"rows": rows(1), "next": ""}), listed) == ["r1"]
    with pytest.raises(NotUnderstood):
        await walked(Exchange({"rows": rows(1), "next": "a"}), listed)
    short = call(Pager(kind=PagerKind.CURSOR, param="cursor", at=("next",), short_ends=True), rows=("rows",))
    assert await walked(Exchange({"rows": rows(1), "next": "a"}), short) == ["r1"]


async def test_the_last_row_leads_on() -> None:
    """Full pages alone have another one behind them."""
    listed = call(Pager(kind=PagerKind.LAST_ROW, param="after", at=("id",)))
    exchange = Exchange(rows(1, 2), rows(3))
    assert await walked(exchange, listed) == ["r1", "r2", "r3"]
    assert exchange.asked[1]["after"] == "r2"
    with pytest.raises(NotUnderstood):
        await walked(Exchange([{"x": 1}, {"x": 2}]), listed)
    with pytest.raises(NotUnderstood):
        await walked(Exchange(rows(1, 2)), listed)


async def test_numbered_pages_and_offsets() -> None:
    """From 1, and by how many rows there were."""
    exchange = Exchange(rows(1, 2), rows(3, 4), [])
    assert await walked(exchange, call(Pager(kind=PagerKind.NUMBERED, param="page"))) == ["r1", "r2", "r3", "r4"]
    assert [asked["page"] for asked in exchange.asked] == [1, 2, 3]
    exchange = Exchange(rows(1, 2), rows(3))
    await walked(exchange, call(Pager(kind=PagerKind.OFFSET, param="ofs")))
    assert [asked.get("ofs") for asked in exchange.asked] == [None, 2]


async def test_time_leads_on_in_both_directions() -> None:
    """Rows of one moment do not fall between two pages."""
    exchange = Exchange(rows(20, 10), rows(10))
    await walked(exchange, call(Pager(kind=PagerKind.EARLIER, param="to", at=("time",))))
    assert exchange.asked[1]["to"] == 11
    exchange = Exchange(rows(10, 20), rows(20))
    await walked(exchange, call(Pager(kind=PagerKind.LATER, param="from", at=("time",))))
    assert exchange.asked[1]["from"] == 20
    with pytest.raises(NotUnderstood):
        await walked(Exchange(rows(10, 10)), call(Pager(kind=PagerKind.LATER, param="from", at=("time",))))


async def test_an_endless_list_is_none() -> None:
    """After so many pages it is given up, and says that it was too much."""
    exchange = Exchange(rows(1, 2))
    with pytest.raises(TooMuch):
        await walked(exchange, call(Pager(kind=PagerKind.NUMBERED, param="page")))
    assert len(exchange.asked) == PAGES_MAX


async def test_a_long_period_is_asked_in_parts() -> None:
    """Each no longer than the exchange allows, without a gap; too long a period is too much."""
    listed = call(Pager(kind=PagerKind.WHOLE), window=1_500.0)
    exchange = Exchange(rows(1))
    await walked(exchange, listed)
    spans = [(asked["from"], asked["to"]) for asked in exchange.asked]
    assert spans == [(MS, MS + 1_500_000), (MS + 1_500_000, MS + 3_000_000), (MS + 3_000_000, MS + 3_600_000)]
    with pytest.raises(TooMuch):
        await walked(Exchange(rows(1)), call(Pager(kind=PagerKind.WHOLE), window=1.0))
    assert len(await walked(Exchange(rows(1)), listed, since=None)) == 1


async def test_seconds_end_a_second_later() -> None:
    """They are cut off, and the last one is meant in full."""
    exchange = Exchange([])
    await walked(exchange, call(Pager(kind=PagerKind.WHOLE), unit=Stamp.SECONDS))
    assert exchange.asked[0]["to"] - exchange.asked[0]["from"] == 3_601


def test_lookups_name_the_id_as_the_exchange_wants_it() -> None:
    """As text, or as a list of one number."""
    lookup = Lookup(method="get", params={"category": "spot"})
    assert lookup_params(lookup, "BTCUSDT", "id", "7") == {"category": "spot", "symbol": "BTCUSDT", "id": "7"}
    numbers = Lookup(method="get", symbol=None, numbers=True)
    assert lookup_params(numbers, "BTCUSDT", "id", "7") == {"id": [7]}


@pytest.mark.parametrize(
    ("pager", "page"),
    [
        (Pager(kind=PagerKind.EARLIER, param="to", at=("time",)), rows(1, 2)),
        (Pager(kind=PagerKind.LATER, param="from", at=("time",)), rows(2, 1)),
        (Pager(kind=PagerKind.LAST_ROW, param="after", at=("time",), falls=True), rows(1, 2)),
    ],
)
async def test_a_full_page_in_another_order_is_no_page(pager: Pager, page: list[Any]) -> None:
    """Where it leads on to would be in the wrong direction, and the rest be missing without a word."""
    with pytest.raises(NotUnderstood, match="another order"):
        await walked(Exchange(page, []), call(pager))
