"""The kinds of exchange on which bots are killed. Their times are short: a kill should not take long to prove."""

from __future__ import annotations

from dataclasses import replace

from services.mcp.order_execution.gateways.base import GatewayTraits, IdScope, LookupScope
from services.mcp.order_execution.models import OrderType, TimeInForce

FOREVER = GatewayTraits(
    client_id_scope=IdScope.FOREVER,
    lookup_scope=LookupScope.ALL,
    lists_closed_orders=True,
    lists_trades=False,
    request_expiry=0.25,
    settle=0.05,
    order_types=frozenset(OrderType),
    times_in_force=frozenset(TimeInForce),
)
TRAITS = {
    "forever": FOREVER,
    "open": replace(FOREVER, client_id_scope=IdScope.OPEN_ORDERS, lookup_scope=LookupScope.OPEN_ORDERS),
    "never expires": replace(
        FOREVER,
        client_id_scope=IdScope.OPEN_ORDERS,
        lookup_scope=LookupScope.OPEN_ORDERS,
        request_expiry=None,
        settle=0.4,
    ),
    "not unique": replace(FOREVER, client_id_scope=IdScope.NONE),
    "no ids": replace(
        FOREVER,
        client_id_scope=IdScope.NONE,
        lookup_scope=LookupScope.NONE,
        accepts_client_ids=False,
        cancels_by_client_id=False,
    ),
}
