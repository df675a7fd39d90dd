"""What an answer means: only what is listed is believed, and only of a whole answer to the one request."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import NotSent, Rejected, Unavailable, Unknown
from services.mcp.order_execution.gateways.ccxt import classify
from services.mcp.order_execution.gateways.ccxt.row import Refusal, Wording
from services.mcp.order_execution.gateways.ccxt.rows import TABLE
from services.mcp.order_execution.gateways.ccxt.transport import Hop, Trace

BINANCE = TABLE["binance"]


def hop(status: int | None = 200, data: Any = None, *, method: str = "POST", **more: Any) -> Hop:
    return Hop(method, status=status, data=data, **more)


def written(*hops: Hop, error: Exception | None = None, row: Any = BINANCE, cancel: bool = False) -> Any:
    return classify.failed_write(Trace(hops=list(hops)), error or ValueError("x"), row, cancel=cancel)


def refused(code: int, msg: str, status: int = 400, **more: Any) -> Hop:
    return hop(status, {"code": code, "msg": msg}, **more)


def test_what_never_left_is_refused_or_not_sent() -> None:
    """Objections of ccxt itself are final; what it could not make is nobody's word."""
    assert written(error=ccxt.ArgumentsRequired("x")) == Rejected("invalid_request")
    assert written(error=ccxt.InvalidOrder("x")) == Rejected("invalid_request")
    assert written(error=ccxt.BadSymbol("x")) == Rejected("invalid_symbol")
    assert written(error=ccxt.InsufficientFunds("x")) == Rejected("insufficient_funds")
    keys = written(error=ccxt.AuthenticationError("x"))
    assert (type(keys), keys.category, keys.local) == (NotSent, ErrorCategory.AUTHENTICATION, True)
    odd = written(error=TypeError("x"))
    assert (type(odd), odd.category, odd.local) == (NotSent, ErrorCategory.INTERNAL, True)


def test_a_read_that_failed_before_the_order_left_nothing() -> None:
    """An exchange with a row writes by no GET; without a row that is not known."""
    early = hop(502, method="GET")
    assert written(early) == NotSent(ErrorCategory.SERVER_ERROR, "HTTP 502: no JSON")
    assert isinstance(written(early, row=None), Unknown)
    limited = refused(-1003, "Too many requests", 429, method="GET", retry_after=4.0)
    assert written(limited) == NotSent(ErrorCategory.RATE_LIMITED, "HTTP 429: -1003", 4.0)


def test_a_later_request_does_not_speak_for_the_order() -> None:
    """Its refusal is not the order's, whatever it says."""
    good = hop(200, {"orderId": 1})
    later = refused(-2015, "Invalid API-key", 401, method="GET")
    later.refusal = ccxt.AuthenticationError("x")
    assert isinstance(written(good, later), Unknown)
    assert isinstance(written(good, refused(-2010, "insufficient balance")), Unknown)


def test_an_error_that_ccxt_raises_over_a_good_answer_is_none_of_the_exchange() -> None:
    """Such as a symbol that its parser does not know."""
    for error in (ccxt.BadSymbol("x"), ccxt.InsufficientFunds("x"), ccxt.AuthenticationError("x"), KeyError("x")):
        assert isinstance(written(hop(200, {"orderId": 1}), error=error), Unknown)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ccxt.InsufficientFunds, "insufficient_funds"),
        (ccxt.BadSymbol, "invalid_symbol"),
        (ccxt.MarketClosed, "market_closed"),
        (ccxt.OrderImmediatelyFillable, "would_trade"),
        (ccxt.OrderNotFillable, "would_not_trade"),
    ],
)
def test_what_ccxt_recognised_for_certain_is_believed(error: type[Exception], reason: str) -> None:
    """With and without a row; not over a page, and not with a server's error."""
    for row in (BINANCE, None):
        assert written(hop(400, {"code": -9}, refusal=error("x")), row=row) == Rejected(reason)
        assert isinstance(written(hop(400, None, refusal=error("x")), row=row), Unknown)
        assert isinstance(written(hop(500, {"code": -9}, refusal=error("x")), row=row), Unknown)


@pytest.mark.parametrize(
    "error", [ccxt.InvalidOrder, ccxt.ExchangeError, ccxt.BadRequest, ccxt.ExchangeNotAvailable]
)
def test_what_could_mean_anything_is_unknown(error: type[Exception]) -> None:
    """A 400 that ccxt calls unavailable, an order that it calls invalid under an unlisted code."""
    for row in (BINANCE, None):
        assert isinstance(written(hop(400, {"code": -9999}, refusal=error("x")), row=row), Unknown)


def test_a_repeated_id_is_no_verdict() -> None:
    """By its code and words, or as ccxt's own error."""
    assert written(refused(-2010, "Duplicate order sent.")) == Rejected(
        "duplicate_client_order_id", duplicate_id=True
    )
    by_class = hop(400, {"code": 1}, refusal=ccxt.DuplicateOrderId("x"))
    assert written(by_class, row=None) == Rejected("duplicate_client_order_id", duplicate_id=True)


def test_a_throttle_without_a_row_may_have_let_the_order_through() -> None:
    """Only where it is documented that it comes before, it is not sent."""
    limited = hop(429, None, retry_after=5.0, refusal=ccxt.RateLimitExceeded("x"))
    assert written(limited) == NotSent(ErrorCategory.RATE_LIMITED, "HTTP 429: no JSON", 5.0)
    assert written(limited, row=None) == Unknown(ErrorCategory.RATE_LIMITED, "HTTP 429: no JSON", 5.0)


