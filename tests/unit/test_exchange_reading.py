"""Lists and lookups: silence is never an empty list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory, ExchangeUnavailable
from services.mcp.order_execution.exchange_reading import READ_ATTEMPTS, READ_SECONDS_MAX, ExchangeReader, Listing
from services.mcp.order_execution.gateways.base import (
    Found,
    ListScope,
    NotFound,
    OrderList,
    OrderRef,
    Unavailable,
)
from services.mcp.order_execution.models import OrderRequest, OrderState, OrderType, Side
from tests.fakes import FOREVER, OPEN_ONLY, T0, FakeExchange
from tests.unit.test_lifecycle import REQUEST, fill, order_in, seen
from tests.virtual_time import VirtualClock, run_virtual

SILENCE = Unavailable(ErrorCategory.TIMEOUT, "silence")
Scene = Callable[[FakeExchange, ExchangeReader, VirtualClock], Coroutine[Any, Any, None]]


def play(scene: Scene, traits: Any = FOREVER) -> None:
    async def main() -> None:
        clock = VirtualClock()
        exchange = FakeExchange(clock, traits)
        await scene(exchange, ExchangeReader(exchange, clock), clock)

    run_virtual(main)


def answering(*answers: object) -> tuple[Callable[[], Coroutine[Any, Any, Any]], list[float]]:
    """A read that gives one answer after the other, and when it was made."""
    left = list(answers)
    made: list[float] = []

    async def read() -> Any:
        made.append(asyncio.get_running_loop().time())
        return left.pop(0)

    return read, made


def test_a_read_that_is_not_answered_is_made_again() -> None:
    """With growing pauses; what the exchange asks to wait is a floor."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        read, made = answering(SILENCE, replace(SILENCE, retry_after=7.0), "answer")
        assert await reader.ask(read) == "answer"
        assert [later - made[0] for later in made] == [0.0, 0.5, 7.5]

    play(scene)


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [
        (SILENCE, READ_ATTEMPTS),
        (Unavailable(ErrorCategory.AUTHENTICATION, "who?"), 1),
        (Unavailable(ErrorCategory.CIRCUIT_OPEN, "open"), 1),
        (Unavailable(ErrorCategory.RATE_LIMITED, "slow down", retry_after=3600.0), 1),
    ],
)
def test_what_stays_unanswered_is_an_error(answer: Unavailable, attempts: int) -> None:
    """After a few attempts, or at once where waiting is of no use."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        read, made = answering(*[answer] * READ_ATTEMPTS)
        with pytest.raises(ExchangeUnavailable, match=answer.message) as caught:
            await reader.ask(read)
        assert (len(made), caught.value.category, caught.value.retry_after) == (
            attempts,
            answer.category,
            answer.retry_after,
        )

    play(scene)


def test_no_read_takes_for_ever() -> None:
    """A gateway that hangs counts as one that does not answer."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        begun = clock.monotonic()
        with pytest.raises(ExchangeUnavailable, match="no answer within"):
            await reader.ask(lambda: asyncio.Event().wait())  # type: ignore[arg-type]
        assert clock.monotonic() - begun < READ_ATTEMPTS * (READ_SECONDS_MAX + 10)

    play(scene)


def test_an_order_that_closes_between_the_lists_is_seen_closed() -> None:
    """It stands in both, and what was read later holds."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        exchange.place(REQUEST)
        listed = exchange.open_orders

        async def open_orders(symbol: str | None = None) -> OrderList | Unavailable:
            answer = await listed(symbol)
            exchange.fill("X1", "1")
            return answer

        exchange.open_orders = open_orders  # type: ignore[method-assign]
        listing = await reader.listing(T0, T0 + timedelta(hours=1), ["BTC/USD"])
        assert listing.by_id["X1"].state is OrderState.FILLED

    play(scene)


def test_where_lists_are_by_symbol_each_is_asked_for() -> None:
    """And for an account in one go."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        exchange.place(REQUEST)
        exchange.place(OrderRequest("id-2", "ETH/USD", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(1)))
        for scope, calls in ((ListScope.ACCOUNT, 1), (ListScope.SYMBOL, 2)):
            exchange.traits = replace(FOREVER, list_scope=scope)
            exchange.reads.clear()
            listing = await reader.listing(T0, T0 + timedelta(hours=1), ["BTC/USD", "ETH/USD"])
            assert sorted(listing.by_id) == ["X1", "X2"]
            assert [exchange.reads.count(name) for name in ("open_orders", "closed_orders", "trades")] == [
                calls
            ] * 3

    play(scene)


