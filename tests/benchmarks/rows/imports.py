"""What it costs to import the package, and what comes along."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.measure import ROOT, Row, median

UNWANTED = (
    "ccxt",
    "apprise",
    "apscheduler",
    "aiohttp",
    "rich",
    "fastapi",
    "flask",
    "starlette",
    "jinja2",
    "uvicorn",
)
PROGRAM = """
import json, sys, time
before = set(sys.modules)
began = time.process_time()
import {module}
took = time.process_time() - began
new = sorted({{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names))
print(json.dumps([took * 1e3, new, len(sys.modules) - len(before)]))
"""


def _import(module: str) -> tuple[float, list[str], int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    took, names, count = json.loads(done.stdout)
    return took, names, count


def import_time(quick: bool) -> list[Row]:
    """A fresh process each time."""
    took: dict[str, list[float]] = {"services.mcp.order_execution": [], "pydantic_settings": [], "asyncio": []}
    names: list[str] = []
    for number in range((4 if quick else 12) + 1):
        for module, values in took.items():
            milliseconds, new, _ = _import(module)
            if number:  # the first one writes the byte code
                values.append(milliseconds)
            if module.startswith("services"):
                names = new
    brought = [name for name in UNWANTED if name in names]
    value = median(took["services.mcp.order_execution"])
    return [
        Row(
            "import",
            "import services.mcp.order_execution",
            "CPU of it in a fresh process, byte code at hand; beside it pydantic_settings and asyncio alone",
            value,
            150,
            "ms",
            "≤ 150 ms; no ccxt, apprise, scheduler or web stack",
            facts={
                "pydantic_settings_ms": median(took["pydantic_settings"]),
                "asyncio_ms": median(took["asyncio"]),
                "brings": names,
                "unwanted": brought,
            },
        ),
        Row(
            "import-brings",
            "Unwanted packages that the import brings",
            f"sys.modules after it against {', '.join(UNWANTED)}",
            len(brought),
            0,
            "packages",
            "none",
            facts={"unwanted": brought},
        ),
    ]
