"""One connection to the stream: what it may hear, and the commands of Centrifugo's protocol that it sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .house import House
from .keys import stream_token_expiry

_PRIVATE = ("private:orders#", "private:trades#")
_BOOK = "public:orderbook-"
_FOREVER = 10.0**9


class Disconnect(Exception):
    """The server ends the connection, with a code of Centrifugo's."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class CommandError(Exception):
    """A command that is answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Connection:
    """The state of one connection. ``wake`` is called before the first private channel is heard."""

    def __init__(
        self,
        house: House,
        request: web.Request,
        socket: web.WebSocketResponse,
        client: str,
        channels_max: int,
        wake: Callable[[], None],
    ) -> None:
        self._house = house
        self.request = request
        self.socket = socket
        self._client = client
        self._channels_max = channels_max
        self._wake = wake
        self.connected = False
        self.channels: set[str] = set()
        self.ponged = asyncio.Event()
        self._expires: int | None = None

    @property
    def has_private(self) -> bool:
        """Whether it hears of the account."""
        return any(channel.startswith(_PRIVATE) for channel in self.channels)

    def seconds_left(self) -> float:
        """Until its token expires; practically for ever without one."""
        if self._expires is None:
            return _FOREVER
        return self._expires - self._house.clock.now().timestamp()

    def read(self, frame: str) -> list[dict[str, Any]]:
        """Carry out the commands of a frame, one a line; returns the answers. Raises Disconnect."""
        answers = []
        for line in frame.split("\n"):
            if not line.strip():
                continue
            try:
                command = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Disconnect(3501, "bad request") from error
            if command == {}:
                self.ponged.set()
                continue
            answers.append(self._answer(command))
        return answers

    def _answer(self, command: object) -> dict[str, Any]:
        number = command.get("id") if isinstance(command, dict) else None
        if not isinstance(command, dict) or not isinstance(number, int) or number <= 0:
            raise Disconnect(3501, "bad request")
        if not self.connected and "connect" not in command:
            raise Disconnect(3501, "bad request")
        try:
            return {"id": number, **self._carry_out(command)}
        except CommandError as error:
            return {"id": number, "error": {"code": error.code, "message": error.message}}

    def _carry_out(self, command: dict[str, Any]) -> dict[str, Any]:
        for name, method in (
            ("connect", self._connect),
            ("subscribe", self._subscribe),
            ("unsubscribe", self._unsubscribe),
            ("refresh", self._refresh),
        ):
            if name in command:
                body = command[name]
                if not isinstance(body, dict):
                    raise Disconnect(3501, "bad request")
                return {name: method(body)}
        raise CommandError(104, "method not found")

    def _connect(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.connected:
            raise Disconnect(3501, "bad request")
        terms = self._take_token(body["token"]) if body.get("token") else {}
        self.connected = True
        ping = max(1, round(self._house.settings.ping_seconds))
        return {"client": self._client, "version": "0.0.0 sandbox", **terms, "ping": ping, "pong": True}

    def _refresh(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"client": self._client, **self._take_token(body.get("token"))}

    def _take_token(self, token: object) -> dict[str, Any]:
        expires = stream_token_expiry(self._house.keys, token) if isinstance(token, str) else None
        if expires is None:
            raise Disconnect(3500, "invalid token")
        left = expires - self._house.clock.now().timestamp()
        if left <= 0:
            raise CommandError(109, "token expired")
        self._expires = expires
        return {"expires": True, "ttl": max(1, int(left))}

    def _subscribe(self, body: dict[str, Any]) -> dict[str, Any]:
        channel = body.get("channel")
        if not isinstance(channel, str) or not channel:
            raise Disconnect(3501, "bad request")
        if channel in self.channels:
            raise CommandError(105, "already subscribed")
        if len(self.channels) >= self._channels_max:
            raise CommandError(106, "limit exceeded")
        if channel.startswith(_PRIVATE):
            mine = channel.partition("#")[2] == self._house.keys.stream_parameter
            if self._expires is None or not mine:
                raise CommandError(103, "permission denied")
            self._wake()
        elif not self._is_public(channel):
            raise CommandError(102, "unknown channel")
        self.channels.add(channel)
        return {}

    def _is_public(self, channel: str) -> bool:
        market = self._house.markets.by_path(channel.removeprefix(_BOOK))
        return channel.startswith(_BOOK) and market is not None

    def _unsubscribe(self, body: dict[str, Any]) -> dict[str, Any]:
        self.channels.discard(str(body.get("channel")))
        return {}
