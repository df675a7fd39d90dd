"""One process's line to the simulated exchange: messages that are lost, late, doubled, refused and garbled.

A message that has left belongs to no process: it arrives although its sender died. The client's side is an
ordinary gateway, so the production executor runs on it unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from services.mcp.order_execution.clock import Clock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balances,
    ExchangeOrder,
    Found,
    Gateway,
    IdScope,
    Market,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Ticker,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.models import OrderRequest
from tests.simulation.dice import Dice
from tests.simulation.exchange import PRICE, Refused, SimulatedExchange
from tests.virtual_time import in_no_process

T = TypeVar("T")

WRITE_FAULTS = (
    "refused connection",
    "throttled",
    "lost request",
    "lost reply",
    "reset before processing",
    "reset after processing",
    "502 before processing",
    "502 after processing",
    "garbage",
    "late arrival",
    "too late arrival",
    "delivered twice",
    "slow answer",
    "defect before sending",
    "defect after sending",
)
READ_FAULTS = (
    "refused connection",
    "throttled",
    "lost reply",
    "502 before processing",
    "garbage",
    "slow answer",
    "defect",
)
FATES = ("rest", "rest", "fill", "part", "die")


@dataclass(slots=True)
class Conditions:
    """How bad the network is. Probabilities are for each message; durations in seconds."""

    write_faults: tuple[str, ...] = WRITE_FAULTS
    read_faults: tuple[str, ...] = READ_FAULTS
    write_rate: float = 0.0
    read_rate: float = 0.0
    latency: tuple[float, float] = (0.005, 0.05)
    late: tuple[float, float] = (0.1, 1.5)
    timeout: float = 5.0
    stream_rate: float = 0.0
    down: bool = False
    clock_error: float = 0.0


class Network:
    """The world's one network. It outlives every process."""

    def __init__(self, exchange: SimulatedExchange, dice: Dice, conditions: Conditions) -> None:
        self.exchange = exchange
        self.dice = dice
        self.conditions = conditions
        self.log: Callable[[str], None] = lambda line: None
        self.requests = 0
        self.streams: list[asyncio.Queue[ExchangeOrder | None]] = []
        exchange.on_change = self._publish

    # ---- messages -----------------------------------------------------------------------------------------

    def latency(self, key: str) -> float:
        """How long one message takes."""
        return self.dice.between(f"{key}:latency", *self.conditions.latency)

    def later(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Let something happen that no process's death prevents."""
        in_no_process(asyncio.get_running_loop().call_later, seconds, call, *args)

    async def write(self, site: str, process: Callable[[], Any]) -> Any:
        """Send one request that changes something, and say what its sender gets to see."""
        self.requests += 1
        kinds = () if self.conditions.down else self.conditions.write_faults
        key, kind = self.dice.fault(site, kinds, self.conditions.write_rate)
        self.log(f"{key} {kind or ''}")
        if self.conditions.down:
            await asyncio.sleep(self.latency(key))
            return Unknown(ErrorCategory.SERVER_ERROR, "503")
        if kind in ("refused connection", "throttled"):
            return _not_sent(kind)
        if kind == "defect before sending":
            raise RuntimeError("a defect of the gateway")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        delay = self.latency(key)
        if kind in ("late arrival", "too late arrival"):
            delay = self._lateness(key, kind)
        if kind not in ("lost request", "reset before processing", "502 before processing"):
            self.later(delay, self._arrive, process, answer, self.latency(f"{key}:reply"))
        if kind == "delivered twice" and self.exchange.traits.client_id_scope is IdScope.FOREVER:
            # The sender sees the answer to the second copy: a refusal, although the first one is in the book.
            # Where ids may be used again, a network that repeats requests doubles orders whatever the client does.
            self.later(delay / 2, self._arrive, process, None, 0.0)
        return await self._what_the_sender_sees(key, kind, answer)

    def _lateness(self, key: str, kind: str) -> float:
        """A late request arrives while it is still good; a too late one when it is not, where requests expire."""
        expiry = self.exchange.traits.request_expiry
        if kind == "too late arrival" and expiry is not None:
            return self.dice.between(f"{key}:late", expiry, 3 * expiry)
        longest = expiry if expiry is not None else self.exchange.traits.settle - self.exchange.index_lag
        return self.dice.between(f"{key}:late", 0.0, longest * 0.99)

    async def _what_the_sender_sees(self, key: str, kind: str | None, answer: asyncio.Future[Any]) -> Any:
        if kind in ("reset before processing", "reset after processing"):
            await asyncio.sleep(self.latency(f"{key}:reset") * 3)
            return Unknown(ErrorCategory.RESET, kind)
        if kind in ("502 before processing", "502 after processing"):
            await asyncio.sleep(self.latency(f"{key}:502") * 3)
            return Unknown(ErrorCategory.SERVER_ERROR, kind)
        if kind == "garbage":
            await answer
            return Unknown(ErrorCategory.BAD_RESPONSE, "garbage")
        if kind in ("lost request", "lost reply"):
            await asyncio.sleep(10 * self.conditions.timeout)
        if kind == "defect after sending":
            await answer
            raise RuntimeError("a defect of the gateway")
        if kind == "slow answer":
            await asyncio.sleep(self.dice.between(f"{key}:slow", 0.0, 1.2 * self.conditions.timeout))
        return await answer

    def _arrive(self, process: Callable[[], Any], answer: asyncio.Future[Any] | None, reply_in: float) -> None:
        outcome = process()
        if answer is not None and outcome is not None:
            self.later(reply_in, _reply, answer, outcome)

    async def read(self, site: str, look: Callable[[], T]) -> T | Unavailable:
        """Ask one question."""
        self.requests += 1
        kinds = () if self.conditions.down else self.conditions.read_faults
        key, kind = self.dice.fault(site, kinds, self.conditions.read_rate)
        if kind is not None:
            self.log(f"{key} {kind}")
        await asyncio.sleep(self.latency(key))
        if self.conditions.down:
            return Unavailable(ErrorCategory.SERVER_ERROR, "503")
        if kind in ("refused connection", "throttled"):
            problem = _not_sent(kind)
            return Unavailable(problem.category, problem.message, problem.retry_after)
        if kind == "lost reply":
            await asyncio.sleep(10 * self.conditions.timeout)
        if kind == "502 before processing":
            return Unavailable(ErrorCategory.SERVER_ERROR, "502")
        if kind == "garbage":
            return Unavailable(ErrorCategory.BAD_RESPONSE, "garbage")
        if kind == "defect":
            raise RuntimeError("a defect of the gateway")
        if kind == "slow answer":
            await asyncio.sleep(self.dice.between(f"{key}:slow", 0.0, 1.2 * self.conditions.timeout))
        found = look()
        await asyncio.sleep(self.latency(f"{key}:reply"))
        return found

    # ---- streams ------------------------------------------------------------------------------------------

    def _publish(self, order: ExchangeOrder) -> None:
        """Push a change to every stream: late, twice, out of order, or not at all."""
        for queue in self.streams:
            key, kind = self.dice.fault("stream", ("lost", "twice", "late", "break"), self.conditions.stream_rate)
            if kind == "break":
                self.later(self.latency(key), queue.put_nowait, None)
                continue
            if kind == "lost":
                continue
            delay = 1.0 if kind == "late" else 0.0
            for copy in range(2 if kind == "twice" else 1):
                self.later(delay + self.latency(f"{key}:{copy}"), queue.put_nowait, order)


def _reply(answer: asyncio.Future[Any], outcome: Any) -> None:
    if not answer.done():
        answer.set_result(outcome)


def _not_sent(kind: str) -> NotSent:
    if kind == "throttled":
        return NotSent(ErrorCategory.RATE_LIMITED, "429", retry_after=0.5)
    return NotSent(ErrorCategory.CONNECTION, "refused")


class SimulatedGateway(Gateway):
    """What one process of the client holds: a gateway like any other."""

    name = "simulated"

    def __init__(self, network: Network, clock: Clock) -> None:
        self.traits = network.exchange.traits
        self._network = network
        self._exchange = network.exchange
        self._clock = clock

    @property
    def clock_error(self) -> float | None:
        """How far our wall clock is off, as the exchange's answers tell."""
        return self._network.conditions.clock_error

    async def open(self) -> None:
        """Nothing is held."""

    async def close(self) -> None:
        """Nothing is held."""

    async def market(self, symbol: str) -> Market | Unavailable:
        return self._exchange.market(symbol)

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        left_at = self._clock.monotonic()
        fate = self._network.dice.pick(f"fate:{request.client_order_id}", FATES)

        def process() -> Accepted | Rejected | None:
            expiry = self.traits.request_expiry
            if expiry is not None and self._clock.monotonic() - left_at >= expiry:
                self._network.log(f"{request.client_order_id} expired on its way")
                return None
            try:
                order = self._exchange.place(request, left_at, fate)
            except Refused as refusal:
                self._network.log(f"{request.client_order_id} refused: {refusal.reason}")
                return Rejected(refusal.reason, duplicate_id=refusal.duplicate)
            self._network.log(f"{request.client_order_id} is at the exchange as {order.exchange_order_id}")
            return Accepted(order.exchange_order_id, order)

        answer: Accepted | Rejected | NotSent | Unknown = await self._network.write("submit", process)
        return answer

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        def process() -> Accepted | Rejected:
            try:
                return Accepted(self._exchange.cancel(ref).exchange_order_id)
            except Refused as refusal:
                return Rejected(refusal.reason)

        answer: Accepted | Rejected | NotSent | Unknown = await self._network.write("cancel", process)
        return answer

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        def look() -> Found | NotFound:
            order = self._exchange.query(ref)
            return NotFound() if order is None else Found(order)

        return await self._network.read("query", look)

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        return await self._network.read("open_orders", lambda: OrderList(tuple(self._exchange.open_orders(symbol))))

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        return await self._network.read(
            "closed_orders", lambda: OrderList(tuple(self._exchange.closed_orders(since, until, symbol)))
        )

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        return await self._network.read(
            "trades", lambda: TradeList(tuple(self._exchange.listed_trades(since, symbol)))
        )

    async def balances(self) -> Balances | Unavailable:
        return await self._network.read("balances", self._exchange.balances)

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        return await self._network.read("ticker", lambda: Ticker(symbol, PRICE - 10, PRICE + 10, PRICE))

    async def ping(self) -> Unavailable | None:
        answer = await self._network.read("ping", lambda: None)
        return answer if isinstance(answer, Unavailable) else None

    async def stream(self) -> AsyncIterator[ExchangeOrder]:  # type: ignore[override]
        queue: asyncio.Queue[ExchangeOrder | None] = asyncio.Queue()
        self._network.streams.append(queue)
        try:
            while (hint := await queue.get()) is not None:
                yield hint
        finally:
            self._network.streams.remove(queue)
