"""What an answer means: by the row's list of documented codes, then by the few of ccxt's errors that are certain.

The evidence is the trace: which requests left, and what each came to. The error that ccxt raised is asked last,
since it makes "not available" of a 400 and a success of an empty page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from typing import Any, Final

from ...errors import ErrorCategory
from ..base import NotSent, Rejected, Unavailable, Unknown
from .row import Path, Refusal, Row, Wording
from .transport import Hop, Trace

THROTTLED_STATUS: Final = frozenset({418, 429})
SERVER_ERROR_STATUS: Final = 500
DEFAULT_BACK_OFF_SECONDS: Final = 10.0
"""How long to wait where a throttle does not say it."""
TURN_SECONDS: Final = 1.0
"""How long to wait where requests before this one took too long."""
NO_WORDING: Final = Wording(codes=())
_CODE: Final = re.compile(r"[A-Za-z0-9_.: -]{1,64}")
CERTAIN: Final = {
    "InsufficientFunds": "insufficient_funds",
    "BadSymbol": "invalid_symbol",
    "MarketClosed": "market_closed",
    "OrderImmediatelyFillable": "would_trade",
    "OrderNotFillable": "would_not_trade",
    "ContractUnavailable": "market_closed",
}
"""ccxt's errors that it raises for codes that mean one thing only."""
LOCAL: Final = frozenset(
    {
        "ArgumentsRequired",
        "BadRequest",
        "BadSymbol",
        "InvalidOrder",
        "InsufficientFunds",
        "NotSupported",
        "OrderNotFound",
    }
)
"""ccxt's errors that, raised before anything was sent, say that the request cannot be made."""


def names(error: BaseException) -> frozenset[str]:
    """The names of an error's classes, from its own up: ccxt need not be imported to read them."""
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def at(data: Any, path: Path) -> Any:
    """What stands there in an answer; None where nothing does."""
    for step in path:
        if isinstance(step, str) and isinstance(data, dict):
            data = data.get(step)
        elif isinstance(step, int) and isinstance(data, list) and -len(data) <= step < len(data):
            data = data[step]
        else:
            return None
    return data


def mentions(data: Any, ids: Set[str]) -> bool:
    """Whether an answer has one of these ids anywhere in it."""
    if isinstance(data, (dict, list)):
        return any(mentions(item, ids) for item in (data.values() if isinstance(data, dict) else data))
    return isinstance(data, (str, int)) and not isinstance(data, bool) and str(data) in ids


def _texts(data: Any, paths: Iterable[Path]) -> list[str]:
    found = (at(data, path) for path in paths)
    return [
        str(item) for item in found if isinstance(item, (str, int)) and not isinstance(item, bool) and item != ""
    ]


def matching(hop: Hop, wording: Wording, refusals: Iterable[Refusal]) -> Refusal | None:
    """The documented refusal that this answer is, if it is one of these."""
    if hop.data is None or hop.status is None or hop.status >= wording.status_below:
        return None
    codes = _texts(hop.data, wording.codes)
    words = " ".join(_texts(hop.data, wording.words))
    for refusal in refusals:
        if refusal.code and refusal.code not in codes:
            continue
        if refusal.words is None or re.search(refusal.words, words, re.IGNORECASE):
            return refusal
    return None


def code_of(hop: Hop | None, wording: Wording) -> str:
    """What may be told of a failure: status and code, never an address or a text that holds a signature."""
    if hop is None:
        return "nothing was sent"
    if hop.status is None:
        return hop.message or "no answer"
    codes = [code for code in _texts(hop.data, wording.codes) if _CODE.fullmatch(code)]
    what = ", ".join(codes) if codes else ("no JSON" if hop.data is None else "not understood")
    return f"HTTP {hop.status}: {what}"


def _throttled(hop: Hop, wording: Wording, *, documented: bool) -> float | None:
    """Seconds to wait where a request was refused for coming too soon; None where it was not."""
    by_status = documented and hop.status in THROTTLED_STATUS
    if not by_status and matching(hop, wording, wording.throttles) is None:
        return None
    return DEFAULT_BACK_OFF_SECONDS if hop.retry_after is None else hop.retry_after


def failed_write(
    trace: Trace, error: BaseException, row: Row | None, *, cancel: bool
) -> Rejected | NotSent | Unknown:
    """A write was not acknowledged: what that means, by its one request that may have changed something."""
    wording = NO_WORDING if row is None else row.wording
    # Where nothing is known of an exchange, a GET may place an order: Deribit's does.
    writes = trace.writes or (trace.hops if row is None else [])
    if not writes:
        return _never_left(trace, error, wording, cancel=cancel)
    hop = writes[0]
    if len(writes) > 1 or trace.last is not hop:
        return Unknown(ErrorCategory.BAD_RESPONSE, "more than one request of it left")
    if hop.failure is not None:
        return Unknown(hop.failure, hop.message) if hop.sent else NotSent(hop.failure, hop.message)
    told = code_of(hop, wording)
    early = _refused_early(hop, wording, told, documented=row is not None)
    if early is not None:
        return early
    refused = _refused_cancel(hop, wording, told) if cancel else _refused_order(hop, wording)
    if refused is not None:
        return refused
    if "AuthenticationError" in _certain(hop, wording):
        return NotSent(ErrorCategory.AUTHENTICATION, told)
    return Unknown(_category(hop), told, hop.retry_after)


