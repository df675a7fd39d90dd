"""From a row of the table, or from there being none, to what the executor may promise."""

from __future__ import annotations

from typing import Any, Final

from ...models import OrderType
from ..base import GatewayTraits, IdScope, ListScope, LookupScope
from .row import Row, window

CONSERVATIVE_SETTLE_SECONDS: Final = 60.0


def traits_of(
    row: Row | None,
    exchange: Any,
    *,
    streams: bool,
    settle_seconds: float | None = None,
    request_expiry_seconds: float | None = None,
) -> GatewayTraits:
    """The traits of an exchange; the two durations override the row's."""
    if row is None:
        return conservative(exchange, settle_seconds, request_expiry_seconds)
    expiry = row.expiry
    seconds = None if expiry is None else expiry.seconds + expiry.margin
    if request_expiry_seconds is not None:
        # Never below what the exchange is told; where it is told nothing, its own time holds, whatever is set.
        told = window(expiry, request_expiry_seconds)
        least = 0.0 if expiry is None or told is None else told + expiry.margin
        seconds = max(request_expiry_seconds, least)
    return GatewayTraits(
        client_id_scope=row.id_scope,
        lookup_scope=row.lookup_scope,
        lists_closed_orders=bool(row.closed_orders),
        lists_trades=bool(row.trades),
        request_expiry=seconds,
        settle=row.settle if settle_seconds is None else settle_seconds,
        list_scope=row.list_scope,
        cancels_by_client_id=row.cancel_param is not None,
        streams_orders=streams,
        client_id_max_length=row.ids.max_length,
        client_id_pattern=row.ids.pattern,
        order_types=row.order_types,
        times_in_force=row.times_in_force,
        post_only=row.post_only,
        order_requests_per_second=row.rates.orders,
        cancel_requests_per_second=row.rates.cancels,
        read_requests_per_second=row.rates.reads,
        burst=row.rates.burst,
    )


def conservative(
    exchange: Any, settle_seconds: float | None, request_expiry_seconds: float | None
) -> GatewayTraits:
    """Nothing that would have to be known of the exchange; its rate is what ccxt paces itself by."""
    pause = float(exchange.rateLimit or 1_000.0) / 1_000.0
    rate = 1.0 / pause if pause > 0 else None
    return GatewayTraits(
        client_id_scope=IdScope.NONE,
        lookup_scope=LookupScope.NONE,
        lists_closed_orders=False,
        lists_trades=False,
        request_expiry=request_expiry_seconds,
        settle=CONSERVATIVE_SETTLE_SECONDS if settle_seconds is None else settle_seconds,
        list_scope=ListScope.SYMBOL,
        accepts_client_ids=False,
        cancels_by_client_id=False,
        streams_orders=False,
        client_id_max_length=64,
        order_types=frozenset({OrderType.LIMIT}),
        order_requests_per_second=rate,
        cancel_requests_per_second=rate,
        read_requests_per_second=rate,
        burst=1,
    )
