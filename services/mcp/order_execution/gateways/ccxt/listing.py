"""Lists, walked to their end through ccxt's implicit methods: all rows of what was asked, or no list at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from .classify import at
from .parsing import NotUnderstood
from .row import ListCall, Lookup, Pager, PagerKind, Path, Stamp

PAGES_MAX: Final = 60
"""Of one list; beyond it the list is not to be had. At usual page sizes, some thousands of rows."""
STILL_WALKS_MAX: Final = 4
OVERLAP: Final = timedelta(milliseconds=1)


class TooMuch(NotUnderstood):
    """There is more than we ever read, or than the exchange tells: asking again will not help."""


Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Calls an implicit method of ccxt by its name."""


def stamp(moment: datetime, unit: Stamp) -> int | str:
    """A point in time, as the exchange wants it; whole seconds are rounded down."""
    if unit is Stamp.RFC3339:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    seconds = moment.timestamp()
    return int(seconds) if unit is Stamp.SECONDS else round(seconds * 1_000)


def rows_of(answer: Any, path: Path, *, keyed: bool) -> list[dict[str, Any] | list[Any]]:
    """The rows of an answer. Raises NotUnderstood where there is no such list."""
    found = at(answer, path)
    if keyed and isinstance(found, dict):
        return [{**row, "id": name} if isinstance(row, dict) else row for name, row in found.items()]
    if not isinstance(found, list) or not all(isinstance(row, (dict, list)) for row in found):
        raise NotUnderstood(".".join(map(str, path)) or "list")
    return found


async def walk(
    ask: Ask,
    call: ListCall,
    market_id: str | None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Any]:
    """Every row of one list. Raises NotUnderstood where its end is not reached, which is said, never cut short."""
    if call.pager.kind is PagerKind.NUMBERED and call.since is None:
        return await _walk_still(ask, call, market_id)
    if call.window is None or since is None or until is None:
        return await _walk_period(ask, call, market_id, since, until)
    found: list[Any] = []
    start, width = since, timedelta(seconds=call.window)
    for _ in range(PAGES_MAX):
        end = min(until, start + width)
        found += await _walk_period(ask, call, market_id, start, end)
        if end >= until:
            return found
        start = end
    raise TooMuch("the period is too long")


async def _walk_still(ask: Ask, call: ListCall, market_id: str | None) -> list[Any]:
    """A list that shrinks while its numbered pages are read: a row that moves up a page is in neither of the two.

    So more than one page is believed once two walks in a row have the same rows. Raises NotUnderstood.
    """
    before: set[str] | None = None
    for _ in range(STILL_WALKS_MAX):
        rows = await _walk_period(ask, call, market_id, None, None)
        if len(rows) < call.limit:
            return rows
        ids = {str(at(row, call.pager.at)) for row in rows}
        if ids == before:
            return rows
        before = ids
    raise NotUnderstood("a list that changes while it is read")


async def _walk_period(
    ask: Ask, call: ListCall, market_id: str | None, since: datetime | None, until: datetime | None
) -> list[Any]:
    params = _base(call, market_id, since, until)
    pager = call.pager
    if pager.kind is PagerKind.NUMBERED:
        params[pager.param] = pager.first
    found: list[Any] = []
    for _ in range(PAGES_MAX):
        answer = await ask(call.method, dict(params))
        rows = rows_of(answer, call.rows, keyed=call.keyed)
        found += rows
        step = _next(pager, answer, rows, call.limit, len(found), params)
        if step is None:
            return found
        params[pager.param] = step
    raise TooMuch(f"more than {PAGES_MAX} pages")


def _base(call: ListCall, market_id: str | None, since: datetime | None, until: datetime | None) -> dict[str, Any]:
    params: dict[str, Any] = dict(call.params)
    if call.symbol is not None and market_id is not None:
        params[call.symbol] = market_id
    if call.since is not None and since is not None:
        params[call.since] = stamp(since, call.unit)
    if call.until is not None and until is not None:
        params[call.until] = stamp(until + timedelta(seconds=call.unit is Stamp.SECONDS), call.unit)
    if call.limit and call.limit_param is not None:
        params[call.limit_param] = call.limit
    return params


def _next(
    pager: Pager, answer: Any, rows: list[Any], limit: int, count: int, params: Mapping[str, Any]
) -> Any | None:
    """What ``pager.param`` has to be for the next page; None after the last one. Raises NotUnderstood."""
    if pager.kind is PagerKind.WHOLE:
        if limit and len(rows) >= limit:
            raise TooMuch(f"{limit} rows or more, and no way to ask for the rest")
        return None
    if pager.kind is PagerKind.CURSOR:
        cursor = at(answer, pager.at)
        if cursor in (None, "", 0, "0") or not rows or (pager.short_ends and len(rows) < limit):
            return None  # an empty page has nothing behind it, whatever its cursor says
        if cursor == params.get(pager.param):
            raise NotUnderstood("a page that leads to itself")
        return cursor
    if len(rows) < limit:
        return None
    if pager.kind is PagerKind.NUMBERED:
        return int(params[pager.param]) + 1
    if pager.kind is PagerKind.OFFSET:
        return count
    return _after_rows(pager, rows, params)


def _after_rows(pager: Pager, rows: list[Any], params: Mapping[str, Any]) -> Any:
    """Where the next page of a full one begins, by what stands in its rows."""
    told = [at(row, pager.at) for row in rows]
    if any(value is None for value in told):
        raise NotUnderstood(".".join(map(str, pager.at)))
    if pager.kind is PagerKind.LAST_ROW:
        if pager.falls and int(told[0]) < int(told[-1]):
            raise NotUnderstood("a page in another order")
        step: Any = told[-1]
    else:
        ends = int(float(told[0])), int(float(told[-1]))
        if ends != tuple(sorted(ends, reverse=pager.kind is PagerKind.EARLIER)):
            raise NotUnderstood("a page in another order")
        times = sorted(int(float(value)) for value in told)
        # An end may be exclusive: rows of the same moment must not fall between two pages.
        step = times[0] + 1 if pager.kind is PagerKind.EARLIER else times[-1]
    if str(step) == str(params.get(pager.param)):
        raise NotUnderstood("a page that ends where it begins")
    return step


def lookup_params(lookup: Lookup, market_id: str, name: str, wanted: str | int) -> dict[str, Any]:
    """The parameters of a lookup of one order by the parameter ``name``."""
    params = dict(lookup.params)
    if lookup.symbol is not None:
        params[lookup.symbol] = market_id
    params[name] = [int(wanted)] if lookup.numbers else wanted
    return params
