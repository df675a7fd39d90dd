"""What the executors cost on top of ccxt's own ``create_order``: ``python -m tests.benchmarks.ccxt_overhead``.

Every contender places the same orders, one after another, over real HTTP on a local venue in another process; the
rounds of all contenders take turns. What is compared is the time from the call to its answer:

* ``ccxt``: the raw class, its rate limiter off, as fast as it can be;
* ``ccxt, paced``: the same as ccxt is by default, with its rate limiter on;
* ``gateway``: ``CcxtGateway.submit``, which every executor stands on;
* ``basic``: ``BasicOrderExecutor.execute_order``;
* ``reliable``: ``ReliableOrderExecutor.execute_order`` with a SQLite journal on disk;
* ``fdatasync``: 512 bytes appended to a file in the journal's directory, no order at all: what one durable write
  costs on this disk.

A ratio is the median, over the rounds, of a contender's median to that of ``ccxt`` in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import ccxt.async_support as ccxt_async

from services.mcp.order_execution import BasicOrderExecutor, ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import Accepted
from services.mcp.order_execution.gateways.ccxt import CcxtGateway
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from tests.ccxt_venues.client import point
from tests.ccxt_venues.process import Remote, make, venues
from tests.ccxt_venues.server import DIALECTS

Place = Callable[[int], Awaitable[None]]
AMOUNT, PRICE = "0.001", "45000"
SETTINGS: dict[str, Any] = {"transaction_log": {"path": None}}


@dataclass(slots=True)
class Contender:
    """One way to place orders, and what it took. Seconds."""

    name: str
    place: Place
    rounds: list[list[float]] = field(default_factory=list)


@asynccontextmanager
async def raw(exchange: str, remote: Remote, *, paced: bool) -> AsyncIterator[Place]:
    """The raw class."""
    keys = {"apiKey": remote.api_key, "secret": remote.secret, "password": remote.passphrase}
    client = getattr(ccxt_async, exchange)({**keys, "enableRateLimit": paced})
    point(client, remote.url)
    await client.load_markets()

    async def place(number: int) -> None:
        params = {"clientOrderId": f"bench{number}"}
        placed = await client.create_order(remote.symbol, "limit", "buy", float(AMOUNT), float(PRICE), params)
        if not placed["id"]:
            raise RuntimeError("not placed")

    try:
        yield place
    finally:
        await client.close()


def gateway(exchange: str, remote: Remote) -> CcxtGateway:
    """The gateway, without limits of its rate: what is measured is what it costs."""
    made = CcxtGateway(
        exchange,
        SystemClock(),
        api_key=remote.api_key,
        api_secret=remote.secret,
        password=remote.passphrase,
        base_url=remote.url,
    )
    made.traits = replace(
        made.traits,
        order_requests_per_second=None,
        cancel_requests_per_second=None,
        read_requests_per_second=None,
    )
    return made


@asynccontextmanager
async def bare(exchange: str, remote: Remote) -> AsyncIterator[Place]:
    """The gateway alone."""
    made = gateway(exchange, remote)
    await made.open()
    await made.market(remote.symbol)

    async def place(number: int) -> None:
        outcome = await made.submit(
            OrderRequest(
                f"bench{number}", remote.symbol, Side.BUY, OrderType.LIMIT, Decimal(AMOUNT), Decimal(PRICE)
            )
        )
        if not isinstance(outcome, Accepted):
            raise TypeError(str(outcome))

    try:
        yield place
    finally:
        await made.close()


@asynccontextmanager
async def executing(executor: BasicOrderExecutor | ReliableOrderExecutor, symbol: str) -> AsyncIterator[Place]:
    """An executor, which chooses the ids."""

    async def place(number: int) -> None:
        await executor.execute_order(
            {"symbol": symbol, "side": "buy", "type": "limit", "amount": AMOUNT, "price": PRICE}
        )

    async with executor:
        yield place


@contextlib.contextmanager
def appending(path: Path) -> Iterator[Place]:
    """One durable write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def place(number: int) -> None:
        os.write(descriptor, bytes(512))
        os.fdatasync(descriptor)

    try:
        yield place
    finally:
        os.close(descriptor)


async def measure(control: str, exchange: str, rounds: int, orders: int, *, paced: bool) -> list[Contender]:
    """Let the contenders take turns; the first round of each warms up and does not count."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ccxt-overhead-")))

        def venue() -> Remote:
            return make(control, exchange, seed=1)

        one, two, three, four, five = venue(), venue(), venue(), venue(), venue()
        journal = SQLiteJournal(directory / "journal.db", SystemClock())
        reliable = ReliableOrderExecutor(SETTINGS, gateway=gateway(exchange, four), journal=journal)
        basic = BasicOrderExecutor(SETTINGS, gateway=gateway(exchange, three))
        contenders = [
            Contender("ccxt", await stack.enter_async_context(raw(exchange, one, paced=False))),
            Contender("gateway", await stack.enter_async_context(bare(exchange, two))),
            Contender("basic", await stack.enter_async_context(executing(basic, three.symbol))),
            Contender("reliable", await stack.enter_async_context(executing(reliable, four.symbol))),
        ]
        contenders.append(Contender("fdatasync", stack.enter_context(appending(directory / "plain"))))
        if paced:
            place = await stack.enter_async_context(raw(exchange, five, paced=True))
            contenders.append(Contender("ccxt, paced", place))
        numbers = count(1)
        rng = random.Random(1)
        for turn in range(rounds + 1):
            for contender in rng.sample(contenders, len(contenders)):
                gc.collect()
                took = await _round(contender.place, orders, numbers)
                contender.rounds += [took] if turn else []
        return contenders


async def _round(place: Place, orders: int, numbers: count[int]) -> list[float]:
    took = []
    for _ in range(orders):
        number = next(numbers)
        began = time.perf_counter()
        await place(number)
        took.append(time.perf_counter() - began)
    return took


def summary(contenders: list[Contender]) -> dict[str, dict[str, float]]:
    """Medians and 95th percentiles in milliseconds, and how many times ccxt's own time each takes."""
    own = [median(took) for took in contenders[0].rounds]
    found = {}
    for item in contenders:
        every = [seconds for took in item.rounds for seconds in took]
        ratios = [median(took) / base for took, base in zip(item.rounds, own, strict=True)]
        found[item.name] = {
            "median_ms": round(median(every) * 1e3, 3),
            "p95_ms": round(quantiles(every, n=20)[-1] * 1e3, 3),
            "ratio": round(median(ratios), 2),
            "orders": len(every),
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ccxt_overhead", description=__doc__)
    parser.add_argument("--exchange", choices=[*DIALECTS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--orders", type=int, default=20, help="orders of each contender in each round")
    parser.add_argument("--paced", action="store_true", help="with ccxt's own rate limiter too, which is slow")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    wanted = list(DIALECTS) if given.exchange == "all" else [given.exchange]
    found = {}
    with venues() as control, contextlib.suppress(KeyboardInterrupt):
        for exchange in wanted:
            contenders = asyncio.run(measure(control, exchange, given.rounds, given.orders, paced=given.paced))
            found[exchange] = summary(contenders)
            if not given.json:
                for name, row in found[exchange].items():
                    sys.stdout.write(
                        f"{exchange:8} {name:12} {row['median_ms']:8.2f} ms  p95 {row['p95_ms']:8.2f} ms  "
                        f"x {row['ratio']:.2f}\n"
                    )
    if given.json:
        sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
