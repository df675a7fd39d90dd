"""Reads the transaction log back: one order's history, or the errors of a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from .files import ERRORS, FILLS, ORDERS, STREAMS, day_of

LINE_BYTES_MAX: Final = 1 << 20
"""A longer line is no record of ours, but damage."""

_FIRST: Final = datetime.min.replace(tzinfo=UTC)


class TransactionLogReader:
    """Reads a directory that a TransactionLog writes, or has written, line by line.

    What is not a whole record, such as a line that a kill cut short, is skipped and counted in ``damaged``.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damaged = 0
        """Lines skipped so far."""

    def history(self, order_id: str) -> list[dict[str, Any]]:
        """Everything known of one order in time order, each entry with its ``log``: orders, fills or errors.

        A fill stands in two files and is given once. Raises OSError when a file cannot be read.
        """
        found = [
            {"log": stream, **record}
            for stream in STREAMS
            for path in self._files(stream)
            # Within JSON an id of ours stands as it is, so that most lines need no parsing.
            for record in self._records(path, holding=orjson.dumps(order_id))
            if record.get("order_id") == order_id
        ]
        told = {_trade_id(record) for record in found if record["log"] == ORDERS}
        found = [record for record in found if record["log"] != FILLS or record.get("trade_id") not in told]
        return sorted(found, key=_place)

    def errors(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Errors with ``since <= at < until``, in the order in which they were written, one at a time.

        Raises OSError when a file cannot be read.
        """
        for path in self._files(ERRORS):
            day = _day_in(path)
            if (since is not None and day < day_of(since)) or (until is not None and day > day_of(until)):
                continue
            for record in self._records(path):
                at = _time(record)
                if (since is None or at >= since) and (until is None or at < until):
                    yield record

    def _files(self, stream: str) -> list[Path]:
        """The stream's files, the oldest first."""
        paths = self.path.glob(f"{stream}-????-??-??.jsonl")
        return sorted((path for path in paths if _is_day(path)), key=_day_in)

    def _records(self, path: Path, holding: bytes = b"") -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                if line.endswith(b"\n") or len(line) < LINE_BYTES_MAX:
                    if holding in line:
                        yield from self._parsed(line)
                    continue
                self.damaged += 1
                while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                    pass  # the rest of a line that is too long

    def _parsed(self, line: bytes) -> Iterator[dict[str, Any]]:
        if not line.strip():
            return
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            record = None
        if isinstance(record, dict) and _time(record) is not _FIRST:
            yield record
        else:
            self.damaged += 1


def _time(record: dict[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(record["at"])
    except (KeyError, TypeError, ValueError):
        return _FIRST
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _place(record: dict[str, Any]) -> tuple[datetime, int]:
    """By time, and at one and the same time by version; an error comes after what it tells of."""
    version = record.get("version")
    return _time(record), version if isinstance(version, int) else 1 << 62


def _trade_id(record: dict[str, Any]) -> object:
    fill = record.get("fill")
    return fill.get("trade_id") if isinstance(fill, dict) else None


def _is_day(path: Path) -> bool:
    try:
        _day_in(path)
    except ValueError:
        return False
    return True


def _day_in(path: Path) -> date:
    return date.fromisoformat(path.stem.split("-", 1)[1])
