"""The private order stream: Centrifugo's JSON protocol over aiohttp's websocket. Hints only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ..base import ExchangeOrder
from .parsing import NotUnderstood, event
from .transport import Lost, Reply, Transport, read_json

CONNECT_SECONDS: Final = 15.0
SILENCE_SECONDS: Final = 60.0
"""Without a word, pings included, for so long, the connection counts as broken."""
LIFETIME_SECONDS: Final = 1_000.0
"""The connection's token is good for 20 minutes; before that we connect anew, and the lists are read anew."""
FRAME_BYTES_MAX: Final = 4 * 2**20

Call = Callable[..., Awaitable[Reply | Lost]]


class StreamBroken(Exception):
    """The stream could not be had, or ended."""


def stream_url(base_url: str, given: str | None) -> str:
    """Where the stream is: production's own host, or the same host as the API's."""
    if given:
        return given
    parts = urlsplit(base_url)
    if parts.hostname == "apiv2.nobitex.ir":
        return "wss://ws.nobitex.ir/connection/websocket"
    if parts.hostname == "testnetapiv2.nobitex.ir":
        return "wss://testnetws.nobitex.ir/connection/websocket"
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/connection/websocket"


async def follow(
    transport: Transport, call: Call, url: str, names: Mapping[str, str]
) -> AsyncIterator[ExchangeOrder]:
    """Connect, subscribe to the account's orders, and give each update; ends or raises with the connection."""
    token = await _text(call, "/auth/ws/token/", "token")
    channel = f"private:orders#{await _text(call, '/users/profile', 'websocketAuthParam', 'profile')}"
    async with transport.session.ws_connect(
        url, max_msg_size=FRAME_BYTES_MAX, timeout=aiohttp.ClientWSTimeout(ws_close=5.0)
    ) as socket:
        await socket.send_str(json.dumps({"id": 1, "connect": {"token": token}}))
        await _acknowledged(socket, 1)
        await socket.send_str(json.dumps({"id": 2, "subscribe": {"channel": channel}}))
        await _acknowledged(socket, 2)
        end = asyncio.get_running_loop().time() + LIFETIME_SECONDS
        while asyncio.get_running_loop().time() < end:
            for message in await _messages(socket, SILENCE_SECONDS):
                if not message:
                    await socket.send_str("{}")  # a ping asks for a pong
                    continue
                _still_subscribed(message)
                seen = _seen(message, channel, names)
                if seen is not None:
                    yield seen


async def _text(call: Call, path: str, name: str, section: str | None = None) -> str:
    answer = await call("GET", path)
    if isinstance(answer, Lost) or answer.status != 200 or answer.data is None:
        raise StreamBroken(path)
    value = answer.data.get(name)
    inner = answer.data.get(section) if section else None
    if value is None and isinstance(inner, dict):
        value = inner.get(name)
    if not isinstance(value, str) or not value:
        raise StreamBroken(path)
    return value


async def _messages(socket: aiohttp.ClientWebSocketResponse, seconds: float) -> list[dict[str, Any]]:
    """What the next frame holds: one message a line. Raises StreamBroken when there is none."""
    try:
        async with asyncio.timeout(seconds):
            frame = await socket.receive()
    except TimeoutError:
        raise StreamBroken("silence") from None
    if frame.type is not aiohttp.WSMsgType.TEXT:
        raise StreamBroken(frame.type.name)
    lines = str(frame.data).splitlines()
    return [message for line in lines if (message := read_json(line.encode())) is not None]


async def _acknowledged(socket: aiohttp.ClientWebSocketResponse, number: int) -> None:
    async with asyncio.timeout(CONNECT_SECONDS):
        while True:
            for message in await _messages(socket, CONNECT_SECONDS):
                if message.get("id") == number:
                    if "error" in message:
                        raise StreamBroken("refused")
                    return
                if not message:
                    await socket.send_str("{}")


def _still_subscribed(message: Mapping[str, Any]) -> None:
    """Raises StreamBroken when the server takes the subscription or the connection away and only pings remain."""
    push = message.get("push")
    if isinstance(push, dict) and ("unsubscribe" in push or "disconnect" in push):
        raise StreamBroken("the server ended it")


def _seen(message: Mapping[str, Any], channel: str, names: Mapping[str, str]) -> ExchangeOrder | None:
    """The order of a push; None for anything else, and for what is not understood: the lists will tell."""
    push = message.get("push")
    if not isinstance(push, dict) or push.get("channel") != channel or not isinstance(push.get("pub"), dict):
        return None
    data = push["pub"].get("data")
    if isinstance(data, str):
        data = read_json(data.encode(errors="replace"))
    try:
        return event(data, names)
    except NotUnderstood:
        return None
