"""One order's history on the terminal: ``python -m services.mcp.order_execution.transaction_log ORDER_ID``."""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import orjson

from ..standard_output import reader_may_leave
from .reader import TransactionLogReader

DEFAULT_PATH: Final = Path("data/transactions")

EXIT_FOUND: Final = 0
EXIT_NOT_FOUND: Final = 1
EXIT_USAGE: Final = 2

_COLUMNS: Final = ("time (UTC)", "event", "state", "filled", "detail")


def main(argv: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Print one order's history. Returns 0, 1 when the log does not know the order, 2 for a wrong usage."""
    out = out or sys.stdout
    arguments = _parser().parse_args(argv)
    if not arguments.path.is_dir():
        sys.stderr.write(f"there is no transaction log in {arguments.path}\n")
        return EXIT_USAGE
    reader = TransactionLogReader(arguments.path)
    try:
        history = reader.history(arguments.order_id) or reader.history(_without_dashes(arguments.order_id))
    except OSError as error:
        sys.stderr.write(f"the transaction log cannot be read: {error}\n")
        return EXIT_USAGE
    if reader.damaged:
        sys.stderr.write(f"{reader.damaged} damaged lines were skipped\n")
    if not history:
        sys.stderr.write(f"the transaction log in {arguments.path} knows no order {arguments.order_id}\n")
        sys.stderr.write("(it knows client order ids, which an engine may have made of another id)\n")
        return EXIT_NOT_FOUND
    with reader_may_leave():
        if arguments.json:
            out.writelines(orjson.dumps(record).decode() + "\n" for record in history)
        elif out.isatty():
            _show_table(arguments.order_id, history, out)
        else:
            out.writelines("  ".join(cell for cell in _cells(record) if cell) + "\n" for record in history)
    return EXIT_FOUND


def _without_dashes(order_id: str) -> str:
    """A UUID as exchanges take it: that is how the engine writes it down."""
    try:
        return uuid.UUID(order_id).hex
    except ValueError:
        return order_id


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.mcp.order_execution.transaction_log",
        description="Print everything that the transaction log knows of one order, in time order.",
        epilog="Exit status: 0 printed, 1 the log does not know the order, 2 wrong usage or no log.",
    )
    parser.add_argument("order_id", metavar="ORDER_ID", help="the order's id (the client order id)")
    parser.add_argument("--path", type=Path, default=DEFAULT_PATH, help="the log's directory (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    return parser


def _cells(record: dict[str, Any]) -> tuple[str, ...]:
    event = f"error in {record.get('phase')}" if record["log"] == "errors" else record.get("kind", "")
    cells = (record["at"], event, record.get("state") or "", record.get("filled") or "", _detail(record))
    return tuple(_printable(str(cell)) for cell in cells)


def _detail(record: dict[str, Any]) -> str:
    """What is worth saying beyond the columns, in one line."""
    fill = record.get("fill") or (record if record["log"] == "fills" else None)
    parts = [record.get("error"), record.get("reason"), record.get("detail")]
    if isinstance(fill, dict):
        parts.append(f"{fill.get('amount')} at {fill.get('price')} (trade {fill.get('trade_id')})")
    elif record.get("kind") == "intent":
        parts.append(" ".join(str(record.get(name)) for name in ("side", "amount", "symbol", "type")))
        parts.append(record.get("price") and f"at {record['price']}")
    elif record.get("kind") == "accepted":
        parts.append(f"as {record.get('exchange_order_id')}")
    return ", ".join(_text(part) for part in parts if part)


def _text(part: object) -> str:
    return part if isinstance(part, str) else orjson.dumps(part).decode()


def _printable(text: str) -> str:
    """What an exchange sent must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _show_table(order_id: str, history: list[dict[str, Any]], out: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415 - a pipe needs none of it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=Text(f"order {_printable(order_id)}"), title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for record in history:
        style = "red" if record["log"] == "errors" else ""
        table.add_row(*(Text(cell, style=style) for cell in _cells(record)))
    Console(file=out).print(table)


if __name__ == "__main__":
    sys.exit(main())
