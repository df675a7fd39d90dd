"""Answers that are well-formed and yet not to be believed, each to the gateway's own methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution.errors import ConfigurationError, ErrorCategory, ExchangeUnavailable
from services.mcp.order_execution.gateways.base import (
    Accepted,
    NotSent,
    OrderList,
    OrderRef,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.gateways.nobitex.signing import KeySigner, Signer, TokenSigner
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Reply, Transport
from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from tests.virtual_time import VirtualClock

PUBLIC, PRIVATE = "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA=", "S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE="
SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = OrderRequest("o1", "BTC/USDT", Side.BUY, OrderType.LIMIT, Decimal("0.1"), Decimal(50_000))
OPTIONS: dict[str, Any] = {"status": "ok", "nobitex": {"amountPrecisions": {}, "pricePrecisions": {}}}
OK: dict[str, Any] = {"status": "ok"}


class Script(Transport):
    """Says what it was given, in turn, the last for ever, and keeps what it was asked."""

    def __init__(
        self, clock: VirtualClock, signer: Signer, answers: list[Reply | Lost], errors: list[float]
    ) -> None:
        super().__init__("http://nowhere", signer, clock, timeout_seconds=1.0)
        self.answers, self.errors = answers, errors
        self.asked: list[str] = []

    async def open(self) -> None:
        """There is nothing to open."""

    async def call(self, method: str, path: str, **_: Any) -> Reply | Lost:
        self.asked.append(path)
        if path == "/v2/options":
            return Reply(200, OPTIONS)
        if self.errors:
            self.theirs.learn(self.theirs._clock.now() - timedelta(seconds=self.errors.pop(0)))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def on_script(
    story: Callable[[NobitexGateway, Script], Awaitable[None]],
    *answers: Reply | Lost | dict[str, Any],
    key: bool = False,
    errors: list[float] | None = None,
) -> None:
    """Run a story on a gateway that gets these answers."""
    said = [Reply(200, answer) if isinstance(answer, dict) else answer for answer in answers]

    async def main() -> None:
        clock = VirtualClock()
        signer = KeySigner(PUBLIC, PRIVATE) if key else TokenSigner("t")
        gateway = NobitexGateway(signer, clock, timeout_seconds=1.0)
        script = Script(clock, signer, said, errors or [])
        gateway._transport = script
        await story(gateway, script)

    asyncio.run(main())


def row(number: int, **changes: Any) -> dict[str, Any]:
    """An order of the account, as listed."""
    return {
        "id": number,
        "type": "buy",
        "execution": "Limit",
        "market": "BTC-USDT",
        "price": "5",
        "amount": "1",
        "matchedAmount": 0,
        "status": "Active",
        "created_at": "2026-01-01T12:00:00+00:00",
        **changes,
    }


def rows(numbers: range, **changes: Any) -> dict[str, Any]:
    """A page of them."""
    return {"status": "ok", "orders": [row(number, **changes) for number in numbers]}


@pytest.mark.parametrize("order", [{"id": 0}, {"id": "x"}, {}, None, [], {"id": 7, "clientOrderId": "other"}])
def test_an_acknowledgement_of_nothing_or_of_another_order_is_unknown(order: Any) -> None:
    """It says neither that the order rests nor that it does not."""

    async def story(gateway: NobitexGateway, _: Script) -> None:
        assert isinstance(await gateway.submit(REQUEST), Unknown)

    on_script(story, {"status": "ok", "order": order})


def test_a_cancel_that_is_ok_and_left_the_order_active_is_unknown() -> None:
    """What it says of the order counts."""

    async def story(gateway: NobitexGateway, _: Script) -> None:
        ref = OrderRef("o1", "BTC/USDT", "7")
        assert isinstance(await gateway.cancel(ref), Unknown)
        assert await gateway.cancel(ref) == Accepted("7")

    on_script(story, {"status": "ok", "updatedStatus": "Active"}, {"status": "ok", "updatedStatus": "Canceled"})


def test_pages_that_are_not_sorted_as_asked_are_no_listing() -> None:
    """A walk along them could pass an order by."""

    async def story(gateway: NobitexGateway, _: Script) -> None:
        assert isinstance(await gateway.open_orders(), Unavailable)

    on_script(story, rows(range(200, 100, -1)), rows(range(0)))

    async def closed(gateway: NobitexGateway, _: Script) -> None:
        assert isinstance(await gateway.closed_orders(SINCE, UNTIL), Unavailable)

    on_script(closed, rows(range(1, 101), status="Canceled"), rows(range(0)))


def test_pages_that_are_shorter_than_asked_for_are_no_listing() -> None:
    """Where more is said to follow, a short page is not the last."""

    async def story(gateway: NobitexGateway, _: Script) -> None:
        assert isinstance(await gateway.open_orders(), Unavailable)
        assert isinstance(await gateway.closed_orders(SINCE, UNTIL), Unavailable)

    on_script(story, {**rows(range(1, 51)), "hasNext": True})


def test_a_walk_without_end_is_no_listing() -> None:
    """Each call has a bound, and beyond it nothing is claimed."""

    async def story(gateway: NobitexGateway, script: Script) -> None:
        assert isinstance(await gateway.closed_orders(SINCE, UNTIL), Unavailable)
        assert script.asked.count("/market/orders/list") <= 20

    on_script(story, rows(range(200, 100, -1), status="Canceled"))


def test_trades_are_read_on_where_nothing_is_said_of_a_next_page() -> None:
    """A full page has another one behind it."""

    def trades(numbers: range) -> dict[str, Any]:
        told = [
            {
                "id": number,
                "orderId": 1,
                "market": "BTC-USDT",
                "type": "buy",
                "price": 1,
                "amount": 1,
                "timestamp": "2026-01-01T12:00:00+00:00",
            }
            for number in numbers
        ]
        return {"status": "ok", "trades": told}

    async def story(gateway: NobitexGateway, _: Script) -> None:
        listed = await gateway.trades(SINCE)
        assert isinstance(listed, TradeList)
        assert len(listed.trades) == 130

    on_script(story, trades(range(200, 100, -1)), trades(range(30, 0, -1)))


def test_a_list_is_complete_or_unavailable() -> None:
    """One row that is not understood spoils it."""

    async def story(gateway: NobitexGateway, _: Script) -> None:
        assert isinstance(await gateway.open_orders(), OrderList)
        assert isinstance(await gateway.open_orders(), Unavailable)

    on_script(story, rows(range(1, 4)), {"status": "ok", "orders": [row(1), row(2, status="Frozen")]})


def test_the_first_401_of_a_session_token_stops_everything() -> None:
    """No clock excuses it: a token signs nothing."""

    async def story(gateway: NobitexGateway, script: Script) -> None:
        for _ in range(4):
            outcome = await gateway.submit(REQUEST)
            assert isinstance(outcome, NotSent)
            assert outcome.category is ErrorCategory.AUTHENTICATION
        assert script.asked == ["/market/orders/add"]

    on_script(story, Reply(401, {"detail": "…"}), errors=[120.0, -120.0, 120.0, -120.0])


def test_a_clock_that_jumps_about_excuses_one_401_and_no_more() -> None:
    """Else each answer with another date would buy another try, up to the ban."""

    async def story(gateway: NobitexGateway, script: Script) -> None:
        for _ in range(6):
            assert isinstance(await gateway.balances(), Unavailable)
        assert script.asked == ["/v2/wallets"] * 2

    on_script(story, Reply(401, {"detail": "…"}), key=True, errors=[120.0, -120.0, 120.0, -120.0, 120.0])


def test_an_order_is_not_signed_by_a_clock_that_nobody_compared() -> None:
    """A timestamp ahead of the exchange's would keep a late copy good for longer than the traits say."""

    async def story(gateway: NobitexGateway, script: Script) -> None:
        await gateway.submit(REQUEST)
        await gateway.submit(REQUEST)
        assert script.asked == ["/v3/orderbook/USDTIRT", "/market/orders/add", "/market/orders/add"]

    on_script(story, OK, {"status": "ok", "order": {"id": 1}}, key=True, errors=[0.0])


