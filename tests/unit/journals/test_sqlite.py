"""The SQLite journal against real processes, real disks and real kills."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import (
    JournalError,
    JournalFull,
    JournalLocked,
    JournalSchemaError,
    JournalUnavailable,
)
from services.mcp.order_execution.journals import sqlite as module
from services.mcp.order_execution.journals.sqlite import SQLiteJournal, free_disk_bytes
from tests.contract.journals.backends import ManualClock
from tests.contract.journals.stories import accepted, intent

ROOT = Path(__file__).resolve().parents[3]

PROLOGUE = """
import asyncio, os, resource, sys
from pathlib import Path
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import JournalError, JournalUnavailable
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.contract.journals.stories import accepted, intent

def journal(**options):
    return SQLiteJournal(Path(sys.argv[1]), SystemClock(), **options)

def say(*words):
    print(*words, flush=True)
"""


@contextmanager
def process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs ``script``; killed at the end if it still runs."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    """The next line that the process says."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def run(script: str, path: Path) -> str:
    """What a process says that runs to its end by itself."""
    with process(script, path) as child:
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        return output


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SQLiteJournal]:
    opened = SQLiteJournal(path, SystemClock())
    await opened.open()
    yield opened
    with suppress(JournalError):
        await opened.close()


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# ---- kills ------------------------------------------------------------------------------------------------

KILLED = """
async def main():
    mine = journal()
    await mine.open()
    async def producer(number):
        for count in range(100_000):
            event = intent(f"{number}-{count}")
            await mine.commit(event)
            say(event.order_id)
            mine.enqueue(accepted(event))
    await asyncio.gather(*(producer(number) for number in range(8)))
asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 40, 700])
def test_kill_nine_loses_nothing_that_was_acknowledged(path: Path, acknowledged: int) -> None:
    """A process that is killed in the middle of concurrent commits: each that returned is in the file."""
    with process(KILLED, path) as child:
        told = [line(child) for _ in range(acknowledged)]
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        told += [text.strip() for text in child.stdout if text.endswith("\n")]
        child.wait()

    async def reopen() -> set[str]:
        after = SQLiteJournal(path, SystemClock())
        await after.open()
        found = {order.order_id for order in await after.claim()}
        assert len(found) == await after.count()
        await after.close()
        return found

    assert len(told) >= acknowledged
    assert set(told) <= asyncio.run(reopen())
    versions = rows(
        path, "SELECT o.n, count(*), max(e.n) FROM orders o JOIN order_events e USING (order_id) GROUP BY 1"
    )
    assert all(n == latest for n, _, latest in versions)


CRASHED = """
async def main():
    mine = journal()
    await mine.open()
    await mine.commit(intent("o-1"))
    raise SystemExit(7)
asyncio.run(main())
"""


def test_a_program_that_dies_without_closing_ends(path: Path) -> None:
    """The threads do not keep a crashed program alive, and the next opening finds its order."""
    with process(CRASHED, path) as child:
        assert child.wait(timeout=30) == 7
    assert rows(path, "SELECT value FROM meta WHERE name = 'clean_shutdown'") == [("0",)]
    assert rows(path, "SELECT order_id FROM orders") == [("o-1",)]


# ---- other processes --------------------------------------------------------------------------------------

HOLDS = """
async def main():
    mine = journal()
    await mine.open()
    await mine.commit(intent("o-1"))
    say("ready")
    for order_id in sys.stdin:
        await mine.commit(intent(order_id.strip()))
        say("done")
    await mine.close()
