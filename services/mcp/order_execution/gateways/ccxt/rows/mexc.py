"""MEXC spot."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, ListScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Rates, Refusal, Row, Wording, coded

HOUR: Final = 3_600.0

WORDING: Final = Wording(
    codes=(("code",),),
    words=(("msg",),),
    duplicates=(
        Refusal("-2010", "duplicate", r"duplicate"),
        Refusal("400", "duplicate", r"duplicate.*client|client.*(duplicate|exist)"),
    ),
    refusals=(
        *coded("insufficient_funds", "30004", "30005", "10101"),
        *coded("min_notional", "30002", "88013"),
        *coded("amount_too_large", "30003"),
        *coded("price_out_of_range", "30010", "30087"),
        *coded("invalid_symbol", "10007", "30014", "-1121"),
        *coded("market_closed", "30016", "30001", "30041"),
        *coded("too_many_orders", "30029"),
        *coded("position_limit", "30027", "30028", "30032"),
        *coded("invalid_amount", "10095", "10096", "10097", "10102"),
        *coded("would_trade", "30025"),
    ),
    not_found=coded("order_not_found", "-2013"),
    not_open=coded("not_open", "-2011"),
    throttles=coded("throttled", "429", "510"),
    untimely=coded("untimely", "700003"),
    credentials=coded(
        "credentials",
        "401",
        "402",
        "602",
        "10072",
        "700001",
        "700002",
        "700006",
        "700007",
        "701",
        "702",
        "703",
        "704",
    ),
)

ROW: Final = Row(
    exchange="mexc",
    name="MEXC",
    sources=(
        "www.mexc.com/api-docs/spot-v3: newClientOrderId; GET /api/v3/order finds by origClientOrderId",
        "the same: allOrders takes one symbol, within 7 days; myTrades one symbol; recvWindow",
        "ccxt 4.5.90 mexc.py: newClientOrderId is sent; -2013 and -2011 as at Binance",
    ),
    assumptions=(
        "a repeated newClientOrderId is not refused: nothing says that it is",
        "an accepted order is found within 10 s",
        "in which order lists come is not documented: they are asked for in parts that fit one answer",
        "a market order buys an amount of the base currency where one is given",
    ),
    workarounds=("ccxt loads the contract markets as well: the spot markets are loaded alone",),
    ids=IdForm(32, r"[A-Za-z0-9_-]+"),
    create_param="clientOrderId",
    wire_field="newClientOrderId",
    cancel_param="clientOrderId",
    id_scope=IdScope.NONE,
    lookup_scope=LookupScope.ALL,
    list_scope=ListScope.SYMBOL,
    expiry=Expiry(seconds=5.0, option="recvWindow"),
    settle=10.0,
    lookup_memory=7 * 24 * HOUR,
    lookups=(Lookup(method="spotPrivateGetOrder", by_exchange_id="orderId", by_client_id="origClientOrderId"),),
    open_orders=ListCall(method="spotPrivateGetOpenOrders"),
    closed_orders=(
        ListCall(
            method="spotPrivateGetAllOrders",
            since="startTime",
            until="endTime",
            limit=1000,
            window=24 * HOUR,
            memory=7 * 24 * HOUR,
        ),
    ),
    trades=(
        ListCall(
            method="spotPrivateGetMyTrades",
            since="startTime",
            until="endTime",
            limit=100,
            window=HOUR,
            memory=30 * 24 * HOUR,
        ),
    ),
    wording=WORDING,
    options={"defaultType": "spot", "broker": ""},
    markets_method="fetch_spot_markets",
    rates=Rates(orders=5.0, cancels=5.0, reads=10.0, burst=10),
)
