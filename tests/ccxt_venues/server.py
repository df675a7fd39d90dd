"""A venue of the tests: one exchange with one account, on a port of its own, where everything is written down."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from services.mcp.order_execution.clock import Clock, SystemClock
from services.mcp.order_execution.sandbox.resets import reset
from tests.ccxt_venues.binance import Binance
from tests.ccxt_venues.book import Book, Order
from tests.ccxt_venues.bybit import Bybit
from tests.ccxt_venues.dialect import Answer, Call, Dialect, Keys, page
from tests.ccxt_venues.executioner import Executioner
from tests.ccxt_venues.faults import CARRIED_OUT, SILENT, Fate, Faults, Weather
from tests.ccxt_venues.kraken import Kraken
from tests.ccxt_venues.okx import Okx

DIALECTS: Final[dict[str, type[Dialect]]] = {dialect.name: dialect for dialect in (Binance, Kraken, Bybit, Okx)}
PAGES: Final = {
    Fate.FORBIDDEN_PAGE: (403, "Forbidden"),
    Fate.MISSING_PAGE: (404, "Not Found"),
    Fate.PAGE: (200, "Welcome"),
}
REQUESTS_MAX: Final = 100_000
LATE_MAX: Final = 10_000
LOOK_SECONDS: Final = 0.02
"""How soon it is seen that a caller has left."""
STOP_SECONDS: Final = 1.0


class VenueClock:
    """The venue's wall clock, which may be ahead of the machine's by so many seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead = 0.0

    def now(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return self._clock.monotonic()


@dataclass(slots=True, kw_only=True)
class Recorded:
    """One request as the venue saw it."""

    number: int
    operation: str
    method: str
    path: str
    params: dict[str, str]
    client_id: str | None
    """What a request to place an order carries."""
    fate: Fate
    at: float
    """Monotonic."""
    status: int | None = None
    """What it was answered with, or would have been; None: it was not carried out."""


class Venue:
    """``async with Venue("binance") as venue`` listens on 127.0.0.1. The account is looked at through ``book``."""

    def __init__(
        self, exchange: str, *, clock: Clock | None = None, rng: random.Random | None = None, lag: float = 0.0
    ) -> None:
        kind = DIALECTS[exchange]
        self.clock = VenueClock(clock or SystemClock())
        self.book = Book(
            self.clock,
            kind.listings,
            ids_forever=kind.ids_forever,
            fees_in_quote=kind.fees_in_quote,
            canceled_kept=kind.canceled_kept,
            lag=lag,
        )
        self.dialect = kind(self.book)
        self.weather = Weather(rng or random.Random(0))
        self.requests: list[Recorded] = []
        self._late: dict[asyncio.TimerHandle, Callable[[], None]] = {}
        self._arrived = asyncio.Event()
        self._executioner: Executioner | None = None
        self._closing = asyncio.Event()
        self._rng = rng or random.Random(0)
        self._runner: web.AppRunner | None = None
        self.port = 0

    # ---- life ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/operator/{what}", self._operate)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop; what is late never arrives."""
        self._closing.set()
        self.dismiss()
        for handle in self._late:
            handle.cancel()
        self._late.clear()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        """Where all of the exchange's hosts are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def keys(self) -> Keys:
        """The account's credentials."""
        return self.dialect.keys

    @property
    def symbol(self) -> str:
        """A market that it has."""
        return self.dialect.symbol

    # ---- the operator -------------------------------------------------------------------------------------

    def say(self, fate: Fate | str, operation: str = "", times: int = 1) -> None:
        """Let the next requests of this operation (empty: any) meet this fate."""
        self.weather.say(fate, operation, times)

    def set_faults(self, faults: Faults) -> None:
        """Change the weather; what was said beforehand is forgotten."""
        self.weather = Weather(self._rng, faults)

    @property
    def under_way(self) -> int:
        """How many late requests have not arrived yet."""
        return len(self._late)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        server = None if self._runner is None else self._runner.server
        return 0 if server is None else len(server.connections)

    def let_arrive(self) -> None:
        """Carry out now whatever is under way."""
        for handle, arrive in list(self._late.items()):
            handle.cancel()
            arrive()

    async def all_arrived(self) -> None:
        """Wait until nothing is under way any more."""
        while self._late:
            self._arrived.clear()
            await self._arrived.wait()

    def asked(self, operation: str) -> list[Recorded]:
        """The requests of one operation, in the order in which they came."""
        return [item for item in self.requests if item.operation == operation]

    def whole_book(self) -> list[dict[str, Any]]:
        """Every order that was ever booked, JSON-ready."""
        return [
            {
                "id": self.dialect.order_id(order.number),
                "client_id": order.client_id,
                "status": order.status.value,
                "amount": str(order.amount),
                "filled": str(order.filled),
                "trades": len(order.trades),
                "created": order.created,
            }
            for order in self.book.orders
        ]

    def arm(self, pid: int, operation: str, after: int, delay: float) -> None:
        """Kill a process so many seconds after it has sent so many requests of this operation."""
        self.dismiss()
        self._executioner = Executioner(pid, operation, after, delay)

    def dismiss(self) -> None:
        """Kill nobody any more."""
        if self._executioner is not None:
            self._executioner.dismiss()
            self._executioner = None

    def draw_fates(self, seed: int, fates: list[str]) -> None:
        """Let chance decide what becomes of each order that would rest, by its client id."""

        def fate(order: Order) -> str:
            return random.Random(f"{seed}:{order.client_id}").choice(fates)

        self.book.fate = fate

    async def _operate(self, request: web.Request) -> web.Response:
        """The same for another process, below ``/operator/``. Meets no faults."""
        doors: dict[str, Callable[[dict[str, Any]], Any]] = {
            "faults": self._change,
            "book": lambda told: {"orders": self.whole_book(), "under_way": self.under_way},
            "requests": lambda told: [asdict(item) for item in self.requests],
            "fates": lambda told: self.draw_fates(told["seed"], told["fates"]),
            "fill": lambda told: self._fill(told.get("client_id"), half=bool(told.get("half"))),
            "arm": lambda told: self.arm(told["pid"], told["operation"], told["after"], told["delay"]),
            "dismiss": lambda told: self.dismiss(),
        }
        door = doors.get(request.match_info["what"])
        if door is None:
            return web.json_response({"error": "no such door"}, status=404)
        return web.json_response(door(await request.json() if request.method == "POST" else {}) or {})

    def _change(self, told: dict[str, Any]) -> None:
        said = told.pop("script", [])
        self.set_faults(Faults.from_plain(told))
        for item in said:
            self.say(item["fate"], item.get("operation", ""), item.get("times", 1))

    def _fill(self, client_id: str | None, *, half: bool) -> None:
        """Others trade with what rests."""
        for order in self.book.orders:
            if order.status == "open" and client_id in (None, order.client_id):
                self.book.fill(order, order.left / 2 if half else None)

    # ---- one request --------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or not."""
        call = Call(request.method, request.raw_path, request.headers.copy(), await request.read())
        operation = self.dialect.operation(call)
        fate = self.weather.draw(operation)
        record = Recorded(
            number=len(self.requests) + 1,
            operation=operation,
            method=call.method,
            path=call.path,
            params=call.params(),
            client_id=self.dialect.client_id(call) if operation == "create" else None,
            fate=fate,
            at=self.clock.monotonic(),
        )
        if len(self.requests) < REQUESTS_MAX:
            self.requests.append(record)
        if self._executioner is not None:
            self._executioner.seen(operation)
        answer = self._carry_out(call, record) if fate in CARRIED_OUT else None
        if fate is Fate.LATE:
            self._send_later(call, record)
        if fate in SILENT:
            return await self._break(request, fate)
        return await self._respond(request, fate, answer)

    def _carry_out(self, call: Call, record: Recorded) -> Answer:
        answer = self.dialect.answer(call)
        record.status = answer.status
        return answer

    def _send_later(self, call: Call, record: Recorded) -> None:
        if len(self._late) >= LATE_MAX:
            return
        if self.weather.faults.late_checked_at_door:
            call = self.dialect.vouched(call)
        handles: list[asyncio.TimerHandle] = []

        def arrive() -> None:
            self._late.pop(handles[0], None)
            self._carry_out(call, record)
            self._arrived.set()

        handles.append(asyncio.get_running_loop().call_later(self.weather.delay(), arrive))
        self._late[handles[0]] = arrive

    async def _respond(self, request: web.Request, fate: Fate, answer: Answer | None) -> web.StreamResponse:
        answer = self._instead(fate) or answer
        assert answer is not None
        if fate is Fate.CUT:
            return await self._cut(request, answer)
        body = answer.encoded()
        if fate is Fate.HALF:
            body = body[: len(body) // 2]
        return web.Response(
            status=answer.status, body=b"" if fate is Fate.EMPTY else body, headers=self._headers(answer)
        )

    def _instead(self, fate: Fate) -> Answer | None:
        """What is answered whatever the exchange itself had to say; None where that goes out."""
        retry_after = self.weather.faults.retry_after
        if fate is Fate.LIMITED_PAGE:
            return Answer(page(429, "Too Many Requests").body, 429, {"Retry-After": retry_after})
        if fate in (Fate.ERROR_BEFORE, Fate.ERROR_AFTER):
            return page(self._rng.choice((500, 502, 503, 504, 520)), "Server Error")
        if fate in PAGES:
            return page(*PAGES[fate])
        if fate in (Fate.DOUBT_BEFORE, Fate.DOUBT_AFTER):
            return self.dialect.doubt()
        if fate is Fate.HOLLOW:
            return self.dialect.hollow()
        return self.dialect.limited(retry_after) if fate is Fate.LIMITED else None

    def _headers(self, answer: Answer) -> dict[str, str]:
        kind = "text/html" if isinstance(answer.body, str) else "application/json"
        date = format_datetime(self.clock.now(), usegmt=True)
        return {"Content-Type": f"{kind}; charset=utf-8", "Date": date, **answer.headers}

    # ---- the ways to end ----------------------------------------------------------------------------------

    async def _break(self, request: web.Request, fate: Fate) -> web.StreamResponse:
        """Say nothing, and then break the connection."""
        faults = self.weather.faults
        hangs = fate in (Fate.HANG_BEFORE, Fate.HANG_AFTER)
        seconds = 0.0 if fate is Fate.REFUSED else faults.hang if hangs else faults.silence
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while not self._left(request) and (left := deadline - now()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_SECONDS, left)):
                    await self._closing.wait()
        reset(request)
        return web.Response(status=500)

    def _left(self, request: web.Request) -> bool:
        transport = request.transport
        return self._closing.is_set() or transport is None or transport.is_closing()

    async def _cut(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        body = answer.encoded()
        response = web.StreamResponse(status=answer.status, headers=self._headers(answer))
        response.content_length = len(body)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
        return response