def test_failures_of_the_network() -> None:
    """Sent or not is all that counts."""
    lost = hop(None, failure=ErrorCategory.RESET, message="ServerDisconnectedError")
    assert written(lost) == Unknown(ErrorCategory.RESET, "ServerDisconnectedError")
    never = hop(None, failure=ErrorCategory.CONNECTION, message="ClientConnectorError", sent=False)
    assert written(never) == NotSent(ErrorCategory.CONNECTION, "ClientConnectorError")


def test_maintenance_and_server_errors_are_told_apart() -> None:
    """Both leave the order open."""
    closed = hop(503, {"code": 1}, refusal=ccxt.OnMaintenance("x"))
    assert written(closed).category is ErrorCategory.MAINTENANCE
    assert written(hop(503, {"code": 1})).category is ErrorCategory.SERVER_ERROR
    assert written(hop(200, None)).category is ErrorCategory.BAD_RESPONSE


def test_codes_that_ccxt_reads_too_much_into_are_not_believed() -> None:
    """Bitfinex says 10001 to nearly everything, which ccxt calls a lack of permission."""
    row = TABLE["bitfinex"]
    odd = hop(500, ["error", 10001, "temporarily unavailable"], refusal=ccxt.PermissionDenied("x"))
    assert isinstance(written(odd, row=row), Unknown)
    short = hop(
        500, ["error", 10001, "Invalid order: not enough exchange balance"], refusal=ccxt.PermissionDenied("x")
    )
    assert written(short, row=row) == Rejected("insufficient_funds")


def test_cancels_are_refused_by_any_explicit_word() -> None:
    """What the order says afterwards counts."""
    assert written(refused(-2011, "Unknown order sent."), cancel=True) == Rejected("not_open")
    gone = hop(400, {"code": -5}, refusal=ccxt.OrderNotFound("x"))
    assert written(gone, cancel=True) == Rejected("not_open (HTTP 400: -5)")
    assert isinstance(written(hop(200, None), cancel=True), Unknown)
    assert isinstance(written(refused(-1006, "unknown"), cancel=True), Unknown)


def test_absence_needs_the_exchanges_own_code() -> None:
    """With a row by its code, without one by ccxt's reading of a whole answer."""
    assert classify.not_found(Trace(hops=[refused(-2013, "Order does not exist.")]), BINANCE)
    unlisted = hop(400, {"code": -5}, refusal=ccxt.OrderNotFound("x"))
    assert not classify.not_found(Trace(hops=[unlisted]), BINANCE)
    assert classify.not_found(Trace(hops=[unlisted]), None)
    assert not classify.not_found(Trace(hops=[hop(404, None, refusal=ccxt.OrderNotFound("x"))]), None)
    assert not classify.not_found(Trace(hops=[hop(None, failure=ErrorCategory.RESET)]), None)
    assert not classify.not_found(Trace(), None)


def test_reads_that_failed() -> None:
    """Unavailable, each for its reason."""

    def read(*hops: Hop, error: Exception | None = None, documented: bool = True) -> Unavailable:
        wording = BINANCE.wording if documented else classify.NO_WORDING
        return classify.failed_read(Trace(hops=list(hops)), error or ValueError(), wording, documented=documented)

    assert read().local
    assert read(hop(None, failure=ErrorCategory.TIMEOUT)).category is ErrorCategory.TIMEOUT
    assert read(hop(429, None)).retry_after == classify.DEFAULT_BACK_OFF_SECONDS
    by_class = hop(400, {"x": 1}, refusal=ccxt.DDoSProtection("x"))
    assert read(by_class, documented=False).category is ErrorCategory.RATE_LIMITED
    assert read(refused(-2015, "x")).category is ErrorCategory.AUTHENTICATION
    denied = hop(403, {"x": 1}, refusal=ccxt.PermissionDenied("x"))
    assert read(denied, documented=False).category is ErrorCategory.AUTHENTICATION
    assert read(hop(502, None)).category is ErrorCategory.SERVER_ERROR
    assert read(hop(200, {"odd": 1})).category is ErrorCategory.BAD_RESPONSE


def test_what_is_told_of_a_failure_is_status_and_code() -> None:
    """Never an address, a signature or the exchange's own text."""
    assert classify.code_of(None, BINANCE.wording) == "nothing was sent"
    assert classify.code_of(hop(None, message="lost"), BINANCE.wording) == "lost"
    assert classify.code_of(hop(None), BINANCE.wording) == "no answer"
    assert classify.code_of(refused(-1, "signature=abc"), BINANCE.wording) == "HTTP 400: -1"
    long = Wording(codes=(("error",),))
    assert classify.code_of(hop(400, {"error": "x=1&signature=abc"}), long) == "HTTP 400: not understood"


def test_words_tell_refusals_under_one_code_apart() -> None:
    """In any case; a code in another place is none."""
    wording = Wording(codes=(("code",),), words=(("msg",),))
    refusals = (Refusal("1", "small", "too small"), Refusal("1", "any"))
    assert classify.matching(hop(200, {"code": 1, "msg": "Too Small!"}), wording, refusals) == refusals[0]
    assert classify.matching(hop(200, {"code": "1"}), wording, refusals) == refusals[1]
    assert classify.matching(hop(200, {"code": True}), wording, refusals) is None
    by_words = (Refusal("", "again", "already"),)
    assert classify.matching(hop(200, {"code": 7, "msg": "already there"}), wording, by_words) == by_words[0]
    assert classify.matching(hop(200, {"code": 7, "msg": "else"}), wording, by_words) is None
    assert classify.matching(hop(200, {"other": 1}), wording, refusals) is None
    assert classify.at([[1, 2]], (0, -1)) == 2
    assert classify.at([[1, 2]], (0, 5)) is None
