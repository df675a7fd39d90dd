"""Signatures: the published example key gives the vectors that two implementations agree on."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.gateways.nobitex.signing import KeySigner, TokenSigner, make_signer

PUBLIC = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="
PRIVATE = "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="
ADD = (
    b'{"type":"buy","srcCurrency":"btc","dstCurrency":"rls","amount":"0.6","price":"520000000",'
    b'"clientOrderId":"order1"}'
)
VECTORS = [
    (
        "GET",
        "/market/orders/list?fromId=123",
        b"",
        "SFCZZ2jea6HDgdIGMcoQqeyga9Lmk5zSAiGEO8H33M3ZZ4TUBUy-Dk4ZU7ZmRvRJtOb2NDptFfvk05FJGz54Cw==",
    ),
    (
        "get",
        "/users/profile",
        b"",
        "68GFi1xUm9Ci30ny6Ki-BUZYjncSx_L1wr4mTnxgjy9RQilDxxTt6VbBNee3uYTu1BXMnn4r9BsOex7C7bEXCQ==",
    ),
    (
        "POST",
        "/market/orders/update-status",
        b'{"order":5684,"status":"canceled"}',
        "nva0xHa2YVLJprEmFKAe4PYdpmxWMoSkXA4g0HMWA5lnwsl2ov7JLp60Oqs3qgeEDVM4HpclqVKNlsP1rXPWAw==",
    ),
    (
        "POST",
        "/market/orders/add",
        ADD,
        "nY4ykFzLo6nPIDRU__H5-PPC6ayhWyDfbhX3-YHdtZExkR3Jw0YikliUbU22XeXo90KmGfG55-aiH_X_9bXjDQ==",
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "signature"), VECTORS)
def test_the_vectors(method: str, path: str, body: bytes, signature: str) -> None:
    """Timestamp, method, path with query, and body, one after another."""
    headers = KeySigner(PUBLIC, PRIVATE).headers(method, path, body, 1_756_831_829)
    assert headers == {
        "Nobitex-Key": PUBLIC,
        "Nobitex-Timestamp": "1756831829",
        "Nobitex-Signature": signature,
    }


def test_a_key_alone_is_a_session_token() -> None:
    """It signs nothing, so nothing makes a late request stale."""
    signer = make_signer("token40", None)
    assert isinstance(signer, TokenSigner)
    assert signer.headers("GET", "/x", b"", 0) == {"Authorization": "Token token40"}
    assert not signer.expires
    assert make_signer(PUBLIC, PRIVATE).expires


@pytest.mark.parametrize("secret", ["x", "not base64!", "YWJj"])
def test_a_secret_of_a_wrong_form_is_refused_without_showing_it(secret: str) -> None:
    """At configuration time, by name."""
    with pytest.raises(ConfigurationError, match=r"gateway\.api_secret") as caught:
        make_signer(PUBLIC, secret)
    assert secret not in str(caught.value) or len(secret) == 1


def test_without_a_key_it_is_said_where_it_could_be() -> None:
    """The environment's names are in the message."""
    for key in (None, ""):
        with pytest.raises(ConfigurationError, match="NOBITEX_API_KEY"):
            make_signer(key, None)


def test_a_signer_shows_nothing() -> None:
    """Not in its repr."""
    for signer in (make_signer(PUBLIC, PRIVATE), make_signer("token40", None)):
        assert PRIVATE not in repr(signer)
        assert "token40" not in repr(signer)
