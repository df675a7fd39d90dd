"""The watch over orders and trades: what is new since one looked last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..paper_exchange.records import OrderReport
from .house import House
from .shapes import Shapes
from .unthrottled import unthrottled

LOOK_BACK: Final = timedelta(seconds=30)
"""Closed orders are looked at for so long after they closed; a watch that slept longer looks back further."""
_ALWAYS: Final = datetime(9000, 1, 1, tzinfo=UTC)

Face = tuple[str, str, int]
"""What an event shows of an order: status, filled amount, number of trades."""


class Watch:
    """Compares the book with what it was. It rests while nobody listens."""

    def __init__(self, house: House, shapes: Shapes) -> None:
        self._house = house
        self._shapes = shapes
        self._known: dict[int, Face] | None = None
        self._looked_at = datetime.fromtimestamp(0, UTC)

    def wake(self) -> None:
        """Start from the book as it is now, unless the watch is on."""
        if self._known is None:
            self._known = {report.order.id: self._face(report) for report in self._look()}

    def rest(self) -> None:
        """Nobody listens: forget everything."""
        self._known = None

    def news(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Events of orders and of trades since the last look, oldest order first."""
        known, self._known = self._known or {}, {}
        orders: list[dict[str, Any]] = []
        trades: list[dict[str, Any]] = []
        for report in self._look():
            face = self._known[report.order.id] = self._face(report)
            before = known.get(report.order.id)
            if before != face:
                orders.append(self._shapes.order_event(report))
                seen = 0 if before is None else before[2]
                trades += [self._shapes.trade_event(trade) for trade in report.trades[seen:]]
        return orders, trades

    def _look(self) -> list[OrderReport]:
        exchange, now = self._house.exchange, self._house.clock.now()
        since = min(now, self._looked_at if self._known is not None else now) - LOOK_BACK
        self._looked_at = now
        found = {}
        for answer in (exchange.open_orders(), exchange.closed_orders(since, _ALWAYS)):
            for report in unthrottled(answer):
                if self._house.markets.knows(report.order.symbol):
                    found[report.order.id] = report
        return [found[order_id] for order_id in sorted(found)]

    def _face(self, report: OrderReport) -> Face:
        return (self._shapes.status(report.order), str(report.order.filled), len(report.trades))
