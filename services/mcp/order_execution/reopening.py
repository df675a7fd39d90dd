"""Opening a journal anew after it failed, and bringing it up to what is known in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from . import lifecycle
from .clock import Clock
from .errors import JournalError
from .journals.base import Journal
from .models import Order, OrderState
from .registry import OrderRegistry

_logger = logging.getLogger(__name__)
MAX_ORDERS: Final = 1_000_000
"""How many orders are compared; they may go on changing meanwhile."""


async def reopen(
    journal: Journal, registry: OrderRegistry, clock: Clock, take_over: Callable[[Iterable[Order]], None]
) -> None:
    """Open a failed journal anew; harmless when it is sound. Raises JournalError when it still fails.

    Until it is done no order can be sent, and what happens to orders meanwhile is kept in memory: the journal
    may hold less than memory (appends that failed), or more (an append that was reported failed and was not).
    ``take_over`` is given what is on disk alone, though nobody refused it: as after a restart.
    """
    if journal.health().failure is None and not registry.is_suspended:
        return
    registry.suspend()
    try:
        await journal.close()
    except JournalError as error:
        _logger.warning("closing the failed journal: %s", error)  # memory knows what was lost, and writes it again
    await journal.open()
    written: dict[str, Order | None] = {order.order_id: order for order in await journal.claim()}
    while unread := sorted(registry.changed_since_failure() - written.keys()):
        for order_id in unread:
            if len(written) >= MAX_ORDERS:
                raise JournalError(
                    f"{MAX_ORDERS} orders changed since the journal failed: restart to recover from it"
                )
            written[order_id] = await journal.get(order_id)
    # From here on there is no await until everything is written: no event can come in between.
    refused = {order_id for order_id in written if registry.was_refused(order_id)}
    known = {order_id: registry.get(order_id) for order_id in written}
    registry.go_on()
    for order_id, before in written.items():
        current = known[order_id]
        if current is None and before is not None and order_id not in refused:
            take_over([before])
        elif current is None:
            _close_unsent(registry, before, clock)
        elif before != current:
            version = 0 if before is None else before.version
            registry.record(lifecycle.rewritten(current, version, clock.now()))
    await journal.flush()


def _close_unsent(registry: OrderRegistry, written: Order | None, clock: Clock) -> None:
    """Close an intent that the journal holds after all: its append was reported failed, so nothing was sent."""
    if written is None or written.state is not OrderState.SENDING:
        return
    registry.load([written])
    detail = "its intent was reported as failed, so it was not sent"
    registry.record(lifecycle.never_left(written, clock.now(), lifecycle.NEVER_SENT, detail))
