"""The exchange's rate limits, shared through its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.mcp.order_execution.paper_exchange.exchange import PaperExchange
from services.mcp.order_execution.paper_exchange.records import OrderReport, Throttled
from services.mcp.order_execution.paper_exchange.requests import CancelRequest
from tests.unit.paper_exchange.desk import Desk

LIMITS = {
    "order_requests_per_second": 2,
    "cancel_requests_per_second": 1,
    "read_requests_per_second": 4,
    "burst": 3,
}


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    """What is too much is told how long to wait; after that it gets through."""
    desk = Desk(rate_limits=LIMITS)
    answers = [desk.exchange.submit(desk.request("buy", "0.01", "50000")) for _ in range(4)]
    assert all(isinstance(answer, OrderReport) for answer in answers[:3])
    assert answers[3] == Throttled(pytest.approx(0.5))
    assert len(desk.exchange.all_orders()) == 3
    desk.clock.advance(0.5)
    assert isinstance(desk.exchange.submit(desk.request("buy", "0.01", "50000")), OrderReport)
    desk.clock.advance(3600)
    answers = [desk.exchange.submit(desk.request("buy", "0.01", "50000")) for _ in range(4)]
    assert isinstance(answers[3], Throttled)


def test_orders_cancels_and_reads_are_counted_apart() -> None:
    """Orders that are throttled leave cancels and reads alone."""
    desk = Desk(rate_limits=LIMITS)
    for _ in range(5):
        desk.exchange.submit(desk.request("buy", "0.01", "50000"))
    assert isinstance(desk.exchange.submit(CancelRequest("1", "")), OrderReport)
    assert not isinstance(desk.exchange.open_orders(), Throttled)
    for _ in range(5):
        desk.exchange.now()
    assert isinstance(desk.exchange.balances(), Throttled)
    assert isinstance(desk.exchange.submit(CancelRequest("2", "")), OrderReport)


def test_two_processes_share_one_limit(tmp_path: Path) -> None:
    """The bucket lies in the file, not in the process."""
    desk = Desk(path=tmp_path / "paper.db", rate_limits=LIMITS)
    other = PaperExchange(desk.settings, desk.clock)
    other.open()
    for _ in range(3):
        desk.exchange.now()
    assert isinstance(other.now(), Throttled)
    other.close()
    desk.exchange.close()


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    """And takes none away."""
    desk = Desk(rate_limits=LIMITS)
    for _ in range(3):
        desk.exchange.now()
    desk.clock.jump(-3600)
    assert isinstance(desk.exchange.now(), Throttled)
    desk.clock.advance(0.3)
    assert not isinstance(desk.exchange.now(), Throttled)
