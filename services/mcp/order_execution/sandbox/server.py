"""The sandbox as a server: starts, listens, and ends within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from ..clock import Clock, SystemClock
from ..errors import ConfigurationError, ErrorCategory, ExchangeUnavailable
from ..paper_exchange.exchange import PaperExchange
from ..paper_exchange.records import OrderReport
from ..paper_exchange.schema import ExchangeDown
from .calls import BODY_MAX
from .counter import Counter
from .faults import Fate, Weather
from .house import House
from .keys import DemoKeys, make_keys
from .listener import Listener
from .markets import Markets
from .operator import Operator
from .rate_limits import RateLimits
from .settings import SandboxSettings, WireFaults
from .stream import Stream
from .watch import Watch
from .wire import Wire

STOP_SECONDS: Final = 2.0
"""How long callers in the middle of a request are given at the end."""
OPEN_TRIES: Final = 50
OPEN_PAUSE_SECONDS: Final = 0.02
STREAM_PATH: Final = "/connection/websocket"


class OffsetClock:
    """A clock whose wall time is ``ahead`` seconds ahead of another's."""

    def __init__(self, clock: Clock, ahead: float) -> None:
        self._clock = clock
        self.ahead = ahead

    def now(self) -> datetime:
        """Wall time in UTC."""
        return self._clock.now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        """The other clock's."""
        return self._clock.monotonic()


class Sandbox:
    """The sandbox. ``async with Sandbox(settings) as sandbox`` starts it, and closes it in the end.

    Making it raises ConfigurationError where the settings ask for keys and the package cryptography is missing.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings or SandboxSettings()
        self._clock = OffsetClock(clock or SystemClock(), self.settings.faults.clock_offset_seconds)
        self._rng = rng or random.Random(self.settings.seed)  # noqa: S311 - chance, not secrets
        token = self.settings.token
        self.keys: DemoKeys = make_keys(
            self.settings.seed,
            token=None if token is None else token.get_secret_value(),
            api_key=self.settings.api_key,
            api_keys=self.settings.api_keys,
        )
        self._exchange = PaperExchange(self.settings.paper(), self._clock)
        self._parts: _Parts | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the exchange and listen.

        Raises ConfigurationError for a file or an address that cannot be used, ExchangeUnavailable while the file
        stays busy.
        """
        await self._open()
        try:
            self._parts = await _Parts.start(self)
        except OSError as error:
            self._exchange.close()
            where = f"{self.settings.host}:{self.settings.port}"
            raise ConfigurationError(f"cannot listen on {where}: {error.strerror}", field="port") from error
        except BaseException:
            self._exchange.close()
            raise

    async def _open(self) -> None:
        for _ in range(OPEN_TRIES):
            try:
                self._exchange.open()
            except ExchangeDown:
                await asyncio.sleep(OPEN_PAUSE_SECONDS)
            else:
                return
        raise ExchangeUnavailable(f"{self.settings.path} stays busy", category=ErrorCategory.CONNECTION)

    async def close(self) -> None:
        """Stop listening, end every connection and close the file; harmless when repeated."""
        parts, self._parts = self._parts, None
        try:
            if parts is not None:
                await parts.close()
        finally:
            self._exchange.close()

    def house(self) -> House:
        """What the counters share, made anew. Needs the exchange open."""
        return House(
            settings=self.settings,
            exchange=self._exchange,
            markets=Markets(self._exchange),
            keys=self.keys,
            clock=self._clock,
            rng=self._rng,
            limits=RateLimits(self._clock, self.settings.limits, block_seconds=self.settings.block_seconds),
            weather=Weather(self.settings.faults, self._clock, self._rng),
        )

    # ---- where it is --------------------------------------------------------------------------------------

    @property
    def _running(self) -> _Parts:
        if self._parts is None:
            raise RuntimeError("the sandbox is not running")
        return self._parts

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._running.listener.port

    @property
    def base_url(self) -> str:
        """Where the API is, without a slash at the end."""
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def stream_url(self) -> str:
        """Where the websocket is."""
        return f"ws{self.base_url.removeprefix('http')}{STREAM_PATH}"

    # ---- the operator -------------------------------------------------------------------------------------

    @property
    def faults(self) -> WireFaults:
        """The faults in force."""
        return self._running.house.faults

    def set_faults(self, faults: WireFaults) -> None:
        """Change the faults; outages count from now, and what was said beforehand is forgotten."""
        self._running.house.weather = Weather(faults, self._clock, self._rng)
        self._clock.ahead = faults.clock_offset_seconds
        self._running.listener.follow(faults.outages)

    def say(self, fate: Fate | str, path: str = "") -> None:
        """Let the next request to a path that begins so meet this fate."""
        self._running.house.weather.say(Fate(fate), path)

    def reset_streams(self) -> None:
        """Break every websocket connection."""
        self._running.stream.reset_all()

    def book(self) -> list[OrderReport]:
        """Every order that was ever booked, oldest first."""
        return self._exchange.all_orders()

    @property
    def under_way(self) -> int:
        """How many late requests have not arrived yet."""
        return self._running.wire.under_way

    @property
    def requests(self) -> dict[str, int]:
        """How many requests were carried out, by ``path status``."""
        return dict(self._running.counter.tally)


class _Parts:
    """What runs while the sandbox does."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.house = sandbox.house()
        self.counter = Counter(self.house)
        self.stream = Stream(self.house, Watch(self.house, self.counter.shapes), self.counter.public.book_of)
        self.wire = Wire(self.house, self.counter, self.stream.nudge)
        operator = Operator(self.house, self.counter, sandbox.set_faults, lambda: self.wire.under_way)
        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_route("GET", "/sandbox/faults", operator.faults)
        app.router.add_route("POST", "/sandbox/faults", operator.faults)
        app.router.add_route("GET", "/sandbox/book", operator.book)
        app.router.add_route("GET", STREAM_PATH, self.stream.handle)
        app.router.add_route("*", "/{tail:.*}", self.wire.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        self.listener = Listener(self._runner, sandbox.settings.host, sandbox.settings.port)
        self._publishing: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, sandbox: Sandbox) -> _Parts:
        """Listen and publish. Raises OSError."""
        parts = cls(sandbox)
        await parts._runner.setup()
        try:
            await parts.listener.open()
        except OSError:
            await parts._runner.cleanup()
            raise
        parts.listener.follow(sandbox.settings.faults.outages)
        parts._publishing = asyncio.create_task(parts.stream.run(), name="sandbox stream")
        return parts

    async def close(self) -> None:
        """Stop."""
        self.wire.close()
        try:
            await self.listener.close()
            await self.stream.close()
            if self._publishing is not None:
                self._publishing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._publishing
        finally:
            await self._runner.cleanup()
