"""The phases wired together: what happens when a part fails at the start, in the background, or at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.mcp.order_execution import (
    JournalError,
    JournalUnavailable,
    OrderNotSent,
    OrderState,
    ReliableOrderExecutor,
)
from services.mcp.order_execution.alerts import Alerts, Level
from services.mcp.order_execution.core import UNRESOLVED_ALERT_AFTER, Core
from services.mcp.order_execution.errors import ErrorCategory, ExchangeUnavailable
from services.mcp.order_execution.gateways.base import Unavailable
from services.mcp.order_execution.transaction_log import TransactionLog, TransactionLogReader
from tests.fakes import BLIND, OPEN_ONLY, RecordingSink
from tests.worlds import ORDER, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}


def core_of(w: World) -> Core:
    """The wired parts."""
    assert w.bot._core is not None
    return w.bot._core


async def listen(w: World) -> RecordingSink:
    """Hear the alerts of a bot."""
    sink = RecordingSink()
    alerts = Alerts([sink], w.clock, min_level=Level.INFO, min_interval_seconds=0.0)
    w.bot.alerts = alerts
    await w.bot.open()
    return sink


@scenario()
async def test_a_gateway_that_does_not_open_leaves_nothing_behind(w: World) -> None:
    """The journal's lock is released, so that the next start succeeds."""
    opened = w.exchange.open

    async def refuse() -> None:
        raise ExchangeUnavailable("no route", category=ErrorCategory.CONNECTION)

    w.exchange.open = refuse  # type: ignore[method-assign]
    with pytest.raises(ExchangeUnavailable):
        await w.bot.open()
    assert w.store.writer is None
    w.exchange.open = opened  # type: ignore[method-assign]
    assert await w.bot.execute_order(MINE) == "mine"


@scenario()
async def test_background_work_that_fails_is_told_and_begun_again(w: World) -> None:
    """A defect in the watch stops neither the watch nor the orders."""
    sink = await listen(w)
    health = w.journal.health
    defects = [RuntimeError("a defect")]

    def broken() -> object:
        if defects:
            raise defects.pop()
        return health()

    w.journal.health = broken  # type: ignore[method-assign,assignment]
    await asyncio.sleep(5)
    assert defects == []
    assert "defect:_watch" in {alert.key for alert in sink.alerts}
    assert await w.bot.execute_order(MINE) == "mine"


@scenario({"retry": {"deadline_seconds": 5}})
async def test_new_orders_wait_until_the_start_is_complete(w: World) -> None:
    """With the exchange down after a crash nothing new is placed; once it is back, all is well."""
    await w.bot.execute_order(MINE)
    bot = await w.crash()
    w.exchange.down = "503"
    w.exchange.market = _always(w)  # type: ignore[method-assign]
    with pytest.raises(OrderNotSent, match="earlier life") as caught:
        await bot.execute_order({**ORDER, "client_order_id": "second"})
    assert caught.value.reason == "recovering"
    w.exchange.down = None
    await asyncio.sleep(60)
    assert core_of(w).recovered
    assert await bot.execute_order({**ORDER, "client_order_id": "second"}) == "second"


def _always(w: World) -> Callable[[str], Awaitable[object]]:
    """The market's rules are in the gateway's cache."""
    market = w.exchange.market

    async def cached(symbol: str) -> object:
        down, w.exchange.down = w.exchange.down, None
        try:
            return await market(symbol)
        finally:
            w.exchange.down = down

    return cached


@scenario()
async def test_the_rules_of_a_market_are_asked_for_now_and_then(w: World) -> None:
    """Within ten seconds what was told last holds; after that they are asked for anew."""
    asked = []
    market = w.exchange.market

    async def counted(symbol: str) -> object:
        asked.append(symbol)
        return await market(symbol)

    w.exchange.market = counted  # type: ignore[method-assign, assignment]
    await w.bot.execute_order(ORDER)
    await w.bot.execute_order(ORDER)
    core = core_of(w)
    assert core.kept_market(ORDER["symbol"]) is await core.market(ORDER["symbol"], float("inf"))
    assert len(asked) == 1
    await asyncio.sleep(11)
    assert core.kept_market(ORDER["symbol"]) is None
    await w.bot.execute_order(ORDER)
    assert len(asked) == 2


@scenario(traits=OPEN_ONLY)
async def test_what_a_stream_settles_ends_the_wait_for_the_start(w: World) -> None:
    """The start is complete as soon as nothing is unresolved, whoever found it out."""
    w.exchange.script.append("lost reply")
    w.exchange.hidden.add("X1")
    w.background(w.bot.execute_order(MINE))
    await asyncio.sleep(0.1)
    bot = await w.crash()
    await bot.open()
    core = core_of(w)
    await asyncio.sleep(0.1)
    assert not core.recovered
    core.stream._take(w.exchange.orders["X1"])
    await asyncio.sleep(3)
    assert core.recovered
    assert (await bot.get_order_status("mine")).state is OrderState.OPEN


@scenario()
async def test_a_close_releases_everything_although_the_journal_fails(w: World) -> None:
    """The failure is raised at the end, not instead of it."""
    await w.bot.execute_order(MINE)
    closed: list[str] = []

    async def note() -> None:
        closed.append("gateway")

    w.exchange.close = note  # type: ignore[method-assign]
    w.exchange.fill("X1", "0.01")
    core = core_of(w)
    w.journal.fail_next()
    core.registry.record_all([])
    core.tracker._merge("mine", w.exchange.orders["X1"])
    with pytest.raises(JournalError, match="lost its last entries"):
        await w.bot.close()
    assert closed == ["gateway"]
    assert w.store.writer is None


