"""Time, injected: wall time for records, a monotonic reading for durations.

Waiting is left to asyncio's own timers (``asyncio.sleep``, ``asyncio.timeout``), which follow the running
loop's clock; under the simulation's virtual loop they and :class:`Clock` move together.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
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

    now = staticmethod(partial(datetime.now, UTC))
    """Wall time in UTC. The function itself, as below: both are asked a dozen times on each order's way."""

    monotonic = staticmethod(time.monotonic)
    """Also asyncio's default loop clock."""


class RemoteClock:
    """Another machine's clock: as it was told last, carried on by our monotonic clock.

    So no step of our wall clock changes what it says, however long ago it was told.
    """

    def __init__(self, clock: Clock, *, resolution_seconds: float) -> None:
        self._clock = clock
        self._resolution = timedelta(seconds=resolution_seconds)
        self._told: tuple[datetime, float] | None = None

    def learn(self, theirs: datetime) -> None:
        """Take what it says now; a difference below the resolution is none."""
        ours = self._clock.now()
        near = abs(ours - theirs) < self._resolution
        self._told = (ours if near else theirs, self._clock.monotonic())

    def now(self) -> datetime:
        """Wall time there, in UTC; our own as long as nothing was told."""
        if self._told is None:
            return self._clock.now()
        then, at = self._told
        return then + timedelta(seconds=self._clock.monotonic() - at)

    @property
    def error(self) -> float | None:
        """Seconds by which our wall clock is ahead of it now; None as long as nothing was told."""
        return None if self._told is None else (self._clock.now() - self.now()).total_seconds()
