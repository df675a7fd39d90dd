"""The last of the disk is kept for closing what is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.mcp.order_execution.errors import JournalFull, JournalUnavailable
from services.mcp.order_execution.journals.free_space import FreeSpace, free_disk_bytes
from tests.contract.journals.backends import ManualClock


class Disk:
    """So much is free; ``asked`` counts how often it was asked for."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.asked = 0

    def __call__(self, directory: Path) -> int:
        self.asked += 1
        if self.free < 0:
            raise OSError("no such disk")
        return self.free


def test_it_is_looked_up_once_a_second() -> None:
    """Not for every order; and at once after the journal was opened anew."""
    clock, disk = ManualClock(), Disk(100)
    space = FreeSpace(clock, 100, disk)
    for _ in range(3):
        space.require(Path(), "o")
    assert disk.asked == 1
    disk.free = 99
    clock.seconds += 1
    with pytest.raises(JournalFull, match="99 bytes are free for the journal and 100 are kept") as refusal:
        space.require(Path(), "o-1")
    assert refusal.value.order_id == "o-1"
    disk.free = 100
    with pytest.raises(JournalFull):
        space.require(Path(), "o")
    space.forget()
    space.require(Path(), "o")
    assert disk.asked == 3


def test_what_is_not_to_be_learnt_refuses_too() -> None:
    """Silence is no space; and it is asked again the next time."""
    disk = Disk(-1)
    space = FreeSpace(ManualClock(), 100, disk)
    for asked in (1, 2):
        with pytest.raises(JournalUnavailable, match="no such disk"):
            space.require(Path(), "o")
        assert disk.asked == asked


def test_the_real_disk_is_asked(tmp_path: Path) -> None:
    """What the system says of the directory."""
    assert free_disk_bytes(tmp_path) > 0
