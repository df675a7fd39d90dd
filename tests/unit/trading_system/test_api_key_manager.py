"""Keys: found where they may lie, checked for form, and never shown."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from services.mcp.order_execution.errors import ConfigurationError
from trading_system.execution.api_key_manager import APICredentials, APIKeyManager

KEY = "S3CRET-key-0123456789abcdef"
SECRET = base64.b64encode(b"private-key-of-exactly-32-bytes!").decode()


def manager(tmp_path: Path, **environment: str) -> APIKeyManager:
    """One that sees nothing of this machine's own environment."""
    return APIKeyManager(environment=environment, env_file=tmp_path / ".env", use_keyring=False)


def test_given_keys_come_first_then_the_environment_then_the_file(tmp_path: Path) -> None:
    """The first place that has a key wins, and says where it was found."""
    (tmp_path / ".env").write_text(f"NOBITEX_API_KEY=from-file\nNOBITEX_API_SECRET={SECRET}\n")
    keys = manager(tmp_path, NOBITEX_API_KEY="from-environment")
    assert keys.load(api_key="given").source == "configuration"
    found = keys.load()
    assert (found.api_key.get_secret_value(), found.source, found.scheme) == (
        "from-environment",
        "environment",
        "session_token",
    )
    found = manager(tmp_path).load()
    assert (found.api_key.get_secret_value(), found.source, found.scheme) == ("from-file", ".env", "api_key")


def test_a_key_file_must_be_its_owners_alone(tmp_path: Path) -> None:
    """One that others can read is refused, with what to do about it."""
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o644)
    keys = manager(tmp_path, NOBITEX_API_KEY_FILE=str(path))
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keys.load()
    path.chmod(0o600)
    assert keys.load().api_key.get_secret_value() == KEY


def test_without_a_key_it_is_said_where_one_could_be(tmp_path: Path) -> None:
    """Environment, .env, a file, the keyring."""
    with pytest.raises(ConfigurationError, match=r"NOBITEX_API_KEY: no key was found.*keyring"):
        manager(tmp_path).load()


def test_nothing_of_a_key_shows(tmp_path: Path) -> None:
    """Not in repr, str or errors; obfuscated it can be recognised, and no more."""
    found = manager(tmp_path, NOBITEX_API_KEY=KEY, NOBITEX_API_SECRET=SECRET).load()
    assert KEY not in repr(found) + str(found)
    assert SECRET not in repr(found) + str(found)
    shown = APIKeyManager.obfuscate(found.api_key)
    assert shown == "S3…ef"
    assert APIKeyManager.obfuscate("short") == "…"
    assert APIKeyManager.obfuscate(None) == "(none)"


@pytest.mark.parametrize(
    ("key", "secret", "problem"),
    [
        (KEY, SECRET, None),
        (KEY, None, None),
        ("short", None, "not a session token"),
        (KEY, "not base64!", "not base64"),
        (KEY, base64.b64encode(b"short").decode(), "5 bytes"),
        (KEY + " ", SECRET, "white space"),
        ("", SECRET, "empty"),
    ],
)
def test_the_form_is_checked_without_a_network(
    tmp_path: Path, key: str, secret: str | None, problem: str | None
) -> None:
    """What is wrong is named; the value is not."""
    given = APICredentials("nobitex", SecretStr(key), None if secret is None else SecretStr(secret), "test")
    report = manager(tmp_path).validate(given)
    assert report.valid == (problem is None)
    text = " ".join(report.problems)
    assert problem is None or problem in text
    assert not key or key not in text


class Exchange:
    """Says what a key may do."""

    def __init__(self, *permissions: str, refuses: bool = False) -> None:
        self.permissions = permissions
        self.refuses = refuses

    async def key_permissions(self) -> tuple[str, ...]:
        """What the key may do."""
        if self.refuses:
            raise ConfigurationError("401")
        return self.permissions


def test_a_key_that_may_withdraw_is_warned_of(tmp_path: Path) -> None:
    """An executor needs no more than trading."""
    keys = manager(tmp_path, NOBITEX_API_KEY=KEY, NOBITEX_API_SECRET=SECRET)
    found = keys.load()

    def verify(exchange: Exchange) -> tuple[bool, str]:
        report = asyncio.run(keys.verify(found, exchange))
        return report.valid, " ".join((*report.warnings, *report.problems))

    assert verify(Exchange("READ", "TRADE")) == (True, "")
    assert "may withdraw" in verify(Exchange("READ", "TRADE", "WITHDRAW"))[1]
    assert "may not trade" in verify(Exchange("READ"))[1]
    assert verify(Exchange(refuses=True)) == (False, "the exchange does not accept it: 401")


def test_a_key_of_a_wrong_form_is_not_even_shown_to_the_exchange(tmp_path: Path) -> None:
    """Exchanges ban for bad keys."""
    keys = manager(tmp_path)
    asked = Exchange("TRADE")
    bad = APICredentials("nobitex", SecretStr("x"), None, "test")
    report = asyncio.run(keys.verify(bad, asked))
    assert not report.valid


def test_a_keyring_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A locked one holds keys perhaps: "no key was found" alone would send its owner looking elsewhere."""

    class Locked(Exception):
        pass

    def get_password(service: str, name: str) -> str:
        raise Locked

    keyring, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    vars(keyring).update(get_password=get_password, errors=errors)
    vars(errors).update(KeyringError=Locked)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    with pytest.raises(ConfigurationError, match="no key was found"):
        APIKeyManager(environment={}, env_file=tmp_path / ".env").load()
    assert "the keyring cannot be read: Locked" in caplog.text


def test_an_exchange_is_named_in_any_case(tmp_path: Path) -> None:
    """Its keys are checked for its form all the same; what is no name is refused by name."""
    keys = manager(tmp_path, NOBITEX_API_KEY="short")
    found = keys.load(" NoBiTeX ")
    assert found.exchange == "nobitex"
    assert not keys.validate(found).valid
    assert found.as_settings() == {"api_key": "short"}
    for bad in ("", " ", None, 5):
        with pytest.raises(ConfigurationError, match="exchange: expected a name"):
            keys.load(bad)  # type: ignore[arg-type]
