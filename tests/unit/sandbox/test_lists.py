"""Lists of orders and trades: filters, sorting, paging."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.desk import LIST, Desk, desk

TRADES = "/market/trades/list"


async def some_orders(client: Desk) -> None:
    """1 rests, 2 is done, 3 is a stop that waits, 4 is cancelled, 5 sells and rests in rial."""
    await client.add(price="60000")
    await client.market(dstCurrency="rls")
    await client.add(execution="stop_limit", price="71000", stopPrice="70000")
    await client.add(price="61000")
    await client.post("/market/orders/update-status", {"order": 4, "status": "canceled"})
    await client.add(type="sell", dstCurrency="rls", price="70000000000")


def ids(answer: Any) -> list[int]:
    return [row["id"] for row in answer.body["orders"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [5, 3, 1]),
        ("&status=open", [5, 3, 1]),
        ("&status=all", [5, 4, 3, 2, 1]),
        ("&status=done", [2]),
        ("&status=close", [4, 2]),
        ("&status=all&type=sell", [5]),
        ("&status=all&type=buy&execution=limit", [4, 1]),
        ("&status=all&execution=market", [2]),
        ("&status=all&execution=stop_limit", [3]),
        ("&status=all&tradeType=spot", [5, 4, 3, 2, 1]),
        ("&status=all&tradeType=margin", []),
        ("&status=all&dstCurrency=rls", [5, 2]),
        ("&status=all&srcCurrency=btc&dstCurrency=usdt", [4, 3, 1]),
        ("&status=all&fromId=2", [5, 4, 3]),
        ("&status=all&fromId=2&order=id&pageSize=2", [3, 4]),
        ("&status=all&fromId=2&pageSize=2", [5, 4]),
        ("&status=all&order=id", [1, 2, 3, 4, 5]),
        ("&status=all&order=-id&page=2&pageSize=2", [3, 2]),
        ("&status=all&order=id&page=3&pageSize=2", [5]),
        ("&status=all&page=9", []),
        ("&type=buy", [3, 1]),
        ("&status=all&order=-price", [5, 2, 3, 4, 1]),
    ],
)
async def test_filters_sorting_and_pages(query: str, expected: list[int]) -> None:
    """Each as documented: ``fromId`` means greater than, buys come dearest first, all else newest first."""
    async with desk(limits=None) as client:
        await some_orders(client)
        assert ids(await client.get(f"{LIST}?details=2{query}")) == expected


@pytest.mark.parametrize(
    "query",
    [
        "status=active",
        "status=undone",
        "type=Buy",
        "execution=Limit",
        "tradeType=Spot",
        "details=3",
        "order=name",
        "page=0",
        "page=x",
        "page=-1",
        "pageSize=0",
        "pageSize=1001",
        "fromId=1&page=2",
        "fromId=",
        "srcCurrency=Bitcoin",
    ],
)
async def test_what_is_not_supported_is_a_400(query: str) -> None:
    """With the code ParseError."""
    async with desk() as client:
        assert client.codes(await client.get(f"{LIST}?{query}")) == (400, "failed", "ParseError")


async def test_without_details_rows_have_no_id_status_or_fee() -> None:
    """Only ``details=2`` has."""
    async with desk() as client:
        await client.add()
        row = (await client.get(LIST)).body["orders"][0]
        assert not {"id", "status", "fee", "created_at", "averagePrice"} & set(row)
        row = (await client.get(f"{LIST}?details=2")).body["orders"][0]
        assert {"id", "status", "fee", "created_at", "averagePrice", "clientOrderId"} <= set(row)


async def test_a_page_has_a_hundred_rows_unless_more_are_asked_for() -> None:
    """Up to a thousand."""
    async with desk(limits=None) as client:
        for _ in range(101):
            await client.add()
        assert len((await client.get(f"{LIST}?details=2")).body["orders"]) == 100
        assert len((await client.get(f"{LIST}?details=2&pageSize=1000")).body["orders"]) == 101


async def test_a_page_of_orders_may_say_whether_there_are_more() -> None:
    """Or not: then one pages on until a page is short."""
    async with desk(limits=None) as client:
        await some_orders(client)
        seen = set()
        for _ in range(20):
            seen.add((await client.get(f"{LIST}?pageSize=2")).body.get("hasNext"))
        assert seen == {True, None}
    async with desk(shapes="new") as client:
        assert (await client.get(LIST)).body["hasNext"] is False


async def test_trades_newest_first_in_pages_of_thirty() -> None:
    """``hasNext`` says whether there are more."""
    async with desk(limits=None, depth_usd=1e9) as client:
        for _ in range(31):
            await client.market()
        first = (await client.get(TRADES)).body
        assert [first["trades"][0]["id"], len(first["trades"]), first["hasNext"]] == [31, 30, True]
        last = (await client.get(f"{TRADES}?page=2")).body
        assert [[row["id"] for row in last["trades"]], last["hasNext"]] == [[1], False]


async def test_trades_from_an_id_on_include_it() -> None:
    """``fromId`` means at least this one, unlike in the list of orders."""
    async with desk(limits=None) as client:
        await client.market()
        await client.market(dstCurrency="rls")
        await client.market()

        async def found(query: str) -> list[int]:
            return [row["id"] for row in (await client.get(f"{TRADES}?{query}")).body["trades"]]

        assert await found("fromId=2") == [3, 2]
        assert await found("srcCurrency=btc&dstCurrency=rls") == [2]
        assert await found("srcCurrency=eth&dstCurrency=rls") == []


@pytest.mark.parametrize("query", ["srcCurrency=btc", "dstCurrency=rls", "pageSize=101", "fromId=x"])
async def test_trades_are_asked_for_by_both_currencies_or_neither(query: str) -> None:
    """And by at most a hundred."""
    async with desk() as client:
        assert (await client.get(f"{TRADES}?{query}")).status == 400


async def test_trades_older_than_three_days_are_gone() -> None:
    """The orders are still listed."""
    async with desk(limits=None) as client:
        await client.market()
        client.clock.advance(3 * 86_400 - 1)
        assert len((await client.get(TRADES)).body["trades"]) == 1
        client.clock.advance(2)
        assert (await client.get(TRADES)).body["trades"] == []
        assert ids(await client.get(f"{LIST}?status=all&details=2")) == [1]
