"""The documented limits, ``backOff``, and what becomes of those who ignore it."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.sandbox.calls import Refusal
from services.mcp.order_execution.sandbox.rate_limits import BLOCK_SECONDS, IGNORED_MAX, Limit, RateLimits
from tests.unit.sandbox.desk import ADD, LIST, HandClock, desk

DOCUMENTED = [
    ("POST", ADD, 300, 600),
    ("POST", "/market/orders/batch-add", 300, 600),
    ("POST", "/market/orders/status", 300, 60),
    ("GET", LIST, 30, 60),
    ("POST", "/market/orders/update-status", 90, 60),
    ("POST", "/market/orders/cancel-old", 30, 60),
    ("POST", "/market/orders/cancel-batch", 10, 60),
    ("GET", "/market/orders/open-count", 15, 60),
    ("GET", "/market/trades/list", 30, 60),
    ("GET", "/users/wallets/list", 20, 120),
    ("GET", "/v2/wallets", 15, 60),
    ("POST", "/users/wallets/balance", 60, 120),
    ("GET", "/v3/orderbook/BTCIRT", 300, 60),
    ("GET", "/v2/depth/BTCIRT", 300, 60),
    ("GET", "/v2/trades/BTCIRT", 60, 60),
    ("GET", "/market/stats", 20, 60),
]


@pytest.mark.parametrize(("method", "path", "count", "seconds"), DOCUMENTED)
async def test_every_documented_limit(method: str, path: str, count: int, seconds: float) -> None:
    """So many calls pass, the next one is 429 with ``backOff`` and ``limit``, and after the window it passes."""
    async with desk() as client:
        for _ in range(count):
            assert (await client.ask(method, path)).status != 429
        refused = await client.ask(method, path)
        assert refused.status == 429
        assert refused.body["status"] == "failed"
        assert refused.body["code"] == "TooManyRequests"
        assert refused.body["limit"] == count
        assert refused.body["backOff"] == seconds
        client.clock.advance(refused.body["backOff"])
        assert (await client.ask(method, path)).status != 429


async def test_each_endpoint_is_counted_apart() -> None:
    """Who lists too often may still ask for a status."""
    async with desk() as client:
        while (await client.get(LIST)).status != 429:
            pass
        assert (await client.post("/market/orders/status", {"id": 1})).status != 429


async def test_a_batch_counts_its_orders_and_stops_where_the_limit_is_crossed() -> None:
    """The results are shorter than what was sent; the rest was not placed."""
    async with desk(limits=0.01) as client:  # three orders in ten minutes
        order = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.01", "price": "60000"}
        answer = await client.post("/market/orders/batch-add", {"data": [order] * 5, "pro": "yes"})
        assert len(answer.body["results"]) == 3
        assert len(client.sandbox.book()) == 3
        assert (await client.add()).status == 429


async def test_who_ignores_back_off_is_blocked_everywhere_for_two_minutes() -> None:
    """Public endpoints apart."""
    async with desk() as client:
        while (await client.get("/market/orders/open-count")).status != 429:
            pass
        for _ in range(IGNORED_MAX):
            assert (await client.get("/market/orders/open-count")).status == 429
        blocked = await client.get(LIST)
        assert blocked.status == 429
        assert blocked.body["backOff"] == BLOCK_SECONDS
        assert (await client.get("/v2/options")).status == 200
        client.clock.advance(BLOCK_SECONDS)
        assert (await client.get(LIST)).status == 200


def test_who_names_no_trader_bot_gets_half() -> None:
    """The header applies suitable limits; this is the sandbox's reading of it."""
    limits = RateLimits(HandClock(), 1.0)
    for _ in range(5):
        limits.take(Limit("x", 10, 60), private=True, known_bot=False)
    with pytest.raises(Refusal):
        limits.take(Limit("x", 10, 60), private=True, known_bot=False)


def test_the_window_slides() -> None:
    """A call is forgotten when it is as old as the window, not when a new minute begins."""
    clock = HandClock()
    limits = RateLimits(clock, 1.0)
    limit = Limit("x", 2, 60)
    limits.take(limit, private=True)
    clock.advance(40)
    limits.take(limit, private=True)
    with pytest.raises(Refusal) as refused:
        limits.take(limit, private=True)
    assert refused.value.reply.body == {
        "status": "failed",
        "code": "TooManyRequests",
        "message": "Too many requests",
        "backOff": 20,
        "limit": 2,
    }
    clock.advance(20)
    limits.take(limit, private=True)


def test_limits_can_be_off_and_a_hold_still_holds() -> None:
    """Without limits nothing is counted, but a 429 that was sent is meant."""
    clock = HandClock()
    limits = RateLimits(clock, None)
    for _ in range(1000):
        limits.take(Limit("x", 1, 60), private=True)
    limits.hold("x", 0.25, 1)
    with pytest.raises(Refusal) as refused:
        limits.take(Limit("x", 1, 60), private=True)
    assert isinstance(refused.value.reply.body, dict)
    assert refused.value.reply.body["backOff"] == 0.25
    clock.advance(0.25)
    limits.take(Limit("x", 1, 60), private=True)


def test_the_block_can_be_shorter() -> None:
    """For days that last seconds: whoever ignores a hold is blocked for as long as is set, everywhere."""
    clock = HandClock()
    limits = RateLimits(clock, None, block_seconds=2.0)
    limits.hold("x", 1.0, 1)
    for _ in range(IGNORED_MAX):
        with pytest.raises(Refusal):
            limits.take(Limit("x", 1, 60), private=True)
    clock.advance(1.9)
    with pytest.raises(Refusal):
        limits.take(Limit("y", 1, 60), private=True)
    clock.advance(0.1)
    limits.take(Limit("y", 1, 60), private=True)
