"""Gate spot."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, ListScope, LookupScope
from ..client_ids import IdForm, Travel
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Stamp, Wording, coded

WORDING: Final = Wording(
    codes=(("label",),),
    words=(("message",), ("detail",)),
    duplicates=(
        *coded("duplicate", "REPEATED_CREATION"),
        Refusal(
            "INVALID_PARAM_VALUE", "duplicate", r"(text|client).*(duplicate|already|exist)|duplicate.*(text|client)"
        ),
    ),
    refusals=(
        *coded("insufficient_funds", "BALANCE_NOT_ENOUGH", "MARGIN_BALANCE_NOT_ENOUGH"),
        *coded("min_notional", "AMOUNT_TOO_LITTLE"),
        Refusal("INVALID_PARAM_VALUE", "min_notional", r"too small|minimum"),
        *coded(
            "invalid_request", "INVALID_PARAM_VALUE", "INVALID_ARGUMENT", "MISSING_REQUIRED_PARAM", "BAD_REQUEST"
        ),
        *coded("invalid_precision", "INVALID_PRECISION"),
        *coded("invalid_symbol", "INVALID_CURRENCY", "INVALID_CURRENCY_PAIR"),
        *coded("amount_too_large", "AMOUNT_TOO_MUCH", "QUANTITY_NOT_ENOUGH"),
        *coded("would_trade", "POC_FILL_IMMEDIATELY", "ORDER_POC_IMMEDIATE"),
        *coded("price_out_of_range", "PRICE_TOO_DEVIATED", "PRICE_THRESHOLD_EXCEEDED"),
        *coded("too_many_orders", "TOO_MANY_ORDERS"),
        *coded("account_restricted", "TRADE_RESTRICTED"),
    ),
    not_found=coded("order_not_found", "ORDER_NOT_FOUND", "CLIENT_ID_NOT_FOUND"),
    not_open=coded("not_open", "ORDER_CLOSED", "ORDER_CANCELLED"),
    throttles=coded("throttled", "TOO_MANY_REQUESTS", "TOO_FAST"),
    untimely=coded("untimely", "REQUEST_EXPIRED"),
    credentials=coded(
        "credentials",
        "AUTHENTICATION_FAILED",
        "INVALID_CREDENTIALS",
        "INVALID_KEY",
        "INVALID_SIGNATURE",
        "MISSING_REQUIRED_HEADER",
        "IP_FORBIDDEN",
        "READ_ONLY",
        "FORBIDDEN",
    ),
)

_PAGES: Final = Pager(kind=PagerKind.NUMBERED, param="page", at=("id",))

ROW: Final = Row(
    exchange="gate",
    name="Gate",
    sources=(
        "www.gate.com/docs/developers/apiv4, spot orders: text is t- and up to 28 of 0-9 A-Z a-z _ - .",
        "the same: an order is found by its text while it is open, and for an hour after its end",
        "the same: the header x-gate-exptime, milliseconds; what arrives later is refused",
        "the same: lists of orders and of own trades take from, to, page and limit",
        "ccxt 4.5.90 gate.py: text is sent",
    ),
    assumptions=(
        "a repeated text is not refused: nothing says that it is",
        "an accepted order is found within 5 s",
        "attempts of one order to be placed lie within a day, as far as the lists are searched",
        "the account is a classic one",
    ),
    workarounds=(
        "ccxt puts t- before an id unless it begins with t: 'trade1' would go bare, so we put it there",
        "ccxt counts t- as two of the 28 characters: 26 are left",
        "ids of 32 hexadecimal digits, as the executor makes, are too long: they travel in base 62",
        "ccxt knows no x-gate-exptime: the header is added to the request",
        "ccxt asks for the kind of account before an order: it is told the answer",
        "numbered pages of open orders shift as orders end: they are read until two readings agree",
    ),
    ids=IdForm(32, r"[0-9a-f]{32}|(?!h\.)[A-Za-z0-9_.-]{1,26}", Travel.PACKED, prefix="t-"),
    create_param="text",
    wire_field="text",
    cancel_param="@id",
    id_scope=IdScope.NONE,
    lookup_scope=LookupScope.ALL,
    list_scope=ListScope.SYMBOL,
    expiry=Expiry(seconds=5.0, header="x-gate-exptime"),
    settle=5.0,
    market_key=("currency_pair",),
    lookup_memory=3_000.0,
    scan_seconds=86_400.0,
    lookups=(
        Lookup(
            method="privateSpotGetOrdersOrderId",
            by_exchange_id="order_id",
            by_client_id="order_id",
            symbol="currency_pair",
        ),
    ),
    open_orders=ListCall(
        method="privateSpotGetOrders",
        symbol="currency_pair",
        params={"status": "open"},
        limit=100,
        pager=_PAGES,
    ),
    closed_orders=(
        ListCall(
            method="privateSpotGetOrders",
            symbol="currency_pair",
            params={"status": "finished"},
            since="from",
            until="to",
            unit=Stamp.SECONDS,
            limit=100,
            pager=_PAGES,
            memory=30 * 86_400.0,
        ),
    ),
    trades=(
        ListCall(
            method="privateSpotGetMyTrades",
            symbol="currency_pair",
            since="from",
            until="to",
            unit=Stamp.SECONDS,
            limit=1000,
            pager=_PAGES,
            memory=30 * 86_400.0,
        ),
    ),
    wording=WORDING,
    options={"defaultType": "spot", "unifiedAccount": False, "fetchMarkets": {"types": ["spot"]}},
    market_buys=False,
    rates=Rates(orders=10.0, cancels=20.0, reads=20.0, burst=10),
)
