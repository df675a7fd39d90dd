"""What the contract suite needs to know of each journal: how to make it, break it, stall it and crash it.

To add a backend, write one more subclass of :class:`Backend` and name it in ``BACKENDS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from services.mcp.order_execution.errors import JournalError
from services.mcp.order_execution.journals.base import Journal
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.contract.journals.stories import NOON


class ManualClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return self.seconds


class Backend(ABC):
    """One storage and the journals on it; everything opened here is closed at the end of the test."""

    one_writer = True
    """Whether a second writer is refused; a backend with leases lets it in."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.stack = AsyncExitStack()

    @abstractmethod
    def make(self, *, read_only: bool = False, **options: Any) -> Journal:
        """A journal on the storage, not yet opened."""

    async def open(self, **options: Any) -> Journal:
        """A journal on the storage, open."""
        journal = self.make(**options)
        await journal.open()
        self.stack.push_async_callback(_close, journal)
        return journal

    @abstractmethod
    async def crash(self, journal: Journal) -> None:
        """End the journal's process as by kill -9: the storage keeps what was durable, and nothing else."""

    @abstractmethod
    def break_disk(self) -> None:
        """Let every write fail from now on."""

    @abstractmethod
    def repair_disk(self) -> None:
        """Let writes succeed again."""

    @abstractmethod
    def fill_disk(self, full: bool) -> None:
        """Bring free space below the threshold, or above it."""

    @abstractmethod
    def stalled(self, journal: Journal) -> contextlib.AbstractContextManager[None]:
        """Within it, nothing that is appended becomes durable."""

    async def reached(self, journal: Journal, waiting: int) -> None:
        """Wait until so many entries wait, and the turn of the loop that brought them is over."""
        async with asyncio.timeout(10):
            while journal.health().waiting < waiting:  # noqa: ASYNC110 - health() has no event to wait for
                await asyncio.sleep(0)
        await asyncio.sleep(0)


async def _close(journal: Journal) -> None:
    with contextlib.suppress(JournalError):  # a test that broke the disk has asserted what it had to
        await journal.close()


class MemoryBackend(Backend):
    """The shipped testing aid."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.store = MemoryStore()

    def make(self, *, read_only: bool = False, **options: Any) -> Journal:
        return MemoryJournal(self.clock, store=self.store, read_only=read_only, **options)

    async def crash(self, journal: Journal) -> None:
        assert isinstance(journal, MemoryJournal)
        journal.crash()

    def break_disk(self) -> None:
        MemoryJournal(self.clock, store=self.store).fail_forever()

    def repair_disk(self) -> None:
        MemoryJournal(self.clock, store=self.store).repair()

    def fill_disk(self, full: bool) -> None:
        self.store.full = full

    @contextmanager
    def stalled(self, journal: Journal) -> Iterator[None]:
        assert isinstance(journal, MemoryJournal)
        journal.pause()
        try:
            yield
        finally:
            journal.resume()


class SQLiteBackend(Backend):
    """The default journal, on a real file."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "data" / "journal.db"
        self.free = 2**40

    def make(self, *, read_only: bool = False, **options: Any) -> Journal:
        return SQLiteJournal(self.path, self.clock, read_only=read_only, free_bytes=lambda _: self.free, **options)

    async def crash(self, journal: Journal) -> None:
        # The files as they lie there are what a killed process leaves: SQLite writes through the system.
        image = self.path.parent.with_name("image")
        shutil.copytree(self.path.parent, image)
        with contextlib.suppress(JournalError):
            await journal.close()
        shutil.rmtree(self.path.parent)
        image.rename(self.path.parent)

    def break_disk(self) -> None:
        self._execute(
            "CREATE TRIGGER broken BEFORE INSERT ON order_events BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )

    def repair_disk(self) -> None:
        self._execute("DROP TRIGGER broken")

    def fill_disk(self, full: bool) -> None:
        self.free = 0 if full else 2**40
        self.clock.seconds += 1.0

    @contextmanager
    def stalled(self, journal: Journal) -> Iterator[None]:
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.rollback()
            other.close()

    def _execute(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute(statement)


BACKENDS: dict[str, type[MemoryBackend] | type[SQLiteBackend]] = {
    "memory": MemoryBackend,
    "sqlite": SQLiteBackend,
}


@asynccontextmanager
async def backend_on(name: str, directory: Path) -> AsyncIterator[Backend]:
    """A fresh storage; its journals are closed at the end."""
    backend = BACKENDS[name](directory)
    async with backend.stack:
        yield backend
