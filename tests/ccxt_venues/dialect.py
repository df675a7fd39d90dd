"""What every exchange's dialect has: calls, answers, credentials, and the way from one to the other."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

from tests.ccxt_venues.book import Book, Listing, Refused

FIELDS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came over the wire. ``headers`` are found in any case."""

    method: str
    target: str
    """Path and query, exactly as sent."""
    headers: Mapping[str, str]
    body: bytes = b""
    checked: bool = False
    """Its signature was checked when it was sent, so that its age counts no more."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query string, as sent."""
        return self.target.partition("?")[2]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def form(self) -> dict[str, str]:
        """Query and form body together."""
        content = self.headers.get("Content-Type", "")
        both = self.query if "json" in content else f"{self.query}&{self.text}"
        return dict(parse_qsl(both, keep_blank_values=True, max_num_fields=FIELDS_MAX))

    def rows(self) -> list[dict[str, Any]]:
        """The body as JSON objects: those of its list, or itself."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            return []
        return [row for row in (value if isinstance(value, list) else [value]) if isinstance(row, dict)]

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, or the first of its list; empty where there is none."""
        return next(iter(self.rows()), {})

    def params(self) -> dict[str, str]:
        """Everything that it asks for, wherever it stands; what a record of it shows."""
        told = self.form() | {name: str(value) for name, value in self.json().items()}
        return {name: value for name, value in told.items() if name != "signature"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: ``body`` is JSON-ready, or text that goes out as a page."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class Stop(Exception):
    """The request goes no further; ``answer`` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Keys:
    """What the account's owner holds."""

    api_key: str
    secret: str
    passphrase: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One documented address."""

    operation: str
    handle: Callable[[Call], Answer]
    private: bool = True


def page(status: int, title: str) -> Answer:
    """What a router or a CDN answers."""
    return Answer(f"<!doctype html><html><head><title>{title}</title></head><body>{title}</body></html>", status)


def plain(value: Decimal, places: int | None = None) -> str:
    """A number as an exchange writes it: with so many places, or with as many as it needs."""
    if places is not None:
        return f"{value:.{places}f}"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Dialect(ABC):
    """One exchange. ``endpoints`` are found by method and path."""

    name: ClassVar[str]
    symbol: ClassVar[str] = "BTC/USDT"
    listings: ClassVar[list[Listing]]
    ids_forever: ClassVar[bool] = False
    fees_in_quote: ClassVar[bool] = False
    canceled_kept: ClassVar[float | None] = None
    keys: ClassVar[Keys]

    def __init__(self, book: Book) -> None:
        self.book = book
        self.endpoints: dict[tuple[str, str], Endpoint] = self.make_endpoints()

    @abstractmethod
    def make_endpoints(self) -> dict[tuple[str, str], Endpoint]:
        """Every address that is known here."""

    @abstractmethod
    def admit(self, call: Call) -> None:
        """Check key, signature and age of a private request. Raises Stop."""

    @abstractmethod
    def refused(self, refused: Refused, call: Call, operation: str) -> Answer:
        """How the exchange says that the account refuses."""

    @abstractmethod
    def limited(self, retry_after: str) -> Answer:
        """How it says that there were too many requests."""

    @abstractmethod
    def doubt(self) -> Answer:
        """How it says that it does not know what became of a request."""

    @abstractmethod
    def hollow(self) -> Answer:
        """How it says that all is well, with nothing in it."""

    @abstractmethod
    def client_id(self, call: Call) -> str | None:
        """The client order id that a request to place an order carries."""

    @abstractmethod
    def order_id(self, number: int) -> str:
        """The exchange's id of the account's order of this number."""

    def operation(self, call: Call) -> str:
        """What a request asks for: create, cancel, query, open, closed, trades, balances, ticker, and so on."""
        endpoint = self.endpoints.get((call.method, call.path))
        return "other" if endpoint is None else endpoint.operation

    def answer(self, call: Call) -> Answer:
        """Carry a request out."""
        endpoint = self.endpoints.get((call.method, call.path))
        if endpoint is None:
            return page(404, "Not Found")
        try:
            if endpoint.private:
                self.admit(call)
            return endpoint.handle(call)
        except Stop as stop:
            return stop.answer
        except Refused as refused:
            return self.refused(refused, call, endpoint.operation)

    def vouched(self, call: Call) -> Call:
        """The same request with its signature checked now, if it is good; for one that will be late."""
        try:
            self.admit(call)
        except Stop:
            return call
        return replace(call, checked=True)


def number_of(text: object) -> int:
    """A whole number, or 0."""
    digits = str(text)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0


def listing(base: str, quote: str, price: str, **rules: str) -> Listing:
    """A market, with everything as strings. Rules: tick, step, least (amount), notional."""
    return Listing(
        base=base,
        quote=quote,
        price=Decimal(price),
        tick=Decimal(rules["tick"]),
        step=Decimal(rules["step"]),
        min_amount=Decimal(rules["least"]),
        min_notional=Decimal(rules["notional"]),
    )