asyncio.run(main())
"""


def test_a_companion_reads_beside_a_live_writer(path: Path) -> None:
    """In another process, while it writes: each commit is seen at once, and the writer is not disturbed."""
    with process(HOLDS, path) as writer:
        assert line(writer) == "ready"

        async def companion() -> None:
            mine = SQLiteJournal(path, SystemClock(), read_only=True)
            await mine.open()
            for number in range(2, 6):
                assert writer.stdin is not None
                writer.stdin.write(f"o-{number}\n")
                writer.stdin.flush()
                assert line(writer) == "done"
                assert await mine.count() == number
            await mine.close()

        asyncio.run(companion())
        assert writer.stdin is not None
        writer.stdin.close()
        assert writer.wait(timeout=30) == 0


def test_a_second_process_is_told_who_writes(path: Path) -> None:
    """The error names the process; once that one is killed, the place is free."""

    async def second() -> None:
        mine = SQLiteJournal(path, SystemClock())
        try:
            await mine.open()
            assert await mine.count() == 1
        finally:
            await mine.close()

    with process(HOLDS, path) as writer:
        assert line(writer) == "ready"
        with pytest.raises(JournalLocked, match=f"process {writer.pid} on"):
            asyncio.run(second())
        writer.kill()
        writer.wait()
        asyncio.run(second())


async def test_a_wait_for_the_lock_is_rewarded(path: Path, journal: SQLiteJournal) -> None:
    """With ``lock_wait_seconds`` a successor takes over when its predecessor has closed."""
    successor = SQLiteJournal(path, SystemClock(), lock_wait_seconds=30)
    waiting = asyncio.create_task(successor.open())
    await asyncio.sleep(0)
    await journal.commit(intent("o-1"))
    await journal.close()
    await waiting
    assert await successor.count() == 1
    await successor.close()


async def test_two_names_of_one_file_share_its_lock(path: Path, journal: SQLiteJournal) -> None:
    """A symbolic link is no way around the one writer."""
    alias = path.with_name("alias.db")
    alias.symlink_to(path)
    with pytest.raises(JournalLocked):
        await SQLiteJournal(alias, SystemClock()).open()


FORKS = """
async def main():
    mine = journal()
    await mine.open()
    await mine.commit(intent("o-1"))
    child = os.fork()
    if child == 0:
        outcome = "sent"
        try:
            await mine.commit(intent("o-2"))
        except JournalUnavailable as error:
            outcome = str(error)
        say(mine.owns("o-1"), outcome)
        os._exit(0)
    os.waitpid(child, 0)
    await mine.commit(intent("o-3"))
    say(await mine.count())
    await mine.close()
asyncio.run(main())
"""


def test_a_forked_process_has_no_part_in_the_journal(path: Path) -> None:
    """The child owns nothing and is refused; the parent goes on."""
    told = run(FORKS, path).splitlines()
    assert told[0].startswith("False the journal ")
    assert "another event loop or process" in told[0]
    assert told[1] == "2"


# ---- disks ------------------------------------------------------------------------------------------------

FILE_LIMIT = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    mine = journal()
    await mine.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    acked = 0
    try:
        for number in range(10_000):
            await mine.commit(intent(f"o-{number}"))
            acked += 1
    except JournalError as error:
        say(type(error).__name__, error)
    try:
        await mine.commit(intent("later"))
    except JournalUnavailable as error:
        say(type(error).__name__)
    mine.enqueue(intent("behind"))
    say(mine.health().failure)
    say((await mine.get("o-0")).order_id)
    say(acked)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await mine.close()
    await mine.open()
    say(mine.health().failure, await mine.count())
    await mine.commit(intent("later"))
    await mine.close()
asyncio.run(main())
"""


def test_a_write_that_the_system_refuses_stops_orders(path: Path) -> None:
    """A real write error: in doubt, then refused, reads go on; after opening anew all acknowledged are there."""
    told = run(FILE_LIMIT, path).splitlines()
    assert told[0].startswith("JournalError the append failed and may or may not be on disk: disk I/O error")
    assert told[1] == "JournalUnavailable"
    assert told[2] == "an append failed: disk I/O error"
    assert told[3] == "o-0"
    acked = int(told[4])
    assert acked > 10
    sound, count = told[5].split()
    assert sound == "None"
    assert int(count) in {acked, acked + 1}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not made or made.returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run([str(shutil.which("umount")), "--lazy", str(place)], check=True)


async def test_a_full_disk_stops_orders_before_it_is_full(tiny_disk: Path) -> None:
    """On a real small disk: intents are refused at the threshold, closing goes on, space brings them back."""
    ballast = tiny_disk / "ballast"
    clock = ManualClock()
    journal = SQLiteJournal(tiny_disk / "journal.db", clock, min_free_bytes=300_000)
    await journal.open()
    first = intent("o-1")
    await journal.commit(first)
    ballast.write_bytes(b"x" * (free_disk_bytes(tiny_disk) - 200_000))
    await journal.commit(intent("o-2"))  # looked up at most once a second
    clock.seconds += 1
    with pytest.raises(JournalFull, match="300000 are kept"):
        await journal.commit(intent("o-3"))
    journal.enqueue(accepted(first))
    await journal.flush()
    ballast.unlink()
    clock.seconds += 1
    await journal.commit(intent("o-3"))
    await journal.close()


