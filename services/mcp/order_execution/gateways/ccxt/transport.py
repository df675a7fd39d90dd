"""HTTP for ccxt's classes: one session of ours, and a record of what every request came to.

ccxt's own ``fetch`` tells a connection that was refused from one that broke by a message alone, keeps the last
headers of all requests in one place, follows redirects and writes keys to the debug log. Ours keeps, for each
call, the list of its requests (:class:`Trace`), from which the outcome is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import localcontext
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import yarl

from ...clock import Clock, RemoteClock
from ...errors import ErrorCategory

BODY_BYTES_MAX: Final = 64 * 2**20
CHUNK_BYTES: Final = 2**16
RETRY_AFTER_MAX: Final = 86_400.0
CLOCK_RESOLUTION: Final = timedelta(seconds=1.5)
"""The Date header counts whole seconds, and the answer was under way."""
MEASURED_SECONDS_MAX: Final = 3.0
"""Of an answer that took longer its half is no measure of the way."""
READ_METHODS: Final = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class Hop:
    """One request, and what is known of its fate."""

    method: str
    sent: bool = True
    """False only where nothing of it can have left."""
    failure: ErrorCategory | None = None
    message: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Any = None
    """The answer's JSON; None where it is none."""
    retry_after: float | None = None
    refusal: Exception | None = None
    """What ccxt's class for the exchange read in the answer, where it is no success."""

    @property
    def writes(self) -> bool:
        """Whether it may have changed anything."""
        return self.method not in READ_METHODS


@dataclass(slots=True)
class Trace:
    """The requests of one call of the gateway, and headers that its writes carry besides ccxt's own."""

    headers: Mapping[str, str] = field(default_factory=dict)
    hops: list[Hop] = field(default_factory=list)
    write: bool = False
    """The call places or cancels an order: it goes before reads where requests have to queue."""

    @property
    def writes(self) -> list[Hop]:
        """Those that may have changed anything."""
        return [hop for hop in self.hops if hop.writes]

    @property
    def last(self) -> Hop | None:
        """The latest request."""
        return self.hops[-1] if self.hops else None


class NoJsonError(Exception):
    """The answer is no JSON, or a status that is no success came without a word that is understood."""


class NoTurnError(Exception):
    """A request was not made, since those before it took too long."""


_trace: ContextVar[Trace | None] = ContextVar("order_execution_ccxt_trace", default=None)


@contextlib.contextmanager
def tracing(trace: Trace) -> Iterator[Trace]:
    """Record the requests of this task, and of those that it starts, in the trace.

    ccxt changes the rounding and the traps of the decimal context that it finds: it gets one of its own.
    """
    token = _trace.set(trace)
    try:
        with localcontext():
            yield trace
    finally:
        _trace.reset(token)


