"""The command: ``python -m services.mcp.order_execution.rehearsal [--gateway nobitex] [--orders N] [--json] …``.

Exit codes: 0 every order is accounted for, 1 the promise was broken, 2 usage or configuration, 75 the rehearsal
could not be carried out, 130 and 143 stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from ..clock import Clock, SystemClock
from ..errors import ConfigurationError, OrderExecutionError
from ..standard_output import make_console, reader_may_leave
from .day import SECONDS, BadDay
from .report import write_report
from .run import Options, Rehearsal
from .view import LineView, LiveView, View

if TYPE_CHECKING:
    from rich.console import Console

EXIT_KEPT: Final = 0
EXIT_BROKEN: Final = 1
EXIT_USAGE: Final = 2
EXIT_FAILED: Final = 75
ORDERS_MAX: Final = 2_000
BASE: Final = Path("data") / "rehearsal"
MUST_BE_ZERO: Final = frozenset({"still unknown", "doubled", "lost", "misjudged"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    clock = SystemClock()
    directory = options.dir or BASE / clock.now().strftime("%Y%m%dT%H%M%S.%fZ")
    console = make_console(stderr=options.json)
    try:
        _make_empty(directory)
        _log_to(directory / "rehearsal.log")
        wanted = Options(options.orders, options.seed, options.concurrency, directory, options.seconds)
        report, stopped_by = asyncio.run(_run(wanted, _day(options, wanted, clock), console))
    except (ConfigurationError, OSError) as error:
        return _fail(str(error), EXIT_USAGE)
    except OrderExecutionError as error:
        return _fail(f"{type(error).__name__}: {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("ended at once; what was open stays in the journal", 128 + signal.SIGINT)
    if report is None:
        console.print(f"Stopped. What was open stays in the journal: {directory}", highlight=False)
        return 128 + stopped_by
    write_report(report, directory)
    with reader_may_leave():
        if options.json:
            sys.stdout.write(json.dumps(report, indent=2) + "\n")
        else:
            show(report, console)
    return EXIT_KEPT if report["ok"] else EXIT_BROKEN


def _make_empty(directory: Path) -> None:
    """Make the directory. Raises ConfigurationError where something lies in it already, and OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ConfigurationError(f"--dir {directory}: expected a directory that is empty or not there yet")


def _day(options: argparse.Namespace, wanted: Options, clock: Clock) -> BadDay:
    if options.gateway == "paper":
        return BadDay(wanted.directory, wanted.seed, clock, seconds=wanted.seconds)
    from .nobitex_day import NobitexDay  # noqa: PLC0415 - only what is used is imported

    return NobitexDay(wanted.directory, wanted.seed, clock, auth=options.auth, seconds=wanted.seconds)


async def _run(options: Options, day: BadDay, console: Console) -> tuple[dict[str, Any] | None, int]:
    """Rehearse until the end or a signal; then there is no report, and the signal's number."""
    task = asyncio.ensure_future(_rehearse(options, day, console))
    with _cancelled_by_signals(task) as received:
        try:
            return await task, 0
        except asyncio.CancelledError:
            if not received:
                raise
            return None, received[0]


async def _rehearse(options: Options, day: BadDay, console: Console) -> dict[str, Any]:
    view: View = LiveView(console) if console.is_terminal else LineView(console)
    async with day:
        observer = day.observer()
        await observer.open()
        try:
            with view:
                return await Rehearsal(options, day, observer, view).run()
        finally:
            await observer.close()


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[Any]) -> Any:
    """Let the first SIGINT or SIGTERM cancel the task in good order; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        sys.stderr.write("rehearsal: stopping; the same once more ends it at once\n")
        loop.remove_signal_handler(number)
        task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield received
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the summary for people."""
    console.print(f"Rehearsal of bad days on {report['exchange']}", highlight=False, style="italic")
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in report["counts"].items():
        style = "" if name not in MUST_BE_ZERO else "bold red" if number else "green"
        table.add_row(name, str(number), style=style)
    reconciliation = report["reconciliation"]
    table.add_section()
    for name in ("total", "matched", "mismatched", "missing", "extra"):
        table.add_row(f"reconciliation: {name}", str(reconciliation[f"{name}_orders"]))
    console.print(table)
    if report["ok"]:
        console.print(
            f"[bold green]Every order is accounted for[/]: none lost, none doubled ({report['seconds']:.1f} s)."
        )
    else:
        console.print("[bold red]Not everything is accounted for[/]; the report says what.")
    for name, path in report["files"].items():
        console.print(f"  {name:<20} {path}", highlight=False, soft_wrap=True)


def _log_to(path: Path) -> None:
    """Keep the library's log in a file of its own, so that the picture on the terminal stays whole."""
    logging.basicConfig(
        filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"rehearsal: {message}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    def between(least: int, most: int) -> Any:
        def number(text: str) -> int:
            value = int(text)
            if not least <= value <= most:
                raise argparse.ArgumentTypeError(f"expected {least} to {most}, got {value}")
            return value

        return number

    parser = argparse.ArgumentParser(
        prog="python -m services.mcp.order_execution.rehearsal",
        description=(
            "Place orders on the paper exchange, or on a local Nobitex, while requests, replies and the exchange "
            "itself fail."
        ),
        epilog="exit codes: 0 every order is accounted for, 1 not so, 2 usage, 75 could not be carried out",
    )
    parser.add_argument(
        "--gateway", choices=("paper", "nobitex"), default="paper", help="on which exchange (paper)"
    )
    parser.add_argument(
        "--auth", choices=("key", "token"), default="key", help="how requests to nobitex are signed (key)"
    )
    parser.add_argument("--orders", type=between(1, ORDERS_MAX), default=80, metavar="N", help="how many (80)")
    parser.add_argument(
        "--seed", type=between(0, 2**31 - 1), default=1, metavar="S", help="of the mix of orders (1)"
    )
    parser.add_argument(
        "--concurrency", type=between(1, 200), default=12, metavar="C", help="orders in flight at a time (12)"
    )
    parser.add_argument(
        "--seconds", type=between(1, 3_600), default=SECONDS, metavar="T", help="over how long they are spread (12)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON, and progress to stderr")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where everything is kept (data/rehearsal/TIME)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
