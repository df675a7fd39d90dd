"""What every gateway promises: the type of each answer says what happened, and the exchange's book agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from services.mcp.order_execution.errors import ErrorCategory, InvalidOrder
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balances,
    ExchangeOrder,
    Found,
    GatewayTraits,
    IdScope,
    LookupScope,
    Market,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Ticker,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.models import OrderState, OrderType, Side, TimeInForce
from tests.contract.gateways.bench import Bench, Run, Trouble

HOUR = timedelta(hours=1)

READS: dict[str, Callable[[Bench, OrderRef], Awaitable[object]]] = {
    "query": lambda bench, ref: bench.gateway.query(ref),
    "open_orders": lambda bench, ref: bench.gateway.open_orders(ref.symbol),
    "closed_orders": lambda bench, ref: bench.gateway.closed_orders(
        bench.clock.now() - HOUR, bench.clock.now() + HOUR, ref.symbol
    ),
    "trades": lambda bench, ref: bench.gateway.trades(bench.clock.now() - HOUR, ref.symbol),
    "balances": lambda bench, _: bench.gateway.balances(),
    "ticker": lambda bench, ref: bench.gateway.ticker(ref.symbol),
    "ping": lambda bench, _: bench.gateway.ping(),
}


def found(answer: object) -> ExchangeOrder:
    assert isinstance(answer, Found), answer
    return answer.order


def needs(bench: Bench, trouble: Trouble) -> None:
    if trouble not in bench.troubles:
        pytest.skip(f"this bench cannot cause {trouble.name}")


async def listed(bench: Bench) -> list[str | None]:
    answer = await bench.gateway.open_orders(bench.symbol)
    assert isinstance(answer, OrderList)
    return [order.client_order_id for order in answer.orders]


async def closed(bench: Bench) -> dict[str | None, ExchangeOrder]:
    answer = await READS["closed_orders"](bench, OrderRef("", bench.symbol))
    assert isinstance(answer, OrderList)
    return {order.client_order_id: order for order in answer.orders}


# ---- facts ------------------------------------------------------------------------------------------------


def test_traits_and_rules_are_usable(run: Run) -> None:
    """Durations are not negative; a market's steps are positive and its names add up to its symbol."""

    async def scenario(bench: Bench) -> None:
        traits = bench.gateway.traits
        assert bench.gateway.name
        assert isinstance(traits, GatewayTraits)
        assert traits.settle >= 0
        assert traits.request_expiry is None or traits.request_expiry > 0
        assert {OrderType.MARKET, OrderType.LIMIT} <= traits.order_types
        assert TimeInForce.GTC in traits.times_in_force
        market = await bench.market()
        assert market.symbol == bench.symbol == f"{market.base}/{market.quote}"
        assert market.price_tick > 0
        assert market.amount_step > 0
        assert market.min_notional >= 0
        ticker = await bench.gateway.ticker(bench.symbol)
        assert isinstance(ticker, Ticker)
        assert 0 < ticker.bid <= ticker.ask

    run(scenario)


def test_an_unknown_symbol_is_the_callers_mistake(run: Run) -> None:
    """Asking for its rules or prices raises InvalidOrder; submitting it is an explicit refusal."""

    async def scenario(bench: Bench) -> None:
        for ask in (bench.gateway.market, bench.gateway.ticker):
            with pytest.raises(InvalidOrder) as raised:
                await ask(bench.unknown_symbol)
            assert raised.value.field == "symbol"
        outcome = await bench.gateway.submit(await bench.order(symbol=bench.unknown_symbol))
        assert isinstance(outcome, Rejected | NotSent)
        assert await bench.book() == []

    run(scenario)


def test_closing_twice_is_harmless(run: Run) -> None:
    """Whoever closes last finds nothing to do."""

    async def scenario(bench: Bench) -> None:
        await bench.gateway.close()
        await bench.gateway.close()

    run(scenario)


# ---- placing and finding ----------------------------------------------------------------------------------


def test_an_accepted_order_is_in_the_book_once(run: Run) -> None:
    """Under the ids that the answer and the request carry."""

    async def scenario(bench: Bench) -> None:
        request, outcome = await bench.rest()
        (entry,) = await bench.book()
        assert entry.exchange_order_id == outcome.exchange_order_id
        assert entry.state is OrderState.OPEN
        if bench.gateway.traits.accepts_client_ids:
            assert entry.client_order_id == request.client_order_id

    run(scenario)


