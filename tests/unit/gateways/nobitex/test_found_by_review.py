"""Defects that a review found in what is made of Nobitex's answers, each as the smallest story that showed it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.mcp.order_execution import OrderNotSent, OrderState, OrderUnresolved, ReliableOrderExecutor
from services.mcp.order_execution.circuit_breaker import CircuitBreaker
from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Accepted, Balances, OrderRef, Unavailable
from services.mcp.order_execution.gateways.nobitex import NobitexGateway, gateway
from services.mcp.order_execution.gateways.nobitex.signing import TokenSigner
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply, Transport
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.policies import breaker_policy, make_limiter
from services.mcp.order_execution.wire import Lane, Wire
from tests.virtual_time import VirtualClock, run_virtual

Row = dict[str, Any]
OPTIONS: Row = {
    "status": "ok",
    "nobitex": {
        "amountPrecisions": {"BTCUSDT": "0.0001"},
        "pricePrecisions": {"BTCUSDT": "0.01"},
        "minOrders": {"usdt": "5"},
    },
    "coins": [{"coin": "btc", "name": "Bitcoin"}],
}
ORDER = {"symbol": "BTC/USDT", "side": "buy", "type": "limit", "amount": "0.1", "price": "50000"}
A = {**ORDER, "client_order_id": "a"}
CONFIG = {"transaction_log": {"path": None}, "retry": {"deadline_seconds": 300}}
REFUSED = Lost(ErrorCategory.CONNECTION, "refused", sent=False)
LOST_REPLY = Lost(ErrorCategory.TIMEOUT, "no answer", sent=True)
CLIENT_ID = "clientOrderId"


class Nobitex(Transport):
    """Nobitex without a network, as documented; ``row_of`` says what becomes of each order that is booked."""

    def __init__(self, clock: VirtualClock, ours: VirtualClock, row_of: Callable[[Row], Row]) -> None:
        super().__init__("http://nowhere", TokenSigner("t"), ours, timeout_seconds=15.0)
        self.clock = clock
        self.row_of = row_of
        self.booked: list[Row] = []
        self.fate: Lost | None = None
        """What becomes of the answers to new orders; of orders that never arrive nothing is booked."""
        self.books = True
        self.asked: list[str] = []

    async def open(self) -> None:
        """There is nothing to open."""

    def book(self, client_order_id: str, price: str = "50000", amount: str = "0.1") -> Row:
        """A new order of the account."""
        row: Row = {
            "id": len(self.booked) + 1,
            "type": "buy",
            "execution": "Limit",
            "tradeType": "Spot",
            "market": "BTC-USDT",
            "price": price,
            "amount": amount,
            "matchedAmount": "0",
            "averagePrice": "0",
            "fee": "0",
            "status": "New",
            "created_at": self.clock.now().isoformat(),
            CLIENT_ID: client_order_id,
        }
        self.booked.append(self.row_of(row))
        return self.booked[-1]

    async def call(self, method: str, path: str, **request: Any) -> Reply | Lost:
        """Answer; only what is answered tells the exchange's time."""
        self.asked.append(path)
        answer = self._answer(path, request.get("query") or {}, request.get("body") or {})
        if isinstance(answer, Reply):
            self.theirs.learn(self.clock.now())
        return answer

    def _answer(self, path: str, query: Row, body: Row) -> Reply | Lost:
        ok: Row = {"status": "ok"}
        if path == "/v2/options":
            return Reply(200, OPTIONS)
        if path == "/market/orders/add":
            row = self.book(body[CLIENT_ID], body["price"], body["amount"]) if self.books else None
            return self.fate or Reply(200, {**ok, "order": row})
        if path == "/market/orders/status":  # "searches only open/active/inactive orders"
            found = [row for row in self._resting() if row.get(CLIENT_ID) == body.get(CLIENT_ID)]
            missing = Reply(404, {"status": "failed", "code": "NotFound"})
            return Reply(200, {**ok, "order": found[0]}) if found else missing
        if path == "/market/orders/list":
            return Reply(200, {**ok, "orders": self._listed(query)})
        if path == "/market/orders/update-status":
            return Reply(200, {**ok, "updatedStatus": "Canceled"})
        if path == "/market/trades/list":
            return Reply(200, {**ok, "trades": [], "hasNext": False})
        if path == "/v2/wallets":
            return Reply(200, {**ok, "wallets": {"USDT": {"balance": "100000", "blocked": "0"}}})
        return Reply(200, {**ok, "asks": [["1", "1"]], "bids": [["1", "1"]], "lastTradePrice": "1"})

    def _resting(self) -> list[Row]:
        return [row for row in self.booked if row["status"] in ("Active", "Inactive")]

    def _listed(self, query: Row) -> list[Row]:
        if query["status"] == "open":  # "active + inactive"
            return [row for row in self._resting() if row["id"] > int(query["fromId"])][:100]
        start = (int(query["page"]) - 1) * 100
        return self.booked[::-1][start : start + 100]


