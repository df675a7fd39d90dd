"""The file of reconciliation reports: a JSON list, newest last, written whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from .clock import Clock
from .models import ReconciliationReport

_logger = logging.getLogger(__name__)

FILE_MODE: Final = 0o600
"""Of a new file; one that is there keeps its mode."""
LOCK_SECONDS: Final = 10.0
"""How long to wait for another process that is writing."""
_RETRY_SECONDS: Final = 0.05


class ReportFile:
    """Reports of the last ``history_days`` days. Several processes may append to one file."""

    def __init__(self, path: Path, clock: Clock, *, history_days: int) -> None:
        self.path = path
        self._clock = clock
        self._history = timedelta(days=history_days)

    def load(self) -> list[dict[str, Any]]:
        """Every report that is kept, oldest first; none where the file is missing or cannot be understood.

        Raises OSError when it cannot be read.
        """
        return self._read() or []

    async def append(self, report: ReconciliationReport) -> None:
        """Add a report and drop those that are older than the history.

        A file that cannot be understood is put aside under another name, with a warning; it is never lost.
        Raises OSError: TimeoutError when another process holds the file for too long.
        """
        deadline = self._clock.monotonic() + LOCK_SECONDS
        while not await asyncio.to_thread(self._append, report):
            if self._clock.monotonic() >= deadline:
                raise TimeoutError(f"{self.path} is being written by another process")
            await asyncio.sleep(_RETRY_SECONDS)

    def _append(self, report: ReconciliationReport) -> bool:
        """Append, unless another process holds the lock."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as locked:
            if not locked:
                return False
            reports = self._read()
            if reports is None:
                self._put_aside()
            oldest = self._clock.now() - self._history
            kept = [item for item in reports or () if not _is_older(item, oldest)]
            self._write([*kept, report.to_dict()])
            return True

    def _read(self) -> list[dict[str, Any]] | None:
        """The reports, or None for a file that is no list of reports."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            reports = orjson.loads(content)
        except orjson.JSONDecodeError:
            return None
        if isinstance(reports, list) and all(isinstance(item, dict) for item in reports):
            return reports
        return None

    def _put_aside(self) -> None:
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%SZ")
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        number = 0
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}-{number}")
        self.path.rename(aside)
        _logger.warning("%s is not a list of reports; it was kept as %s", self.path, aside)

    def _write(self, reports: list[dict[str, Any]]) -> None:
        """Write beside, make durable, and rename over: a reader sees the old file or the new one."""
        target = self.path.resolve()  # a link stays a link
        # Only the holder of the lock writes here, so what an earlier crash left behind is written over.
        temporary = target.with_name(f".{target.name}.new")
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), _mode_of(target))
            file.write(orjson.dumps(reports, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the lock, or yield False where another process has it; never waits."""
        with self.path.with_name(f"{self.path.name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _mode_of(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return FILE_MODE


def _is_older(report: dict[str, Any], oldest: datetime) -> bool:
    """Whether a report is older than that; one whose time cannot be read is kept."""
    try:
        return datetime.fromisoformat(str(report.get("finished_at"))) < oldest
    except (ValueError, TypeError):
        return False
