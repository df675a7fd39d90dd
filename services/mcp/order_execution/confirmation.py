"""The post-commit phase: receipt → visible at the exchange → fills → balance impact, each step in the order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from . import lifecycle
from .clock import Clock
from .funds import Funds
from .metrics import Metrics
from .models import Order, OrderEvent, OrderState, Step, plain_decimal
from .registry import OrderRegistry
from .tracking import Tracker

_logger = logging.getLogger(__name__)

BALANCE_LOOKS: Final = 3
"""How often balances are read before a deviation from the fills is recorded as one."""
BASELINE_LOOKS: Final = 5
MAX_UNCHECKED: Final = 10_000
"""Finished orders that wait for the check of balances; beyond it the oldest is left unchecked."""

MAX_COUNTED: Final = 100_000


class Confirmer:
    """Records the steps by which orders are confirmed, and waits for them where a caller wants to.

    The check of balances is made for all orders that finished since the last one together, by one read.
    """

    def __init__(
        self,
        registry: OrderRegistry,
        tracker: Tracker,
        funds: Funds,
        clock: Clock,
        metrics: Metrics,
        *,
        settle: float,
    ) -> None:
        self._registry = registry
        self._tracker = tracker
        self._funds = funds
        self._clock = clock
        self._metrics = metrics
        self._settle = max(settle, 0.05)
        self._unchecked: dict[str, None] = {}
        self._counted: dict[str, int] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check balances in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="confirmation")

    async def close(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def hear(self, event: OrderEvent) -> None:
        """Follow what happens to orders."""
        order = event.order
        if order.confirmations or order.state.is_final:
            self._count(order)
        if order.filled and order.confirmed(Step.FILLS) and not order.confirmed(Step.BALANCE):
            self._unchecked[order.order_id] = None
            if len(self._unchecked) > MAX_UNCHECKED:
                del self._unchecked[next(iter(self._unchecked))]
            self._news.set()

    def _count(self, order: Order) -> None:
        """Tell the metrics of steps that are new."""
        counted = self._counted.get(order.order_id, 0)
        for confirmation in order.confirmations[counted:]:
            self._metrics.confirmed(confirmation.step, confirmation.ok)
        if order.state.is_final and (order.confirmed(Step.BALANCE) or not order.filled):
            self._counted.pop(order.order_id, None)
        elif order.confirmations:
            self._counted[order.order_id] = len(order.confirmations)
            if len(self._counted) > MAX_COUNTED:
                del self._counted[next(iter(self._counted))]

    async def wait(self, order_id: str, wait_for: str, deadline: float) -> Order | None:
        """Wait until an accepted order is ``visible`` or ``final``; None once ``deadline`` has passed."""
        if wait_for == "accepted":
            return self._registry.get(order_id)
        self._tracker.kick()
        done = _is_final if wait_for == "final" else _is_visible
        return await self._registry.wait_until(order_id, done, deadline)

    # ---- balances -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(self._settle)
            self._news.clear()
            try:
                await self.check_balances()
            except Exception:
                # The orders stay unconfirmed in their last step, which is true; the next fill tries again.
                _logger.exception("checking balances failed")

    async def check_balances(self) -> None:
        """Compare the balances with what all fills so far should have moved.

        Fills that are not known here yet move balances too, so a deviation is looked at again, with the
        orders read anew in between, before it is recorded.
        """
        batch = list(self._unchecked)
        await self._tracker.sight(batch)
        if not await self._has_baseline():
            return
        deviations = await self._lasting_deviations()
        if deviations is None:
            return  # the balances could not be read; the orders wait for the next check
        if not deviations:
            self._record(batch, ok=True, detail=None)
            return
        detail = "; ".join(
            f"{currency}: expected {plain_decimal(expected)}, the exchange says {plain_decimal(told)}"
            for currency, (expected, told) in sorted(deviations.items())
        )
        _logger.warning("balances differ from what fills say: %s", detail)
        self._record(batch, ok=False, detail=detail)
        await self.find_baseline()

    async def deviations(self) -> Mapping[str, tuple[Decimal, Decimal]]:
        """Tell which balances are not what fills say, (expected, told), and expect from the told ones on."""
        if not await self._has_baseline():
            return {}
        deviations = await self._lasting_deviations()
        if deviations:
            await self.find_baseline()
        return deviations or {}

    async def _has_baseline(self) -> bool:
        if not self._funds.has_baseline:
            await self.find_baseline()
        return self._funds.has_baseline

    async def find_baseline(self) -> None:
        """Expect further fills to move the balances from where they are now.

        A fill that is booked while the balances are being told may be in them or not. So a baseline is looked at
        again after the orders were read anew, and kept only if it holds; the next check looks for it otherwise.
        """
        for _ in range(BASELINE_LOOKS):
            if self._registry.unresolved() or not await self._funds.refresh(max_age=0.0):
                break  # what an unresolved order has traded, if it did, is in the balances and not known here
            self._funds.rebase()
            if not self._may_move():
                return
            await asyncio.sleep(self._settle)  # lists may lag behind the balances: they shall have caught up
            complete = await self._tracker.round()
            if not await self._funds.refresh(max_age=0.0):
                break
            if complete and not self._funds.deviations() and not self._lacks_fills():
                return
        self._funds.forget_baseline()

    def _may_move(self) -> bool:
        """Whether any order is at the exchange that may trade, or of which trades are not told yet."""
        return any(order.exchange_order_id for order in self._registry.live()) or bool(self._registry.unsettled())

    def _lacks_fills(self) -> bool:
        lacking = any(not order.fills_complete for order in self._registry.live())
        return lacking or bool(self._registry.unsettled()) or bool(self._registry.unresolved())

    async def _lasting_deviations(self) -> dict[str, tuple[Decimal, Decimal]] | None:
        """Deviations that a few looks at orders and balances do not explain; None: the exchange does not tell."""
        answered = informed = False
        for look in range(BALANCE_LOOKS):
            if look:
                informed = await self._tracker.round()
                await asyncio.sleep(self._settle * 2**look)
            if not await self._funds.refresh(max_age=0.0):
                continue
            answered = True
            if not self._funds.deviations():
                return {}
        return self._funds.deviations() if answered and informed else None

    def _record(self, batch: list[str], *, ok: bool, detail: str | None) -> None:
        now = self._clock.now()
        for order_id in batch:
            self._unchecked.pop(order_id, None)
            order = self._registry.get(order_id)
            if order is not None and not order.confirmed(Step.BALANCE):
                self._registry.record(lifecycle.confirmed(order, now, Step.BALANCE, ok=ok, detail=detail))


def _is_final(order: Order) -> bool:
    return order.state.is_final


def _is_visible(order: Order) -> bool:
    return order.state.is_final or (order.confirmed(Step.VISIBLE) and order.state is not OrderState.UNKNOWN)
