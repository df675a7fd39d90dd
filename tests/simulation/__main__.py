"""Live through many worlds: ``python -m tests.simulation --seeds 1000``, or one again: ``--seed 28``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.day import run_world
from tests.simulation.rare import RARE, rare_of
from tests.simulation.shrink import replay_line, shrink, traced
from tests.simulation.world import SimulatedWorld

BLOCK = 50
SHOWN = 5
"""Violations that are shrunk and shown; the rest is counted."""


@dataclass(slots=True)
class Summary:
    """What a run came to."""

    worlds: int = 0
    lifecycles: int = 0
    """Orders that were journalled: each lived from its intent to its end."""
    calls: int = 0
    requests: int = 0
    simulated_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    rare: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)

    def add(self, other: Summary) -> None:
        """Add another run's figures."""
        self.worlds += other.worlds
        self.lifecycles += other.lifecycles
        self.calls += other.calls
        self.requests += other.requests
        self.simulated_seconds += other.simulated_seconds
        self.faults.update(other.faults)
        self.rare.update(other.rare)
        self.kinds.update(other.kinds)
        self.failed.update(other.failed)

    def take(self, world: SimulatedWorld) -> None:
        """Count one world."""
        self.worlds += 1
        self.lifecycles += len(world.store.orders)
        self.calls += len(world.told)
        self.requests += world.network.requests
        self.kinds[world.kind] += 1
        self.faults.update(world.dice.happened.values())
        self.rare.update(rare_of(world))


def run_block(first: int, count: int) -> Summary:
    """Live through a few worlds in this process."""
    logging.disable(logging.CRITICAL)
    summary = Summary()
    for seed in range(first, first + count):
        try:
            world = run_world(seed)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
            summary.failed[seed] = f"{type(error).__name__}: {error}"
            world = error.world  # type: ignore[attr-defined]
        summary.take(world)
    return summary


def blocks(first: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut a range of seeds into pieces."""
    for start in range(first, first + count, BLOCK):
        yield start, min(BLOCK, first + count - start)


def simulate(first: int, count: int, jobs: int, console: Console, *, until: float | None = None) -> Summary:
    """Live through ``count`` worlds from seed ``first`` on, or until a moment of the monotonic clock."""
    total = Summary()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("worlds", total=count)
        with ProcessPoolExecutor(jobs) as pool:
            pending = blocks(first, count)
            running = {pool.submit(run_block, *block) for block in islice(pending, 2 * jobs)}
            while running:
                done = next(as_completed(running))
                running.remove(done)
                total.add(done.result())
                progress.update(bar, completed=total.worlds, description=f"worlds, {len(total.failed)} violations")
                block = next(pending, None)
                if block is not None and (until is None or time.monotonic() < until):
                    running.add(pool.submit(run_block, *block))
    return total


def show(summary: Summary, seconds: float, console: Console) -> None:
    """Print what a person wants to know."""
    console.print(
        f"[bold]{summary.worlds:,} worlds[/bold], {summary.lifecycles:,} order lifecycles, "
        f"{summary.calls:,} answers to callers, {summary.requests:,} requests, "
        f"{sum(summary.faults.values()):,} faults in {seconds:,.0f} s"
    )
    for title, counts, names in (
        ("kind of exchange", summary.kinds, sorted(summary.kinds)),
        ("fault", summary.faults, sorted(summary.faults)),
        ("rare branch", summary.rare, list(RARE)),
    ):
        table = Table(title, "times", box=None)
        for name in names:
            times = counts[name]
            table.add_row(name, f"{times:,}" if times else "[red]never[/red]")
        console.print(table)
    seeds = ", ".join(str(seed) for seed in sorted(summary.failed)[:50])
    console.print(f"violations: {len(summary.failed)}" + (f" (seeds {seeds})" if seeds else ""))


def explain(seed: int, message: str, console: Console) -> None:
    """Shrink a failing world and print its shortest trace."""
    only = shrink(seed)
    world, error = traced(seed, only)
    console.rule(f"seed {seed}: {message[:200]}")
    for line in (world.trace or [])[-120:]:
        console.print(line, markup=False, highlight=False)
    console.print(f"{error}", markup=False)
    console.print(f"again, whole:    {replay_line(seed)}", markup=False, soft_wrap=True)
    console.print(f"again, shortest: {replay_line(seed, only)}", markup=False, soft_wrap=True)


def replay(seed: int, only: tuple[str, ...] | None, console: Console) -> int:
    """Run one world, with its trace."""
    world, error = traced(seed, only)
    for line in world.trace or []:
        console.print(line, markup=False, highlight=False)
    console.print(f"kind: {world.kind}", f"faults: {json.dumps(world.dice.happened)}", sep="\n", markup=False)
    if error is not None:
        console.print(f"{type(error).__name__}: {error}", markup=False)
        return 1
    console.print("no violation")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: no violation; 1: a violation, or a rare branch that was never reached; 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--hours", type=float, help="go on for so long, whatever --seeds says")
    parser.add_argument("--seed", type=int, help="run this world alone, and print what happens in it")
    parser.add_argument("--only", help="with --seed: the faults that may happen, separated by commas; none: none")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    console = Console(stderr=given.json, width=None if sys.stdout.isatty() else 160)
    if given.seed is not None:
        only = None if given.only is None else tuple(key for key in given.only.split(",") if key != "none")
        return replay(given.seed, only, console)
    started = time.monotonic()
    count = given.seeds if given.hours is None else 10**9
    until = None if given.hours is None else started + given.hours * 3_600
    summary = simulate(given.first, count, given.jobs, console, until=until)
    seconds = time.monotonic() - started
    missed = [name for name in RARE if not summary.rare[name]] if summary.worlds >= 5_000 else []
    if given.json:
        print(json.dumps(_plain(summary, seconds, missed)))  # noqa: T201 - the command's output
    else:
        show(summary, seconds, console)
    for seed, message in list(summary.failed.items())[:SHOWN]:
        explain(seed, message, console)
    return 1 if summary.failed or missed else 0


def _plain(summary: Summary, seconds: float, missed: list[str]) -> dict[str, Any]:
    return {**asdict(summary), "seconds": round(seconds, 1), "rare_branches_missed": missed}


if __name__ == "__main__":
    sys.exit(main())
