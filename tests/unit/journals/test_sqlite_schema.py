"""The journal's file: what is accepted, what is refused, and what it looks like."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import JournalError, JournalSchemaError
from services.mcp.order_execution.journals import sqlite_schema
from services.mcp.order_execution.journals.sqlite_schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    begin_epoch,
    connect_reader,
    connect_writer,
    create_directory,
    create_file,
    end_epoch,
    read_epoch,
    scalar,
)
from services.mcp.order_execution.models import OrderState


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "journal.db"
    create_file(made)
    return made


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect_writer(path)) as opened:
        yield opened


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Directories are made, and file and log have mode 0600; an existing file keeps its mode."""
    path = tmp_path / "a" / "b" / "journal.db"
    create_directory(path)
    create_file(path)
    with closing(connect_writer(path)) as connection:
        begin_epoch(connection)
        modes = {item.name: item.stat().st_mode & 0o777 for item in path.parent.iterdir()}
    assert modes == dict.fromkeys(["journal.db", "journal.db-wal", "journal.db-shm"], 0o600)
    path.chmod(0o640)
    create_file(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_place_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """A file where a directory should be, or the reverse, is a clear error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot create the directory .*file"):
        create_directory(tmp_path / "file" / "journal.db")
    with pytest.raises(JournalError, match="cannot create the journal"):
        create_file(tmp_path)


def test_durability_is_what_it_must_be(connection: sqlite3.Connection) -> None:
    """The log is written ahead and every commit reaches the disk."""
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert scalar(connection, "PRAGMA synchronous") == 2
    assert connection.execute("PRAGMA locking_mode").fetchone() == ("normal",)
    assert scalar(connection, "PRAGMA user_version") == SCHEMA_VERSION


def test_a_file_that_cannot_be_made_durable_is_refused() -> None:
    """Where SQLite does not take the settings, the journal does not open."""
    refusal = pytest.raises(JournalError, match="cannot be made durable: journal_mode is memory")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection, refusal:
        sqlite_schema._make_durable(connection, Path("journal.db"))


def test_opening_again_changes_nothing(path: Path) -> None:
    """Migrations run once; what they made is there the next time."""
    for expected in (1, 2):
        with closing(connect_writer(path)) as connection:
            assert begin_epoch(connection) == expected
            end_epoch(connection)


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    """A file of a newer version is not touched by this one, writing or reading."""
    with closing(connect_writer(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    for connect in (connect_writer, connect_reader):
        with pytest.raises(JournalSchemaError, match=f"schema {SCHEMA_VERSION + 1}, written by a newer version"):
            connect(path)
    assert path.read_bytes() == before


def test_a_reader_waits_for_its_writer_to_migrate(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A companion neither makes nor migrates a journal; it says who does."""
    with pytest.raises(JournalError, match="has not set it up yet"):
        connect_reader(path)
    connect_writer(path).close()
    monkeypatch.setattr(sqlite_schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(JournalSchemaError, match="a writer brings it up to date"):
        connect_reader(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A companion of a journal that is not there says so and makes nothing."""
    with pytest.raises(JournalError, match=r"there is no journal at .*gone\.db"):
        connect_reader(tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()


@pytest.mark.parametrize("connect", [connect_writer, connect_reader])
def test_another_file_is_refused_and_left_alone(path: Path, connect: object) -> None:
    """Neither a text nor another program's database is taken for a journal, and not a byte of it changes."""
    assert callable(connect)
    path.write_text("dear diary, " * 1_000)
    with pytest.raises(JournalSchemaError, match=r"journal\.db is not a journal: it is no SQLite database"):
        connect(path)
    assert path.read_text().startswith("dear diary")
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(JournalSchemaError, match="another program's database"):
        connect(path)
    assert path.read_bytes() == before


def test_names_with_odd_letters_are_files_like_others(tmp_path: Path) -> None:
    """A question mark, a hash or a per cent sign in the path is not taken for part of an address."""
    path = tmp_path / "od d?mode=memory#%41é.db"
    create_file(path)
    connect_writer(path).close()
    connect_reader(path).close()
    assert path.stat().st_size > 0


def test_a_failed_migration_leaves_the_former_schema(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is taken whole or not at all."""
    connect_writer(path).close()
    broken = ("CREATE TABLE half (x)", "CREATE TABLE orders (already_there)")
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(JournalError, match="already exists"):
        connect_writer(path)
    with closing(sqlite3.connect(path)) as connection:
        assert scalar(connection, "PRAGMA user_version") == SCHEMA_VERSION
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchone() is None


def test_damage_is_found_after_an_unclean_end_only(path: Path) -> None:
    """A file that was not closed is read through; one that was is trusted."""
    with closing(connect_writer(path)) as connection:
        begin_epoch(connection)
        connection.executemany(
            "INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES (?, 1, 'intent', 0, 1, ?)",
            [(f"o-{number}", "x" * 500) for number in range(200)],
        )
        end_epoch(connection)
        page = scalar(connection, "PRAGMA page_size")
        root = scalar(connection, "SELECT rootpage FROM sqlite_master WHERE name = 'order_events'")
    damaged = bytearray(path.read_bytes())
    damaged[(root - 1) * page + 12 : (root - 1) * page + 60] = b"\xff" * 48
    path.write_bytes(damaged)
    with closing(connect_writer(path)) as connection:
        connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean_shutdown'")
    with pytest.raises(JournalError, match="is damaged") as error:
        connect_writer(path)
    assert not isinstance(error.value, JournalSchemaError)
    assert str(path) in str(error.value)


def test_damage_that_sqlite_reports_is_called_damage(path: Path) -> None:
    """A file cut short is damaged, not another program's."""
    with closing(connect_writer(path)) as connection:
        end_epoch(connection)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\x00" * (len(whole) - 100))
    with pytest.raises(JournalError, match="is damaged"):
        connect_writer(path)


def test_each_opening_has_its_number(connection: sqlite3.Connection) -> None:
    """The epoch grows with each opening, and the mark of a clean end goes and comes."""
    mark = "SELECT value FROM meta WHERE name = 'clean_shutdown'"
    assert begin_epoch(connection) == 1
    assert begin_epoch(connection) == read_epoch(connection) == 2
    assert connection.execute(mark).fetchone() == ("0",)
    end_epoch(connection)
    assert connection.execute(mark).fetchone() == ("1",)


def test_an_opening_that_fails_is_undone(connection: sqlite3.Connection) -> None:
    """An error while the file is marked as in use leaves the former number."""
    connection.execute(
        "CREATE TRIGGER broken BEFORE UPDATE ON meta WHEN NEW.name = 'clean_shutdown' "
        "BEGIN SELECT RAISE(FAIL, 'broken'); END"
    )
    with pytest.raises(sqlite3.Error, match="broken"):
        begin_epoch(connection)
    assert read_epoch(connection) == 0
    assert not connection.in_transaction


def test_events_are_append_only(connection: sqlite3.Connection) -> None:
    """The database itself refuses to change an event."""
    connection.execute(
        "INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES ('o', 1, 'intent', 0, 1, '{}')"
    )
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("UPDATE order_events SET body = '[]'")


def test_a_journal_of_the_first_version_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was final then counts as settled, and what was open is still found by the index of open orders."""
    states = [state.value for state in OrderState]
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", MIGRATIONS[:1])
    monkeypatch.setattr(sqlite_schema, "SCHEMA_VERSION", 1)
    with closing(connect_writer(path)) as old:
        for state in states:
            old.execute("INSERT INTO orders VALUES (?, 'BTC/USD', ?, NULL, 0, 0, 1, 'me', 1, '{}')", (state, state))
    monkeypatch.undo()
    with closing(connect_writer(path)) as new:
        query = "SELECT order_id FROM orders INDEXED BY orders_open WHERE settled = 0"
        found = {row[0] for row in new.execute(query)}
    assert found == {state.value for state in OrderState if not state.is_final}


def test_a_reader_cannot_write(path: Path) -> None:
    """Not even by mistake."""
    connect_writer(path).close()
    with closing(connect_reader(path)) as reader, pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM orders")
