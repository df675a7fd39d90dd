"""Bitfinex spot ("exchange" orders)."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, LookupScope
from ..client_ids import IdForm, Travel
from ..row import ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Wording, coded

KEPT_SECONDS: Final = 14 * 86_400.0
_GENERIC: Final = ("10001", "ERROR", "FAILURE")

WORDING: Final = Wording(
    codes=((1,), (6,)),
    words=((2,), (7,)),
    duplicates=coded("duplicate", *_GENERIC, words=r"duplicate|cid.*(exist|use)"),
    refusals=(
        *coded("insufficient_funds", *_GENERIC, words=r"not enough .*balance|available balance is only"),
        *coded("min_notional", *_GENERIC, words=r"minimum size|incorrect amount, minimum"),
        *coded("amount_too_large", *_GENERIC, words=r"maximum size|amount .*too (large|big)"),
        *coded("invalid_price", *_GENERIC, words=r"invalid order: price|price: invalid|price should be"),
        *coded("invalid_symbol", *_GENERIC, words=r"symbol: invalid|pair: invalid"),
        *coded("invalid_symbol", "10020", words=r"symbol"),
        *coded("invalid_request", "10020"),
        *coded("invalid_request", *_GENERIC, words=r"invalid order"),
        *coded("not_found", *_GENERIC, words=r"order not found"),
    ),
    not_found=coded("order_not_found", *_GENERIC, words=r"order not found"),
    throttles=(
        *coded("throttled", "11010"),
        Refusal("ERR_RATE_LIMIT", "throttled"),
        Refusal("ERROR", "throttled", r"ratelimit"),
    ),
    untimely=coded("untimely", "10114"),
    credentials=coded("credentials", "10100", "10111", "10112", "10113"),
    overread=("10001",),
    status_below=501,
)

ROW: Final = Row(
    exchange="bitfinex",
    name="Bitfinex",
    sources=(
        "docs.bitfinex.com, submit order: cid has 45 bits, should be unique in a day, and is not checked",
        "the same: an answer is a notification with a status and a text",
        "the same, retrieve orders and orders history: by id; history of two weeks, start, end, limit 2500",
        "the same, trades: start, end, limit 2500",
        "ccxt 4.5.90 bitfinex.py: cid is sent; refusals come with HTTP 500; nonces rise within one process",
    ),
    assumptions=(
        "a request is not held back for more than 2 minutes: nothing lets it expire but a later nonce",
        "an accepted order is in the lists by then",
        "attempts of one order to be placed lie within a day, as far as the lists are searched",
        "lists come with the newest first, by the time of their last update",
    ),
    workarounds=(
        "cid is a number: 45 bits are derived from the client id by a hash, the same at every start",
        "ccxt cannot look an order up by cid: the lists of open and closed orders are searched",
        "a cancel by cid needs the day on which it was placed: orders are cancelled by the exchange's id alone",
        "signed requests are written one after another, since a nonce below the last is refused",
    ),
    ids=IdForm(64, r"[A-Za-z0-9._:/-]+", Travel.NUMBER),
    create_param="clientOrderId",
    wire_field="cid",
    numeric_id=True,
    id_scope=IdScope.NONE,
    lookup_scope=LookupScope.ALL,
    expiry=None,
    settle=120.0,
    market_key=(3,),
    scan_seconds=86_400.0,
    success=((6,), "SUCCESS"),
    wrap="result",
    lookups=(
        Lookup(method="privatePostAuthROrders", listed=True, by_exchange_id="id", symbol=None, numbers=True),
        Lookup(method="privatePostAuthROrdersHist", listed=True, by_exchange_id="id", symbol=None, numbers=True),
    ),
    open_orders=ListCall(method="privatePostAuthROrders", symbol=None),
    closed_orders=(
        ListCall(
            method="privatePostAuthROrdersHist",
            symbol=None,
            since="start",
            until="end",
            limit=2500,
            pager=Pager(kind=PagerKind.EARLIER, param="end", at=(5,)),
            memory=KEPT_SECONDS,
        ),
    ),
    trades=(
        ListCall(
            method="privatePostAuthRTradesHist",
            symbol=None,
            since="start",
            until="end",
            limit=2500,
            pager=Pager(kind=PagerKind.EARLIER, param="end", at=(2,)),
            memory=KEPT_SECONDS,
        ),
    ),
    wording=WORDING,
    options={"defaultType": "spot"},
    rates=Rates(orders=1.5, cancels=1.5, reads=1.5, burst=10),
    one_at_a_time=True,
)
