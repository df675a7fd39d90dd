"""Each fault as it is seen at the wire, and what was done meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from services.mcp.order_execution.sandbox import WireFaults
from services.mcp.order_execution.sandbox import wire as wire_module
from tests.unit.sandbox.desk import ADD, LIST, NOON, Desk, desk

BODY = b'{"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.01", "price": "60000"}'


@asynccontextmanager
async def weather(**faults: Any) -> AsyncIterator[Desk]:
    """A sandbox whose faults strike ``orders/add`` alone."""
    async with desk(faults={"only": [ADD], "hang_seconds": 0.0, **faults}) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task does, for five seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("nothing changed for five seconds")


def booked(client: Desk) -> int:
    return len(client.sandbox.book())


async def test_a_lost_request_is_a_reset_and_nothing_is_booked() -> None:
    """The caller cannot tell it from a lost reply."""
    async with weather(lost_request=1.0) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        assert booked(client) == 0


async def test_a_lost_reply_is_a_reset_and_the_order_is_booked() -> None:
    """The only difference is in the book."""
    async with weather(lost_reply=1.0) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        assert booked(client) == 1


async def test_a_reset_can_come_after_a_silence() -> None:
    """``hang_seconds`` long."""
    async with weather(lost_reply=1.0, hang_seconds=0.2) as client:
        started = asyncio.get_running_loop().time()
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        assert asyncio.get_running_loop().time() - started >= 0.2


async def test_without_an_end_of_the_silence_the_caller_gives_up() -> None:
    """``hang_seconds`` None hangs."""
    async with weather(lost_reply=1.0, hang_seconds=None) as client:
        with pytest.raises(TimeoutError):
            await client.ask("POST", ADD, BODY, timeout=0.2)
        assert booked(client) == 1


@pytest.mark.parametrize(("fate", "orders"), [("hang_before", 0), ("hang_after", 1)])
async def test_a_hang_lasts_until_the_caller_gives_up(fate: str, orders: int) -> None:
    """Carried out or not."""
    async with weather() as client:
        client.sandbox.say(fate, ADD)
        with pytest.raises(TimeoutError):
            await client.ask("POST", ADD, BODY, timeout=0.2)
        assert booked(client) == orders


async def test_a_refused_connection_is_a_reset_at_once() -> None:
    """And nothing is booked."""
    async with weather(refused_connection=1.0, hang_seconds=10) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        assert booked(client) == 0


async def test_a_cut_body_is_shorter_than_it_says_and_the_order_is_booked() -> None:
    """The connection ends amid the JSON."""
    async with weather() as client:
        client.sandbox.say("cut", ADD)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.add()
        assert booked(client) == 1


async def test_junk_is_http_200_and_half_a_json() -> None:
    """Whole as far as HTTP goes; the order is booked."""
    async with weather() as client:
        client.sandbox.say("junk", ADD)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            await client.add()
        assert booked(client) == 1


async def test_a_throttle_is_not_garbled() -> None:
    """One whose ``backOff`` cannot be read would cost its caller a minute; that fault has a name of its own."""
    async with desk() as client:
        client.sandbox.say("limited", ADD)
        assert (await client.add()).status == 429
        client.sandbox.say("junk", ADD)
        again = await client.add()
        assert again.status == 429
        assert again.body["backOff"] > 0


@pytest.mark.parametrize(("fate", "orders"), [("error_before", 0), ("error_after", 1)])
async def test_a_server_error_is_an_html_page(fate: str, orders: int) -> None:
    """5xx, carried out or not."""
    async with weather() as client:
        client.sandbox.say(fate, ADD)
        answer = await client.add()
        assert 500 <= answer.status <= 520
        assert answer.body.startswith("<!doctype html>")
        assert answer.headers["Content-Type"].startswith("text/html")
        assert booked(client) == orders


async def test_429_names_its_back_off_and_means_it() -> None:
    """The next call to the endpoint within it is refused too, and others are not."""
    async with weather(retry_after_seconds=3) as client:
        client.sandbox.say("limited", ADD)
        refused = await client.add()
        assert (refused.status, refused.body["code"], refused.body["backOff"]) == (429, "TooManyRequests", 3)
        assert (await client.add()).status == 429
        assert (await client.get(LIST)).status == 200
        client.clock.advance(3)
        assert (await client.add()).status == 200
        assert booked(client) == 1


async def test_429_on_an_address_that_does_not_exist() -> None:
    """A fault strikes before the router looks."""
    async with desk() as client:
        client.sandbox.say("limited", "/nope")
        assert (await client.get("/nope")).status == 429
        assert (await client.get("/nope")).status == 404


async def test_429_may_come_without_a_back_off() -> None:
    """As a page."""
    async with weather(bare_429=1.0) as client:
        answer = await client.add()
        assert answer.status == 429
        assert "<h1>" in answer.body
        assert booked(client) == 0


async def test_a_late_request_is_carried_out_after_its_caller_was_reset() -> None:
    """At first the book is empty; then the order is there."""
    async with weather(late_arrival=1.0, late_seconds_min=0.1, late_seconds_max=0.1) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        assert (booked(client), client.sandbox.under_way) == (0, 1)
        await until(lambda: client.sandbox.under_way == 0)
        assert booked(client) == 1


async def test_a_late_request_whose_signature_went_stale_is_refused() -> None:
    """The clock passes the thirty seconds before it arrives."""
    async with weather(late_arrival=1.0, late_seconds_min=0.1, late_seconds_max=0.1) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.ask("POST", ADD, BODY, client.signed("POST", ADD, BODY))
        client.clock.advance(31)
        await until(lambda: client.sandbox.under_way == 0)
        assert client.sandbox.requests == {f"{ADD} 401": 1}
        assert booked(client) == 0


async def test_a_late_request_under_a_session_token_never_goes_stale() -> None:
    """There is nothing in it that says when it was sent."""
    async with weather(late_arrival=1.0, late_seconds_min=0.1, late_seconds_max=0.1) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        client.clock.advance(31)
        await until(lambda: client.sandbox.under_way == 0)
        assert booked(client) == 1


@pytest.mark.parametrize(("ahead", "orders"), [(0, 1), (-40, 0)])
async def test_signatures_can_be_checked_at_the_front(ahead: float, orders: int) -> None:
    """Then a late request is carried out though it is stale by then, unless it was stale from the beginning."""
    late = {"late_arrival": 1.0, "late_seconds_min": 0.1, "late_seconds_max": 0.1}
    async with weather(late_past_expiry=True, **late) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.ask("POST", ADD, BODY, client.signed("POST", ADD, BODY, ahead=ahead))
        client.clock.advance(31)
        await until(lambda: client.sandbox.under_way == 0)
        assert booked(client) == orders


async def test_late_requests_die_with_the_sandbox() -> None:
    """It does not wait for them."""
    async with weather(late_arrival=1.0, late_seconds_min=60, late_seconds_max=60) as client:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await client.add()
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 5


async def test_latency_delays_an_answer() -> None:
    """There and back together."""
    async with weather(latency_seconds=[0.2, 0.2]) as client:
        started = asyncio.get_running_loop().time()
        await client.add()
        assert asyncio.get_running_loop().time() - started >= 0.19


async def test_the_date_header_is_the_sandboxs_clock() -> None:
    """It is how a client learns the clock's offset, which can be set."""
    async with desk() as client:
        assert parsedate_to_datetime((await client.get("/v2/options")).headers["Date"]) == NOON
        client.sandbox.set_faults(WireFaults(clock_offset_seconds=45))
        shifted = parsedate_to_datetime((await client.get("/v2/options")).headers["Date"])
        assert shifted == NOON + timedelta(seconds=45)
        assert (await client.ask("GET", LIST, headers=client.signed("GET", LIST))).status == 401
        assert (await client.ask("GET", LIST, headers=client.signed("GET", LIST, ahead=45))).status == 200


async def test_faults_change_while_it_runs() -> None:
    """And what is exempt stays so."""
    async with weather(bare_429=1.0) as client:
        assert (await client.add()).status == 429
        assert (await client.get(LIST)).status == 200
        client.sandbox.set_faults(WireFaults())
        assert client.sandbox.faults == WireFaults()
        assert (await client.add()).status == 200


async def test_a_body_that_is_too_large_is_refused() -> None:
    """Before anything else."""
    async with desk() as client:
        assert (await client.ask("POST", ADD, b" " * 300_000)).status == 413


async def test_there_is_an_end_to_late_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it they are lost."""
    monkeypatch.setattr(wire_module, "LATE_MAX", 1)
    async with weather(late_arrival=1.0, late_seconds_min=60, late_seconds_max=60) as client:
        for _ in range(2):
            with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
                await client.add()
        assert client.sandbox.under_way == 1
