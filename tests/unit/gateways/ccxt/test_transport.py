"""HTTP for ccxt: what came of each request, over real connections to this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, getcontext
from typing import Any

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Accepted, NotSent, Unavailable
from services.mcp.order_execution.gateways.ccxt import CcxtGateway, transport
from services.mcp.order_execution.gateways.ccxt.transport import (
    Hop,
    HttpSession,
    NoJsonError,
    Trace,
    read_json,
    retry_after,
    tracing,
)
from tests.unit.gateways.ccxt.captured import NOW, FixedClock, gateway, order
from tests.virtual_time import run_virtual

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Head and body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head + await reader.readexactly(length)


def answering(answer: bytes, seen: list[bytes] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        if seen is not None:
            seen.append(request)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return handle


def http(body: bytes, *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}Connection: close\r\n\r\n".encode() + body


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    running: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*running)


async def sent(url: str, *, timeout: float = 2.0, method: str = "POST", clock: Any = None) -> tuple[Hop, Any, Any]:
    session = HttpSession(clock or FixedClock(), timeout_seconds=timeout)
    await session.open()
    hop = Hop(method)
    try:
        text = await session.send(hop, url, {}, b"{}" if method == "POST" else None)
    finally:
        await session.close()
    return hop, text, session


async def test_an_answer_is_kept_with_its_headers() -> None:
    """Status, body, Retry-After and the exchange's time, of this very request."""
    headers = "Retry-After: 7\r\nDate: Sat, 21 Nov 2026 11:59:30 GMT\r\n"
    async with served(answering(http(b'{"a": 1.10}', status="429 Too Many", headers=headers))) as url:
        hop, text, session = await sent(url)
    assert (hop.status, text, hop.retry_after, hop.failure) == (429, '{"a": 1.10}', 7.0, None)
    assert session.remote.error == 30.0


async def test_a_refused_connection_was_never_sent() -> None:
    """The one failure that proves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        hop, text, _ = await sent(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert (hop.sent, hop.failure, text) == (False, ErrorCategory.CONNECTION, None)


async def test_a_reset_is_no_refused_connection() -> None:
    """The request may have arrived."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with served(reset) as url:
        hop, text, _ = await sent(url)
    assert (hop.sent, hop.failure, text) == (True, ErrorCategory.RESET, None)


async def test_silence_is_a_timeout() -> None:
    """By our own time."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with served(silent) as url:
        hop, _, _ = await sent(url, timeout=0.1)
    assert (hop.sent, hop.failure, hop.message) == (True, ErrorCategory.TIMEOUT, "no answer within 0.1 s")


async def test_half_a_body_is_no_answer() -> None:
    """However much of it looks like one."""
    async with served(answering(http(b'{"orderId": 42}', length=100))) as url:
        hop, text, _ = await sent(url)
    assert (hop.failure, hop.status, text) == (ErrorCategory.RESET, None, None)


async def test_redirects_are_not_followed() -> None:
    """An order is not sent to wherever a proxy says."""
    seen: list[bytes] = []
    headers = "Location: http://127.0.0.1:9/elsewhere\r\n"
    async with served(answering(http(b"", status="307 Temporary Redirect", headers=headers), seen)) as url:
        hop, _, _ = await sent(url)
    assert (hop.status, len(seen)) == (307, 1)


async def test_a_body_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made of it."""
    monkeypatch.setattr(transport, "BODY_BYTES_MAX", 1_000)
    async with served(answering(http(b"x" * 5_000))) as url:
        _, text, _ = await sent(url)
    assert text is None


async def test_a_closed_session_sends_nothing() -> None:
    """And says so; closing twice is harmless."""
    session = HttpSession(FixedClock(), timeout_seconds=1.0)
    hop = Hop("POST")
    assert await session.send(hop, "http://127.0.0.1:9", {}, None) is None
    assert (hop.sent, hop.failure) == (False, ErrorCategory.INTERNAL)
    await session.close()


async def test_a_finer_reading_of_the_clock_stands() -> None:
    """Until a Date header contradicts it by more than its own coarseness."""
    session = HttpSession(FixedClock(), timeout_seconds=1.0)
    session.measured(NOW + timedelta(seconds=0.4), 0.2)
    assert session.remote.error == -0.5
    session._learn_clock("Sat, 21 Nov 2026 12:00:01 GMT")
    assert session.remote.error == -0.5
    session._learn_clock("Sat, 21 Nov 2026 12:01:00 GMT")
    assert session.remote.error == -60.0
    session._learn_clock("Sat, 21 Nov 2026 12:00:01 GMT")
    assert session.remote.error == 0.0
    for odd in (None, "yesterday", "Sat, 99 Nov 2026 12:01:00 GMT"):
        session._learn_clock(odd)
    assert session.remote.error == 0.0


async def test_a_slow_answer_tells_no_time() -> None:
    """It may have been under way for all of it, or for none."""
    session = HttpSession(FixedClock(), timeout_seconds=1.0)
    session.measured(NOW + timedelta(seconds=20), 14.0)
    assert session.remote.error is None
    session.measured(NOW + timedelta(seconds=20), 1.0)
    assert session.remote.error == -20.5


