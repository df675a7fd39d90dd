"""The command's arguments and greetings; tests/integration runs the command itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings
from services.mcp.order_execution.sandbox import __main__ as command
from services.mcp.order_execution.sandbox import server as server_module

PUBLIC = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="


def settings(*arguments: str) -> SandboxSettings:
    return command.settings_of(command._parser().parse_args(arguments))


def test_without_arguments_it_is_the_default() -> None:
    """The same as in-process."""
    assert settings() == SandboxSettings()


def test_every_argument_has_its_effect() -> None:
    """Among them faults of every type."""
    made = settings(
        "--host", "::1", "--port", "0", "--db", "x.db", "--seed", "7", "--token", "ab" * 20, "--api-key", PUBLIC,
        "--permissions", "READ,WITHDRAW", "--limits", "2.5", "--shapes", "old", "--fault", "lost_reply=0.1",
        "--fault", "latency_seconds=[0.01,0.1]", "--fault", "refuse_adds=MarketClosed",
        "--fault", "hang_seconds=null", "--signature-window", "3", "--duplicate-seconds", "0",
        "--block-seconds", "1",
    )  # fmt: skip
    assert (made.host, made.port, made.path, made.seed) == ("::1", 0, Path("x.db"), 7)
    assert made.token is not None
    assert (made.token.get_secret_value(), made.api_key) == ("ab" * 20, PUBLIC)
    assert (made.permissions, made.limits, made.shapes) == ({"READ", "WITHDRAW"}, 2.5, "old")
    assert (made.faults.lost_reply, made.faults.latency_seconds) == (0.1, (0.01, 0.1))
    assert (made.faults.refuse_adds, made.faults.hang_seconds) == ("MarketClosed", None)
    assert (made.signature_window_seconds, made.duplicate_seconds, made.block_seconds) == (3.0, 0.0, 1.0)
    assert settings("--limits", "0").limits is None
    assert settings("--token-only").api_keys is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "lost_reply"], "NAME=VALUE"),
        (["--fault", "lost_reply=2"], "lost_reply"),
        (["--fault", "nonsense=1"], "nonsense"),
        (["--token", "x"], "40 hex"),
        (["--api-key", "x"], "api_key"),
        (["--port", "99999"], "port"),
        (["--db", "/proc/none/x.db"], "/proc/none"),
    ],
)
def test_what_makes_no_sense_is_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 2 and a line that names it."""
    assert command.main(["--port", "0", "--db", str(tmp_path / "x.db"), *arguments]) == command.EXIT_USAGE
    assert said in capsys.readouterr().err


def test_a_busy_file_has_its_own_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be worth trying again."""
    monkeypatch.setattr(server_module, "OPEN_TRIES", 0)
    assert command.main(["--port", "0", "--db", str(tmp_path / "x.db")]) == command.EXIT_BUSY


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("as_json", [True, False])
def test_it_greets_and_a_signal_ends_it(
    number: signal.Signals, as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Exit code 0, the demo keys shown."""
    greeting, introduction = command.greeting, command.introduction

    def signalled(sandbox: Sandbox) -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), number)

    monkeypatch.setattr(command, "greeting", lambda sandbox: (signalled(sandbox), greeting(sandbox))[1])
    if as_json:
        monkeypatch.setattr(command, "introduction", lambda sandbox: (signalled(sandbox), introduction(sandbox))[1])
    arguments = ["--port", "0", "--db", str(tmp_path / "x.db"), *(["--json"] if as_json else [])]
    assert command.main(arguments) == command.EXIT_STOPPED
    said = capsys.readouterr().out
    if as_json:
        known = json.loads(said)
        assert known["config"]["api_key"]["gateway"]["api_secret"] == known["api_secret"]
        assert known["config"]["token"]["gateway"]["api_key"] == known["token"]
    else:
        assert "/sandbox/book" in said
        assert "api_secret" in said


async def test_a_key_that_was_given_is_not_shown_with_a_secret() -> None:
    """And without the scheme there is no configuration for it."""
    async with Sandbox(SandboxSettings(path=Path(":memory:"), port=0, api_key=PUBLIC)) as sandbox:
        known = command.introduction(sandbox)
        assert known["api_secret"] is None
        assert known["config"]["api_key"]["gateway"]["api_secret"] == "YOUR-PRIVATE-KEY"
    async with Sandbox(SandboxSettings(path=Path(":memory:"), port=0, api_keys=False)) as sandbox:
        assert "api_key" not in command.introduction(sandbox)["config"]
        assert "session token" in command.greeting(sandbox)
