"""The demo keys, and the facts' own test vectors of the signature."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.sandbox import keys
from services.mcp.order_execution.sandbox.keys import (
    DemoKeys,
    from_urlsafe,
    make_keys,
    signature_holds,
    stream_token,
    stream_token_expiry,
)

PUBLIC = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="


def demo(seed: int = 0) -> DemoKeys:
    return make_keys(seed, token=None, api_key=None, api_keys=True)


@pytest.mark.parametrize(
    ("message", "signature"),
    [
        (
            "1756831829GET/market/orders/list?fromId=123",
            "SFCZZ2jea6HDgdIGMcoQqeyga9Lmk5zSAiGEO8H33M3ZZ4TUBUy-Dk4ZU7ZmRvRJtOb2NDptFfvk05FJGz54Cw==",
        ),
        (
            '1756831829POST/market/orders/update-status{"order":5684,"status":"canceled"}',
            "nva0xHa2YVLJprEmFKAe4PYdpmxWMoSkXA4g0HMWA5lnwsl2ov7JLp60Oqs3qgeEDVM4HpclqVKNlsP1rXPWAw==",
        ),
    ],
)
def test_the_vectors_of_the_facts_hold(message: str, signature: str) -> None:
    """Signatures that were computed by two independent programs."""
    assert signature_holds(PUBLIC, message.encode(), signature)
    assert not signature_holds(PUBLIC, message.encode() + b" ", signature)


@pytest.mark.parametrize("text", ["", "a", "a+b=", "ab/=", "abc", "\u0660bc=", "YQ=="])
def test_what_is_no_signature_does_not_hold(text: str) -> None:
    """Wrong alphabet, wrong length, nothing at all."""
    assert not signature_holds(PUBLIC, b"m", text)


def test_keys_follow_from_the_seed() -> None:
    """The same seed has the same keys, another seed others."""
    assert demo(1) == demo(1)
    assert demo(1).api_secret != demo(2).api_secret
    assert demo(1).token != demo(2).token
    assert len(demo(1).token) == 40


def test_a_given_public_key_leaves_the_private_one_with_its_owner() -> None:
    """The sandbox does not know it, so it cannot show it."""
    given = make_keys(0, token="a" * 40, api_key=PUBLIC, api_keys=True)
    assert (given.api_key, given.api_secret, given.token) == (PUBLIC, None, "a" * 40)


@pytest.mark.parametrize("key", ["short", "YWJj", PUBLIC.rstrip("=")])
def test_a_public_key_that_is_none_is_refused(key: str) -> None:
    """Thirty-two bytes of URL-safe base64 are expected."""
    with pytest.raises(ConfigurationError, match="api_key"):
        make_keys(0, token=None, api_key=key, api_keys=True)


def test_without_cryptography_one_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear error, and none at all where the scheme is not wanted."""

    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"cryptography.*--token-only"):
        demo()
    assert make_keys(0, token=None, api_key=None, api_keys=False).api_key is None
    assert keys.importlib is importlib


def test_secrets_are_not_in_the_repr() -> None:
    """Neither token nor private key."""
    text = repr(demo())
    assert demo().token not in text
    assert (demo().api_secret or "?") not in text


def test_a_stream_token_says_when_it_expires_and_cannot_be_changed() -> None:
    """Any other text is no token."""
    own = demo()
    token = stream_token(own, issued=100, expires=1300)
    assert stream_token_expiry(own, token) == 1300
    head, claims, seal = token.split(".")
    for wrong in ("", "x", "a.b.c", f"{head}.{claims}x.{seal}", stream_token(demo(1), issued=100, expires=1300)):
        assert stream_token_expiry(own, wrong) is None


def test_strict_base64_takes_nothing_else() -> None:
    """No standard alphabet, no missing padding, no characters of other scripts."""
    assert from_urlsafe("_-8=") == b"\xff\xef"
    assert [from_urlsafe(text) for text in ("/+8=", "_-8", "a b=", "\u06f0")] == [None] * 4
