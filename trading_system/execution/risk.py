"""Who may forbid an order before anything of it is written or sent."""

from __future__ import annotations

from typing import Protocol

from .orders import Order


class OrderForbidden(Exception):
    """A risk manager refuses an order; the text says why."""


class RiskManager(Protocol):
    """Consulted before every order, on top of the limits that are configured. Must be quick, and thread-safe.

    What it refuses is not placed by that call; an order that stands already under the same id stays what it is. An
    error of its own refuses too.
    """

    def check_order(self, order: Order) -> None:
        """Return to let the order pass. Raises OrderForbidden."""
        ...


class NoFurtherLimits:
    """The default: the configured limits are all there is."""

    def check_order(self, order: Order) -> None:
        """Let every order pass."""
