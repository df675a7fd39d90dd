"""The results: a table on the terminal, and Markdown, JSON and a picture in docs/benchmarks."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import ROOT, Row, row_from

OUT: Final = ROOT / "docs" / "benchmarks"


def results(
    rows: Sequence[Row], *, quick: bool, seconds: float, loads: Sequence[float] = (0.0, 0.0)
) -> dict[str, Any]:
    """Everything that is written down; ``loads`` are the load averages at the start and at the end."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": "make bench" + (" BENCH_ARGS=--quick" if quick else ""),
        "seconds": round(seconds),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "load": [round(value, 1) for value in loads],
            "sqlite": sqlite3.sqlite_version,
            "aiohttp": version("aiohttp"),
        },
        "rows": [row.to_dict() for row in rows],
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.stdout.strip() or "unknown"


def shown(value: float | None, unit: str) -> str:
    """A figure with as many digits as it deserves."""
    if value is None:
        return "—"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def verdict(row: Row) -> str:
    """In words; colours are not for everybody."""
    if row.ok is None:
        return "" if row.limit is None else "not measured"
    return "within" if row.ok else "MISSED"


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    console = Console()
    table = Table(title="Benchmarks", show_lines=False)
    for column in ("what", "measured", "budget", ""):
        table.add_column(column, justify="right" if column == "measured" else "left", overflow="fold")
    for row in rows:
        if row.name.startswith("peer-"):
            continue
        style = {True: "green", False: "bold red", None: "dim"}[row.ok]
        table.add_row(row.what, shown(row.value, row.unit), row.budget, f"[{style}]{verdict(row)}[/]")
    console.print(table)
    peers = [row for row in rows if row.name.startswith("peer-")]
    if peers:
        console.print(_peer_table(peers))


def _peer_cells(row: Row) -> list[str]:
    facts = row.facts
    if row.value is None:
        return [row.what, row.note, "", "", "", "", ""]
    return [
        row.what,
        f"{facts['p50_us']:,.0f}",
        f"{facts['p50_ratio']:.2f}",
        f"{facts['orders_per_s']:,.0f}",
        f"{facts['rate_ratio']:.2f}",
        f"{facts['cpu_us']:,.0f}",
        f"{facts['cpu_ratio']:.2f}",
    ]


PEER_COLUMNS: Final = ("client", "p50 µs", "×", "orders/s @50", "×", "CPU µs/order @50", "×")


def _peer_table(peers: Sequence[Row]) -> Table:
    table = Table(title="Beside its peers (× raw aiohttp, medians of interleaved rounds)")
    for number, column in enumerate(PEER_COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for row in peers:
        table.add_row(*_peer_cells(row))
    return table


def write(told: Mapping[str, Any]) -> None:
    """Write results.json, results.md and the pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "results.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (OUT / "results.md").write_text(markdown(told), encoding="utf-8")
    from tests.benchmarks import plots

    plots.draw(OUT / "results.json", OUT)


def markdown(told: Mapping[str, Any]) -> str:
    """The page."""
    rows = [row_from(item) for item in told["rows"]]
    minutes = told["seconds"] / 60
    machine = told["machine"]
    lines = [
        "# Benchmarks",
        "",
        f"One run of `{told['command']}`, {told['at']}, commit `{told['commit']}`;",
        f"{machine['cores']} shared cores, Python {machine['python']}, SQLite {machine['sqlite']},",
        f"aiohttp {machine['aiohttp']}; {minutes:.0f} minutes. The machine is noisy and shared: all is measured in",
        "interleaved rounds, and a ratio or a difference is the median of those of the rounds. How each row is",
        "measured stands below the tables.",
        "",
        f"Load average {machine['load'][0]:g} at the start and {machine['load'][1]:g} at the end."
        + _disturbed(machine),
        "",
        "![Beside its peers](peers.svg)",
        "",
        "## Budgets",
        "",
        "| what | measured | budget | |",
        "|---|---:|---|---|",
    ]
    judged = [row for row in rows if not row.name.startswith(("peer-", "path-"))]
    lines += [f"| {row.what} | {shown(row.value, row.unit)} | {row.budget} | {verdict(row)} |" for row in judged]
    lines += ["", "## Beside its peers", "", "× is the median of the ratios to raw aiohttp in the same round.", ""]
    lines += ["| " + " | ".join(PEER_COLUMNS) + " |", "|---|" + "---:|" * (len(PEER_COLUMNS) - 1)]
    lines += ["| " + " | ".join(_peer_cells(row)) + " |" for row in rows if row.name.startswith("peer-")]
    lines += [
        "",
        "None of the peers writes an order down before it is sent; this library does, durably, and is measured so.",
        "",
        "## Where each microsecond goes",
        "",
        "![The order's path](path.svg)",
        "",
        "## How each row is measured",
        "",
    ]
    lines += [f"- **{row.what}**: {row.against}.{_facts(row)}" for row in judged if row.against]
    return "\n".join(lines) + "\n"


def _disturbed(machine: Mapping[str, Any]) -> str:
    """What a load that is not this run's own means for the figures."""
    if max(machine["load"]) <= 1.5 * (machine["cores"] or 1):
        return ""
    return (
        " **Other work disturbed this run**: times, rates and the disk's floor are worth little;"
        " CPU, its ratios, memory and counts are still to be trusted."
    )


def _facts(row: Row) -> str:
    told = [
        f"{name.replace('_', ' ')} {value:,.1f}"
        for name, value in row.facts.items()
        if isinstance(value, int | float)
    ]
    return (f" {row.note}." if row.note else "") + (f" ({', '.join(told)})" if told else "")


def read(path: Path) -> dict[str, Any]:
    """Results as they were written."""
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told
