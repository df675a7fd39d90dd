"""The private stream: Centrifugo's JSON protocol over a websocket, and the watch over what orders do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMsgType, web

from ..paper_exchange.schema import ExchangeDown
from .connections import Connection, Disconnect
from .house import House
from .resets import reset
from .watch import Watch

_log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 100
"""At once, as documented."""
CHANNELS_MAX: Final = 300
FRAME_MAX: Final = 64 * 1024
SEND_SECONDS: Final = 5.0
"""A connection that takes no frame for so long is dropped."""
HELLO_SECONDS: Final = 25.0
"""The first frame must come within this."""


class Stream:
    """Serves websocket connections and publishes what happens to orders. ``run`` does the publishing."""

    def __init__(self, house: House, watch: Watch, book_of: Callable[[str], dict[str, Any] | None]) -> None:
        self._house = house
        self._watch = watch
        self._book_of = book_of
        self._connections: set[Connection] = set()
        self._offsets: Tally[str] = Tally()
        self._nudged = asyncio.Event()
        self._shown: dict[str, str] = {}

    def nudge(self) -> None:
        """Something may have happened: look now."""
        self._nudged.set()

    # ---- publishing ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._house.settings.stream_seconds):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                await self._publish()
            except ExchangeDown as error:
                _log.warning("the stream says nothing for now: %s", error)

    async def _publish(self) -> None:
        private = [connection for connection in self._connections if connection.has_private]
        if private:
            orders, trades = self._watch.news()
            parameter = self._house.keys.stream_parameter
            news = [(f"private:orders#{parameter}", event) for event in orders]
            news += [(f"private:trades#{parameter}", event) for event in trades]
            await self._deliver(news, private)
        else:
            self._watch.rest()
        await self._deliver(self._public_news(), list(self._connections))

    def _public_news(self) -> list[tuple[str, dict[str, Any]]]:
        wanted = {
            channel for connection in self._connections for channel in connection.channels if channel[1] == "u"
        }
        news = []
        for channel in sorted(wanted):
            book = self._book_of(channel.rpartition("-")[2])
            text = json.dumps(book)
            if book is not None and self._shown.get(channel) != text:
                self._shown[channel] = text
                news.append((channel, book))
        return news

    async def _deliver(self, news: list[tuple[str, dict[str, Any]]], connections: list[Connection]) -> None:
        weather, faults = self._house.weather, self._house.faults
        frames: list[tuple[str, str]] = []
        for channel, event in news:
            if weather.chance(faults.stream_reset):
                self.reset_all()
                return
            if not weather.chance(faults.lost_event):
                frames.append((channel, self._push(channel, event)))
                if weather.chance(faults.doubled_event):
                    frames.append(frames[-1])
        for connection in connections:
            mine = "\n".join(frame for channel, frame in frames if channel in connection.channels)
            if mine:
                await self._send(connection, mine)

    def _push(self, channel: str, event: dict[str, Any]) -> str:
        """A publication. Its data is JSON as a string; one in five is an object, as some clients saw."""
        self._offsets[channel] += 1
        offset = self._offsets[channel]
        plain = self._house.settings.shapes == "varied" and offset % 5 == 0
        data = event if plain else json.dumps(event)
        return json.dumps({"push": {"channel": channel, "pub": {"data": data, "offset": offset}}})

    async def _send(self, connection: Connection, frame: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await connection.socket.send_str(frame)
        except (TimeoutError, ConnectionError):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        reset(connection.request)

    def reset_all(self) -> None:
        """Break every connection."""
        for connection in list(self._connections):
            self._drop(connection)

    async def close(self) -> None:
        """Say good-bye to every connection."""
        connections, end = list(self._connections), Disconnect(3001, "shutdown")
        await asyncio.gather(*(self._close(connection, end) for connection in connections))

    # ---- connections --------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection to its end."""
        if len(self._connections) >= CONNECTIONS_MAX:
            return web.Response(status=503, text="too many connections")
        socket = web.WebSocketResponse(max_msg_size=FRAME_MAX, compress=False)
        await socket.prepare(request)
        connection = Connection(self._house, request, socket, uuid.uuid4().hex, CHANNELS_MAX, self._watch.wake)
        self._connections.add(connection)
        alive = asyncio.ensure_future(self._keep_alive(connection))
        try:
            await self._listen(connection)
        except Disconnect as end:
            await self._close(connection, end)
        finally:
            self._connections.discard(connection)
            alive.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await alive
        return socket

    async def _listen(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS) as patience:
                async for message in connection.socket:
                    if message.type is not WSMsgType.TEXT:
                        raise Disconnect(3501, "bad request")
                    answers = connection.read(message.data)
                    if connection.connected:
                        patience.reschedule(None)
                    if answers:
                        await self._send(connection, "\n".join(json.dumps(answer) for answer in answers))
                    self.nudge()
        except TimeoutError as error:
            raise Disconnect(3502, "stale") from error

    async def _keep_alive(self, connection: Connection) -> None:
        """Ping, and cut off who leaves a ping unanswered or lets its token expire."""
        settings = self._house.settings
        while True:
            await asyncio.sleep(min(settings.ping_seconds, connection.seconds_left()))
            if connection.seconds_left() <= 0:
                await self._close(connection, Disconnect(3005, "connection expired"))
                return
            if not connection.connected:
                continue
            connection.ponged.clear()
            await self._send(connection, "{}")
            try:
                async with asyncio.timeout(settings.pong_seconds):
                    await connection.ponged.wait()
            except TimeoutError:
                await self._close(connection, Disconnect(3012, "no pong"))
                return

    async def _close(self, connection: Connection, end: Disconnect) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(SEND_SECONDS):
                await connection.socket.close(code=end.code, message=end.reason.encode())
