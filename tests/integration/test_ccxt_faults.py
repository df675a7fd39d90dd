"""The ccxt gateway under every fault of the wire, one after the other, on four exchanges' wire formats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Found,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Unavailable,
    Unknown,
)
from tests.ccxt_venues.book import Status
from tests.ccxt_venues.faults import CARRIED_OUT, Fate, Faults
from tests.ccxt_venues.server import DIALECTS, Venue
from tests.contract.gateways.ccxt_bench import CcxtBench, gateway

HASTY_SECONDS = 1.0
"""The timeout of a gateway that is kept waiting on purpose; others are patient, since machines can be slow."""
THROTTLES = {Fate.LIMITED, Fate.LIMITED_PAGE}
HANGS = {Fate.HANG_BEFORE, Fate.HANG_AFTER}
BAD = [fate for fate in Fate if fate is not Fate.DELIVERED and fate not in HANGS]
HOUR = timedelta(hours=1)


@pytest.fixture(params=list(DIALECTS))
def exchange(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def bench_on(exchange: str, **changes: Any) -> AsyncIterator[CcxtBench]:
    """An opened gateway that knows its markets, on a venue of its own."""
    async with Venue(exchange) as venue:
        bench = CcxtBench(venue)
        bench.gateway = gateway(venue, **changes)
        venue.set_faults(Faults(silence=0.0))
        await bench.gateway.open()
        try:
            await bench.market()
            yield bench
        finally:
            await bench.gateway.close()


async def test_a_submit_says_no_more_than_is_known_whatever_befalls_it(exchange: str) -> None:
    """One request with the id each time; NotSent for a throttle alone; landed or not as the fate has it."""
    async with bench_on(exchange) as bench:
        venue = bench.venue
        for fate in BAD:
            request, before = await bench.order(), len(venue.book.orders)
            venue.say(fate, "create")
            outcome = await bench.gateway.submit(request)
            assert isinstance(outcome, NotSent if fate in THROTTLES else Unknown), (fate, outcome)
            if fate in THROTTLES:
                assert outcome.category is ErrorCategory.RATE_LIMITED
            sent = [item.client_id for item in venue.asked("create") if item.client_id == request.client_order_id]
            assert len(sent) == 1, fate
            await venue.all_arrived()
            # A request that comes after a later one has a nonce that kraken does not take any more.
            landed = fate in CARRIED_OUT or fate is Fate.LATE
            assert len(venue.book.orders) - before == landed, fate
        assert all(item.client_id is not None for item in venue.asked("create"))


async def test_a_cancel_says_no_more_than_is_known_whatever_befalls_it(exchange: str) -> None:
    """One request each time: a cancel that was carried out is never called refused because it was repeated."""
    async with bench_on(exchange) as bench:
        venue = bench.venue
        for fate in BAD:
            request, accepted = await bench.rest()
            before = len(venue.asked("cancel"))
            venue.say(fate, "cancel")
            outcome = await bench.gateway.cancel(bench.ref(request, accepted))
            assert isinstance(outcome, NotSent if fate in THROTTLES else Unknown), (fate, outcome)
            assert len(venue.asked("cancel")) == before + 1, fate


NOTHING_IS_AN_ANSWER = {("kraken", "balances")}
"""Kraken says of an account with nothing in it what it says where it has nothing to say."""

READS: dict[str, Callable[[CcxtBench, OrderRef], Awaitable[object]]] = {
    "query": lambda bench, ref: bench.gateway.query(ref),
    "open": lambda bench, ref: bench.gateway.open_orders(bench.symbol),
    "closed": lambda bench, ref: bench.gateway.closed_orders(
        bench.clock.now() - HOUR, bench.clock.now() + HOUR, bench.symbol
    ),
    "trades": lambda bench, ref: bench.gateway.trades(bench.clock.now() - HOUR, bench.symbol),
    "balances": lambda bench, ref: bench.gateway.balances(),
    "ticker": lambda bench, ref: bench.gateway.ticker(bench.symbol),
}


@pytest.mark.parametrize("name", READS)
async def test_a_read_that_is_not_answered_is_unavailable_whatever_befalls_it(exchange: str, name: str) -> None:
    """Never an empty list, never "not found": what ccxt makes of an empty page is no word of the exchange."""
    async with bench_on(exchange) as bench:
        request, accepted = await bench.rest()
        for ref in (bench.ref(request, accepted), bench.ref(request)) if name == "query" else (bench.ref(request),):
            for fate in BAD:
                if fate is Fate.HOLLOW and (exchange, name) in NOTHING_IS_AN_ANSWER:
                    continue
                bench.venue.set_faults(Faults(rates={fate: 1.0}, silence=0.0))
                answer = await READS[name](bench, ref)
                assert isinstance(answer, Unavailable), (fate, answer)
                if fate in THROTTLES:
                    assert (answer.category, bool(answer.retry_after)) == (ErrorCategory.RATE_LIMITED, True)


async def test_a_read_is_asked_once(exchange: str) -> None:
    """Also where the connection breaks: repeating is the executor's business, which counts and spaces it."""
    async with bench_on(exchange) as bench:
        for fate in (Fate.REFUSED, Fate.LOST_REQUEST, Fate.LOST_REPLY):
            before = len(bench.venue.requests)
            bench.venue.say(fate)
            await bench.gateway.ticker(bench.symbol)
            assert len(bench.venue.requests) == before + 1, fate


