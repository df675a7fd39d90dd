"""The bot that is killed: the production executor on real files, in a process of its own.

Its steps are named and numbered: each journal append and each request, before and after, and each answer before its
caller gets it. ``die_at`` names the step at which it kills itself with SIGKILL, as no ``finally`` could notice.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.mcp.order_execution import OrderExecutionError, OrderNotFound, ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ExchangeUnavailable, JournalError
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.models import OrderEvent
from services.mcp.order_execution.reconciliation import Reconciler
from tests.kills.gateway import HttpGateway
from tests.kills.kinds import TRAITS

CONFIG: dict[str, Any] = {
    "transaction_log": {"path": None},
    "gateway": {"timeout_seconds": 0.4},
    "retry": {"initial_delay": 0.02, "max_delay": 0.1, "budget_tokens": 1000},
    "confirmation": {"poll_interval_seconds": 0.1, "close_timeout_seconds": 0.5},
    "circuit_breaker": {"error_threshold": 10_000, "cool_down_seconds": 0.2},
}
PATIENCE_SECONDS = 20.0


def config(kind: str) -> dict[str, Any]:
    """The bot's settings. Where nothing can be resolved, a caller need not wait long to be told so."""
    seconds = 4 if TRAITS[kind].can_resolve else 1
    return {**CONFIG, "retry": {**CONFIG["retry"], "deadline_seconds": seconds}}


@dataclass(frozen=True, slots=True)
class Plan:
    """One life of the bot."""

    url: str
    kind: str
    directory: Path
    intents: list[dict[str, Any]]
    cancel: str | None = None
    in_turn: bool = False
    """Cancel once the callers of all orders were answered, rather than meanwhile."""
    die_at: int | None = None
    die_when: str | None = None
    """The name of a point, rather than its number: the bot dies when it first gets there."""
    last: bool = False
    """The last life, in good weather: it waits until all is settled, reconciles twice, and reports."""


class Steps:
    """Counts the steps, and dies at one of them."""

    def __init__(self, die_at: int | None, log: Path, die_when: str | None = None) -> None:
        self.number = 0
        self.die_at = die_at
        self.die_when = die_when
        self._log = log.open("a", encoding="utf-8", buffering=1)

    def at(self, point: str) -> None:
        """One step."""
        self.number += 1
        if self.number == self.die_at or point == self.die_when:
            self._log.write(f"{self.number} {point}: killed\n")
            os.kill(os.getpid(), signal.SIGKILL)
        self._log.write(f"{self.number} {point}\n")


class SteppedJournal(SQLiteJournal):
    """The production journal; its appends are steps."""

    def __init__(self, path: Path, at: Callable[[str], None], *, read_only: bool = False) -> None:
        super().__init__(path, SystemClock(), read_only=read_only, lock_wait_seconds=2.0, min_free_bytes=0)
        self._step = at

    async def commit(self, event: OrderEvent) -> None:
        """Append and wait."""
        self._step(f"before committing {event.kind}")
        await super().commit(event)
        self._step(f"after committing {event.kind}")

    def enqueue(self, event: OrderEvent) -> None:
        """Append behind."""
        self._step(f"before appending {event.kind}")
        super().enqueue(event)
        self._step(f"after appending {event.kind}")


async def live(plan: Plan) -> None:
    """One life, from the start to its end or its death."""
    steps = Steps(plan.die_at, plan.directory / "steps.txt", plan.die_when)
    told = (plan.directory / "told.jsonl").open("a", encoding="utf-8")
    bot = ReliableOrderExecutor(
        config(plan.kind),
        gateway=HttpGateway(plan.url, TRAITS[plan.kind], steps.at),
        journal=SteppedJournal(plan.directory / "journal.db", steps.at),
        rng=random.Random(1),
    )
    _note(told, "", "a life begins")
    try:
        await bot.open()
        calls = [asyncio.create_task(_place(bot, intent, told, steps)) for intent in plan.intents]
        if plan.in_turn:
            await asyncio.gather(*calls)
        if plan.cancel is not None:
            calls.append(asyncio.create_task(_cancel(bot, plan.cancel, told, steps)))
        await asyncio.gather(*calls)
        if plan.last:
            await _report(bot, plan)
        else:
            await asyncio.sleep(0.3)
    finally:
        await bot.close()
    steps.at("the end")


def _tell(told: Any, intent: str, verdict: str, steps: Steps) -> None:
    steps.at(f"before telling {verdict}")
    _note(told, intent, verdict)
    steps.at(f"after telling {verdict}")


def _note(told: Any, intent: str, verdict: str) -> None:
    """What a caller knows outlives the process, as what a human read would."""
    told.write(json.dumps({"intent": intent, "verdict": verdict, "at": time.time()}) + "\n")
    told.flush()


async def _place(bot: ReliableOrderExecutor, intent: dict[str, Any], told: Any, steps: Steps) -> None:
    name = intent["client_order_id"]
    try:
        await bot.execute_order(intent)
    except OrderExecutionError as error:
        _tell(told, name, type(error).__name__, steps)
    else:
        _tell(told, name, "placed", steps)


async def _cancel(bot: ReliableOrderExecutor, name: str, told: Any, steps: Steps) -> None:
    await asyncio.sleep(0.05)
    try:
        done = await bot.cancel_order(name)
    except OrderNotFound:
        return
    _tell(told, name, "canceled" if done else "not canceled", steps)


async def _report(bot: ReliableOrderExecutor, plan: Plan) -> None:
    """Wait until nothing is unresolved or unsettled, reconcile twice, and write down what is known."""
    core = bot._core
    assert core is not None
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        undecidable = core.resolver.undecidable
        waiting = {order.order_id for order in (*core.registry.unresolved(), *core.registry.unsettled())}
        if waiting <= undecidable and core.canceller._tasks.keys() <= undecidable:
            break
        await asyncio.sleep(0.05)
    await core.tracker.round()
    await asyncio.sleep(0.1)
    first = await bot.reconcile_orders()
    second = await bot.reconcile_orders()
    orders = {}
    for intent in plan.intents:
        name = intent["client_order_id"]
        try:
            orders[name] = (await bot.get_order_status(name)).to_dict()
        except OrderNotFound:
            continue
    report = {
        "orders": orders,
        "first": [item.to_dict() for item in first.details],
        "second": [item.to_dict() for item in second.details],
        "repaired": second.repaired,
        "undecidable": sorted(core.resolver.undecidable),
    }
    (plan.directory / "report.json").write_text(json.dumps(report), encoding="utf-8")


async def watch(plan: Plan, seconds: float) -> None:
    """The reconciliation beside the bot: it only reads, and only the exchange's silence may stop it."""
    journal = SteppedJournal(plan.directory / "journal.db", lambda point: None, read_only=True)
    gateway = HttpGateway(plan.url, TRAITS[plan.kind])
    end = asyncio.get_running_loop().time() + seconds
    await gateway.open()
    try:
        while asyncio.get_running_loop().time() < end:
            try:
                await journal.open()
                await Reconciler(journal, gateway, SystemClock(), repairs=None).run("daily")
            except (ExchangeUnavailable, JournalError):
                await asyncio.sleep(0.02)
            finally:
                await journal.close()
    finally:
        await gateway.close()
