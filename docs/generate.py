"""Write the generated parts of the reference pages from the code: ``python docs/generate.py [--check]``.

A page marks such a part with ``<!-- generated: NAME -->`` and ``<!-- end -->``; what stands between is
replaced. With ``--check`` nothing is written and the exit code tells whether anything would have changed.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from services.mcp.order_execution import errors  # noqa: E402
from services.mcp.order_execution.models import REOPENINGS, RESTARTS, TRANSITIONS, OrderState  # noqa: E402

MARKED = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def sentences(text: str | None) -> str:
    """Put a docstring or description on one line of Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join((text or "").split()))


# ---- states ---------------------------------------------------------------------------------------------


def states_diagram() -> str:
    """Draw the normal transitions as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    for state, targets in TRANSITIONS.items():
        lines += [f"    {state} --> {target}" for target in OrderState if target in targets]
        if state.is_final:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


def states_table() -> str:
    """List every state with what may follow it."""

    def names(targets: frozenset[OrderState]) -> str:
        return ", ".join(f"`{state}`" for state in OrderState if state in targets) or "—"

    return table(
        ("state", "kind", "what may follow", "what later truth from the exchange may make of it"),
        [
            (f"`{state}`", _kind(state), names(TRANSITIONS[state]), names(REOPENINGS.get(state, frozenset())))
            for state in OrderState
        ],
    )


def _kind(state: OrderState) -> str:
    if state.is_final:
        return "final, may start afresh" if state in RESTARTS else "final"
    return "unresolved" if state.is_unresolved else "live"


# ---- errors ---------------------------------------------------------------------------------------------


def errors_table() -> str:
    """List every error below its base, with what it means."""

    def walk(error: type[Exception], depth: int) -> Iterator[tuple[str, ...]]:
        indent = "&nbsp;&nbsp;" * depth
        yield f"{indent}`{error.__name__}`", sentences(inspect.getdoc(error))
        for below in error.__subclasses__():
            if below.__module__ == errors.__name__:
                yield from walk(below, depth + 1)

    return table(("error", "meaning"), walk(errors.OrderExecutionError, 0))


def categories_table() -> str:
    """List the error categories with their own words, which stand below each name in the source."""
    words = enum_docstrings(errors.ErrorCategory)
    return table(("category", "meaning"), [(f"`{item.value}`", words[item.name]) for item in errors.ErrorCategory])


def enum_docstrings(enumeration: type[StrEnum]) -> dict[str, str]:
    """Read the string that follows each member of an enumeration in its source."""
    source = inspect.getsource(enumeration)
    return {
        found["name"]: sentences(found["words"])
        for found in re.finditer(r'^ +(?P<name>[A-Z_]+) = .*\n +"""(?P<words>[^"]+)"""', source, re.MULTILINE)
    }
