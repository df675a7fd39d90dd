"""The listening socket: open, or for the length of an outage closed, so that connections are truly refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from ..paper_exchange.settings import PaperOutage
from .resets import abort

_log = logging.getLogger(__name__)

REOPEN_TRIES: Final = 50
REOPEN_PAUSE_SECONDS: Final = 0.1
SETTLING_TURNS: Final = 5
"""asyncio loses a connection that is accepted while its server closes: those accepted already get these turns."""


class Listener:
    """Listens for a runner. Port 0 becomes a free one, and stays the same one through outages."""

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self._runner = runner
        self._host = host
        self.port = port
        self._listening: asyncio.Server | None = None
        self._plan: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen; harmless when it does already. Raises OSError."""
        server = self._runner.server
        if self._listening is None and server is not None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(server, self._host, self.port, reuse_address=True)
            self.port = self._listening.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Listen no longer, and reset whoever is connected; harmless when repeated."""
        await self._stop_listening()
        server = self._runner.server
        for connection in [] if server is None else server.connections:
            abort(connection.transport)

    async def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is None:
            return
        for sock in listening.sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)
        listening.close()

    def follow(self, outages: Sequence[PaperOutage]) -> None:
        """From now on be shut during the outages that refuse connections, instead of those that were planned."""
        before = self._plan
        refusals = sorted((one.after_seconds, one.for_seconds) for one in outages if one.kind == "refused")
        self._plan = asyncio.create_task(self._follow(before, refusals), name="sandbox outages")

    async def _follow(self, before: asyncio.Task[None] | None, refusals: list[tuple[float, float]]) -> None:
        start = asyncio.get_running_loop().time()
        if before is not None:
            before.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await before
        await self._reopen()
        for after, lasting in refusals:
            await _until(start + after)
            await self.shut()
            await _until(start + after + lasting)
            await self._reopen()

    async def _reopen(self) -> None:
        for _ in range(REOPEN_TRIES):
            try:
                await self.open()
            except OSError:
                await asyncio.sleep(REOPEN_PAUSE_SECONDS)
            else:
                return
        _log.error("the port %d was taken by somebody else during an outage", self.port)

    async def close(self) -> None:
        """Follow no plan any more, and listen no longer; whoever is connected stays so."""
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await plan
        await self._stop_listening()


async def _until(instant: float) -> None:
    await asyncio.sleep(max(0.0, instant - asyncio.get_running_loop().time()))
