"""What does not grow: memory of an open order, the tracker's work, the cost of an order."""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.gateways.base import (
    Accepted,
    ExchangeOrder,
    ListScope,
    NotSent,
    OrderList,
    Rejected,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.models import OrderRequest, OrderState, OrderType, Side, plain_decimal
from tests.benchmarks.gateway import TRAITS, QuietGateway
from tests.benchmarks.histories import SYMBOLS, PinnedClock, copy_of, history
from tests.benchmarks.measure import Row, median, ratios, rss_mib, run_directory
from tests.benchmarks.rows.history import OPEN_ORDERS, ListingGateway, config

FLAT = 1.25
"""By how much the cost of an order may grow and still be called flat, on a machine as noisy as this one."""


def params(number: int = 0) -> dict[str, str]:
    """A limit order that rests."""
    symbol = SYMBOLS[number % len(SYMBOLS)]
    return {"symbol": symbol, "side": "buy", "type": "limit", "amount": "0.001", "price": "50000"}


@asynccontextmanager
async def executor_on(path: Path, gateway: QuietGateway, **others: Any) -> AsyncIterator[ReliableOrderExecutor]:
    """An executor that is open and has recovered."""
    async with ReliableOrderExecutor(config(path), gateway=gateway, **others) as executor:
        core = executor._core
        assert core is not None
        await core._recovered.wait()
        yield executor


async def place(executor: ReliableOrderExecutor, count: int, at_once: int = 50) -> None:
    """Place so many orders."""
    left = iter(range(count))

    async def caller() -> None:
        for number in left:
            await executor.execute_order(params(number))

    await asyncio.gather(*(caller() for _ in range(at_once)))


# ---- memory -----------------------------------------------------------------------------------------------


def memory(quick: bool) -> list[Row]:
    """Resident memory with many open orders, over that with few."""
    directory = run_directory()
    few, many = 2_000, 10_000 if quick else 30_000
    try:
        resident, traced = asyncio.run(_memory(directory / "journal.db", few, many))
    finally:
        shutil.rmtree(directory)
    return [
        Row(
            "memory",
            "Memory of an open order held by the executor",
            f"resident memory with {many:,} open orders less that with {few:,}, for each order",
            resident,
            2048,
            "bytes",
            "≤ 2 KiB",
            facts={"traced_bytes": traced},
            note="traced: what Python's own allocator says, by tracemalloc over 2,000 orders more",
        )
    ]


async def _memory(path: Path, few: int, many: int) -> tuple[float, float]:
    import tracemalloc

    async with executor_on(path, QuietGateway()) as executor:
        core = executor._core
        assert core is not None
        await place(executor, few)
        await core.ports.journal.flush()
        gc.collect()
        before = rss_mib()
        await place(executor, many - few)
        await core.ports.journal.flush()
        gc.collect()
        resident = (rss_mib() - before) * 2**20 / (many - few)
        tracemalloc.start()
        await place(executor, 200)
        await core.ports.journal.flush()
        gc.collect()
        start = tracemalloc.get_traced_memory()[0]
        await place(executor, 2_000)
        await core.ports.journal.flush()
        gc.collect()
        traced = (tracemalloc.get_traced_memory()[0] - start) / 2_000
        tracemalloc.stop()
    return resident, traced


# ---- the tracker ------------------------------------------------------------------------------------------


class BookGateway(QuietGateway):
    """Keeps what it accepts, and lists it; with ``wire`` as an exchange would: read from JSON every time."""

    name = "book"

    def __init__(self, scope: ListScope) -> None:
        super().__init__()
        self.traits = replace(TRAITS, list_scope=scope)
        self.book: dict[str, list[ExchangeOrder]] = {}
        self.requests = 0
        self.bodies: dict[str, bytes] | None = None

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Take it, and keep it."""
        answer = await super().submit(request)
        assert isinstance(answer, Accepted)
        now = datetime.now(UTC)
        order = ExchangeOrder(
            exchange_order_id=answer.exchange_order_id,
            client_order_id=request.client_order_id,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            amount=request.amount,
            price=request.price,
            state=OrderState.OPEN,
            filled=Decimal(0),
            fills=(),
            created_at=now,
            updated_at=now,
        )
        self.book.setdefault(request.symbol, []).append(order)
        return answer

    def freeze(self) -> None:
        """From now on list from JSON."""
        self.bodies = {
            symbol: orjson.dumps([
                {
                    "i": order.exchange_order_id, "c": order.client_order_id, "s": order.symbol, "q": plain_decimal(
                        order.amount), "p": plain_decimal(order.price or Decimal(0)), "t": order.created_at,
                }
                for order in orders
            ])
            for symbol, orders in self.book.items()
        }  # fmt: skip

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """All of them, or those of a symbol."""
        self.requests += 1
        symbols = list(self.book) if symbol is None else [symbol]
        if self.bodies is None:
            return OrderList(tuple(order for name in symbols for order in self.book.get(name, ())))
        return OrderList(tuple(_read(item) for name in symbols for item in orjson.loads(self.bodies[name])))


def _read(item: dict[str, str]) -> ExchangeOrder:
    at = datetime.fromisoformat(item["t"])
    return ExchangeOrder(
        exchange_order_id=item["i"],
        client_order_id=item["c"],
        symbol=item["s"],
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=Decimal(item["q"]),
        price=Decimal(item["p"]),
        state=OrderState.OPEN,
        filled=Decimal(0),
        fills=(),
        created_at=at,
        updated_at=at,
    )


async def _tracked(path: Path, scope: ListScope, orders: int, looks: int) -> dict[str, float]:
    gateway = BookGateway(scope)
    async with executor_on(path, gateway) as executor:
        core = executor._core
        assert core is not None
        await place(executor, orders)
        await core.tracker.round()  # makes every order visible, once
        await core.ports.journal.flush()
        gateway.requests, took = 0, []
        for _ in range(looks):
            began = time.process_time()
            await core.tracker.round()
            took.append(time.process_time() - began)
        requests = gateway.requests / looks
        gateway.freeze()
        parsed = []
        for _ in range(looks):
            began = time.process_time()
            await core.tracker.round()
            parsed.append(time.process_time() - began)
        interval = 5.0  # confirmation.poll_interval_seconds, as it comes
        return {
            "requests": requests,
            "cpu_ms": median(took) * 1e3,
            "cpu_with_parsing_ms": median(parsed) * 1e3,
            "core_percent": median(took) / interval * 100,
            "core_with_parsing_percent": median(parsed) / interval * 100,
        }


def tracker(quick: bool) -> list[Row]:
    """One round over many open orders, and over few, by account and by symbol."""
    looks = 5 if quick else 15
    facts: dict[str, Any] = {}
    for scope in ListScope:
        for orders in (20, 10_000):
            directory = run_directory()
            try:
                facts[f"{scope.value}_{orders}"] = asyncio.run(
                    _tracked(directory / "journal.db", scope, orders, looks)
                )
            finally:
                shutil.rmtree(directory)
    worst = max(facts[f"{scope.value}_10000"]["core_percent"] for scope in ListScope)
    grown = max(
        facts[f"{scope.value}_10000"]["requests"] / facts[f"{scope.value}_20"]["requests"] for scope in ListScope
    )
    return [
        Row(
            "tracker",
            "Tracker with 10,000 open orders on 20 symbols: CPU",
            "CPU of a round for each 5 s (the default interval), lists at hand; by account or by symbol, the worse",
            worst,
            5,
            "% of a core",
            "≤ 5 % of one core",
            facts=facts,
            note="with the gateway's reading of 10,000 orders from JSON: "
            f"{max(facts[f'{scope.value}_10000']['core_with_parsing_percent'] for scope in ListScope):.1f} %",
        ),
        Row(
            "tracker-requests",
            "Tracker: requests in a round",
            "with 10,000 open orders over those with 20, on the same 20 symbols",
            grown,
            1,
            "×",
            "do not grow with the orders",
            facts={name: fact["requests"] for name, fact in facts.items()},
        ),
    ]


# ---- growth -----------------------------------------------------------------------------------------------


async def _cost(executor: ReliableOrderExecutor, count: int) -> dict[str, float]:
    """CPU of an order among fifty, and how long one alone takes (microseconds)."""
    gc.collect()
    began = time.process_time()
    await place(executor, count)
    cpu = (time.process_time() - began) / count * 1e6
    taken = []
    for number in range(count // 5):
        began = time.perf_counter()
        await executor.execute_order(params(number))
        taken.append((time.perf_counter() - began) * 1e6)
    return {"cpu_us": cpu, "p50_us": median(taken)}


async def _interleaved(
    executors: dict[str, ReliableOrderExecutor], count: int, times: int
) -> dict[str, dict[str, list[float]]]:
    taken: dict[str, dict[str, list[float]]] = {name: {"cpu_us": [], "p50_us": []} for name in executors}
    for number in range(times + 1):
        for name, executor in executors.items():
            cost = await _cost(executor, count)
            if number:
                for kind, value in cost.items():
                    taken[name][kind].append(value)
    return taken


async def _journal_growth(sizes: dict[int, tuple[Path, datetime, int]], count: int, times: int) -> dict[str, Any]:
    cases = {
        f"{size:,}": (path, ListingGateway(size, end, opened), {"clock": PinnedClock(end)})
        for size, (path, end, opened) in sizes.items()
    }
    async with _all_open(cases) as executors:
        return await _interleaved(executors, count, times)


@asynccontextmanager
async def _all_open(
    cases: Mapping[str, tuple[Path, QuietGateway, dict[str, Any]]],
) -> AsyncIterator[dict[str, ReliableOrderExecutor]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(executor_on(path, gateway, **others))
            for name, (path, gateway, others) in cases.items()
        }


def growth_journal(quick: bool) -> list[Row]:
    """The cost of an order by how many orders the journal holds."""
    counts = (1_000, 100_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    directory = run_directory()
    try:
        sizes = {}
        for size in counts:
            opened = OPEN_ORDERS if size == counts[-1] else 0  # the one that other rows need too
            kept, end = history(size, opened)
            place_of = directory / str(size)
            place_of.mkdir()
            sizes[size] = (copy_of(kept, place_of), end, opened)
        taken = asyncio.run(_journal_growth(sizes, 500 if quick else 1_500, 3 if quick else 7))
    finally:
        shutil.rmtree(directory)
    return _growth_rows("growth-journal", "orders in the journal", taken)


async def _open_growth(directory: Path, counts: tuple[int, ...], count: int, times: int) -> dict[str, Any]:
    cases: dict[str, Any] = {f"{size:,}": (directory / f"{size}.db", QuietGateway(), {}) for size in counts}
    async with _all_open(cases) as executors:
        for size, executor in zip(counts, executors.values(), strict=True):
            await place(executor, size)
        return await _interleaved(executors, count, times)


def growth_open(quick: bool) -> list[Row]:
    """The cost of an order by how many orders are open."""
    counts = (1, 10_000) if quick else (1, 100, 1_000, 10_000)
    directory = run_directory()
    try:
        taken = asyncio.run(_open_growth(directory, counts, 300 if quick else 500, 3 if quick else 7))
    finally:
        shutil.rmtree(directory)
    return _growth_rows("growth-open", "open orders", taken)


def _growth_rows(name: str, of_what: str, taken: dict[str, dict[str, list[float]]]) -> list[Row]:
    sizes = list(taken)
    first, last = sizes[0], sizes[-1]
    facts = {
        size: {kind: round(median(values), 1) for kind, values in kinds.items()} for size, kinds in taken.items()
    }
    return [
        Row(
            f"{name}{suffix}",
            f"{what} with {last} {of_what} over that with {first}",
            "gateway in memory, durable journal; interleaved rounds, median of the ratios",
            ratios(taken[last][kind], taken[first][kind]),
            FLAT,
            "×",
            f"flat (≤ {FLAT:g} ×)",
            facts=facts,
        )
        for suffix, what, kind in (
            ("", "CPU of an order (50 at once)", "cpu_us"),
            ("-alone", "Time of an order alone, p50,", "p50_us"),
        )
    ]
