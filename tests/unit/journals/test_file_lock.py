"""The lock that makes one writer per file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import JournalError, JournalLocked
from services.mcp.order_execution.journals.file_lock import FileLock

HOLD = """
import asyncio, sys
from pathlib import Path
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.journals.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
asyncio.run(lock.acquire(SystemClock(), 0))
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_second_holder_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    """Also within one process; the message names the process that holds it."""
    first, second = FileLock(tmp_path / "j.lock"), FileLock(tmp_path / "j.lock")
    await first.acquire(SystemClock(), 0)
    with pytest.raises(JournalLocked, match=f"process {os.getpid()} on .*read-only"):
        await second.acquire(SystemClock(), 0)
    assert first.held()
    assert not second.held()
    first.release()
    first.release()
    assert not first.held()
    await second.acquire(SystemClock(), 0)
    second.release()
    assert (tmp_path / "j.lock").exists()
    assert (tmp_path / "j.lock").stat().st_mode & 0o777 == 0o600


async def test_a_lock_that_is_waited_for_comes(tmp_path: Path) -> None:
    """With a wait, the second holder takes over as soon as the first lets go."""
    first, second = FileLock(tmp_path / "j.lock"), FileLock(tmp_path / "j.lock")
    await first.acquire(SystemClock(), 0)
    waiting = asyncio.create_task(second.acquire(SystemClock(), 30))
    await asyncio.sleep(0)
    first.release()
    await waiting
    assert second.held()
    second.release()


async def test_waiting_for_a_lock_ends(tmp_path: Path) -> None:
    """Where it does not come free, the wait ends in the error."""
    first, second = FileLock(tmp_path / "j.lock"), FileLock(tmp_path / "j.lock")
    await first.acquire(SystemClock(), 0)
    with pytest.raises(JournalLocked):
        await second.acquire(SystemClock(), 0.01)
    first.release()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """Kill -9 frees it at once, without anybody cleaning up."""
    path = tmp_path / "j.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(path)
        with pytest.raises(JournalLocked, match=f"process {holder.pid} on"):
            asyncio.run(lock.acquire(SystemClock(), 0))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        asyncio.run(lock.acquire(SystemClock(), 0))
    lock.release()


async def test_a_lock_whose_file_went_away_is_not_held(tmp_path: Path) -> None:
    """A removed or replaced lock file no longer keeps others out, and ``held`` says so."""
    path = tmp_path / "j.lock"
    lock = FileLock(path)
    await lock.acquire(SystemClock(), 0)
    path.unlink()
    assert not lock.held()
    path.touch()
    assert not lock.held()
    lock.release()


async def test_an_unnamed_holder_is_another_process(tmp_path: Path) -> None:
    """A lock file without a name in it still makes a sentence."""
    path = tmp_path / "j.lock"
    lock = FileLock(path)
    await lock.acquire(SystemClock(), 0)
    path.write_text("")
    with pytest.raises(JournalLocked, match="locked by another process"):
        await FileLock(path).acquire(SystemClock(), 0)
    lock.release()


async def test_a_place_that_cannot_hold_a_lock_says_so(tmp_path: Path) -> None:
    """A directory in the lock's place is a clear error."""
    (tmp_path / "j.lock").mkdir()
    with pytest.raises(JournalError, match=r"cannot create the lock .*j\.lock"):
        await FileLock(tmp_path / "j.lock").acquire(SystemClock(), 0)


async def test_what_cannot_be_locked_says_so() -> None:
    """A file that the system will not lock or truncate is a clear error, not a held lock."""
    lock = FileLock(Path("/dev/full"))
    with pytest.raises(JournalError, match="cannot lock"):
        await lock.acquire(SystemClock(), 0)
    assert not lock.held()
