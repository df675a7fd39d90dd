"""Positions: each trade counts once, the entry is an average, and what is closed is profit."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from trading_system.execution.orders import OrderFill, OrderSide
from trading_system.execution.positions import Position, PositionBook

B, S = OrderSide.BUY, OrderSide.SELL


def fill(trade: str, quantity: str, price: str, fee: str = "0") -> OrderFill:
    """One trade."""
    return OrderFill(trade, Decimal(price), Decimal(quantity), Decimal(fee), "USDT", 0)


@pytest.mark.parametrize(
    ("trades", "quantity", "entry", "profit"),
    [
        ([(B, "1", "100"), (B, "3", "200")], "4", "175", "0"),
        ([(B, "2", "100"), (S, "1", "150")], "1", "100", "50"),
        ([(B, "2", "100"), (S, "2", "90")], "0", "0", "-20"),
        ([(B, "1", "100"), (S, "3", "110")], "-2", "110", "10"),
        ([(S, "2", "100"), (B, "1", "80")], "-1", "100", "20"),
        ([(S, "2", "100"), (S, "2", "200"), (B, "4", "100")], "0", "0", "200"),
    ],
)
def test_entry_and_profit(trades: list[tuple[OrderSide, str, str]], quantity: str, entry: str, profit: str) -> None:
    """What adds moves the entry, what reduces realises, what crosses zero does both; long and short."""
    book = PositionBook()
    for number, (side, amount, price) in enumerate(trades):
        book.apply_fill("BTC/USDT", side, fill(str(number), amount, price), "o")
    found = book.position("BTC/USDT")
    expected = (Decimal(quantity), Decimal(entry), Decimal(profit))
    assert (found.quantity, found.average_entry, found.realised_profit) == expected
    book.close()


def test_a_trade_counts_once_also_after_a_restart(tmp_path: Path) -> None:
    """Told again after a crash, it changes nothing; fees neither."""
    path = tmp_path / "deep" / "positions.db"
    for _ in range(3):
        book = PositionBook(path)
        book.apply_fill("BTC/USDT", B, fill("T1", "1", "100", "0.5"), "o")
        book.apply_fill("ETH/USDT", B, fill("T1", "2", "10"), "o")
        assert book.positions() == [
            Position("BTC/USDT", Decimal(1), Decimal(100)),
            Position("ETH/USDT", Decimal(2), Decimal(10)),
        ]
        assert book.fees("BTC/USDT") == {"USDT": Decimal("0.5")}
        assert book.fees("ETH/USDT") == {}
        book.close()


def test_a_symbol_that_never_traded_holds_nothing() -> None:
    """No error, no entry."""
    book = PositionBook()
    assert book.position("XRP/USDT") == Position("XRP/USDT")
    book.close()


def test_a_trade_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    """Trade and position are one transaction: told again later, it counts."""
    book = PositionBook(tmp_path / "positions.db")
    broken = OrderFill("T1", Decimal(1), Decimal(1), Decimal(1), object(), 0)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="type 'object' is not supported"):
        book.apply_fill("BTC/USDT", B, broken, "o")
    book.apply_fill("BTC/USDT", B, fill("T1", "1", "100"), "o")
    assert book.position("BTC/USDT").quantity == 1
    book.close()


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """With the key of the configuration."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=r"positions_path"):
        PositionBook(tmp_path / "file" / "positions.db")
    (tmp_path / "no.db").write_text("this is no database, though long enough to look like one " * 20)
    with pytest.raises(ConfigurationError, match=r"positions_path"):
        PositionBook(tmp_path / "no.db")


def test_a_disk_that_fails_is_named_also_where_it_ended_the_transaction_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite may roll back by itself; the fill is not counted, and counts once it is told again."""
    book = PositionBook()

    def full(position: Position) -> None:
        book._connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(book, "_write", full)
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            book.apply_fill("BTC/USDT", B, fill("t1", "1", "100"), "o1")
    assert book.position("BTC/USDT").quantity == 0
    for _ in range(2):
        book.apply_fill("BTC/USDT", B, fill("t1", "1", "100"), "o1")
    assert book.position("BTC/USDT").quantity == 1
    book.close()


def test_a_trade_with_oneself_moves_the_position_both_ways() -> None:
    """Exchanges give it one id, for the buyer and for the seller; each side counts, and each once."""
    book = PositionBook()
    for side, order in ((B, "a"), (S, "b"), (B, "a"), (S, "b")):
        book.apply_fill("BTC/USDT", side, fill("7", "1", "100", "0.5"), order)
    assert book.position("BTC/USDT") == Position("BTC/USDT", Decimal(0), Decimal(0), Decimal(0))
    assert book.fees("BTC/USDT") == {"USDT": Decimal(1)}
    book.close()


def test_a_file_without_sides_counts_nothing_again(tmp_path: Path) -> None:
    """It was written by an earlier version; its trades are told again after the start, like all of a week."""
    path = tmp_path / "p.db"
    with closing(sqlite3.connect(path)) as old:
        old.execute(
            "CREATE TABLE trades (symbol TEXT NOT NULL, trade_id TEXT NOT NULL, order_id TEXT NOT NULL, "
            "PRIMARY KEY (symbol, trade_id)) WITHOUT ROWID"
        )
        old.execute(
            "CREATE TABLE positions (symbol TEXT PRIMARY KEY, quantity TEXT NOT NULL, average_entry TEXT NOT NULL, "
            "realised_profit TEXT NOT NULL) WITHOUT ROWID"
        )
        old.execute("INSERT INTO trades VALUES ('BTC/USDT', '1', 'o')")
        old.execute("INSERT INTO positions VALUES ('BTC/USDT', '1', '100', '0')")
        old.commit()
    for _ in range(2):
        book = PositionBook(path)
        book.apply_fill("BTC/USDT", B, fill("1", "1", "100"), "o")
        book.apply_fill("BTC/USDT", S, fill("1", "1", "100"), "o")
        assert book.position("BTC/USDT").quantity == Decimal(1)
        book.close()
    book = PositionBook(path)
    book.apply_fill("BTC/USDT", S, fill("2", "1", "100"), "o")
    assert book.position("BTC/USDT").quantity == Decimal(0)
    book.close()
