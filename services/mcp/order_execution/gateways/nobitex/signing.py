"""Who we are, request by request: an Ed25519 API key that signs what is sent, or a session token."""

from __future__ import annotations

import base64
import binascii
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer(ABC):
    """Makes the headers that prove who is asking. Its repr shows nothing of it."""

    expires: bool
    """Whether the exchange refuses a request that is under way for long: a signed timestamp is good for 30 s."""
    public_key: str | None = None
    """The public half of an API key, by which the exchange lists it."""

    @abstractmethod
    def headers(self, method: str, path: str, body: bytes, timestamp: int) -> dict[str, str]:
        """Headers for exactly these bytes. ``timestamp`` is in seconds, by the exchange's clock."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class TokenSigner(Signer):
    """A session token: it signs nothing, so a request that is late stays good."""

    expires = False

    def __init__(self, token: str) -> None:
        self._token = token

    def headers(self, method: str, path: str, body: bytes, timestamp: int) -> dict[str, str]:
        """The token alone."""
        return {"Authorization": f"Token {self._token}"}


class KeySigner(Signer):
    """An Ed25519 API key: signs timestamp + METHOD + path with query + body, in URL-safe base64 with padding."""

    expires = True

    def __init__(self, key: str, secret: str) -> None:
        self.public_key: str | None = key
        self._key = key
        self._private = _private_key(secret)

    def headers(self, method: str, path: str, body: bytes, timestamp: int) -> dict[str, str]:
        """Key, timestamp and signature."""
        signature = self._private.sign(f"{timestamp}{method.upper()}{path}".encode() + body)
        return {
            "Nobitex-Key": self._key,
            "Nobitex-Timestamp": str(timestamp),
            "Nobitex-Signature": base64.urlsafe_b64encode(signature).decode(),
        }


def make_signer(key: str | None, secret: str | None) -> Signer:
    """Choose the scheme: a key with a secret signs, a key alone is a session token. Raises ConfigurationError."""
    if not key:
        raise ConfigurationError(
            "gateway.api_key: expected Nobitex's API key (with api_secret) or a session token (without); set "
            "NOBITEX_API_KEY and NOBITEX_API_SECRET",
            field="gateway.api_key",
        )
    return KeySigner(key, secret) if secret else TokenSigner(key)


def _private_key(secret: str) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - only where it is used
            Ed25519PrivateKey,
        )
    except ImportError:
        raise ConfigurationError(
            "gateway.api_secret: Nobitex's API keys need the package cryptography; install the extra [nobitex]",
            field="gateway.api_secret",
        ) from None
    padded = secret.strip() + "=" * (-len(secret.strip()) % 4)
    try:
        seed = base64.b64decode(padded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        seed = b""
    if len(seed) not in (32, 64):
        raise ConfigurationError(
            "gateway.api_secret: expected the Ed25519 private key as Nobitex shows it (32 bytes in base64)",
            field="gateway.api_secret",
        )
    return Ed25519PrivateKey.from_private_bytes(seed[:32])
