"""The rehearsal's command line: what it prints, what it leaves, how it exits and how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.mcp.order_execution.rehearsal.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-W", "error", "-m", "services.mcp.order_execution.rehearsal"]


def start(arguments: list[str], directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_ends_with_a_report_and_says_where_everything_lies(tmp_path: Path) -> None:
    """Exit code 0, a summary, and files that are really there."""
    with start(["--orders", "8", "--seconds", "1", "--seed", "3"], tmp_path) as process:
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "Every order is accounted for" in said
    (directory,) = (tmp_path / "data" / "rehearsal").iterdir()
    for name in ("report.html", "report.json", "journal.db", "transactions", "paper_exchange.db", "rehearsal.log"):
        assert (directory / name).exists()
    assert "report.html" in said


def test_json_is_all_that_goes_to_stdout(tmp_path: Path) -> None:
    """A program can read it; progress goes to stderr."""
    with start(["--orders", "4", "--seconds", "1", "--json", "--dir", "here"], tmp_path) as process:
        said, errors = process.communicate(timeout=60)
    report = json.loads(said)
    assert (process.returncode, report["ok"], report["counts"]["orders"]) == (0, True, 4)
    assert "placing" in errors
    assert json.loads((tmp_path / "here" / "report.json").read_text(encoding="utf-8")) == report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """It closes the journal, says where it lies, and exits as one who was stopped."""
    with start(["--orders", "500", "--seconds", "300", "--dir", "here"], tmp_path) as process:
        assert process.stdout is not None
        while "placing" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        said, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors == "rehearsal: stopping; the same once more ends it at once\n"
    assert "Stopped." in said
    assert not (tmp_path / "here" / "report.html").exists()


def test_who_cannot_wait_for_the_end_is_told_no_less(tmp_path: Path) -> None:
    """A second Ctrl-C ends it, and not with a traceback."""
    with start(["--orders", "500", "--seconds", "300", "--dir", "here"], tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "placing" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "stopping" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in errors


def test_it_does_not_mix_with_an_earlier_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that holds something is refused, and nothing in it is touched."""
    kept = tmp_path / "journal.db"
    kept.write_text("mine", encoding="utf-8")
    assert main(["--dir", str(tmp_path)]) == 2
    assert "expected a directory that is empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]


@pytest.mark.parametrize(
    "arguments", [["--orders", "0"], ["--orders", "x"], ["--concurrency", "201"], ["--seed", "-1"]]
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with what was expected."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err
