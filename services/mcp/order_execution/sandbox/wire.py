"""The wire: takes requests off sockets, lets each meet its fate, and gives the rest to the counter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from email.utils import format_datetime
from typing import Final

from aiohttp import web

from .calls import Call, Reply, page
from .counter import Counter
from .faults import CARRIED_OUT, Fate, Passage
from .house import House
from .resets import reset

LATE_MAX: Final = 10_000
"""Of more requests under way than these, the further ones are lost."""
HANG_MAX_SECONDS: Final = 600.0
LOOK_SECONDS: Final = 0.05
"""How soon it is seen that a caller has left."""
_GATEWAY_ERRORS: Final = ((500, "Server Error"), (502, "Bad Gateway"), (503, "Service Unavailable"))
_GATEWAY_TIMEOUTS: Final = ((504, "Gateway Time-out"), (520, "Web server is returning an unknown error"))


class Wire:
    """Handles every request of the API. ``told`` is called when something may have happened to an order."""

    def __init__(self, house: House, counter: Counter, told: Callable[[], None]) -> None:
        self._house = house
        self._counter = counter
        self._told = told
        self._closing = asyncio.Event()
        self._late: set[asyncio.TimerHandle] = set()

    @property
    def under_way(self) -> int:
        """How many late requests have not arrived yet."""
        return len(self._late)

    def close(self) -> None:
        """Let go of callers that hang; late requests never arrive."""
        self._closing.set()
        for handle in self._late:
            handle.cancel()
        self._late.clear()

    # ---- one request --------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or not."""
        body = await request.read()
        call = Call(request.method, request.raw_path, request.headers, body, request.remote or "")
        passage = self._house.weather.passage(call.path)
        await self._wait(passage.there)
        fate = passage.fate
        reply = self._serve(call) if fate in CARRIED_OUT else None
        if fate is Fate.LATE:
            self._send_later(call, passage)
        if reply is None:
            reply = self._answer_unserved(call, fate)
        if reply is None or fate in (Fate.LOST_REPLY, Fate.HANG_AFTER):
            return await self._break(request, fate)
        if fate is Fate.ERROR_AFTER:
            reply = self._error(timeouts_too=True)
        await self._wait(passage.back)
        if fate is Fate.CUT:
            return await self._cut(request, reply)
        # A throttle stays readable: one without ``backOff`` is a fault of its own, and costs callers a minute.
        return self._response(reply, junk=fate is Fate.JUNK and reply.status != 429)

    def _serve(self, call: Call) -> Reply:
        reply = self._counter.serve(call)
        self._told()
        return reply

    def _answer_unserved(self, call: Call, fate: Fate) -> Reply | None:
        """What answers a request that is not carried out; None where nothing does."""
        if fate is Fate.LIMITED:
            return self._counter.back_off(call, self._house.faults.retry_after_seconds)
        if fate is Fate.LIMITED_BARE:
            return page(429, "Too Many Requests")
        return self._error(timeouts_too=False) if fate is Fate.ERROR_BEFORE else None

    def _error(self, *, timeouts_too: bool) -> Reply:
        return page(*self._house.rng.choice(_GATEWAY_ERRORS + (_GATEWAY_TIMEOUTS if timeouts_too else ())))

    # ---- late ---------------------------------------------------------------------------------------------

    def _send_later(self, call: Call, passage: Passage) -> None:
        if len(self._late) >= LATE_MAX:
            return
        if self._house.faults.late_past_expiry:
            call = replace(call, checked=self._counter.is_fresh(call))
        handles: list[asyncio.TimerHandle] = []

        def arrive() -> None:
            self._late.discard(handles[0])
            self._serve(call)

        handles.append(asyncio.get_running_loop().call_later(passage.delay, arrive))
        self._late.add(handles[0])

    # ---- the ways to end ----------------------------------------------------------------------------------

    async def _break(self, request: web.Request, fate: Fate) -> web.StreamResponse:
        """Say nothing, and then break the connection."""
        silence = self._house.faults.hang_seconds
        if fate in (Fate.HANG_BEFORE, Fate.HANG_AFTER) or silence is None:
            silence = HANG_MAX_SECONDS
        if fate is not Fate.REFUSED:
            now = asyncio.get_running_loop().time
            deadline = now() + silence
            while not self._over(request) and (left := deadline - now()) > 0:
                await self._wait(min(LOOK_SECONDS, left))
        reset(request)
        return web.Response(status=500)

    def _over(self, request: web.Request) -> bool:
        transport = request.transport
        return self._closing.is_set() or transport is None or transport.is_closing()

    async def _wait(self, seconds: float) -> None:
        """Wait, but not for longer than the sandbox is open."""
        if seconds > 0 and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closing.wait()

    async def _cut(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        body = reply.encoded()
        response = web.StreamResponse(status=reply.status, headers=self._headers(reply))
        response.content_length = len(body)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
        return response

    def _response(self, reply: Reply, *, junk: bool) -> web.Response:
        body = reply.encoded()
        body = body[: len(body) // 2] if junk else body
        return web.Response(status=reply.status, body=body, headers=self._headers(reply))

    def _headers(self, reply: Reply) -> dict[str, str]:
        return {
            "Content-Type": f"{reply.content_type}; charset=utf-8",
            "Date": format_datetime(self._house.clock.now(), usegmt=True),
        }
