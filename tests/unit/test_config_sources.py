"""Variables, a ``.env`` and a TOML file say the same as a mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.config import Settings
from services.mcp.order_execution.config_sources import (
    from_variables,
    merge,
    normalised,
    read_dotenv,
    read_toml,
)
from services.mcp.order_execution.errors import ConfigurationError


def variables(**values: str) -> dict[str, Any]:
    return from_variables({f"ORDER_EXECUTION_{name}": value for name, value in values.items()}, Settings)


def test_variables_nest_and_other_peoples_are_left_alone() -> None:
    """Two underscores go one level down."""
    assert from_variables(
        {"ORDER_EXECUTION_RETRY__MAX_RETRIES": "5", "order_execution_gateway__name": "paper", "PATH": "/bin"},
        Settings,
    ) == {"retry": {"max_retries": "5"}, "gateway": {"name": "paper"}}


@pytest.mark.parametrize(
    ("text", "items"),
    [("timeout, reset", ["timeout", "reset"]), ('["timeout","reset"]', ["timeout", "reset"]), ("reset", ["reset"])],
)
def test_a_list_is_written_with_commas_or_in_json(text: str, items: list[str]) -> None:
    """Both are common."""
    assert variables(RETRY__RETRYABLE_ERRORS=text) == {"retry": {"retryable_errors": items}}


def test_a_section_may_be_json_and_single_keys_lie_over_it() -> None:
    """As pydantic-settings has it."""
    read = variables(RETRY='{"max_retries": 1, "max_delay": 9}', RETRY__MAX_RETRIES="2")
    assert read == {"retry": {"max_retries": "2", "max_delay": 9}}


def test_currencies_are_upper_case_again() -> None:
    """Variables are read in any case; a limit for ``btc`` would limit nothing."""
    assert variables(RISK__MAX_POSITION__BTC="2") == {"risk": {"max_position": {"BTC": "2"}}}
    assert variables(GATEWAY__PAPER__BALANCES='{"usd": 1}') == {"gateway": {"paper": {"balances": {"USD": 1}}}}


def test_none_can_be_written_where_none_is_allowed() -> None:
    """Text has no None; elsewhere the word is a value like any other."""
    assert variables(TRANSACTION_LOG__PATH="None") == {"transaction_log": {"path": None}}
    assert variables(GATEWAY__PAPER__LOOKUP="none") == {"gateway": {"paper": {"lookup": "none"}}}


def test_an_empty_variable_is_not_set() -> None:
    """Compose files and CI pass empty ones."""
    assert variables(RETRY__MAX_RETRIES="", GATEWAY__API_KEY=" ") == {}


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("GATEWAY_NAME", "ORDER_EXECUTION_GATEWAY__NAME"),
        ("RETRY__MAX_RETRY", "ORDER_EXECUTION_RETRY__MAX_RETRIES"),
        ("RETRY__MAX_RETRIES__X", "ORDER_EXECUTION_RETRY__MAX_RETRIES"),
        ("RISK__MAX_POSITION__BTC__X", "ORDER_EXECUTION_RISK__MAX_POSITION"),
    ],
)
def test_a_variable_that_no_setting_reads_is_refused(name: str, suggested: str) -> None:
    """A typing error would otherwise pass unseen, and the default be in force."""
    with pytest.raises(ConfigurationError, match=f"ORDER_EXECUTION_{name}: .*did you mean {suggested}") as caught:
        variables(**{name: "1"})
    assert caught.value.field == f"ORDER_EXECUTION_{name}"


def test_a_dotenv_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Quotes are dropped, nothing is interpolated, a name without a value is none."""
    file = tmp_path / ".env"
    file.write_text("A='x $HOME'\nexport B=2\nC\n# no\n", encoding="utf-8")
    assert read_dotenv(file) == {"A": "x $HOME", "B": "2"}


def test_no_dotenv_file_is_needed(tmp_path: Path) -> None:
    """None switches it off; a missing one is fine."""
    assert read_dotenv(None) == read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_dotenv_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    """Ignoring it would put the defaults in force."""
    file = tmp_path / ".env"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"\.env"):
        read_dotenv(file)


def test_toml_given_named_and_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The given file wins over the named one, and that over the default one."""
    monkeypatch.chdir(tmp_path)
    assert read_toml(None, {}, Settings) == {}
    for number, name in enumerate(("order_execution.toml", "named.toml", "given.toml")):
        (tmp_path / name).write_text(f"[retry]\nmax_retries = {number}\n", encoding="utf-8")
    named = {"ORDER_EXECUTION_CONFIG_FILE": "named.toml"}
    assert read_toml(None, {}, Settings) == {"retry": {"max_retries": 0}}
    assert read_toml(None, named, Settings) == {"retry": {"max_retries": 1}}
    assert read_toml(Path("given.toml"), named, Settings) == {"retry": {"max_retries": 2}}


def test_a_toml_file_that_was_asked_for_must_be_there_and_be_toml(tmp_path: Path) -> None:
    """A missing one is not silently none."""
    with pytest.raises(ConfigurationError, match=r"gone\.toml: No such file"):
        read_toml(None, {"ORDER_EXECUTION_CONFIG_FILE": str(tmp_path / "gone.toml")}, Settings)
    broken = tmp_path / "broken.toml"
    broken.write_text("retry = [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        read_toml(broken, {}, Settings)


def test_layers_are_merged_key_by_key() -> None:
    """What lies above replaces what it names, and nothing else."""
    lower = {"a": {"x": 1, "y": {"z": 1}}, "b": 1}
    assert merge(lower, {"a": {"y": {"z": 2}}, "b": {"c": 3}}) == {"a": {"x": 1, "y": {"z": 2}}, "b": {"c": 3}}
    assert lower == {"a": {"x": 1, "y": {"z": 1}}, "b": 1}


def test_a_section_given_as_none_stands_for_its_defaults() -> None:
    """Nested ones too; other settings keep their None."""
    given = {"retry": None, "gateway": {"paper": None, "exchange": None}, "unknown": None}
    assert normalised(given, Settings, text=False) == {"gateway": {"exchange": None}, "unknown": None}
