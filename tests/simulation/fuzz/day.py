"""A random day: orders, wishes to cancel, troubles of disk and exchange, halts, crashes and closes, all at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from services.mcp.order_execution.errors import (
    ExecutorClosed,
    JournalError,
    OrderExecutionError,
    OrderNotFound,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
)
from services.mcp.order_execution.gateways.base import GatewayTraits
from services.mcp.order_execution.models import OrderEvent, OrderRequest
from tests.fakes import FOREVER, OPEN_ONLY
from tests.simulation.fuzz.exchange import MoodyExchange
from tests.virtual_time import START
from tests.worlds import ORDER, World

IDS: Final = tuple(f"o{number}" for number in range(8))
TOLERANCE_SECONDS: Final = 1e-6
CALL_OVERTIME_SECONDS: Final = 3.0
"""How long after its deadline a call may still be told what became of its order."""
CANCEL_OVERTIME_SECONDS: Final = 25.0
"""The same of a call that cancels: the disk may hang for most of it while it is asked for the order."""
CLOSE_SECONDS: Final = 40.0
"""How long a close may take: the disk may hang for half of it."""
REST_SECONDS: Final = 30.0
"""How long a day lasts after its last step."""
CALM_SECONDS: Final = 120.0
"""How much good weather is enough for everything to be known."""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """A call that places an order and has not returned."""

    deadline: float


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller was told of an order, when, and how much of it had traded at the exchange by then."""

    order_id: str
    verdict: str
    at: float
    filled: Decimal


class FuzzWorld(World):
    """A world whose exchange has moods."""

    def __init__(
        self, config: dict[str, Any], traits: GatewayTraits, rng: random.Random, hit: Callable[[str], None]
    ) -> None:
        super().__init__(config, traits)
        self.exchange: MoodyExchange = MoodyExchange(self.clock, traits, rng, hit)
        self.start()