def test_only_lists_that_there_are_are_asked_for() -> None:
    """Traits tell."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        await reader.listing(T0, T0 + timedelta(hours=1), [])
        assert exchange.reads == ["open_orders"]

    play(scene, replace(FOREVER, lists_closed_orders=False, lists_trades=False))


def test_listed_trades_are_laid_to_their_orders() -> None:
    """Where the order does not carry them itself."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        exchange.carry_fills = False
        exchange.place(REQUEST)
        exchange.fill("X1", "0.4")
        exchange.fill("X1", "0.6")
        listing = await reader.listing(T0, T0 + timedelta(hours=1), [])
        order = order_in(OrderState.OPEN, exchange_order_id="X1")
        looked_up = await reader.look_up(order, listing)
        assert looked_up is not None
        assert [fill.trade_id for fill in looked_up.fills or ()] == ["T1", "T2"]

    play(scene)


def test_orders_are_found_by_the_exchanges_id_else_by_ours() -> None:
    """An order that has an id of the exchange's is no other order."""
    listing = Listing()
    listing.add(
        [seen(OrderState.OPEN), replace(seen(OrderState.OPEN), exchange_order_id="X9", client_order_id=None)]
    )
    assert listing.find(order_in(OrderState.UNKNOWN)) == seen(OrderState.OPEN)
    assert listing.find(order_in(OrderState.OPEN, exchange_order_id="X1")) == seen(OrderState.OPEN)
    assert listing.find(order_in(OrderState.OPEN, exchange_order_id="X2")) is None
    carried = seen(OrderState.FILLED, (fill(1),))
    assert listing.with_fills(carried) is carried


def test_a_lookup_uses_the_listed_id_where_we_have_none() -> None:
    """Not every exchange finds closed orders by client id."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        exchange.place(REQUEST)
        exchange.close_order("X1")
        order = order_in(OrderState.REJECTED)
        assert await reader.query(OrderRef(order.order_id, order.symbol)) is None
        listing = await reader.listing(T0, T0 + timedelta(hours=1), [])
        looked_up = await reader.look_up(order, listing)
        assert looked_up is not None
        assert looked_up.exchange_order_id == "X1"

    play(scene, OPEN_ONLY)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("scope", ListScope)
def test_where_lookup_finds_open_orders_only_the_closed_ones_are_listed(listed: bool, scope: ListScope) -> None:
    """NotFound covers what the lookup covers, and no more; closed before the period counts too."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        exchange.place(REQUEST)
        exchange.close_order("X1")
        found = exchange.query

        async def query(ref: OrderRef) -> Found | NotFound | Unavailable:
            answer = await found(ref)
            return NotFound() if isinstance(answer, Found) and answer.order.state.is_final else answer

        exchange.query = query  # type: ignore[method-assign]
        await asyncio.sleep(7200)
        since = T0 if listed else clock.now() - timedelta(hours=1)
        listing = await reader.listing(since, clock.now(), ["BTC/USD"])
        assert ("X1" in listing.by_id) is listed
        order = order_in(OrderState.OPEN, exchange_order_id="X1")
        looked_up = await reader.look_up(order, listing)
        assert looked_up is not None
        assert looked_up.state is OrderState.CANCELED
        assert await reader.look_up(replace(order, exchange_order_id="X2"), listing) is None

    play(scene, replace(OPEN_ONLY, list_scope=scope))


def test_an_order_that_was_listed_open_and_is_open_no_more_is_looked_for_among_the_closed() -> None:
    """The listed view is stale: taken for the truth it would reopen an order that has ended."""

    async def scene(exchange: FakeExchange, reader: ExchangeReader, clock: VirtualClock) -> None:
        exchange.place(REQUEST)
        listing = await reader.listing(T0, T0 + timedelta(hours=1), [])
        exchange.close_order("X1")

        async def query(ref: OrderRef) -> NotFound:
            return NotFound()

        exchange.query = query  # type: ignore[method-assign]
        looked_up = await reader.look_up(order_in(OrderState.OPEN, exchange_order_id="X1"), listing)
        assert looked_up is not None
        assert looked_up.state is OrderState.CANCELED

    play(scene, OPEN_ONLY)
