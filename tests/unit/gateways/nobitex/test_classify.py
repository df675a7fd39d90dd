"""What answers mean, walked through: every documented code and condition, and that nothing else is believed."""

from __future__ import annotations

from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import NotSent, Rejected, Unavailable, Unknown
from services.mcp.order_execution.gateways.nobitex.classify import (
    DUPLICATES,
    REFUSALS,
    failed_cancel,
    failed_read,
    failed_submit,
    is_ok,
    says_not_found,
    throttled,
)
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply


def failed(code: str | None, status: int = 200, **more: Any) -> Reply:
    """A failure as Nobitex words it."""
    return Reply(status, {"status": "failed", **({} if code is None else {"code": code}), **more})


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize("code", REFUSALS)
def test_documented_refusals_are_rejections(code: str, status: int) -> None:
    """With a reason that is the same on every exchange."""
    assert failed_submit(failed(code, status)) == Rejected(REFUSALS[code])


@pytest.mark.parametrize("code", sorted(DUPLICATES))
def test_duplicates_are_looked_up(code: str) -> None:
    """They may speak of an earlier copy of this very order."""
    assert failed_submit(failed(code)) == Rejected("duplicate_client_order_id", duplicate_id=True)


@pytest.mark.parametrize(
    "reply",
    [
        failed(None),
        failed("SomethingNew"),
        failed("SmallOrder", 500),
        failed("SmallOrder", 302),
        Reply(200, None),
        Reply(200, {}),
        Reply(200, {"status": "ok"}),
        Reply(200, {"status": 1}),
        Reply(200, {"code": "SmallOrder"}),
        Reply(400, {"detail": "?"}),
        Reply(403, None),
        Reply(404, None),
        Reply(404, {"detail": "not found"}),
        Reply(500, None),
        Reply(502, {"status": "failed", "code": "SmallOrder"}),
        Lost(ErrorCategory.TIMEOUT, "silence", sent=True),
        Lost(ErrorCategory.RESET, "reset", sent=True),
    ],
)
def test_everything_else_after_an_order_is_unknown(reply: Reply | Lost) -> None:
    """The request may have been, or may yet be, carried out."""
    assert isinstance(failed_submit(reply), Unknown)


@pytest.mark.parametrize(
    ("reply", "category", "wait"),
    [
        (Reply(429, None), ErrorCategory.RATE_LIMITED, 60.0),
        (failed("TooManyRequests", 429, backOff=12), ErrorCategory.RATE_LIMITED, 12.0),
        (failed("TooManyRequests", 403, backOff="7.5"), ErrorCategory.RATE_LIMITED, 7.5),
        (failed("TooManyRequests", 200), ErrorCategory.RATE_LIMITED, 60.0),
        (Reply(401, None), ErrorCategory.AUTHENTICATION, None),
        (Reply(401, {"detail": "?"}), ErrorCategory.AUTHENTICATION, None),
        (Reply(403, {"detail": "?"}), ErrorCategory.AUTHENTICATION, None),
        (Lost(ErrorCategory.CONNECTION, "refused", sent=False), ErrorCategory.CONNECTION, None),
    ],
)
def test_what_provably_was_not_carried_out_may_be_sent_again(
    reply: Reply | Lost, category: ErrorCategory, wait: float | None
) -> None:
    """Throttled, not authenticated, never connected: for orders and cancels alike."""
    for outcome in (failed_submit(reply), failed_cancel(reply)):
        assert isinstance(outcome, NotSent)
        assert (outcome.category, outcome.retry_after) == (category, wait)


@pytest.mark.parametrize("asked", [-1, "x", None, "1e999", [], True, float("nan")])
def test_a_back_off_that_is_not_understood_is_a_minute_or_bounded(asked: object) -> None:
    """Never a negative wait, nor one for ever."""
    seconds = throttled(failed("TooManyRequests", 429, backOff=asked))
    assert seconds is not None
    assert 0 <= seconds <= 3_600


def test_a_cancel_that_is_refused_in_so_many_words_is_refused() -> None:
    """With a code or without; a page or a 5xx says nothing."""
    assert failed_cancel(failed(None)) == Rejected("not_open")
    assert failed_cancel(failed("Whatever", 400)) == Rejected("Whatever")
    assert failed_cancel(Reply(404, {"detail": "?"})) == Rejected("not_open")
    for reply in (Reply(404, None), Reply(500, None), Reply(200, {}), Lost(ErrorCategory.TIMEOUT, "t", sent=True)):
        assert isinstance(failed_cancel(reply), Unknown)


@pytest.mark.parametrize(
    ("reply", "absent"),
    [
        (failed("NotFound"), True),
        (failed("NotFound", 404), True),
        (failed("OrderNotFound", 400), True),
        (Reply(404, {"detail": "not found"}), True),
        (Reply(404, {"code": "SomethingElse", "detail": "?"}), False),
        (Reply(404, None), False),
        (Reply(404, {}), False),
        (Reply(200, {"code": "NotFound"}), False),
        (Reply(500, {"status": "failed", "code": "NotFound"}), False),
        (failed(None), False),
        (failed("TooManyRequests"), False),
        (Lost(ErrorCategory.TIMEOUT, "t", sent=True), False),
    ],
)
def test_not_found_is_what_the_exchange_itself_says(reply: Reply | Lost, absent: bool) -> None:
    """In JSON of its own; a page with 404 comes from somebody in front of it."""
    assert says_not_found(reply) is absent


def test_a_read_that_fails_says_nothing_about_any_order() -> None:
    """Whatever it is."""
    for reply in (failed("X"), Reply(401, None), Reply(500, None), Lost(ErrorCategory.RESET, "r", sent=True)):
        assert isinstance(failed_read(reply), Unavailable)
    assert failed_read(failed("TooManyRequests", 429, backOff=3)).retry_after == 3.0


def test_two_hundred_is_no_success() -> None:
    """The status within says it."""
    assert is_ok(Reply(200, {"status": "ok"}))
    for reply in (Reply(200, {"status": "failed"}), Reply(200, None), Reply(201, {"status": "ok"}), Reply(200, {})):
        assert not is_ok(reply)