class Day:
    """Everything that happens on it follows from its seed. ``violations``: what must not be."""

    world: FuzzWorld

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        self.rng = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        """What callers were told, by kind."""
        self.states: Counter[str] = Counter()
        self.told: list[Told] = []
        self.violations: list[str] = []
        self.trace: list[str] | None = [] if trace else None
        self.seconds = 0.0
        self._life = 1
        self._tasks: list[asyncio.Task[None]] = []
        self._callers: dict[str, list[Caller]] = {order_id: [] for order_id in IDS}
        self._executed: set[str] = set()
        self._wished: set[str] = set()
        """Orders that this life of the executor, or one that closed cleanly, was heard to be asked to cancel."""
        self.canceled: set[str] = set()
        """Orders of which somebody was told that they are canceled: that holds for ever."""
        self._steps: dict[Callable[[], Awaitable[None]], float] = {
            self._order: 0.45,
            self._cancel: 0.25,
            self._journal_trouble: 0.10,
            self._fill: 0.05,
            self._halt: 0.04,
            self._outage: 0.02,
            self._crash: 0.04,
            self._close: 0.03,
            self._nothing: 0.02,
        }

    # ---- the day ------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Live through it, and wait in good weather until everything ought to be known."""
        self.world = self._make_world()
        self.world.exchange.before_send = self._before_send
        await self._open()
        for _ in range(self.rng.randint(5, 25)):
            await asyncio.sleep(self.rng.choice([0, 0.001, 0.05, 0.4, 2]))
            [step] = self.rng.choices(list(self._steps), list(self._steps.values()))
            await step()
        await asyncio.sleep(REST_SECONDS)
        await self._good_weather()
        self.seconds = self.now() - START

    def _make_world(self) -> FuzzWorld:
        rng = self.rng
        rate = rng.choice([None, None, 0.5])
        traits = replace(rng.choice([FOREVER, OPEN_ONLY]), order_requests_per_second=rate, burst=2)
        config = {
            "retry": {"max_retries": rng.choice([0, 1, 3]), "deadline_seconds": rng.choice([5, 20, 60])},
            "gateway": {"timeout_seconds": 2},
            "confirmation": {"close_timeout_seconds": rng.choice([0.1, 3]), "poll_interval_seconds": 1},
        }
        return FuzzWorld(config, traits, rng, self.hit)

    async def _good_weather(self) -> None:
        """End every trouble, let every call return, and wait."""
        world = self.world
        world.journal.resume()
        world.store.full, world.store.fault, world.journal.commit_seconds = False, None, 0.001
        world.exchange.down = None
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.violate(f"a call raised {type(error).__name__}: {error}")
        world.exchange.moody = False
        try:
            await world.bot.resume()
        except OrderExecutionError as error:
            self.violate(f"resuming in good weather: {error!r}")
        await asyncio.sleep(CALM_SECONDS)

    # ---- notes --------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The time on the loop's clock, as the exchange and the executor read it."""
        return asyncio.get_running_loop().time()

    def hit(self, what: str) -> None:
        """Count a fault."""
        self.injected[what] += 1
        self._write(f"fault: {what}")

    def violate(self, what: str) -> None:
        """Note what must not be."""
        self.violations.append(what)
        self._write(f"VIOLATION: {what}")

    def _write(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now() - START:10.4f}  {text}")

    def filled(self, order_id: str) -> Decimal:
        """How much of an order has traded, by the exchange's own book."""
        return sum((order.filled for order in self.world.exchange.named(order_id)), Decimal(0))

    def _answer(self, order_id: str, verdict: str, life: int) -> None:
        """Note what a caller was told; the dead are told nothing."""
        if life != self._life:
            return
        self.answers[verdict] += 1
        self.told.append(Told(order_id, verdict, self.now(), self.filled(order_id)))
        if verdict == "canceled":
            self.canceled.add(order_id)
        self._write(f"{order_id}: a caller is told: {verdict}")

    def _heard(self, event: OrderEvent) -> None:
        order = event.order
        if order.cancel_requested:
            self._wished.add(order.order_id)
        detail = f" ({order.reason})" if order.reason else ""
        self._write(f"{order.order_id}: {event.kind}, {order.state}{detail}")

    def _before_send(self, request: OrderRequest) -> None:
        """Look whether this order may leave now."""
        order_id, now = request.client_order_id, self.now()
        self._write(f"{order_id}: leaves")
        callers = self._callers[order_id]
        if not callers:
            self.violate(f"{order_id} was sent while nobody waited for it")
        elif all(now > caller.deadline + TOLERANCE_SECONDS for caller in callers):
            late = now - max(caller.deadline for caller in callers)
            self.violate(f"{order_id} was sent {late:.2f} s after every deadline")
        if order_id in self._wished:
            self.violate(f"{order_id} was sent after the wish to cancel it")
        if order_id in self.canceled:
            self.violate(f"{order_id} was sent after somebody was told that it is canceled")

    # ---- callers ------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        return task

    def _maybe_cancel(self, task: asyncio.Task[None], chance: float, after: list[float]) -> None:
        """Let a caller give up at some moment, now and then."""
        if self.rng.random() >= chance:
            return

        def give_up() -> None:
            if not task.done():
                self.hit(f"caller gives up: {task.get_name()}")
                task.cancel()

        asyncio.get_running_loop().call_later(self.rng.choice(after), give_up)

    async def _order(self) -> None:
        """Place an order, or one of before again; often somebody thinks better of it at once."""
        order_id = self.rng.choice(IDS)
        task = self._start(self._place(order_id, self.rng.choice([2, 10, 40])), "order")
        self._maybe_cancel(task, 0.3, [0, 0.001, 0.01, 0.3, 1.5, 4, 8])
        if self.rng.random() < 0.4:
            after = self.rng.choice([0, 0.0005, 0.01, 0.3, 1, 3])
            self._start(self._cancel_one(order_id, after), "cancel")

    async def _place(self, order_id: str, seconds: float) -> None:
        life, began = self._life, self.now()
        caller = Caller(began + seconds)
        self._callers[order_id].append(caller)
        self._executed.add(order_id)
        self._write(f"{order_id}: execute, deadline {seconds} s")
        try:
            await self.world.bot.execute_order(
                {**ORDER, "client_order_id": order_id, "deadline_seconds": seconds, "type": "limit"}
            )
            self._answer(order_id, "placed", life)
        except OrderRejected:
            self._answer(order_id, "rejected", life)
        except OrderNotSent:
            self._answer(order_id, "not_sent", life)
        except OrderUnresolved:
            self._answer(order_id, "unresolved", life)
        except ExecutorClosed:
            self._answer(order_id, "closed", life)
        except JournalError:
            self._answer(order_id, "journal_error", life)
        finally:
            if caller in self._callers[order_id]:  # else it died
                self._callers[order_id].remove(caller)
        self._took("a call", began, seconds + CALL_OVERTIME_SECONDS)

    async def _cancel(self) -> None:
        asked = [order_id for order_id in IDS if order_id in self._executed]
        order_id = self.rng.choice(asked if asked and self.rng.random() < 0.9 else IDS)
        task = self._start(self._cancel_one(order_id), "cancel")
        self._maybe_cancel(task, 0.3, [0, 0.0005, 0.01, 0.3, 1.5])

    async def _cancel_one(self, order_id: str, after: float = 0.0) -> None:
        await asyncio.sleep(after)
        life, began = self._life, self.now()
        limit = self.world.bot.settings.retry.deadline_seconds + CANCEL_OVERTIME_SECONDS
        self._write(f"{order_id}: cancel")
        try:
            done = await self.world.bot.cancel_order(order_id)
            self._answer(order_id, "canceled" if done else "not_canceled", life)
        except OrderNotFound:
            self._answer(order_id, "not_found", life)
        except ExecutorClosed:
            self._answer(order_id, "closed", life)
        except JournalError:
            self._answer(order_id, "journal_error", life)
        self._took(f"the cancel of {order_id}", began, limit)

    def _took(self, what: str, began: float, limit: float) -> None:
        if self.now() - began > limit:
            self.violate(f"{what} took {self.now() - began:.1f} s, of {limit:g} at most")

    # ---- what else happens --------------------------------------------------------------------------------

    async def _nothing(self) -> None:
        return

    async def _fill(self) -> None:
        """Trade a half of a resting order, or the rest of it."""
        open_orders = [order for order in self.world.exchange.orders.values() if not order.state.is_final]
        if open_orders:
            order = self.rng.choice(open_orders)
            rest = order.amount - order.filled
            amount = self.rng.choice([rest / 2, rest]) if order.filled == 0 else rest
            self._write(f"{order.client_order_id}: trades {amount}")
            self.world.exchange.fill(order.exchange_order_id, str(amount))

    async def _journal_trouble(self) -> None:
        trouble = self.rng.choice([self._disk_hangs, self._disk_fails, self._disk_is_full, self._disk_is_slow])
        self._start(trouble(), "trouble")
        for _ in range(self.rng.choice([0, 1, 2])):
            await asyncio.sleep(self.rng.choice([0, 0.01, 0.4]))
            await self._order()

    async def _disk_hangs(self) -> None:
        self.hit("disk: hangs")
        journal = self.world.journal
        journal.pause()
        await asyncio.sleep(self.rng.choice([0.5, 4, 20]))
        journal.resume()

    async def _disk_fails(self) -> None:
        written = self.rng.random() < 0.5
        self.hit("disk: fails, though written" if written else "disk: fails")
        self.world.journal.fail_next(written=written)
        await asyncio.sleep(self.rng.choice([0.5, 5]))
        await self._resume()

    async def _disk_is_full(self) -> None:
        self.hit("disk: full")
        self.world.store.full = True
        await asyncio.sleep(2)
        self.world.store.full = False

    async def _disk_is_slow(self) -> None:
        self.hit("disk: slow")
        journal = self.world.journal
        journal.commit_seconds = 0.5
        await asyncio.sleep(5)
        journal.commit_seconds = 0.001

    async def _outage(self) -> None:
        self.hit("exchange: down")
        self.world.exchange.down = "503"

        def up() -> None:
            self.world.exchange.down = None

        asyncio.get_running_loop().call_later(self.rng.choice([0.5, 3, 8]), up)

    async def _halt(self) -> None:
        self.hit("halt")
        with suppress(OrderExecutionError, TimeoutError):
            await asyncio.wait_for(self.world.bot.halt("fuzz"), 1)

        async def lift() -> None:
            await asyncio.sleep(1)
            await self._resume()

        self._start(lift(), "resume")

    async def _resume(self) -> None:
        with suppress(OrderExecutionError):
            await self.world.bot.resume()

    # ---- lives --------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        await self.world.bot.open()
        self.world.core.registry.listen(self._heard)

    async def _crash(self) -> None:
        self.hit("crash")
        self._life += 1
        for callers in self._callers.values():
            callers.clear()
        await self.world.crash()
        self._tasks.clear()
        self._wished.clear()  # a wish of which nobody was told need not have reached the disk
        await self._open()

    async def _close(self) -> None:
        """Close and start anew; now and then whoever closes loses patience, and closes once more."""
        self.hit("close")
        began, bot, journal = self.now(), self.world.bot, self.world.journal
        if self.rng.random() < 0.5:
            impatient = asyncio.get_running_loop().create_task(bot.close(), name="close")
            self._maybe_cancel(impatient, 1.0, [0, 0.01, 0.3, 2])
            with suppress(JournalError, asyncio.CancelledError):
                await impatient
        with suppress(JournalError):
            await bot.close()
        self._took("a close", began, CLOSE_SECONDS)
        if self.world.store.writer is journal:
            self.violate("a close returned, and the journal is still held")
            await self.world.crash()
        else:
            self.world.start()
        if journal._failure is not None:
            self._wished.clear()  # what was heard after the failure is in memory alone, and that is gone
        await self._open()
