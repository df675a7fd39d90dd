"""The exchange of the kill tests: a process of its own, spoken to over HTTP, with a network that misbehaves.

One server holds many accounts, each with a book of its own (``tests/simulation/exchange.py``). What goes wrong with
a request is drawn from the account's seed. The book is in memory: this process is never killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aiohttp import web

from services.mcp.order_execution.gateways.base import ExchangeOrder, OrderRef
from services.mcp.order_execution.models import OrderRequest, OrderType, Side, TimeInForce, to_plain
from tests.kills.kinds import TRAITS
from tests.kills.orphans import die_with_parent
from tests.simulation.dice import Dice
from tests.simulation.exchange import Entry, Refused, SimulatedExchange

FAULTS = (
    *("reset before", "reset after", "cut", "hang before", "hang after"),
    *("502 before", "502 after", "429", "late"),
)
FATES = ("rest", "rest", "fill", "part", "die")
LAG = 0.03


class Account:
    """One account: its book, and what goes wrong on the way to it."""

    def __init__(self, kind: str, seed: int, rate: float, fate: str | None) -> None:
        self.kind = kind
        self.fate = fate
        """What becomes of every order; None: drawn for each."""
        self.rate = rate
        self.faults: Sequence[str] = FAULTS
        self.methods: Sequence[str] = ()
        """Requests that go wrong; empty: any."""
        self.dice = Dice(seed)
        self.exchange = SimulatedExchange(
            TRAITS[kind], time.monotonic, lambda: datetime.now(UTC), index_lag=LAG, carry_fills=True
        )

    def do(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry one request out."""
        handler: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, f"_{method}")
        return handler(body)

    def _submit(self, body: dict[str, Any]) -> dict[str, Any]:
        expiry = self.exchange.traits.request_expiry
        if expiry is not None and time.time() - float(body["sent_at"]) > expiry:
            return {"refused": "expired"}
        request = OrderRequest(
            body["client_order_id"],
            body["symbol"],
            Side(body["side"]),
            OrderType(body["type"]),
            Decimal(body["amount"]),
            Decimal(body["price"]) if body["price"] else None,
            time_in_force=TimeInForce(body["time_in_force"]),
        )
        fate = self.fate or self.dice.pick(f"fate:{request.client_order_id}", FATES)
        try:
            return {"order": _order(self.exchange.place(request, float(body["sent_at"]), fate))}
        except Refused as refusal:
            return {"refused": refusal.reason, "duplicate": refusal.duplicate}

    def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"order": _order(self.exchange.cancel(_ref(body)))}
        except Refused as refusal:
            return {"refused": refusal.reason}

    def _query(self, body: dict[str, Any]) -> dict[str, Any]:
        order = self.exchange.query(_ref(body))
        return {"order": None if order is None else _order(order)}

    def _open_orders(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"orders": [_order(order) for order in self.exchange.open_orders(body["symbol"])]}

    def _closed_orders(self, body: dict[str, Any]) -> dict[str, Any]:
        since, until = datetime.fromisoformat(body["since"]), datetime.fromisoformat(body["until"])
        return {"orders": [_order(order) for order in self.exchange.closed_orders(since, until, body["symbol"])]}

    def _balances(self, body: dict[str, Any]) -> dict[str, Any]:
        currencies = self.exchange.balances().currencies
        return {"balances": {name: [str(item.free), str(item.blocked)] for name, item in currencies.items()}}

    def _ping(self, body: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _trade(self, body: dict[str, Any]) -> dict[str, Any]:
        """Others trade: a part of whatever rests."""
        for entry in list(self.exchange.resting()):
            self.exchange.fill(entry, entry.request.amount / 2)
        return {}

    def _weather(self, body: dict[str, Any]) -> dict[str, Any]:
        """What goes wrong from now on: how often, and, where it is said, with which requests and in which way."""
        self.rate = float(body["rate"])
        self.faults = body.get("faults") or FAULTS
        self.methods = body.get("methods") or ()
        return {}

    def _book(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"entries": [_entry(entry) for entry in self.exchange.entries]}


def _order(order: ExchangeOrder) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(order)
    return plain


def _entry(entry: Entry) -> dict[str, Any]:
    return {"intent": entry.intent, "left_at": entry.left_at, "order": _order(entry.order)}


def _ref(body: dict[str, Any]) -> OrderRef:
    return OrderRef(body["client_order_id"], body["symbol"], body["exchange_order_id"])


class Server:
    """All accounts behind one port."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.late: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, and what goes wrong with it."""
        body = json.loads(await request.read())
        name, method = request.match_info["account"], request.match_info["method"]
        if method == "make":
            self.accounts[name] = Account(body["kind"], body["seed"], body["rate"], body.get("fate"))
            return web.json_response({})
        account = self.accounts[name]
        if method in ("book", "trade", "weather"):
            return web.json_response(account.do(method, body))
        fault = self._fault(account, method)
        if fault is None:
            return web.json_response(account.do(method, body))
        return await self._spoiled(request, fault, lambda: account.do(method, body))

    def _fault(self, account: Account, method: str) -> str | None:
        key = account.dice.next_key(method)
        spared = bool(account.methods) and method not in account.methods
        if spared or not account.dice.chance(key, account.rate):
            return None
        return account.dice.pick(f"{key}:kind", account.faults)

    async def _spoiled(
        self, request: web.Request, fault: str, carry_out: Callable[[], dict[str, Any]]
    ) -> web.StreamResponse:
        if fault == "429":
            return web.Response(status=429, headers={"Retry-After": "0.1"})
        if fault == "late":
            self.late.add(task := asyncio.create_task(self._later(carry_out)))
            task.add_done_callback(self.late.discard)
            return self._reset(request)
        answer = carry_out() if fault.endswith("after") or fault == "cut" else None
        if fault.startswith("reset"):
            return self._reset(request)
        if fault.startswith("hang"):
            await asyncio.sleep(2.0)
            return self._reset(request)
        if fault == "cut":
            text = json.dumps(answer)
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")

    async def _later(self, carry_out: Callable[[], dict[str, Any]]) -> None:
        await asyncio.sleep(0.15)
        carry_out()

    def _reset(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)


async def serve() -> None:
    """Listen on a free port, print it, and go on until standard input is closed."""
    die_with_parent(int(sys.argv[1]))
    server = Server()
    app = web.Application()
    app.router.add_post("/{account}/{method}", server.handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
    os._exit(0)
