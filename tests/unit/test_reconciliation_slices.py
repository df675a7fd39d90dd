"""A long period is compared slice by slice, and the report is the one that comparing it whole would make."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import OrderState, OrderType, Side, reconciliation
from services.mcp.order_execution.gateways.base import OrderList, Unavailable
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.models import OrderRequest, ReconciliationReport
from services.mcp.order_execution.reconciliation import Reconciler
from tests.worlds import ORDER, World, scenario

CONFIG = {"confirmation": {"poll_interval_seconds": 3600}}


@contextmanager
def slices_of(orders: int, shortest: timedelta) -> Iterator[None]:
    """How many orders one slice may have, and how short it may become."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciliation, "SLICE_ORDERS", orders)
        patch.setattr(reconciliation, "SLICE_MIN", shortest)
        yield


async def report_of(w: World, period: str = "daily") -> ReconciliationReport:
    """What a reconciliation that only reads finds."""
    await w.journal.flush()
    journal = MemoryJournal(w.clock, store=w.store, read_only=True)
    await journal.open()
    report = await Reconciler(journal, w.exchange, w.clock, repairs=None).run(period)
    await journal.close()
    return report


def told(report: ReconciliationReport) -> tuple[object, ...]:
    """Everything in a report but its times; details in no order."""
    counts = {name: value for name, value in report.to_dict().items() if name.endswith("_orders")}
    return counts, sorted(str(item.to_dict()) for item in report.details)


async def busy_hour(w: World, rng: random.Random) -> None:
    """Orders of ours and of strangers, some filled or canceled much later, some behind our back."""
    await w.bot.open()
    for number in range(60):
        await asyncio.sleep(rng.uniform(2, 140))
        w.exchange.script.append(rng.choice(["ok", "ok", "fill", "lost reply"]))
        await w.bot.execute_order(ORDER)
        if number == 20:
            await w.stop_following()
        if rng.random() < 0.2:
            request = OrderRequest(
                f"stranger-{number}", "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(1)
            )
            w.exchange.place(request)
        resting = [key for key, order in w.exchange.orders.items() if not order.state.is_final]
        if resting and rng.random() < 0.6:
            chosen = rng.choice(resting)
            if rng.random() < 0.5:
                w.exchange.fill(chosen, str(w.exchange.orders[chosen].amount))
            else:
                w.exchange.close_order(chosen)
    hidden = rng.sample(sorted(w.exchange.orders), 3)
    w.exchange.hidden.update(hidden)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("most", "seconds"), [(1, 5), (5, 30), (0, 400), (20, 60)])
def test_slices_find_what_the_whole_finds(seed: int, most: int, seconds: int) -> None:
    """However an hour is cut, also in parts shorter than the margin: the same counts and the same discrepancies."""

    @scenario(CONFIG)
    async def test(w: World) -> None:
        await busy_hour(w, random.Random(seed))
        whole = await report_of(w, "hourly")
        with slices_of(most, timedelta(seconds=seconds)):
            assert told(await report_of(w, "hourly")) == told(whole)
        assert whole.total_orders > 30
        assert not whole.is_clean

    test()


def exact_lists(w: World) -> list[tuple[Any, Any]]:
    """Let the exchange list closed orders of exactly the period asked for; returns what was asked for."""
    asked: list[tuple[Any, Any]] = []

    async def closed(since: Any, until: Any, symbol: str | None = None) -> OrderList | Unavailable:
        asked.append((since, until))
        return OrderList(
            tuple(
                order
                for order in w.exchange.orders.values()
                if order.state.is_final and (since <= order.created_at < until or since <= order.updated_at < until)
            )
        )

    w.exchange.closed_orders = closed  # type: ignore[method-assign]
    return asked


@scenario(CONFIG)
async def test_each_slice_asks_for_its_own_time_only(w: World) -> None:
    """So what is held in memory of the exchange's lists is bounded, and a clean day stays clean."""
    await w.bot.open()
    for _ in range(12):
        w.exchange.script.append("fill")
        await w.bot.execute_order(ORDER)
        await asyncio.sleep(250)
    asked = exact_lists(w)
    with slices_of(2, timedelta(minutes=2)):
        report = await report_of(w, "hourly")
    assert (report.total_orders, report.matched_orders, report.is_clean) == (12, 12, True)
    assert len(asked) >= 6
    assert sum(until - since < timedelta(minutes=20) for since, until in asked) >= 5


@scenario(CONFIG)
async def test_a_clock_that_differs_puts_no_order_into_two_slices_or_none(w: World) -> None:
    """The exchange's times lie on the other side of a border, by less than the margin."""
    await w.bot.open()
    for number in range(40):
        w.exchange.script.append("fill")
        await w.bot.execute_order(ORDER)
        shift = timedelta(seconds=50 if number % 2 else -50)
        key = f"X{number + 1}"
        order = w.exchange.orders[key]
        w.exchange.orders[key] = replace(
            order, created_at=order.created_at + shift, updated_at=order.updated_at + shift
        )
        await asyncio.sleep(97)
    exact_lists(w)
    with slices_of(3, timedelta(minutes=2)):
        report = await report_of(w, "daily")
    assert (report.total_orders, report.extra_orders, report.is_clean) == (40, 0, True)


@scenario(CONFIG)
async def test_strangers_and_elders_are_counted_once(w: World) -> None:
    """An order of somebody else's, and one of ours from before the period, that several lists show."""
    await w.bot.open()
    elder = await w.bot.execute_order(ORDER)
    await asyncio.sleep(2 * 3_600)
    w.exchange.place(OrderRequest("stranger", "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(1)))
    for _ in range(6):
        await w.bot.execute_order(ORDER)
        await asyncio.sleep(500)
    w.exchange.fill("X1", "0.1")
    for _ in range(10):
        if (await w.bot.get_order_status(elder)).state is OrderState.FILLED:
            break
        w.bot._core.tracker.kick()  # type: ignore[union-attr]
        await asyncio.sleep(30)
    with slices_of(1, timedelta(minutes=2)):
        report = await report_of(w, "hourly")
    assert (report.total_orders, report.matched_orders, report.extra_orders) == (8, 7, 1)


@scenario(CONFIG)
async def test_repairs_are_made_in_slices_too(w: World) -> None:
    """What was filled behind our back is repaired, a stranger adopted, and a second run finds nothing."""
    await w.stop_following()
    for _ in range(5):
        await w.bot.execute_order(ORDER)
        await asyncio.sleep(2_000)
    w.exchange.fill("X2", "0.1")
    w.exchange.close_order("X4")
    w.exchange.place(OrderRequest("stranger", "BTC/USD", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(1)))
    await asyncio.sleep(60)
    with slices_of(1, timedelta(minutes=2)):
        first = await w.bot.reconcile_orders()
        again = await w.bot.reconcile_orders()
    assert (first.mismatched_orders, first.extra_orders, first.repaired) == (2, 1, 3)
    assert again.is_clean
    assert again.total_orders == 6


def test_the_helpers_put_everything_back() -> None:
    """A patched bound would change every later test."""
    before: Callable[[], tuple[object, object]] = lambda: (  # noqa: E731
        reconciliation.SLICE_ORDERS,
        reconciliation.SLICE_MIN,
    )
    kept = before()
    with slices_of(1, timedelta(minutes=1)):
        assert before() != kept
    assert before() == kept
