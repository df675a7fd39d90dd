"""The file of reports is written whole or not at all, and nothing in it is lost by accident."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.mcp.order_execution import reconciliation_report
from services.mcp.order_execution.models import Discrepancy, ReconciliationReport
from services.mcp.order_execution.reconciliation_report import ReportFile
from tests.fakes import T0


class FixedClock:
    """A wall clock that stands where it is put, and a monotonic one that goes on."""

    def __init__(self, now: datetime = T0) -> None:
        self.wall = now

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def report(at: datetime = T0, **changes: int) -> ReconciliationReport:
    made = ReconciliationReport(
        period="daily",
        since=at - timedelta(days=1),
        until=at,
        started_at=at,
        finished_at=at,
        total_orders=0,
        matched_orders=0,
        mismatched_orders=0,
        missing_orders=0,
        extra_orders=0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def report_file(path: Path, *, days: int = 30, now: datetime = T0) -> ReportFile:
    return ReportFile(path / "deep" / "reports.json", FixedClock(now), history_days=days)


async def test_reports_are_kept_in_order(tmp_path: Path) -> None:
    """The directory is made; the file is a list that anybody can read; counts and details are there."""
    reports = report_file(tmp_path)
    assert reports.load() == []
    found = Discrepancy("missing", "id-1", "X1", "BTC/USD", {"state": ("open", None)})
    await reports.append(report(missing_orders=1))
    await reports.append(replace(report(), details=(found,)))
    read = json.loads(reports.path.read_text())
    assert read == reports.load()
    assert [item["missing_orders"] for item in read] == [1, 0]
    assert read[1]["details"][0]["differences"] == {"state": ["open", None]}
    assert {"total_orders", "matched_orders", "mismatch_percentage", "alert_triggered"} <= set(read[0])


async def test_reports_older_than_the_history_are_dropped(tmp_path: Path) -> None:
    """Exactly; one whose time cannot be read is kept."""
    for days in (31, 30, 1):
        await report_file(tmp_path, days=36_500).append(report(T0 - timedelta(days=days), total_orders=days))
    reports = report_file(tmp_path, days=30)
    odd = [{"finished_at": "long ago"}, {"finished_at": "2001-01-01T00:00:00"}, {}]
    reports.path.write_text(json.dumps(reports.load() + odd))
    await reports.append(report(total_orders=0))
    assert [item.get("total_orders") for item in reports.load()] == [30, 1, None, None, None, 0]


@pytest.mark.parametrize("content", [b"", b"[{", b'{"a": 1}', b"[1]", b"\xff", b"null"])
async def test_a_corrupt_file_is_put_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Under another name, with a warning; a second one does not replace the first."""
    reports = report_file(tmp_path)
    reports.path.parent.mkdir()
    for _ in range(3):
        reports.path.write_bytes(content)
        assert reports.load() == []
        with caplog.at_level(logging.WARNING):
            await reports.append(report(total_orders=5))
        assert [item["total_orders"] for item in reports.load()] == [5]
    aside = sorted(path.name for path in reports.path.parent.glob("*.corrupt-*"))
    name = "reports.json.corrupt-20260101T000000Z"
    assert aside == [name, f"{name}-1", f"{name}-2"]
    assert all((reports.path.parent / each).read_bytes() == content for each in aside)
    assert name in caplog.text


async def test_reading_puts_nothing_aside(tmp_path: Path) -> None:
    """A reader holds no lock; it must not rename what a writer may just have mended."""
    reports = report_file(tmp_path)
    reports.path.parent.mkdir()
    reports.path.write_text("nonsense")
    assert reports.load() == []
    assert reports.path.read_text() == "nonsense"


async def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each waits for the lock."""
    writers = [report_file(tmp_path) for _ in range(8)]
    await asyncio.gather(*(item.append(report(total_orders=n)) for n, item in enumerate(writers)))
    assert sorted(item["total_orders"] for item in writers[0].load()) == list(range(8))


async def test_a_writer_that_never_ends_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an OSError like any other failure to write."""
    monkeypatch.setattr(reconciliation_report, "LOCK_SECONDS", 0.1)
    reports = report_file(tmp_path)
    reports.path.parent.mkdir()
    with reports.path.with_name("reports.json.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="another process"):
            await reports.append(report())
    assert reports.load() == []


async def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is renamed over it once it is durable, and what was left behind does no harm."""
    reports = report_file(tmp_path)
    await reports.append(report(total_orders=1))
    before = reports.path.read_bytes()
    synced: list[int] = []

    def fail(descriptor: int) -> None:
        synced.append(descriptor)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            await reports.append(report(total_orders=2))
    assert (reports.path.read_bytes(), len(synced)) == (before, 1)
    await reports.append(report(total_orders=3))
    assert [item["total_orders"] for item in reports.load()] == [1, 3]
    assert sorted(path.name for path in reports.path.parent.iterdir()) == ["reports.json", "reports.json.lock"]


async def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    """Who may read it is the user's choice."""
    reports = report_file(tmp_path)
    await reports.append(report())
    assert reports.path.stat().st_mode & 0o777 == 0o600
    reports.path.chmod(0o644)
    await reports.append(report())
    assert reports.path.stat().st_mode & 0o777 == 0o644


async def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file that it names is written."""
    real = tmp_path / "real.json"
    real.write_text("[]")
    link = tmp_path / "link.json"
    link.symlink_to(real)
    await ReportFile(link, FixedClock(), history_days=1).append(report())
    assert link.is_symlink()
    assert len(json.loads(real.read_text())) == 1


async def test_a_file_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    """A directory under its name, say."""
    reports = ReportFile(tmp_path, FixedClock(), history_days=1)
    with pytest.raises(OSError, match="directory"):
        reports.load()
    with pytest.raises(OSError, match="directory"):
        await reports.append(report())
