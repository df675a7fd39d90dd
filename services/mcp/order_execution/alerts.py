"""Alerts to people: raised without waiting, de-duplicated, rate-limited, and sent in the background."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from .alert_sinks import Alert, AlertSink, AppriseSink, Level, LogSink
from .clock import Clock

__all__ = ["Alert", "AlertSink", "Alerts", "AppriseSink", "Level", "LogSink"]

_logger = logging.getLogger(__name__)

KEYS_MAX: Final = 10_000
"""How many keys are remembered for de-duplication; beyond, the oldest is forgotten."""
MINUTE: Final = 60.0
CANCEL_GRACE_SECONDS: Final = 1.0
"""How long a sink may take to end once it is cancelled."""


@dataclass(slots=True)
class _Matter:
    """What was last let through under one key."""

    until: float
    level: Level
    suppressed: int = 0


class Alerts:
    """Takes alerts from anywhere and has every sink send them.

    The same key is let through once in ``min_interval_seconds`` (unless it has become graver), and the next
    one tells how many were suppressed. Each sink has a queue of at most ``max_queue`` and a sender of its
    own, so that one that hangs or fails holds up nothing but itself; it gets at most ``max_per_minute``,
    the gravest first.
    """

    def __init__(
        self,
        sinks: Sequence[AlertSink],
        clock: Clock,
        *,
        min_level: Level = Level.WARNING,
        min_interval_seconds: float = 300,
        max_per_minute: int = 20,
        max_queue: int = 1_000,
        send_timeout_seconds: float = 15,
        close_timeout_seconds: float = 5,
    ) -> None:
        self._clock = clock
        self._min_level = min_level
        self._min_interval = min_interval_seconds
        self._close_timeout = close_timeout_seconds
        self._matters: OrderedDict[str, _Matter] = OrderedDict()
        self._lock = threading.Lock()
        self._outboxes = [_Outbox(sink, clock, max_per_minute, max_queue, send_timeout_seconds) for sink in sinks]

    @property
    def waiting(self) -> int:
        """Alerts that at least one sink has not yet been given."""
        return max((outbox.waiting for outbox in self._outboxes), default=0)

    @property
    def dropped(self) -> int:
        """Alerts that some sink never got, since its queue was full or it was closed with them waiting."""
        return sum(outbox.dropped for outbox in self._outboxes)

    @property
    def failures(self) -> int:
        """How often a sink failed to send."""
        return sum(outbox.failures for outbox in self._outboxes)

    def start(self) -> None:
        """Begin to send, from the running loop; what was raised before is sent now."""
        for outbox in self._outboxes:
            outbox.start()

    async def close(self) -> None:
        """Send what waits, as far as the rate allows, for at most ``close_timeout_seconds``; then stop.

        Never raises for a failing sink. Harmless when repeated; ``start()`` begins anew.
        """
        await asyncio.gather(*(outbox.close(self._close_timeout) for outbox in self._outboxes))

    def raise_alert(self, level: Level, key: str, title: str, body: str = "") -> None:
        """Raise an alert. Never waits and never raises; may be called from any thread."""
        try:
            if level < self._min_level:
                return
            now = self._clock.monotonic()
            suppressed = self._let_through(level, key, now)
            if suppressed is None:
                return
            alert = Alert(Level(level), key, title, body, self._clock.now())
        except Exception as error:  # noqa: BLE001 - whoever raises an alert has trouble enough
            _logger.error("an alert could not be raised: %s", type(error).__name__)  # noqa: TRY400
            return
        if suppressed:
            alert = _with_note(alert, f"{suppressed} more of this were suppressed before")
        for outbox in self._outboxes:
            outbox.put(alert)

    def clear(self, key: str) -> None:
        """The matter is settled: the next alert with this key is let through at once."""
        with self._lock:
            matter = self._matters.get(key)
            if matter is not None:
                matter.until = -math.inf

    def _let_through(self, level: Level, key: str, now: float) -> int | None:
        """How many were suppressed since the last one; None when this one is suppressed too."""
        with self._lock:
            matter = self._matters.pop(key, None)
            if matter is not None and now < matter.until and level <= matter.level:
                matter.suppressed += 1
                self._matters[key] = matter
                return None
            self._matters[key] = _Matter(now + self._min_interval, level)
            if len(self._matters) > KEYS_MAX:
                self._matters.popitem(last=False)
            return 0 if matter is None else matter.suppressed


class _Outbox:
    """One sink's queue and its sender."""

    def __init__(
        self, sink: AlertSink, clock: Clock, max_per_minute: int, max_queue: int, send_timeout: float
    ) -> None:
        self._sink = sink
        self._name = type(sink).__name__  # never repr(sink): a foreign one may show its secrets
        self._clock = clock
        self._max_queue = max_queue
        self._send_timeout = send_timeout
        self._queues: dict[Level, deque[Alert]] = {level: deque() for level in sorted(Level, reverse=True)}
        self._lock = threading.Lock()
        self._sent: deque[float] = deque(maxlen=max(1, max_per_minute))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._untold = 0
        self._failing = False
        self.dropped = 0
        self.failures = 0

    @property
    def waiting(self) -> int:
        """Alerts in the queue."""
        return sum(map(len, self._queues.values()))

    def start(self) -> None:
        """Begin to send."""
        if self._task is None:
            self._closing = False
            self._wake = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._run(), name=f"alerts to {self._name}")
            self._wake.set()

    async def close(self, timeout: float) -> None:
        """Send what waits within ``timeout`` seconds, and stop."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing = True
        self._wake.set()
        before = self.dropped
        try:
            await asyncio.wait([task], timeout=timeout)
        finally:
            task.cancel()
            self._loop = None
        await asyncio.wait([task], timeout=CANCEL_GRACE_SECONDS)
        with self._lock:
            self._drop(self.waiting)
            for queue in self._queues.values():
                queue.clear()
        if self.dropped > before:
            _logger.error("%d alerts were not sent by %s before it was closed", self.dropped - before, self._name)

    def put(self, alert: Alert) -> None:
        """Queue an alert; when there is no room, the oldest of the least grave is dropped."""
        with self._lock:
            self._queues[alert.level].append(alert)
            if self.waiting > self._max_queue:
                next(queue for queue in reversed(self._queues.values()) if queue).popleft()
                self._drop(1)
        self._notify()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _notify(self) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            self._wake.set()
            return
        try:
            loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:
            _logger.error("an alert waits for a loop that is closed")  # noqa: TRY400 - it says all

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.waiting and await self._rate_allows():
                await self._send(self._take())
            if self._closing:
                return

    async def _rate_allows(self) -> bool:
        """Wait until another alert may be sent; False when that is not before the end."""
        while len(self._sent) == self._sent.maxlen:
            wait = self._sent[0] + MINUTE - self._clock.monotonic()
            if wait <= 0:
                break
            if self._closing:
                return False
            await self._wait_for_change(wait)
        self._sent.append(self._clock.monotonic())
        return True

    async def _wait_for_change(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _take(self) -> Alert:
        with self._lock:
            alert = next(queue for queue in self._queues.values() if queue).popleft()
            untold, self._untold = self._untold, 0
        return _with_note(alert, f"{untold} other alerts were dropped before") if untold else alert

    async def _send(self, alert: Alert) -> None:
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._sink.send(alert)
        except asyncio.CancelledError:
            self._drop(1)
            raise
        except Exception as error:  # noqa: BLE001 - sinks are plug-ins; what they raise must harm nobody
            self.failures += 1
            if not self._failing:
                # Only its type: the message may show a URL, which is a secret.
                _logger.error("%s failed to send: %s", self._name, type(error).__name__)  # noqa: TRY400
            self._failing = True
        else:
            self._failing = False


def _with_note(alert: Alert, note: str) -> Alert:
    return replace(alert, body=f"{alert.body} ({note})" if alert.body else note)
