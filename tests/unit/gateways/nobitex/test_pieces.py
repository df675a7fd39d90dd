"""One request on a real socket: what arrives whole is an answer; of what does not, it is told how far it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.nobitex.signing import KeySigner, TokenSigner
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply, Transport, read_json

PUBLIC, PRIVATE = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA=", "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
Pieces = list[bytes]
LARGE = json.dumps({"status": "ok", "text": "x" * 300_000}).encode()


class Server:
    """Answers every connection with the same bytes, piece by piece, and keeps what it was asked."""

    def __init__(self, pieces: Pieces, *, silent: bool = False) -> None:
        self.pieces = pieces
        self.silent = silent
        self.asked: list[bytes] = []
        self.tasks: set[asyncio.Task[None] | None] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._say(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
        self.asked.append(head + body)
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)  # so that the pieces travel apart
        if self.silent:
            await reader.read()

    async def done(self) -> None:
        """Wait until no connection is served any more."""
        await asyncio.gather(*(task for task in self.tasks if task is not None))


def on_server(
    server: Server,
    story: Callable[[Transport], Awaitable[None]],
    *,
    key: bool = False,
    timeout_seconds: float = 2.0,
) -> None:
    """Run a story against a server."""

    async def main() -> None:
        async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            signer = KeySigner(PUBLIC, PRIVATE) if key else TokenSigner("t")
            url = f"http://127.0.0.1:{port}"
            transport = Transport(url, signer, SystemClock(), timeout_seconds=timeout_seconds)
            await transport.open()
            try:
                await story(transport)
            finally:
                await transport.close()
                await server.done()

    asyncio.run(main())


def outcome_of(server: Server, *, timeout_seconds: float = 2.0) -> Reply | Lost:
    """What a POST makes of a server's bytes."""
    seen: list[Reply | Lost] = []

    async def story(transport: Transport) -> None:
        seen.append(await transport.call("POST", "/x", body={}))

    on_server(server, story, timeout_seconds=timeout_seconds)
    return seen[0]


def test_a_long_answer_is_read_to_its_end() -> None:
    """However many pieces it comes in: lists and markets are longer than one piece of TCP."""
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(LARGE)
    answer = outcome_of(Server([head, LARGE[:1_000], LARGE[1_000:150_000], LARGE[150_000:]]))
    assert answer == Reply(200, json.loads(LARGE))


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"Content-Length: 50\r\n\r\n", b'{"status":"ok"}'],
        [HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabcde\r\n"],
        [b"garbage\r\n\r\n"],
        [],
    ],
    ids=["cut", "bad gzip", "bad chunks", "no HTTP", "nothing"],
)
def test_an_answer_that_is_not_whole_is_no_answer(pieces: Pieces) -> None:
    """Even where its first part would pass for one: the request may have been carried out."""
    answer = outcome_of(Server(pieces))
    assert isinstance(answer, Lost)
    assert answer.sent


def test_a_silent_server_may_have_carried_it_out() -> None:
    """The request left; that is all that is known."""
    server = Server([], silent=True)
    answer = outcome_of(server, timeout_seconds=0.2)
    assert answer == Lost(ErrorCategory.TIMEOUT, "no answer within 0.2 s", sent=True)
    assert len(server.asked) == 1


def test_what_is_signed_is_what_is_sent() -> None:
    """Path with query and body, byte by byte, and anew with each request."""
    server = Server([HEAD + b"Content-Length: 2\r\n\r\n{}"])

    async def story(transport: Transport) -> None:
        await transport.call("GET", "/market/orders/list", query={"order": "-id", "x": "a b/+"})
        await transport.call("POST", "/market/orders/add", body={"clientOrderId": "ü-1", "amount": "0.1"})

    on_server(server, story, key=True)
    assert len(server.asked) == 2
    for raw in server.asked:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        sent = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        method, target, _version = first.split(" ")
        again = KeySigner(PUBLIC, PRIVATE).headers(method, target, body, int(sent["nobitex-timestamp"]))
        assert sent["nobitex-signature"] == again["Nobitex-Signature"]
        assert sent["user-agent"].startswith("TraderBot/")


@pytest.mark.parametrize(
    "date", ["nonsense", "Sat, 99 Foo 99999999999999 99:99:99 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"]
)
def test_a_date_that_is_none_teaches_nothing(date: str) -> None:
    """And breaks nothing."""

    async def story(transport: Transport) -> None:
        assert isinstance(await transport.call("GET", "/x"), Reply)
        assert transport.theirs.error is None

    on_server(Server([HEAD + f"Date: {date}\r\nContent-Length: 2\r\n\r\n{{}}".encode()]), story)


def test_a_clock_that_is_ahead_is_set_right_in_what_is_signed() -> None:
    """By the Date header of the answer before."""

    async def story(transport: Transport) -> None:
        await transport.call("GET", "/x")
        assert transport.theirs.error == pytest.approx(timedelta(hours=1).total_seconds(), abs=3)
        now = SystemClock().now().timestamp()
        signed = transport.headers("GET", "/x", b"")["Nobitex-Timestamp"]
        assert int(signed) == pytest.approx(now - 3_600, abs=3)

    theirs = (SystemClock().now() - timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    on_server(Server([HEAD + f"Date: {theirs}\r\nContent-Length: 2\r\n\r\n{{}}".encode()]), story, key=True)


@pytest.mark.parametrize(
    "text", [b'{"a": 1e99999999999999999999}', b"[" * 100_000, b"\xff\xfe", b'{"a": ' + b"9" * 5_000 + b"}"]
)
def test_what_has_no_bounds_is_none(text: bytes) -> None:
    """Depth, length and exponents."""
    assert read_json(text) is None
