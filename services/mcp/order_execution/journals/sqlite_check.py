"""Reading a large file through after an unclean end, beside its use: opening does not wait for it, new orders do.

What is open is asked for at the exchange meanwhile, and may be canceled; what is found damaged stops new orders.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Final

from ..errors import JournalError
from .sqlite_schema import check_pages, connect_reader, describe
from .worker_thread import WorkerThread

_STEPS: Final = 10_000


class FileCheck:
    """One look at every page, by a connection and in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = WorkerThread("journal-check")
        self._connection: sqlite3.Connection | None = None
        self._stopped = False

    async def run(self) -> None:
        """Read it through. Raises JournalError where it is damaged, and CancelledError once it was stopped."""
        self._thread.start()
        try:
            await self._thread.call(self._check_in_thread)
        except JournalError:
            if self._stopped:
                raise asyncio.CancelledError from None
            raise
        finally:
            self._thread.stop(0)

    def stop(self) -> None:
        """Break it off; harmless when it has ended."""
        self._stopped = True
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def _check_in_thread(self) -> None:
        connection = connect_reader(self._path)
        # Either stops it: an interruption while SQLite is within a long step, the handler wherever else it is.
        connection.set_progress_handler(lambda: self._stopped, _STEPS)
        self._connection = connection
        try:
            check_pages(connection, self._path)
        except sqlite3.Error as error:
            raise describe(error, self._path) from error
        finally:
            self._connection = None
            connection.close()
