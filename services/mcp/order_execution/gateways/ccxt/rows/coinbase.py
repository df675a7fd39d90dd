"""Coinbase Advanced Trade, spot."""

from __future__ import annotations

from typing import Final

from ....models import TimeInForce
from ...base import IdScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Stamp, Wording, coded

WORDING: Final = Wording(
    codes=(
        ("error_response", "error"),
        ("error_response", "preview_failure_reason"),
        ("error_response", "new_order_failure_reason"),
        ("results", 0, "failure_reason"),
        ("error",),
    ),
    words=(("error_response", "message"), ("error_details",), ("message",)),
    duplicates=coded("duplicate", "DUPLICATE_CLIENT_ORDER_ID", "PREVIEW_DUPLICATE_CLIENT_ORDER_ID"),
    refusals=(
        *coded("insufficient_funds", "INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND"),
        *coded(
            "min_notional",
            "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL",
            "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL",
            "INVALID_BASE_SIZE_TOO_SMALL",
            "INVALID_QUOTE_SIZE_TOO_SMALL",
        ),
        *coded("amount_too_large", "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE", "PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE"),
        *coded("invalid_precision", "INVALID_SIZE_PRECISION", "PREVIEW_INVALID_SIZE_PRECISION"),
        *coded("invalid_price", "INVALID_PRICE_PRECISION", "PREVIEW_INVALID_PRICE_PRECISION"),
        *coded("would_trade", "INVALID_LIMIT_PRICE_POST_ONLY", "PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY"),
        *coded("price_out_of_range", "INVALID_LIMIT_PRICE", "PREVIEW_INVALID_LIMIT_PRICE"),
        *coded("market_closed", "PRODUCT_TRADING_HALTED", "INVALID_NO_LIQUIDITY", "PREVIEW_INVALID_NO_LIQUIDITY"),
        *coded("invalid_symbol", "INVALID_PRODUCT_ID", "PREVIEW_INVALID_PRODUCT_ID"),
        *coded("invalid_request", "UNSUPPORTED_ORDER_CONFIGURATION", "INVALID_SIDE"),
    ),
    not_found=(
        Refusal("unknown", "order_not_found", r"not found"),
        Refusal("NOT_FOUND", "order_not_found"),
    ),
    not_open=coded(
        "not_open",
        "UNKNOWN_CANCEL_ORDER",
        "INVALID_CANCEL_REQUEST",
        "DUPLICATE_CANCEL_REQUEST",
        "ORDER_IS_FULLY_FILLED",
        "CANCEL_ORDER_FAILED_ORDER_IS_FULLY_FILLED",
    ),
    throttles=coded("throttled", "rate_limit_exceeded", "resource_exhausted"),
    credentials=coded(
        "credentials", "PERMISSION_DENIED", "unauthorized", "authentication_error", "UNAUTHENTICATED"
    ),
)

_PAGES: Final = Pager(kind=PagerKind.CURSOR, param="cursor", at=("cursor",))

ROW: Final = Row(
    exchange="coinbase",
    name="Coinbase",
    sources=(
        "docs.cdp.coinbase.com, create order: a used client_order_id is answered with the order that it made",
        "the same, historical orders: pages by cursor, start_date and end_date; they carry client_order_id",
        "the same, authentication: a token is good for 2 minutes",
        "the same, batch_cancel: by order_ids",
        "ccxt 4.5.90 coinbase.py: its own client_order_id, unless that very parameter is given",
    ),
    assumptions=(
        "an accepted order is in the list of all orders within 10 s, whatever its state",
        "the list of open orders has those in the state OPEN; PENDING and QUEUED pass within moments",
        "attempts of one order to be placed lie within a day, as far as the lists are searched",
        "which codes a refusal has beyond those of the documentation is not known: others are Unknown",
    ),
    workarounds=(
        "ccxt drops clientOrderId and sends a random id: client_order_id is given",
        "there is no lookup by client id: the lists of open and closed orders are searched",
        "ccxt does not read what a fill-or-kill order was for: none is placed",
        "ccxt makes an error without a code of a cancel that failed: its reason is read from the answer",
    ),
    ids=IdForm(36, r"[A-Za-z0-9_-]+"),
    create_param="client_order_id",
    wire_field="client_order_id",
    id_scope=IdScope.FOREVER,
    lookup_scope=LookupScope.ALL,
    expiry=Expiry(seconds=120.0),
    settle=10.0,
    market_key=("product_id",),
    scan_seconds=86_400.0,
    lookups=(
        Lookup(
            method="v3PrivateGetBrokerageOrdersHistoricalOrderId",
            rows=("order",),
            by_exchange_id="order_id",
            symbol=None,
        ),
    ),
    open_orders=ListCall(
        method="v3PrivateGetBrokerageOrdersHistoricalBatch",
        rows=("orders",),
        symbol="product_ids",
        params={"order_status": "OPEN"},
        limit=250,
        pager=_PAGES,
    ),
    closed_orders=(
        ListCall(
            method="v3PrivateGetBrokerageOrdersHistoricalBatch",
            rows=("orders",),
            symbol="product_ids",
            since="start_date",
            until="end_date",
            unit=Stamp.RFC3339,
            limit=250,
            pager=_PAGES,
        ),
    ),
    trades=(
        ListCall(
            method="v3PrivateGetBrokerageOrdersHistoricalFills",
            rows=("fills",),
            symbol="product_ids",
            since="start_sequence_timestamp",
            until="end_sequence_timestamp",
            unit=Stamp.RFC3339,
            limit=250,
            pager=_PAGES,
        ),
    ),
    wording=WORDING,
    options={"defaultType": "spot", "brokerId": ""},
    market_buys=False,
    times_in_force=frozenset({TimeInForce.GTC, TimeInForce.IOC}),
    rates=Rates(orders=15.0, cancels=15.0, reads=10.0, burst=20),
)
