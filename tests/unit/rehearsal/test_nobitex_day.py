"""The bad day on Nobitex: a sandbox in a process of its own, and a whole short rehearsal on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ConfigurationError, ErrorCategory, ExchangeUnavailable
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.rehearsal import nobitex_day
from services.mcp.order_execution.rehearsal.__main__ import main
from services.mcp.order_execution.rehearsal.nobitex_day import Auth, NobitexDay
from services.mcp.order_execution.rehearsal.plan import NOBITEX_MIX
from services.mcp.order_execution.rehearsal.run import Options, Rehearsal
from services.mcp.order_execution.rehearsal.view import LineView, Snapshot

MILD: dict[str, Any] = {"lost_reply": 0.15, "rate_limited": 0.05, "retry_after_seconds": 0.1, "hang_seconds": 0.05}
MILD["outages"] = [{"after_seconds": 0.3, "for_seconds": 0.2, "kind": "refused"}]


class Unseen(LineView):
    """A view for nobody."""

    def __init__(self) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        """Nothing."""


async def rehearse(day: NobitexDay, orders: int) -> dict[str, Any]:
    """Play a day from beginning to end."""
    async with day:
        observer = day.observer()
        await observer.open()
        try:
            options = Options(orders, day.seed, 8, day.directory, day.seconds)
            return await Rehearsal(options, day, observer, Unseen()).run()
        finally:
            await observer.close()


def day_in(directory: Path, auth: Auth = "key", **more: Any) -> NobitexDay:
    return NobitexDay(directory, 4, SystemClock(), auth=auth, seconds=1.0, **more)


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_signed_orders_survive_a_bad_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost answers and outages over HTTP: every order is accounted for, by the sandbox's own book."""
    monkeypatch.setenv("NOBITEX_API_SECRET", "not-yours-and-not-used")  # real keys around are left alone
    report = await rehearse(day_in(tmp_path, faults=MILD), 14)
    assert report["ok"], report["verdict"]
    assert report["exchange"] == "a local Nobitex (API key)"
    assert report["counts"]["accepted"] > 5
    assert report["reconciliation"]["matched_orders"] == report["reconciliation"]["total_orders"] > 5
    assert {entry["purpose"] for entry in report["orders"]} <= {purpose.value for purpose in NOBITEX_MIX}
    assert any(entry["params"]["symbol"].endswith("/IRT") for entry in report["orders"])
    assert {"journal.db", "transactions", "nobitex_sandbox.db", "sandbox.log"} <= names_in(tmp_path)


async def test_the_weather_is_the_sandbox_s(tmp_path: Path) -> None:
    """Good before the day, bad from its beginning to its end, then good again; the sandbox goes with the day."""
    day = day_in(tmp_path, "token", faults={"server_error": 1.0})
    async with day:
        gateway = day.observer()
        assert isinstance(gateway, NobitexGateway)
        assert gateway.traits.request_expiry is None  # a token signs nothing
        await gateway.open()
        try:
            assert await gateway.ping() is None
            await day.begin()
            problem = await gateway.ping()
            assert problem is not None
            assert problem.category is ErrorCategory.SERVER_ERROR
            await day.end()
            assert await gateway.ping() is None
        finally:
            await gateway.close()
        process = day._process
        assert process is not None
    assert process.returncode == 0


async def test_a_key_s_requests_expire_as_the_sandbox_makes_them(tmp_path: Path) -> None:
    """What is assumed of the exchange is what it does, only shorter: its window, its settling."""
    day = day_in(tmp_path)
    words = day._command()
    assert float(words[words.index("--signature-window") + 1]) < day.config["gateway"]["request_expiry_seconds"]
    assert float(words[words.index("--duplicate-seconds") + 1]) < day.config["gateway"]["request_expiry_seconds"]


async def test_a_sandbox_that_cannot_run_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """Its own words are passed on, such as those about a missing package."""
    (tmp_path / "nobitex_sandbox.db").write_text("no database", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="sandbox: "):
        await day_in(tmp_path).__aenter__()


async def test_without_the_package_for_keys_there_is_a_way_without(tmp_path: Path) -> None:
    """The sandbox's words name its own option; the rehearsal's one is told with them."""
    said = "sandbox: the API-key scheme needs the package cryptography: install it, or go without (--token-only)\n"
    day = day_in(tmp_path)
    write(tmp_path / "sandbox.log", said)
    ended = await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.PIPE)
    with pytest.raises(ConfigurationError, match="--auth token"):
        await day._first_line(ended)
    await ended.wait()


async def test_a_sandbox_that_is_gone_takes_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said, after a bounded number of tries."""
    monkeypatch.setattr(nobitex_day, "OPERATOR_TRIES", 2)
    monkeypatch.setattr(nobitex_day, "OPERATOR_PAUSE_SECONDS", 0.0)
    day = day_in(tmp_path)
    async with day:
        pass
    with pytest.raises(ExchangeUnavailable, match="faults"):
        await day.begin()


async def test_faults_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """In the sandbox's words."""
    async with day_in(tmp_path, "token", faults={"lost_reply": 2.0}) as day:
        with pytest.raises(ConfigurationError, match="lost_reply"):
            await day.begin()


def test_the_command_rehearses_on_nobitex(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--gateway nobitex``: the same summary, the same exit code."""
    monkeypatch.setattr(nobitex_day, "WIRE_FAULTS", MILD)
    wanted = ["--gateway", "nobitex", "--auth", "token", "--orders", "3", "--seconds", "1", "--seed", "8"]
    assert main([*wanted, "--dir", str(tmp_path / "here")]) == 0
    said = capsys.readouterr().out
    assert "on a local Nobitex (session token)" in said
    assert "Every order is accounted for" in said
    assert "nobitex_sandbox.db" in said
