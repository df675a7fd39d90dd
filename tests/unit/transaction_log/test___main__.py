"""The command line: one order's history, for people, pipes and programs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.transaction_log.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
MODULE = "services.mcp.order_execution.transaction_log"


class Terminal(io.StringIO):
    """Output that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    at = "2026-02-01T00:00:0{}+00:00"
    records: dict[str, list[dict[str, Any]]] = {
        "orders": [
            {"at": at.format(0), "order_id": "a1", "kind": "intent", "state": "sending", "filled": "0"}
            | {"side": "buy", "amount": "0.10", "symbol": "BTC/USD", "type": "limit", "price": "50000"},
            {
                "at": at.format(1),
                "order_id": "a1",
                "kind": "unknown",
                "state": "unknown",
                "detail": "timeout\x1b[31m",
            },
            {"at": at.format(2), "order_id": "a1", "kind": "accepted", "state": "open", "exchange_order_id": "77"},
            {"at": at.format(3), "order_id": "a1", "kind": "fill", "state": "filled", "filled": "0.10"}
            | {"fill": {"trade_id": "t1", "price": "50000", "amount": "0.10"}},
            {"at": at.format(0), "order_id": "b2", "kind": "intent", "state": "sending"},
        ],
        "fills": [
            {"at": at.format(5), "order_id": "a1", "kind": "fill", "trade_id": "t2", "price": "1", "amount": "2"}
        ],
        "errors": [
            {"at": at.format(4), "order_id": "a1", "phase": "confirm", "error": "OSError", "detail": {"n": 1}}
        ],
    }
    for stream, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{stream}-2026-02-01.jsonl").write_text(text)
    return tmp_path


def test_a_pipe_gets_one_plain_line_for_each_event(folder: Path) -> None:
    """Time, event, state, filled and what else is worth saying; control characters are disarmed."""
    out = io.StringIO()
    assert main(["a1", "--path", str(folder)], out) == 0
    lines = out.getvalue().splitlines()
    assert lines == [
        "2026-02-01T00:00:00+00:00  intent  sending  0  buy 0.10 BTC/USD limit, at 50000",
        "2026-02-01T00:00:01+00:00  unknown  unknown  timeout?[31m",
        "2026-02-01T00:00:02+00:00  accepted  open  as 77",
        "2026-02-01T00:00:03+00:00  fill  filled  0.10  0.10 at 50000 (trade t1)",
        '2026-02-01T00:00:04+00:00  error in confirm  OSError, {"n":1}',
        "2026-02-01T00:00:05+00:00  fill  2 at 1 (trade t2)",
    ]


def test_a_terminal_gets_a_table(folder: Path) -> None:
    """With headings, and without a control character that came from an exchange."""
    out = Terminal()
    assert main(["a1", "--path", str(folder)], out) == 0
    text = out.getvalue()
    assert "order a1" in text
    assert "time (UTC)" in text
    assert "timeout?[31m" in text


def test_a_program_gets_json_lines(folder: Path) -> None:
    """Every record whole, with the log that it comes from."""
    out = io.StringIO()
    assert main(["a1", "--path", str(folder), "--json"], out) == 0
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [record["log"] for record in records] == ["orders"] * 4 + ["errors", "fills"]


def test_an_unknown_order_is_exit_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said on stderr; nothing on stdout."""
    assert main(["nobody", "--path", str(folder)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "knows no order nobody" in captured.err


@pytest.mark.parametrize("arguments", [[], ["a1", "--nonsense"]])
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_no_log_at_all_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong --path is not the same as an order that nobody knows."""
    assert main(["a1", "--path", str(tmp_path / "nowhere")]) == 2
    assert "there is no transaction log" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a history is not shown as if it were whole."""
    (folder / "orders-2026-02-02.jsonl").mkdir()
    assert main(["a1", "--path", str(folder)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_damaged_lines_are_mentioned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, beside the history."""
    with (folder / "orders-2026-02-01.jsonl").open("a") as file:
        file.write('{"order_id":"a1", torn')
    assert main(["a1", "--path", str(folder)]) == 0
    assert "1 damaged lines were skipped" in capsys.readouterr().err


def test_it_runs_as_a_module(folder: Path) -> None:
    """As ``python -m …``, with warnings as errors."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", MODULE, "a1", "--path", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 6


def test_an_order_of_the_engine_is_found_under_its_uuid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The engine writes it down without dashes, as the exchange has it."""
    given = uuid.UUID(int=7)
    entry = {"at": "2026-02-01T00:00:00+00:00", "order_id": given.hex, "kind": "intent"}
    (tmp_path / "orders-2026-02-01.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    assert main([str(given), "--path", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["order_id"] == given.hex
    assert main(["my own name", "--path", str(tmp_path)]) == 1
    assert "an engine may have made of another" in capsys.readouterr().err
