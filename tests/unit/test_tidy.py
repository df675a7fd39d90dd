"""The house rules that no other tool checks, kept as tests."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "services" / "mcp" / "order_execution"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))

LINES_MAX = 450
FUNCTION_LINES_MAX = 60

WALL_CLOCK = re.compile(r"\btime\.time(_ns)?\(|\b(datetime|date)\.(now|utcnow|today)\(|\butcnow\(")
PRINTING = {"rehearsal.py", "reconciliation_job.py"}
"""The command lines: printing is what they are for."""

TESTED_ELSEWHERE = {
    "__init__.py": "tests/unit/test_public_api.py",
    "gateways/base.py": "records and an abstract class; tests/contract runs it on every gateway",
    "journals/base.py": "an abstract class; tests/contract runs it on every journal",
    "interface.py": "an abstract class; both executors' tests run it",
}
"""Modules without a unit test of their own name, each with the reason."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_without_comments(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a module with comments and strings blanked out, numbered from 1."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [list(line) for line in lines]
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            continue
        (first, start), (last, end) = token.start, token.end
        for row in range(first, last + 1):
            begin = start if row == first else 0
            stop = end if row == last else len(rows[row - 1])
            rows[row - 1][begin:stop] = " " * (stop - begin)
    return ((number, "".join(row)) for number, row in enumerate(rows, start=1))


def occurrences(paths: list[Path], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in code_without_comments(path)
        if pattern.search(line)
    ]


def test_the_rules_look_at_real_files() -> None:
    """A rule that found no file to check would pass for ever."""
    assert {"models.py", "errors.py", "__init__.py"} <= {path.name for path in SOURCES}
    assert Path(__file__).resolve() in TESTS


@pytest.mark.parametrize("path", SOURCES + EXAMPLES, ids=name_of)
def test_a_file_holds_one_idea(path: Path) -> None:
    """No source file grows past the bound."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_MAX, f"{lines} lines; find the second idea in it and move that out"


@pytest.mark.parametrize("path", SOURCES + EXAMPLES, ids=name_of)
def test_a_function_holds_one_idea(path: Path) -> None:
    """No function grows past the bound, its docstring included."""
    long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    """A module is named for what it holds."""
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [name_of(path) for path in SOURCES + TESTS if path.name in drawers] == []


def test_services_are_namespace_packages() -> None:
    """Another distribution may add to ``services`` and ``services.mcp``."""
    assert not (ROOT / "services" / "__init__.py").exists()
    assert not (ROOT / "services" / "mcp" / "__init__.py").exists()
    assert (PACKAGE / "py.typed").exists()


def test_time_is_injected() -> None:
    """Only ``clock.py`` reads the wall clock; whatever waits, waits on the loop."""
    assert occurrences([path for path in SOURCES if path.name != "clock.py"], WALL_CLOCK) == []


def test_nothing_blocks_the_loop_by_sleeping() -> None:
    """Waiting is asyncio's."""
    assert occurrences(SOURCES, re.compile(r"\btime\.sleep\(|\bfrom time import .*sleep")) == []


def test_tests_wait_for_no_wall_clock() -> None:
    """A test that sleeps is slow on a good day and wrong on a bad one."""
    real = [path for path in TESTS if path.parent.name != "kills"]  # real processes die at moments of real time
    assert occurrences(real, re.compile(r"\btime\.sleep\(")) == []


def test_the_environment_is_read_in_one_place() -> None:
    """``config.py`` alone reads the environment, so that a setting can be found."""
    readers = [path for path in SOURCES if path.name != "config.py"]
    assert occurrences(readers, re.compile(r"\bos\.(environ|getenv)\b|\bfrom os import .*environ")) == []


def test_libraries_do_not_print() -> None:
    """What a library has to say goes to logging, events and metrics."""
    library = [path for path in SOURCES if path.name not in PRINTING]
    assert occurrences(library, re.compile(r"(?<![\w.])print\(")) == []


def test_fakes_not_mocks() -> None:
    """A fake keeps a contract; a mock keeps whatever it was told."""
    banned = re.compile(r"\bunittest\.mock\b|\bfrom unittest import .*mock|\bMagicMock\b|\bmocker\b")
    assert occurrences(TESTS, banned) == []


def test_nothing_is_left_for_later() -> None:
    """No module carries a note that it is unfinished."""
    note = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XXX|HACK)\b|raise NotImplementedError")
    unfinished = [
        f"{name_of(path)}:{number}"
        for path in SOURCES + EXAMPLES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if note.search(line)
    ]
    assert unfinished == []


def has_code(path: Path) -> bool:
    """Whether a module holds more than its docstring, imports and ``__all__``."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return not all(isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign) for node in body)


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.name != "__init__.py" or has_code(path)], ids=name_of
)
def test_every_module_has_its_unit_test(path: Path) -> None:
    """tests/unit mirrors the tree; an exception to that stands in the list above, with its reason."""
    inside = path.relative_to(PACKAGE)
    mirror = ROOT / "tests" / "unit" / inside.parent / f"test_{inside.name}"
    assert inside.as_posix() in TESTED_ELSEWHERE or mirror.exists(), f"{name_of(mirror)} is missing"


def test_the_list_of_exceptions_names_real_modules() -> None:
    """A module that is gone leaves the list too."""
    assert [name for name in TESTED_ELSEWHERE if not (PACKAGE / name).exists()] == []


@pytest.mark.parametrize("path", [path for path in TESTS if path.name.startswith("test_")], ids=name_of)
def test_every_test_states_its_promise(path: Path) -> None:
    """Each test function has a docstring that says what it holds the code to."""
    silent = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and ast.get_docstring(node) is None
    ]
    assert silent == []
