"""The file of reconciliation reports: a JSON list, newest last, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from .clock import Clock
from .models import ReconciliationReport

_logger = logging.getLogger(__name__)

FILE_MODE: Final = 0o600


class ReportFile:
    """Reports of the last ``history_days`` days. Several processes may append to one file."""

    def __init__(self, path: Path, clock: Clock, *, history_days: int) -> None:
        self.path = path
        self._clock = clock
        self._history = timedelta(days=history_days)

    def load(self) -> list[dict[str, Any]]:
        """Every report that is kept, oldest first.

        A file that cannot be understood is put aside under another name, with a warning; it is never lost.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            reports = orjson.loads(content)
        except orjson.JSONDecodeError:
            reports = None
        if not isinstance(reports, list) or not all(isinstance(item, dict) for item in reports):
            self._put_aside()
            return []
        return reports

    def append(self, report: ReconciliationReport) -> None:
        """Add a report and drop those that are older than the history. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            oldest = self._clock.now() - self._history
            kept = [item for item in self.load() if not _is_older(item, oldest)]
            self._write([*kept, report.to_dict()])

    def _put_aside(self) -> None:
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        number = 0
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}-{number}")
        self.path.rename(aside)
        _logger.warning("%s is not a list of reports; it was kept as %s", self.path, aside)

    def _write(self, reports: list[dict[str, Any]]) -> None:
        """Write beside, make durable, and rename over: a reader sees the old file or the new one."""
        content = orjson.dumps(reports, option=orjson.OPT_INDENT_2)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), FILE_MODE)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_older(report: dict[str, Any], oldest: datetime) -> bool:
    """Whether a report is older than that; one whose time cannot be read is kept."""
    try:
        return datetime.fromisoformat(str(report.get("finished_at"))) < oldest
    except (ValueError, TypeError):
        return False