class HttpSession:
    """One HTTP session. Retries nothing, follows no redirect."""

    def __init__(self, clock: Clock, *, timeout_seconds: float) -> None:
        self.remote = RemoteClock(clock, resolution_seconds=0.0)
        """The exchange's clock, by its own word or its Date headers."""
        self._clock = clock
        self._timeout = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session."""
        self._session = aiohttp.ClientSession(
            # Half of the time for a connection: one that never came to be is NotSent, not Unknown.
            timeout=aiohttp.ClientTimeout(total=self._timeout, connect=self._timeout / 2),
            trace_configs=[_written_trace()],
        )
        # aiohttp sends a request without a body again when a connection that was kept open breaks; there is no
        # public way to keep it from that, and a cancel that is sent twice comes back as "not open".
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        """Close it; harmless when repeated."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        hop: Hop,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        on_written: Callable[[], None] | None = None,
    ) -> str | None:
        """Send one request and write into ``hop`` what came of it. The body's text; None where none came."""
        if self._session is None:
            hop.sent, hop.failure, hop.message = False, ErrorCategory.INTERNAL, "the gateway is not open"
            return None
        try:
            async with self._session.request(
                hop.method,
                yarl.URL(url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=on_written,
            ) as answer:
                hop.headers = dict(answer.headers)
                hop.retry_after = retry_after(answer.headers.get("Retry-After"))
                text = await _whole_text(answer)
                hop.status = answer.status
                self._learn_clock(answer.headers.get("Date"))
                return text
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            hop.sent, hop.failure, hop.message = False, ErrorCategory.CONNECTION, type(error).__name__
        except TimeoutError:
            hop.failure, hop.message = ErrorCategory.TIMEOUT, f"no answer within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            hop.failure, hop.message = ErrorCategory.RESET, type(error).__name__
        return None

    def _learn_clock(self, date: str | None) -> None:
        """Compare our clock with the exchange's, as far as whole seconds tell."""
        if date is None:
            return
        try:
            theirs = parsedate_to_datetime(date)
            theirs = theirs.replace(tzinfo=UTC) if theirs.tzinfo is None else theirs.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            return
        if self.remote.error is not None and abs(self.remote.now() - theirs) <= CLOCK_RESOLUTION:
            return  # a finer reading stands as long as this one does not contradict it
        ours = self._clock.now()
        self.remote.learn(ours if abs(ours - theirs) < CLOCK_RESOLUTION else theirs)

    def measured(self, theirs: datetime, seconds: float) -> None:
        """Take over what the exchange's own clock said, in an answer that took so long altogether.

        One that took long may have been under way for all of it: it tells less than a Date header does.
        """
        if seconds > MEASURED_SECONDS_MAX:
            return
        self.remote.learn(theirs + timedelta(seconds=seconds / 2))


def _written_trace() -> aiohttp.TraceConfig:
    """Tell whoever waits for it that a request has been handed to the connection."""

    async def written(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(written)
    config.on_request_exception.append(written)
    config.on_request_end.append(written)
    return config


async def _whole_text(answer: aiohttp.ClientResponse) -> str | None:
    """The body to its end; None where it is too long. One that is cut short raises ClientPayloadError."""
    pieces, size = [], 0
    async for piece in answer.content.iter_chunked(CHUNK_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > BODY_BYTES_MAX:
            return None
    return b"".join(pieces).decode(errors="replace")


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header; None where there is none, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_MAX) if seconds >= 0 else None


def read_json(text: str) -> Any:
    """JSON with its numbers as they are written: ccxt makes text of them anyway. None for what is none."""
    try:
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


class OwnHttp:
    """What replaces ccxt's own: mixed into the class of an exchange, before it."""

    http: HttpSession
    turn: asyncio.Lock | None = None
    """Where signed requests must leave in the order of their nonces."""
    read_turn: asyncio.Lock | None = None
    """There reads wait for one another first, so that at most one of them is before a write."""
    turn_seconds: float = 5.0
    """For how long a request waits for its turn; then it is not made."""
    revise: Callable[[Any], list[Any]] | None = None
    """What becomes of a list of markets before it replaces the one that is known."""

    # What ccxt's class brings along.
    prepare_request_headers: Callable[[Any], dict[str, str]]
    handle_errors: Callable[..., Any]
    handle_http_status_code: Callable[..., Any]
    sign: Callable[..., dict[str, Any]]

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Make one request; raises ccxt's errors, by what the exchange says, and NoJsonError."""
        import ccxt  # noqa: PLC0415 - it is there by now, and costs nothing more

        trace = _trace.get()
        hop = Hop(method.upper())
        own: Mapping[str, str] = {}
        if trace is not None:
            trace.hops.append(hop)
            own = trace.headers if hop.writes else {}
        sent = {**self.prepare_request_headers(headers), **own}
        content = body.encode() if isinstance(body, str) else body
        if content is not None and not isinstance(content, bytes):
            hop.sent = False
            raise ccxt.NotSupported(f"a body of the type {type(body).__name__}")
        text = await self.http.send(hop, url, sent, content or None, _on_written.get())
        if text is None:
            raise ccxt.NetworkError(hop.message or "no answer that can be read")
        text = text.strip()
        hop.data = read_json(text) if text[:1] in ("{", "[") else None
        status = hop.status or 0
        try:
            self.handle_errors(status, "", url, method, hop.headers, text, hop.data, sent, body)
            self.handle_http_status_code(status, "", url, method, text)
        except Exception as error:
            hop.refusal = error
            raise
        if hop.data is None or not 200 <= status < 300:
            raise NoJsonError(f"HTTP {status}")
        return hop.data

    async def fetch2(
        self,
        path: str,
        api: Any = "public",
        method: str = "GET",
        params: Any = None,
        config: Any = None,
    ) -> Any:
        """Sign and send, once; in turn where nonces have to rise on the wire."""
        params = {} if params is None else params
        if self.turn is None or "public" in (api if isinstance(api, (list, tuple)) else (api,)):
            return await self._sign_and_fetch(path, api, method, params)
        release = await self._own_turn(self.turn)
        token = _on_written.set(release)
        try:
            return await self._sign_and_fetch(path, api, method, params)
        finally:
            _on_written.reset(token)
            release()

    async def _own_turn(self, turn: asyncio.Lock) -> _Release:
        """Wait until nothing else is written. Raises NoTurnError after ``turn_seconds``: nothing is signed."""
        trace = _trace.get()
        first = None if trace is not None and trace.write else self.read_turn
        try:
            async with asyncio.timeout(self.turn_seconds), first or contextlib.nullcontext():
                await turn.acquire()
        except TimeoutError:
            raise NoTurnError("other requests of this key are being written") from None
        return _Release(turn)

    def set_markets(self, markets: Any, currencies: Any = None) -> Any:
        """Take these markets for the exchange's, as ``revise`` makes them."""
        revised = markets if self.revise is None else self.revise(markets)
        return super().set_markets(revised, currencies)  # type: ignore[misc]

    async def _sign_and_fetch(self, path: str, api: Any, method: str, params: Any) -> Any:
        request = self.sign(path, api, method, params)
        return await self.fetch(request["url"], request["method"], request["headers"], request["body"])

    # ---- time: the injected clock, by the exchange's reading of it ------------------------------------------

    def _now(self) -> float:
        return self.http.remote.now().timestamp()

    def seconds(self) -> int:
        """Seconds since 1970, by the exchange's clock."""
        return int(self._now())

    def milliseconds(self) -> int:
        """Milliseconds since 1970, by the exchange's clock."""
        return int(self._now() * 1_000)

    def microseconds(self) -> int:
        """Microseconds since 1970, by the exchange's clock."""
        return int(self._now() * 1_000_000)


class _Release:
    """Lets the next one sign, once."""

    def __init__(self, turn: asyncio.Lock) -> None:
        self._turn: asyncio.Lock | None = turn

    def __call__(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()


_on_written: ContextVar[_Release | None] = ContextVar("order_execution_ccxt_written", default=None)
