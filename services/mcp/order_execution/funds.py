"""The account's balances as far as they are known: what is free, what is reserved, what fills should have moved.

An order's funds are reserved from before it is sent until a balance that was asked for after the exchange had
accepted it (and so blocked them itself), or until it is known never to have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from .clock import Clock
from .errors import InsufficientFunds
from .exact import EXACT
from .gateways.base import Balances, Unavailable
from .models import ZERO, EventKind, Fill, OrderEvent, Side, plain_decimal
from .wire import Wire

MIN_REFRESH_SECONDS: Final = 0.5
"""A balance younger than this is not asked for again."""


@dataclass(slots=True)
class _Reservation:
    currency: str
    amount: Decimal
    accepted_at: float | None = None


class Funds:
    """Free, reserved and expected balances of one account."""

    def __init__(self, wire: Wire, clock: Clock, *, timeout: float = 10.0) -> None:
        self._wire = wire
        self._clock = clock
        self._timeout = timeout
        self._balances: Balances | None = None
        self._asked_at = self._filled_at = float("-inf")
        self._reserved: dict[str, _Reservation] = {}
        self._reserved_of: dict[str, Decimal] = {}
        """Sums by currency, kept up to date since they are asked for on every order's way."""
        self._expected: dict[str, Decimal] = {}
        self._refreshing: asyncio.Task[bool] | None = None

    # ---- balances -----------------------------------------------------------------------------------------

    async def refresh(self, *, max_age: float = MIN_REFRESH_SECONDS) -> bool:
        """Ask for the balances unless they are younger than ``max_age`` seconds, and than the latest fill.

        Concurrent callers share one request. False when unavailable.
        """
        if self._clock.monotonic() - self._asked_at < max_age and self._asked_at > self._filled_at:
            return True
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._ask(), name="balances")
            return await asyncio.shield(self._refreshing)
        joined = self._refreshing
        answered = await asyncio.shield(joined)
        if not answered or self._asked_at > self._filled_at:
            return answered
        if self._refreshing is joined:  # it was asked for before the latest fill: once more, for all who joined
            self._refreshing = asyncio.get_running_loop().create_task(self._ask(), name="balances")
        return await asyncio.shield(self._refreshing)

    async def _ask(self) -> bool:
        asked_at = self._clock.monotonic()
        answer = await self._wire.read(self._wire.gateway.balances, asked_at + self._timeout)
        if isinstance(answer, Unavailable):
            return False
        self._balances, self._asked_at = answer, asked_at
        if self._expected:
            for currency, balance in answer.currencies.items():
                self._expected.setdefault(currency, balance.total)
        for order_id, reservation in list(self._reserved.items()):
            if reservation.accepted_at is not None and reservation.accepted_at < asked_at:
                self.release(order_id)
        return True

    def total(self, currency: str) -> Decimal | None:
        """What the account holds of a currency; None as long as no balance was read."""
        if self._balances is None:
            return None
        balance = self._balances.currencies.get(currency)
        return ZERO if balance is None else balance.total

    def available(self, currency: str) -> Decimal | None:
        """What is free and not reserved; None as long as no balance was read."""
        if self._balances is None:
            return None
        balance = self._balances.currencies.get(currency)
        return EXACT.subtract(ZERO if balance is None else balance.free, self.reserved(currency))

    def _lists(self, currency: str) -> bool:
        return self._balances is not None and currency in self._balances.currencies

    async def close(self) -> None:
        """Stop a refresh that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    # ---- reservations -------------------------------------------------------------------------------------

    def reserved(self, currency: str) -> Decimal:
        """What orders in flight have reserved of a currency."""
        return self._reserved_of.get(currency, ZERO)

    @property
    def reservations(self) -> Mapping[str, Decimal]:
        """Order id → reserved amount."""
        return {order_id: item.amount for order_id, item in self._reserved.items()}

    async def reserve(self, order_id: str, needed: tuple[str, Decimal] | None) -> None:
        """Set funds aside for an order. Raises InsufficientFunds.

        Where the exchange does not tell the balances, nothing is refused: the exchange decides.
        """
        if self.reserve_known(order_id, needed) or needed is None:
            return
        currency, amount = needed
        await self.refresh(max_age=MIN_REFRESH_SECONDS if self._lists(currency) else 0.0)
        available = self.available(currency)
        if available is not None and available < amount:
            raise InsufficientFunds(
                f"{plain_decimal(amount)} {currency} needed, {plain_decimal(max(available, ZERO))} available "
                f"({plain_decimal(self.reserved(currency))} reserved for orders in flight)",
                order_id=order_id,
            )
        self._set_aside(order_id, currency, amount)

    def reserve_known(self, order_id: str, needed: tuple[str, Decimal] | None) -> bool:
        """Set funds aside if what is known of the balances suffices, or nothing is needed."""
        if needed is None:
            return True
        currency, amount = needed
        balance = None if self._balances is None else self._balances.currencies.get(currency)
        if balance is None or balance.free < EXACT.add(self.reserved(currency), amount):
            return False
        self._set_aside(order_id, currency, amount)
        return True

    def _set_aside(self, order_id: str, currency: str, amount: Decimal) -> None:
        if order_id in self._reserved:
            self.release(order_id)
        self._reserved[order_id] = _Reservation(currency, amount)
        self._reserved_of[currency] = EXACT.add(self.reserved(currency), amount)

    def release(self, order_id: str) -> None:
        """Give an order's funds free: it provably is not at the exchange, or the exchange has blocked them."""
        reservation = self._reserved.pop(order_id, None)
        if reservation is not None:
            held = self._reserved_of[reservation.currency]
            self._reserved_of[reservation.currency] = EXACT.subtract(held, reservation.amount)

    def hear(self, event: OrderEvent) -> None:
        """Follow what happens to orders."""
        order = event.order
        if event.fill is not None and event.kind is EventKind.FILL:
            self._filled_at = self._clock.monotonic()
            self._expect(order.symbol, order.side, event.fill)
        reservation = self._reserved.get(order.order_id)
        if reservation is None:
            return
        if order.exchange_order_id is None:
            if order.state.is_final:
                self.release(order.order_id)
        elif reservation.accepted_at is None:
            reservation.accepted_at = self._clock.monotonic()

    # ---- the impact of fills ------------------------------------------------------------------------------

    def _expect(self, symbol: str, side: Side, fill: Fill) -> None:
        base, _, quote = symbol.partition("/")
        cost = EXACT.multiply(fill.price, fill.amount)
        bought = side is Side.BUY
        self._add(base, fill.amount if bought else fill.amount.copy_negate())
        self._add(quote.partition(":")[0], cost.copy_negate() if bought else cost)
        if fill.fee:
            self._add(fill.fee_currency, fill.fee.copy_negate())

    def _add(self, currency: str, amount: Decimal) -> None:
        if currency in self._expected:
            self._expected[currency] = EXACT.add(self._expected[currency], amount)

    @property
    def has_baseline(self) -> bool:
        """Whether it is known what the balances should be."""
        return bool(self._expected)

    def forget_baseline(self) -> None:
        """Expect nothing of the balances, until the next ``rebase()``."""
        self._expected = {}

    def rebase(self) -> None:
        """Take the present balances for right: expect further fills to move them from here."""
        if self._balances is not None:
            self._expected = {name: item.total for name, item in self._balances.currencies.items()}

    def deviations(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Currencies whose balance is not what fills say: (expected, told by the exchange)."""
        if self._balances is None:
            return {}
        found = {}
        for currency, expected in self._expected.items():
            balance = self._balances.currencies.get(currency)
            told = ZERO if balance is None else balance.total
            if told != expected:
                found[currency] = (expected, told)
        return found