def test_an_order_comes_back_as_it_was_placed(run: Run) -> None:
    """By the exchange's id: every field of the request, and nothing filled."""

    async def scenario(bench: Bench) -> None:
        request, outcome = await bench.rest()
        await bench.settle()
        order = found(await bench.gateway.query(bench.ref(request, outcome)))
        assert order.exchange_order_id == outcome.exchange_order_id
        assert (order.symbol, order.side, order.type) == (request.symbol, request.side, request.type)
        assert (order.amount, order.price) == (request.amount, request.price)
        assert (order.state, order.filled) == (OrderState.OPEN, 0)
        assert not order.fills
        assert order.created_at.utcoffset() == timedelta(0)
        assert abs(order.created_at - bench.clock.now()) < HOUR

    run(scenario)


def test_lookup_by_client_id_covers_what_the_traits_say(run: Run) -> None:
    """Open orders, all orders, or none; NotFound is an explicit answer."""

    async def scenario(bench: Bench) -> None:
        scope = bench.gateway.traits.lookup_scope
        request, outcome = await bench.rest()
        await bench.settle()
        while_open = await bench.gateway.query(bench.ref(request))
        assert isinstance(while_open, NotFound if scope is LookupScope.NONE else Found)
        await bench.gateway.cancel(bench.ref(request, outcome))
        await bench.settle()
        when_closed = await bench.gateway.query(bench.ref(request))
        assert isinstance(when_closed, Found if scope is LookupScope.ALL else NotFound)
        by_exchange_id = found(await bench.gateway.query(bench.ref(request, outcome)))
        assert by_exchange_id.state is OrderState.CANCELED
        assert await bench.gateway.query(OrderRef(bench.nobody, bench.symbol)) == NotFound()

    run(scenario)


def test_client_ids_are_unique_as_the_traits_say(run: Run) -> None:
    """Among open orders, forever or not at all; a refused duplicate says that it is one."""

    async def scenario(bench: Bench) -> None:
        scope = bench.gateway.traits.client_id_scope
        request, outcome = await bench.rest()
        second = await bench.gateway.submit(request)
        if scope is IdScope.NONE:
            assert isinstance(second, Accepted)
            assert len(await bench.book()) == 2
            return
        assert isinstance(second, Rejected)
        assert second.duplicate_id
        await bench.gateway.cancel(bench.ref(request, outcome))
        third = await bench.gateway.submit(request)
        refused = scope is IdScope.FOREVER or bench.keeps_ids_longer
        assert isinstance(third, Rejected if refused else Accepted)
        assert len(await bench.book()) == (1 if refused else 2)

    run(scenario)


def test_open_orders_lists_all_that_rests_and_nothing_else(run: Run) -> None:
    """Complete, with client ids where the exchange takes them."""

    async def scenario(bench: Bench) -> None:
        assert await listed(bench) == []
        placed = [await bench.rest() for _ in range(5)]
        await bench.gateway.cancel(bench.ref(*placed[2]))
        await bench.gateway.submit(await bench.market_order())
        await bench.settle()
        expected = {request.client_order_id for number, (request, _) in enumerate(placed) if number != 2}
        assert set(await listed(bench)) == expected

    run(scenario)


def test_closed_orders_are_listed_by_time_with_their_client_ids(run: Run) -> None:
    """Created or closed within the period; another period does not have them."""

    async def scenario(bench: Bench) -> None:
        if not bench.gateway.traits.lists_closed_orders:
            pytest.skip("this exchange does not list closed orders")
        request, outcome = await bench.rest()
        resting, _ = await bench.rest()
        await bench.gateway.cancel(bench.ref(request, outcome))
        await bench.settle()
        orders = await closed(bench)
        # Where the exchange lists them together, those that are not final may be there too.
        assert set(orders) - {resting.client_order_id} == {request.client_order_id}
        assert orders[request.client_order_id].state is OrderState.CANCELED
        now = bench.clock.now()
        earlier = await bench.gateway.closed_orders(now - 3 * HOUR, now - 2 * HOUR, bench.symbol)
        assert earlier == OrderList(())

    run(scenario)


def test_many_orders_at_once_are_each_placed_once(run: Run) -> None:
    """Methods may be called concurrently."""

    async def scenario(bench: Bench) -> None:
        requests = [await bench.order() for _ in range(20)]
        outcomes = await asyncio.gather(*(bench.gateway.submit(request) for request in requests))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        ids = [outcome.exchange_order_id for outcome in outcomes if isinstance(outcome, Accepted)]
        assert len(set(ids)) == 20
        assert sorted(entry.exchange_order_id for entry in await bench.book()) == sorted(ids)

    run(scenario)


