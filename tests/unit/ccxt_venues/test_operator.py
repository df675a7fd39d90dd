"""The operator's door of a venue, through which another process changes the weather and looks at the book."""

from __future__ import annotations

import asyncio

import pytest

from tests.ccxt_venues.client import raw
from tests.ccxt_venues.faults import Fate, Faults, Weather
from tests.ccxt_venues.process import Remote, make, venues
from tests.ccxt_venues.server import Venue


def remote(venue: Venue) -> Remote:
    keys = venue.keys
    return Remote(venue.base_url, venue.symbol, keys.api_key, keys.secret, keys.passphrase)


async def test_another_process_sets_faults_and_sees_the_book_and_the_requests() -> None:
    """Without meeting faults itself."""
    async with Venue("binance") as venue, raw(venue) as client:
        door = remote(venue)
        await client.load_markets()
        told = {"rates": {"refused": 1.0}, "only": ["ticker"], "script": [{"fate": "empty", "operation": "create"}]}
        await asyncio.to_thread(door.ask, "faults", **told)
        assert venue.weather.draw("ticker") is Fate.REFUSED
        placed = await client.create_order(
            venue.symbol, "limit", "buy", "0.001", "45000", {"clientOrderId": "abc1"}
        )
        assert placed["id"] is None
        (order,) = await asyncio.to_thread(door.book)
        assert (order["client_id"], order["status"]) == ("abc1", "open")
        requests = await asyncio.to_thread(door.ask, "requests")
        assert [item["client_id"] for item in requests if item["operation"] == "create"] == ["abc1"]
        await asyncio.to_thread(door.ask, "fill", client_id="abc1")
        assert (await asyncio.to_thread(door.book))[0]["status"] == "filled"


async def test_no_record_shows_a_secret_or_a_signature() -> None:
    """What is written down may be printed."""
    async with Venue("binance") as venue, raw(venue) as client:
        await client.fetch_balance()
        assert "signature" not in venue.asked("balances")[0].params
        assert venue.keys.secret not in repr(venue.requests)


def test_venues_live_in_a_process_of_their_own() -> None:
    """Each with a port, a book and a weather of its own."""
    with venues() as control:
        one, two = make(control, "kraken", seed=1), make(control, "okx", seed=2)
        assert one.url != two.url
        assert (one.symbol, two.passphrase) == ("BTC/USD", "okx-passphrase")
        assert one.book() == two.book() == []


def test_faults_that_are_not_known_are_refused() -> None:
    """A typing error in a test does not turn into good weather."""
    with pytest.raises(ValueError, match="unknown"):
        Faults.from_plain({"rate": {}})
    with pytest.raises(ValueError, match="nonsense"):
        Faults.from_plain({"rates": {"nonsense": 1.0}})


def test_what_is_said_beforehand_comes_first_and_once() -> None:
    """For the operation that it is said of."""
    import random

    weather = Weather(random.Random(1))
    weather.say("cut", "create")
    assert [weather.draw(name) for name in ("open", "create", "create")] == [
        Fate.DELIVERED,
        Fate.CUT,
        Fate.DELIVERED,
    ]
