"""Kraken spot."""

from __future__ import annotations

from typing import Final

from ...base import IdScope, LookupScope
from ..client_ids import IdForm
from ..row import Expiry, ListCall, Lookup, Pager, PagerKind, Rates, Refusal, Row, Stamp, Wording

_DUPLICATE: Final = (
    r"(cl_ord_id|client.order.id).*(duplicate|already|exist|in use|unique)|duplicate.*(cl_ord_id|client.order)"
)

WORDING: Final = Wording(
    codes=(("error", 0),),
    words=(("error", 0),),
    duplicates=(Refusal("", "duplicate", _DUPLICATE),),
    refusals=(
        Refusal("EOrder:Insufficient funds", "insufficient_funds"),
        Refusal("EOrder:Order minimum not met", "min_notional"),
        Refusal("EOrder:Cost minimum not met", "min_notional"),
        Refusal("EGeneral:Invalid arguments:volume minimum not met", "min_notional"),
        Refusal("EGeneral:Invalid arguments:volume", "invalid_amount"),
        Refusal("EGeneral:Invalid arguments:price", "invalid_price"),
        Refusal("EGeneral:Invalid arguments:ordertype", "invalid_request"),
        Refusal("EGeneral:Invalid arguments", "invalid_request"),
        Refusal("EOrder:Invalid price", "invalid_price"),
        Refusal("EOrder:Invalid price:Invalid price argument", "invalid_price"),
        Refusal("EOrder:Tick size check failed", "invalid_price"),
        Refusal("EOrder:Post only order", "would_trade"),
        Refusal("EOrder:Orders limit exceeded", "too_many_orders"),
        Refusal("EOrder:Positions limit exceeded", "position_limit"),
        Refusal("EOrder:Trading agreement required", "account_restricted"),
        Refusal("EQuery:Unknown asset pair", "invalid_symbol"),
        Refusal("EService:Market in cancel_only mode", "market_closed"),
        Refusal("EService:Market in post_only mode", "market_closed"),
        Refusal("EService:Market in limit_only mode", "market_closed"),
    ),
    not_found=(
        Refusal("EOrder:Unknown order", "order_not_found"),
        Refusal("EOrder:Invalid order", "order_not_found"),
    ),
    throttles=(
        Refusal("EOrder:Rate limit exceeded", "throttled"),
        Refusal("EAPI:Rate limit exceeded", "throttled"),
        Refusal("EGeneral:Too many requests", "throttled"),
        Refusal("EGeneral:Temporary lockout", "throttled"),
    ),
    untimely=(Refusal("EAPI:Invalid nonce", "untimely"),),
    credentials=(
        Refusal("EAPI:Invalid key", "credentials"),
        Refusal("EAPI:Invalid signature", "credentials"),
        Refusal("EGeneral:Permission denied", "credentials"),
    ),
)

_OFFSET: Final = Pager(kind=PagerKind.OFFSET, param="ofs")

ROW: Final = Row(
    exchange="kraken",
    name="Kraken",
    sources=(
        "docs.kraken.com/api, AddOrder: cl_ord_id is a UUID, 32 hexadecimal digits, or up to 18 ASCII characters",
        "the same: deadline, RFC 3339, 2 s to 60 s ahead, from which on the matching engine refuses the order",
        "the same: cl_ord_id uniquely identifies an open order; OpenOrders and ClosedOrders are filtered by it",
        "the same, ClosedOrders and TradesHistory: 50 rows a page, ofs; start and end",
        "ccxt 4.5.90 kraken.py: cl_ord_id is sent; nonces rise within one process",
    ),
    assumptions=(
        "a repeated cl_ord_id is refused among open orders; in which words is not known: several are taken for it",
        "an accepted order is found within 5 s",
    ),
    workarounds=(
        "ccxt's fetchOrder sends a client id as userref: OpenOrders and ClosedOrders are asked for cl_ord_id",
        "signed requests are written one after another, since Kraken refuses a nonce below the last it saw",
    ),
    ids=IdForm(36, r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|[A-Za-z0-9_-]{1,18}"),
    create_param="clientOrderId",
    wire_field="cl_ord_id",
    cancel_param="clientOrderId",
    id_scope=IdScope.OPEN_ORDERS,
    lookup_scope=LookupScope.ALL,
    expiry=Expiry(seconds=10.0, param="deadline", stamp=Stamp.RFC3339, least=3.0),
    settle=5.0,
    market_key=(),
    cancel_count=("result", "count"),
    cancel_pending=("result", "pending"),
    lookups=(
        Lookup(
            method="privatePostQueryOrders",
            rows=("result",),
            keyed=True,
            by_exchange_id="txid",
            symbol=None,
            params={"trades": "true"},
        ),
        Lookup(
            method="privatePostOpenOrders",
            rows=("result", "open"),
            keyed=True,
            listed=True,
            by_client_id="cl_ord_id",
            symbol=None,
        ),
        Lookup(
            method="privatePostClosedOrders",
            rows=("result", "closed"),
            keyed=True,
            listed=True,
            by_client_id="cl_ord_id",
            symbol=None,
        ),
    ),
    open_orders=ListCall(method="privatePostOpenOrders", rows=("result", "open"), keyed=True, symbol=None),
    closed_orders=(
        ListCall(
            method="privatePostClosedOrders",
            rows=("result", "closed"),
            keyed=True,
            symbol=None,
            params={"closetime": "both"},
            since="start",
            until="end",
            unit=Stamp.SECONDS,
            limit=50,
            limit_param=None,
            pager=_OFFSET,
        ),
    ),
    trades=(
        ListCall(
            method="privatePostTradesHistory",
            rows=("result", "trades"),
            keyed=True,
            symbol=None,
            since="start",
            unit=Stamp.SECONDS,
            limit=50,
            limit_param=None,
            pager=_OFFSET,
        ),
    ),
    wording=WORDING,
    rates=Rates(orders=1.0, cancels=2.0, reads=0.5, burst=15),
    one_at_a_time=True,
)
