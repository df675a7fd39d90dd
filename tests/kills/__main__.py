"""Kill bots for real: ``python -m tests.kills --kills 1000``, or one case again: ``--case random:17:0``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.kills.cases import NAMED, VERDICTS, Case, Outcome, exchange, run_case
from tests.kills.kinds import TRAITS

WAYS = ("random", "twice", "stop", "beside")
KINDS = len(TRAITS)


def cases(first: int, points: int) -> Iterator[Case]:
    """Every named point of a life, and of the life after a kill, on each kind of exchange; then any moment.

    The first seeds are calm; those after them meet each point again in bad weather, in turn with the random ways.
    """
    for seed in range(first, first + KINDS):
        for step in range(len(NAMED)):
            yield Case(seed, "named", step)
        for step in range(len(VERDICTS)):
            yield Case(seed, "verdict", step)
        for step in range(1, points + 1):
            yield Case(seed, "point", step)
            yield Case(seed, "again", step)
    for turn in count():
        step = turn % points + 1
        yield Case(first + KINDS + turn, "point", step)
        yield Case(first + KINDS + turn, "again", step)
        for way in WAYS:
            yield Case(first + turn, way)


def parse(text: str) -> Case:
    """A case as ``str(case)`` wrote it."""
    way, seed, step = text.split(":")
    return Case(int(seed), way, int(step))


def run_many(wanted: int, first: int, points: int, jobs: int, console: Console) -> list[Outcome]:
    """Run cases until so many kills have happened."""
    outcomes: list[Outcome] = []
    kills = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # What is under way when enough bots were killed is dropped, its files with it.
    with (
        TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as root,
        exchange() as base,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("kills", total=wanted)
        # Workers are forked while this process has one thread alone; they fork the bots in turn.
        context = multiprocessing.get_context("fork")
        with context.Pool(jobs, maxtasksperchild=200) as pool:
            for outcome in pool.imap_unordered(_run, _enough((base, Path(root)), first, points, wanted)):
                outcomes.append(outcome)
                kills += outcome.kills
                broken = sum(item.problem is not None for item in outcomes)
                progress.update(bar, completed=kills, description=f"kills, {broken} violations")
                if kills >= wanted:
                    pool.terminate()
                    break
    return outcomes


def _enough(place: tuple[str, Path], first: int, points: int, wanted: int) -> Iterator[tuple[str, Case, Path]]:
    for case in islice(cases(first, points), 3 * wanted + 4 * KINDS * points):
        yield place[0], case, place[1]


def _run(given: tuple[str, Case, Path]) -> Outcome:
    return run_case(*given)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: no violation, 1: a violation, 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many")
    parser.add_argument("--points", type=int, default=40, help="named points of one life at which bots are killed")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="bots at once")
    parser.add_argument("--case", help="run this one alone")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    console = Console(stderr=given.json, width=None if sys.stdout.isatty() else 160)
    if given.case is not None:
        with exchange() as base:
            outcome = run_case(base, parse(given.case))
        console.print(outcome.problem or f"no violation; {outcome.kills} kills", markup=False)
        return 1 if outcome.problem else 0
    started = time.monotonic()
    outcomes = run_many(given.kills, given.first, given.points, given.jobs, console)
    seconds = time.monotonic() - started
    kills: Counter[str] = Counter()
    for outcome in outcomes:
        kills[outcome.case.way] += outcome.kills
    deadly = {point for outcome in outcomes for point in outcome.points}
    broken = [outcome for outcome in outcomes if outcome.problem]
    for outcome in broken[:20]:
        console.print(f"{outcome.problem}\n  again: python -m tests.kills --case {outcome.case}", markup=False)
    if given.json:
        summary = {
            "kills": kills,
            "points": len(deadly),
            "cases": len(outcomes),
            "violations": len(broken),
            "seconds": round(seconds, 1),
        }
        print(json.dumps(summary))  # noqa: T201 - the command's output
    else:
        by_way = ", ".join(f"{number} {way}" for way, number in sorted(kills.items()))
        console.print(
            f"{sum(kills.values()):,} kills ({by_way}), {len(deadly)} named points, in {len(outcomes):,} cases, "
            f"{seconds:,.0f} s: "
            f"{len(broken)} violations"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