async def test_a_disk_that_is_full_all_the_same_fails_honestly(tiny_disk: Path) -> None:
    """No space left in the middle of an append: in doubt, refused from then on; nothing acknowledged is lost."""
    journal = SQLiteJournal(tiny_disk / "journal.db", SystemClock(), min_free_bytes=0)
    await journal.open()
    acknowledged = []
    failure = None
    for number in range(10_000):
        try:
            await journal.commit(intent(f"o-{number}"))
        except JournalError as error:
            failure = str(error)
            break
        acknowledged.append(f"o-{number}")
    assert "full" in str(failure)
    with pytest.raises(JournalUnavailable):
        await journal.commit(intent("later"))
    assert await journal.count() == len(acknowledged) > 10
    await journal.close()
    companion = SQLiteJournal(tiny_disk / "journal.db", SystemClock(), read_only=True)
    await companion.open()
    assert {order.order_id for order in await companion.claim()} >= set(acknowledged)
    await companion.close()


async def test_a_disk_that_cannot_be_measured_refuses_orders(path: Path) -> None:
    """Not knowing is no permission."""

    def gone(_: Path) -> int:
        raise OSError("gone")

    journal = SQLiteJournal(path, SystemClock(), free_bytes=gone)
    await journal.open()
    with pytest.raises(JournalUnavailable, match="cannot tell how much disk is free"):
        await journal.commit(intent("o-1"))
    await journal.close()


def test_free_space_is_that_of_the_disk(tmp_path: Path) -> None:
    """The default measure is the system's."""
    assert 0 < free_disk_bytes(tmp_path) <= shutil.disk_usage(tmp_path).total


@pytest.mark.parametrize("victim", ["journal.db", "journal.db.lock"])
async def test_a_file_that_was_taken_away_is_noticed_before_sending(
    path: Path, journal: SQLiteJournal, victim: str
) -> None:
    """When file or lock was removed, this process owns no order any more and takes no further ones."""
    await journal.commit(intent("o-1"))
    assert journal.owns("o-1")
    path.with_name(victim).unlink()
    assert not journal.owns("o-1")
    with pytest.raises(JournalUnavailable, match="removed or replaced"):
        await journal.commit(intent("o-2"))


# ---- opening and closing ----------------------------------------------------------------------------------


def _spoil(path: Path) -> None:
    path.write_text("not a journal " * 500)


def _remove(path: Path) -> None:
    path.unlink()


async def test_an_opening_that_fails_leaves_nothing_held(path: Path) -> None:
    """After a refusal, neither lock nor thread stays behind, and ``close`` is harmless."""
    _spoil(path)
    journal = SQLiteJournal(path, SystemClock())
    with pytest.raises(JournalSchemaError):
        await journal.open()
    await journal.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("journal-")]
    _remove(path)
    await journal.open()
    await journal.commit(intent("o-1"))
    await journal.close()


async def test_a_file_that_cannot_be_marked_as_in_use_is_not_opened(path: Path) -> None:
    """Where even the first write fails, ``open`` says so and lets go of everything."""
    journal = SQLiteJournal(path, SystemClock())
    await journal.open()
    await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER broken BEFORE UPDATE ON meta BEGIN SELECT RAISE(FAIL, 'worn out'); END")
    with pytest.raises(JournalError, match="worn out"):
        await journal.open()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER broken")
    await journal.open()
    await journal.commit(intent("o-1"))
    await journal.close()


async def test_a_cancelled_opening_leaves_nothing_held(path: Path) -> None:
    """A caller that gives up while the journal opens may open it again."""
    journal = SQLiteJournal(path, SystemClock())
    opening = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    other = SQLiteJournal(path, SystemClock())
    await other.open()
    await other.close()
    await journal.open()
    await journal.close()


async def test_a_clean_end_leaves_one_tidy_file(path: Path, journal: SQLiteJournal) -> None:
    """The log is moved into the file, which can then be copied alone; the threads have ended."""
    await journal.commit(intent("o-1"))
    await asyncio.gather(journal.close(), journal.close())
    assert sorted(item.name for item in path.parent.iterdir()) == ["journal.db", "journal.db.lock"]
    assert rows(path, "SELECT value FROM meta WHERE name = 'clean_shutdown'") == [("1",)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("journal-")]


