"""Crypto.com Exchange, spot."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Row, Wording, coded

DAY: Final = 86_400.0

WORDING: Final = Wording(
    codes=(("code",),),
    words=(("message",),),
    duplicates=coded("duplicate", "204"),
    refusals=(
        *coded("insufficient_funds", "306", "20002"),
        *coded("min_notional", "415"),
        *coded("invalid_amount", "213"),
        *coded("amount_too_large", "314", "325"),
        *coded("price_out_of_range", "315", "308"),
        *coded("market_closed", "206", "208"),
        *coded("invalid_symbol", "209", "30003"),
        *coded("invalid_request", "218", "219", "220", "221", "223", "30006", "30007", "30008", "30009", "30013"),
        *coded("invalid_request", "30014", "30016", "30017", "30023", "30024", "30025"),
        *coded("account_restricted", "202"),
        *coded("would_trade", "43005"),
    ),
    not_found=coded("order_not_found", "40401", "212"),
    not_open=coded("not_open", "316"),
    throttles=coded("throttled", "42901", "10006"),
    untimely=coded("untimely", "40102", "10007"),
    credentials=coded("credentials", "40101", "40103", "40104", "10002", "10003", "10005"),
    status_below=501,
)

_EARLIER: Final = Pager(kind=PagerKind.EARLIER, param="end_time", at=("create_time",))

ROW: Final = Row(
    exchange="cryptocom",
    name="Crypto.com",
    sources=(
        "exchange-docs.crypto.com, private/create-order: client_oid of up to 36 characters",
        "the same, private/get-order-detail: by order_id or client_oid",
        "the same, private/get-order-history and private/get-trades: start_time, end_time, at most 100 rows",
        "the same, response codes: 204 for a repeated id; some refusals come with HTTP 500",
        "the same: a nonce is good for 60 s",
        "ccxt 4.5.90 cryptocom.py: clientOrderId is dropped; the lists cover one day a request",
    ),
    assumptions=(
        "a repeated client_oid is refused among open orders at least",
        "an accepted order is found within 10 s",
        "lists come with the newest first",
        "a market order buys an amount of the base currency",
    ),
    workarounds=(
        "ccxt drops clientOrderId: client_oid is given",
        "ccxt sends an order_id with every cancel: orders are cancelled by the exchange's id alone",
    ),
    ids=IdForm(36, r"[A-Za-z0-9_-]+"),
    create_param="client_oid",
    wire_field="client_oid",
    id_scope=IdScope.OPEN_ORDERS,
    lookup_scope=LookupScope.ALL,
    expiry=Expiry(seconds=60.0),
    settle=10.0,
    market_key=("instrument_name",),
    lookup_memory=30 * DAY,
    lookups=(
        Lookup(
            method="v1PrivatePostPrivateGetOrderDetail",
            rows=("result",),
            by_exchange_id="order_id",
            by_client_id="client_oid",
            symbol=None,
        ),
    ),
    open_orders=ListCall(
        method="v1PrivatePostPrivateGetOpenOrders",
        rows=("result", "data"),
        symbol="instrument_name",
    ),
    closed_orders=(
        ListCall(
            method="v1PrivatePostPrivateGetOrderHistory",
            rows=("result", "data"),
            symbol="instrument_name",
            since="start_time",
            until="end_time",
            limit=100,
            window=DAY,
            pager=_EARLIER,
            memory=30 * DAY,
        ),
    ),
    trades=(
        ListCall(
            method="v1PrivatePostPrivateGetTrades",
            rows=("result", "data"),
            symbol="instrument_name",
            since="start_time",
            until="end_time",
            limit=100,
            window=DAY,
            pager=_EARLIER,
            memory=30 * DAY,
        ),
    ),
    wording=WORDING,
    options={"defaultType": "spot", "broker": ""},
    rates=Rates(orders=15.0, cancels=15.0, reads=1.0, burst=15),
)
