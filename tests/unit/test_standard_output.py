"""What commands print: a reader that leaves changes neither the exit code nor what is said on standard error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.mcp.order_execution.standard_output import make_console, reader_may_leave, silence

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "services.mcp.order_execution"
COMMANDS = {
    "exchanges": [PACKAGE, "exchanges", "--json"],
    "exchanges as lines": [PACKAGE, "exchanges"],
    "reconciliation": [f"{PACKAGE}.reconciliation_job", "--run-once", "--json"],
    "reconciliation for people": [f"{PACKAGE}.reconciliation_job", "--run-once"],
}


def run_without_a_reader(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is a pipe that nobody reads from any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_a_reader_ends_as_it_would(tmp_path: Path, name: str) -> None:
    """A clean reconciliation is no discrepancy because somebody looked at its first line only."""
    result = run_without_a_reader(["-m", *COMMANDS[name]], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_console_goes_on_in_silence(tmp_path: Path) -> None:
    """What a program does after its reader has gone is done all the same."""
    code = (
        "from pathlib import Path\n"
        "from services.mcp.order_execution.standard_output import make_console, reader_may_leave\n"
        "console = make_console()\n"
        "with reader_may_leave():\n"
        "    console.print('one')\n"
        "    console.print('two')\n"
        "Path('done').touch()\n"
    )
    result = run_without_a_reader(["-c", code], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_what_is_read_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing changes as long as there is a reader."""
    with reader_may_leave():
        make_console(highlight=False).print("one")
        sys.stdout.write("two\n")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_only_a_reader_that_leaves_is_no_error() -> None:
    """A full disk is one."""

    def fill_the_disk() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), reader_may_leave():
        fill_the_disk()


def test_silence_is_for_one_stream(tmp_path: Path) -> None:
    """What was written before stays."""
    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        assert isinstance(stream, io.TextIOWrapper)
        stream.write("before\n")
        stream.flush()
        silence(stream)
        stream.write("after\n")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "before\n"
