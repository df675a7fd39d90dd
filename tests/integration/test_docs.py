"""The documents say what is so: their examples run, their tables are the code's, their links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from services.mcp.order_execution.config import Settings
from services.mcp.order_execution.models import REOPENINGS, TRANSITIONS, OrderState

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
USAGE = Path(__file__).with_name("seed_002_usage.txt")
BLOCK = re.compile(r"(<!-- runnable -->\n)?```python\n(.*?)```", re.DOTALL)


def environment() -> dict[str, str]:
    """What a user has, with the package found and nothing configured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORDER_EXECUTION_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run(arguments: list[str], directory: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def blocks(page: Path) -> list[tuple[bool, str]]:
    """Each Python block of a page, and whether it is marked as runnable."""
    return [(bool(mark), code) for mark, code in BLOCK.findall(page.read_text(encoding="utf-8"))]


RUNNABLE = [
    pytest.param(code, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in PAGES
    for number, (mark, code) in enumerate(blocks(page), start=1)
    if mark
]


def test_every_block_is_runnable() -> None:
    """No page shows Python that nobody runs."""
    unmarked = [page.name for page in PAGES for mark, _ in blocks(page) if not mark]
    assert (unmarked, len(RUNNABLE) >= 8) == ([], True)


@pytest.mark.parametrize("code", RUNNABLE)
def test_a_block_runs_in_an_empty_directory(code: str, tmp_path: Path) -> None:
    """What a page shows works as it stands, pasted into a file, and warns of nothing."""
    script = tmp_path / "pasted.py"
    script.write_text(code, encoding="utf-8")
    result = run([str(script)], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def test_the_first_order_is_filled(tmp_path: Path) -> None:
    """The README's first order ends as it says, and needs ten lines."""
    (_, code), *_ = blocks(ROOT / "README.md")
    result = run(["-c", code], tmp_path)
    assert result.stdout.startswith("filled: 0.01 at ")
    assert len([line for line in code.splitlines() if line]) <= 10


# ---- the module's first description -----------------------------------------------------------------------


def pasted_into_a_prompt(code: str, questions: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Paste code, with its top-level ``await``, into Python's own asyncio prompt."""
    return run(["-m", "asyncio"], directory, stdin=f"{code}\n{questions}\n")


def test_basic_usage_does_what_it_says(tmp_path: Path) -> None:
    """The first usage block, letter by letter: each call answers, and the process ends by itself."""
    (_, code), _ = blocks(USAGE)
    questions = "print('ANSWER', status.state, success, stats.orders['accepted'], reconciliation_result.is_clean)"
    result = pasted_into_a_prompt(code, questions, tmp_path)
    assert "ANSWER open True 1 True" in result.stdout, result.stderr
    assert "Error" not in result.stderr


def test_the_reconciliation_job_runs_its_schedule_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The second block as a script: it reconciles on start, blocks, and ends cleanly on SIGTERM."""
    _, (_, code) = blocks(USAGE)
    script = tmp_path / "service.py"
    script.write_text(code.partition("# For one-time execution")[0], encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        report = tmp_path / "reconciliation_reports.json"
        deadline = time.monotonic() + 60
        while not report.exists() and process.poll() is None:
            assert time.monotonic() < deadline, "no report was written"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        assert process.poll() is None, process.stderr and process.stderr.read()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, "Traceback" in errors) == (0, False), errors


def test_the_reconciliation_job_runs_once(tmp_path: Path) -> None:
    """The second block without its blocking call: ``await job.run_reconciliation()`` answers with a report."""
    _, (_, code) = blocks(USAGE)
    once = code.replace("job.start()", "pass")
    result = pasted_into_a_prompt(once, "print('ANSWER', result.total_orders, result.is_clean)", tmp_path)
    assert "ANSWER 0 True" in result.stdout, result.stderr
    assert (tmp_path / "reconciliation_reports.json").exists()


# ---- tables and links -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_generated_parts_are_up_to_date(page: Path, generator: ModuleType) -> None:
    """The reference pages are what ``make docs`` would write now."""
    text = page.read_text(encoding="utf-8")
    assert generator.rewritten(text) == text, "run `make docs`"


def keys_of(model: type, path: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        inner = field.annotation
        deeper = isinstance(inner, type) and hasattr(inner, "model_fields")
        found |= keys_of(inner, f"{path}{name}.") if deeper else {f"{path}{name}"}
    return found


def test_every_setting_is_documented() -> None:
    """Each key of the configuration has its line, and each line says what it does."""
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    assert keys_of(Settings) <= set(rows)
    assert [key for key, effect in rows.items() if not effect.strip()] == []


def test_the_state_table_is_the_code() -> None:
    """The page's diagram has exactly the transitions of the code, and its table the reopenings."""
    page = (ROOT / "docs/reference/states.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", page, re.MULTILINE))
    assert drawn == {(source.value, target.value) for source, targets in TRANSITIONS.items() for target in targets}
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\|([^|]+)\|$", page, re.MULTILINE)
    told = {state: set(re.findall(r"`(\w+)`", cell)) for state, cell in rows}
    assert told == {state.value: {t.value for t in REOPENINGS.get(state, ())} for state in OrderState}


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Every link inside the repository leads to a file that is there, and to a heading that it has."""
    broken = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(f"{target}#{anchor}")
    assert broken == []
