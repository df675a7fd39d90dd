"""The exchange's file: made, recognised, and refused where it is not ours or not the same exchange."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.paper_exchange import schema
from services.mcp.order_execution.paper_exchange.schema import VERSION, Character, ExchangeDown, connect
from tests.unit.paper_exchange.desk import NOON, D

CHARACTER = Character(seed=1, step_seconds=1.0, volatility=0.0001, depth_usd=25_000.0)


def open_and_close(path: Path, character: Character = CHARACTER) -> None:
    connect(path, character, NOON, None).close()


def refusal(path: Path, character: Character = CHARACTER) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        connect(path, character, NOON, None)
    return raised.value


def test_a_missing_file_is_made_with_its_directories(tmp_path: Path) -> None:
    """And opened again as what it is."""
    path = tmp_path / "some" / "where" / "paper.db"
    with closing(connect(path, CHARACTER, NOON, {"USD": D("1000.50")})) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("SELECT * FROM balances").fetchall() == [("USD", "1000.50", "0")]
    with closing(connect(path, CHARACTER, NOON, {"EUR": D(5)})) as db:
        assert db.execute("SELECT currency FROM balances").fetchall() == [("USD",)]


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """By its number, and nothing in it is touched."""
    path = tmp_path / "paper.db"
    open_and_close(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    error = refusal(path)
    assert error.field == "gateway.paper.path"
    assert "newer version" in str(error)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE journal (id)", "PRAGMA user_version = 3", "PRAGMA application_id = 9"]
)
def test_another_programs_database_is_refused(tmp_path: Path, statement: str) -> None:
    """Nothing is added to it."""
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
    assert "another program" in str(refusal(path))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'world'").fetchone() == (0,)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """A file of something else, and a directory."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at as one " * 30)
    assert "is not a paper exchange" in str(refusal(path))
    assert "cannot be opened" in str(refusal(tmp_path))
    assert "cannot be opened" in str(refusal(path / "inside"))


def test_a_file_that_cannot_be_written_is_refused() -> None:
    """With the reason that the system gives."""
    assert "cannot be" in str(refusal(Path("/proc/paper.db")))


def test_a_file_of_a_later_format_is_refused(tmp_path: Path) -> None:
    """SQLite opens it for reading alone, which is not enough."""
    path = tmp_path / "paper.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    content = bytearray(path.read_bytes())
    content[18] = 9  # the header's write version
    path.write_bytes(content)
    assert "cannot be written" in str(refusal(path))


@pytest.mark.parametrize(
    ("character", "field"),
    [
        (Character(2, 1.0, 0.0001, 25_000.0), "seed"),
        (Character(1, 2.0, 0.0001, 25_000.0), "step_seconds"),
        (Character(1, 1.0, 0.0002, 25_000.0), "volatility"),
        (Character(1, 1.0, 0.0001, 5_000.0), "depth_usd"),
    ],
)
def test_another_character_is_another_exchange(tmp_path: Path, character: Character, field: str) -> None:
    """What fixes the prices cannot be changed under orders that rest; the setting is named."""
    path = tmp_path / "paper.db"
    open_and_close(path)
    error = refusal(path, character)
    assert error.field == f"gateway.paper.{field}"
    assert "another path" in str(error)


def test_a_large_seed_is_kept_whole(tmp_path: Path) -> None:
    """Beyond what an integer column holds."""
    path = tmp_path / "paper.db"
    large = Character(10**40, 0.25, 0.0001, 25_000.0)
    open_and_close(path, large)
    open_and_close(path, large)


def test_a_busy_file_is_down_not_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds it is a reason to try again, not a wrong setting."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.0)
    path = tmp_path / "paper.db"
    open_and_close(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ExchangeDown, match="is busy"):
            connect(path, CHARACTER, NOON, None)
        other.execute("ROLLBACK")
    open_and_close(path)
