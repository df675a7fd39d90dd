"""The pictures, drawn by matplotlib in an environment of its own: nothing of it is needed to measure.

python tests/benchmarks/plots.py RESULTS.json DIRECTORY
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

INK: Final = "#1f2430"
MUTED: Final = "#8a93a6"
OURS: Final = "#2563eb"
BAD: Final = "#b91c1c"
STEP_COLOURS: Final = ("#94a3b8", "#64748b", "#c4b5fd", "#8b5cf6", "#6d28d9", "#f59e0b", "#0ea5e9", "#cbd5e1")


def draw(results: Path, directory: Path) -> None:
    """Draw everything; the environment is made on first use."""
    python = _environment(results.resolve().parents[2] / ".bench" / "envs" / "plots")
    subprocess.run([str(python), str(Path(__file__).resolve()), str(results), str(directory)], check=True)


def _environment(directory: Path) -> Path:
    python = directory / "bin" / "python"
    if not (directory / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, capture_output=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
        subprocess.run([*pip, "matplotlib>=3.9"], check=True, capture_output=True)
        (directory / "installed").touch()
    return python


def _peers(rows: list[dict[str, Any]], directory: Path) -> None:
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    peers = [row for row in rows if row["name"].startswith("peer-") and row["value"] is not None]
    peers.reverse()
    names = [row["what"] for row in peers]
    colours = [OURS if "peer-ours" in row["name"] else MUTED for row in peers]
    figure, panels = pyplot.subplots(1, 3, figsize=(13, 0.62 * len(peers) + 1.7), sharey=True)
    shown = (
        ("p50_ratio", "p50 of one order alone (×)", "{:.2f} ×", None),
        ("cpu_ratio", "CPU per order, 50 at once (×)", "{:.2f} ×", 1.6),
        ("rate_ratio", "orders a second, 50 at once (×)", "{:.2f} ×", 0.65),
    )
    for panel, (key, title, text, budget) in zip(panels, shown, strict=True):
        values = [row["facts"][key] for row in peers]
        bars = panel.barh(names, values, color=colours, height=0.62)
        panel.bar_label(bars, [text.format(value) for value in values], padding=4, color=INK, fontsize=9)
        panel.set_title(title, fontsize=10.5, color=INK, loc="left")
        panel.set_xlim(0, max(values) * 1.22)
        if budget is not None:
            panel.axvline(budget, color=BAD, linewidth=1, linestyle="--")
            top = len(peers) - 0.42
            panel.text(budget, top, f" budget {budget:g}", color=BAD, fontsize=8, va="center")
        _plain(panel)
    title = "Orders through a local stub that answers at once, over raw aiohttp = 1"
    figure.suptitle(title, x=0.01, ha="left", color=INK)
    figure.tight_layout()
    _save(figure, directory / "peers")


def _path(rows: list[dict[str, Any]], directory: Path) -> None:
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    by_name = {row["name"]: row for row in rows}
    if "path-steps" not in by_name:
        return
    steps, threads = by_name["path-steps"], by_name["path-threads"]
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(12, 5.6), height_ratios=(2.2, 1))
    left, facts = 0.0, steps["facts"]
    for number, value in enumerate(facts.values()):
        row = len(facts) - 1 - number
        upper.barh(row, value, left=left, color=STEP_COLOURS[number % len(STEP_COLOURS)], height=0.7)
        gap = steps["value"] * 0.008
        upper.text(left + value + gap, row, f"{value:,.0f} µs", va="center", fontsize=9, color=INK)
        left += value
    upper.set_yticks(range(len(facts)), list(reversed(facts)))
    upper.set_xlim(0, left * 1.1)
    title = f"One order alone: {steps['value']:,.0f} µs (medians of the steps)"
    upper.set_title(title, fontsize=10.5, loc="left", color=INK)
    left = 0.0
    for number, (name, value) in enumerate(sorted(threads["facts"].items(), key=lambda item: -item[1])):
        if value < 0.5:
            continue
        colour = ("#2563eb", "#8b5cf6", "#0ea5e9", "#94a3b8")[number % 4]
        lower.barh(0, value, left=left, color=colour, height=0.5, label=f"{name}: {value:,.0f} µs")
        left += value
    raw = by_name.get("peer-raw")
    if raw is not None:
        value = raw["facts"]["cpu_us"]
        lower.barh(1, value, color=MUTED, height=0.5, label=f"raw aiohttp: {value:,.0f} µs")
    names = ["this library"] if raw is None else ["this library", "raw aiohttp"]
    lower.set_yticks(range(len(names)), names)
    lower.legend(loc="lower right", fontsize=8.5, frameon=False)
    lower.set_xlim(0, max(left, 1) * 1.35)
    lower.set_title("50 at once: CPU per order by thread", fontsize=10.5, loc="left", color=INK)
    for panel in (upper, lower):
        _plain(panel)
    figure.tight_layout()
    _save(figure, directory / "path")


def _plain(panel: Any) -> None:
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0, labelsize=9.5, colors=INK)
    panel.tick_params(axis="x", labelsize=8.5, colors=MUTED)
    panel.spines["bottom"].set_color(MUTED)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def main() -> None:
    """Draw from the results that were written."""
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "order-execution"
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    directory = Path(sys.argv[2])
    _peers(told["rows"], directory)
    _path(told["rows"], directory)


if __name__ == "__main__":
    main()
