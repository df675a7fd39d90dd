"""Writes the transaction log: the order's path only queues, one thread writes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

from ..clock import Clock
from ..errors import ConfigurationError
from ..models import OrderEvent
from ..redaction import Redactor
from .files import DayFiles, file_name
from .lines import ErrorRecord, Lines, Note, Record

_logger = logging.getLogger(__name__)

BATCH_MAX: Final = 1_000
"""Records that are written in one go."""
GATHER_SECONDS: Final = 0.02
"""How long records are gathered before they are written: each waking of the thread is time taken from the loop."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in the queue: everything before it is on disk once ``reached`` is called."""

    reached: Callable[[], None]
    last: bool = False


class TransactionLog:
    """JSON lines about orders, fills and errors, one file each and day (UTC, by the record's time).

    ``record`` and ``record_error`` never wait and never raise. When the disk is slower than the orders for
    so long that ``max_queue`` records wait, further ones are dropped; when the disk fails, so is what was
    to be written. Both are counted (``dropped``, ``failures``), logged, and told by a line in the errors
    file as soon as one can be written. ``redact`` holds secret values that must never reach the disk.

    With ``inline`` every record is written by the caller itself: for simulations, which allow no threads.
    """

    def __init__(
        self,
        path: Path | str,
        clock: Clock,
        *,
        max_queue: int = 100_000,
        redact: Collection[str] = (),
        inline: bool = False,
        close_timeout_seconds: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._max_queue = max_queue
        self._lines = Lines(Redactor(redact))
        self._inline = inline
        self._close_timeout = close_timeout_seconds
        self._files = DayFiles(self.path)
        self._queue: SimpleQueue[Record | _Mark] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        """Set by whoever waits for what is gathered."""
        self._is_open = False
        self._overflows = 0
        self._lost = 0
        self._told = 0
        self._full = False
        self._failing = False
        self.failures = 0
        """How often a write to the disk failed."""

    @property
    def dropped(self) -> int:
        """Records that never reached the disk: the queue was full, or the disk failed."""
        return self._overflows + self._lost

    @property
    def waiting(self) -> int:
        """Records that are not yet written."""
        return self._queue.qsize()

    def open(self) -> None:
        """Make the directory and begin to write. Raises ConfigurationError when it cannot be written to."""
        if self._is_open:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or type(error).__name__) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise self._unusable("no permission to write")
        self._is_open = True
        # Never those of before: a thread that outlived close() may still be writing with them.
        self._queue, self._files = SimpleQueue(), DayFiles(self.path)
        if not self._inline:
            self._thread = threading.Thread(
                target=self._run, args=(self._queue, self._files), name="transaction-log", daemon=True
            )
            self._thread.start()

    async def close(self) -> None:
        """Write what waits, make it durable and release the files, within ``close_timeout_seconds``.

        What is recorded from now on is dropped. Harmless when repeated; never raises for a failing disk.
        """
        if not self._is_open:
            return
        if self._inline:
            self.close_inline()
            return
        self._is_open = False
        thread, self._thread = self._thread, None
        if await self._pass_mark(last=True) and thread is not None:
            thread.join(self._close_timeout)  # it has nothing left to do but to end
        else:
            _logger.error("transaction log: about %d records were not yet written at close", self.waiting)

    def close_inline(self) -> None:
        """``close()`` for a log with ``inline``, which has nobody to wait for."""
        if not self._inline:
            raise RuntimeError("this log has a thread; await close()")
        if self._is_open:
            self._is_open = False
            self._finish(self._files)

    async def flush(self) -> None:
        """Return once everything recorded so far is on disk, or has failed to get there.

        Gives up after ``close_timeout_seconds``. Never raises for a failing disk: see ``failures``.
        """
        if self._inline:
            self._guarded(self._files.sync)
        elif self._is_open:
            await self._pass_mark(last=False)

    def catch_up(self, timeout: float) -> bool:
        """``flush()`` for a thread that runs no event loop; False when it took longer than ``timeout`` seconds."""
        if self._inline:
            self._guarded(self._files.sync)
        elif self._is_open:
            reached = threading.Event()
            self._queue.put(_Mark(reached.set))
            self._hurry.set()
            return reached.wait(timeout)
        return True

    def record(self, event: OrderEvent) -> None:
        """Record one change of an order; a fill goes to the fills file too."""
        self._put(event)

    def record_error(
        self, order_id: str | None, phase: str, error: str, detail: Mapping[str, object] | None = None
    ) -> None:
        """Record that something went wrong, in ``phase``, with the order or (None) with no single one."""
        self._put(ErrorRecord(self._clock.now(), order_id, phase, error, None if detail is None else dict(detail)))

    def record_note(
        self,
        order_id: str,
        kind: str,
        detail: Mapping[str, object] | None = None,
        *,
        stream: Literal["orders", "fills"] = "orders",
        at: datetime | None = None,
    ) -> None:
        """Record something about an order that is no change of it, such as the phase that it entered.

        ``at``: when it was, where it is told later.
        """
        copy = None if detail is None else dict(detail)
        self._put(Note(at or self._clock.now(), order_id, kind, copy, stream))

    # ---- the caller's side --------------------------------------------------------------------------------

    def _put(self, record: Record) -> None:
        if not self._is_open:
            self._overflows += 1
        elif self._inline:
            self._write(self._files, [record])
        elif self._queue.qsize() < self._max_queue:
            self._queue.put(record)
        else:
            self._overflows += 1
            if not self._full:
                self._full = True
                _logger.error("transaction log: %d records wait; further ones are dropped", self._max_queue)

    async def _pass_mark(self, *, last: bool) -> bool:
        """Wait until the thread has come to this place in the queue; False when it took too long."""
        loop = asyncio.get_running_loop()
        reached = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(reached.set)

        self._queue.put(_Mark(tell, last))
        self._hurry.set()
        try:
            async with asyncio.timeout(self._close_timeout):
                await reached.wait()
        except TimeoutError:
            return False
        return True

    # ---- the writer's side --------------------------------------------------------------------------------

    def _run(self, queue: SimpleQueue[Record | _Mark], files: DayFiles) -> None:
        while True:
            records, mark = _next_batch(queue, self._hurry)
            self._write(files, records)
            if mark is None:
                continue
            if mark.last:
                self._finish(files)
            else:
                self._guarded(files.sync)
            mark.reached()
            if mark.last:
                return

    def _finish(self, files: DayFiles) -> None:
        self._full = False
        self._write(files, [])
        self._guarded(files.close)

    def _write(self, files: DayFiles, records: list[Record]) -> None:
        written: dict[tuple[str, date], list[bytes]] = {}
        for record in records:
            try:
                for stream, day, line in self._lines.of(record):
                    written.setdefault((stream, day), []).append(line)
            except Exception as error:  # noqa: BLE001 - one bad record must not take the others along
                self._lost += 1
                _logger.error(  # noqa: TRY400 - a traceback might show what must not be written down
                    "transaction log: a record could not be written down: %s", type(error).__name__
                )
        for (stream, day), lines in written.items():
            if not self._guarded(files.append, file_name(stream, day), b"\n".join(lines) + b"\n"):
                self._lost += len(lines)
        if self._full and self.waiting <= self._max_queue // 2:
            self._full = False
        if self.dropped > self._told and not self._full:
            self._tell_dropped(files)

    def _tell_dropped(self, files: DayFiles) -> None:
        """Write down how many records are missing, now that records are taken again."""
        dropped = self.dropped
        missing = dropped - self._told
        about = ErrorRecord(self._clock.now(), None, "transaction_log", "dropped", {"records": missing})
        ((stream, day, line),) = self._lines.of(about)
        if self._guarded(files.append, file_name(stream, day), line + b"\n"):
            self._told = dropped

    def _guarded(self, write: Callable[..., None], *args: Any) -> bool:
        try:
            write(*args)
        except OSError as error:
            self.failures += 1
            if not self._failing:
                _logger.error("transaction log: writing failed: %s", error.strerror or error)  # noqa: TRY400
            self._failing = True
            return False
        self._failing = False
        return True

    def _unusable(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"transaction_log.path: expected a directory to write to, got {str(self.path)!r}: {why}",
            field="transaction_log.path",
        )


def _next_batch(queue: SimpleQueue[Record | _Mark], hurry: threading.Event) -> tuple[list[Record], _Mark | None]:
    """Wait for a record, and take with it what else comes within a moment, up to a mark."""
    records: list[Record] = []
    item = queue.get()
    if not isinstance(item, _Mark):
        hurry.wait(GATHER_SECONDS)
    with suppress(Empty):
        while not isinstance(item, _Mark):
            records.append(item)
            if len(records) >= BATCH_MAX:
                break
            item = queue.get_nowait()
        else:
            hurry.clear()
            return records, item
    return records, None
