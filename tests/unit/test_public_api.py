"""What the package shows is what it promises, and importing it costs little."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import services.mcp.order_execution as package
from services.mcp.order_execution import errors

ROOT = Path(__file__).resolve().parents[2]

PROMISED = {
    "OrderExecutionInterface",
    "BasicOrderExecutor",
    "ReliableOrderExecutor",
    "Order",
    "OrderState",
    "ExecutionStats",
    "ReconciliationReport",
    "CircuitState",
    "log_execution_time",
    "track_metrics",
    "circuit_breaker_aware",
    "alert_on_failure",
}
"""The names that design §10 promises to users."""

HEAVY = ("ccxt", "apprise", "apscheduler", "aiohttp", "rich", "asyncpg")
"""What only some users need, and nobody at import time."""


def public_errors() -> set[str]:
    return {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.OrderExecutionError)
    }


def test_all_names_are_the_visible_names() -> None:
    """Nothing leaks into the package's face, and nothing announced is missing."""
    visible = {
        name
        for name in dir(package)
        if not name.startswith("_") and not isinstance(getattr(package, name), ModuleType)
    }
    assert visible - {"annotations"} == set(package.__all__)


def test_all_names_are_listed_once() -> None:
    """The list holds no name twice."""
    assert len(package.__all__) == len(set(package.__all__))


def test_everything_promised_is_there() -> None:
    """The names of the design and every error that an executor can raise."""
    assert PROMISED | public_errors() <= set(package.__all__)


def test_every_public_class_and_function_says_what_it_means() -> None:
    """help() on any of them answers with its own words."""
    silent = [
        name
        for name in package.__all__
        if (inspect.isclass(thing := getattr(package, name)) or inspect.isfunction(thing))
        and not (thing.__doc__ or "").strip()
    ]
    assert silent == []


def test_every_error_is_caught_by_the_base() -> None:
    """``except OrderExecutionError`` is enough for a caller who wants no more."""
    raised = [getattr(package, name) for name in public_errors()]
    assert all(issubclass(error, package.OrderExecutionError) for error in raised)


def test_importing_is_cheap() -> None:
    """A fresh interpreter that imports the package loads none of the heavy libraries."""
    script = (
        f"import sys, services.mcp.order_execution\nprint([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"


def test_importing_has_no_effect_on_the_directory(tmp_path: Path) -> None:
    """Importing writes no file, makes no directory and prints nothing."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import services.mcp.order_execution"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (result.stdout, result.stderr, list(tmp_path.iterdir())) == ("", "", [])