@scenario(traits=BLIND)
async def test_orders_that_stay_unresolved_are_told_of(w: World) -> None:
    """Once they have been so for a while: most are resolved before anybody could look."""
    sink = await listen(w)
    w.exchange.script.append("lost reply")
    w.background(w.bot.execute_order(MINE))
    await asyncio.sleep(UNRESOLVED_ALERT_AFTER.total_seconds() - 5)
    assert "unresolved" not in {alert.key for alert in sink.alerts}
    await asyncio.sleep(10)
    assert "unresolved" in {alert.key for alert in sink.alerts}


@scenario({"retry": {"max_retries": 1, "deadline_seconds": 5}})
async def test_a_market_that_is_not_to_be_had_sends_nothing(w: World) -> None:
    """And neither does one whose answer asks for more patience than the caller has."""
    await w.bot.open()
    w.exchange.down = "503"
    with pytest.raises(OrderNotSent, match="rules of BTC/USD are not to be had"):
        await w.bot.execute_order(MINE)

    async def later(symbol: str) -> Unavailable:
        return Unavailable(ErrorCategory.RATE_LIMITED, "429", retry_after=60.0)

    w.exchange.market = later  # type: ignore[method-assign]
    w.exchange.down = None
    with pytest.raises(OrderNotSent, match="429"):
        await w.bot.execute_order(replace_id(MINE, "other"))
    assert w.exchange.submits == []


def replace_id(params: dict[str, object], order_id: str) -> dict[str, object]:
    """The same order under another id."""
    return {**params, "client_order_id": order_id}


def test_traits_of_the_tests_are_what_they_say() -> None:
    """BLIND can resolve nothing, OPEN_ONLY can."""
    assert not BLIND.can_resolve
    assert OPEN_ONLY.can_resolve
    assert replace(OPEN_ONLY, lists_closed_orders=False).can_resolve is False


@scenario()
async def test_a_journal_that_failed_is_told_of_once(w: World) -> None:
    """Until it is well again: then the next failure is told too."""
    sink = await listen(w)
    for failures in (1, 2):
        w.journal.fail_next()
        with pytest.raises(JournalUnavailable):
            await w.bot.execute_order(MINE)
        await asyncio.sleep(5)
        assert [alert.key for alert in sink.alerts].count("journal") == failures
        await w.bot.resume()
        await asyncio.sleep(5)
    assert {alert.level for alert in sink.alerts if alert.key == "journal"} == {Level.CRITICAL}


@scenario({"risk": {"price_collar_percent": "10"}})
async def test_prices_are_asked_for_once_in_two_seconds(w: World) -> None:
    """A burst of orders costs one request; an older price is not trusted."""
    for number in range(3):
        await w.bot.execute_order(replace_id(ORDER, f"o{number}"))
    assert w.exchange.reads.count("ticker") == 1
    await asyncio.sleep(2.5)
    await w.bot.execute_order(replace_id(ORDER, "late"))
    assert w.exchange.reads.count("ticker") == 2


@scenario({"risk": {"price_collar_percent": "10"}})
async def test_without_a_price_an_order_that_needs_one_is_not_sent(w: World) -> None:
    """A limit that cannot be checked refuses; once the exchange tells its price the order goes."""
    ticker = w.exchange.ticker

    async def silent(symbol: str) -> Unavailable:
        return Unavailable(ErrorCategory.SERVER_ERROR, "503")

    w.exchange.ticker = silent  # type: ignore[method-assign]
    with pytest.raises(OrderNotSent):
        await w.bot.execute_order(MINE)
    assert w.exchange.submits == []
    assert core_of(w).funds.reservations == {}
    w.exchange.ticker = ticker  # type: ignore[method-assign]
    assert await w.bot.execute_order(MINE) == "mine"


@scenario()
async def test_the_start_waits_until_the_exchange_tells_of_the_open_orders(w: World) -> None:
    """A round without an answer is repeated, with patience, and is complete with the first full answer."""
    await w.bot.execute_order(MINE)
    await w.journal.flush()
    bot = await w.crash()
    w.exchange.fill("X1", "0.1")
    w.exchange.down = "503"
    w.exchange.reads.clear()
    await bot.open()
    await asyncio.sleep(200)
    core = core_of(w)
    assert not core.recovered
    assert 3 < w.exchange.reads.count("open_orders") < 100
    w.exchange.down = None
    async with asyncio.timeout(60):
        while not core.recovered:  # noqa: ASYNC110 - a condition, in virtual time
            await asyncio.sleep(0.1)
    assert (await bot.get_order_status("mine")).state is OrderState.FILLED


def test_every_event_of_an_order_is_in_the_transaction_log(tmp_path: Path) -> None:
    """From its intent to its end; the log is closed with the executor."""

    @scenario()
    async def run(w: World) -> None:
        w.bot = ReliableOrderExecutor(
            w.config,
            gateway=w.exchange,
            journal=w.journal,
            clock=w.clock,
            transaction_log=TransactionLog(tmp_path, w.clock, inline=True),
        )
        w.exchange.script.append("fill")
        await w.bot.execute_order(MINE)
        await w.bot.close()

    run()
    kinds = [record["kind"] for record in TransactionLogReader(tmp_path).history("mine")]
    assert kinds[:3] == ["intent", "accepted", "fill"]
