"""Exchange keys: found, checked for form, verified at the exchange, and never shown."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import SecretStr

from services.mcp.order_execution.config_sources import read_dotenv
from services.mcp.order_execution.credentials import exchange_credentials
from services.mcp.order_execution.errors import ConfigurationError

KEYRING_SERVICE: Final = "order-execution"
_ED25519_BYTES: Final = 32
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
        except KeyringError:
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

    async def verify(self, credentials: APICredentials, verifier: KeyVerifier) -> KeyReport:
        """Ask the exchange what the key may do, after its form was checked.

        Raises ExchangeUnavailable when the exchange does not answer: that says nothing about the key.
        """
        report = self.validate(credentials)
        if not report.valid:
            return report
        try:
            permissions = await verifier.key_permissions()
        except ConfigurationError as error:
            return KeyReport(valid=False, problems=(f"the exchange does not accept it: {error}",))
        warnings = []
        if any("withdraw" in permission.lower() for permission in permissions):
            warnings.append("this key may withdraw; an executor needs no more than trading: make a key without it")
        if permissions and not any("trade" in permission.lower() for permission in permissions):
            warnings.append("this key may not trade")
        return KeyReport(valid=True, warnings=tuple(warnings), permissions=permissions)

    @staticmethod
    def obfuscate(secret: str | SecretStr | None) -> str:
        """Enough of a secret to recognise it, too little to use it: at most four characters of sixteen or more."""
        text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
        if not text:
            return "(none)"
        return f"{text[:2]}…{text[-2:]}" if len(text) >= 16 else "…"


_NAMES: Final = ("api_key", "api_secret")


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
    return [] if size >= _ED25519_BYTES else [f"api_secret: {size} bytes; an Ed25519 private key has 32"]


def _decoded_size(text: str) -> int | None:
    padded = text + "=" * (-len(text) % 4)
    try:
        return len(base64.b64decode(padded, altchars=b"-_" if "-" in text or "_" in text else None, validate=True))
    except (binascii.Error, ValueError):
        return None
