"""One world: an exchange, a network, a disk, and the lives of a bot that has to place a few orders on a bad day."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from services.mcp.order_execution import (
    OrderExecutionError,
    OrderNotFound,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
    ReliableOrderExecutor,
)
from services.mcp.order_execution.errors import ExchangeUnavailable, JournalError, JournalLocked, SubscriberTooSlow
from services.mcp.order_execution.gateways.base import GatewayTraits, IdScope, ListScope, LookupScope
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.models import OrderEvent, OrderState, OrderType, TimeInForce
from services.mcp.order_execution.reconciliation import Reconciler
from tests.simulation.dice import Dice
from tests.simulation.disk import NumberedJournal
from tests.simulation.exchange import SimulatedExchange
from tests.simulation.network import READ_FAULTS, WRITE_FAULTS, Conditions, Network, SimulatedGateway
from tests.virtual_time import Process, VirtualClock, VirtualLoop

INTENTS = 6
METRICS = Metrics()
"""One for all worlds: a registry is dear to make, and nothing is decided by it."""

FOREVER = GatewayTraits(
    client_id_scope=IdScope.FOREVER,
    lookup_scope=LookupScope.ALL,
    lists_closed_orders=True,
    lists_trades=True,
    request_expiry=2.0,
    settle=0.5,
    order_types=frozenset(OrderType),
    times_in_force=frozenset(TimeInForce),
    client_id_max_length=64,
)
OPEN_ONLY = replace(FOREVER, client_id_scope=IdScope.OPEN_ORDERS, lookup_scope=LookupScope.OPEN_ORDERS)
KINDS: dict[str, GatewayTraits] = {
    "ids unique and found for ever": FOREVER,
    "ids unique and found among open orders": OPEN_ONLY,
    "requests never expire": replace(OPEN_ONLY, request_expiry=None, settle=2.5),
    "ids not unique, found for ever": replace(FOREVER, client_id_scope=IdScope.NONE),
    "ids found in lists alone": replace(
        FOREVER, lookup_scope=LookupScope.NONE, cancels_by_client_id=False, list_scope=ListScope.SYMBOL
    ),
    "a list for each symbol": replace(OPEN_ONLY, list_scope=ListScope.SYMBOL, read_requests_per_second=50.0),
    "open orders alone": replace(OPEN_ONLY, lists_closed_orders=False, lists_trades=False),
    "no ids at all": replace(
        FOREVER, client_id_scope=IdScope.NONE, lookup_scope=LookupScope.NONE, accepts_client_ids=False,
        cancels_by_client_id=False,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller was told, and when (monotonic)."""

    intent: str
    verdict: str
    """placed, rejected, not_sent, unresolved, canceled (by cancel_order: it will trade no further)."""
    at: float
    detail: str = ""