# ---- trading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_a_market_order_trades_and_its_trades_add_up(run: Run, side: Side) -> None:
    """Order, fills, trade list and balances tell one story."""

    async def scenario(bench: Bench) -> None:
        market, before = await bench.market(), await bench.gateway.balances()
        request = await bench.market_order(side)
        outcome = await bench.gateway.submit(request)
        assert isinstance(outcome, Accepted)
        await bench.settle()
        order = found(await bench.gateway.query(bench.ref(request, outcome)))
        assert (order.state, order.filled) == (OrderState.FILLED, request.amount)
        after = await bench.gateway.balances()
        assert isinstance(before, Balances)
        assert isinstance(after, Balances)
        trades = await bench.gateway.trades(bench.clock.now() - HOUR, bench.symbol)
        assert isinstance(trades, TradeList)
        fills = [trade.fill for trade in trades.trades if trade.exchange_order_id == outcome.exchange_order_id]
        assert order.fills is None or list(order.fills) == fills
        assert sum(fill.amount for fill in fills) == order.filled
        assert len({fill.trade_id for fill in fills}) == len(fills)
        cost = sum((fill.price * fill.amount for fill in fills), Decimal(0))
        assert order.average_price is None or abs(order.average_price * order.filled - cost) < Decimal("1e-12")
        sign = 1 if side is Side.BUY else -1
        moved = {market.base: sign * order.filled, market.quote: -sign * cost}
        for fill in fills:
            moved[fill.fee_currency] = moved.get(fill.fee_currency, Decimal(0)) - fill.fee
        for currency, amount in moved.items():
            assert after.currencies[currency].total - before.currencies[currency].total == amount

    run(scenario)


def test_a_resting_order_blocks_funds_until_it_is_canceled(run: Run) -> None:
    """Total stays, free shrinks and comes back."""

    async def scenario(bench: Bench) -> None:
        market = await bench.market()

        async def quote() -> tuple[Decimal, Decimal]:
            balances = await bench.gateway.balances()
            assert isinstance(balances, Balances)
            balance = balances.currencies[market.quote]
            return balance.total, balance.blocked

        total, none = await quote()
        request, outcome = await bench.rest()
        assert request.price is not None
        assert none == 0
        now_total, blocked = await quote()
        assert now_total == total
        assert blocked >= request.amount * request.price
        await bench.gateway.cancel(bench.ref(request, outcome))
        assert await quote() == (total, 0)

    run(scenario)


def test_times_in_force_are_kept(run: Run) -> None:
    """IOC and FOK that cannot trade leave nothing resting, and are no refusal of the exchange's duty to answer."""

    async def scenario(bench: Bench) -> None:
        for time_in_force in bench.gateway.traits.times_in_force - {TimeInForce.GTC}:
            request = await bench.order(time_in_force=time_in_force)
            outcome = await bench.gateway.submit(request)
            assert isinstance(outcome, Accepted | Rejected)
            await bench.settle()
            assert await listed(bench) == []
        assert all(entry.state.is_final and entry.filled == 0 for entry in await bench.book())

    run(scenario)


def test_post_only_never_takes(run: Run) -> None:
    """An order that would trade at once is refused or closed without a trade."""

    async def scenario(bench: Bench) -> None:
        if not bench.gateway.traits.post_only:
            pytest.skip("this exchange has no post-only orders")
        ticker = await bench.gateway.ticker(bench.symbol)
        assert isinstance(ticker, Ticker)
        outcome = await bench.gateway.submit(await bench.order(price=ticker.ask, post_only=True))
        assert isinstance(outcome, Accepted | Rejected)
        await bench.settle()
        assert all(entry.state.is_final and entry.filled == 0 for entry in await bench.book())

    run(scenario)


@pytest.mark.parametrize("kind", [OrderType.STOP_MARKET, OrderType.STOP_LIMIT])
def test_a_stop_order_waits(run: Run, kind: OrderType) -> None:
    """Until its stop price is touched it is open and trades nothing."""

    async def scenario(bench: Bench) -> None:
        if kind not in bench.gateway.traits.order_types:
            pytest.skip(f"this exchange has no {kind} orders")
        far = await bench.order(Side.SELL)
        price = far.price if kind is OrderType.STOP_LIMIT else None
        request, outcome = await bench.rest(type=kind, stop_price=far.price, price=price)
        await bench.settle()
        order = found(await bench.gateway.query(bench.ref(request, outcome)))
        assert (order.type, order.state) == (kind, OrderState.OPEN)
        assert order.stop_price == (far.price if bench.tells_stop_prices else order.stop_price)

    run(scenario)


