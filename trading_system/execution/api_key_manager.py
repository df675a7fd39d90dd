"""Exchange keys: found, checked for form, verified at the exchange, and never shown."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import SecretStr

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.config_sources import read_dotenv
from services.mcp.order_execution.credentials import exchange_credentials
from services.mcp.order_execution.errors import ConfigurationError

_logger = logging.getLogger(__name__)

KEYRING_SERVICE: Final = "order-execution"
_ED25519_BYTES: Final = (32, 64)
"""A private key alone, or with the public one after it."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]{20,512}")


@dataclass(frozen=True, slots=True)
class APICredentials:
    """A key, and its secret where the scheme has one. Neither shows in ``repr`` or ``str``."""

    exchange: str
    api_key: SecretStr
    api_secret: SecretStr | None
    source: str
    """Where they were found: configuration, environment, .env, keyring."""

    @property
    def scheme(self) -> str:
        """``api_key`` for an Ed25519 pair, ``session_token`` for a token alone."""
        return "session_token" if self.api_secret is None else "api_key"

    def as_settings(self) -> dict[str, str]:
        """The core's settings of the section ``gateway``: the secrets in the open."""
        secret = {} if self.api_secret is None else {"api_secret": self.api_secret.get_secret_value()}
        return {"api_key": self.api_key.get_secret_value(), **secret}


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What is known of a key."""

    valid: bool
    problems: tuple[str, ...] = ()
    """Why it cannot be used."""
    warnings: tuple[str, ...] = ()
    """What its owner should know: that it may withdraw, for one."""
    permissions: tuple[str, ...] = ()
    """What the exchange says that it may do; empty where it was not asked or does not tell."""


class KeyVerifier(Protocol):
    """Who can ask the exchange about a key."""

    async def key_permissions(self) -> tuple[str, ...]:
        """What the key may do. Raises ExchangeUnavailable, or ConfigurationError when it is not accepted."""
        ...


class APIKeyManager:
    """Finds the keys of exchanges, in this order: given ones, the environment, a ``.env`` file, the keyring.

    In the environment ``<EXCHANGE>_API_KEY`` and ``<EXCHANGE>_API_SECRET``, or the same with ``_FILE`` and the path
    of a file that nobody else may read. The keyring is asked if the package ``keyring`` is installed.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        env_file: Path | str | None = ".env",
        use_keyring: bool = True,
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._env_file = None if env_file is None else Path(env_file)
        self._use_keyring = use_keyring

    # ---- finding ------------------------------------------------------------------------------------------

    def load(
        self, exchange: str = "nobitex", *, api_key: str | None = None, api_secret: str | None = None
    ) -> APICredentials:
        """Find an exchange's keys. Raises ConfigurationError, which says where it looked and shows no secret."""
        if not isinstance(exchange, str) or not exchange.strip():
            raise ConfigurationError(
                f"exchange: expected a name such as 'nobitex', got {exchange!r}", field="exchange"
            )
        exchange = exchange.strip().lower()
        if api_key:
            return _credentials(exchange, {"api_key": api_key, "api_secret": api_secret or ""}, "configuration")
        for source in ("environment", ".env", "keyring"):
            keys = self._look(source, exchange)
            if keys.get("api_key"):
                return _credentials(exchange, keys, source)
        prefix = exchange.upper()
        raise ConfigurationError(
            f"{prefix}_API_KEY: no key was found; set it in the environment, in .env, as {prefix}_API_KEY_FILE "
            "with a file that only you can read, or in the keyring",
            field=f"{prefix}_API_KEY",
        )

    def _look(self, source: str, exchange: str) -> dict[str, str]:
        if source == "keyring":
            return self._from_keyring(exchange)
        variables = self._environment if source == "environment" else self._from_env_file()
        return exchange_credentials(exchange, None, variables)

    def _from_env_file(self) -> Mapping[str, str]:
        return read_dotenv(self._env_file)

    def _from_keyring(self, exchange: str) -> dict[str, str]:
        if not self._use_keyring:
            return {}
        try:
            import keyring  # noqa: PLC0415 - an optional package
            from keyring.errors import KeyringError  # noqa: PLC0415
        except ImportError:
            return {}
        try:
            names = {name: keyring.get_password(KEYRING_SERVICE, f"{exchange}_{name}") for name in _NAMES}
        except KeyringError as error:
            _logger.warning("the keyring cannot be read: %s", type(error).__name__)
            return {}
        return {name: value for name, value in names.items() if value}

    # ---- checking -----------------------------------------------------------------------------------------

    def validate(self, credentials: APICredentials) -> KeyReport:
        """Check the form, without a network."""
        problems = []
        key = credentials.api_key.get_secret_value()
        secret = None if credentials.api_secret is None else credentials.api_secret.get_secret_value()
        for name, value in (("api_key", key), ("api_secret", secret)):
            if value is not None and (value != value.strip() or not value.isprintable() or " " in value):
                problems.append(f"{name}: white space or unprintable characters in it")
        if not key:
            problems.append("api_key: empty")
        elif credentials.exchange == "nobitex":
            problems += _nobitex_problems(key, secret)
        return KeyReport(not problems, tuple(problems))

    async def verify(
        self,
        credentials: APICredentials,
        verifier: KeyVerifier | None = None,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 15.0,
    ) -> KeyReport:
        """Ask the exchange what the key may do, after its form was checked.

        ``verifier`` answers for the exchange; without one Nobitex is asked, or another host (``base_url``: the
        sandbox, a proxy). Raises ExchangeUnavailable when the exchange does not answer: that says nothing about
        the key. Raises ConfigurationError for another exchange than Nobitex without a verifier.
        """
        report = self.validate(credentials)
        if not report.valid:
            return report
        asked = _Nobitex(credentials, base_url, timeout_seconds) if verifier is None else verifier
        try:
            permissions = await asked.key_permissions()
        except ConfigurationError as error:
            return KeyReport(valid=False, problems=(f"the exchange does not accept it: {error}",))
        return KeyReport(True, warnings=_warnings(credentials, permissions), permissions=permissions)

    @staticmethod
    def obfuscate(secret: str | SecretStr | None) -> str:
        """Enough of a secret to recognise it, too little to use it: at most four characters of sixteen or more."""
        text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
        if not text:
            return "(none)"
        return f"{text[:2]}…{text[-2:]}" if len(text) >= 16 else "…"