def _never_left(trace: Trace, error: BaseException, wording: Wording, *, cancel: bool) -> Rejected | NotSent:
    """No request that could change anything was made: refused by ccxt itself, or by a read that came before.

    ccxt knows nothing of whether an order rests: of a cancel it refuses none.
    """
    hop = trace.last
    kinds = names(error)
    if hop is None:
        if "NoTurnError" in kinds:
            return NotSent(ErrorCategory.RATE_LIMITED, str(error), TURN_SECONDS, local=True)
        if "AuthenticationError" in kinds:
            return NotSent(ErrorCategory.AUTHENTICATION, "the credentials are not complete", local=True)
        if kinds & LOCAL and not cancel:
            reason = next((CERTAIN[name] for name in CERTAIN if name in kinds), "invalid_request")
            return Rejected(reason)
        words = f"ccxt could not make the request: {type(error).__name__}"
        return NotSent(ErrorCategory.INTERNAL, words, local=True)
    unavailable = failed_read(trace, error, wording, documented=True)
    return NotSent(unavailable.category, unavailable.message, unavailable.retry_after)


def _refused_early(hop: Hop, wording: Wording, told: str, *, documented: bool) -> NotSent | None:
    """A request that was refused before it was processed, and may be made again."""
    seconds = _throttled(hop, wording, documented=documented)
    if seconds is not None:
        return NotSent(ErrorCategory.RATE_LIMITED, told, seconds)
    if matching(hop, wording, wording.untimely) is not None:
        return NotSent(ErrorCategory.BAD_RESPONSE, f"{told}: its time was not accepted")
    if matching(hop, wording, wording.credentials) is not None:
        return NotSent(ErrorCategory.AUTHENTICATION, told)
    return None


def _certain(hop: Hop, wording: Wording) -> frozenset[str]:
    """What ccxt read in an answer that is complete and the exchange's own; nothing for any other.

    An error that ccxt raised later, while it made an order of a good answer, is no word of the exchange.
    """
    if hop.refusal is None or hop.data is None or hop.status is None or hop.status >= wording.status_below:
        return frozenset()
    if wording.overread and not set(wording.overread).isdisjoint(_texts(hop.data, wording.codes)):
        return frozenset()
    return names(hop.refusal)


def _refused_order(hop: Hop, wording: Wording) -> Rejected | None:
    if matching(hop, wording, wording.duplicates) is not None:
        return Rejected("duplicate_client_order_id", duplicate_id=True)
    refusal = matching(hop, wording, wording.refusals)
    if refusal is not None:
        return Rejected(refusal.reason)
    kinds = _certain(hop, wording)
    if "DuplicateOrderId" in kinds:
        return Rejected("duplicate_client_order_id", duplicate_id=True)
    return next((Rejected(reason) for name, reason in CERTAIN.items() if name in kinds), None)


def _refused_cancel(hop: Hop, wording: Wording, told: str) -> Rejected | None:
    """An explicit refusal of a cancel is believed: what the order says afterwards counts."""
    for refusal in (matching(hop, wording, wording.not_open), matching(hop, wording, wording.not_found)):
        if refusal is not None:
            return Rejected(refusal.reason)
    if _certain(hop, wording) & {"OrderNotFound", "InvalidOrder", "CancelPending"}:
        return Rejected(f"not_open ({told})")
    return None


def not_found(trace: Trace, row: Row | None) -> bool:
    """Whether the exchange said, of a lookup, that it has no such order."""
    hop = trace.last
    if hop is None or hop.failure is not None:
        return False
    if row is None:
        return "OrderNotFound" in _certain(hop, NO_WORDING)
    return matching(hop, row.wording, row.wording.not_found) is not None


def failed_read(trace: Trace, error: BaseException, wording: Wording, *, documented: bool) -> Unavailable:
    """A read was not answered, or not so that it is understood."""
    hop = trace.last
    if hop is None:
        if "NoTurnError" in names(error):
            return Unavailable(ErrorCategory.RATE_LIMITED, str(error), TURN_SECONDS, local=True)
        words = f"ccxt could not make the request: {type(error).__name__}"
        return Unavailable(ErrorCategory.INTERNAL, words, local=True)
    if hop.failure is not None:
        return Unavailable(hop.failure, hop.message)
    told = code_of(hop, wording)
    kinds = _certain(hop, wording)
    seconds = _throttled(hop, wording, documented=documented)
    if seconds is not None or kinds & {"RateLimitExceeded", "DDoSProtection"}:
        return Unavailable(ErrorCategory.RATE_LIMITED, told, seconds or DEFAULT_BACK_OFF_SECONDS)
    if matching(hop, wording, wording.credentials) is not None or "AuthenticationError" in kinds:
        return Unavailable(ErrorCategory.AUTHENTICATION, told)
    return Unavailable(_category(hop), told, hop.retry_after)


def _category(hop: Hop) -> ErrorCategory:
    if hop.refusal is not None and "OnMaintenance" in names(hop.refusal):
        return ErrorCategory.MAINTENANCE
    if hop.status in THROTTLED_STATUS:
        return ErrorCategory.RATE_LIMITED
    if hop.status is not None and hop.status >= SERVER_ERROR_STATUS:
        return ErrorCategory.SERVER_ERROR
    return ErrorCategory.BAD_RESPONSE
