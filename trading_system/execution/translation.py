"""Between the engine's words and the core's."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from services.mcp.order_execution.errors import InvalidOrder
from services.mcp.order_execution.models import Order as CoreOrder
from services.mcp.order_execution.models import OrderState
from services.mcp.order_execution.parameters import parse_decimal

from .orders import Order, OrderFill, OrderSide, OrderStatus, OrderTimeInForce, OrderType

QUOTES: Final = ("USDT", "IRT", "RLS", "USDC", "BTC", "USD", "EUR")
"""Quote currencies by which a symbol without a separator is divided."""
TIMEOUT_MAX: Final = 86_400
"""Seconds."""
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
"""What Nobitex takes as a client order id, and every other exchange too."""
_STATUS: Final = {
    OrderState.PENDING: OrderStatus.PENDING,
    OrderState.SENDING: OrderStatus.UNRESOLVED,
    OrderState.UNKNOWN: OrderStatus.UNRESOLVED,
    OrderState.OPEN: OrderStatus.OPEN,
    OrderState.PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
    OrderState.CANCELING: OrderStatus.CANCELING,
    OrderState.FILLED: OrderStatus.FILLED,
    OrderState.CANCELED: OrderStatus.CANCELED,
    OrderState.EXPIRED: OrderStatus.EXPIRED,
    OrderState.REJECTED: OrderStatus.REJECTED,
}


def unified_symbol(symbol: object) -> str:
    """``btc-usdt``, ``BTC_USDT``, ``BTCUSDT`` or ``BTC/USDT`` → ``BTC/USDT``; rial (``rls``) is ``IRT``.

    Raises InvalidOrder.
    """
    text = symbol.strip().upper() if isinstance(symbol, str) else ""
    parts = re.split(r"[-_/]", text)
    if len(parts) == 1:
        quote = next((quote for quote in QUOTES if text.endswith(quote) and text != quote), None)
        parts = [text.removesuffix(quote), quote] if quote else parts
    if len(parts) != 2 or not all(re.fullmatch(r"[A-Z0-9]{1,20}", part) for part in parts):
        raise InvalidOrder("symbol", 'a symbol such as "btc-usdt" or "BTC/USDT"', got=symbol)
    base, quote = parts
    return f"{base}/{'IRT' if quote == 'RLS' else quote}"


def client_order_id(order_id: object) -> str:
    """The one client order id that an order id of the caller's stands for, today and after any restart.

    An id that exchanges take as it is stays so; a UUID loses its dashes; anything else becomes its digest.
    Raises InvalidOrder.
    """
    if not isinstance(order_id, str) or not order_id or len(order_id) > 1_000:
        raise InvalidOrder("order_id", "a text of 1 to 1000 characters", got=order_id)
    if _CLIENT_ID.fullmatch(order_id):
        return order_id
    try:
        return uuid.UUID(order_id).hex
    except ValueError:
        return hashlib.blake2b(order_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def parse_timeout(timeout: object, default: float) -> float:
    """Seconds that an order may take; the default for None. Raises InvalidOrder."""
    if timeout is None:
        return default
    seconds = parse_decimal("timeout", timeout)
    if seconds > TIMEOUT_MAX:
        raise InvalidOrder("timeout", f"at most {TIMEOUT_MAX} seconds", got=timeout)
    return float(seconds)


def parse_stop_timeout(timeout: object, default: float) -> float:
    """Seconds that a stop may take, 0 among them; the default for None. Raises InvalidOrder."""
    if isinstance(timeout, (int, float, Decimal)) and not isinstance(timeout, bool) and timeout == 0:
        return 0.0
    return parse_timeout(timeout, default)


def core_params(order: Order) -> dict[str, Any]:
    """The core's parameters for an order. Raises InvalidOrder."""
    if not isinstance(order, Order):
        raise InvalidOrder("order", "an Order of trading_system.execution.orders", got=type(order).__name__)
    params: dict[str, Any] = {
        "client_order_id": client_order_id(order.order_id),
        "symbol": unified_symbol(order.symbol),
        "side": _value(OrderSide, "side", order.side),
        "type": _value(OrderType, "order_type", order.order_type),
        "amount": order.quantity,
        "price": order.price,
        "stop_price": order.stop_price,
    }
    time_in_force = _value(OrderTimeInForce, "time_in_force", order.time_in_force)
    if order.order_type is not OrderType.MARKET or time_in_force == "FOK":
        # A market order never rests: "immediate or cancel" and "good till canceled" say nothing of it.
        params["time_in_force"] = time_in_force
    if order.post_only:
        params["post_only"] = True
    return {name: value for name, value in params.items() if value is not None}


def _value(kind: type[Any], field: str, value: object) -> str:
    if not isinstance(value, kind):
        raise InvalidOrder(field, f"one of {', '.join(str(item) for item in kind)}", got=value)
    return str(value.value)


def engine_order(order_id: str, order: CoreOrder) -> Order:
    """The engine's view of an order that the core follows, under the caller's own id."""
    return Order(
        order_id=order_id,
        symbol=order.symbol,
        side=OrderSide(order.side.value),
        order_type=OrderType(order.type.value),
        quantity=order.amount,
        price=order.price,
        stop_price=order.stop_price,
        time_in_force=OrderTimeInForce(order.time_in_force.value),
        post_only=order.post_only,
        timestamp=milliseconds(order.created_at),
        status=_STATUS[order.state],
        exchange_order_id=order.exchange_order_id,
        filled_quantity=order.filled,
        average_price=order.average_price,
        fees=order.fees,
        fills=tuple(
            OrderFill(fill.trade_id, fill.price, fill.amount, fill.fee, fill.fee_currency, milliseconds(fill.at))
            for fill in order.fills
        ),
        reason=order.reason,
    )


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970, UTC."""
    return int(Decimal(str(at.timestamp())) * 1000)
