"""Append-only files: one per stream and day, private, whole lines only."""

from __future__ import annotations

import os
import stat
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.mcp.order_execution.transaction_log import files
from services.mcp.order_execution.transaction_log.files import OPEN_FILES_MAX, DayFiles, day_of, file_name


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def day_files(tmp_path: Path) -> DayFiles:
    return DayFiles(tmp_path / "log")


def test_a_file_is_named_for_its_stream_and_day() -> None:
    """The day is that of UTC, wherever the record's clock stood."""
    at = datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-3)))
    assert file_name("orders", day_of(at)) == "orders-2026-02-01.jsonl"
    assert day_of(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)) == date(2026, 1, 31)


def test_files_are_for_their_owner_alone(tmp_path: Path, day_files: DayFiles) -> None:
    """Directory 0700, files 0600, whatever the umask allows."""
    before = os.umask(0)
    try:
        day_files.append("orders-2026-01-01.jsonl", b"{}\n")
    finally:
        os.umask(before)
    day_files.close()
    folder = tmp_path / "log"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "orders-2026-01-01.jsonl").stat().st_mode) == 0o600


def test_a_writer_starts_on_a_fresh_line_after_a_kill(tmp_path: Path) -> None:
    """What a kill left of a line spoils no line that comes after it."""
    path = tmp_path / "orders-2026-01-01.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":')
    files = DayFiles(tmp_path)
    files.append(path.name, b'{"a":2}\n')
    files.append(path.name, b'{"a":3}\n')
    files.close()
    assert path.read_bytes() == b'{"a":1}\n{"a":\n{"a":2}\n{"a":3}\n'


def test_a_write_that_fails_in_the_middle_spoils_no_later_line(
    tmp_path: Path, day_files: DayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full after half a line and free again later."""
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        if data == b"ENOSPC":
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(data)[: len(data) - 6])

    day_files.append("x-2026-01-01.jsonl", b'{"a":1}\n')
    monkeypatch.setattr(files.os, "write", half)
    with pytest.raises(OSError, match="No space"):
        day_files.append("x-2026-01-01.jsonl", b'{"a":2}\nENOSPC')
    monkeypatch.undo()
    day_files.append("x-2026-01-01.jsonl", b'{"a":3}\n')
    day_files.close()
    assert (tmp_path / "log" / "x-2026-01-01.jsonl").read_bytes() == b'{"a":1}\n{"a":2}\n{"a":3}\n'


def test_a_full_disk_is_an_error_and_leaks_no_file(tmp_path: Path) -> None:
    """/dev/full refuses every byte."""
    (tmp_path / "x.jsonl").symlink_to("/dev/full")
    day_files = DayFiles(tmp_path)
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            day_files.append("x.jsonl", b"{}\n")
    assert open_descriptors() == before
    day_files.close()


def test_a_file_that_cannot_be_mended_is_not_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening fails as a whole when the torn line's end cannot be written."""
    (tmp_path / "x.jsonl").write_bytes(b"torn")

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = open_descriptors()
    monkeypatch.setattr(files.os, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        DayFiles(tmp_path).append("x.jsonl", b"{}\n")
    assert open_descriptors() == before


def test_a_device_that_takes_nothing_is_given_up(day_files: DayFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that make no progress end in an error, not in an endless loop."""
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: 0)
    with pytest.raises(OSError, match="3 bytes were left"):
        day_files.append("x.jsonl", b"{}\n")


def test_only_a_few_files_are_open_at_once(tmp_path: Path, day_files: DayFiles) -> None:
    """A log that runs for years does not run out of descriptors; older days can still be appended to."""
    before = open_descriptors()
    for day in range(1, 29):
        day_files.append(f"orders-2026-02-{day:02}.jsonl", b"1\n")
        assert open_descriptors() <= before + OPEN_FILES_MAX
    day_files.append("orders-2026-02-01.jsonl", b"2\n")
    day_files.sync()
    day_files.close()
    assert open_descriptors() == before
    assert (tmp_path / "log" / "orders-2026-02-01.jsonl").read_bytes() == b"1\n2\n"


def test_closing_releases_every_file_even_when_one_fails(
    day_files: DayFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first error is raised once all are released."""
    before = open_descriptors()
    day_files.append("a.jsonl", b"1\n")
    day_files.append("b.jsonl", b"1\n")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        day_files.close()
    assert open_descriptors() == before
