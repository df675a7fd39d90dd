"""Ids that were used before: by an earlier process, or so long ago that the basic executor has let go of them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import (
    BasicOrderExecutor,
    DuplicateOrder,
    ExecutorHalted,
    InvalidOrder,
    OrderRejected,
    OrderState,
    OrderUnresolved,
)
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import IdScope, LookupScope, OrderList, Rejected, Unavailable
from tests.fakes import BLIND, FOREVER, OPEN_ONLY, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER

MINE: dict[str, Any] = {**ORDER, "client_order_id": "mine"}
REUSABLE = replace(FOREVER, client_id_scope=IdScope.NONE)
"""Every id is looked up, and none is refused."""
LISTS_ONLY = replace(OPEN_ONLY, lookup_scope=LookupScope.NONE)
NO_CLOSED = replace(OPEN_ONLY, client_id_scope=IdScope.NONE, lists_closed_orders=False)


class Lives:
    """One exchange, and one basic executor after the other on it."""

    def __init__(self, traits: Any = OPEN_ONLY) -> None:
        self.clock = VirtualClock()
        self.exchange = FakeExchange(self.clock, traits)

    def start(self) -> BasicOrderExecutor:
        """A new process: it remembers nothing."""
        self.exchange.reads.clear()
        return BasicOrderExecutor(None, gateway=self.exchange, clock=self.clock, rng=random.Random(1))


@pytest.mark.parametrize("traits", [FOREVER, OPEN_ONLY, BLIND])
def test_a_forgotten_order_is_not_sent_twice(traits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the exchange would take it; its answer is the one that it had."""
    monkeypatch.setattr("services.mcp.order_execution.basic_executor.MAX_REMEMBERED", 2)

    async def main() -> None:
        lives = Lives(traits)
        async with lives.start() as bot:
            lives.exchange.script.extend([Rejected("min_notional"), "fill", "fill", "fill", "fill"])
            with pytest.raises(OrderRejected):
                await bot.execute_order({**ORDER, "client_order_id": "refused"})
            for name in "abcd":
                await bot.execute_order({**ORDER, "client_order_id": name})
            assert await bot.execute_order({**ORDER, "client_order_id": "a"}) == "a"
            with pytest.raises(DuplicateOrder):
                await bot.execute_order({**ORDER, "client_order_id": "a", "amount": "0.2"})
            with pytest.raises(OrderRejected, match="min_notional"):
                await bot.execute_order({**ORDER, "client_order_id": "refused"})
            assert lives.exchange.placed == list("abcd")
            assert len(lives.exchange.submits) == 5

    run_virtual(main)


@pytest.mark.parametrize("fate", ["ok", "fill"])
@pytest.mark.parametrize("traits", [FOREVER, REUSABLE, OPEN_ONLY, LISTS_ONLY])
def test_an_order_of_an_earlier_process_is_not_placed_again(traits: Any, fate: str) -> None:
    """Open or closed, it is found; where the exchange refuses the copy instead, that makes it be looked up."""

    async def main() -> None:
        lives = Lives(traits)
        lives.exchange.script.append(fate)
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        async with lives.start() as bot:
            assert await bot.execute_order(MINE) == "mine"
            order = await bot.get_order_status("mine")
            assert order.state is (OrderState.FILLED if fate == "fill" else OrderState.OPEN)
            assert order.exchange_order_id == "X1"
            assert await bot.cancel_order("mine") is True
            with pytest.raises(DuplicateOrder):
                await bot.execute_order({**MINE, "amount": "0.2"})
        assert lives.exchange.placed == ["mine"]

    run_virtual(main)


def test_an_earlier_order_is_told_with_its_fills() -> None:
    """To whoever follows the events: nobody in this process has heard of it."""

    async def main() -> None:
        lives = Lives()
        lives.exchange.script.append("fill")
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        bot = lives.start()
        events = bot.events()
        await bot.execute_order(MINE)
        assert (await bot.get_execution_stats()).fills == 1
        await bot.close()
        assert [event.kind.value async for event in events] == ["accepted", "fill", "closed"]

    run_virtual(main)


