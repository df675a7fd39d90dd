"""Our record of an order against the exchange's: what differs, field by field. Pure functions of two values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from .gateways.base import ExchangeOrder
from .models import ZERO, Fill, Order, OrderState, plain_decimal

Differences = dict[str, tuple[str | None, str | None]]
"""Field → (journal's value, exchange's value)."""


def compare(order: Order, seen: ExchangeOrder) -> Differences:
    """Tell what differs. Decimals compare by value; what the exchange does not tell differs from nothing."""
    differences: Differences = {}
    for name in ("symbol", "side", "amount", "filled"):
        _note(differences, name, getattr(order, name), getattr(seen, name))
    if order.exchange_order_id is not None or not order.state.is_final:
        # An order that the exchange refused needs no id of the exchange's.
        _note(differences, "exchange_order_id", order.exchange_order_id, seen.exchange_order_id)
    if order.price is not None and seen.price is not None:
        _note(differences, "price", order.price, seen.price)
    if seen.fills is not None:
        _compare_fills(differences, order, seen.fills)
    if not order.fills and order.filled == seen.filled != ZERO:
        _compare_totals(differences, order, seen)
    _note(differences, "state", order.state.value, expected_state(order, seen).value)
    return differences


def surely_equal(kept: Mapping[str, Any], seen: ExchangeOrder) -> bool:
    """Whether ``compare`` would find no difference, told from the values that the journal keeps, for final orders.

    False says nothing: it is then for ``compare`` to tell.
    """
    fills, state = seen.fills, seen.state
    if fills is None or state is OrderState.REJECTED or not state.is_final:
        return False
    get = kept.get
    try:
        if not (
            kept["state"] == state  # both are text
            and get("exchange_order_id") == seen.exchange_order_id
            and kept["symbol"] == seen.symbol
            and kept["side"] == seen.side
            and Decimal(kept["amount"]) == seen.amount
            and Decimal(get("filled", 0)) == seen.filled
        ):
            return False
        price, fees = get("price"), get("fees")
        if seen.price is not None and price is not None and Decimal(price) != seen.price:
            return False
        if [fill["trade_id"] for fill in get("fills", ())] != [fill.trade_id for fill in fills]:
            return False
        if seen.filled and not fills:
            return False
        charged = _total_fees(fills)
        return charged == {currency: Decimal(fee) for currency, fee in fees.items()} if fees else not charged
    except (KeyError, TypeError, AttributeError, ArithmeticError):
        return False  # a damaged record: reading it whole will tell


def expected_state(order: Order, seen: ExchangeOrder) -> OrderState:
    """The state in which we should have an order that the exchange shows like this."""
    if seen.state.is_final:
        traded = seen.state is OrderState.REJECTED and seen.filled > ZERO
        return OrderState.CANCELED if traded else seen.state
    if order.state is OrderState.CANCELING:
        return OrderState.CANCELING
    return OrderState.PARTIALLY_FILLED if max(order.filled, seen.filled) else OrderState.OPEN


def alike(order: Order, seen: ExchangeOrder) -> bool:
    """Whether an order that the exchange lists without a client id may be this one of ours, by its terms."""
    same = (order.symbol, order.side, order.amount) == (seen.symbol, seen.side, seen.amount)
    return same and (order.price is None or seen.price is None or order.price == seen.price)


def _compare_fills(differences: Differences, order: Order, theirs: tuple[Fill, ...]) -> None:
    """Fills by trade id. Fewer of theirs prove nothing: a listing may begin after the first ones."""
    ours = {fill.trade_id for fill in order.fills}
    listed = {fill.trade_id for fill in theirs}
    if not listed <= ours:
        _note(differences, "fills", str(len(ours)), str(len(ours | listed)))
    elif listed == ours and (fees := _total_fees(theirs)) != dict(order.fees):
        _note(differences, "fees", _fees_text(order.fees), _fees_text(fees))


def _compare_totals(differences: Differences, order: Order, seen: ExchangeOrder) -> None:
    """Without fills of our own the exchange's totals are all there is; with them, ours are exact."""
    if seen.average_price is not None:
        _note(differences, "average_price", order.average_price, seen.average_price)
    if seen.fees and not seen.fills:
        _note(differences, "fees", _fees_text(order.fees), _fees_text(seen.fees))


def _total_fees(fills: Iterable[Fill]) -> dict[str, Decimal]:
    fees: dict[str, Decimal] = {}
    for fill in fills:
        if fill.fee:
            fees[fill.fee_currency] = fees.get(fill.fee_currency, ZERO) + fill.fee
    return fees


def _fees_text(fees: Mapping[str, Decimal]) -> str:
    items = sorted((currency, plain_decimal(amount.normalize())) for currency, amount in fees.items() if amount)
    return ", ".join(f"{amount} {currency}" for currency, amount in items)


def _note(differences: Differences, name: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        differences[name] = (_text(ours), _text(theirs))


def _text(value: object) -> str | None:
    if value is None:
        return None
    return plain_decimal(value) if isinstance(value, Decimal) else str(value)
