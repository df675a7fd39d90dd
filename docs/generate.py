"""Write the generated parts of the reference pages from the code: ``python docs/generate.py [--check]``.

A page marks such a part with ``<!-- generated: NAME -->`` and ``<!-- end -->``; what stands between is
replaced. With ``--check`` nothing is written and the exit code tells whether anything would have changed.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from services.mcp.order_execution import errors, exchanges  # noqa: E402
from services.mcp.order_execution.config import ENV_DELIMITER, ENV_PREFIX, Settings  # noqa: E402
from services.mcp.order_execution.metrics import Metrics  # noqa: E402
from services.mcp.order_execution.models import REOPENINGS, RESTARTS, TRANSITIONS, OrderState  # noqa: E402
from services.mcp.order_execution.reconciliation_settings import JobSettings  # noqa: E402

MARKED = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def sentences(text: str | None) -> str:
    """Put a docstring or description on one line of Markdown."""
    line = re.sub(r"``([^`]+)``", r"`\1`", " ".join((text or "").split()))
    return re.sub(r"(?<!`)(<[A-Z]+>[A-Z_]*)", r"`\1`", line)


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
    words = attribute_words(errors.ErrorCategory)
    return table(("category", "meaning"), [(f"`{item.value}`", words[item.name]) for item in errors.ErrorCategory])


def attribute_words(kind: type[Any]) -> dict[str, str]:
    """Read the string that follows each attribute of a class in its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    words: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(target, ast.Name) and is_text:
            words[target.id] = sentences(str(following.value.value))
    return words


# ---- configuration --------------------------------------------------------------------------------------

_PAPER: Final = "gateway.paper"
WORDS: Final = {
    f"{_PAPER}.maker_fee": "Fee of a trade that rested, as a fraction.",
    f"{_PAPER}.taker_fee": "Fee of a trade that came in, as a fraction.",
    f"{_PAPER}.rate_limits.order_requests_per_second": "For placing orders.",
    f"{_PAPER}.rate_limits.cancel_requests_per_second": "For cancelling.",
    f"{_PAPER}.rate_limits.read_requests_per_second": "For reading.",
    f"{_PAPER}.rate_limits.burst": "How many requests may come at once within those limits.",
    f"{_PAPER}.faults.outages": "Times in which nothing gets through, in JSON where the environment says it.",
    f"{_PAPER}.faults.outages[].after_seconds": "When it begins.",
    f"{_PAPER}.faults.outages[].for_seconds": "How long it lasts.",
    "alerts.mismatch_percentage": "Discrepant orders of all orders, in percent.",
    "alerts.missing_orders": "Orders in the journal that the exchange does not have.",
    "alerts.extra_orders": "Orders at the exchange that the journal did not have.",
}
"""What keys mean whose names were thought to say it; the source's own words go before."""


def executor_settings() -> str:
    """List every setting of the executor, section by section."""
    return "\n\n".join(_sections(Settings, "", ENV_PREFIX))


def job_settings() -> str:
    """List every setting of the reconciliation job; the executor's own stand above."""
    return "\n\n".join(_sections(JobSettings, "", None))


def _sections(model: type[BaseModel], path: str, env: str | None) -> Iterator[str]:
    """Write the model's own keys, then each section below it under a heading."""
    words = attribute_words(model)
    rows, below = [], []
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        key = f"{path}{name}"
        if inner is not None and not _is_many(field.annotation):
            below.append((key, name, inner))
            continue
        row = [f"`{key}`", _type(field), _default(field)]
        if env is not None:
            row.append(f"`{env}{name.upper()}`")
        rows.append((*row, words.get(name) or WORDS[key]))
        if inner is not None:
            below.append((f"{key}[]", name, inner))
    head = ("key", "type", "default", *(() if env is None else ("environment",)), "effect")
    if rows:
        yield table(head, rows)
    for key, name, inner in below:
        yield f"### `{key}`\n\n{sentences(inspect.getdoc(inner))}"
        deeper = None if env is None or key.endswith("[]") else f"{env}{name.upper()}{ENV_DELIMITER}"
        yield from _sections(inner, f"{key}.", deeper)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the settings class in an annotation: the section itself, or what a list holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _is_many(annotation: Any) -> bool:
    return get_origin(annotation) in (tuple, list, dict)


def _type(field: FieldInfo) -> str:
    """Say in words what a setting takes, its bounds included."""
    text = _annotation(field.annotation)
    names = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
    metadata = [*field.metadata, *_inner_metadata(field.annotation)]
    found = ((sign, getattr(item, name, None)) for item in metadata for name, sign in names)
    bounds = dict.fromkeys(f"{sign} {float(value):,.10g}" for sign, value in found if value is not None)
    return f"{text}, {', '.join(bounds)}" if bounds else text


def _inner_metadata(annotation: Any) -> list[Any]:
    """The bounds that stand inside an optional annotation."""
    found = []
    for part in get_args(annotation):
        if hasattr(part, "__metadata__"):
            for item in part.__metadata__:
                found += getattr(item, "metadata", [item])
    return found


PLAIN: Final[dict[Any, str]] = {
    float: "number",
    int: "whole number",
    Decimal: "decimal",
    str: "text",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret",
    type(None): "none",
    Any: "anything",
}


def _annotation(annotation: Any) -> str:
    """Say in words what an annotation takes."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (UnionType, Union):
        return " or ".join(_annotation(part) for part in parts)
    if hasattr(annotation, "__metadata__"):
        return _annotation(parts[0])
    if origin is dict:
        return f"{_annotation(parts[0])} → {_annotation(parts[1])}"
    if origin in (tuple, list):
        return _list(parts)
    return "section" if issubclass(annotation, BaseModel) else f"{annotation.__name__} name"


def _list(parts: tuple[Any, ...]) -> str:
    if Ellipsis in parts or len(parts) == 1:
        return f"list of {_annotation(parts[0])}"
    return f"list of {len(parts)}: {', '.join(_annotation(part) for part in parts)}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "empty"
    if isinstance(value, dict) and not value:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# ---- metrics --------------------------------------------------------------------------------------------


def metrics_table() -> str:
    """List every metric as a scrape shows it."""
    registry = CollectorRegistry()
    Metrics(registry)
    collectors = {id(found): found for found in registry._names_to_collectors.values()}.values()  # noqa: SLF001
    rows = []
    for collector in collectors:
        family = collector.describe()[0] if hasattr(collector, "describe") else next(iter(collector.collect()))
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ())) or "—"
        rows.append((f"`{family.name}{suffix}`", family.type, labels, sentences(family.documentation)))
    return table(("metric", "type", "labels", "meaning"), sorted(rows))


# ---- writing --------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], str]] = {
    "states-diagram": states_diagram,
    "states-table": states_table,
    "errors": errors_table,
    "categories": categories_table,
    "executor-settings": executor_settings,
    "job-settings": job_settings,
    "metrics": metrics_table,
    "exchanges": exchanges.markdown_table,
    "exchange-details": exchanges.markdown_details,
}


def rewritten(page: str) -> str:
    """Give a page with its generated parts as they should be."""
    return MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n{found[3]}", page)


def main() -> int:
    """Write the pages, or with ``--check`` tell whether they are as they should be."""
    parser = argparse.ArgumentParser(description="Write the generated parts of the reference pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something would change")
    check = parser.parse_args().check
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
            stale.append(path.relative_to(DOCS).as_posix())
            if not check:
                path.write_text(after, encoding="utf-8")
    for name in stale:
        sys.stdout.write(f"{'stale' if check else 'written'}: {name}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
