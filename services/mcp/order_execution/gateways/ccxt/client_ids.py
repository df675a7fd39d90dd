"""How a client order id travels: as it is, behind a prefix, packed, or as a number derived from it.

A form is chosen per exchange. ``encode`` gives what is sent; ``decode`` gives back the id where what an exchange
shows tells it. A derived number tells nothing back, so those that were used are remembered (:class:`Remembered`).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Final

_HEX: Final = re.compile(r"[0-9a-f]{32}")
_PACKED: Final = re.compile(r"h\.[0-9A-Za-z]{22}")
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PACKED_LENGTH: Final = 22
NUMBER_BITS: Final = 45
"""Bitfinex takes ids of 45 bits."""
REMEMBERED_MAX: Final = 100_000


class Travel(Enum):
    """In what shape ids go over the wire."""

    AS_IT_IS = "as it is"
    PACKED = "packed"
    """32 hexadecimal digits, which the executor makes, are written in base 62, as ``h.`` and 22 characters."""
    NUMBER = "number"
    """A number of 45 bits, derived from the id by a hash: the same at every start."""


@dataclass(frozen=True, slots=True)
class IdForm:
    """What ids an exchange takes. ``pattern`` and ``max_length`` hold for the ids that the executor is given."""

    max_length: int
    pattern: str
    travel: Travel = Travel.AS_IT_IS
    prefix: str = ""

    def encode(self, client_order_id: str) -> str:
        """What is sent for an id."""
        if self.travel is Travel.NUMBER:
            return str(derived_number(client_order_id))
        if self.travel is Travel.PACKED and _HEX.fullmatch(client_order_id):
            return self.prefix + pack(client_order_id)
        return self.prefix + client_order_id

    def decode(self, shown: str) -> str | None:
        """The id that an exchange shows; None where it is none of ours, or does not tell."""
        if self.travel is Travel.NUMBER or not shown.startswith(self.prefix):
            return None
        bare = shown[len(self.prefix) :]
        if self.travel is Travel.PACKED and _PACKED.fullmatch(bare):
            return unpack(bare)
        return bare or None


class Remembered:
    """Ids by what was sent for them; the oldest are forgotten beyond ``REMEMBERED_MAX``."""

    def __init__(self, form: IdForm) -> None:
        self._form = form
        self._known: OrderedDict[str, str] = OrderedDict()

    def encode(self, client_order_id: str) -> str:
        """What is sent for an id, remembered where it does not tell the id."""
        sent = self._form.encode(client_order_id)
        if self._form.travel is Travel.NUMBER:
            self._known[sent] = client_order_id
            if len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return sent

    @property
    def tells(self) -> bool:
        """Whether what an exchange shows always tells the id."""
        return self._form.travel is not Travel.NUMBER

    def decode(self, shown: str | None) -> str | None:
        """The id behind what an exchange shows; None for a number that is not remembered."""
        if not shown:
            return None
        if self._form.travel is Travel.NUMBER:
            return self._known.get(shown)
        # Another client's id, without our prefix, is told as it is: it is an id, only not one of ours.
        return self._form.decode(shown) or shown


def pack(hexadecimal: str) -> str:
    """32 hexadecimal digits as ``h.`` and 22 characters."""
    number, digits = int(hexadecimal, 16), ""
    for _ in range(_PACKED_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"h.{digits}"


def unpack(packed: str) -> str | None:
    """The inverse of :func:`pack`; None for what it never makes."""
    number = 0
    for digit in packed.removeprefix("h."):
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return format(number, "032x") if number < 2**128 else None


def derived_number(client_order_id: str) -> int:
    """A number above 0 of 45 bits: two ids of a million share one with a chance of 1.4 %, two of a day's hardly."""
    digest = blake2b(client_order_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % int(2**NUMBER_BITS - 1) + 1
