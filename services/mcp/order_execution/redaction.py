"""Secrets are taken out of whatever is written down: by the name of a field, and by their very value."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import orjson

from .models import plain_decimal

MASK: Final = "***"
SECRET_LENGTH_MIN: Final = 4
"""Shorter values are not looked for: "1" as a password would blot out every amount."""
TEXT_LENGTH_MAX: Final = 4_096
ITEMS_MAX: Final = 256
DEPTH_MAX: Final = 8

_NAMES: Final = (
    r"api[_\-\s]?key|api[_\-]?secret|secret|token|password|passwd|passphrase|authorization|signature"
    r"|private[_\-]?key|credential|cookie"
)
_SECRET_NAME: Final = re.compile(_NAMES, re.IGNORECASE)
_ASSIGNMENT: Final = re.compile(
    rf"""((?:{_NAMES})[\w\-]*["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token|digest)\s+)?)[^\s&"',;}}\]]+""",
    re.IGNORECASE,
)
_USERINFO: Final = re.compile(r"(\w://)[^\s/@]+@")
_INT64: Final = range(-(2**63), 2**64)


class Redactor:
    """Makes values plain (JSON-ready) and free of secrets.

    ``secrets`` are values that vanish wherever they stand, also percent-encoded as in a URL. Beyond those,
    a field with a telling name (``api_key``, ``signature`` …) loses its value, and so does ``name=value``
    or the ``user:password@`` of a URL within a text.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= SECRET_LENGTH_MIN}
        known |= {quote(secret, safe="") for secret in known}
        # The longest first: where one secret is the beginning of another, nothing of the longer one stays.
        ordered = sorted(known, key=lambda secret: (-len(secret), secret))
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._known_in_json = tuple(orjson.dumps(secret)[1:-1] for secret in ordered)

    def __repr__(self) -> str:
        return "Redactor(***)"

    def text(self, value: str) -> str:
        """Return the text without secrets, cut to ``TEXT_LENGTH_MAX`` and free of lone surrogates."""
        # Secrets go first: a cut through the middle of one would leave its first half standing.
        if self._known is not None:
            value = self._known.sub(MASK, value)
        if (":" in value or "=" in value) and _is_hinted(value):
            value = _ASSIGNMENT.sub(rf"\1{MASK}", value)
        if "://" in value:
            value = _USERINFO.sub(rf"\1{MASK}@", value)
        if len(value) > TEXT_LENGTH_MAX:
            value = value[:TEXT_LENGTH_MAX] + "…"
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")

    def suspects(self, line: bytes, words: str) -> bool:
        """Whether ``values`` might change anything about the record that is encoded in this line.

        ``words`` are, one after the other, the texts in it that may say anything; the others (ids of ours,
        times, decimals, enums) hold no secret that is known by its surroundings. For a line of plain strings,
        whole numbers and null, whose names are our own.
        """
        if len(line) > TEXT_LENGTH_MAX:
            return True
        for secret in self._known_in_json:
            if secret in line:
                return True
        return (":" in words or "=" in words) and ("://" in words or _is_hinted(words))

    def plain(self, value: object, depth: int = 0) -> Any:
        """Return JSON-ready values without secrets; never raises, whatever the value is."""
        if type(value) is str:  # what nearly all values are
            return self.text(value)
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            return value if value in _INT64 else str(value)
        if isinstance(value, Decimal):
            return plain_decimal(value)
        if isinstance(value, datetime):
            return value.isoformat()
        if depth < DEPTH_MAX and isinstance(value, Mapping):
            return self._mapping(value, depth)
        if depth < DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
            return [self.plain(item, depth + 1) for _, item in zip(range(ITEMS_MAX), value, strict=False)]
        return self._shown(value)

    def values(self, record: Mapping[str, object]) -> dict[str, Any]:
        """Return a record without secrets in its values; its names are our own, and hide nothing by themselves."""
        text, plain = self.text, self.plain
        return {name: text(value) if type(value) is str else plain(value, 1) for name, value in record.items()}

    def _mapping(self, value: Mapping[Any, object], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for _, (key, item) in zip(range(ITEMS_MAX), value.items(), strict=False):
            name = self.text(key) if isinstance(key, str) else self._shown(key)
            hidden = item is not None and _is_secret_name(name)
            shown[name] = MASK if hidden else self.plain(item, depth + 1)
        return shown

    def _shown(self, value: object) -> str:
        try:
            return self.text(str(value))
        except Exception as error:  # noqa: BLE001 - a foreign __str__ may do anything; the record says that it failed
            return f"<{type(value).__name__}: {type(error).__name__}>"


def _is_hinted(text: str) -> bool:
    """Whether a name of a secret can stand in the text: ten times as fast as looking for the names themselves."""
    low = text.lower()
    return (
        "key" in low
        or "secret" in low
        or "token" in low
        or "passw" in low
        or "passphrase" in low
        or "authorization" in low
        or "signature" in low
        or "credential" in low
        or "cookie" in low
    )


@lru_cache(maxsize=1_024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None
