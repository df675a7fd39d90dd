"""Which orders the exchange refuses for what they say, funds and client ids apart. Pure."""

from __future__ import annotations

from decimal import Decimal

from ..models import OrderRequest, OrderType, TimeInForce
from .matching import is_stop
from .records import MarketRules

CLIENT_ID_MAX_LENGTH = 64


def malformed(request: OrderRequest, rules: MarketRules) -> str | None:
    """The code of the first rule that the order breaks, or None.

    A market order may carry a price: the worst at which it may trade.
    """
    if not 0 < len(request.client_order_id) <= CLIENT_ID_MAX_LENGTH:
        return "client_order_id"
    limited = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    if limited and request.price is None:
        return "price_required"
    if is_stop(request.type) != (request.stop_price is not None):
        return "stop_price_required" if is_stop(request.type) else "stop_price_not_allowed"
    if request.post_only and (not limited or request.time_in_force is not TimeInForce.GTC):
        return "post_only_conflict"
    if not (request.amount.is_finite() and rules.amount_step <= request.amount <= rules.max_amount):
        return "amount_range"
    if request.amount % rules.amount_step:
        return "amount_step"
    return _price_fault(request.price, rules) or _price_fault(request.stop_price, rules)


def _price_fault(price: Decimal | None, rules: MarketRules) -> str | None:
    if price is None:
        return None
    if not (price.is_finite() and rules.price_tick <= price <= rules.max_price):
        return "price_range"
    return "price_tick" if price % rules.price_tick else None


def too_small(request: OrderRequest, rules: MarketRules, market_price: Decimal) -> bool:
    """True when the order is worth less than the least that the exchange takes."""
    price = request.price or request.stop_price or market_price
    return request.amount * price < rules.min_notional
