"""The exchange's state in one SQLite file, shared by processes: one short exclusive transaction per operation.

Calls are made inline on the event loop; each takes a fraction of a millisecond. WAL with ``synchronous=NORMAL``
survives the death of any process; a power cut may take the last moments of this make-believe exchange with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any, Final

from ..models import OrderState, OrderType, Side, TimeInForce, plain_decimal
from .records import BookedOrder, Funds, Trade, from_us, to_us
from .schema import Character, ExchangeDown, connect

MONEY: Final = Context(prec=60)
"""Products and sums of what the markets' rules allow are exact in it."""

_ORDER = (
    "id, client_order_id, symbol, side, type, amount, price, stop_price, time_in_force, post_only, created_us,"
    " booked_us, updated_us, state, waiting, filled, cost, fee, reason"
)
_SAVE_ORDER: Final = (
    f"INSERT INTO orders ({_ORDER}, is_open, reach) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
    " ON CONFLICT (id) DO UPDATE SET updated_us = excluded.updated_us, state = excluded.state,"
    " waiting = excluded.waiting, filled = excluded.filled, cost = excluded.cost, fee = excluded.fee,"
    " reason = excluded.reason, is_open = excluded.is_open, reach = excluded.reach"
)
_TRADE = "id, order_id, client_order_id, symbol, side, price, amount, fee, fee_currency, maker, at_us"


@dataclass(slots=True)
class World:
    """The one row that everything shares. ``origin_us`` to ``offset_us`` are microseconds.

    The exchange's own time is the machine's wall time plus ``offset_us``, which grows whenever the wall clock
    goes back: so its own time never does, while what it stamps on orders is what the wall clock says.
    """

    origin_us: int
    instant_us: int
    offset_us: int = 0
    step: int = 0
    orders: int = 0
    trades: int = 0
    funds_at_will: bool = True