# ---- explicit refusals ------------------------------------------------------------------------------------


def test_a_known_refusal_is_rejected_and_books_nothing(run: Run) -> None:
    """Too small, and beyond the funds, each by its stable code."""

    async def scenario(bench: Bench) -> None:
        market, request = await bench.market(), await bench.order()
        if market.min_notional:
            small = await bench.gateway.submit(replace(request, amount=max(market.min_amount, market.amount_step)))
            assert small == Rejected("min_notional")
        balances = await bench.gateway.balances()
        assert isinstance(balances, Balances)
        much = balances.currencies[market.base].total + request.amount
        large = await bench.gateway.submit(replace(request, side=Side.SELL, price=request.price, amount=much))
        assert large == Rejected("insufficient_funds")
        assert await bench.book() == []

    run(scenario)


def test_a_cancel_of_what_is_not_open_is_rejected(run: Run) -> None:
    """Whether the order is final or was never there; nothing else changes."""

    async def scenario(bench: Bench) -> None:
        request, outcome = await bench.rest()
        ref = bench.ref(request, outcome)
        assert isinstance(await bench.gateway.cancel(ref), Accepted)
        await bench.settle()
        assert isinstance(await bench.gateway.cancel(ref), Rejected)
        assert isinstance(await bench.gateway.cancel(replace(ref, exchange_order_id="999999999")), Rejected)
        assert [entry.state for entry in await bench.book()] == [OrderState.CANCELED]

    run(scenario)


def test_a_cancel_by_client_id_alone_works_where_the_traits_say_so(run: Run) -> None:
    """Elsewhere it is refused, and the order rests on."""

    async def scenario(bench: Bench) -> None:
        request, _ = await bench.rest()
        outcome = await bench.gateway.cancel(bench.ref(request))
        (entry,) = await bench.book()
        if bench.gateway.traits.cancels_by_client_id:
            assert isinstance(outcome, Accepted)
            assert entry.state is OrderState.CANCELED
        else:
            assert not isinstance(outcome, Accepted)
            assert entry.state is OrderState.OPEN

    run(scenario)


# ---- troubles ---------------------------------------------------------------------------------------------

WRITES = {
    Trouble.REFUSED: NotSent,
    Trouble.RATE_LIMITED: NotSent,
    Trouble.LOST_REQUEST: Unknown,
    Trouble.LOST_REPLY: Unknown,
    Trouble.SILENCE: Unknown,
    Trouble.SERVER_ERROR: Unknown,
    Trouble.LATE: Unknown,
    Trouble.TOO_LATE: Unknown,
    Trouble.GARBAGE: Unknown,
}
LANDS = {
    Trouble.REFUSED: 0,
    Trouble.RATE_LIMITED: 0,
    Trouble.LOST_REQUEST: 0,
    Trouble.SILENCE: 0,
    Trouble.LOST_REPLY: 1,
    Trouble.GARBAGE: 1,
}
"""How many orders a troubled submit leaves in the book, where that is certain."""


@pytest.mark.parametrize("trouble", WRITES)
def test_a_troubled_submit_says_no_more_than_is_known(run: Run, trouble: Trouble) -> None:
    """NotSent only where nothing was placed; Unknown wherever it may have been."""

    async def scenario(bench: Bench) -> None:
        needs(bench, trouble)
        request = await bench.order()
        bench.cause(trouble)
        began = bench.clock.monotonic()
        outcome = await bench.gateway.submit(request)
        assert isinstance(outcome, WRITES[trouble])
        assert bench.clock.monotonic() - began <= bench.timeout + 1.0
        entries = await bench.book()
        assert len(entries) <= 1
        assert len(entries) == LANDS.get(trouble, len(entries))

    run(scenario)