_NAMES: Final = ("api_key", "api_secret")


class _Nobitex:
    """Asks Nobitex about a key through the production gateway. Raises ConfigurationError for other exchanges."""

    def __init__(self, credentials: APICredentials, base_url: str | None, timeout_seconds: float) -> None:
        if credentials.exchange != "nobitex":
            raise ConfigurationError(
                f"exchange: {credentials.exchange!r} cannot be asked about its keys; give a verifier",
                field="exchange",
            )
        from services.mcp.order_execution.gateways.nobitex import NobitexGateway  # noqa: PLC0415
        from services.mcp.order_execution.gateways.nobitex.signing import make_signer  # noqa: PLC0415

        secret = credentials.api_secret
        signer = make_signer(
            credentials.api_key.get_secret_value(), None if secret is None else secret.get_secret_value()
        )
        self._gateway = NobitexGateway(
            signer, SystemClock(), timeout_seconds=timeout_seconds, base_url=base_url, streams=False
        )

    async def key_permissions(self) -> tuple[str, ...]:
        """What the key may do. Raises ExchangeUnavailable, and ConfigurationError when it is not accepted."""
        await self._gateway.open()
        try:
            return await self._gateway.key_permissions()
        finally:
            await self._gateway.close()


def _warnings(credentials: APICredentials, permissions: tuple[str, ...]) -> tuple[str, ...]:
    """What the owner of an accepted key should know of it."""
    if credentials.exchange == "nobitex" and credentials.api_secret is None:
        return ("a session token may do all that its user may, withdrawing included: prefer an API key",)
    if not permissions:
        return ("the exchange does not say what this key may do: see there that it may not withdraw",)
    warnings = []
    if any("withdraw" in permission.lower() for permission in permissions):
        warnings.append("this key may withdraw; an executor needs no more than trading: make a key without it")
    if not any("trade" in permission.lower() for permission in permissions):
        warnings.append("this key may not trade")
    return tuple(warnings)


def _credentials(exchange: str, keys: Mapping[str, Any], source: str) -> APICredentials:
    secret = keys.get("api_secret")
    return APICredentials(exchange, SecretStr(keys["api_key"]), SecretStr(secret) if secret else None, source)


def _nobitex_problems(key: str, secret: str | None) -> list[str]:
    """Nobitex: an Ed25519 pair in base64, or a session token alone (its documentation, authentication)."""
    if secret is None:
        return (
            [] if _TOKEN.fullmatch(key) else ["api_key: not a session token; for an API key the secret is missing"]
        )
    size = _decoded_size(secret)
    if size is None:
        return ["api_secret: not base64; expected the Ed25519 private key as Nobitex shows it"]
    return [] if size in _ED25519_BYTES else [f"api_secret: {size} bytes; an Ed25519 private key has 32"]


def _decoded_size(text: str) -> int | None:
    padded = text + "=" * (-len(text) % 4)
    try:
        return len(base64.b64decode(padded, altchars=b"-_" if "-" in text or "_" in text else None, validate=True))
    except (binascii.Error, ValueError):
        return None