def test_another_order_under_the_id_is_a_duplicate() -> None:
    """What an earlier process placed under it differs, so neither is touched."""

    async def main() -> None:
        lives = Lives()
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        async with lives.start() as bot:
            with pytest.raises(DuplicateOrder, match="price"):
                await bot.execute_order({**MINE, "price": "49000"})
        assert lives.exchange.placed == ["mine"]

    run_virtual(main)


@pytest.mark.parametrize("traits", [REUSABLE, OPEN_ONLY])
def test_while_the_exchange_does_not_tell_nothing_is_sent(traits: Any) -> None:
    """It may have been placed before, and that is what the caller hears; nothing is guessed."""

    async def main() -> None:
        lives = Lives(traits)
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        async with lives.start() as bot:
            lives.exchange.down = "503"
            with pytest.raises(OrderUnresolved, match="did not tell whether it was placed before"):
                await bot.execute_order(MINE)
            lives.exchange.latency = 40.0
            with pytest.raises(OrderUnresolved, match="did not tell whether it was placed before"):
                await bot.execute_order({**MINE, "deadline_seconds": 30})
            lives.exchange.down, lives.exchange.latency = None, 0.0
            assert await bot.execute_order(MINE) == "mine"
        assert len(lives.exchange.submits) == 1

    run_virtual(main)


def test_a_halted_executor_answers_for_an_earlier_order_all_the_same() -> None:
    """That it was not sent would be wrong of an order that rests; it is right of a new one."""

    async def main() -> None:
        lives = Lives()
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        async with lives.start() as bot:
            await bot.halt("stop")
            assert await bot.execute_order(MINE) == "mine"
            with pytest.raises(ExecutorHalted):
                await bot.execute_order({**ORDER, "client_order_id": "new"})

    run_virtual(main)


def test_asking_is_cheap() -> None:
    """An id of our own is never asked for; given ones cost one reading of the lists, once nothing can arrive."""

    async def main() -> None:
        lives = Lives()
        async with lives.start() as bot:
            for _ in range(3):
                await bot.execute_order(ORDER)
            assert set(lives.exchange.reads) == {"market"}
            for name in "ab":  # a request of an earlier process could still arrive: each time
                await bot.execute_order({**ORDER, "client_order_id": name})
            assert lives.exchange.reads.count("closed_orders") == 2
            await asyncio.sleep(OPEN_ONLY.unresolvable_for)
            for name in "cdef":
                await bot.execute_order({**ORDER, "client_order_id": name})
            assert lives.exchange.reads.count("closed_orders") == 3
            assert lives.exchange.reads.count("query") == 0

    run_virtual(main)


def test_where_the_exchange_refuses_a_used_id_nothing_is_asked() -> None:
    """Nor where it keeps no ids of ours."""

    async def main() -> None:
        for traits in (FOREVER, BLIND):
            lives = Lives(traits)
            async with lives.start() as bot:
                await bot.execute_order(MINE)
                assert lives.exchange.reads == ["market"]

    run_virtual(main)


def test_what_is_closed_and_not_listed_is_not_found() -> None:
    """The documented limit: the open one is found, the closed one nobody can know of."""

    async def main() -> None:
        lives = Lives(NO_CLOSED)
        lives.exchange.script.extend(["ok", "fill"])
        async with lives.start() as bot:
            await bot.execute_order(MINE)
            await bot.execute_order({**ORDER, "client_order_id": "filled"})
        async with lives.start() as bot:
            await bot.execute_order(MINE)
            await bot.execute_order({**ORDER, "client_order_id": "filled"})
        assert lives.exchange.placed == ["mine", "filled", "filled"]

    run_virtual(main)


def test_an_unknown_symbol_is_refused_before_anything_is_asked() -> None:
    """The exchange has no lists of it."""

    async def main() -> None:
        lives = Lives()
        async with lives.start() as bot:
            with pytest.raises(InvalidOrder):
                await bot.execute_order({**MINE, "symbol": "NOPE/USD"})
            assert lives.exchange.reads == ["market"]

    run_virtual(main)


