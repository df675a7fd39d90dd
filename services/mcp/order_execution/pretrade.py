"""The pre-commit phase: the market's rules and our own limits, checked before anything is written or sent."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Final

from .errors import InvalidOrder, RiskLimitExceeded
from .exact import EXACT, is_multiple, total
from .gateways.base import GatewayTraits, Market, Ticker
from .models import ZERO, Order, OrderRequest, OrderType, Side, TimeInForce, plain_decimal

_MARKET: Final = OrderType.MARKET
_GTC: Final = TimeInForce.GTC
MARKET_ORDER_MARGIN: Final = Decimal("0.01")
"""How far the price of a market order may move before it trades, in its estimated cost."""


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Limits of ours. Notional is in quote currency; positions are by base currency; None: no limit."""

    max_order_notional: Decimal | None = None
    max_open_orders: int | None = None
    max_orders_per_minute: int | None = None
    max_position: Mapping[str, Decimal] = field(default_factory=dict)
    price_collar_percent: Decimal | None = None

    def need_price(self, request: OrderRequest) -> bool:
        """Whether these limits can only be checked against the market's present price."""
        if self.price_collar_percent is not None and request.price is not None:
            return True
        return self.max_order_notional is not None and request.price is None


def check_traits(request: OrderRequest, traits: GatewayTraits, exchange: str) -> None:
    """Refuse what the exchange does not offer. Raises InvalidOrder."""
    if request.type not in traits.order_types:
        offered = ", ".join(sorted(traits.order_types))
        raise InvalidOrder("type", f"a type that {exchange} offers ({offered})", got=request.type)
    if request.time_in_force not in traits.times_in_force:
        offered = ", ".join(sorted(traits.times_in_force))
        raise InvalidOrder("time_in_force", f"one that {exchange} offers ({offered})", got=request.time_in_force)
    if request.post_only and not traits.post_only:
        raise InvalidOrder("post_only", f"False, since {exchange} does not offer it")
    if traits.accepts_client_ids:
        order_id = request.client_order_id
        pattern = traits.client_id_pattern
        if len(order_id) > traits.client_id_max_length or not _compiled(pattern).fullmatch(order_id):
            expected = f"at most {traits.client_id_max_length} characters matching {pattern} at {exchange}"
            raise InvalidOrder("client_order_id", expected, got=order_id)


@lru_cache(maxsize=32)
def _compiled(pattern: str) -> re.Pattern[str]:
    """An exchange's pattern; ``re`` remembers it too, but every order would ask for it by three calls."""
    return re.compile(pattern)


def quantise(request: OrderRequest, market: Market) -> OrderRequest:
    """Give the request back if amount and prices are in the market's steps; nothing is rounded.

    Raises InvalidOrder.
    """
    amount = request.amount
    _check_steps("amount", amount, market.amount_step, market.symbol)
    if amount < market.min_amount:
        raise InvalidOrder("amount", f"at least {plain_decimal(market.min_amount)} for {market.symbol}", got=amount)
    if market.max_amount is not None and amount > market.max_amount:
        raise InvalidOrder("amount", f"at most {plain_decimal(market.max_amount)} for {market.symbol}", got=amount)
    price, stop_price = request.price, request.stop_price
    if price is not None:
        _check_steps("price", price, market.price_tick, market.symbol)
    if stop_price is not None:
        _check_steps("stop_price", stop_price, market.price_tick, market.symbol)
    if price is not None and EXACT.multiply(amount, price) < market.min_notional:
        least = plain_decimal(market.min_notional)
        raise InvalidOrder(
            "amount",
            f"amount × price of at least {least} {market.quote}",
            got=plain_decimal(EXACT.multiply(amount, price)),
        )
    return request


def _check_steps(name: str, value: Decimal, step: Decimal, symbol: str) -> None:
    if step > ZERO and not is_multiple(value, step):
        shown = plain_decimal(step.normalize())
        raise InvalidOrder(name, f"a multiple of {shown} for {symbol}", got=plain_decimal(value))


def estimated_price(request: OrderRequest, ticker: Ticker | None) -> Decimal | None:
    """The price that an order is expected to trade at, at worst; None where it cannot be told."""
    if request.price is not None:
        return request.price
    if request.stop_price is not None:
        base = request.stop_price
    elif ticker is not None:
        base = ticker.ask if request.side is Side.BUY else ticker.bid
    else:
        return None
    margin = MARKET_ORDER_MARGIN if request.side is Side.BUY else ZERO
    return base * (1 + margin)


def funds_needed(request: OrderRequest, market: Market, price: Decimal | None) -> tuple[str, Decimal] | None:
    """The currency and amount that an order blocks; None where its cost cannot be told."""
    if request.side is Side.SELL:
        return market.base, request.amount
    return None if price is None else (market.quote, EXACT.multiply(request.amount, price))


