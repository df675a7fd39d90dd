"""The gateway on the sandbox: what the contract suite does not ask."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import Accepted, Found, NotSent, OrderRef, Unavailable
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.gateways.nobitex.signing import make_signer
from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings, WireFaults

Story = Callable[[Sandbox, NobitexGateway], Awaitable[None]]


def on_sandbox(story: Story, secret: str | None = None, **settings: Any) -> None:
    """Run a story on a sandbox of its own."""

    async def main() -> None:
        given = {"limits": None, "duplicate_seconds": 0.0, **settings}
        async with Sandbox(
            SandboxSettings(path=Path(":memory:"), port=0, **given), rng=random.Random(1)
        ) as sandbox:
            signer = make_signer(sandbox.keys.api_key, secret or sandbox.keys.api_secret)
            gateway = NobitexGateway(signer, SystemClock(), timeout_seconds=2.0, base_url=sandbox.base_url)
            await gateway.open()
            try:
                await story(sandbox, gateway)
            finally:
                await gateway.close()

    asyncio.run(main())


def order(order_id: str, symbol: str = "BTC/USDT", price: str = "60000") -> OrderRequest:
    """A buy far below the market."""
    return OrderRequest(order_id, symbol, Side.BUY, OrderType.LIMIT, Decimal("0.001"), Decimal(price))


def test_a_hundred_and_more_open_orders_are_all_listed() -> None:
    """Over several pages, each once."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        placed = set()
        for number in range(130):
            outcome = await gateway.submit(order(f"o{number}", price=str(60_000 + number)))
            assert isinstance(outcome, Accepted)
            placed.add(outcome.exchange_order_id)
        listing = await gateway.open_orders()
        assert not isinstance(listing, Unavailable)
        assert {item.exchange_order_id for item in listing.orders} == placed
        assert len(listing.orders) == 130

    on_sandbox(story, balances={"usdt": "1000000", "btc": "1", "rls": "0"})


def test_prices_in_rial_stay_rial() -> None:
    """The symbol says IRT, the request rls, and the numbers are the same."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        market, ticker = await gateway.market("USDT/IRT"), await gateway.ticker("USDT/IRT")
        assert not isinstance(market, Unavailable)
        assert not isinstance(ticker, Unavailable)
        price = (ticker.bid * Decimal("0.9") / market.price_tick).to_integral_value() * market.price_tick
        request = OrderRequest("r1", "USDT/IRT", Side.BUY, OrderType.LIMIT, Decimal(50), price)
        outcome = await gateway.submit(request)
        assert isinstance(outcome, Accepted), outcome
        found = await gateway.query(OrderRef("r1", "USDT/IRT"))
        assert isinstance(found, Found)
        assert (found.order.symbol, found.order.price) == ("USDT/IRT", price)

    on_sandbox(story)


def test_the_first_401_stops_every_private_request() -> None:
    """The exchange bans addresses that go on; public reads still work."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        first = await gateway.submit(order("o1"))
        assert isinstance(first, NotSent)
        assert first.category is ErrorCategory.AUTHENTICATION
        before = sum(sandbox.requests.values())
        for _ in range(5):
            assert isinstance(await gateway.submit(order("o2")), NotSent)
            assert isinstance(await gateway.balances(), Unavailable)
        assert sum(sandbox.requests.values()) == before
        assert await gateway.ping() is None

    on_sandbox(story, secret="S5y19KewZzheCWCO4xqMcwwvtR8vQ-hHjE_cdjz-XxE=")


def test_a_clock_that_is_off_is_learnt_and_allowed_for() -> None:
    """By the Date header; what is signed carries the exchange's time."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        sandbox.set_faults(WireFaults(clock_offset_seconds=120))
        assert await gateway.ping() is None
        assert gateway.clock_error is not None
        assert gateway.clock_error == pytest.approx(-120, abs=2)
        assert isinstance(await gateway.submit(order("o1")), Accepted)

    on_sandbox(story)


def test_a_back_off_holds_for_the_whole_account() -> None:
    """Nothing leaves, at any endpoint, until it is over."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        sandbox.set_faults(WireFaults(rate_limited=1, retry_after_seconds=60))
        assert isinstance(await gateway.balances(), Unavailable)
        sandbox.set_faults(WireFaults())
        before = sum(sandbox.requests.values())
        outcome = await gateway.submit(order("o1"))
        assert isinstance(outcome, NotSent)
        assert outcome.retry_after is not None
        assert 50 < outcome.retry_after <= 61
        assert sum(sandbox.requests.values()) == before

    on_sandbox(story)


def test_the_stream_tells_of_an_order_by_our_id() -> None:
    """Also of one whose reply was lost."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        await gateway.market("BTC/USDT")
        stream = gateway.stream()
        assert stream is not None
        seen = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.3)
        sandbox.say("lost_reply", "/market/orders/add")
        await gateway.submit(order("o7"))
        hint = await asyncio.wait_for(seen, 5)
        assert (hint.client_order_id, hint.symbol, hint.amount) == ("o7", "BTC/USDT", Decimal("0.001"))
        await stream.aclose()  # type: ignore[attr-defined]

    on_sandbox(story)


def test_a_panic_button_cancels_everything() -> None:
    """In one request."""

    async def story(sandbox: Sandbox, gateway: NobitexGateway) -> None:
        for number in range(3):
            await gateway.submit(order(f"o{number}", price=str(60_000 + number)))
        assert isinstance(await gateway.cancel_all("BTC/USDT"), Accepted)
        listing = await gateway.open_orders()
        assert not isinstance(listing, Unavailable)
        assert listing.orders == ()

    on_sandbox(story)