def test_a_keys_permissions_are_its_own() -> None:
    """Not those of another key in the list."""
    keys = [{"key": "other", "permissions": "WITHDRAW"}, {"key": PUBLIC, "permissions": "READ, TRADE"}]

    async def story(gateway: NobitexGateway, _: Script) -> None:
        assert await gateway.key_permissions() == ("READ", "TRADE")

    on_script(story, OK, {"status": "ok", "keys": keys}, key=True)


def test_a_list_of_keys_that_is_kept_from_the_key_stops_nothing() -> None:
    """A key may not list keys: that is no word on the key."""

    async def story(gateway: NobitexGateway, _: Script) -> None:
        assert await gateway.key_permissions() == ()
        assert await gateway.submit(REQUEST) == Accepted("1")

    on_script(story, OK, Reply(401, {"detail": "…"}), {"status": "ok", "order": {"id": 1}}, key=True, errors=[0.0])


def test_a_key_that_is_not_accepted_is_told_from_an_exchange_that_is_down() -> None:
    """The one is a matter of configuration, the other says nothing about the key."""

    async def refused(gateway: NobitexGateway, _: Script) -> None:
        with pytest.raises(ConfigurationError):
            await gateway.key_permissions()

    async def down(gateway: NobitexGateway, _: Script) -> None:
        with pytest.raises(ExchangeUnavailable):
            await gateway.key_permissions()

    on_script(refused, Reply(401, {"detail": "…"}))
    on_script(down, Lost(ErrorCategory.CONNECTION, "refused", sent=False))
