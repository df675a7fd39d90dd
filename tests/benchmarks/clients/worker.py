"""What every client of the stub shares: it is driven line by line, so that the rounds of all can alternate.

A command is one line of JSON on the standard input, the answer one line on the standard output. Only the standard
library is used: this runs in the environments of the peers too.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

SYMBOL = "BTC/USDT"
AMOUNT = "0.001"
PRICE = "50000"
KEY = "k" * 64
SECRET = "s" * 64


class Client(Protocol):
    """One way of placing an order."""

    async def start(self, port: int, directory: str) -> None:
        """Get ready, and warm."""
        ...

    async def order(self) -> None:
        """Place one limit order, and return once it is accepted."""
        ...

    async def stop(self) -> None:
        """Let go of everything."""
        ...


async def sequential(order: Callable[[], Awaitable[None]], count: int) -> dict[str, float]:
    """One order after another: how long each takes, and what CPU it takes."""
    clock = time.perf_counter_ns
    taken = []
    cpu = time.process_time()
    for _ in range(count):
        began = clock()
        await order()
        taken.append(clock() - began)
    cpu = time.process_time() - cpu
    taken.sort()
    return {
        "p50_us": taken[len(taken) // 2] / 1e3,
        "p99_us": taken[int(len(taken) * 0.99)] / 1e3,
        "mean_us": statistics.fmean(taken) / 1e3,
        "cpu_us": cpu / count * 1e6,
    }


async def together(order: Callable[[], Awaitable[None]], count: int, at_once: int) -> dict[str, float]:
    """``at_once`` callers, each placing one order after another."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await order()

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"orders_per_s": count / took, "cpu_us": cpu / count * 1e6, "wall_us": took / count * 1e6}


def say(text: object) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def drive(client: Client, port: int, directory: str) -> None:
    """Carry out commands until the input ends."""
    loop = asyncio.get_running_loop()
    await client.start(port, directory)
    await sequential(client.order, 50)
    await together(client.order, 200, 50)
    answer: dict[str, Any] = {"ready": True}
    while True:
        say(json.dumps(answer))
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line.strip():
            break
        command = json.loads(line)
        if command["do"] == "sequential":
            answer = await sequential(client.order, command["count"])
        else:
            answer = await together(client.order, command["count"], command["at_once"])
        answer["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await client.stop()


def main(client: Client, run: Callable[[Any], Any] = asyncio.run) -> None:
    """Run a client: ``python CLIENT.py PORT DIRECTORY``."""
    run(drive(client, int(sys.argv[1]), sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # some peers leave threads behind that never end
