"""One request, sent once: what was answered, or how far it came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import yarl

from ...clock import Clock, RemoteClock
from ...errors import ErrorCategory
from .signing import Signer

USER_AGENT: Final = "TraderBot/reliable-order-execution-0.1.0"
BODY_BYTES_MAX: Final = 32 * 2**20
CHUNK_BYTES: Final = 2**16
CLOCK_RESOLUTION_SECONDS: Final = 1.5
"""The Date header counts whole seconds, and the answer was under way."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``data`` is None where the body is no JSON object."""

    status: int
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. ``sent``: whether anything of the request may have reached the exchange."""

    category: ErrorCategory
    message: str
    sent: bool
    retry_after: float | None = None
    """Seconds after which it could leave, where we ourselves held it back."""

    @property
    def held_back(self) -> bool:
        """Whether our own limits kept it from leaving."""
        return self.retry_after is not None


class Transport:
    """An HTTP session to one host. Retries nothing, follows no redirect."""

    def __init__(self, base_url: str, signer: Signer, clock: Clock, *, timeout_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.theirs = RemoteClock(clock, resolution_seconds=CLOCK_RESOLUTION_SECONDS)
        """The exchange's clock, by the Date headers of its answers."""
        self._signer = signer
        self._clock = clock
        self._timeout = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session."""
        self._session = aiohttp.ClientSession(
            # Half of the time for a connection: one that never came to be is NotSent, not Unknown.
            timeout=aiohttp.ClientTimeout(total=self._timeout, connect=self._timeout / 2),
            headers={"User-Agent": USER_AGENT},
            auto_decompress=True,
        )
        # aiohttp sends a read again when a connection that was kept open breaks; there is no public way to keep it
        # from that, and our count of requests would be wrong.
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        """Close it; harmless when repeated."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session, for the stream."""
        if self._session is None:
            raise RuntimeError("the gateway is not open")
        return self._session

    def headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        """Headers of a private request, with a fresh timestamp by the exchange's clock."""
        return self._signer.headers(method, path, body, int(self.theirs.now().timestamp()))

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        private: bool = True,
    ) -> Reply | Lost:
        """Send one request and say what came of it. The bytes that are signed are the bytes that are sent."""
        target = f"{path}?{urlencode(query)}" if query else path
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = self.headers(method, target, content) if private else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = yarl.URL(self.base_url + target, encoded=True)
        try:
            async with self.session.request(
                method, url, data=content or None, headers=headers, allow_redirects=False
            ) as answer:
                self._learn_clock(answer.headers.get("Date"))
                return Reply(answer.status, read_json(await _whole_body(answer)))
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.InvalidURL,
            UnicodeError,
        ) as error:
            return Lost(ErrorCategory.CONNECTION, type(error).__name__, sent=False)
        except TimeoutError:
            return Lost(ErrorCategory.TIMEOUT, f"no answer within {self._timeout:g} s", sent=True)
        except (aiohttp.ClientError, OSError) as error:
            return Lost(ErrorCategory.RESET, type(error).__name__, sent=True)

    def _learn_clock(self, date: str | None) -> None:
        if date is None:
            return
        try:
            self.theirs.learn(_in_utc(parsedate_to_datetime(date)))
        except (TypeError, ValueError, OverflowError):
            return


async def _whole_body(answer: aiohttp.ClientResponse) -> bytes:
    """The body to its end, however many pieces it comes in; one that is cut short raises ClientPayloadError."""
    pieces, size = [], 0
    async for piece in answer.content.iter_chunked(CHUNK_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > BODY_BYTES_MAX:
            break  # read_json makes nothing of it
    return b"".join(pieces)


def _in_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def read_json(text: bytes) -> dict[str, Any] | None:
    """A JSON object with exact numbers; None for anything else, however malformed."""
    if len(text) > BODY_BYTES_MAX:
        return None
    try:
        data = json.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):  # an exponent beyond all bounds is an ArithmeticError
        return None
    return data if isinstance(data, dict) else None
