"""The venues of the tests, spoken to by the raw ccxt classes: they are good enough to judge a gateway by."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from tests.ccxt_venues.book import Order, Status
from tests.ccxt_venues.client import raw
from tests.ccxt_venues.faults import CARRIED_OUT, SILENT, Fate, Faults
from tests.ccxt_venues.server import DIALECTS, Venue

WINDOWED = ["binance", "bybit", "okx"]
"""Exchanges whose signatures carry a time; kraken's carry a number that only rises."""
UNDERSTOOD_AS_DONE = {Fate.HALF, Fate.EMPTY, Fate.PAGE, Fate.HOLLOW}
"""What ccxt reports as success, with nothing in it."""


@pytest.fixture(params=list(DIALECTS))
def exchange(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def client_id(name: str) -> dict[str, str]:
    return {"clientOrderId": name}


async def rest(venue: Venue, client: Any, name: str) -> dict[str, Any]:
    """Place an order that rests."""
    placed: dict[str, Any] = await client.create_order(
        venue.symbol, "limit", "buy", "0.001", "45000", client_id(name)
    )
    return placed


def only(venue: Venue) -> Order:
    (order,) = venue.book.orders
    return order


async def test_an_order_is_booked_under_the_client_id_that_it_carries(exchange: str) -> None:
    """And with the amount and the price of the request, exactly."""
    async with Venue(exchange) as venue, raw(venue) as client:
        placed = await rest(venue, client, "abc1")
        order = only(venue)
        assert placed["id"] == venue.dialect.order_id(order.number)
        assert (order.client_id, order.amount, order.price) == ("abc1", Decimal("0.001"), Decimal(45000))
        assert [item.client_id for item in venue.asked("create")] == ["abc1"]


async def test_ccxt_makes_an_id_up_where_none_is_given_except_on_kraken_and_bybit(exchange: str) -> None:
    """So a request that is made again by hand would carry another one."""
    async with Venue(exchange) as venue, raw(venue) as client:
        for _ in range(2):
            await client.create_order(venue.symbol, "limit", "buy", "0.001", "45000")
        made = [item.client_id for item in venue.asked("create")]
        if exchange in ("kraken", "bybit"):
            assert made == [None, None]
        else:
            assert len(set(made) - {None}) == 2


async def test_open_orders_trades_and_balances_tell_one_story(exchange: str) -> None:
    """A part of a resting order is filled; the rest is still open, and blocks funds."""
    async with Venue(exchange) as venue, raw(venue) as client:
        await rest(venue, client, "abc1")
        venue.book.fill(only(venue), Decimal("0.0004"))
        (seen,) = await client.fetch_open_orders(venue.symbol)
        assert (seen["clientOrderId"], seen["status"]) == ("abc1", "open")
        assert (Decimal(seen["filled"]), Decimal(seen["average"])) == (Decimal("0.0004"), Decimal(45000))
        (trade,) = await client.fetch_my_trades(venue.symbol)
        assert (trade["order"], Decimal(trade["amount"])) == (seen["id"], Decimal("0.0004"))
        order = only(venue)
        assert (Decimal(trade["fee"]["cost"]), trade["fee"]["currency"]) == (order.fee, order.fee_currency)
        balances = await client.fetch_balance()
        for name, total in venue.book.funds.items():
            assert Decimal(balances["total"][name]) == total
            assert Decimal(balances["used"][name]) == venue.book.blocked(name)


async def test_a_market_order_fills_at_once(exchange: str) -> None:
    """At the best price of the other side."""
    async with Venue(exchange) as venue, raw(venue) as client:
        ticker = await client.fetch_ticker(venue.symbol)
        await client.create_order(venue.symbol, "market", "sell", "0.002", None, client_id("m1"))
        order = only(venue)
        assert (order.status, order.average) == (Status.FILLED, Decimal(ticker["bid"]))


LOOKUPS: dict[str, Callable[[Any, str, str], Awaitable[list[dict[str, Any]]]]] = {
    "binance": lambda client, symbol, name: _one(client.fetch_order("", symbol, client_id(name))),
    "kraken": lambda client, symbol, name: _both(client, symbol, {"cl_ord_id": name}),
    "bybit": lambda client, symbol, name: client.fetch_open_orders(symbol, None, None, {"orderLinkId": name}),
    "okx": lambda client, symbol, name: _one(client.fetch_order("", symbol, client_id(name))),
}


async def _one(answer: Awaitable[dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        return [await answer]
    except ccxt.OrderNotFound:
        return []


async def _both(client: Any, symbol: str, params: dict[str, str]) -> list[dict[str, Any]]:
    rests: list[dict[str, Any]] = await client.fetch_open_orders(symbol, None, None, params)
    return rests or list(await client.fetch_closed_orders(symbol, None, None, params))


async def test_an_order_is_found_by_its_client_id_open_or_closed(exchange: str) -> None:
    """In each exchange's own way; an id that nobody used is not."""
    async with Venue(exchange) as venue, raw(venue) as client:
        for name in ("abc1", "abc2", "abc3"):
            await rest(venue, client, name)
        await client.cancel_order(venue.dialect.order_id(2), venue.symbol)
        for name, status in (("abc1", "open"), ("abc2", "canceled"), ("nobody", None)):
            found = await LOOKUPS[exchange](client, venue.symbol, name)
            assert [item["status"] for item in found] == ([] if status is None else [status])
            assert all(item["clientOrderId"] == name for item in found)


async def test_a_repeated_client_id_is_refused_while_its_order_is_open(exchange: str) -> None:
    """Afterwards only Bybit refuses it still: elsewhere a resent order would be placed again."""
    async with Venue(exchange) as venue, raw(venue) as client:
        placed = await rest(venue, client, "abc1")
        with pytest.raises(ccxt.ExchangeError):
            await rest(venue, client, "abc1")
        await client.cancel_order(placed["id"], venue.symbol)
        if exchange == "bybit":
            with pytest.raises(ccxt.InvalidOrder):
                await rest(venue, client, "abc1")
        else:
            assert (await rest(venue, client, "abc1"))["id"] != placed["id"]
        assert len(venue.book.orders) == (1 if exchange == "bybit" else 2)


async def test_refusals_reach_the_caller_and_book_nothing(exchange: str) -> None:
    """Funds, size, an order that is not there."""
    async with Venue(exchange) as venue, raw(venue) as client:
        with pytest.raises(ccxt.InsufficientFunds):
            await client.create_order(venue.symbol, "limit", "buy", "100", "45000")
        if exchange != "okx":  # it has no least worth
            with pytest.raises(ccxt.ExchangeError):
                await client.create_order(venue.symbol, "limit", "buy", "0.00005", "45000")
        with pytest.raises(ccxt.OrderNotFound):
            await client.cancel_order("12345", venue.symbol)
        assert venue.book.orders == []


async def test_signatures_and_keys_are_checked(exchange: str) -> None:
    """One letter of the secret is enough, and nothing is booked."""
    async with Venue(exchange) as venue:
        for wrong in ({"secret": venue.keys.secret[:-4] + "AAA="}, {"apiKey": "other"}):
            async with raw(venue, **wrong) as client:
                client.has["fetchCurrencies"] = False
                with pytest.raises(ccxt.ExchangeError):
                    await rest(venue, client, "abc1")
        assert venue.book.orders == []


@pytest.mark.parametrize("exchange", WINDOWED)
@pytest.mark.parametrize("ahead", [100.0, -100.0])
async def test_a_timestamp_that_is_too_old_or_too_far_ahead_is_refused(exchange: str, ahead: float) -> None:
    """By the venue's clock."""
    async with Venue(exchange) as venue, raw(venue) as client:
        await client.load_markets()
        venue.clock.ahead = ahead
        with pytest.raises(ccxt.InvalidNonce):
            await rest(venue, client, "abc1")
        assert venue.book.orders == []


async def test_krakens_nonce_only_rises() -> None:
    """A request that comes after a later one is refused, for good."""
    async with Venue("kraken") as venue, raw(venue) as client:
        await rest(venue, client, "abc1")
        client.nonce = lambda: 5
        client.lastNonce = 5
        client.incrementing_nonce = lambda: 5
        with pytest.raises(ccxt.InvalidNonce):
            await rest(venue, client, "abc2")
        assert len(venue.book.orders) == 1


async def test_ccxt_never_places_an_order_twice_by_itself(exchange: str) -> None:
    """One request each time, with the id; and it lands as often as the fate says."""
    async with Venue(exchange) as venue, raw(venue) as client:
        await client.load_markets()
        venue.set_faults(Faults(silence=0.0, late=(0.0, 0.0), late_checked_at_door=True))
        for number, fate in enumerate(Fate):
            before = len(venue.book.orders)
            client.timeout = 100 if fate in (Fate.HANG_BEFORE, Fate.HANG_AFTER) else 5_000
            venue.say(fate, "create")
            try:
                placed = await rest(venue, client, f"abc{number}")
            except ccxt.BaseError:
                assert fate is not Fate.DELIVERED
            else:
                assert fate is Fate.DELIVERED or (fate in UNDERSTOOD_AS_DONE and placed["id"] is None)
            await venue.all_arrived()
            assert len(venue.book.orders) - before == (fate in CARRIED_OUT or fate is Fate.LATE), fate
        assert [item.client_id for item in venue.asked("create")] == [f"abc{n}" for n in range(len(Fate))]


async def test_ccxt_takes_an_empty_answer_for_an_empty_list(exchange: str) -> None:
    """So that nothing that rests is to be believed gone because ccxt says so."""
    async with Venue(exchange) as venue, raw(venue) as client:
        await rest(venue, client, "abc1")
        for fate in UNDERSTOOD_AS_DONE:
            venue.say(fate, "open")
            try:
                assert await client.fetch_open_orders(venue.symbol) == []
            except (AttributeError, TypeError):
                assert exchange == "binance"


async def test_a_broken_connection_makes_aiohttp_repeat_reads_and_binances_cancel(exchange: str) -> None:
    """The session that ccxt makes resends GET and DELETE: a cancel that was carried out is then called unknown."""
    async with Venue(exchange) as venue, raw(venue) as client:
        placed = await rest(venue, client, "abc1")
        venue.say(Fate.LOST_REPLY, "cancel")
        with pytest.raises(ccxt.OrderNotFound if exchange == "binance" else ccxt.ExchangeNotAvailable):
            await client.cancel_order(placed["id"], venue.symbol)
        assert len(venue.asked("cancel")) == (2 if exchange == "binance" else 1)
        assert only(venue).status is Status.CANCELED


async def test_a_late_request_is_carried_out_once_after_its_caller_gave_up(exchange: str) -> None:
    """While it is under way the venue knows nothing of it."""
    async with Venue(exchange) as venue, raw(venue) as client:
        await client.load_markets()
        venue.set_faults(Faults(late=(600.0, 600.0)))
        venue.say(Fate.LATE, "create")
        with pytest.raises(ccxt.ExchangeNotAvailable):
            await rest(venue, client, "abc1")
        assert (venue.book.orders, venue.under_way) == ([], 1)
        venue.let_arrive()
        assert venue.under_way == 0
        assert only(venue).client_id == "abc1"


@pytest.mark.parametrize("at_door", [False, True])
@pytest.mark.parametrize("exchange", WINDOWED)
async def test_a_request_that_is_late_beyond_its_window_lands_only_if_it_was_checked_before(
    exchange: str, at_door: bool
) -> None:
    """Where the signature is checked at the front, a stale request is carried out all the same."""
    async with Venue(exchange) as venue, raw(venue) as client:
        await client.load_markets()
        venue.set_faults(Faults(late=(600.0, 600.0), late_checked_at_door=at_door))
        venue.say(Fate.LATE, "create")
        with pytest.raises(ccxt.ExchangeNotAvailable):
            await rest(venue, client, "abc1")
        venue.clock.ahead = 100.0
        venue.let_arrive()
        assert len(venue.book.orders) == at_door


async def test_a_new_order_is_in_no_list_until_the_lag_is_over(exchange: str) -> None:
    """And can be canceled nevertheless."""
    async with Venue(exchange, lag=60.0) as venue, raw(venue) as client:
        placed = await rest(venue, client, "abc1")
        assert await client.fetch_open_orders(venue.symbol) == []
        await client.cancel_order(placed["id"], venue.symbol)
        assert only(venue).status is Status.CANCELED


async def test_silence_is_what_it_is_called(exchange: str) -> None:
    """Nobody is answered in a silent fate: ccxt sees no status."""
    assert not SILENT & {Fate.EMPTY, Fate.CUT, Fate.LIMITED}
    async with Venue(exchange, rng=random.Random(1)) as venue, raw(venue) as client:
        venue.set_faults(Faults(rates={Fate.REFUSED: 1.0}, only=("ticker",)))
        await client.load_markets()
        with pytest.raises(ccxt.ExchangeNotAvailable):
            await client.fetch_ticker(venue.symbol)
