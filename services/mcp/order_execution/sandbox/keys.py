"""The demo account's keys. They are made up from the sandbox's seed and open nothing anywhere else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ConfigurationError

SIGNATURE_BYTES: Final = 64
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class DemoKeys:
    """What the sandbox accepts. ``api_secret`` is None for a key that was given, ``api_key`` without the scheme."""

    token: str = field(repr=False)
    api_key: str | None
    api_secret: str | None = field(repr=False)
    stream_parameter: str
    """``websocketAuthParam``: the suffix of the account's private channels."""
    stream_secret: bytes = field(repr=False)


def make_keys(seed: int, *, token: str | None, api_key: str | None, api_keys: bool) -> DemoKeys:
    """The keys of a seed, or those that are given. Raises ConfigurationError without the package cryptography."""
    secret = None
    if api_keys and api_key is None:
        raw = _derive(seed, "api key")
        private = _ed25519().Ed25519PrivateKey.from_private_bytes(raw)
        api_key, secret = _text(private.public_key().public_bytes_raw()), _text(raw)
    elif api_keys and api_key is not None:
        _ed25519()
        if (raw_key := from_urlsafe(api_key)) is None or len(raw_key) != KEY_BYTES:
            raise ConfigurationError("api_key: expected a public key, URL-safe base64 of 32 bytes", field="api_key")
    return DemoKeys(
        token=token or _derive(seed, "token").hex()[:40],
        api_key=api_key if api_keys else None,
        api_secret=secret,
        stream_parameter=_derive(seed, "stream parameter").hex()[:32],
        stream_secret=_derive(seed, "stream secret"),
    )


def signature_holds(public: str, message: bytes, signature: str) -> bool:
    """Whether a signature (URL-safe base64 with padding, nothing else) was made with the private key."""
    raw_key, raw = from_urlsafe(public), from_urlsafe(signature)
    if raw_key is None or raw is None or len(raw) != SIGNATURE_BYTES:
        return False
    wrong = importlib.import_module("cryptography.exceptions").InvalidSignature
    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(raw_key).verify(raw, message)
    except wrong:
        return False
    return True


def from_urlsafe(text: str) -> bytes | None:
    """Strict URL-safe base64 with padding, or None."""
    if not text.isascii() or "+" in text or "/" in text:
        return None
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except binascii.Error:
        return None


def stream_token(keys: DemoKeys, *, issued: int, expires: int) -> str:
    """A token for the stream's connection: a JWT in form, though signed with the sandbox's own secret."""
    head = _part({"typ": "JWT", "alg": "HS256"})
    claims = _part({"sub": keys.stream_parameter[:8], "iat": issued, "exp": expires})
    return f"{head}.{claims}.{_seal(keys, f'{head}.{claims}')}"


def stream_token_expiry(keys: DemoKeys, token: str) -> int | None:
    """When a token of :func:`stream_token` expires, in epoch seconds; None for any other text."""
    signed, _, seal = token.rpartition(".")
    if not signed or not hmac.compare_digest(seal.encode(), _seal(keys, signed).encode()):
        return None
    claims = signed.partition(".")[2]
    return int(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])


def _ed25519() -> Any:
    try:
        return importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    except ImportError as error:
        raise ConfigurationError(
            "the API-key scheme needs the package cryptography: install it, or go without (--token-only)"
        ) from error


def _derive(seed: int, purpose: str) -> bytes:
    return hashlib.sha256(f"nobitex sandbox|{seed}|{purpose}".encode()).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def _part(claims: dict[str, Any]) -> str:
    return _text(json.dumps(claims).encode()).rstrip("=")


def _seal(keys: DemoKeys, signed: str) -> str:
    return _text(hmac.new(keys.stream_secret, signed.encode(), hashlib.sha256).digest()).rstrip("=")
