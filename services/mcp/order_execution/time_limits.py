"""Time limits with the semantics of ``asyncio.timeout``, at a fraction of its cost.

Each order runs under several limits, and nearly all are left long before their time. ``asyncio.timeout`` gives
each a timer of the loop's own, which stays behind in the loop, cancelled. Here all limits of one owner stand in
one line, in the order of their times, and only one timer is set, for the first of them.
"""

from __future__ import annotations

import asyncio
import math
from itertools import takewhile
from types import TracebackType
from typing import Self


class TimeLimit:
    """Ends its body after so many seconds: by a cancellation, of which it makes a TimeoutError.

    ::

        with TimeLimit(self._line, 5.0):
            await something()

    A cancellation from elsewhere passes through, also one that comes together with the limit's own. With
    ``math.inf`` seconds, only :meth:`expire` ends the body. To be used once, and within a task.
    """

    __slots__ = ("_before", "_line", "_seconds", "_task", "_timer", "expired", "when")

    def __init__(self, line: LimitLine, seconds: float) -> None:
        self.expired = False
        """Whether this limit has ended its body, or is about to."""
        self._line = line
        self._seconds = seconds
        self._before: int | None = None
        """How many others wanted the task cancelled when it began."""
        self._task: asyncio.Task[object] | None = None
        """The task, while the body runs."""
        self._timer: asyncio.Handle | None = None
        """A timer of its own, where it did not fit into the line."""

    def __enter__(self) -> Self:
        if self._before is not None:
            raise RuntimeError("a time limit can be used only once")
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a time limit can be used only within a task")
        self._task = task
        self._before = task.cancelling()
        line = self._line
        self.when = when = loop.time() + self._seconds
        if self._seconds <= 0:
            self._timer = loop.call_soon(self.expire)  # the body runs until it waits for the first time
        elif when >= line.until and when >= line.rings_at and loop is line.loop:
            line.limits[self] = None  # what join() comes to, nearly always
            line.until = when
        elif not line.join(self, loop):
            self._timer = loop.call_at(when, self.expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self.expired:
            if self._timer is None:
                del self._line.limits[self]
            else:
                self._timer.cancel()
        elif task is not None and task.uncancel() <= (self._before or 0) and kind is asyncio.CancelledError:
            raise TimeoutError from error  # nobody else wants the task cancelled

    @property
    def is_running(self) -> bool:
        """Whether the body runs, be it only to its end after a cancellation."""
        return self._task is not None

    def expire(self) -> None:
        """End the body now, if it runs."""
        task = self._task
        if task is None or self.expired:
            return
        self.expired = True
        if self._timer is None:
            del self._line.limits[self]
        else:
            self._timer.cancel()
        task.cancel()


class LimitLine:
    """The limits of one owner that run now, in the order of their times. Belongs to one event loop.

    A limit whose time is before the last one's does not join the line but takes a timer of its own: dear, and
    no less right. So a line is for limits that are equally long, nearly always.
    """

    __slots__ = ("_timer", "limits", "loop", "rings_at", "until")

    def __init__(self) -> None:
        self.limits: dict[TimeLimit, None] = {}
        """A queue that whoever stands in it can leave. This and what follows are the limits' own business."""
        self.until = -math.inf
        """No limit in the line has a later time."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        """Stays set when the line is empty, since the next limit comes soon; at worst it rings once for nobody."""
        self.rings_at = math.inf
        """The timer's time: never after the first limit's."""

    def __len__(self) -> int:
        return len(self.limits)

    def join(self, limit: TimeLimit, loop: asyncio.AbstractEventLoop) -> bool:
        """Take the last place; False where the limit does not belong there."""
        limits, when = self.limits, limit.when
        if loop is not self.loop:
            if limits:
                return False
            self._move(loop)
        if when < self.until and limits:
            self.until = next(reversed(limits)).when  # later ones may have left
            if when < self.until:
                return False
        if when < self.rings_at:
            self._set_timer(loop, when)
        limits[limit] = None
        self.until = when
        return True

    def expire_all(self) -> list[TimeLimit]:
        """End every body now whose limit is in the line, and give these limits back."""
        ended = list(self.limits)
        for limit in ended:
            limit.expire()
        return ended

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._ring)
        self.rings_at = when

    def _ring(self) -> None:
        """End every body whose time has come, and wait for the next."""
        loop, limits = asyncio.get_running_loop(), self.limits
        now = max(self.rings_at, loop.time())  # a loop's timers may ring early, by its clock's resolution
        self._timer, self.rings_at = None, math.inf
        try:
            for limit in list(takewhile(lambda item: item.when <= now, limits)):
                limit.expire()
        finally:
            first = next(iter(limits), None)
            if first is not None and first.when != math.inf:
                self._set_timer(loop, first.when)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody waits in the loop that it was used in before; that one may be closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.rings_at = None, math.inf
        self.loop = loop