@pytest.mark.parametrize("end", [OrderState.REJECTED, OrderState.CANCELED, OrderState.EXPIRED])
def test_an_order_that_the_exchange_ended_by_itself_is_not_placed_again(end: OrderState) -> None:
    """An earlier process placed it; however it ended, that is how it is known here."""

    async def main() -> None:
        lives = Lives()
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        lives.exchange.close_order("X1", end)
        async with lives.start() as bot:
            for _ in range(2):
                assert await bot.execute_order(MINE) == "mine"
            assert (await bot.get_order_status("mine")).state is end
        assert lives.exchange.placed == ["mine"]

    run_virtual(main)


def test_the_latest_order_under_an_id_counts() -> None:
    """Some exchanges let an id be used again: the one that rests is ours, not the one that closed before it."""

    async def main() -> None:
        lives = Lives()
        lives.exchange.script.append("fill")
        async with lives.start() as bot:
            await bot.execute_order(MINE)
        old = lives.exchange.orders["X1"]
        lives.exchange.orders["X1"] = replace(old, created_at=old.created_at - timedelta(hours=2))
        lives.exchange.place(lives.exchange.submits[0])
        async with lives.start() as bot:
            await bot.execute_order(MINE)
            order = await bot.get_order_status("mine")
            assert (order.exchange_order_id, order.filled) == ("X2", Decimal(0))

    run_virtual(main)


class Reticent(FakeExchange):
    """Lists orders without the client ids that they have, and says so, once it is ``reticent``."""

    reticent = False

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        answer = await super().open_orders(symbol)
        return _without_ids(answer) if self.reticent else answer

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        answer = await super().closed_orders(since, until, symbol)
        return _without_ids(answer) if self.reticent else answer


def _without_ids(answer: OrderList | Unavailable) -> OrderList | Unavailable:
    if isinstance(answer, Unavailable):
        return answer
    return OrderList(tuple(replace(order, client_order_id=None) for order in answer.orders), tells_client_ids=False)


@pytest.mark.parametrize("scope", [LookupScope.NONE, LookupScope.OPEN_ORDERS])
async def test_a_list_that_tells_no_client_ids_proves_no_id_unused(scope: LookupScope) -> None:
    """After a restart such an id is not sent again: the order that it had may be in that very list."""
    traits = replace(FOREVER, client_id_scope=IdScope.NONE, lookup_scope=scope, request_expiry=0.0, settle=0.0)
    exchange = Reticent(SystemClock(), traits)
    async with BasicOrderExecutor(gateway=exchange) as first:
        await first.execute_order(MINE)
    exchange.reticent = True
    async with BasicOrderExecutor(gateway=exchange) as second:
        with pytest.raises(OrderUnresolved):
            await second.execute_order(MINE)
    assert len(exchange.named("mine")) == 1


@pytest.mark.parametrize("duplicate", [False, True])
async def test_a_refusal_of_an_id_from_an_earlier_life_is_not_taken_for_nothing_rests(duplicate: bool) -> None:
    """The first copy blocks the funds, so the exchange may say "insufficient funds" before it says "duplicate"."""
    exchange = FakeExchange(SystemClock(), FOREVER)
    async with BasicOrderExecutor(gateway=exchange) as first:
        await first.execute_order(MINE)
    exchange.script.append(Rejected("refused", duplicate_id=duplicate))
    async with BasicOrderExecutor(gateway=exchange) as second:
        assert await second.execute_order(MINE) == "mine"
        assert await second.cancel_order("mine")
    assert exchange.named("mine")[0].state.is_final


async def test_a_refusal_is_believed_where_the_exchange_has_no_order_under_the_id() -> None:
    """It costs one lookup."""
    exchange = FakeExchange(SystemClock(), FOREVER)
    exchange.script.append(Rejected("insufficient_funds"))
    async with BasicOrderExecutor(gateway=exchange) as bot:
        with pytest.raises(OrderRejected, match="insufficient_funds"):
            await bot.execute_order(MINE)
        assert (await bot.get_order_status("mine")).state is OrderState.REJECTED
    assert exchange.reads.count("query") == 1
