"""The exchange's file: its tables, how it is made and recognised, and who may not open it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError
from ..models import plain_decimal
from .records import to_us

VERSION: Final = 1
APPLICATION_ID: Final = 0x50585801
BUSY_SECONDS: Final = 2.0
"""How long an operation waits for another process's transaction before it gives up."""

CHECKPOINT_PAGES: Final = 4000
"""A checkpoint waits for the disk, inline: about once in five hundred orders, for some milliseconds."""

_SCHEMA: Final = """
CREATE TABLE world (
    id INTEGER PRIMARY KEY CHECK (id = 1), seed TEXT NOT NULL, step_us INTEGER NOT NULL,
    volatility REAL NOT NULL, depth_usd REAL NOT NULL, funds_at_will INTEGER NOT NULL,
    origin_us INTEGER NOT NULL, instant_us INTEGER NOT NULL, offset_us INTEGER NOT NULL,
    step INTEGER NOT NULL, orders INTEGER NOT NULL, trades INTEGER NOT NULL
);
CREATE TABLE balances (
    currency TEXT PRIMARY KEY, total TEXT NOT NULL, blocked TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    type TEXT NOT NULL, amount TEXT NOT NULL, price TEXT, stop_price TEXT, time_in_force TEXT NOT NULL,
    post_only INTEGER NOT NULL, created_us INTEGER NOT NULL, booked_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, state TEXT NOT NULL, is_open INTEGER NOT NULL, waiting INTEGER NOT NULL,
    reach REAL NOT NULL, filled TEXT NOT NULL, cost TEXT NOT NULL, fee TEXT NOT NULL, reason TEXT
);
CREATE INDEX orders_client ON orders (client_order_id);
CREATE INDEX orders_open ON orders (symbol, side, waiting, reach) WHERE is_open = 1;
CREATE INDEX orders_created ON orders (created_us) WHERE is_open = 0;
CREATE INDEX orders_closed ON orders (updated_us) WHERE is_open = 0;
CREATE TABLE trades (
    id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, client_order_id TEXT NOT NULL, symbol TEXT NOT NULL,
    side TEXT NOT NULL, price TEXT NOT NULL, amount TEXT NOT NULL, fee TEXT NOT NULL,
    fee_currency TEXT NOT NULL, maker INTEGER NOT NULL, at_us INTEGER NOT NULL
);
CREATE INDEX trades_order ON trades (order_id);
CREATE INDEX trades_at ON trades (at_us);
CREATE TABLE taken (
    symbol TEXT PRIMARY KEY, step INTEGER NOT NULL, asks TEXT NOT NULL, bids TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE in_flight (
    id INTEGER PRIMARY KEY, due_us INTEGER NOT NULL, age REAL NOT NULL, expiry REAL, request TEXT NOT NULL
);
CREATE INDEX in_flight_due ON in_flight (due_us, id);
CREATE TABLE buckets (
    lane TEXT PRIMARY KEY, tokens REAL NOT NULL, at_us INTEGER NOT NULL
) WITHOUT ROWID
"""
"""``reach`` is the price that sets an order off, as a float: it narrows a search and decides nothing.

``orders.created_us`` and ``updated_us`` are wall time, ``booked_us`` and ``in_flight.due_us`` the exchange's own.
"""


class ExchangeDown(Exception):
    """The exchange's own file failed it; the operation was rolled back unless the commit itself failed."""


@dataclass(frozen=True, slots=True)
class Character:
    """What was fixed when the file was made; another character is another exchange."""

    seed: int
    step_seconds: float
    volatility: float
    depth_usd: float

    @property
    def step_us(self) -> int:
        """The step in whole microseconds."""
        return round(self.step_seconds * 1e6)


def connect(
    path: Path, character: Character, now: datetime, balances: dict[str, Decimal] | None
) -> sqlite3.Connection:
    """Open the file, making it first where it is missing.

    Raises ConfigurationError where it cannot be used as this exchange, ExchangeDown while it is busy.
    """
    memory = str(path) == ":memory:"
    try:
        if not memory:
            path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(":memory:" if memory else path, timeout=BUSY_SECONDS, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, f"cannot be opened: {error}") from error
    try:
        if db.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute("BEGIN IMMEDIATE")
        _migrate(db, path, character, now, balances)
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise ExchangeDown(f"{path} is busy") from error
        raise _unusable(path, f"cannot be written: {error}") from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise _unusable(path, f"is not a paper exchange: {error}") from error
    except ConfigurationError:
        db.close()
        raise
    return db


def _unusable(path: Path, why: str, field: str = "path") -> ConfigurationError:
    return ConfigurationError(f"gateway.paper.{field}: {path} {why}", field=f"gateway.paper.{field}")


def _migrate(
    db: sqlite3.Connection,
    path: Path,
    character: Character,
    now: datetime,
    balances: dict[str, Decimal] | None,
) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    if owner == APPLICATION_ID and version > VERSION:
        raise _unusable(path, f"was written by a newer version of this library (schema {version}, not {VERSION})")
    if owner == APPLICATION_ID:
        _check_character(db, path, character)
        return
    if owner or version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise _unusable(path, "is another program's database")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    at = to_us(now)
    world = (str(character.seed), character.step_us, character.volatility, character.depth_usd)
    db.execute("INSERT INTO world VALUES (1, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)", (*world, balances is None, at, at))
    for currency, total in (balances or {}).items():
        db.execute("INSERT INTO balances VALUES (?, ?, '0')", (currency, plain_decimal(total)))
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def _check_character(db: sqlite3.Connection, path: Path, character: Character) -> None:
    seed, step_us, volatility, depth_usd = db.execute(
        "SELECT seed, step_us, volatility, depth_usd FROM world"
    ).fetchone()
    for field, wanted, there in (
        ("seed", str(character.seed), seed),
        ("step_seconds", character.step_us / 1e6, step_us / 1e6),
        ("volatility", character.volatility, volatility),
        ("depth_usd", character.depth_usd, depth_usd),
    ):
        if wanted != there:
            raise _unusable(path, f"was made with {there}, not {wanted}; take another path, or this value", field)
