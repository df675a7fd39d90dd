"""The private order stream, against a websocket that says exactly what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import ExchangeOrder
from services.mcp.order_execution.gateways.nobitex.signing import TokenSigner
from services.mcp.order_execution.gateways.nobitex.stream import StreamBroken, follow, stream_url
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply, Transport

EVENT: dict[str, Any] = {
    "amount": "0.0002",
    "avgFilledPrice": "114879999920",
    "clientOrderId": "o1",
    "dstCurrency": "rls",
    "eventTime": 1762779011366,
    "fee": "0.00000031",
    "filledAmount": "0.0002",
    "orderId": 278339,
    "orderType": "Market",
    "param1": None,
    "price": None,
    "side": "Buy",
    "srcCurrency": "btc",
    "status": "Done",
}
CHANNEL = "private:orders#me"
Call = Callable[..., Awaitable[Reply | Lost]]


def push(data: Any, channel: str = CHANNEL) -> str:
    """One publication."""
    return json.dumps({"push": {"channel": channel, "pub": {"data": data, "offset": 1}}})


async def answered(method: str, path: str) -> Reply | Lost:
    """What the REST API says before the stream begins."""
    return Reply(200, {"token": "jwt", "websocketAuthParam": "me"})


class Talk:
    """What the server heard, and what it says after the handshake; then it hangs up."""

    def __init__(self, frames: list[str], *, subscribed: str = '{"id":2,"subscribe":{}}') -> None:
        self.frames = frames
        self.subscribed = subscribed
        self.heard: list[str] = []

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for answer in ('{"id":1,"connect":{"client":"x"}}', self.subscribed):
            self.heard.append(await socket.receive_str())
            await socket.send_str(answer)
        for frame in self.frames:
            await socket.send_str(frame)
            if frame == "{}":
                self.heard.append(await socket.receive_str())
        await socket.close()
        return socket


async def collect(stream: AsyncIterator[ExchangeOrder], seen: list[ExchangeOrder]) -> None:
    """Take what comes until the stream breaks."""
    async with aclosing(stream) as opened:  # type: ignore[type-var]
        async for hint in opened:
            seen.append(hint)  # noqa: PERF401 - what came before the break counts


async def hints(talk: Talk, call: Call = answered) -> list[ExchangeOrder]:
    """All that the stream gave before it broke, as it must."""
    app = web.Application()
    app.router.add_get("/connection/websocket", talk.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    transport = Transport(url, TokenSigner("t"), SystemClock(), timeout_seconds=2.0)
    await transport.open()
    seen: list[ExchangeOrder] = []
    try:
        with pytest.raises(StreamBroken):
            await collect(follow(transport, call, stream_url(url, None), {}), seen)
    finally:
        await transport.close()
        await runner.cleanup()
    return seen


def test_an_event_is_an_order_whether_its_data_is_text_or_not() -> None:
    """Several lines in one frame included; other channels and what is not understood are passed over."""
    junk = [push("\ud800"), push("[1]"), push(None), push(EVENT | {"status": "Odd"}), '{"push": 5}', "no json"]
    frame = "\n".join([push(json.dumps(EVENT)), *junk, push(EVENT, "public:x"), push(EVENT)])
    talk = Talk([frame])
    first, second = asyncio.run(hints(talk))
    assert first == second
    assert (first.client_order_id, first.exchange_order_id, first.symbol) == ("o1", "278339", "BTC/IRT")
    assert (first.filled, first.fees) == (Decimal("0.0002"), {"BTC": Decimal("0.00000031")})
    assert json.loads(talk.heard[0]) == {"id": 1, "connect": {"token": "jwt"}}
    assert json.loads(talk.heard[1]) == {"id": 2, "subscribe": {"channel": CHANNEL}}


def test_a_ping_is_answered() -> None:
    """Else the server hangs up after 25 seconds."""
    talk = Talk(["{}", push(EVENT)])
    assert len(asyncio.run(hints(talk))) == 1
    assert talk.heard[2:] == ["{}"]


@pytest.mark.parametrize("end", ["unsubscribe", "disconnect"])
def test_a_subscription_that_is_taken_away_is_a_broken_stream(end: str) -> None:
    """Pings alone would look like a quiet market."""
    gone = json.dumps({"push": {"channel": CHANNEL, end: {"code": 2500}}})
    assert asyncio.run(hints(Talk([gone, push(EVENT)]))) == []


def test_a_refused_subscription_is_a_broken_stream() -> None:
    """Not one that never says anything."""
    refused = '{"id":2,"error":{"code":103,"message":"permission denied"}}'
    assert asyncio.run(hints(Talk([push(EVENT)], subscribed=refused))) == []


@pytest.mark.parametrize(
    "answer",
    [
        Lost(ErrorCategory.TIMEOUT, "…", sent=True),
        Reply(403, {"detail": "…"}),
        Reply(200, None),
        Reply(200, {"token": 5, "websocketAuthParam": ""}),
    ],
)
def test_without_a_token_there_is_no_stream(answer: Reply | Lost) -> None:
    """Whoever follows it tries again later."""

    async def call(method: str, path: str) -> Reply | Lost:
        return answer

    talk = Talk([push(EVENT)])
    assert asyncio.run(hints(talk, call)) == []
    assert talk.heard == []


def test_the_parameter_of_the_channel_may_stand_in_the_profile() -> None:
    """Both places are known."""

    async def call(method: str, path: str) -> Reply | Lost:
        return Reply(200, {"token": "jwt", "profile": {"websocketAuthParam": "me"}})

    assert len(asyncio.run(hints(Talk([push(EVENT)]), call))) == 1
