"""Which promise holds on which of ccxt's exchanges, and why: ``python -m services.mcp.order_execution.exchanges``.

The same facts make docs/reference/exchanges.md. Nothing is asked of any exchange, and ccxt itself is only needed
for ``--all``, which names the exchanges that have no row in the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .gateways.base import IdScope, ListScope
from .gateways.ccxt.row import Row
from .gateways.ccxt.rows import TABLE
from .models import to_plain
from .standard_output import make_console, reader_may_leave

UNIQUE: Final = {
    IdScope.NONE: "no",
    IdScope.OPEN_ORDERS: "among open orders",
    IdScope.FOREVER: "always",
}
CONSERVATIVE: Final = (
    "never sent again; an order whose answer is lost stays unresolved, and an alert asks a human to look"
)


@dataclass(frozen=True, slots=True)
class Promise:
    """What holds on one exchange. Durations are in seconds; None: never, or not at all."""

    exchange: str
    name: str
    promise: str
    client_id: str | None
    """The field on the wire, with its form."""
    refused_twice: str
    """Whether a second order under the same id is refused."""
    found_by: str
    expires_after: float | None
    """After how long a request that was under way is refused."""
    certain_after: float | None
    """After how long "not there" proves that an order never arrived."""
    market_buys: bool
    lists: str
    sources: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    workarounds: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {name: to_plain(getattr(self, name)) for name in self.__slots__}


def promises() -> list[Promise]:
    """Every row of the table, as a promise."""
    return [_promise(row) for row in TABLE.values()]


def _promise(row: Row) -> Promise:
    expiry = None if row.expiry is None else row.expiry.seconds + row.expiry.margin
    certain = (expiry or 0.0) + row.settle
    if row.expiry is None:
        words = f"placed once or reported, as long as no request is held back for more than {row.settle:g} s"
    else:
        words = f"placed once or reported; a lost answer is settled within about {certain + row.settle:g} s"
    return Promise(
        exchange=row.exchange,
        name=row.name,
        promise=words,
        client_id=_client_id(row),
        refused_twice=UNIQUE[row.id_scope],
        found_by=_found_by(row),
        expires_after=expiry,
        certain_after=certain,
        market_buys=row.market_buys,
        lists="by symbol" if row.list_scope is ListScope.SYMBOL else "of the account",
        sources=row.sources,
        assumptions=row.assumptions,
        workarounds=row.workarounds,
    )


def _client_id(row: Row) -> str:
    form = f"{row.wire_field}, {row.ids.travel.value}"
    return f"{form}, behind {row.ids.prefix}" if row.ids.prefix else form


def _found_by(row: Row) -> str:
    by_id = any(lookup.by_client_id for lookup in row.lookups)
    if not by_id:
        return "search of the lists"
    if row.lookup_memory is None:
        return "lookup"
    hours = row.lookup_memory / 3_600
    span = f"{hours / 24:g} days" if hours >= 48 else f"{hours * 60:g} minutes"
    return f"lookup for {span}, then {'search of the lists' if row.scan_seconds is not None else 'not at all'}"


def conservative() -> list[str]:
    """Those of ccxt's exchanges that have no row. Raises ImportError without ccxt."""
    import ccxt  # noqa: PLC0415 - a second to import, and wanted for this alone

    return [exchange for exchange in ccxt.exchanges if exchange not in TABLE]


# ---- as text ----------------------------------------------------------------------------------------------

HEAD: Final = ("exchange", "promise", "client id", "refused twice", "found by", "expires", "lists", "market buys")


def cells(promise: Promise) -> tuple[str, ...]:
    """The line of one exchange, below ``HEAD``."""
    return (
        promise.exchange,
        promise.promise,
        promise.client_id or "not sent",
        promise.refused_twice,
        promise.found_by,
        "never" if promise.expires_after is None else f"{promise.expires_after:g} s",
        promise.lists,
        "yes" if promise.market_buys else "no",
    )


def markdown_table() -> str:
    """The table of the reference page."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(cells(promise) for promise in promises())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_details() -> str:
    """What stands behind each line, exchange by exchange."""
    return "\n\n".join("\n".join([f"### {promise.name}", *_bullets(promise)]) for promise in promises())


def _bullets(promise: Promise) -> Iterable[str]:
    for title, lines in (
        ("Sources", promise.sources),
        ("Assumed", promise.assumptions),
        ("Faults of ccxt and of the exchange that are worked around", promise.workarounds),
    ):
        if lines:
            yield f"\n{title}:\n"
            yield from (f"* {line}" for line in lines)


def _show(found: Sequence[Promise], others: Sequence[str], *, terminal: bool) -> None:
    if not terminal:
        for promise in found:
            sys.stdout.write("\t".join(cells(promise)) + "\n")
        for exchange in others:
            sys.stdout.write(f"{exchange}\t{CONSERVATIVE}\n")
        return
    from rich.table import Table  # noqa: PLC0415 - only for people

    table = Table(*HEAD, title="What holds on which exchange")
    for promise in found:
        table.add_row(*cells(promise))
    console = make_console()
    console.print(table)
    if len(found) == 1:
        console.print("\n".join(_bullets(found[0])), markup=False)
    if others:
        console.print(f"Without a row ({CONSERVATIVE}):\n{', '.join(others)}", markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Show the table; 2 where an exchange is named that has no row and is none of ccxt's."""
    parser = argparse.ArgumentParser(
        prog="order-execution exchanges", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument("exchange", nargs="*", help="ccxt's id of an exchange; all that have a row unless given")
    parser.add_argument("--all", action="store_true", help="name the exchanges without a row too; needs ccxt")
    parser.add_argument("--json", action="store_true", help="write JSON")
    arguments = parser.parse_args(argv)
    wanted = list(dict.fromkeys(arguments.exchange))
    unknown = [name for name in wanted if name not in TABLE]
    others = unknown
    if arguments.all or unknown:
        known = conservative()
        missing = [name for name in unknown if name not in known]
        if missing:
            parser.error(f"ccxt has no exchange {', '.join(missing)}")
        others = known if arguments.all else unknown
    found = [promise for promise in promises() if not wanted or promise.exchange in wanted]
    with reader_may_leave():
        if arguments.json:
            told = {"exchanges": [promise.to_dict() for promise in found], "conservative": others}
            sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        else:
            _show(found, others, terminal=sys.stdout.isatty())
    return 0


if __name__ == "__main__":
    sys.exit(main())
