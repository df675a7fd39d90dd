"""Exchange keys come from variables or private files, and never appear in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.mcp.order_execution.credentials import exchange_credentials, read_secret_file
from services.mcp.order_execution.errors import ConfigurationError


def secret_file(path: Path, content: bytes = b"  hunter2\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_keys_are_found_by_the_exchanges_name() -> None:
    """NOBITEX_… for Nobitex; with ccxt, its exchange's."""
    variables = {"NOBITEX_API_KEY": "k", "NOBITEX_API_SECRET": "s", "GATE_IO_API_KEY": "g", "BINANCE_API_KEY": ""}
    assert exchange_credentials("nobitex", None, variables) == {"api_key": "k", "api_secret": "s"}
    assert exchange_credentials("ccxt", "gate.io", variables) == {"api_key": "g"}
    assert exchange_credentials("ccxt", "binance", variables) == {}
    more = {"OKX_API_KEY": "k", "OKX_API_PASSWORD": "p", "OKX_API_UID": "u", "NOBITEX_API_PASSWORD": "p"}
    assert exchange_credentials("ccxt", "okx", more) == {"api_key": "k", "password": "p", "uid": "u"}
    assert exchange_credentials("nobitex", None, more) == {}


@pytest.mark.parametrize("name", ["paper", None, 5])
def test_without_a_real_exchange_there_are_no_keys(name: object) -> None:
    """The paper exchange needs none."""
    assert exchange_credentials(name, None, {"PAPER_API_KEY": "k", "NONE_API_KEY": "k"}) == {}


def test_keys_may_lie_in_files(tmp_path: Path) -> None:
    """As containers mount them; white space around a key is none of it."""
    path = secret_file(tmp_path / "key")
    assert exchange_credentials("nobitex", None, {"NOBITEX_API_KEY_FILE": str(path)}) == {"api_key": "hunter2"}


def test_a_key_and_a_file_at_once_are_refused(tmp_path: Path) -> None:
    """Which of the two was meant is not guessed."""
    with pytest.raises(ConfigurationError, match="both set") as caught:
        exchange_credentials("nobitex", None, {"NOBITEX_API_KEY": "k", "NOBITEX_API_KEY_FILE": str(tmp_path)})
    assert caught.value.field == "NOBITEX_API_KEY"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """It says how to mend it."""
    path = secret_file(tmp_path / "key", mode=mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}") as caught:
        read_secret_file(path, "X_FILE")
    assert caught.value.field == "X_FILE"
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xff", "not text"), (b" \n", "is empty"), (b"k" * 70_000, "too big")],
)
def test_a_file_without_a_usable_key_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Rather than sending the exchange something else."""
    with pytest.raises(ConfigurationError, match=message):
        read_secret_file(secret_file(tmp_path / "key", content), "X_FILE")


def test_a_file_that_is_not_there_or_not_a_file_is_refused(tmp_path: Path) -> None:
    """The path is told."""
    with pytest.raises(ConfigurationError, match="no such file"):
        read_secret_file(tmp_path / "key", "X_FILE")
    with pytest.raises(ConfigurationError, match="not a file"):
        read_secret_file(tmp_path, "X_FILE")


def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """What the system says is passed on."""
    with pytest.raises(ConfigurationError, match="X_FILE"):
        read_secret_file(tmp_path / ("x" * 300), "X_FILE")