@dataclass(frozen=True, slots=True)
class _Exposure:
    """What an order that is not final may still trade."""

    symbol: str
    side: Side
    remaining: Decimal


class RiskGuard:
    """Consults the limits before every order. Decides, and remembers when orders were let through."""

    def __init__(self, limits: RiskLimits, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self._monotonic = monotonic
        self._let_through: deque[float] = deque()
        self._admitted: dict[str, OrderRequest] = {}

    def check(
        self,
        request: OrderRequest,
        market: Market,
        ticker: Ticker | None,
        live: Iterable[Order],
        position: Decimal | None,
    ) -> None:
        """Raise RiskLimitExceeded for the first limit that the order would break.

        ``position`` is what the account holds of the base currency; None where it is not known.
        """
        self._check_notional(request, market, ticker)
        self._check_collar(request, ticker)
        self._check_rate()
        if self.limits.max_open_orders is None and market.base not in self.limits.max_position:
            return  # nothing below needs to look at every order
        orders = self._exposures(live)
        orders.pop(request.client_order_id, None)
        self._check_count(len(orders))
        self._check_position(request, market, orders.values(), position)

    def _exposures(self, live: Iterable[Order]) -> dict[str, _Exposure]:
        """Every order that may still trade: those in the registry, and those let through on their way there."""
        orders = {order.order_id: _Exposure(order.symbol, order.side, order.remaining) for order in live}
        for order_id, item in self._admitted.items():
            orders.setdefault(order_id, _Exposure(item.symbol, item.side, item.amount))
        return orders

    def admit(self, request: OrderRequest) -> None:
        """Count an order against the limits, before it stands in the registry."""
        self._admitted[request.client_order_id] = request
        if self.limits.max_orders_per_minute is not None:
            self._let_through.append(self._monotonic())

    def leave(self, order_id: str) -> None:
        """The order stands in the registry, or nowhere: it counts there, or no more."""
        self._admitted.pop(order_id, None)

    def _check_notional(self, request: OrderRequest, market: Market, ticker: Ticker | None) -> None:
        most = self.limits.max_order_notional
        if most is None:
            return
        price = estimated_price(request, ticker)
        if price is None:
            raise RiskLimitExceeded("max_order_notional", "the market's price is not known, so neither is the cost")
        notional = EXACT.multiply(request.amount, price)
        if notional > most:
            raise RiskLimitExceeded(
                "max_order_notional",
                f"{plain_decimal(notional)} {market.quote} is above {plain_decimal(most)}",
            )

    def _check_collar(self, request: OrderRequest, ticker: Ticker | None) -> None:
        percent = self.limits.price_collar_percent
        if percent is None or request.price is None:
            return
        if ticker is None:
            raise RiskLimitExceeded("price_collar_percent", "the market's price is not known")
        deviation = abs(request.price - ticker.last) / ticker.last * 100
        if deviation > percent:
            raise RiskLimitExceeded(
                "price_collar_percent",
                f"{plain_decimal(request.price)} is {deviation:.2f} % from the last price "
                f"{plain_decimal(ticker.last)}, more than {plain_decimal(percent)} %",
            )

    def _check_count(self, live: int) -> None:
        most = self.limits.max_open_orders
        if most is not None and live >= most:
            raise RiskLimitExceeded("max_open_orders", f"{live} orders are open, the most is {most}")

    def _check_rate(self) -> None:
        rate = self.limits.max_orders_per_minute
        if rate is None:
            return
        since = self._monotonic() - 60
        while self._let_through and self._let_through[0] <= since:
            self._let_through.popleft()
        if len(self._let_through) >= rate:
            raise RiskLimitExceeded("max_orders_per_minute", f"{rate} orders were placed in the last minute")

    def _check_position(
        self, request: OrderRequest, market: Market, live: Iterable[_Exposure], position: Decimal | None
    ) -> None:
        most = self.limits.max_position.get(market.base)
        if most is None or request.side is Side.SELL:
            return
        if position is None:
            raise RiskLimitExceeded("max_position", f"how much {market.base} the account holds is not known")
        buys = (o for o in live if o.side is Side.BUY and o.symbol.partition("/")[0] == market.base)
        after = total((position, request.amount, *(o.remaining for o in buys)))
        if after > most:
            raise RiskLimitExceeded(
                "max_position", f"{plain_decimal(after)} {market.base} would be above {plain_decimal(most)}"
            )


def trades_at_once(request: OrderRequest | Order) -> bool:
    """Whether an order is expected to be final as soon as it is accepted."""
    return request.type is _MARKET or request.time_in_force is not _GTC
