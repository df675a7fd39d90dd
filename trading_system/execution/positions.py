"""Positions from fills: each trade counts once, whatever is told twice and whenever the process died."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.models import ZERO, plain_decimal

from .orders import OrderFill, OrderSide

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS trades (
    symbol TEXT NOT NULL, trade_id TEXT NOT NULL, side TEXT NOT NULL, order_id TEXT NOT NULL,
    PRIMARY KEY (symbol, trade_id, side)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    symbol TEXT PRIMARY KEY, quantity TEXT NOT NULL, average_entry TEXT NOT NULL, realised_profit TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fees (
    symbol TEXT NOT NULL, currency TEXT NOT NULL, amount TEXT NOT NULL, PRIMARY KEY (symbol, currency)
) WITHOUT ROWID;
"""
_WITHOUT_SIDES: Final = """
BEGIN IMMEDIATE;
ALTER TABLE trades RENAME TO trades_without_sides;
CREATE TABLE trades (
    symbol TEXT NOT NULL, trade_id TEXT NOT NULL, side TEXT NOT NULL, order_id TEXT NOT NULL,
    PRIMARY KEY (symbol, trade_id, side)
) WITHOUT ROWID;
INSERT INTO trades SELECT symbol, trade_id, 'buy', order_id FROM trades_without_sides;
INSERT INTO trades SELECT symbol, trade_id, 'sell', order_id FROM trades_without_sides;
DROP TABLE trades_without_sides;
COMMIT;
"""
"""Of a file that kept no sides: what it counted was one of the two, and must not be counted again."""
_WRITE_POSITION: Final = """
INSERT INTO positions VALUES (?, ?, ?, ?) ON CONFLICT (symbol) DO UPDATE SET quantity = excluded.quantity,
average_entry = excluded.average_entry, realised_profit = excluded.realised_profit
"""
_WRITE_FEE: Final = """
INSERT INTO fees VALUES (?, ?, ?) ON CONFLICT (symbol, currency) DO UPDATE SET amount = excluded.amount
"""


@dataclass(frozen=True, slots=True)
class Position:
    """What is held of one symbol. A negative quantity is a short position."""

    symbol: str
    quantity: Decimal = ZERO
    average_entry: Decimal = ZERO
    """Average price of what is held now."""
    realised_profit: Decimal = ZERO
    """In the quote currency, fees not subtracted."""

    def after(self, side: OrderSide, quantity: Decimal, price: Decimal) -> Position:
        """The position after one trade: what adds to it moves the entry, what reduces it realises profit."""
        change = quantity if side is OrderSide.BUY else -quantity
        held, total = self.quantity, self.quantity + change
        if held * change >= 0:
            cost = self.average_entry * abs(held) + price * quantity
            return Position(self.symbol, total, cost / abs(total) if total else ZERO, self.realised_profit)
        closed = min(abs(held), quantity)
        gain = (price - self.average_entry) * closed * (1 if held > 0 else -1)
        entry = self.average_entry if abs(held) > quantity else (price if total else ZERO)
        return Position(self.symbol, total, entry, self.realised_profit + gain)


class PositionManager(Protocol):
    """Who wants to know of fills. Called from the engine's background, never on an order's way."""

    def apply_fill(self, symbol: str, side: OrderSide, fill: OrderFill, order_id: str) -> None:
        """Take one fill in. What it raises is logged, and the fill is told again later.

        May also be told the same one again after a restart, or when events were missed; must not count it twice:
        order id and trade id together are the same each time, and name no other fill. ``order_id`` is the client
        order id that ``client_order_id`` makes of the caller's, in this life and every later one; all methods of
        the engine take it too.
        """
        ...


class PositionBook:
    """The default: positions in a small SQLite file of their own, or in memory. Thread-safe.

    A trade and what it does to a position are written in one transaction, with the trade's id and side as the key:
    who trades with himself has one trade on both sides.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._lock = threading.Lock()
        target = ":memory:"
        if path is not None:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _unusable(path, error) from error
            target = str(path)
        try:
            self._connection = sqlite3.connect(target, isolation_level=None, check_same_thread=False, timeout=5.0)
            if path is not None:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
            if "side" not in {row[1] for row in self._connection.execute("PRAGMA table_info(trades)")}:
                self._connection.executescript(_WITHOUT_SIDES)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error

    def apply_fill(self, symbol: str, side: OrderSide, fill: OrderFill, order_id: str) -> None:
        """Count a fill, once. Raises sqlite3.Error when it cannot be written; it may then be told again."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self._is_new(symbol, fill.trade_id, side, order_id):
                    self._write(self._read(symbol).after(side, fill.quantity, fill.price))
                    self._add_fee(symbol, fill)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise

    def _is_new(self, symbol: str, trade_id: str, side: OrderSide, order_id: str) -> bool:
        sql = "INSERT OR IGNORE INTO trades (symbol, trade_id, side, order_id) VALUES (?, ?, ?, ?)"
        return self._connection.execute(sql, (symbol, trade_id, side.value, order_id)).rowcount > 0

    def _read(self, symbol: str) -> Position:
        sql = "SELECT quantity, average_entry, realised_profit FROM positions WHERE symbol = ?"
        row = self._connection.execute(sql, (symbol,)).fetchone()
        return Position(symbol) if row is None else Position(symbol, *map(Decimal, row))

    def _write(self, position: Position) -> None:
        numbers = (position.quantity, position.average_entry, position.realised_profit)
        self._connection.execute(_WRITE_POSITION, (position.symbol, *map(plain_decimal, numbers)))

    def _add_fee(self, symbol: str, fill: OrderFill) -> None:
        if not fill.fee:
            return
        key = (symbol, fill.fee_currency)
        row = self._connection.execute("SELECT amount FROM fees WHERE symbol = ? AND currency = ?", key).fetchone()
        amount = fill.fee + (Decimal(row[0]) if row else ZERO)
        self._connection.execute(_WRITE_FEE, (*key, plain_decimal(amount)))

    def position(self, symbol: str) -> Position:
        """What is held of a symbol; nothing, where it never traded."""
        with self._lock:
            return self._read(symbol)

    def positions(self) -> list[Position]:
        """Every symbol that ever traded."""
        with self._lock:
            rows: Iterable[tuple[str, ...]] = self._connection.execute("SELECT * FROM positions ORDER BY symbol")
            return [Position(symbol, *map(Decimal, numbers)) for symbol, *numbers in rows]

    def fees(self, symbol: str) -> dict[str, Decimal]:
        """Fees paid so far, by currency."""
        with self._lock:
            rows = self._connection.execute("SELECT currency, amount FROM fees WHERE symbol = ?", (symbol,))
            return {currency: Decimal(amount) for currency, amount in rows}

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()


def _unusable(path: Path | str | None, error: Exception) -> ConfigurationError:
    field = "execution_engine.positions_path"
    return ConfigurationError(f"{field}: {path} cannot be used: {error}", field=field)
