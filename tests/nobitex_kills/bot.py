"""The bot that is killed: the production executor, gateway and journal, over HTTP to the local Nobitex."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any

from services.mcp.order_execution import OrderExecutionError, OrderNotFound, ReliableOrderExecutor
from services.mcp.order_execution.bootstrap import make_gateway
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.errors import ExchangeUnavailable
from services.mcp.order_execution.gateways.nobitex import NobitexGateway, classify
from services.mcp.order_execution.gateways.nobitex.limits import EndpointLimits
from tests.nobitex_kills.exchange import Served
from tests.nobitex_kills.intents import Intent

PATIENCE_SECONDS = 30.0
LOOKS = 25
"""How often the last life compares itself with a book that may move while it looks."""
BARE_BACK_OFF_SECONDS = 0.3
CALLS_OF_THE_LAST_LIFE = 5
"""How often it executes an order again that is unresolved: on a busy machine good weather has its time-outs too."""
ASK_AGAIN = frozenset({"OrderUnresolved", "OrderNotSent"})


@dataclass(frozen=True, slots=True)
class Times:
    """The exchange's times, all short alike: what takes 30 s there takes a few here. In seconds."""

    window: float
    """How old a signed request may be: the sandbox refuses older ones."""
    late_max: float
    """How long a late request is under way."""
    settle: float
    """What the bot assumes beyond the window; with a session token, beyond anything that may be under way."""

    def traits(self, auth: str) -> dict[str, float]:
        """The configuration that tells the bot the same."""
        # A token signs nothing, so nothing is refused for its age: settle alone covers what is late.
        return {
            "settle_seconds": self.settle,
            **({"request_expiry_seconds": self.window + 0.2} if auth == "key" else {}),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """One life of the bot."""

    exchange: Served
    auth: str
    times: Times
    directory: Path
    intents: list[Intent]
    life: int = 1
    last: bool = False
    """The last life, in good weather: it waits until all is settled, reconciles twice, and reports."""

    def config(self) -> dict[str, Any]:
        """The bot's settings."""
        return {
            "gateway": {
                "name": "nobitex",
                "base_url": self.exchange.url,
                "timeout_seconds": 0.5,
                **self.exchange.credentials(self.auth),
                **self.times.traits(self.auth),
            },
            "journal": {"url": f"sqlite:///{self.directory / 'journal.db'}", "min_free_bytes": 0},
            "transaction_log": {"path": None},
            "retry": {
                "initial_delay": 0.02,
                "max_delay": 0.2,
                "max_retries": 20,
                "budget_tokens": 1000,
                "deadline_seconds": 15,
            },
            "confirmation": {"poll_interval_seconds": 0.2, "close_timeout_seconds": 0.5},
            "circuit_breaker": {"error_threshold": 10_000, "cool_down_seconds": 0.2},
            "alerts": {"min_level": "critical"},
        }


def gateway_of(plan: Plan) -> NobitexGateway:
    """The production gateway, made as in production; limits per minute are lifted, since a life lasts seconds."""
    made = make_gateway(load_settings(plan.config(), environ={}), SystemClock(), random.Random(plan.life))
    assert isinstance(made, NobitexGateway)
    made.limits = EndpointLimits(SystemClock().monotonic, share=10_000)
    made.traits = replace(
        made.traits,
        order_requests_per_second=None,
        cancel_requests_per_second=None,
        read_requests_per_second=None,
    )
    vars(classify)["DEFAULT_BACK_OFF_SECONDS"] = BARE_BACK_OFF_SECONDS  # this process is the bot's own
    return made


async def live(plan: Plan) -> None:
    """One life: execute the whole list, and do with each order what is wanted."""
    gateway = gateway_of(plan)
    bot = ReliableOrderExecutor(plan.config(), gateway=gateway, rng=random.Random(plan.life))
    with (plan.directory / "told.jsonl").open("a", encoding="utf-8") as told:
        async with bot:
            teller = Teller(told, plan.life)
            await asyncio.gather(*(_pursue(bot, intent, teller, plan) for intent in plan.intents))
            if plan.last:
                report = await _report(bot, gateway, plan)
                (plan.directory / "report.json").write_text(json.dumps(report), encoding="utf-8")
            else:
                await asyncio.sleep(60)


class Teller:
    """Writes down what callers were told; it outlives the process, as what a human read would."""

    def __init__(self, told: Any, life: int) -> None:
        self._told = told
        self._life = life

    def tell(self, name: str, verdict: str, **more: Any) -> None:
        """One verdict."""
        line = {"intent": name, "verdict": verdict, "at": time(), "life": self._life, **more}
        self._told.write(json.dumps(line) + "\n")
        self._told.flush()


async def _pursue(bot: ReliableOrderExecutor, intent: Intent, teller: Teller, plan: Plan) -> None:
    """Place one order, and cancel it, wait for it or leave it alone."""
    chance = random.Random(f"{intent.name}{plan.life}")
    await asyncio.sleep(chance.uniform(0.0, 0.3))
    racing, verdict = None, ""
    if intent.then == "race":
        racing = asyncio.ensure_future(_cancel(bot, intent.name, teller, chance.uniform(0.0, 0.1)))
    for _ in range(CALLS_OF_THE_LAST_LIFE if plan.last else 1):
        verdict = await _place(bot, intent, teller)
        if verdict not in ASK_AGAIN:
            break
    if verdict == "placed" and intent.then == "cancel":
        await _cancel(bot, intent.name, teller, chance.uniform(0.0, 0.5))
    if verdict == "placed" and intent.then == "wait":
        await _wait(bot, intent.name, teller)
    if racing is not None:
        await racing


async def _place(bot: ReliableOrderExecutor, intent: Intent, teller: Teller) -> str:
    try:
        await bot.execute_order(intent.params)
    except OrderExecutionError as error:
        teller.tell(intent.name, type(error).__name__, words=str(error))
        return type(error).__name__
    teller.tell(intent.name, "placed")
    return "placed"


async def _cancel(bot: ReliableOrderExecutor, name: str, teller: Teller, after: float) -> None:
    await asyncio.sleep(after)
    try:
        done = await bot.cancel_order(name)
    except OrderNotFound:
        return
    teller.tell(name, "canceled" if done else "not canceled")


async def _wait(bot: ReliableOrderExecutor, name: str, teller: Teller) -> None:
    try:
        order = await bot.wait_for_order(name, timeout=1.0)
    except TimeoutError:
        return
    teller.tell(name, "final", state=order.state.value, filled=str(order.filled))


# ---- the last life ----------------------------------------------------------------------------------------


async def _report(bot: ReliableOrderExecutor, gateway: NobitexGateway, plan: Plan) -> dict[str, Any]:
    """Wait until nothing is unresolved or unsettled, reconcile twice, and say what is known.

    The market goes on meanwhile; what counts is a look during which the exchange's book did not change.
    """
    core = bot._core
    assert core is not None
    for _ in range(int(PATIENCE_SECONDS / 0.1)):
        if not (core.registry.unresolved() or core.registry.unsettled() or core.canceller._tasks):
            break
        await asyncio.sleep(0.1)
    report: dict[str, Any] = {}
    for _ in range(LOOKS):
        before = await asyncio.to_thread(plan.exchange.book)
        report = await _look(bot, gateway, plan)
        after = await asyncio.to_thread(plan.exchange.book)
        report["book"] = after
        quiet = before["orders"] == after["orders"] and not after["under_way"]
        if quiet and not report["unsettled"]:
            break
        await asyncio.sleep(0.2)
    return report


async def _look(bot: ReliableOrderExecutor, gateway: NobitexGateway, plan: Plan) -> dict[str, Any]:
    core = bot._core
    assert core is not None
    await core.tracker.round()
    await asyncio.sleep(0.05)
    first, second = await _reconcile(bot), await _reconcile(bot)
    orders = {}
    for intent in plan.intents:
        try:
            orders[intent.name] = (await bot.get_order_status(intent.name)).to_dict()
        except OrderNotFound:
            continue
    return {
        "orders": orders,
        "first": first["details"],
        "second": second["details"],
        "repaired": second["repaired"],
        "locked": gateway._locked,
        "undecidable": sorted(core.resolver.undecidable),
        "unsettled": sorted(order.order_id for order in core.registry.unsettled()),
    }


async def _reconcile(bot: ReliableOrderExecutor) -> dict[str, Any]:
    for _ in range(5):
        try:
            return (await bot.reconcile_orders()).to_dict()
        except ExchangeUnavailable:
            await asyncio.sleep(0.2)
    return (await bot.reconcile_orders()).to_dict()
