"""The bot that is killed while it trades through the ccxt gateway: the production executor on real files."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.ccxt import CcxtGateway
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from tests.ccxt_venues.process import Remote
from tests.kills import bot as any_bot

CONFIG: dict[str, Any] = {
    "transaction_log": {"path": None},
    "gateway": {"timeout_seconds": 0.5},
    "retry": {"initial_delay": 0.02, "max_delay": 0.2, "budget_tokens": 1000, "deadline_seconds": 6},
    "confirmation": {"poll_interval_seconds": 0.2, "close_timeout_seconds": 0.5},
    "circuit_breaker": {"error_threshold": 10_000, "cool_down_seconds": 0.2},
}
SETTLE_SECONDS = 0.1
EXPIRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the bot."""

    exchange: str
    remote: Remote
    directory: Path
    intents: list[dict[str, Any]]
    cancel: str | None = None
    last: bool = False
    """The last life, in good weather: it waits until all is settled, reconciles twice, and reports."""


def gateway(life: Life) -> CcxtGateway:
    """The gateway under test, with the account's keys, times as short as a test's, and no limits of its rate."""
    remote = life.remote
    made = CcxtGateway(
        life.exchange,
        SystemClock(),
        api_key=remote.api_key,
        api_secret=remote.secret,
        password=remote.passphrase,
        timeout_seconds=CONFIG["gateway"]["timeout_seconds"],
        base_url=remote.url,
        settle_seconds=SETTLE_SECONDS,
        request_expiry_seconds=EXPIRY_SECONDS,
    )
    made.traits = replace(
        made.traits,
        order_requests_per_second=None,
        cancel_requests_per_second=None,
        read_requests_per_second=None,
    )
    return made


async def live(life: Life) -> None:
    """One life, from the start to its end or its death."""
    plan = any_bot.Plan(life.remote.url, life.exchange, life.directory, life.intents, life.cancel, last=life.last)
    steps = any_bot.Steps(None, life.directory / "steps.txt")
    told = (life.directory / "told.jsonl").open("a", encoding="utf-8")
    journal = SQLiteJournal(life.directory / "journal.db", SystemClock(), lock_wait_seconds=2.0, min_free_bytes=0)
    bot = ReliableOrderExecutor(CONFIG, gateway=gateway(life), journal=journal, rng=random.Random(1))
    any_bot._note(told, "", "a life begins")
    try:
        await bot.open()
        calls = [asyncio.create_task(any_bot._place(bot, intent, told, steps)) for intent in life.intents]
        if life.cancel is not None:
            calls.append(asyncio.create_task(any_bot._cancel(bot, life.cancel, told, steps)))
        await asyncio.gather(*calls)
        if life.last:
            await any_bot._report(bot, plan)
        else:
            await asyncio.sleep(0.3)
    finally:
        await bot.close()
        told.close()
