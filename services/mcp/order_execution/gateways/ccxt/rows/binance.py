"""Binance spot."""

from __future__ import annotations

from typing import Final

from ....models import OrderType
from ...base import IdScope, ListScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Wording

WORDING: Final = Wording(
    codes=(("code",),),
    words=(("msg",),),
    duplicates=(Refusal("-2010", "duplicate", r"duplicate order"),),
    refusals=(
        Refusal("-2010", "insufficient_funds", r"insufficient balance"),
        Refusal("-2010", "would_trade", r"immediately match and take"),
        Refusal("-2010", "would_trigger", r"trigger immediately"),
        Refusal("-2010", "market_closed", r"market is closed"),
        Refusal("-2010", "rejected"),
        Refusal("-1013", "min_notional", r"\bMIN_NOTIONAL|\bNOTIONAL"),
        Refusal("-1013", "invalid_amount", r"LOT_SIZE|quantity"),
        Refusal("-1013", "price_out_of_range", r"PERCENT_PRICE|PRICE_FILTER|price"),
        Refusal("-1013", "too_many_orders", r"MAX_NUM_ORDERS|MAX_NUM_ALGO_ORDERS|MAX_NUM_ICEBERG"),
        Refusal("-1013", "position_limit", r"MAX_POSITION"),
        Refusal("-1013", "market_closed", r"market is closed"),
        Refusal("-1013", "filter_failure", r"filter failure"),
        Refusal("-1100", "invalid_request"),
        Refusal("-1101", "invalid_request"),
        Refusal("-1102", "invalid_request"),
        Refusal("-1103", "invalid_request"),
        Refusal("-1104", "invalid_request"),
        Refusal("-1105", "invalid_request"),
        Refusal("-1106", "invalid_request"),
        Refusal("-1108", "invalid_request"),
        Refusal("-1111", "invalid_precision"),
        Refusal("-1114", "invalid_request"),
        Refusal("-1115", "invalid_request"),
        Refusal("-1116", "invalid_request"),
        Refusal("-1117", "invalid_request"),
        Refusal("-1121", "invalid_symbol"),
        Refusal("-1014", "invalid_request"),
    ),
    not_found=(Refusal("-2013", "order_not_found"),),
    not_open=(Refusal("-2011", "not_open"),),
    throttles=(Refusal("-1003", "throttled"), Refusal("-1015", "throttled")),
    untimely=(Refusal("-1021", "untimely"),),
    credentials=(
        Refusal("-2014", "credentials"),
        Refusal("-2015", "credentials"),
        Refusal("-1022", "credentials"),
        Refusal("-1002", "credentials"),
    ),
)

ROW: Final = Row(
    exchange="binance",
    name="Binance",
    sources=(
        "developers.binance.com, Spot, new order: newClientOrderId is unique among open orders; recvWindow",
        "the same, GET /api/v3/order: by origClientOrderId; without a trade, for 90 days (-2026)",
        "the same, allOrders and myTrades: one symbol, at most 24 hours a request, 1000 rows",
        "the same, errors: -2010, -2011, -2013, -1013 and the filters; -1006 and -1007 leave the execution open",
        "ccxt 4.5.90 binance.py: newClientOrderId is sent",
    ),
    assumptions=(
        "an accepted order is found within 5 s: GET /api/v3/order reads memory first, then the database",
        "a request whose recvWindow has passed is refused wherever it waited",
    ),
    ids=IdForm(36, r"[A-Za-z0-9._:/-]+"),
    create_param="clientOrderId",
    wire_field="newClientOrderId",
    cancel_param="clientOrderId",
    id_scope=IdScope.OPEN_ORDERS,
    lookup_scope=LookupScope.ALL,
    list_scope=ListScope.SYMBOL,
    expiry=Expiry(seconds=5.0, option="recvWindow"),
    settle=5.0,
    lookups=(Lookup(method="privateGetOrder", by_exchange_id="orderId", by_client_id="origClientOrderId"),),
    open_orders=ListCall(method="privateGetOpenOrders"),
    closed_orders=(
        ListCall(
            method="privateGetAllOrders",
            since="startTime",
            until="endTime",
            limit=1000,
            window=86_400.0,
            pager=Pager(kind=PagerKind.LATER, param="startTime", at=("time",)),
        ),
    ),
    trades=(
        ListCall(
            method="privateGetMyTrades",
            since="startTime",
            until="endTime",
            limit=1000,
            window=86_400.0,
            pager=Pager(kind=PagerKind.LATER, param="startTime", at=("time",)),
        ),
    ),
    wording=WORDING,
    options={
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},
        "fetchMargins": False,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
    },
    order_types=frozenset(OrderType),
    stop_param="stopLossPrice",
    rates=Rates(orders=10.0, cancels=20.0, reads=10.0, burst=50),
)
