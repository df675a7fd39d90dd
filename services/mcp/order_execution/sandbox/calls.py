"""One request and one answer, free of sockets, so that a request can also be carried out late."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

BODY_MAX: Final = 256 * 1024
"""Bytes of a request body that are read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: ``body`` is JSON-ready, or text that goes out as a page."""

    body: dict[str, Any] | str
    status: int = 200

    @property
    def content_type(self) -> str:
        """What the body is."""
        return "text/html" if isinstance(self.body, str) else "application/json"

    def encoded(self) -> bytes:
        """The body's bytes."""
        text = self.body if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False)
        return text.encode("utf-8", "replace")


class Refusal(Exception):
    """The request goes no further; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def failed(code: str | None, message: str = "", *, status: int = 200, **more: Any) -> Reply:
    """A business failure, which Nobitex mostly sends with HTTP 200."""
    coded = {} if code is None else {"code": code}
    said = {"message": message or code} if message or code else {}
    return Reply({"status": "failed", **coded, **said, **more}, status)


def detail(text: str, status: int) -> Reply:
    """A failure in the other style, which has neither ``status`` nor ``code``."""
    return Reply({"detail": text}, status)


def page(status: int, title: str) -> Reply:
    """What a router or a CDN answers."""
    text = (
        f'<!doctype html>\n<html lang="en"><head><title>{title}</title></head><body><h1>{title}</h1></body></html>'
    )
    return Reply(text, status)


@dataclass(frozen=True)
class Call:
    """One request as it came over the wire. ``headers`` are found in any case."""

    method: str
    target: str
    """Path and query, exactly as sent."""
    headers: Mapping[str, str]
    body: bytes = b""
    remote: str = ""
    """The caller's address."""
    checked: bool = field(default=False, compare=False)
    """Its signature was checked at the front, so that its age counts no more."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def query(self) -> dict[str, str]:
        """The query's parameters; the last one of a name counts. Raises Refusal for too many."""
        try:
            return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True, max_num_fields=50))
        except ValueError as error:
            raise Refusal(failed("ParseError", "too many parameters", status=400)) from error

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object. Raises Refusal."""
        if not self.body:
            return {}
        if not self.headers.get("Content-Type", "").lower().startswith("application/json"):
            raise Refusal(failed("ParseError", "a JSON body is expected", status=400))
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise Refusal(failed("ParseError", "the body is no JSON", status=400)) from error
        if not isinstance(value, dict):
            raise Refusal(failed("ParseError", "a JSON object is expected", status=400))
        return value