async def test_nothing_is_known_of_what_is_not_answered_in_time(exchange: str) -> None:
    """After the timeout: writes that may have been carried out are Unknown, reads are unavailable."""
    async with bench_on(exchange, timeout_seconds=HASTY_SECONDS) as bench:
        venue = bench.venue
        lost, landed, held = await bench.order(), await bench.order(), await bench.rest()
        reads = [READS[name](bench, bench.ref(held[0])) for name in READS]
        said = [(Fate.HANG_BEFORE, "create"), (Fate.HANG_AFTER, "create"), (Fate.HANG_AFTER, "cancel")]
        for fate, operation in said:
            venue.say(fate, operation)
        venue.weather.faults = Faults(rates={Fate.HANG_BEFORE: 1.0})
        outcomes = await asyncio.gather(
            bench.gateway.submit(lost),
            bench.gateway.submit(landed),
            bench.gateway.cancel(bench.ref(*held)),
            *reads,
        )
        for outcome in outcomes[:3]:
            assert isinstance(outcome, Unknown), outcome
            assert outcome.category is ErrorCategory.TIMEOUT
        assert [type(answer) for answer in outcomes[3:]] == [Unavailable] * len(reads)
        assert [order.status for order in venue.book.orders] == [Status.CANCELED, Status.OPEN]


@pytest.mark.parametrize("name", ["kraken", "bybit"])
async def test_a_lookup_in_two_places_needs_the_word_of_both(name: str) -> None:
    """An order that is in the second one is not called missing because the second one did not answer."""
    async with bench_on(name) as bench:
        request, accepted = await bench.rest()
        await bench.gateway.cancel(bench.ref(request, accepted))
        if name == "bybit":  # real-time orders have the latest closed ones too
            bench.venue.dialect.endpoints.pop(("GET", "/v5/order/realtime"))
        for fate in BAD:
            bench.venue.say(fate, "closed")
            answer = await bench.gateway.query(bench.ref(request))
            assert not isinstance(answer, NotFound), fate


async def test_a_venue_that_is_gone_was_not_sent_anything(exchange: str) -> None:
    """No connection, no order: NotSent, and reads are unavailable."""
    async with bench_on(exchange) as bench:
        request = await bench.order()
        await bench.venue.close()
        await asyncio.sleep(0.05)  # until the gateway's side knows that the connections are closed
        outcome = await bench.gateway.submit(request)
        assert isinstance(outcome, NotSent), outcome
        assert outcome.category is ErrorCategory.CONNECTION
        assert isinstance(await bench.gateway.open_orders(bench.symbol), Unavailable)
        assert isinstance(await bench.gateway.query(bench.ref(request)), Unavailable)