class Store:
    """Reading and writing of the state. All methods but open and close are called inside ``transaction()``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    # ---- opening ------------------------------------------------------------------------------------------

    def open(self, character: Character, now: datetime, balances: dict[str, Decimal] | None) -> None:
        """Open the file, making it first where it is missing.

        Raises ConfigurationError where it cannot be used as this exchange, ExchangeDown while it is busy.
        """
        self._db = connect(self._path, character, now, balances)

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    # ---- transactions -------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the exchange alone, with exact decimals; everything is kept, or after an error nothing is.

        Raises ExchangeDown where the file fails.
        """
        db = self._connection
        try:
            with localcontext(MONEY):
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    db.execute("COMMIT")
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # a defect of this package, not of the file
        except sqlite3.Error as error:
            raise ExchangeDown(f"{type(error).__name__}: {error}") from error

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise ExchangeDown("the exchange is not open")
        return self._db

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def _write(self, sql: str, parameters: Sequence[Any]) -> None:
        self._connection.execute(sql, parameters)

    # ---- the world ----------------------------------------------------------------------------------------

    def world(self) -> World:
        """Where the exchange stands."""
        row = self._rows("SELECT origin_us, instant_us, offset_us, step, orders, trades, funds_at_will FROM world")[
            0
        ]
        origin, instant, offset, step, orders, trades, at_will = row
        return World(origin, instant, offset, step, orders, trades, bool(at_will))

    def save_world(self, world: World) -> None:
        """Keep where the exchange stands."""
        self._write(
            "UPDATE world SET instant_us = ?, offset_us = ?, step = ?, orders = ?, trades = ?",
            (world.instant_us, world.offset_us, world.step, world.orders, world.trades),
        )

    # ---- funds --------------------------------------------------------------------------------------------

    def funds(self, currency: str) -> Funds | None:
        """The account's funds of one currency, or None where it never had any."""
        rows = self._rows("SELECT total, blocked FROM balances WHERE currency = ?", (currency,))
        return Funds(Decimal(rows[0][0]), Decimal(rows[0][1])) if rows else None

    def all_funds(self) -> dict[str, Funds]:
        """Currency → funds."""
        rows = self._rows("SELECT currency, total, blocked FROM balances ORDER BY currency")
        return {currency: Funds(Decimal(total), Decimal(blocked)) for currency, total, blocked in rows}

    def save_funds(self, currency: str, funds: Funds) -> None:
        """Keep the funds of one currency."""
        self._write(
            "INSERT INTO balances VALUES (?, ?, ?)"
            " ON CONFLICT (currency) DO UPDATE SET total = excluded.total, blocked = excluded.blocked",
            (currency, plain_decimal(funds.total), plain_decimal(funds.blocked)),
        )

    # ---- orders -------------------------------------------------------------------------------------------

    def save_order(self, order: BookedOrder) -> None:
        """Keep an order, new or changed."""
        reach = order.stop_price if order.waiting else order.price
        self._write(
            _SAVE_ORDER,
            (
                order.id,
                order.client_order_id,
                order.symbol,
                order.side.value,
                order.type.value,
                plain_decimal(order.amount),
                _text(order.price),
                _text(order.stop_price),
                order.time_in_force.value,
                order.post_only,
                to_us(order.created_at),
                order.booked_us,
                to_us(order.updated_at),
                order.state.value,
                order.waiting,
                plain_decimal(order.filled),
                plain_decimal(order.cost),
                plain_decimal(order.fee),
                order.reason,
                order.is_open,
                float(reach or 0),
            ),
        )

    def orders(self, where: str, parameters: Sequence[Any] = (), order_by: str = "+id") -> list[BookedOrder]:
        """The orders that a condition (SQL of this package, never of a caller) selects.

        ``+id`` sorts what an index found, where ``id`` would tempt SQLite to walk the whole table in order.
        """
        sql = f"SELECT {_ORDER} FROM orders WHERE {where} ORDER BY {order_by}"  # noqa: S608 - see above
        return [_order(row) for row in self._rows(sql, parameters)]

    def within_reach(self, symbol: str, low: Decimal, high: Decimal) -> list[BookedOrder]:
        """The open orders of a symbol that prices from ``low`` to ``high`` may set off, and perhaps some more."""
        down, up = float(low) * (1 - 1e-9), float(high) * (1 + 1e-9)
        condition = "is_open = 1 AND symbol = ? AND side = ? AND waiting = ? AND reach"
        found: list[BookedOrder] = []
        for side, waiting, compare, bound in (
            (Side.BUY, 0, ">=", down),
            (Side.SELL, 0, "<=", up),
            (Side.BUY, 1, "<=", up),
            (Side.SELL, 1, ">=", down),
        ):
            found += self.orders(f"{condition} {compare} ?", (symbol, side.value, waiting, bound))
        return found

    def open_symbols(self) -> list[str]:
        """The symbols that have open orders."""
        return [row[0] for row in self._rows("SELECT DISTINCT symbol FROM orders WHERE is_open = 1")]

    # ---- trades -------------------------------------------------------------------------------------------

    def save_trade(self, trade: Trade) -> None:
        """Keep a new trade."""
        self._write(
            f"INSERT INTO trades ({_TRADE}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - constants only
            (
                trade.id,
                trade.order_id,
                trade.client_order_id,
                trade.symbol,
                trade.side.value,
                plain_decimal(trade.price),
                plain_decimal(trade.amount),
                plain_decimal(trade.fee),
                trade.fee_currency,
                trade.maker,
                to_us(trade.at),
            ),
        )

    def trades(self, where: str, parameters: Sequence[Any] = ()) -> list[Trade]:
        """The trades that a condition (SQL of this package, never of a caller) selects, oldest first."""
        sql = f"SELECT {_TRADE} FROM trades WHERE {where} ORDER BY +id"  # noqa: S608 - see above
        return [_trade(row) for row in self._rows(sql, parameters)]

    # ---- depth taken, requests under way, rate limits -----------------------------------------------------

    def taken(self, symbol: str, step: int) -> dict[Side, Decimal] | None:
        """What own orders took of the depth of this step, by the taker's side."""
        rows = self._rows("SELECT asks, bids FROM taken WHERE symbol = ? AND step = ?", (symbol, step))
        return {Side.BUY: Decimal(rows[0][0]), Side.SELL: Decimal(rows[0][1])} if rows else None

    def save_taken(self, symbol: str, step: int, taken: dict[Side, Decimal]) -> None:
        """Keep what own orders took of the depth of this step."""
        self._write(
            "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?)",
            (symbol, step, plain_decimal(taken[Side.BUY]), plain_decimal(taken[Side.SELL])),
        )

    def in_flight(self) -> int:
        """How many requests are under way."""
        return int(self._rows("SELECT count(*) FROM in_flight")[0][0])

    def launch(self, due_us: int, age: float, expiry: float | None, request: str) -> None:
        """Put a request on its way."""
        self._write(
            "INSERT INTO in_flight (due_us, age, expiry, request) VALUES (?, ?, ?, ?)",
            (due_us, age, expiry, request),
        )

    def land(self, until_us: int) -> Iterable[tuple[int, float, float | None, str]]:
        """Take the requests that arrive until then off their way: when, age, expiry, request; earliest first."""
        rows = self._rows(
            "SELECT due_us, age, expiry, request FROM in_flight WHERE due_us <= ? ORDER BY due_us, id", (until_us,)
        )
        if rows:
            self._write("DELETE FROM in_flight WHERE due_us <= ?", (until_us,))
        return rows

    def bucket(self, lane: str) -> tuple[float, int] | None:
        """Tokens left in a lane's bucket, and when they were counted."""
        rows = self._rows("SELECT tokens, at_us FROM buckets WHERE lane = ?", (lane,))
        return rows[0] if rows else None

    def save_bucket(self, lane: str, tokens: float, at_us: int) -> None:
        """Keep what is left in a lane's bucket."""
        self._write("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)", (lane, tokens, at_us))


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain_decimal(value)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _order(row: Any) -> BookedOrder:
    (id_, client_id, symbol, side, kind, amount, price, stop, tif, post_only, created, booked, updated) = row[:13]
    (state, waiting, filled, cost, fee, reason) = row[13:]
    return BookedOrder(
        id=id_,
        client_order_id=client_id,
        symbol=symbol,
        side=Side(side),
        type=OrderType(kind),
        amount=Decimal(amount),
        price=_decimal(price),
        stop_price=_decimal(stop),
        time_in_force=TimeInForce(tif),
        post_only=bool(post_only),
        created_at=from_us(created),
        updated_at=from_us(updated),
        booked_us=booked,
        state=OrderState(state),
        waiting=bool(waiting),
        filled=Decimal(filled),
        cost=Decimal(cost),
        fee=Decimal(fee),
        reason=reason,
    )


def _trade(row: Any) -> Trade:
    id_, order_id, client_id, symbol, side, price, amount, fee, fee_currency, maker, at = row
    return Trade(
        id=id_,
        order_id=order_id,
        client_order_id=client_id,
        symbol=symbol,
        side=Side(side),
        price=Decimal(price),
        amount=Decimal(amount),
        fee=Decimal(fee),
        fee_currency=fee_currency,
        maker=bool(maker),
        at=from_us(at),
    )
