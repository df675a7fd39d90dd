"""The command ``order-execution``."""

from __future__ import annotations

import json

import pytest

from services.mcp.order_execution import command_line


def test_a_command_gets_what_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Options are its own."""
    assert command_line.main(["exchanges", "okx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exchanges"][0]["exchange"] == "okx"


@pytest.mark.parametrize("arguments", [[], ["trade"]])
def test_anything_else_is_a_mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Told with the commands that there are."""
    with pytest.raises(SystemExit) as stopped:
        command_line.main(arguments)
    assert stopped.value.code == 2
    assert "usage: order-execution" in capsys.readouterr().err


def test_help_of_a_command_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Not the short one of the list."""
    with pytest.raises(SystemExit) as stopped:
        command_line.main(["exchanges", "--help"])
    assert stopped.value.code == 0
    assert "--all" in capsys.readouterr().out
