"""A key is asked about at the exchange before it is used: found, signed with, and reported, over HTTP."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.errors import ConfigurationError, ExchangeUnavailable
from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings
from trading_system.execution import APICredentials, APIKeyManager, KeyReport

WITHDRAWS = "this key may withdraw"
UNTOLD = "does not say what this key may do"


@asynccontextmanager
async def sandbox(**settings: Any) -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxSettings(path=Path(":memory:"), port=0, limits=None, **settings)) as opened:
        yield opened


def manager(directory: Path, **environment: str) -> APIKeyManager:
    """One that sees nothing of this machine's own keys."""
    return APIKeyManager(environment=environment, env_file=directory / ".env", use_keyring=False)


def credentials(directory: Path, opened: Sandbox, *, token: bool = False) -> APICredentials:
    """The demo keys, from a file of their own as a user would keep them."""
    if token:
        return manager(directory, NOBITEX_API_KEY=opened.keys.token).load()
    secret = directory / "secret"
    secret.write_text(f"{opened.keys.api_secret}\n", encoding="utf-8")
    secret.chmod(0o600)
    return manager(directory, NOBITEX_API_KEY=str(opened.keys.api_key), NOBITEX_API_SECRET_FILE=str(secret)).load()


async def verified(directory: Path, *, token: bool = False, **settings: Any) -> KeyReport:
    """What is reported of the demo key of such a sandbox."""
    async with sandbox(**settings) as opened:
        found = credentials(directory, opened, token=token)
        return await manager(directory).verify(found, base_url=opened.base_url)


@pytest.mark.parametrize(
    ("permissions", "warnings"),
    [
        ({"READ", "TRADE"}, []),
        ({"READ", "TRADE", "WITHDRAW"}, [WITHDRAWS]),
        ({"READ"}, ["this key may not trade"]),
        ({"READ", "WITHDRAW"}, [WITHDRAWS, "this key may not trade"]),
    ],
)
async def test_a_key_that_may_withdraw_is_warned_of(
    tmp_path: Path, permissions: set[str], warnings: list[str]
) -> None:
    """What the exchange tells of the key, and what its owner should know."""
    report = await verified(tmp_path, permissions=permissions, key_lists_keys=True)
    assert (report.valid, set(report.permissions)) == (True, permissions)
    assert len(report.warnings) == len(warnings)
    for said, expected in zip(report.warnings, warnings, strict=True):
        assert expected in said


async def test_what_is_not_told_is_not_taken_for_harmless(tmp_path: Path) -> None:
    """Where the exchange keeps the list from the key itself, and where a token has no permissions at all."""
    report = await verified(tmp_path, permissions={"READ", "TRADE", "WITHDRAW"})
    assert (report.valid, report.permissions) == (True, ())
    assert UNTOLD in report.warnings[0]
    report = await verified(tmp_path, token=True)
    assert (report.valid, report.permissions) == (True, ())
    assert "a session token may do all" in report.warnings[0]


async def test_a_key_that_is_not_accepted_is_asked_about_once(tmp_path: Path) -> None:
    """Nobitex bans addresses that go on with a bad key; and nothing of the key is in what is said."""
    wrong = base64.urlsafe_b64encode(b"another private key of 32 bytes!").decode()
    async with sandbox() as opened:
        found = manager(tmp_path, NOBITEX_API_KEY=str(opened.keys.api_key), NOBITEX_API_SECRET=wrong).load()
        report = await manager(tmp_path).verify(found, base_url=opened.base_url)
        assert opened.requests == {"/users/profile 401": 1}
    assert not report.valid
    assert "does not accept" in report.problems[0]
    assert wrong not in repr(report)
    assert str(opened.keys.api_key) not in repr(report)


async def test_an_exchange_that_is_down_says_nothing_about_the_key(tmp_path: Path) -> None:
    """Neither valid nor not."""
    async with sandbox() as opened:
        found, url = credentials(tmp_path, opened), opened.base_url
    with pytest.raises(ExchangeUnavailable):
        await manager(tmp_path).verify(found, base_url=url, timeout_seconds=1.0)


async def test_keys_that_lie_about_are_not_mixed_with_the_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is verified as a token, whatever secret the environment holds."""
    monkeypatch.setenv("NOBITEX_API_SECRET", base64.b64encode(b"x" * 32).decode())
    assert (await verified(tmp_path, token=True)).valid


async def test_another_exchange_needs_somebody_who_can_ask_it(tmp_path: Path) -> None:
    """There is no such call for it here."""
    found = manager(tmp_path, OTHER_API_KEY="k" * 30).load("other")
    with pytest.raises(ConfigurationError, match="verifier"):
        await manager(tmp_path).verify(found)
