"""A disk that goes away altogether: whoever waits for the journal is told, rather than left waiting."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals import file_lock
from services.mcp.order_execution.journals.file_lock import FileLock
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.contract.journals.stories import intent

CALLS: dict[str, Callable[[SQLiteJournal], Awaitable[object]]] = {
    "commit": lambda journal: journal.commit(intent("o")),
    "set_flag": lambda journal: journal.set_flag("halt", "x"),
    "flush": lambda journal: journal.flush(),
}


def gone(_: int) -> os.stat_result:
    """What a mount that died answers."""
    raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


@pytest.mark.parametrize("name", CALLS)
async def test_who_waits_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The write fails, and then even the lock cannot be looked at."""
    journal = SQLiteJournal(tmp_path / "journal.db", SystemClock(), min_free_bytes=0)
    await journal.open()
    writer = journal._writer
    assert writer is not None
    connection = writer._connection
    assert connection is not None
    await writer._thread.call(connection.close)  # every write fails from now on
    with monkeypatch.context() as patched:
        patched.setattr(file_lock.os, "fstat", gone)
        journal.enqueue(intent("earlier"))
        with pytest.raises(JournalError):
            await asyncio.wait_for(CALLS[name](journal), 5)
        assert not journal.owns("o")
    with suppress(JournalError):
        await journal.close()


async def test_a_lock_that_cannot_be_looked_at_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say that it is ours."""
    lock = FileLock(tmp_path / "journal.db.lock")
    await lock.acquire(SystemClock(), 0.0)
    assert lock.held()
    with monkeypatch.context() as patched:
        patched.setattr(file_lock.os, "fstat", gone)
        assert not lock.held()
    lock.release()
