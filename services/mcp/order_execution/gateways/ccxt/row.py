"""What one row of the table of exchanges says: the facts, where they come from, and how ccxt has to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from ...models import OrderType, TimeInForce
from ..base import IdScope, ListScope, LookupScope
from .client_ids import IdForm

Path = tuple[str | int, ...]
"""Where something stands in a JSON answer: keys of objects and numbers in lists."""
NO_PARAMS: Final[Mapping[str, Any]] = MappingProxyType({})


class Stamp(Enum):
    """How a point in time is written for an exchange."""

    MILLISECONDS = "ms"
    SECONDS = "s"
    RFC3339 = "rfc3339"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """After how long the exchange refuses a request that was under way, and how that is told it.

    One of: ``option``, ccxt's option with the window in milliseconds, sent with every signed request; ``header``
    or ``param``, the moment itself, sent with the request that places an order; none: it is fixed.
    """

    seconds: float
    option: str | None = None
    header: str | None = None
    param: str | None = None
    stamp: Stamp = Stamp.MILLISECONDS
    margin: float = 3.0
    """Seconds that clocks may differ after all."""
    least: float = 1.0
    """Seconds below which the exchange takes no window."""

    @property
    def is_told(self) -> bool:
        """Whether the exchange is told; elsewhere its own time holds, and no setting makes it shorter."""
        return bool(self.option or self.header or self.param)


class PagerKind(Enum):
    """How a list goes on after one page."""

    WHOLE = "one answer has all"
    CURSOR = "the answer names the next page"
    LAST_ROW = "the next page begins after the last row"
    NUMBERED = "pages are numbered"
    OFFSET = "rows are skipped"
    EARLIER = "newest first; the next page ends where this one begins"
    LATER = "oldest first; the next page begins where this one ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pager:
    """How a list is walked. ``param`` carries the cursor, the row's id, the number, the offset or the time."""

    kind: PagerKind
    param: str = ""
    at: Path = ()
    """The cursor in the answer, or the id or time in a row; of numbered pages, a row's id."""
    falls: bool = False
    """Ids fall from row to row; a full page in which they do not is not understood."""
    first: int = 1
    short_ends: bool = False
    """A page that is not full is the last one, whatever its cursor says."""


