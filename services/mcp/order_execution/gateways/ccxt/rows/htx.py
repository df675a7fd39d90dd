"""HTX (Huobi) spot."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, ListScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Wording, coded

TWO_DAYS: Final = 2 * 86_400.0

WORDING: Final = Wording(
    codes=(("err-code",), ("err_code",)),
    words=(("err-msg",), ("err_msg",)),
    duplicates=(
        Refusal("order-client-order-id-duplicate", "duplicate"),
        Refusal("invalid-parameter", "duplicate", r"client.?order.?id.*(duplicate|exist|repeat)"),
    ),
    refusals=(
        *coded("insufficient_funds", "account-frozen-balance-insufficient-error", "insufficient-balance"),
        *coded(
            "min_notional",
            "order-value-min-error",
            "order-limitorder-amount-min-error",
            "order-marketorder-amount-min-error",
        ),
        *coded(
            "amount_too_large",
            "order-limitorder-amount-max-error",
            "order-marketorder-amount-max-error",
            "order-holding-limit-failed",
        ),
        *coded(
            "price_out_of_range",
            "order-limitorder-price-min-error",
            "order-limitorder-price-max-error",
            "order-limitorder-price-buy-min-error",
            "order-limitorder-price-buy-max-error",
            "order-limitorder-price-sell-min-error",
            "order-limitorder-price-sell-max-error",
            "order-etp-nav-price-max-error",
        ),
        *coded("invalid_price", "order-invalid-price", "order-orderprice-precision-error"),
        *coded("invalid_amount", "invalid-amount", "order-orderamount-precision-error"),
        *coded("invalid_symbol", "base-symbol-error", "invalid-symbol"),
        *coded("market_closed", "base-symbol-trade-disabled", "order-disabled"),
        *coded("would_trigger", "order-stop-order-hit-trigger"),
    ),
    not_found=coded("order_not_found", "base-record-invalid", "order-queryorder-invalid"),
    not_open=coded("not_open", "order-orderstate-error"),
    throttles=coded("throttled", "base-request-exceed-frequency-limit", "rate-too-many-requests"),
    credentials=coded("credentials", "api-signature-not-valid", "api-signature-check-failed", "login-required"),
)

ROW: Final = Row(
    exchange="htx",
    name="HTX",
    sources=(
        "www.huobi.com/support 84873840032816 (2021): the uniqueness of a client order id is no longer verified",
        "the same: a final order is found by it for 2 hours after its creation, others for 8 hours",
        "huobiapi.github.io/docs/spot/v1: orders within 48 hours a request and 180 days back, one symbol",
        "the same, getClientOrder and history: made by API and cancelled, it is told for 2 hours",
        "the same: match results within 48 hours a request and 120 days back",
        "ccxt 4.5.90 htx.py: client-order-id is sent",
    ),
    assumptions=(
        "a signed request is refused 5 minutes after its timestamp",
        "an accepted order is in the lists within 10 s",
        "no list has an order that was cancelled over 2 hours ago, even if it traded, as is said of the lookup",
        "of an order sent more than 100 minutes ago that is in no list nothing is known",
        "attempts of one order to be placed lie within a day, as far as the lists are searched",
        "without account and symbol openOrders gives all open orders, at most 500",
    ),
    workarounds=(
        "lookups by client id forget after 2 hours, so the lists of open and closed orders are searched instead",
        "a cancel by client id answers 'ok' whatever it did: orders are cancelled by the exchange's id alone",
    ),
    ids=IdForm(64, r"[A-Za-z0-9_-]+"),
    create_param="clientOrderId",
    wire_field="client-order-id",
    id_scope=IdScope.NONE,
    lookup_scope=LookupScope.ALL,
    list_scope=ListScope.SYMBOL,
    expiry=Expiry(seconds=300.0),
    settle=10.0,
    scan_seconds=86_400.0,
    scan_memory=6_000.0,
    lookups=(
        Lookup(
            method="spotPrivateGetV1OrderOrdersOrderId",
            rows=("data",),
            by_exchange_id="order-id",
            symbol=None,
        ),
    ),
    open_orders=ListCall(
        method="spotPrivateGetV1OrderOpenOrders", rows=("data",), symbol=None, limit=500, limit_param="size"
    ),
    closed_orders=(
        ListCall(
            method="spotPrivateGetV1OrderOrders",
            rows=("data",),
            params={"states": "filled,partial-canceled,canceled", "direct": "next"},
            since="start-time",
            until="end-time",
            limit=100,
            limit_param="size",
            window=TWO_DAYS,
            pager=Pager(kind=PagerKind.LAST_ROW, param="from", at=("id",)),
            memory=180 * 86_400.0,
        ),
    ),
    trades=(
        ListCall(
            method="spotPrivateGetV1OrderMatchresults",
            rows=("data",),
            params={"direct": "next"},
            since="start-time",
            until="end-time",
            limit=100,
            limit_param="size",
            window=TWO_DAYS,
            pager=Pager(kind=PagerKind.LAST_ROW, param="from", at=("id",)),
            memory=120 * 86_400.0,
        ),
    ),
    wording=WORDING,
    options={
        "defaultType": "spot",
        "fetchMarkets": {"types": {"spot": True, "linear": False, "inverse": False}},
    },
    market_buys=False,
    rates=Rates(orders=25.0, cancels=25.0, reads=10.0, burst=20),
)