async def test_after_a_failure_the_log_is_left_for_the_next_opening(path: Path, journal: SQLiteJournal) -> None:
    """Closing a failed journal does not touch the disk's evidence further."""
    await journal.commit(intent("o-1"))
    assert journal.owns("o-1")
    path.with_name("journal.db.lock").unlink()
    assert not journal.owns("o-1")
    await journal.close()
    assert path.with_name("journal.db-wal").stat().st_size > 0
    assert rows(path, "SELECT order_id FROM orders") == [("o-1",)]


async def test_a_disk_that_hangs_does_not_hang_the_close(
    path: Path, journal: SQLiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``close`` gives up in bounded time and keeps the lock, since the thread may still write."""
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 0.05)
    gate = threading.Event()
    assert journal._writer is not None
    journal._writer._thread.submit(lambda: gate.wait(10))
    journal.enqueue(intent("o-1"))
    with pytest.raises(JournalError, match="stays locked"):
        await journal.close()
    with pytest.raises(JournalLocked):
        await SQLiteJournal(path, SystemClock()).open()
    gate.set()
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 30)
    await journal.close()
    assert rows(path, "SELECT order_id FROM orders") == [("o-1",)]


async def test_a_thread_that_does_not_end_keeps_the_lock(
    journal: SQLiteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the last step is the slow one."""
    monkeypatch.setattr(module, "_JOIN_SECONDS", 0.01)
    gate = threading.Event()
    writer = journal._writer
    assert writer is not None
    close = writer.close

    async def close_and_linger() -> None:
        await close()
        writer._thread.submit(lambda: gate.wait(10))

    monkeypatch.setattr(writer, "close", close_and_linger)
    with pytest.raises(JournalError, match="stays locked"):
        await journal.close()
    gate.set()
    monkeypatch.setattr(writer, "close", close)
    await journal.close()


def test_another_loop_is_refused_and_may_close(path: Path) -> None:
    """A journal belongs to the loop that opened it; only ``close`` works from elsewhere."""
    journal = SQLiteJournal(path, SystemClock())

    async def first() -> None:
        await journal.open()
        await journal.commit(intent("o-1"))

    async def second() -> None:
        with pytest.raises(JournalUnavailable, match="another event loop"):
            await journal.commit(intent("o-2"))
        with pytest.raises(JournalError, match="another event loop"):
            journal.enqueue(intent("o-2"))
        with pytest.raises(JournalError, match="another event loop"):
            await journal.get("o-1")
        await journal.close()

    asyncio.run(first())
    asyncio.run(second())
    assert rows(path, "SELECT order_id FROM orders") == [("o-1",)]


async def test_the_switch_interval_is_lent(path: Path) -> None:
    """Threads take turns faster while the journal is open, and as before afterwards."""
    before = sys.getswitchinterval()
    journal = SQLiteJournal(path, SystemClock(), switch_interval=0.0001)
    await journal.open()
    assert sys.getswitchinterval() == pytest.approx(0.0001)
    await journal.close()
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_health_may_be_asked_from_any_thread(journal: SQLiteJournal) -> None:
    """A metrics server asks from its own thread."""
    await journal.commit(intent("o-1"))
    health = await asyncio.to_thread(journal.health)
    assert (health.lag, health.failure, health.waiting) == (0.0, None, 0)


async def test_a_missing_journal_has_no_companion(path: Path) -> None:
    """Reading what is not there is a clear error and makes no file."""
    with pytest.raises(JournalError, match="there is no journal at"):
        await SQLiteJournal(path, SystemClock(), read_only=True).open()
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights for a moment")
def test_a_file_that_may_not_be_read_is_named(path: Path) -> None:
    """Missing rights are a clear error with the path, for writer and companion."""
    script = """
path.write_bytes(b""); path.chmod(0o600); path.parent.chmod(0o755); os.setuid(65534)
async def main():
    for read_only in (False, True):
        try:
            await journal(read_only=read_only).open()
        except JournalError as error:
            say(error)
asyncio.run(main())
""".replace("path", "Path(sys.argv[1])")
    told = run(script, path).splitlines()
    assert len(told) == 2
    assert all(str(path.parent) in text for text in told)
