"""Which orders are being executed by which calls right now: what one call concludes, another may undo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Calls:
    """The calls for one id."""

    active: int = 0
    begun: int = 0
    """How many have begun since the id was last at rest."""


class UnderWay:
    """Counts the calls that execute an order, by client order id. Thread-safe; holds no more than is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, _Calls] = {}

    @contextmanager
    def call(self, key: str | None) -> Iterator[None]:
        """Be under way for ``key``; None, where no order can have the id, counts nothing."""
        if key is None:
            yield
            return
        with self._lock:
            calls = self._calls.setdefault(key, _Calls())
            calls.active += 1
            calls.begun += 1
        try:
            yield
        finally:
            with self._lock:
                calls.active -= 1
                if not calls.active:
                    del self._calls[key]

    def begun(self, key: str) -> int:
        """How many calls have begun so far; a mark for ``alone_since``."""
        with self._lock:
            return self._calls[key].begun if key in self._calls else 0

    def alone_since(self, key: str, mark: int) -> bool:
        """Whether the asking call is the only one, and none has begun since ``mark``.

        Only then does what was looked up in between still hold: another call may be about to send the order.
        """
        with self._lock:
            calls = self._calls.get(key)
            return calls is None or (calls.active <= 1 and calls.begun == mark)
