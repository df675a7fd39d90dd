"""What an answer of Nobitex means: by a table of its documented codes, and by nothing else.

A code that is not listed, a failure without one, a body that is no JSON: after a write all of that is Unknown.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

from ...errors import ErrorCategory
from ..base import NotSent, Rejected, Unavailable, Unknown
from .transport import Lost, Reply

REFUSALS: Final = MappingProxyType(
    {
        "InvalidOrderPrice": "invalid_price",
        "BadPrice": "price_out_of_range",
        "PriceConditionFailed": "price_condition_failed",
        "UnexpectedMarketPrice": "price_out_of_range",
        "OverValueOrder": "insufficient_funds",
        "InsufficientBalance": "insufficient_funds",
        "SmallOrder": "min_notional",
        "InvalidMarketPair": "invalid_symbol",
        "InvalidSymbol": "invalid_symbol",
        "MarketClosed": "market_closed",
        "TradingUnavailable": "trading_unavailable",
        "TradeLimitation": "trade_limitation",
        "FeatureUnavailable": "feature_unavailable",
        "ParseError": "invalid_request",
        "NullIdAndClientOrderId": "invalid_request",
        # An order of the same side, amount and price within ten seconds, of whatever id: looked up before it is
        # believed, since it may be a copy of this very order.
        "DuplicateOrder": "duplicate_order",
    }
)
"""Codes with which Nobitex says that an order was not registered (its documentation of orders/add)."""
DUPLICATES: Final = frozenset({"DuplicateClientOrderId"})
"""Codes that say that this client order id exists: it is looked up."""
THROTTLED: Final = "TooManyRequests"
DEFAULT_BACK_OFF_SECONDS: Final = 60.0
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NOT_FOUND_CODES: Final = frozenset({"NotFound", "OrderNotFound"})


def is_ok(reply: Reply) -> bool:
    """HTTP 200 alone is no success: the status within says it."""
    return reply.status == 200 and reply.data is not None and reply.data.get("status") == "ok"


def code_of(reply: Reply) -> str | None:
    """The machine's word for a failure."""
    code = None if reply.data is None else reply.data.get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def throttled(reply: Reply) -> float | None:
    """Seconds that the exchange asks to wait; None where it does not throttle."""
    if reply.status != 429 and code_of(reply) != THROTTLED:
        return None
    asked = None if reply.data is None else reply.data.get("backOff")
    try:
        seconds = float(Decimal(str(asked)))
    except (InvalidOperation, ValueError, OverflowError):
        return DEFAULT_BACK_OFF_SECONDS
    return min(seconds, 3_600.0) if seconds >= 0 else DEFAULT_BACK_OFF_SECONDS


def failed_submit(answer: Reply | Lost) -> Rejected | NotSent | Unknown:
    """An order was not acknowledged: what that means."""
    return _refused_early(answer) or _failed_order(answer)


def _failed_order(answer: Reply | Lost) -> Rejected | Unknown:
    if isinstance(answer, Lost):
        return Unknown(answer.category, answer.message)
    code = code_of(answer)
    if _says_failed(answer) and code in DUPLICATES:
        return Rejected("duplicate_client_order_id", duplicate_id=True)
    if _says_failed(answer) and code is not None and code in REFUSALS:
        return Rejected(REFUSALS[code])
    return Unknown(*_why(answer))


def failed_cancel(answer: Reply | Lost) -> Rejected | NotSent | Unknown:
    """A cancel was not acknowledged. An explicit failure is believed: what the order says afterwards counts."""
    early = _refused_early(answer)
    if early is not None:
        return early
    if isinstance(answer, Lost):
        return Unknown(answer.category, answer.message)
    if _says_failed(answer) or _says_not_found(answer):
        return Rejected(code_of(answer) or "not_open")
    return Unknown(*_why(answer))


def failed_read(answer: Reply | Lost) -> Unavailable:
    """A read was not answered."""
    if isinstance(answer, Lost):
        return Unavailable(answer.category, answer.message, answer.retry_after, local=answer.held_back)
    seconds = throttled(answer)
    if seconds is not None:
        return Unavailable(ErrorCategory.RATE_LIMITED, THROTTLED, seconds)
    if answer.status == 401 or (answer.status == 403 and answer.data is not None):
        return Unavailable(ErrorCategory.AUTHENTICATION, f"HTTP {answer.status}")
    return Unavailable(*_why(answer))


def says_not_found(answer: Reply | Lost) -> bool:
    """Whether the exchange said, in JSON of its own, that it has no such order."""
    return isinstance(answer, Reply) and _says_not_found(answer)


def _says_not_found(reply: Reply) -> bool:
    if reply.data is None:
        return False  # a page with 404 comes from whoever stands in front of the exchange
    if reply.status == 404:
        return code_of(reply) in NOT_FOUND_CODES or (code_of(reply) is None and "detail" in reply.data)
    return _says_failed(reply) and code_of(reply) in NOT_FOUND_CODES


def _says_failed(reply: Reply) -> bool:
    if reply.data is None or reply.status not in (200, 400, 404, 422):
        return False
    return reply.data.get("status") == "failed"


def _refused_early(answer: Reply | Lost) -> NotSent | None:
    """A request that provably was not carried out, and may be made again."""
    if isinstance(answer, Lost):
        if answer.sent:
            return None
        return NotSent(answer.category, answer.message, answer.retry_after, local=answer.held_back)
    seconds = throttled(answer)
    if seconds is not None:
        return NotSent(ErrorCategory.RATE_LIMITED, THROTTLED, seconds)
    if answer.status == 401 or (answer.status == 403 and answer.data is not None):
        return NotSent(ErrorCategory.AUTHENTICATION, f"HTTP {answer.status}")
    return None


def _why(reply: Reply) -> tuple[ErrorCategory, str]:
    what = code_of(reply) or ("no JSON" if reply.data is None else "not understood")
    if reply.status >= 500:
        return ErrorCategory.SERVER_ERROR, f"HTTP {reply.status}: {what}"
    return ErrorCategory.BAD_RESPONSE, f"HTTP {reply.status}: {what}"


def explain(reply: Reply) -> dict[str, Any]:
    """What may be logged of a failure: its status and code, never its text."""
    return {"status": reply.status, "code": code_of(reply)}
