"""Options, books and statistics."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.sandbox.desk import desk


async def test_options_name_steps_as_strings_by_path_symbol() -> None:
    """And the least worth of an order by code and by number."""
    async with desk() as client:
        body = (await client.ask("GET", "/v2/options", headers={})).body
        nobitex = body["nobitex"]
        assert nobitex["pricePrecisions"]["BTCUSDT"] == "0.01"
        assert nobitex["amountPrecisions"]["BTCIRT"] == "0.000001"
        assert nobitex["minOrders"]["usdt"] == nobitex["minOrders"]["13"] == "11"
        assert Decimal(nobitex["minOrders"]["rls"]) >= 3_000_000
        assert {"coin": "btc", "name": "Bitcoin"}.items() <= body["coins"][2].items()
        assert set(nobitex["pricePrecisions"]) == set(nobitex["amountPrecisions"])


async def test_what_options_promise_orders_hold() -> None:
    """An order on the named steps is booked as it was sent, in every market."""
    async with desk(limits=None, balances=None) as client:
        nobitex = (await client.get("/v2/options")).body["nobitex"]
        stats = (await client.get("/market/stats")).body["stats"]
        for number, (dashed, stat) in enumerate(stats.items(), start=1):
            src, dst = dashed.split("-")
            path = src.upper() + ("IRT" if dst == "rls" else "USDT")
            tick, step = (Decimal(nobitex[name][path]) for name in ("pricePrecisions", "amountPrecisions"))
            price = (Decimal(stat["latest"]) * Decimal("0.9") // tick) * tick
            amount = (Decimal(nobitex["minOrders"][dst]) * 2 / price // step + 1) * step
            answer = await client.add(srcCurrency=src, dstCurrency=dst, price=f"{price:f}", amount=f"{amount:f}")
            assert answer.body["status"] == "ok", (dashed, answer.body)
            order = client.sandbox.book()[number - 1].order
            assert (order.price, order.amount) == (price, amount)


async def test_the_book_has_pairs_of_strings_best_first() -> None:
    """Asks are sells, bids are buys."""
    async with desk() as client:
        book = (await client.get("/v3/orderbook/BTCIRT")).body
        asks, bids = ([Decimal(price) for price, _ in book[side]] for side in ("asks", "bids"))
        assert bids[0] < Decimal(book["lastTradePrice"]) < asks[0]
        assert asks == sorted(asks)
        assert bids == sorted(bids, reverse=True)
        assert isinstance(book["lastUpdate"], int)
        assert isinstance((await client.get("/v2/depth/BTCIRT")).body["lastUpdate"], str)


async def test_books_of_all_markets_at_once() -> None:
    """By path symbol, beside the status."""
    async with desk() as client:
        body = (await client.get("/v3/orderbook/all")).body
        assert body["status"] == "ok"
        assert {"BTCIRT", "BTCUSDT", "USDTIRT", "1M_PEPEIRT"} <= set(body)


async def test_a_book_is_cached_for_a_second() -> None:
    """Two looks in the same second are the same."""
    async with desk(volatility=0.005) as client:
        first = (await client.get("/v3/orderbook/BTCUSDT")).body
        client.clock.advance(0.9)
        assert (await client.get("/v3/orderbook/BTCUSDT")).body == first
        client.clock.advance(5)
        assert (await client.get("/v3/orderbook/BTCUSDT")).body != first


@pytest.mark.parametrize("path", ["/v3/orderbook/NOPE", "/v2/depth/btcirt", "/v2/trades/NOPE"])
async def test_an_unknown_symbol(path: str) -> None:
    """Is InvalidSymbol with HTTP 200; symbols are in capitals."""
    async with desk() as client:
        assert client.codes(await client.get(path)) == (200, "failed", "InvalidSymbol")


async def test_public_trades_are_in_milliseconds() -> None:
    """With strings for price and volume."""
    async with desk() as client:
        trade = (await client.get("/v2/trades/BTCIRT")).body["trades"][0]
        assert trade["time"] > 10**12
        assert isinstance(trade["price"], str)


async def test_statistics_by_pair_with_filters() -> None:
    """Numbers as strings; ``isClosed`` is what says that a market is closed."""
    async with desk(faults={"closed_markets": ["btc-rls"]}) as client:
        stats = (await client.get("/market/stats?srcCurrency=btc,eth&dstCurrency=rls")).body["stats"]
        assert {pair: stat["isClosed"] for pair, stat in stats.items()} == {"btc-rls": True, "eth-rls": False}
        assert Decimal(stats["btc-rls"]["bestBuy"]) < Decimal(stats["btc-rls"]["bestSell"])
        assert len((await client.get("/market/stats")).body["stats"]) > 20
        assert (await client.get("/market/stats?dstCurrency=btc")).status == 400


async def test_there_are_no_candles() -> None:
    """Said in the manner of that interface."""
    async with desk() as client:
        assert (await client.get("/market/udf/history?symbol=BTCIRT&resolution=D&from=1&to=2")).body == {
            "s": "no_data"
        }