@dataclass(slots=True)
class Life:
    """One process of the bot."""

    process: Process
    journal: NumberedJournal
    bot: ReliableOrderExecutor
    events: list[OrderEvent] = field(default_factory=list)
    callers: list[asyncio.Task[None]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process dies."""


class Violation(AssertionError):
    """The promise was broken."""


class SimulatedWorld:
    """Everything that one seed decides. ``only``: the faults that may happen (see dice.py)."""

    def __init__(
        self,
        seed: int,
        only: Collection[str] | None = None,
        *,
        dice: Dice | None = None,
        kind: str | None = None,
        trace: bool = False,
    ) -> None:
        self.seed = seed
        self.dice = dice or Dice(seed, only)
        self.clock = VirtualClock()
        self.trace: list[str] | None = [] if trace else None
        self.told: list[Told] = []
        self.rare: Counter[str] = Counter()
        self.lives: list[Life] = []
        self.repair_seconds = 3.0
        self.kind = kind or self.dice.pick("kind", list(KINDS))
        traits = KINDS[self.kind]
        if self.dice.chance("streams", 0.4):
            traits = replace(traits, streams_orders=True)
        self.store = MemoryStore()
        self.exchange = SimulatedExchange(
            traits,
            self.clock.monotonic,
            self._exchange_time,
            index_lag=self.dice.between("index lag", 0.0, min(traits.settle, 0.5) * 0.98),
            carry_fills=self.dice.chance("carry fills", 0.5) or not traits.lists_trades,
        )
        self.network = Network(self.exchange, self.dice, self._conditions())
        self.network.log = self.log
        self.config = self._config()
        self.params = {f"o{number}": self._params(f"o{number}") for number in range(INTENTS)}

    # ---- what the seed decides ----------------------------------------------------------------------------

    def _conditions(self) -> Conditions:
        """A mix of faults of its own for each world: some have many of one kind, some a few of each."""
        dice = self.dice
        enabled = tuple(kind for kind in WRITE_FAULTS if dice.chance(f"enable {kind}", 0.6))
        reads = tuple(kind for kind in READ_FAULTS if dice.chance(f"enable read {kind}", 0.6))
        timeout = dice.pick("timeout", (0.5, 1.0, 5.0))
        return Conditions(
            write_faults=enabled,
            read_faults=reads,
            write_rate=dice.pick("write rate", (0.0, 0.2, 0.5, 0.8)),
            read_rate=dice.pick("read rate", (0.0, 0.1, 0.3, 0.6)),
            latency=dice.pick("latency", ((0.0, 0.0), (0.001, 0.02), (0.05, 0.2))),
            timeout=timeout,
            stream_rate=dice.pick("stream rate", (0.0, 0.3)),
        )

    def _config(self) -> dict[str, Any]:
        dice = self.dice
        breaker: dict[str, Any] = {"cool_down_seconds": dice.pick("cool down", (1, 10, 60))}
        if dice.chance("nervous breaker", 0.3):
            breaker["failure_threshold"] = 3
        return {
            "transaction_log": {"path": None},
            "gateway": {"timeout_seconds": self.network.conditions.timeout},
            "retry": {
                "max_retries": dice.whole("retries", 0, 3),
                "initial_delay": 0.2,
                "deadline_seconds": dice.pick("deadline", (2, 8, 30)),
            },
            "confirmation": {
                "wait_for": dice.pick("wait for", ("accepted", "accepted", "visible", "final")),
                "timeout_seconds": 2,
                "poll_interval_seconds": dice.pick("poll", (1, 5)),
                "close_timeout_seconds": dice.pick("close", (0.1, 3)),
            },
            "circuit_breaker": breaker,
        }

    def _params(self, intent: str) -> dict[str, Any]:
        dice = self.dice
        limit = dice.chance(f"{intent} limit", 0.75)
        params: dict[str, Any] = {
            "client_order_id": intent,
            "symbol": "BTC/USD",
            "side": dice.pick(f"{intent} side", ("buy", "sell")),
            "type": "limit" if limit else "market",
            "amount": dice.pick(f"{intent} amount", ("0.01", "0.05", "0.1", "0.1", "1.2", "2")),
        }
        if limit:
            params["price"] = dice.pick(f"{intent} price", ("50000", "49990.5", "51000", "120000"))
            params["time_in_force"] = dice.pick(f"{intent} tif", ("GTC", "GTC", "GTC", "IOC"))
        return params

    def _exchange_time(self) -> Any:
        return VirtualClock().now()

    def log(self, line: str) -> None:
        """Note what happens, where somebody wants to read it."""
        if self.trace is not None:
            self.trace.append(f"{self.clock.monotonic() - 1_000_000:9.3f}  {line}")

    # ---- lives --------------------------------------------------------------------------------------------

    @property
    def loop(self) -> VirtualLoop:
        """The loop that the world runs on."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    def start(self) -> Life:
        """Start the bot on what the disk holds."""
        number = len(self.lives) + 1
        journal = NumberedJournal(
            self.dice, self.clock, self.store, commit_seconds=self.dice.pick("commit", (0.0002, 0.002, 0.02))
        )
        journal.fault_rate = self.dice.pick("journal rate", (0.0, 0.0, 0.02, 0.1))
        journal.on_kill = lambda: self._die(life, written=False)
        journal.on_failure = lambda: self.loop.call_later(self.repair_seconds, self.repair, life)
        bot = ReliableOrderExecutor(
            self.config,
            gateway=SimulatedGateway(self.network, self.clock),
            journal=journal,
            clock=self.clock,
            rng=random.Random(self.seed * 100 + number),
            metrics=METRICS,
        )
        life = Life(Process(f"life {number}"), journal, bot)
        self.lives.append(life)
        self.log(f"life {number} begins")
        life.process.spawn(self._listen(life))
        return life

    async def _listen(self, life: Life) -> None:
        try:
            await life.bot.open()
            async for event in life.bot.events():
                life.events.append(event)
                self.log(
                    f"{event.order_id} v{event.order.version} {event.kind}: {event.state} {event.detail or ''}"
                )
        except (OrderExecutionError, SubscriberTooSlow) as error:
            self.log(f"events end: {type(error).__name__}")

    def kill(self, life: Life) -> None:
        """SIGKILL: what was not on disk is lost; a batch that was being written may be there or not."""
        self._die(life, written=self.dice.chance(self.dice.next_key("torn"), 0.5))

    def _die(self, life: Life, *, written: bool) -> None:
        if life.process.dead:
            return
        self.loop.kill(life.process)
        life.journal.crash(written=written)
        self.log(f"{life.process.name} is killed")
        life.ended.set()

    def repair(self, life: Life) -> None:
        """An operator looks after the journal that failed."""
        if not life.process.dead and life.journal.health().failure is not None:
            life.process.spawn(self.reopen(life))

    async def inside(self, life: Life, work: Any) -> Any:
        """Let the process do something, and wait for it; None where it dies over it."""
        task = life.process.spawn(work)
        end = asyncio.get_running_loop().create_task(life.ended.wait(), name="end of a life")
        await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        return task.result() if task.done() else None

    # ---- callers ------------------------------------------------------------------------------------------

    def tell(self, intent: str, verdict: str, detail: str = "") -> None:
        """Remember what a caller was told."""
        self.told.append(Told(intent, verdict, self.clock.monotonic(), detail))
        self.log(f"{intent}: the caller is told {verdict} {detail}")

    async def place(self, life: Life, intent: str) -> None:
        """Execute an intent, as a bot would."""
        try:
            order_id = await life.bot.execute_order(self.params[intent])
            if order_id != intent:
                raise Violation(f"{intent} was placed under the id {order_id}")
            self.tell(intent, "placed")
        except OrderRejected as error:
            self.tell(intent, "rejected", str(error))
        except OrderNotSent as error:
            self.tell(intent, "not_sent", f"{type(error).__name__} {error}")
        except OrderUnresolved:
            self.tell(intent, "unresolved")
        except JournalError as error:
            self.tell(intent, "failed", type(error).__name__)

    async def cancel(self, life: Life, intent: str) -> None:
        """Cancel an intent, whatever has become of it."""
        try:
            if await life.bot.cancel_order(intent):
                self.tell(intent, "canceled")
        except (OrderNotFound, OrderNotSent, JournalError):
            return

    async def reconcile(self, life: Life) -> None:
        """Reconcile in the middle of it all."""
        try:
            await life.bot.reconcile_orders()
        except (ExchangeUnavailable, OrderNotSent, JournalError):
            return

    async def reopen(self, life: Life) -> None:
        """What an operator does about a journal that failed."""
        try:
            await life.bot.resume()
        except (JournalError, OrderNotSent):
            return

    async def companion(self) -> None:
        """A second process: refused as a writer, welcome as a reader that only reports."""
        second = MemoryJournal(self.clock, store=self.store)
        try:
            await second.open()
        except JournalLocked:
            self.rare["a second writer was refused"] += 1
        else:
            await second.close()
            return
        reader = MemoryJournal(self.clock, store=self.store, read_only=True)
        await reader.open()
        reconciler = Reconciler(reader, SimulatedGateway(self.network, self.clock), self.clock, repairs=None)
        try:
            await reconciler.run("daily")
            self.rare["a companion reconciled"] += 1
        except (ExchangeUnavailable, JournalError, RuntimeError):
            self.rare["a companion could not reconcile"] += 1
        await reader.close()

    def unresolved(self, life: Life) -> list[str]:
        """Orders of which the bot does not know whether the exchange has them."""
        core = life.bot._core
        return [] if core is None else [order.order_id for order in core.registry.unresolved()]

    def state_of(self, life: Life, intent: str) -> OrderState | None:
        """What the bot believes."""
        core = life.bot._core
        order = None if core is None else core.registry.get(intent)
        return None if order is None else order.state
