"""The SQLite file: how it is made, opened, checked and brought up to date.

Everything here blocks and runs in the thread that owns the connection.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import JournalError, JournalSchemaError

APPLICATION_ID: Final = 0x4F45584A
"""Marks the file as ours ("OEXJ"); the ``file`` command and we tell it from other programs' databases."""

_BUSY_SECONDS: Final = 5.0
_FILE_MODE: Final = 0o600

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta (name, value) VALUES ('epoch', '0'), ('clean_shutdown', '1')",
        "CREATE TABLE flags (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """
        CREATE TABLE order_events (
            seq      INTEGER PRIMARY KEY,
            order_id TEXT    NOT NULL,
            n        INTEGER NOT NULL,
            kind     TEXT    NOT NULL,
            at       INTEGER NOT NULL, -- microseconds since 1970, UTC; for people: seq gives the order
            epoch    INTEGER NOT NULL,
            body     TEXT    NOT NULL,
            UNIQUE (order_id, n)
        )
        """,
        """
        CREATE TRIGGER order_events_append_only BEFORE UPDATE ON order_events
        BEGIN SELECT RAISE(ABORT, 'order_events is append-only'); END
        """,
        """
        CREATE TABLE orders (
            order_id          TEXT    NOT NULL PRIMARY KEY,
            symbol            TEXT    NOT NULL,
            state             TEXT    NOT NULL,
            exchange_order_id TEXT,
            created_at        INTEGER NOT NULL, -- never changes
            updated_at        INTEGER NOT NULL,
            n                 INTEGER NOT NULL, -- the version: how many events the order has
            owner             TEXT    NOT NULL,
            epoch             INTEGER NOT NULL,
            body              TEXT    NOT NULL
        )
        """,
        """
        CREATE INDEX orders_open ON orders (created_at, order_id)
        WHERE state NOT IN ('filled', 'canceled', 'expired', 'rejected')
        """,
        "CREATE INDEX orders_created ON orders (created_at, order_id)",
        """
        CREATE INDEX orders_exchange_id ON orders (exchange_order_id)
        WHERE exchange_order_id IS NOT NULL
        """,
    ),
    (
        # A final order whose fills are not told yet is followed further: the index of open ones has it too.
        "ALTER TABLE orders ADD COLUMN settled INTEGER NOT NULL DEFAULT 0",
        "UPDATE orders SET settled = 1 WHERE state IN ('filled', 'canceled', 'expired', 'rejected')",
        "DROP INDEX orders_open",
        "CREATE INDEX orders_open ON orders (created_at, order_id) WHERE settled = 0",
    ),
)
"""Migration number n leads from schema n - 1 to schema n, in one transaction. Never edit one: append."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
CHECKED_AT_ONCE_BYTES: Final = 16 * 2**20
"""A file up to this size is read through before it is used; a larger one beside its use (:mod:`.sqlite_check`)."""


def create_directory(path: Path) -> None:
    """Make the directory that the file lies in, durably. Raises JournalError."""
    directory = path.parent
    try:
        missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        for created in missing:
            _sync_directory(created.parent)
    except OSError as error:
        raise JournalError(f"cannot create the directory {directory}: {error.strerror}") from error


def create_file(path: Path) -> None:
    """Make the file, readable by its owner alone, where there is none. Raises JournalError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
    except OSError as error:
        raise JournalError(f"cannot create the journal {path}: {error.strerror}") from error


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open for writing, bring up to date and check. Raises JournalSchemaError, JournalError."""
    return _connect(path, read_only=False)


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open for reading only, beside whoever writes. Raises JournalSchemaError, JournalError."""
    return _connect(path, read_only=True)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    try:
        if read_only and not path.is_file():
            raise JournalError(f"there is no journal at {path}; a writer creates it")
        uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    except (sqlite3.Error, OSError) as error:
        raise describe(error, path) from error
    try:
        version = _identify(connection, path)
        if read_only:
            _require_current(version, path)
            connection.execute("PRAGMA query_only = 1")
        else:
            _make_durable(connection, path)
            _migrate(connection, version)
            _check_after_crash(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise describe(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def describe(error: Exception, path: Path) -> JournalError:
    """Say in our words what SQLite or the system said of this file."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_NOTADB:
        return JournalSchemaError(f"{path} is not a journal: it is no SQLite database")
    if code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT:
        return corrupt(path, str(error))
    return JournalError(f"journal {path}: {error}")


