"""Days in numbers: one, a block of them, and as many as the machine's cores can live through at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.fuzz.day import Day
from tests.simulation.fuzz.oracle import reckon
from tests.virtual_time import run_virtual

BLOCK: Final = 50


def run_day(seed: int, *, trace: bool = False) -> Day:
    """Live through one day; what goes wrong is among its ``violations``, whatever it is."""
    day = Day(seed, trace=trace)

    async def main() -> None:
        await day.live()
        await reckon(day)
        await day.world.bot.close()
        await day.world.exchange.end()

    try:
        run_virtual(main, seed=seed, shuffle=bool(seed % 2))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        day.violations.append(f"{type(error).__name__}: {error}")
    return day


def replay_line(seed: int) -> str:
    """The one line with which anyone sees a day again."""
    return f"python -m tests.simulation.fuzz --seed {seed}"


@dataclass(slots=True)
class Summary:
    """What a run came to."""

    days: int = 0
    orders: int = 0
    """Orders that were journalled."""
    requests: int = 0
    """Orders that were sent, each as often as it was."""
    seconds: float = 0.0
    """Simulated ones."""
    injected: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)
    """Violations by seed."""

    def add(self, other: Summary) -> None:
        """Add another run's figures."""
        self.days += other.days
        self.orders += other.orders
        self.requests += other.requests
        self.seconds += other.seconds
        self.injected.update(other.injected)
        self.answers.update(other.answers)
        self.states.update(other.states)
        self.failed.update(other.failed)

    def take(self, seed: int, day: Day) -> None:
        """Count one day."""
        self.days += 1
        self.orders += len(day.world.store.orders)
        self.requests += len(day.world.exchange.submits)
        self.seconds += day.seconds
        self.injected.update(day.injected)
        self.answers.update(day.answers)
        self.states.update(day.states)
        if day.violations:
            self.failed[seed] = day.violations


def run_block(first: int, count: int) -> Summary:
    """Live through a few days in this process."""
    logging.disable(logging.CRITICAL)
    summary = Summary()
    for seed in range(first, first + count):
        summary.take(seed, run_day(seed))
    return summary


def blocks(first: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut a range of seeds into pieces."""
    for start in range(first, first + count, BLOCK):
        yield start, min(BLOCK, first + count - start)


def fuzz(first: int, count: int, jobs: int, console: Console) -> Summary:
    """Live through ``count`` days from seed ``first`` on, with a bar where somebody watches."""
    total = Summary()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("days", total=count)
        with ProcessPoolExecutor(jobs) as pool:
            pending = blocks(first, count)
            running = {pool.submit(run_block, *block) for block in islice(pending, 2 * jobs)}
            while running:
                done = next(as_completed(running))
                running.remove(done)
                total.add(done.result())
                progress.update(bar, completed=total.days, description=f"days, {len(total.failed)} violations")
                block = next(pending, None)
                if block is not None:
                    running.add(pool.submit(run_block, *block))
    return total
