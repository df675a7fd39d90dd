"""Half an hour of the whole executor with fifty resting orders, in virtual time: how often it asks the exchange."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import timedelta
from typing import Any

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.gateways.nobitex.limits import DOCUMENTED
from services.mcp.order_execution.gateways.nobitex.signing import TokenSigner
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply, Transport
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from services.mcp.order_execution.models import OrderState
from tests.virtual_time import VirtualClock, run_virtual

ORDERS = 50
SECONDS = 1_800.0
OPTIONS: dict[str, Any] = {
    "status": "ok",
    "nobitex": {
        "amountPrecisions": {"BTCUSDT": "0.000001"},
        "pricePrecisions": {"BTCUSDT": "0.01"},
        "minOrders": {"usdt": "11"},
    },
    "coins": [{"coin": "btc", "name": "Bitcoin"}],
}
BOOK = {"status": "ok", "lastTradePrice": "60000", "asks": [["60001", "1"]], "bids": [["59999", "1"]]}
WALLETS = {
    "status": "ok",
    "wallets": {"USDT": {"id": 1, "balance": "1000000", "blocked": "0"}, "BTC": {"balance": 9, "blocked": 0}},
}


class CountingTransport(Transport):
    """Nobitex without a network: orders rest until they are cancelled or filled, and every request is noted."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__("http://nowhere", TokenSigner("t"), clock, timeout_seconds=5.0)
        self.times: dict[str, list[float]] = defaultdict(list)
        self.rows: dict[int, dict[str, Any]] = {}
        self._time = clock

    async def open(self) -> None:
        """There is nothing to open."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        private: bool = True,
    ) -> Reply | Lost:
        self.times["/v3/orderbook" if path.startswith("/v3/orderbook") else path].append(self._time.monotonic())
        await asyncio.sleep(0.05)
        return Reply(*self._answer(path, query or {}, body or {}))

    def _answer(self, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/market/orders/add":
            return 200, {"status": "ok", "order": self._add(body)}
        if path == "/market/orders/list":
            return 200, {"status": "ok", "orders": self._list(query)}
        if path == "/market/trades/list":
            return 200, {"status": "ok", "trades": self._trades(), "hasNext": False}
        if path in ("/market/orders/status", "/market/orders/update-status"):
            return self._one(path, body)
        still = {"/v2/options": OPTIONS, "/v2/wallets": WALLETS, "/v3/orderbook/BTCUSDT": BOOK}
        return 200, still.get(path, {"status": "ok"})

    def _add(self, body: dict[str, Any]) -> dict[str, Any]:
        row = {
            "id": len(self.rows) + 1,
            "type": body["type"],
            "execution": "Limit",
            "market": "BTC-USDT",
            "price": body["price"],
            "amount": body["amount"],
            "matchedAmount": "0E-10",
            "averagePrice": "0",
            "fee": 0,
            "status": "Active",
            "created_at": self._time.now().isoformat(),
            "clientOrderId": body["clientOrderId"],
        }
        self.rows[len(self.rows) + 1] = row
        return row

    def _list(self, query: dict[str, str]) -> list[dict[str, Any]]:
        rows = [row for row in self.rows.values() if query["status"] == "all" or row["status"] == "Active"]
        rows = [row for row in rows if row["id"] > int(query.get("fromId", "0"))]
        if query["order"] == "-id":
            rows.reverse()
        start = (int(query.get("page", "1")) - 1) * int(query["pageSize"])
        return rows[start : start + int(query["pageSize"])]

    def _trades(self) -> list[dict[str, Any]]:
        return [
            {
                "id": row["id"],
                "orderId": row["id"],
                "market": "BTC-USDT",
                "type": row["type"],
                "fee": "0",
                "price": row["price"],
                "amount": row["amount"],
                "timestamp": row["created_at"],
            }
            for row in reversed(self.rows.values())
            if row["status"] == "Done"
        ]

    def _one(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        wanted = body.get("id", body.get("order"))
        for row in self.rows.values():
            if row["id"] == wanted or (wanted is None and row["clientOrderId"] == body["clientOrderId"]):
                if path.endswith("update-status"):
                    if row["status"] != "Active":
                        return 200, {"status": "failed", "code": "NotActive"}
                    row["status"] = "Canceled"
                return 200, {"status": "ok", "updatedStatus": "Canceled", "order": row}
        return 404, {"status": "failed", "code": "NotFound"}

    def fill(self, number: int) -> None:
        """Let one order trade whole."""
        row = self.rows[number]
        row |= {"status": "Done", "matchedAmount": row["amount"], "averagePrice": row["price"]}

    def most_in_a_window(self, endpoint: str) -> int:
        """The most requests that any window of the documented length saw."""
        times, seconds = self.times[endpoint], DOCUMENTED[endpoint][1]
        return max((sum(1 for at in times[i:] if at < start + seconds) for i, start in enumerate(times)), default=0)


def test_half_an_hour_with_fifty_orders_stays_below_our_share() -> None:
    """At most 80 % of every documented limit in any window, and yet each end of an order is learnt in time."""

    async def main() -> None:
        clock = VirtualClock()
        transport = CountingTransport(clock)
        gateway = NobitexGateway(TokenSigner("t"), clock, timeout_seconds=5.0, streams=False)
        gateway._transport = transport
        bot = ReliableOrderExecutor(
            {"transaction_log": {"path": None}, "gateway": {"timeout_seconds": 5}},
            gateway=gateway,
            journal=MemoryJournal(clock, store=MemoryStore(), commit_seconds=0.001),
            clock=clock,
            rng=random.Random(1),
        )
        async with bot:
            order = {"symbol": "BTC/USDT", "side": "buy", "type": "limit", "amount": "0.001"}
            ids = []
            for number in range(ORDERS):
                ids.append(await bot.execute_order({**order, "price": str(40_000 + number)}))
                await asyncio.sleep(1.0)
            end = clock.now() + timedelta(seconds=SECONDS)
            await asyncio.sleep(SECONDS / 2)
            transport.fill(7)
            filled = str(transport.rows[7]["clientOrderId"])
            await asyncio.sleep(60.0)
            assert (await bot.get_order_status(filled)).state is OrderState.FILLED
            await asyncio.sleep(max(0.0, (end - clock.now()).total_seconds()))
            resting = [order_id for order_id in ids if order_id != filled]
            assert all(await asyncio.gather(*(bot.cancel_order(order_id) for order_id in resting)))
        assert len(transport.rows) == ORDERS
        for endpoint, (count, _) in DOCUMENTED.items():
            assert transport.most_in_a_window(endpoint) <= 0.8 * count, endpoint
        for endpoint in ("/market/orders/add", "/market/orders/list", "/market/orders/update-status"):
            assert transport.times[endpoint], f"{endpoint} was never asked: this test would show nothing"

    run_virtual(main)
