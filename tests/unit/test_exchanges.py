"""The table of promises, for people and for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from services.mcp.order_execution import exchanges
from services.mcp.order_execution.gateways.ccxt.rows import TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "exchanges.md"


def test_every_row_is_a_promise_with_its_reasons() -> None:
    """What is known, what is assumed, and what that makes of a lost answer."""
    told = {promise.exchange: promise for promise in exchanges.promises()}
    assert list(told) == list(TABLE)
    binance, bitfinex, htx = told["binance"], told["bitfinex"], told["htx"]
    assert (binance.expires_after, binance.certain_after) == (8.0, 13.0)
    assert binance.promise == "placed once or reported; a lost answer is settled within about 18 s"
    assert bitfinex.expires_after is None
    assert "held back" in bitfinex.promise
    assert (htx.refused_twice, htx.found_by, htx.lists) == ("no", "search of the lists", "by symbol")
    assert told["gate"].found_by == "lookup for 50 minutes, then search of the lists"
    assert told["kucoin"].found_by == "lookup for 2 days, then not at all"
    assert told["gate"].client_id == "text, packed, behind t-"
    assert not told["gate"].market_buys


def test_a_program_gets_json(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, or one exchange."""
    assert exchanges.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["exchange"] for one in told["exchanges"]] == list(TABLE)
    assert told["conservative"] == []
    assert exchanges.main(["kraken", "--json"]) == 0
    (kraken,) = json.loads(capsys.readouterr().out)["exchanges"]
    assert kraken["sources"]
    assert kraken["certain_after"] == 18.0


def test_a_pipe_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One for each exchange, with tabs."""
    assert exchanges.main(["okx", "bitstamp"]) == 0
    okx, bitstamp = capsys.readouterr().out.splitlines()
    assert okx.split("\t")[0] == "okx"
    assert bitstamp == f"bitstamp\t{exchanges.CONSERVATIVE}"


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reasons where one exchange was asked for, and the others named."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    assert exchanges.main(["gate"]) == 0
    shown = capsys.readouterr().out
    assert "What holds on which exchange" in shown
    assert "x-gate-exptime" in shown
    assert exchanges.main(["--all"]) == 0
    assert "bitstamp" in capsys.readouterr().out


def test_all_names_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that ccxt has and the table has not."""
    assert exchanges.main(["--all", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["conservative"]) > 80
    assert set(told["conservative"]).isdisjoint(TABLE)


def test_an_exchange_that_there_is_not_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """By name."""
    with pytest.raises(SystemExit) as stopped:
        exchanges.main(["nobitex"])
    assert stopped.value.code == 2
    assert "nobitex" in capsys.readouterr().err


def test_the_page_tells_every_exchange() -> None:
    """With its sources."""
    page = PAGE.read_text(encoding="utf-8")
    for promise in exchanges.promises():
        assert f"### {promise.name}" in page
        assert all(source in page for source in promise.sources)
    assert exchanges.markdown_table() in page
    assert exchanges.markdown_details() in page
