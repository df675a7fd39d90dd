"""Time, injected: wall time for records, a monotonic reading for durations.

Waiting is left to asyncio's own timers (``asyncio.sleep``, ``asyncio.timeout``), which follow the running
loop's clock; under the simulation's virtual loop they and :class:`Clock` move together.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the executor knows of time."""

    def now(self) -> datetime:
        """Wall time in UTC; may jump, so it orders nothing and measures nothing."""
        ...

    def monotonic(self) -> float:
        """Seconds on the scale of the running loop's ``time()``; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """``time.monotonic()``, which is also asyncio's default loop clock."""
        return time.monotonic()
