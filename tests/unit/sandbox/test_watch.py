"""What is new since one looked last."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from services.mcp.order_execution.paper_exchange.requests import CancelRequest
from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings, WireFaults
from services.mcp.order_execution.sandbox.house import House
from services.mcp.order_execution.sandbox.shapes import Shapes
from services.mcp.order_execution.sandbox.watch import Watch
from tests.unit.sandbox.desk import HandClock


class Yard:
    """A watch over an exchange without a server."""

    def __init__(self, house: House, clock: HandClock) -> None:
        self.house = house
        self.clock = clock
        self.watch = Watch(house, Shapes(house))

    def order(self, client_id: str, symbol: str = "BTC/USDT") -> str:
        request = OrderRequest(
            client_id, symbol, Side.BUY, OrderType.LIMIT, amount=Decimal("0.01"), price=Decimal(60000)
        )
        report = self.house.exchange.submit(request)
        return str(report.order.id)  # type: ignore[union-attr]

    def news(self) -> list[tuple[object, object]]:
        return [(event["clientOrderId"], event["status"]) for event in self.watch.news()[0]]


@pytest.fixture(name="yard")
def _yard() -> Iterator[Yard]:
    clock = HandClock()
    sandbox = Sandbox(SandboxSettings(path=Path(":memory:")), clock=clock, rng=random.Random(0))
    sandbox._exchange.open()
    try:
        yield Yard(sandbox.house(), clock)
    finally:
        sandbox._exchange.close()


def test_each_change_is_news_once(yard: Yard) -> None:
    """From when the watch woke."""
    yard.order("past")
    yard.watch.wake()
    number = yard.order("now")
    yard.watch.wake()
    assert yard.news() == [("now", "Active")]
    assert yard.news() == []
    yard.house.exchange.submit(CancelRequest(number, ""))
    assert yard.news() == [("now", "Canceled")]
    assert yard.news() == []


def test_a_watch_that_slept_looks_back_to_when_it_looked_last(yard: Yard) -> None:
    """What closed in between is news even an hour later, and only once."""
    number = yard.order("mine")
    yard.watch.wake()
    yard.clock.advance(10)
    yard.house.exchange.submit(CancelRequest(number, ""))
    yard.clock.advance(3600)
    assert yard.news() == [("mine", "Canceled")]
    yard.clock.advance(3600)
    assert yard.news() == []


def test_an_order_that_turns_active_is_news(yard: Yard) -> None:
    """It was New before."""
    yard.house.weather.faults = WireFaults(new_seconds=1)
    yard.watch.wake()
    yard.order("mine")
    assert yard.news() == [("mine", "New")]
    yard.clock.advance(1)
    assert yard.news() == [("mine", "Active")]


def test_markets_of_other_users_of_the_file_are_no_news(yard: Yard) -> None:
    """The sandbox cannot name them."""
    yard.watch.wake()
    yard.order("other", "BTC/USD")
    assert yard.news() == []


def test_a_watch_that_rested_begins_anew(yard: Yard) -> None:
    """What happened while nobody listened is no news."""
    yard.watch.wake()
    yard.watch.rest()
    yard.order("unheard")
    yard.watch.wake()
    assert yard.news() == []