WHOLE: Final = Pager(kind=PagerKind.WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCall:
    """One list, by ccxt's implicit method. ``rows``: where the rows stand; ``keyed``: they are an object by id."""

    method: str
    rows: Path = ()
    keyed: bool = False
    symbol: str | None = "symbol"
    """The parameter for the market's id; None: the list is of the account."""
    params: Mapping[str, Any] = field(default_factory=lambda: NO_PARAMS)
    since: str | None = None
    until: str | None = None
    unit: Stamp = Stamp.MILLISECONDS
    limit: int = 0
    """Rows of a full page; 0: no pages."""
    limit_param: str | None = "limit"
    pager: Pager = WHOLE
    window: float | None = None
    """Seconds that one call may cover at most."""
    memory: float | None = None
    """Seconds back from now that the list reaches; None: all that ever was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One way to ask for one order. ``listed``: the answer is a list, and "none in it" is the explicit answer."""

    method: str
    rows: Path = ()
    keyed: bool = False
    listed: bool = False
    by_exchange_id: str | None = None
    by_client_id: str | None = None
    symbol: str | None = "symbol"
    params: Mapping[str, Any] = field(default_factory=lambda: NO_PARAMS)
    numbers: bool = False
    """The id is sent as a list of one number."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A documented refusal: its code ("": any), what its words must say (a pattern; None: anything), our name."""

    code: str
    reason: str
    words: str | None = None


def coded(reason: str, *codes: str, words: str | None = None) -> tuple[Refusal, ...]:
    """Refusals of one meaning under several codes."""
    return tuple(Refusal(code, reason, words) for code in codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How the exchange says no. What is not listed here is not understood, and after a write that is Unknown."""

    codes: tuple[Path, ...]
    words: tuple[Path, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    duplicates: tuple[Refusal, ...] = ()
    not_found: tuple[Refusal, ...] = ()
    """Said of an order that is looked up or cancelled."""
    not_open: tuple[Refusal, ...] = ()
    """Said of a cancel alone."""
    throttles: tuple[Refusal, ...] = ()
    """Said before a request is processed; HTTP 429 needs no row."""
    untimely: tuple[Refusal, ...] = ()
    """The timestamp, nonce or deadline was not accepted: nothing was processed."""
    credentials: tuple[Refusal, ...] = ()
    overread: tuple[str, ...] = ()
    """Codes in which ccxt reads more than they say: its errors for them are not believed."""
    status_below: int = 500
    """Refusals come with a status below this: a few exchanges answer 500 for what is the caller's mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Documented limits, in requests a second. None: none is documented for this."""

    orders: float | None = None
    cancels: float | None = None
    reads: float | None = None
    burst: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One exchange. Every fact has its source in ``sources``; what none of them says stands in ``assumptions``."""

    exchange: str
    name: str
    sources: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    workarounds: tuple[str, ...] = ()
    ids: IdForm
    create_param: str
    """ccxt's parameter for the client id of a new order."""
    wire_field: str
    """The field that carries it on the wire."""
    numeric_id: bool = False
    cancel_param: str | None = None
    """ccxt's parameter by which an order is cancelled under its client id; ``@id``: it stands for the exchange's
    id; None: it cannot be, or not so that the answer tells whether it was."""
    id_scope: IdScope
    lookup_scope: LookupScope
    list_scope: ListScope = ListScope.ACCOUNT
    expiry: Expiry | None
    settle: float
    market_key: Path = ("symbol",)
    """Where a row of an order or a trade names its market."""
    success: tuple[Path, str] | None = None
    """Where an answer to a write says that it is one, and with which word."""
    cancel_count: Path = ()
    """Where the answer to a cancel counts what was cancelled; none is a refusal."""
    cancel_pending: Path = ()
    """Where it says instead that the cancel is under way."""
    lookups: tuple[Lookup, ...]
    lookup_memory: float | None = None
    """Seconds after sending for which a lookup surely finds any order by client id; None: always. Of an older one
    that it does not find nothing is known, unless the lists are searched."""
    scan_seconds: float | None = None
    """The gateway searches its lists of open and closed orders, from so long before the order was sent the last
    time: where there is no lookup, or its memory is too short. It has to cover the attempts before."""
    scan_memory: float | None = None
    """Seconds after sending for which any order is surely in those lists; None: as long as they reach."""
    open_orders: ListCall
    closed_orders: tuple[ListCall, ...] = ()
    """The first of these whose memory reaches far enough is asked."""
    trades: tuple[ListCall, ...] = ()
    wrap: str | None = None
    """ccxt's parsers want a row, which is a list, under this name."""
    markets_method: str | None = None
    """ccxt's method that loads the spot markets alone; None: its usual one can be told to."""
    wording: Wording
    options: Mapping[str, Any] = field(default_factory=lambda: NO_PARAMS)
    """ccxt's own options."""
    order_params: Mapping[str, Any] = field(default_factory=lambda: NO_PARAMS)
    order_types: frozenset[OrderType] = frozenset({OrderType.MARKET, OrderType.LIMIT})
    market_buys: bool = True
    """A market order can buy an amount of the base currency; elsewhere it spends one of the quote currency."""
    times_in_force: frozenset[TimeInForce] = frozenset(TimeInForce)
    post_only: bool = True
    stop_param: str = "triggerPrice"
    balance_params: Mapping[str, Any] = field(default_factory=lambda: NO_PARAMS)
    rates: Rates = field(default_factory=Rates)
    one_at_a_time: bool = False
    """Signed requests must arrive in the order of their nonces: one is written before the next is signed."""
    needs_password: bool = False


SLACK_SECONDS: Final = 0.5
"""By how much what the exchange is told is below what the user has set."""


def window(expiry: Expiry | None, override: float | None) -> float | None:
    """For how long a request is good at the exchange, which is told so where it can be told."""
    if expiry is None:
        return None
    if override is None or not expiry.is_told:
        return expiry.seconds
    return min(expiry.seconds, max(expiry.least, override - SLACK_SECONDS))
