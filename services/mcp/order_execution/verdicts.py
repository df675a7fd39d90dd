"""Whether what a caller is about to be told is on disk: no exchange can tell a refusal again after a crash."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from .errors import JournalError
from .journals.base import Journal
from .registry import OrderRegistry

_logger = logging.getLogger(__name__)

SLOW_JOURNAL_SECONDS: Final = 60.0
"""How long it may take where no deadline is given."""
VERDICT_SECONDS: Final = 1.0
"""How long the journal may take with a verdict whose caller's deadline has passed."""


async def survives_restart(journal: Journal, registry: OrderRegistry, order_id: str, seconds: float) -> bool:
    """Let the last change of an order reach the disk. False: it may be lost, so it must not be told as settled.

    Waits for at most ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            await journal.flush()
    except (JournalError, TimeoutError) as error:
        if registry.may_be_lost(order_id):
            _logger.warning("the verdict on order %s may not survive a restart: %s", order_id, error)
            return False
        return True
    return not (registry.is_suspended and registry.may_be_lost(order_id))