def test_retry_after_is_in_seconds() -> None:
    """A date, nonsense and less than nothing say nothing; a day is the most."""
    assert [retry_after(value) for value in ("3", "0.5", "1e9", "-1", "soon", None)] == [3.0, 0.5, 86_400.0] + [
        None
    ] * 3


def test_numbers_stay_as_they_were_written() -> None:
    """No float comes in between."""
    assert read_json('{"a": 0.1000000000000000055511151231257827, "b": 12345678901234567890}') == {
        "a": "0.1000000000000000055511151231257827",
        "b": 12345678901234567890,
    }
    assert read_json("{") is None
    assert read_json("[" * 100_000) is None


async def test_ccxts_arithmetic_stays_its_own() -> None:
    """It changes the rounding of whatever decimal context it finds."""
    getcontext().rounding = ROUND_HALF_EVEN
    with tracing(Trace()) as trace:
        getcontext().rounding = ROUND_DOWN
        assert trace.hops == []
    assert getcontext().rounding == ROUND_HALF_EVEN


async def test_the_classes_own_http_is_ours() -> None:
    """Over a real connection: JSON comes back, a page is NoJsonError, and no key is logged."""
    gateway = CcxtGateway(
        "binance", FixedClock(), api_key="the-api-key", api_secret="the-secret", base_url="http://x"
    )
    await gateway.open()
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = records.append  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    seen: list[bytes] = []
    try:
        async with served(answering(http(b'{"serverTime": 5}'), seen)) as url:
            assert await gateway.exchange.fetch(f"{url}/api") == {"serverTime": 5}
        async with served(answering(http(b"<html></html>"))) as url:
            with pytest.raises(NoJsonError):
                await gateway.exchange.fetch(f"{url}/api")
        with pytest.raises(Exception, match="type"):
            await gateway.exchange.fetch("http://127.0.0.1:9", "POST", {}, {"form": "data"})
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        await gateway.close()
    assert seen[0].startswith(b"GET /api")
    assert not any("the-api-key" in record.getMessage() for record in records)


async def test_signed_requests_are_written_one_after_another_but_answered_together() -> None:
    """Where nonces have to rise on the wire; a slow answer holds nobody up."""
    order: list[int] = []
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        order.append(int(request.split(b"nonce=")[1].split(b"&")[0]))
        if len(order) == 10:
            gate.set()
        await gate.wait()
        writer.write(http(b'{"error":[],"result":{}}'))
        await writer.drain()
        writer.close()

    async with served(slow) as url:
        gateway = CcxtGateway("kraken", FixedClock(), api_key="k", api_secret="c2VjcmV0", base_url=url)
        await gateway.open()
        try:
            calls = [gateway.exchange.privatePostOpenOrders({"n": number}) for number in range(10)]
            async with asyncio.timeout(5):
                await asyncio.gather(*calls)
        finally:
            await gateway.close()
    assert sorted(order) == sorted(set(order))
    assert len(order) == 10


async def test_a_request_that_fails_lets_the_next_one_go() -> None:
    """Whoever comes after a refused connection is not kept waiting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        gateway = CcxtGateway("kraken", FixedClock(), api_key="k", api_secret="c2VjcmV0", base_url=url)
        await gateway.open()
        try:
            async with asyncio.timeout(5):
                calls = [gateway.exchange.privatePostOpenOrders({}) for _ in range(5)]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await gateway.close()
    assert all(isinstance(outcome, Exception) for outcome in outcomes)


def test_an_order_goes_before_reads_and_does_not_wait_for_long() -> None:
    """Kraken's requests are written one by one; what never had its turn was not sent, and may be tried again."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = gateway("kraken", timeout_seconds=6.0)
        written: list[tuple[str, float]] = []
        send = made.line.send

        async def slow(hop: Any, url: str, *rest: Any) -> Any:
            written.append((url.rpartition("/")[2], loop.time()))
            await asyncio.sleep(0.9)
            return await send(hop, url, *rest)

        made.line.send = slow  # type: ignore[method-assign]
        made.line.script = lambda sent: '{"error": [], "result": {"txid": ["42"], "open": {}}}'
        reads = [asyncio.ensure_future(made.open_orders()) for _ in range(4)]
        await asyncio.sleep(0.1)
        outcome = await made.submit(order())
        assert outcome == Accepted("42")
        assert [name for name, _ in written][:3] == ["OpenOrders", "OpenOrders", "AddOrder"]
        late = [await read for read in reads[2:]]
        for answer in late:
            assert isinstance(answer, Unavailable), answer
            assert answer.local
            assert answer.retry_after == 1.0
        await made.exchange.turn.acquire()
        unsent = await made.submit(order())
        assert isinstance(unsent, NotSent), unsent
        assert unsent.local
        assert unsent.retry_after == 1.0

    run_virtual(main)
