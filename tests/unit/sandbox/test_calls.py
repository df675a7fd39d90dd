"""Requests and answers apart from sockets."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.sandbox.calls import Call, Refusal, Reply, detail, failed, page

JSON = {"Content-Type": "application/json; charset=utf-8"}


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """With HTTP 400 and ParseError, however deep it nests."""
    with pytest.raises(Refusal) as refused:
        Call("POST", "/x", JSON, body).json()
    assert refused.value.reply.status == 400


def test_a_body_of_another_kind_is_refused() -> None:
    """Forms are not taken; nothing at all is an empty object."""
    with pytest.raises(Refusal):
        Call("POST", "/x", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=b").json()
    assert Call("POST", "/x", {}).json() == {}
    assert Call("POST", "/x", JSON, b'{"a": 1}').json() == {"a": 1}


def test_queries() -> None:
    """The last value of a name counts, empty ones too; too many are refused."""
    call = Call("GET", "/a/b?x=1&x=2&y=", {})
    assert (call.path, call.query()) == ("/a/b", {"x": "2", "y": ""})
    with pytest.raises(Refusal):
        Call("GET", "/?" + "&".join(["a=1"] * 51), {}).query()


def test_answers_in_their_styles() -> None:
    """Failures with and without a code, details, pages."""
    assert failed("X").body == {"status": "failed", "code": "X", "message": "X"}
    assert failed(None).body == {"status": "failed"}
    assert failed(None, message="m").body == {"status": "failed", "message": "m"}
    assert (detail("d", 401).body, detail("d", 401).status) == ({"detail": "d"}, 401)
    assert page(502, "Bad Gateway").content_type == "text/html"


def test_any_text_can_be_sent() -> None:
    """Even half of a surrogate pair that a caller sent."""
    assert Reply({"clientOrderId": "\ud800"}).encoded() == b'{"clientOrderId": "?"}'
    assert Reply({"a": "\ufdfc"}).encoded() == '{"a": "\ufdfc"}'.encode()