def corrupt(path: Path, finding: str) -> JournalError:
    """Make the error for a damaged file."""
    return JournalError(
        f"the journal {path} is damaged ({finding}); send nothing: restore a backup, or move the file "
        "aside and let a reconciliation adopt what the exchange has"
    )


def _identify(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's schema version, 0 for a new one; refuse what is not ours before changing anything."""
    tables = scalar(connection, "SELECT count(*) FROM sqlite_master")
    version = scalar(connection, "PRAGMA user_version")
    application = scalar(connection, "PRAGMA application_id")
    if application == 0 and version == 0 and tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise JournalSchemaError(f"{path} is not a journal: it is another program's database")
    if version > SCHEMA_VERSION:
        raise JournalSchemaError(
            f"{path} has schema {version}, written by a newer version of this library; "
            f"this one knows schemas up to {SCHEMA_VERSION}"
        )
    return version


def _require_current(version: int, path: Path) -> None:
    if version == 0:
        raise JournalError(f"the journal {path} is empty; its writer has not set it up yet")
    if version < SCHEMA_VERSION:
        raise JournalSchemaError(
            f"{path} has schema {version}, this library reads {SCHEMA_VERSION}; a writer brings it up to date"
        )


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    """Set what durability rests on, and refuse to go on where it was not taken."""
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = 1")  # macOS: its plain fsync does not reach the disk
    connection.execute("PRAGMA checkpoint_fullfsync = 1")
    connection.execute(f"PRAGMA journal_size_limit = {64 * 2**20}")
    synchronous = scalar(connection, "PRAGMA synchronous")
    if mode != "wal" or synchronous != 2:
        raise JournalError(
            f"{path} cannot be made durable: journal_mode is {mode} and synchronous {synchronous}, "
            "needed are wal and 2; is it on a network share?"
        )


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise


def _check_after_crash(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole file through once when the last writer did not close it, unless that takes long."""
    if not was_closed(connection) and not is_large(path):
        check_pages(connection, path)


def was_closed(connection: sqlite3.Connection) -> bool:
    """Whether the last writer closed the file."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'clean_shutdown'").fetchone()
    return row is not None and row[0] == "1"


def is_large(path: Path) -> bool:
    """Whether reading the file through takes so long that opening it does not wait."""
    return path.stat().st_size > CHECKED_AT_ONCE_BYTES


def check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole file through. Raises JournalError where it is damaged."""
    findings = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if findings != ["ok"]:
        raise corrupt(path, "; ".join(findings))


def begin_epoch(connection: sqlite3.Connection) -> int:
    """Mark the file as in use and return the number of this opening, which every append is stamped with."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        epoch = read_epoch(connection) + 1
        connection.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (str(epoch),))
        connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean_shutdown'")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return epoch


def end_epoch(connection: sqlite3.Connection, *, checked: bool = True) -> None:
    """Mark the file as closed cleanly, unless it has still to be checked, and move the log into it."""
    if checked:
        connection.execute("UPDATE meta SET value = '1' WHERE name = 'clean_shutdown'")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def read_epoch(connection: sqlite3.Connection) -> int:
    """Return the number of the latest opening."""
    return int(connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0])


def roll_back(connection: sqlite3.Connection) -> None:
    """Leave a transaction that failed; where even that fails, SQLite has left it or recovery will."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def scalar(connection: sqlite3.Connection, query: str) -> int:
    """Return the one number that a query answers."""
    return int(connection.execute(query).fetchone()[0])


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
