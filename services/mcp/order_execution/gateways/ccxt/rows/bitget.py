"""Bitget spot, in a classic account."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, ListScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Row, Wording, coded

KEPT_SECONDS: Final = 90 * 86_400.0

WORDING: Final = Wording(
    codes=(("code",),),
    words=(("msg",),),
    duplicates=coded("duplicate", "40786", "40708", "43118", "45034", "50060", "25212"),
    refusals=(
        *coded("insufficient_funds", "43012", "40762", "40754", "50004"),
        *coded("min_notional", "45110", "43007", "43033"),
        *coded("price_out_of_range", "41117", "43008", "43009", "50067"),
        *coded("invalid_precision", "40808", "41103"),
        *coded("amount_too_large", "45113", "43006", "40108"),
        *coded("invalid_price", "40706"),
        *coded("invalid_symbol", "40034", "40309"),
        *coded("invalid_request", "40017", "40019", "40020", "40500", "40305", "43011", "400172"),
        *coded("account_restricted", "40085", "40301"),
    ),
    not_found=coded("order_not_found", "43001", "40109", "40768", "31007"),
    not_open=coded("not_open", "43002", "43004", "43005"),
    throttles=coded("throttled", "429", "30007"),
    untimely=coded("untimely", "40004", "40005", "40008"),
    credentials=coded(
        "credentials",
        "40001",
        "40002",
        "40003",
        "40006",
        "40009",
        "40010",
        "40011",
        "40012",
        "40014",
        "40018",
        "40037",
    ),
)

ROW: Final = Row(
    exchange="bitget",
    name="Bitget",
    sources=(
        "www.bitget.com/api-doc/spot/trade: clientOid; orderInfo finds by orderId or clientOid",
        "the same: unfilled-orders, history-orders and fills, pages of 100 by idLessThan, 90 days",
        "www.bitget.com/api-doc/common/signature: a timestamp is good for 30 s",
        "bitgetlimited.github.io/apidoc, error codes: 40786, 40708, 43118, 45034, 50060 for a repeated clientOid",
        "ccxt 4.5.90 bitget.py: clientOid is sent",
    ),
    assumptions=(
        "a repeated clientOid is refused among open orders at least",
        "orderInfo answers an unknown order with 43001, 40109 or 40768, or with an empty list",
        "an accepted order is found within 10 s",
        "the account is a classic one: a unified one refuses every request with 40085",
    ),
    workarounds=("ccxt asks for the kind of account before an order: it is told the answer",),
    ids=IdForm(40, r"[A-Za-z0-9_-]+"),
    create_param="clientOrderId",
    wire_field="clientOid",
    cancel_param="clientOrderId",
    id_scope=IdScope.OPEN_ORDERS,
    lookup_scope=LookupScope.ALL,
    list_scope=ListScope.SYMBOL,
    expiry=Expiry(seconds=30.0),
    settle=10.0,
    lookup_memory=KEPT_SECONDS,
    lookups=(
        Lookup(
            method="privateSpotGetV2SpotTradeOrderInfo",
            rows=("data",),
            listed=True,
            by_exchange_id="orderId",
            by_client_id="clientOid",
            symbol=None,
        ),
    ),
    open_orders=ListCall(
        method="privateSpotGetV2SpotTradeUnfilledOrders",
        rows=("data",),
        limit=100,
        pager=Pager(kind=PagerKind.LAST_ROW, param="idLessThan", at=("orderId",), falls=True),
    ),
    closed_orders=(
        ListCall(
            method="privateSpotGetV2SpotTradeHistoryOrders",
            rows=("data",),
            since="startTime",
            until="endTime",
            limit=100,
            pager=Pager(kind=PagerKind.LAST_ROW, param="idLessThan", at=("orderId",), falls=True),
            memory=KEPT_SECONDS,
        ),
    ),
    trades=(
        ListCall(
            method="privateSpotGetV2SpotTradeFills",
            rows=("data",),
            since="startTime",
            until="endTime",
            limit=100,
            pager=Pager(kind=PagerKind.LAST_ROW, param="idLessThan", at=("tradeId",), falls=True),
            memory=KEPT_SECONDS,
        ),
    ),
    wording=WORDING,
    options={"defaultType": "spot", "uta": False, "broker": "", "fetchMarkets": {"types": ["spot"]}},
    market_buys=False,
    rates=Rates(orders=10.0, cancels=10.0, reads=10.0, burst=10),
    needs_password=True,
)
