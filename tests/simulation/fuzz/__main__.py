"""Live through many random days: ``python -m tests.simulation.fuzz --seeds 1000``, or one again: ``--seed 28``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.simulation.fuzz.run import Summary, fuzz, replay_line, run_day

SHOWN: Final = 20
"""Days that went wrong, of which each violation is printed; the rest is counted."""


def show(summary: Summary, seconds: float, console: Console) -> None:
    """Print what a person wants to know."""
    console.print(
        f"[bold]{summary.days:,} days[/bold], {summary.orders:,} orders, {summary.requests:,} sent, "
        f"{summary.answers.total():,} answers to callers, {summary.injected.total():,} faults, "
        f"{summary.seconds / 3_600:,.0f} simulated hours in {seconds:,.0f} s"
    )
    _table("fault", summary.injected, console)
    _table("callers were told", summary.answers, console)
    _table("orders ended the day as", summary.states, console)
    for seed, violations in sorted(summary.failed.items())[:SHOWN]:
        for violation in violations:
            console.print(f"seed {seed}: {violation[:500]}", markup=False, soft_wrap=True)
        console.print(f"again: {replay_line(seed)}", markup=False, soft_wrap=True)
    console.print(f"violations: on {len(summary.failed)} days")


def _table(title: str, counts: Counter[str], console: Console) -> None:
    table = Table(title, "times", box=None)
    for name, times in sorted(counts.items()):
        table.add_row(name, f"{times:,}")
    console.print(table)


def replay(seed: int, console: Console) -> int:
    """Live through one day, and print everything that happens on it."""
    day = run_day(seed, trace=True)
    for line in day.trace or []:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for violation in day.violations:
        console.print(f"violation: {violation}", markup=False, soft_wrap=True)
    if not day.violations:
        console.print("no violation")
    return 1 if day.violations else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: no violation; 1: a violation; 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many days")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="live through this day alone, and print what happens on it")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if given.seed is not None:
        return replay(given.seed, console)
    started = time.monotonic()
    summary = fuzz(given.first, given.seeds, given.jobs, console)
    show(summary, time.monotonic() - started, console)
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
