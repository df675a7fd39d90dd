"""The power fails again while the journal recovers from the first failure, and shared memory holds garbage."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from services.mcp.order_execution.journals import sqlite_schema
from tests.crash.test_power_loss import Recording, _reopen, findings, record
from tests.crash.vfs import Operation, disk, image, rounds


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recorded-twice"), "watched-twice")


def recover(directory: Path, name: str) -> list[Operation]:
    """What is on the disk, and what a recovery then does to it."""
    files = [path for path in sorted(directory.iterdir()) if not path.name.endswith("-shm")]
    log = [Operation("write", path.name, 0, path.read_bytes()) for path in files]
    log += [Operation("sync", path.name) for path in files]
    with disk(name) as watched:
        asyncio.run(_reopen(directory / "journal.db"))
    return log + watched.log


def test_no_power_cut_during_recovery_loses_what_was_acknowledged(recording: Recording, tmp_path: Path) -> None:
    """First cut, recovery, second cut at any moment of it: nothing acknowledged before the first is lost."""
    rng = random.Random(12)
    recovered = 0
    for number in range(rounds(25)):
        cut = rng.randrange(recording.acks[0][0], len(recording.log) + 1)
        first = tmp_path / f"first{number}"
        first.mkdir()
        image(recording.log[:cut], rng, first)
        (first / "journal.db-shm").write_bytes(rng.randbytes(rng.choice((0, 100, 32768))))
        given = sum(1 for _ in first.iterdir()) * 2 - 2  # a write and a sync of each file but the garbage
        log = recover(first, f"again{number}")
        recovered += len(log) > given
        acks = [(0, order_id, version) for at, order_id, version in recording.acks if at <= cut]
        for turn in range(3):
            second = rng.randrange(given, len(log) + 1)
            again = Recording(log, acks)
            wrong = findings(again, tmp_path / f"second{number}-{turn}", second, rng)
            assert wrong == [], f"cut {cut}, then {second}, of round {number}"
    assert recovered == rounds(25), "a recovery wrote nothing: there was nothing to interrupt"


def test_a_migration_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails at each operation of an upgrade from the first schema; the next opening completes it."""
    with monkeypatch.context() as former:
        former.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
        _first_schema(tmp_path / "old")
    log = recover(tmp_path / "old", "migrating")
    given = 2 * sum(1 for path in (tmp_path / "old").iterdir() if path.name == "journal.db")
    rng = random.Random(13)
    for cut in range(given, len(log) + 1):
        for turn in range(2):
            assert findings(Recording(log), tmp_path / f"{cut}-{turn}", cut, rng) == [], f"cut {cut}"
            upgraded = sqlite_schema.connect_reader(tmp_path / f"{cut}-{turn}" / "journal.db")
            assert upgraded.execute("PRAGMA user_version").fetchone() == (sqlite_schema.SCHEMA_VERSION,)
            upgraded.close()


def _first_schema(directory: Path) -> None:
    directory.mkdir()
    sqlite_schema.create_file(directory / "journal.db")
    sqlite_schema.connect_writer(directory / "journal.db").close()


def test_a_lying_disk_is_caught_during_recovery_too(recording: Recording, tmp_path: Path) -> None:
    """The test of the test: when the second disk ignores syncs, acknowledged events are lost."""
    rng = random.Random(14)
    lost = 0
    for number in range(20):
        first = tmp_path / f"first{number}"
        first.mkdir()
        image(recording.log, rng, first)
        log = recover(first, f"lied{number}")
        everything = replace(recording, log=log, acks=[(0, *ack[1:]) for ack in recording.acks])
        lost += bool(findings(everything, tmp_path / f"second{number}", len(log), rng, lying=True))
    assert lost > 5
