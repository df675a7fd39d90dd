"""The account's funds during one turn: read when first needed, written once at its end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from ..models import ZERO
from .records import Funds
from .store import Store


class Ledger:
    """Funds by currency. A currency that the account never had gets what ``start`` says."""

    def __init__(self, store: Store, start: Callable[[str], Decimal]) -> None:
        self._store = store
        self._start = start
        self._funds: dict[str, Funds] = {}
        self._changed: set[str] = set()

    def funds(self, currency: str) -> Funds:
        """What the account has of a currency."""
        funds = self._funds.get(currency)
        if funds is None:
            funds = self._store.funds(currency)
            if funds is None:
                funds = Funds(self._start(currency))
                self._changed.add(currency)
            self._funds[currency] = funds
        return funds

    def move(self, currency: str, total: Decimal = ZERO, blocked: Decimal = ZERO) -> None:
        """Add to what the account has, and to what of that is blocked."""
        funds = self.funds(currency)
        self._funds[currency] = Funds(funds.total + total, funds.blocked + blocked)
        self._changed.add(currency)

    def flush(self) -> None:
        """Write what has changed."""
        for currency in sorted(self._changed):
            self._store.save_funds(currency, self._funds[currency])
        self._changed.clear()
