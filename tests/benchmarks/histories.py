"""Journals with a long past, made once and kept under ``.bench/``: what each order in them was, a number tells."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from services.mcp.order_execution import lifecycle
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.journals.codec import encode_event, encode_order, to_micros
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.journals.sqlite_schema import SCHEMA_VERSION
from services.mcp.order_execution.models import (
    Fill,
    Order,
    OrderEvent,
    OrderRequest,
    OrderState,
    OrderType,
    Side,
    Step,
)
from tests.benchmarks.measure import WORK

SYMBOLS: Final = tuple(f"{base}/USDT" for base in (
    "BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "TRX", "LTC", "DOT",
    "AVAX", "LINK", "UNI", "ATOM", "ETC", "XLM", "FIL", "ALGO", "VET", "NEAR",
))  # fmt: skip
PRICE: Final = Decimal(50000)
AMOUNT: Final = Decimal("0.001")
_TURN: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835
_BATCH: Final = 5_000


def order_id(number: int) -> str:
    """An id as random as a UUID's digits, and always the same."""
    return f"{(number + 1) * _TURN % 2**128:032x}"


def created(number: int, total: int, end: datetime) -> datetime:
    """Orders are spread evenly over the 23 hours before ``end``."""
    return end - timedelta(hours=23) * (1 - number / total)


def listed(number: int, total: int, end: datetime, open_orders: int) -> ExchangeOrder:
    """The order as the exchange lists it: filled by one trade, the youngest ones still open."""
    at = created(number, total, end)
    is_open = number >= total - open_orders
    fill = Fill(f"T{number}", PRICE, AMOUNT, Decimal("0.05"), "USDT", at)
    return ExchangeOrder(
        exchange_order_id=f"X{number}",
        client_order_id=order_id(number),
        symbol=SYMBOLS[number % len(SYMBOLS)],
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=AMOUNT,
        price=PRICE,
        state=OrderState.OPEN if is_open else OrderState.FILLED,
        filled=Decimal(0) if is_open else AMOUNT,
        fills=() if is_open else (fill,),
        created_at=at,
        updated_at=at,
    )


def events(number: int, total: int, end: datetime, open_orders: int) -> list[OrderEvent]:
    """Everything that happened to an order, by the library's own life cycle."""
    at = created(number, total, end)
    request = OrderRequest(
        order_id(number), SYMBOLS[number % len(SYMBOLS)], Side.BUY, OrderType.LIMIT, AMOUNT, PRICE
    )
    intent = lifecycle.intend(lifecycle.new_order(request, at), at)
    told = [intent, lifecycle.accepted(intent.order, at, f"X{number}")]
    seen = listed(number, total, end, open_orders)
    told += lifecycle.merge(told[-1].order, seen, at, read=True)
    if told[-1].order.state is OrderState.FILLED and not told[-1].order.confirmed(Step.BALANCE):
        told.append(lifecycle.confirmed(told[-1].order, at, Step.BALANCE))
    return told


class PinnedClock:
    """A clock by which a kept history is always of the last day: its wall time begins where the history ends."""

    def __init__(self, end: datetime) -> None:
        self._end = end
        self._began = time.monotonic()

    def now(self) -> datetime:
        """Wall time in UTC, for this history."""
        return self._end + timedelta(seconds=time.monotonic() - self._began)

    def monotonic(self) -> float:
        """The machine's."""
        return time.monotonic()


class _Template:
    """The bytes of one order's records, in which what tells orders apart is replaced: a million in a minute."""

    def __init__(self, number: int, total: int, end: datetime, open_orders: int) -> None:
        self._of = (order_id(number), f"X{number}", f"T{number}", created(number, total, end).isoformat())
        self._events = events(number, total, end, open_orders)
        self._bodies = [encode_event(event).decode() for event in self._events]
        self._order = encode_order(self._events[-1].order).decode()

    @property
    def last(self) -> Order:
        """The order at its end."""
        return self._events[-1].order

    def write(self, number: int, at: datetime) -> tuple[tuple[object, ...], list[tuple[object, ...]]]:
        """The row of the order, and those of its events."""
        new = (order_id(number), f"X{number}", f"T{number}", at.isoformat())
        micros, last = to_micros(at), self.last
        row: tuple[object, ...] = (
            new[0], last.symbol, last.state.value, new[1], micros, micros, last.version, "bench", 1,
            self._replaced(self._order, new), int(last.is_settled),
        )  # fmt: skip
        told: list[tuple[object, ...]] = [
            (new[0], event.order.version, event.kind.value, micros, 1, self._replaced(body, new))
            for event, body in zip(self._events, self._bodies, strict=True)
        ]
        return row, told

    def _replaced(self, text: str, new: tuple[str, ...]) -> str:
        for old, value in zip(self._of, new, strict=True):
            text = text.replace(f'"{old}"', f'"{value}"')
        return text


def _rows(
    numbers: Iterable[int], total: int, end: datetime, open_orders: int
) -> Iterator[tuple[tuple[object, ...], list[tuple[object, ...]]]]:
    kinds = len(SYMBOLS)
    closed = [_Template(index, total, end, 0) for index in range(kinds)]
    opened = [_Template(index, total, end, total) for index in range(kinds)]
    for number in numbers:
        templates = opened if number >= total - open_orders else closed
        yield templates[number % kinds].write(number, created(number, total, end))


def history(total: int, open_orders: int, *, crashed: bool = True) -> tuple[Path, datetime]:
    """The journal of so many orders, the last ``open_orders`` of them open, as a crash left it. Made if need be."""
    directory = WORK / "histories"
    directory.mkdir(parents=True, exist_ok=True)
    state = "crashed" if crashed else "closed"
    path = directory / f"{total}-{open_orders}-schema{SCHEMA_VERSION}-{_format():08x}-{state}.db"
    mark = path.with_suffix(".end")
    if path.exists() and mark.exists():
        return path, datetime.fromisoformat(mark.read_text(encoding="ascii"))
    for stale in directory.glob(f"{total}-{open_orders}-*"):
        stale.unlink()
    end = datetime.now(UTC)
    asyncio.run(_create(path))
    _fill(path, total, open_orders, end, crashed=crashed)
    mark.write_text(end.isoformat(), encoding="ascii")
    return path, end


def _format() -> int:
    """Tells records apart that are written in another form."""
    template = _Template(1, 2, datetime(2026, 1, 1, tzinfo=UTC), 0)
    return zlib.crc32("".join((template._order, *template._bodies)).encode())


async def _create(path: Path) -> None:
    journal = SQLiteJournal(path, SystemClock())
    await journal.open()
    await journal.close()


def _fill(path: Path, total: int, open_orders: int, end: datetime, *, crashed: bool) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -2000000")
    connection.execute("BEGIN")
    for start in range(0, total, _BATCH):
        orders, told = [], []
        for row, rows in _rows(range(start, min(start + _BATCH, total)), total, end, open_orders):
            orders.append(row)
            told += rows
        connection.executemany(
            "INSERT INTO orders (order_id, symbol, state, exchange_order_id, created_at, updated_at, n, owner, "
            "epoch, body, settled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            orders,
        )
        connection.executemany(
            "INSERT INTO order_events (order_id, n, kind, at, epoch, body) VALUES (?, ?, ?, ?, ?, ?)", told
        )
    if crashed:
        connection.execute("UPDATE meta SET value = '0' WHERE name = 'clean_shutdown'")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def copy_of(path: Path, directory: Path) -> Path:
    """A copy to write to."""
    target = directory / "journal.db"
    shutil.copyfile(path, target)
    return target
