"""Kill bots on a local Nobitex: ``python -m tests.nobitex_kills --kills 300 --auth key``, or ``--case key:17``."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing.pool import AsyncResult
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.nobitex_kills.cases import AUTHS, Case, Outcome, run_case

SHOW_EVERY = 50
LOOK_SECONDS = 0.1


def cases(first: int, auths: tuple[str, ...]) -> Iterator[Case]:
    """Every seed with every scheme."""
    for seed in count(first):
        for auth in auths:
            yield Case(auth, seed)


def parse(text: str) -> Case:
    """A case as ``str(case)`` wrote it. Raises ArgumentTypeError."""
    auth, _, seed = text.partition(":")
    if auth not in AUTHS or not seed.isdecimal():
        raise argparse.ArgumentTypeError(f"expected such as key:17 or token:3, got {text!r}")
    return Case(auth, int(seed))


def run_many(todo: Iterator[Case], wanted: float, jobs: int, console: Console) -> list[Outcome]:
    """Run cases until so many kills have happened; what is under way then is seen to its end."""
    outcomes: list[Outcome] = []
    told = kills = 0
    one_by_one = math.isinf(wanted)
    keep = os.environ.get("KEEP_KILLS") == "1"
    waiting: list[AsyncResult[Outcome]] = []
    # Workers are forked while this process has one thread alone; they fork sandboxes and bots in turn.
    with (
        TemporaryDirectory(prefix="nobitex-kills-", ignore_cleanup_errors=True) as root,
        multiprocessing.get_context("fork").Pool(jobs) as pool,
    ):
        while True:
            while kills < wanted and len(waiting) < jobs and (case := next(todo, None)) is not None:
                waiting.append(pool.apply_async(run_case, (case, None if keep else Path(root))))
            if not waiting:
                return outcomes
            waiting[0].wait(LOOK_SECONDS)
            done = [item.get() for item in waiting if item.ready()]
            waiting = [item for item in waiting if not item.ready()]
            for outcome in done:
                outcomes.append(outcome)
                kills += outcome.kills
                if one_by_one:
                    console.print(f"{outcome.case}: {outcome.kills} kills, {outcome.seconds:.1f} s")
                if outcome.problem:
                    console.print(f"{outcome.case}: {outcome.problem}", markup=False)
            if kills >= told + SHOW_EVERY:
                told = kills
                console.print(f"{kills} kills, {sum(bool(item.problem) for item in outcomes)} violations")


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: no violation, 1: a violation, 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.nobitex_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many (50)")
    parser.add_argument("--auth", choices=(*AUTHS, "both"), default="both", help="the scheme (both)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=4 * (os.cpu_count() or 1), help="cases at once")
    parser.add_argument("--case", nargs="+", type=parse, help="run these alone, such as key:17")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout, all else on stderr")
    given = parser.parse_args(arguments)
    console = Console(stderr=given.json, width=None if sys.stdout.isatty() else 200, highlight=False)
    auths = AUTHS if given.auth == "both" else (given.auth,)
    started = time.monotonic()
    if given.case is not None:
        outcomes = run_many(iter(given.case), math.inf, given.jobs, console)
    else:
        console.print(f"auth {given.auth}, seeds from {given.first}, {given.jobs} cases at once")
        outcomes = run_many(cases(given.first, auths), given.kills, given.jobs, console)
    broken = [item for item in outcomes if item.problem]
    for item in broken[:20]:
        console.print(f"{item.problem}\n  again: python -m tests.nobitex_kills --case {item.case}", markup=False)
    summary = {
        "kills": sum(item.kills for item in outcomes),
        "cases": len(outcomes),
        "auth": {auth: sum(item.case.auth == auth for item in outcomes) for auth in auths},
        "orders": sum(item.orders for item in outcomes),
        "requests": sum(item.requests for item in outcomes),
        "unresolved": sum(item.unresolved for item in outcomes),
        "violations": len(broken),
        "seconds": round(time.monotonic() - started, 1),
    }
    if given.json:
        print(json.dumps(summary))  # noqa: T201 - the command's output
    else:
        console.print(
            f"{summary['kills']} kills in {summary['cases']} cases, {summary['orders']} orders at the exchange, "
            f"{summary['requests']:,} requests, {summary['seconds']} s: "
            f"{len(broken)} violations"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