@pytest.mark.parametrize("trouble", WRITES)
def test_a_troubled_cancel_says_no_more_than_is_known(run: Run, trouble: Trouble) -> None:
    """The order is open or canceled, and the answer claims neither unless it is known."""

    async def scenario(bench: Bench) -> None:
        needs(bench, trouble)
        request, accepted = await bench.rest()
        bench.cause(trouble)
        outcome = await bench.gateway.cancel(bench.ref(request, accepted))
        assert isinstance(outcome, WRITES[trouble])
        (entry,) = await bench.book()
        if trouble in LANDS:
            assert entry.state is (OrderState.CANCELED if LANDS[trouble] else OrderState.OPEN)

    run(scenario)


@pytest.mark.parametrize("trouble", WRITES)
@pytest.mark.parametrize("name", READS)
def test_a_troubled_read_is_unavailable(run: Run, name: str, trouble: Trouble) -> None:
    """Never NotFound, never an empty list, never an exception."""

    async def scenario(bench: Bench) -> None:
        needs(bench, trouble)
        request, outcome = await bench.rest()
        bench.cause(trouble)
        answer = await READS[name](bench, bench.ref(request, outcome))
        assert isinstance(answer, Unavailable)
        assert answer.category in ErrorCategory

    run(scenario)


def test_a_throttle_says_how_long_to_wait(run: Run) -> None:
    """In seconds, for writes and reads."""

    async def scenario(bench: Bench) -> None:
        needs(bench, Trouble.RATE_LIMITED)
        request = await bench.order()
        bench.cause(Trouble.RATE_LIMITED)
        outcome, answer = await bench.gateway.submit(request), await bench.gateway.ping()
        assert isinstance(outcome, NotSent)
        assert isinstance(answer, Unavailable)
        for one in (outcome, answer):
            assert one.category is ErrorCategory.RATE_LIMITED
            assert one.retry_after is not None
            assert one.retry_after > 0

    run(scenario)


def test_a_late_request_is_not_there_first_and_there_later(run: Run) -> None:
    """Within the expiry a request that nobody heard of may still land: once."""

    async def scenario(bench: Bench) -> None:
        needs(bench, Trouble.LATE)
        request = await bench.order()
        bench.cause(Trouble.LATE)
        sent = bench.clock.monotonic()
        task = asyncio.ensure_future(bench.gateway.submit(request))
        await bench.wait(0.1)
        bench.cause(Trouble.NONE)
        assert await listed(bench) == []
        assert isinstance(await task, Unknown)
        traits = bench.gateway.traits
        await bench.wait(max(0.0, sent + traits.unresolvable_for - bench.clock.monotonic()))
        assert await listed(bench) == [request.client_order_id]
        assert len(await bench.book()) == 1

    run(scenario)


def test_what_is_missing_after_expiry_and_settle_time_never_turns_up(run: Run) -> None:
    """A request past its expiry is dropped; without an expiry, the settle time covers the latest arrival."""

    async def scenario(bench: Bench) -> None:
        needs(bench, Trouble.TOO_LATE)
        request = await bench.order()
        bench.cause(Trouble.TOO_LATE)
        await bench.gateway.submit(request)
        bench.cause(Trouble.NONE)
        await bench.wait(bench.gateway.traits.unresolvable_for)
        there = await bench.book()
        await bench.wait(3600.0)
        assert [entry.exchange_order_id for entry in await bench.book()] == [
            entry.exchange_order_id for entry in there
        ]
        if bench.gateway.traits.request_expiry is not None:
            assert there == []

    run(scenario)


def test_cancelling_the_task_passes_through(run: Run) -> None:
    """CancelledError is never turned into an answer; what became of the order is then open."""

    async def scenario(bench: Bench) -> None:
        needs(bench, Trouble.SILENCE)
        request = await bench.order()
        bench.cause(Trouble.SILENCE)
        for call in (bench.gateway.submit(request), bench.gateway.query(bench.ref(request))):
            task = asyncio.ensure_future(call)  # type: ignore[var-annotated, arg-type]
            await bench.wait(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        bench.cause(Trouble.NONE)
        assert isinstance(await bench.gateway.market(bench.symbol), Market)
        assert len(await bench.book()) <= 1

    run(scenario)


def test_after_a_trouble_everything_works_again(run: Run) -> None:
    """A gateway keeps no grudge: retries and breakers are not its business."""

    async def scenario(bench: Bench) -> None:
        for trouble in bench.troubles - {Trouble.NONE, Trouble.SILENCE}:
            bench.cause(trouble)
            await bench.gateway.ping()
            bench.cause(Trouble.NONE)
            await bench.wait(0.01)  # a pause that the exchange asked for is kept
            assert await bench.gateway.ping() is None
        await bench.rest()

    run(scenario)