class Story:
    """One account, one disk, our clock and theirs, and the executors that live on them."""

    def __init__(self, row_of: Callable[[Row], Row]) -> None:
        self.clock, self.ours = VirtualClock(), VirtualClock()
        self.exchange = Nobitex(self.clock, self.ours, row_of)
        self.store = MemoryStore()
        self.bot = self.start()

    def start(self) -> ReliableOrderExecutor:
        """A new life."""
        self.gateway = NobitexGateway(
            TokenSigner("t"), self.ours, timeout_seconds=15, streams=False, settle_seconds=10
        )
        self.gateway._transport = self.exchange
        journal = MemoryJournal(self.ours, store=self.store)
        self.bot = ReliableOrderExecutor(
            CONFIG, gateway=self.gateway, journal=journal, clock=self.ours, rng=random.Random(1)
        )
        return self.bot


def story(row_of: Callable[[Row], Row]) -> Callable[[Callable[[Story], Awaitable[None]]], Callable[[], None]]:
    """Run the test in virtual time; its bot is closed at the end."""

    def decorate(test: Callable[[Story], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                told = Story(row_of)
                try:
                    await test(told)
                finally:
                    await told.bot.close()

            run_virtual(main)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


def as_it_is(row: Row) -> Row:
    """It stays New: the matching engine is slow, or in maintenance."""
    return row


def canceled_without_id(row: Row) -> Row:
    """It was canceled, and lists do not tell its client id: the field is not in the documented table."""
    return {key: value for key, value in {**row, "status": "Canceled"}.items() if key != CLIENT_ID}


def done(row: Row) -> Row:
    """It was filled at once."""
    return {**row, "status": "Done", "matchedAmount": row["amount"], "averagePrice": row["price"]}


def canceled(row: Row) -> Row:
    """It was canceled at once."""
    return {**row, "status": "Canceled"}


@story(as_it_is)
async def test_an_order_that_is_still_new_is_there(s: Story) -> None:
    """Neither the lookup nor the list of open orders shows it; the list of all orders does."""
    s.exchange.fate = LOST_REPLY
    assert await s.bot.execute_order(A) == "a"
    assert len(s.exchange.booked) == 1
    assert (await s.bot.get_order_status("a")).exchange_order_id == "1"


@story(canceled_without_id)
async def test_lists_without_client_ids_prove_no_order_absent(s: Story) -> None:
    """It may be any of them: unresolved, and never sent again."""
    s.exchange.fate = LOST_REPLY
    with pytest.raises(OrderUnresolved):
        await s.bot.execute_order(A)
    await asyncio.sleep(3_600)
    assert (await s.bot.get_order_status("a")).state is OrderState.UNKNOWN
    assert len(s.exchange.booked) == 1


@story(done)
async def test_no_order_is_sent_by_a_clock_that_was_set_wrong_meanwhile(s: Story) -> None:
    """Nothing was asked since: their time goes on with our monotonic clock, so the step shows before the send."""
    await s.bot.open()
    await s.gateway.market("BTC/USDT")
    await asyncio.sleep(10)
    assert s.gateway.clock_error == 0.0
    s.ours.jump(1_200)
    s.exchange.fate = LOST_REPLY
    for _ in range(2):
        with pytest.raises(OrderNotSent, match="1200 s ahead of") as caught:
            await s.bot.execute_order(A)
        assert caught.value.reason == "clock"
    assert s.exchange.booked == []
    s.ours.jump(-1_200)
    assert await s.bot.execute_order(A) == "a"
    assert len(s.exchange.booked) == 1
    assert (await s.bot.get_order_status("a")).state is OrderState.FILLED


def test_an_old_order_that_starts_afresh_is_looked_for_among_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused in January, lost in February after more orders than are ever walked: the next start resolves it."""
    monkeypatch.setattr(gateway, "MAX_PAGES", 2)

    @story(canceled)
    async def run(s: Story) -> None:
        s.exchange.fate, s.exchange.books = REFUSED, False
        with pytest.raises(OrderNotSent):
            await s.bot.execute_order({**A, "deadline_seconds": 5})
        await s.bot.close()
        for number in range(210):
            for clock in (s.clock, s.ours):
                clock.jump(86_400 * 31 / 210)
            s.exchange.book(f"other{number}")
        bot = s.start()
        s.exchange.fate = LOST_REPLY
        with pytest.raises(OrderUnresolved):
            await bot.execute_order({**A, "deadline_seconds": 5})
        await bot.close()
        bot = s.start()
        await bot.open()
        await asyncio.sleep(600)
        order = await bot.get_order_status("a")
        assert (order.state, order.reason, order.restartable) == (OrderState.REJECTED, "never_arrived", True)
        s.exchange.fate, s.exchange.books = None, True
        assert await bot.execute_order({**ORDER, "client_order_id": "b"}) == "b"

    run()


def test_our_own_limit_of_one_endpoint_holds_up_no_other() -> None:
    """One read of the wallets more than our share of a minute allows; a cancel leaves at once all the same."""

    async def main() -> None:
        s = Story(as_it_is)
        settings, clock = load_settings({}), s.clock
        breakers = {
            lane: CircuitBreaker(lane, breaker_policy(settings, lane), clock.monotonic, rng=random.Random(1))
            for lane in Lane
        }
        limiter = make_limiter(s.gateway, settings, clock)
        wire = Wire(s.gateway, clock, limiter, breakers, Metrics(), timeout=15)
        for _ in range(12):
            assert isinstance(await wire.read(s.gateway.balances, clock.monotonic() + 10), Balances)
        answer = await wire.read(s.gateway.balances, clock.monotonic() + 10)
        assert isinstance(answer, Unavailable)
        assert (answer.category, answer.local) == (ErrorCategory.RATE_LIMITED, True)
        assert answer.retry_after is not None
        assert s.exchange.asked.count("/v2/wallets") == 12
        began = clock.monotonic()
        assert await wire.cancel(OrderRef("a", "BTC/USDT", "1"), began + 120) == Accepted("1")
        assert clock.monotonic() - began < 1

    run_virtual(main)


def test_what_is_signed_follows_their_clock_whatever_happens_to_ours() -> None:
    """Ours is set while nothing is asked: a timestamp ahead would keep a late copy good for longer."""

    async def main() -> None:
        s = Story(as_it_is)
        signed: list[int] = []

        class Signer(TokenSigner):
            def headers(self, method: str, path: str, body: bytes, timestamp: int) -> dict[str, str]:
                signed.append(timestamp)
                return {}

        transport = Transport("http://nowhere", Signer("t"), s.ours, timeout_seconds=15)
        transport.theirs.learn(s.clock.now())
        for step in (25.0, -50.0, 3_600.0):
            s.ours.jump(step)
            await asyncio.sleep(100)
            transport.headers("POST", "/market/orders/add", b"")
            assert abs(signed[-1] - s.clock.now().timestamp()) <= 1

    run_virtual(main)


@story(as_it_is)
async def test_after_a_sleep_of_the_machine_orders_are_placed_again(s: Story) -> None:
    """Our monotonic clock stood still meanwhile, so theirs seems ten minutes behind: it is asked once more."""
    await s.bot.open()
    await s.gateway.market("BTC/USDT")
    await asyncio.sleep(10)
    for clock in (s.clock, s.ours):
        clock.jump(600)
    assert s.gateway.clock_error == pytest.approx(600.0)
    assert await s.bot.execute_order(A) == "a"
    assert s.gateway.clock_error == 0.0
    assert len(s.exchange.booked) == 1