@pytest.mark.parametrize("expiry", [0.2, None])
async def test_a_request_that_is_late_beyond_its_expiry_never_lands(exchange: str, expiry: float | None) -> None:
    """What each exchange is told is never longer than what the executor relies on, however short it is set."""
    async with bench_on(exchange, request_expiry_seconds=expiry) as bench:
        venue, relied_on = bench.venue, bench.gateway.traits.request_expiry
        assert relied_on is not None
        venue.set_faults(Faults(late=(600.0, 600.0), silence=0.0))
        late = await bench.order()
        venue.say(Fate.LATE, "create")
        assert isinstance(await bench.gateway.submit(late), Unknown)
        venue.clock.ahead = relied_on
        venue.let_arrive()
        assert venue.book.orders == []


async def test_a_clock_that_is_wrong_is_allowed_for(exchange: str) -> None:
    """Ours is behind or ahead from the start: orders are placed all the same."""
    for ahead in (75.0, -75.0):
        async with Venue(exchange) as venue:
            venue.clock.ahead = ahead
            bench = CcxtBench(venue)
            await bench.gateway.open()
            try:
                _, accepted = await bench.rest()
                assert accepted.exchange_order_id
                assert bench.gateway.clock_error is not None
                assert abs(bench.gateway.clock_error + ahead) < 2
            finally:
                await bench.gateway.close()


async def test_a_clock_that_is_set_meanwhile_costs_one_request(exchange: str) -> None:
    """The first order after it may be refused as untimely; then the exchange's clock is read anew."""
    async with bench_on(exchange) as bench:
        bench.venue.clock.ahead = 100.0
        outcome = await bench.gateway.submit(request := await bench.order())
        assert isinstance(outcome, (NotSent, Accepted)), outcome
        if isinstance(outcome, NotSent):
            assert bench.venue.book.orders == []
            assert isinstance(await bench.gateway.submit(request), Accepted)


async def test_wrong_credentials_are_said_to_be_wrong(exchange: str) -> None:
    """And nothing is called placed, refused or missing."""
    async with bench_on(exchange) as bench:
        keys = bench.venue.keys
        bench.venue.dialect.keys = replace(keys, secret=keys.secret[:-4] + "AAA=")  # type: ignore[misc]
        request = await bench.order()
        outcome, read = await bench.gateway.submit(request), await bench.gateway.balances()
        assert isinstance(outcome, NotSent), outcome
        assert isinstance(read, Unavailable)
        assert outcome.category is read.category is ErrorCategory.AUTHENTICATION
        assert isinstance(await bench.gateway.query(bench.ref(request)), Unavailable)


async def test_many_submits_at_once_in_bad_weather_land_once_each_at_most(exchange: str) -> None:
    """Whatever each of them was answered; and what was accepted is there."""
    async with bench_on(exchange) as bench:
        rates: dict[Fate, float] = dict.fromkeys(BAD, 0.03)
        requests = [await bench.order() for _ in range(40)]
        bench.venue.set_faults(Faults(rates=rates, silence=0.0, late=(0.0, 0.05), only=("create",)))
        outcomes = await asyncio.gather(*(bench.gateway.submit(request) for request in requests))
        await bench.venue.all_arrived()
        booked = [order.client_id for order in bench.venue.book.orders]
        assert len(set(booked)) == len(booked)
        for request, outcome in zip(requests, outcomes, strict=True):
            assert not isinstance(outcome, Rejected), outcome
            if isinstance(outcome, Accepted):
                assert request.client_order_id in booked
            if isinstance(outcome, NotSent):
                assert request.client_order_id not in booked
        bench.venue.set_faults(Faults())
        listed = await bench.gateway.open_orders(bench.symbol)
        assert isinstance(listed, OrderList)
        assert sorted(str(order.client_order_id) for order in listed.orders) == sorted(map(str, booked))


async def test_a_new_order_that_is_in_no_list_yet_is_found_when_it_is(exchange: str) -> None:
    """Within the settle time "not there" says nothing, and afterwards it is there."""
    async with Venue(exchange, lag=0.2) as venue:
        bench = CcxtBench(venue)
        await bench.gateway.open()
        try:
            request, _ = await bench.rest()
            assert not isinstance(await bench.gateway.query(bench.ref(request)), Found)
            await asyncio.sleep(0.25)
            assert isinstance(await bench.gateway.query(bench.ref(request)), Found)
        finally:
            await bench.gateway.close()
