"""Requests under way, as text: what a late request says is kept in the exchange's file until it arrives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from ..models import OrderRequest, OrderType, Side, TimeInForce, plain_decimal


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Which order to cancel: by the exchange's id where it is given, else by client id."""

    exchange_order_id: str | None
    client_order_id: str


Request = OrderRequest | CancelRequest


def encode(request: Request) -> str:
    """The request as JSON."""
    if isinstance(request, CancelRequest):
        return json.dumps({"cancel": request.exchange_order_id, "client_order_id": request.client_order_id})
    return json.dumps(
        {
            "client_order_id": request.client_order_id,
            "symbol": request.symbol,
            "side": request.side.value,
            "type": request.type.value,
            "amount": plain_decimal(request.amount),
            "price": None if request.price is None else plain_decimal(request.price),
            "stop_price": None if request.stop_price is None else plain_decimal(request.stop_price),
            "time_in_force": request.time_in_force.value,
            "post_only": request.post_only,
        }
    )


def decode(text: str) -> Request:
    """The reverse of :func:`encode`."""
    fields = json.loads(text)
    if "cancel" in fields:
        return CancelRequest(fields["cancel"], fields["client_order_id"])
    return OrderRequest(
        client_order_id=fields["client_order_id"],
        symbol=fields["symbol"],
        side=Side(fields["side"]),
        type=OrderType(fields["type"]),
        amount=Decimal(fields["amount"]),
        price=None if fields["price"] is None else Decimal(fields["price"]),
        stop_price=None if fields["stop_price"] is None else Decimal(fields["stop_price"]),
        time_in_force=TimeInForce(fields["time_in_force"]),
        post_only=fields["post_only"],
    )
