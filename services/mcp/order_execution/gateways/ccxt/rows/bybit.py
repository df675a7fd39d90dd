"""Bybit spot, in the unified trading account."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Wording

WORDING: Final = Wording(
    codes=(("retCode",), ("ret_code",)),
    words=(("retMsg",), ("ret_msg",)),
    duplicates=(
        Refusal("170141", "duplicate"),
        Refusal("110072", "duplicate"),
        Refusal("12141", "duplicate"),
    ),
    refusals=(
        Refusal("170131", "insufficient_funds"),
        Refusal("170033", "insufficient_funds"),
        Refusal("170223", "insufficient_funds"),
        Refusal("110004", "insufficient_funds"),
        Refusal("110007", "insufficient_funds"),
        Refusal("110012", "insufficient_funds"),
        Refusal("170140", "min_notional"),
        Refusal("170136", "min_notional"),
        Refusal("110094", "min_notional"),
        Refusal("170124", "amount_too_large"),
        Refusal("170132", "price_out_of_range"),
        Refusal("170133", "price_out_of_range"),
        Refusal("170134", "invalid_price"),
        Refusal("170135", "amount_too_large"),
        Refusal("170137", "invalid_amount"),
        Refusal("170121", "invalid_symbol"),
        Refusal("170115", "invalid_request"),
        Refusal("170116", "invalid_request"),
        Refusal("170117", "invalid_request"),
        Refusal("170192", "price_out_of_range"),
        Refusal("170193", "price_out_of_range"),
        Refusal("170194", "price_out_of_range"),
        Refusal("170217", "would_trade"),
        Refusal("170218", "would_trade"),
        Refusal("170371", "price_out_of_range"),
        Refusal("170372", "price_out_of_range"),
        Refusal("170005", "too_many_orders"),
        Refusal("170810", "too_many_orders"),
        Refusal("170130", "invalid_request"),
        Refusal("170148", "invalid_amount"),
        Refusal("170151", "market_closed"),
        Refusal("170157", "market_closed"),
        Refusal("170159", "market_closed"),
        Refusal("170197", "amount_too_large"),
        Refusal("170198", "amount_too_large"),
        Refusal("170210", "rejected"),
        Refusal("10001", "invalid_request"),
    ),
    not_found=(Refusal("170213", "order_not_found"), Refusal("110001", "order_not_found")),
    not_open=(
        Refusal("170139", "not_open"),
        Refusal("170142", "not_open"),
        Refusal("170143", "not_open"),
        Refusal("170145", "not_cancelable"),
        Refusal("170190", "not_open"),
        Refusal("110008", "not_open"),
        Refusal("110010", "not_open"),
    ),
    throttles=(Refusal("10006", "throttled"), Refusal("10018", "throttled"), Refusal("170222", "throttled")),
    untimely=(Refusal("10002", "untimely"), Refusal("-1021", "untimely")),
    credentials=(
        Refusal("10003", "credentials"),
        Refusal("10004", "credentials"),
        Refusal("10005", "credentials"),
        Refusal("10010", "credentials"),
        Refusal("33004", "credentials"),
    ),
)

_PAGES: Final = Pager(kind=PagerKind.CURSOR, param="cursor", at=("result", "nextPageCursor"))
_SPOT: Final = {"category": "spot"}

ROW: Final = Row(
    exchange="bybit",
    name="Bybit",
    sources=(
        "bybit-exchange.github.io/docs/v5, place order: orderLinkId is up to 36 letters, digits, - and _",
        "the same, order/realtime and order/history: by orderId or orderLinkId; pages by nextPageCursor",
        "the same: history covers at most 7 days a request, and the last 7 where no times are given",
        "the same: orders cancelled without a trade are kept for 24 hours",
        "the same, authentication: X-BAPI-RECV-WINDOW",
        "ccxt 4.5.90 bybit.py: orderLinkId is sent; 110072, 170141 and 12141 for a repeated one",
    ),
    assumptions=(
        "a repeated orderLinkId is refused among open orders at least",
        "an order stands in order/realtime or in order/history within 5 s",
        "of an order sent more than 23 hours ago that is in no list nothing is known: it may have been cancelled",
        "attempts of one order to be placed lie within a day, as far as the lists are searched",
        "the account is a unified one",
    ),
    workarounds=(
        "ccxt's fetchOrder wants to be acknowledged, and no orderLinkId: realtime and history are asked",
        "ccxt asks two questions about the account before the first order: it is told the answer",
    ),
    ids=IdForm(36, r"[A-Za-z0-9_-]+"),
    create_param="clientOrderId",
    wire_field="orderLinkId",
    cancel_param="orderLinkId",
    id_scope=IdScope.OPEN_ORDERS,
    lookup_scope=LookupScope.ALL,
    expiry=Expiry(seconds=5.0, option="recvWindow"),
    settle=5.0,
    lookup_memory=82_800.0,
    scan_seconds=86_400.0,
    scan_memory=82_800.0,
    lookups=(
        Lookup(
            method="privateGetV5OrderRealtime",
            rows=("result", "list"),
            listed=True,
            by_exchange_id="orderId",
            by_client_id="orderLinkId",
            params=_SPOT,
        ),
        Lookup(
            method="privateGetV5OrderHistory",
            rows=("result", "list"),
            listed=True,
            by_exchange_id="orderId",
            by_client_id="orderLinkId",
            params=_SPOT,
        ),
    ),
    open_orders=ListCall(
        method="privateGetV5OrderRealtime",
        rows=("result", "list"),
        params={**_SPOT, "openOnly": 0},
        limit=50,
        pager=_PAGES,
    ),
    closed_orders=(
        ListCall(
            method="privateGetV5OrderHistory",
            rows=("result", "list"),
            params=_SPOT,
            since="startTime",
            until="endTime",
            limit=50,
            window=7 * 86_400.0,
            pager=_PAGES,
        ),
    ),
    trades=(
        ListCall(
            method="privateGetV5ExecutionList",
            rows=("result", "list"),
            params={**_SPOT, "execType": "Trade"},
            since="startTime",
            until="endTime",
            limit=100,
            window=7 * 86_400.0,
            pager=_PAGES,
        ),
    ),
    wording=WORDING,
    options={
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "enableUnifiedMargin": False,
        "enableUnifiedAccount": True,
        "unifiedMarginStatus": 6,
        "brokerId": "",
    },
    rates=Rates(orders=10.0, cancels=10.0, reads=20.0, burst=10),
)
