"""Measure everything, in one go, and write the results down.

    python -m tests.benchmarks [--quick] [--only NAME …] [--json] [--no-write]

Every group of rows runs in a process of its own. The results go to ``docs/benchmarks/`` unless ``--quick`` or
``--only`` leave something out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from tests.benchmarks.measure import ROOT, Row, row_from

GROUPS: Final = {
    "orders": "rows.orders:orders",
    "breaker": "rows.calls:breaker",
    "stack": "rows.calls:stack",
    "decorators": "rows.calls:decorators",
    "fan-out": "rows.calls:fan_out",
    "import": "rows.imports:import_time",
    "memory": "rows.scale:memory",
    "tracker": "rows.scale:tracker",
    "growth-open": "rows.scale:growth_open",
    "growth-journal": "rows.scale:growth_journal",
    "opening": "rows.history:opening",
    "reconciling": "rows.history:reconciling",
    "profile": "rows.path:path_profile",
}


def say(text: object) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def measure(name: str, quick: bool) -> list[Row]:
    """Run one group here, in this process."""
    module, _, function = GROUPS[name].partition(":")
    call: Callable[[bool], list[Row]] = getattr(import_module(f"tests.benchmarks.{module}"), function)
    return call(quick)


def measure_apart(name: str, quick: bool) -> list[Row]:
    """Run one group in a process of its own; a failure becomes a row that says so."""
    command = [sys.executable, "-m", "tests.benchmarks", "--group", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        return [Row(name, name, "", None, None, "", "", note=f"could not be measured (exit {done.returncode})")]
    return [row_from(item) for item in json.loads(done.stdout.splitlines()[-1])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 when a budget is missed, 2 when a row could not be measured."""
    options = _parse(arguments)
    if options.group:
        say(json.dumps([row.to_dict() for row in measure(options.group, options.quick)]))
        return 0
    from tests.benchmarks import report

    began, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    for name in options.only or GROUPS:
        sys.stderr.write(f"{name} …" + "\n")
        rows += measure_apart(name, options.quick)
    results: dict[str, Any] = report.results(
        rows, quick=options.quick, seconds=time.monotonic() - began, loads=(load, os.getloadavg()[0])
    )
    if options.json:
        say(json.dumps(results, indent=2))
    else:
        report.show(rows)
    if not (options.quick or options.only or options.no_write):
        report.write(results)
    if any(row.value is None and row.limit is not None for row in rows):
        return 2
    return 1 if any(row.ok is False for row in rows) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller histories")
    parser.add_argument("--only", action="append", choices=tuple(GROUPS), metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks as it is")
    parser.add_argument("--group", choices=tuple(GROUPS), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.stdout.flush()
    code = main()
    sys.stdout.flush()
    os._exit(code) if "--group" in sys.argv else sys.exit(code)
