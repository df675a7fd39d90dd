"""KuCoin spot, by its high-frequency endpoints, in a classic account."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, ListScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Wording, coded

DAY: Final = 86_400.0

WORDING: Final = Wording(
    codes=(("code",),),
    words=(("msg",),),
    duplicates=(
        *coded("duplicate", "126044", "126033"),
        Refusal("400100", "duplicate", r"client_?oid.*(duplicate|exist)|duplicate.*client_?oid"),
    ),
    refusals=(
        *coded("insufficient_funds", "200004", "210021", "230003", "260100", "126013", "130203", "130301"),
        Refusal("400100", "min_notional", r"below the minimum"),
        Refusal("400100", "invalid_symbol", r"unsupported trading pair"),
        Refusal("600100", "min_notional", r"below the minimum"),
        Refusal("600100", "invalid_amount", r"increment invalid"),
        *coded("min_notional", "600101", "126003"),
        *coded("price_out_of_range", "126022", "126029", "126030", "400330", "400370", "400760"),
        *coded("invalid_symbol", "400600", "400000"),
        *coded("market_closed", "126027", "126028"),
        *coded("account_restricted", "400200", "400303", "126005", "126047", "126048", "130201", "130302"),
    ),
    not_found=(
        *coded("order_not_found", "126043", "100001", "order_not_exist"),
        Refusal("400100", "order_not_found", r"order.?(does )?.?not.?exist"),
    ),
    not_open=(Refusal("400100", "not_open", r"not allow(ed)? to (be )?cancel"),),
    throttles=coded("throttled", "429000", "1015", "200002"),
    untimely=coded("untimely", "400002"),
    credentials=coded("credentials", "400001", "400003", "400004", "400005", "400006", "400007", "400401"),
)

_ITEMS: Final = Pager(kind=PagerKind.CURSOR, param="lastId", at=("data", "lastId"), short_ends=True)

ROW: Final = Row(
    exchange="kucoin",
    name="KuCoin",
    sources=(
        "www.kucoin.com/docs-new, Spot: hf/orders/client-order/{clientOid} finds active orders and final ones",
        "www.kucoin.com/docs-new, order details: cancelled orders are kept for 2 days, filled ones for 7",
        "www.kucoin.com/docs, hf/orders/done and hf/fills: pages by lastId, one symbol",
        "www.kucoin.com/docs, signing: a timestamp is good for 5 s",
        "ccxt 4.5.90 kucoin.py: clientOid is sent; 126044 and 126033 for a repeated one",
    ),
    assumptions=(
        "a repeated clientOid is refused among open orders at least",
        "what rests is found by clientOid however old it is",
        "an accepted order is found within 10 s",
        "the account is a classic one",
    ),
    workarounds=("ccxt asks for the kind of account before an order: it is told the answer",),
    ids=IdForm(40, r"[A-Za-z0-9_-]+"),
    create_param="clientOrderId",
    wire_field="clientOid",
    cancel_param="clientOrderId",
    id_scope=IdScope.OPEN_ORDERS,
    lookup_scope=LookupScope.ALL,
    list_scope=ListScope.SYMBOL,
    expiry=Expiry(seconds=5.0),
    settle=10.0,
    lookup_memory=2 * DAY,
    lookups=(
        Lookup(
            method="privateGetHfOrdersOrderId",
            rows=("data",),
            by_exchange_id="orderId",
        ),
        Lookup(
            method="privateGetHfOrdersClientOrderClientOid",
            rows=("data",),
            by_client_id="clientOid",
        ),
    ),
    open_orders=ListCall(method="privateGetHfOrdersActive", rows=("data",)),
    closed_orders=(
        ListCall(
            method="privateGetHfOrdersDone",
            rows=("data", "items"),
            since="startAt",
            until="endAt",
            limit=100,
            pager=_ITEMS,
            memory=2 * DAY,
        ),
    ),
    trades=(
        ListCall(
            method="privateGetHfFills",
            rows=("data", "items"),
            since="startAt",
            until="endAt",
            limit=100,
            pager=_ITEMS,
            memory=7 * DAY,
        ),
    ),
    wording=WORDING,
    options={
        "defaultType": "spot",
        "hf": True,
        "uta": False,
        "partner": {},
        "fetchMarkets": {"types": ["spot"], "fetchTickersFees": False},
    },
    balance_params={"hf": False},
    rates=Rates(orders=15.0, cancels=15.0, reads=10.0, burst=20),
    needs_password=True,
)
