"""A slice of the fuzz, that a day repeats itself, and the test of the test: planted bugs that days must show."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.simulation.fuzz import __main__ as command
from tests.simulation.fuzz.planted import BUGS, planted
from tests.simulation.fuzz.run import Summary, replay_line, run_day

DAYS = 45
BLOCKS = 3
DAYS_FOR_A_BUG = 400
RARE_ONES = {"an order is sent again though its caller has gone": 100}
"""Bugs that few days show: where to begin to look."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_day_breaks_the_promise(block: int) -> None:
    """Nothing is doubled, lost, sent too late or against a wish; a failure says how the day is seen again."""
    size = DAYS // BLOCKS
    summary = Summary()
    for seed in range(block * size, (block + 1) * size):
        day = run_day(seed)
        assert day.violations == [], replay_line(seed)
        summary.take(seed, day)
    assert {"placed", "not_sent", "rejected", "unresolved", "canceled"} <= summary.answers.keys()
    assert {
        "crash",
        "close",
        "halt",
        "disk: hangs",
        "disk: full",
        "submit: arrives late",
    } <= summary.injected.keys()


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    """Within a few hundred days, and nothing of it stays in the code."""
    first = RARE_ONES.get(name, 0)
    with planted(name):
        seed = next((seed for seed in range(first, first + DAYS_FOR_A_BUG) if run_day(seed).violations), None)
    assert seed is not None
    assert run_day(seed).violations == []


_PRINT_TRACE = """
import logging; logging.disable(logging.CRITICAL)
from tests.simulation.fuzz.run import run_day
print("\\n".join(line for seed in range(4) for line in run_day(seed, trace=True).trace))
"""


def test_the_same_seed_gives_the_same_day_in_any_process() -> None:
    """Whatever order sets and hashes have there."""
    here = "\n".join(line for seed in range(4) for line in run_day(seed, trace=True).trace or [])
    ran = subprocess.run(
        [sys.executable, "-c", _PRINT_TRACE],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert len(here) > 1_000
    assert hashlib.sha256(ran.stdout.rstrip(b"\n")).digest() == hashlib.sha256(here.encode()).digest()


def test_the_command_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    """Days, faults, answers; exit code 0 without violations, 1 with one, with a line to see it again."""
    assert command.main(["--seeds", "3", "--jobs", "1"]) == 0
    assert "3 days" in capsys.readouterr().out
    with planted("a close dies with whoever asked for it"):
        seed = next(seed for seed in range(100) if run_day(seed).violations)
        assert command.main(["--seeds", "1", "--first", str(seed), "--jobs", "1"]) == 1
    shown = capsys.readouterr().out
    assert "the journal is still held" in shown
    assert replay_line(seed) in shown


def test_one_day_can_be_watched(capsys: pytest.CaptureFixture[str]) -> None:
    """With everything that happens on it."""
    assert command.main(["--seed", "0"]) == 0
    shown = capsys.readouterr().out
    assert "a caller is told" in shown
    assert "no violation" in shown
