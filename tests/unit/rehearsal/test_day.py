"""The bad day: its configuration is valid, and the day after has no faults."""

from __future__ import annotations

from pathlib import Path

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.rehearsal.day import BadDay


def day(directory: Path, seconds: float = 10.0) -> BadDay:
    return BadDay(directory, 7, SystemClock(), seconds=seconds)


def test_the_day_and_the_day_after_differ_in_the_faults_alone(tmp_path: Path) -> None:
    """Same exchange, same journal, same logs: what differs between the two is only what goes wrong."""
    bad, after = (load_settings(config, environ={}) for config in (day(tmp_path).config, day(tmp_path).after))
    assert bad.gateway.paper.faults.lost_reply > 0
    assert after.gateway.paper.faults == type(after.gateway.paper.faults)()
    assert bad.journal == after.journal
    assert bad.gateway.paper.path == after.gateway.paper.path == tmp_path / "paper_exchange.db"
    assert bad.gateway.paper.seed == 7


def test_outages_lie_within_the_day(tmp_path: Path) -> None:
    """A shorter day has shorter outages, at the same times of day."""
    assert day(tmp_path).outages() == [(2.8, 4.6), (7.1, 8.5)]
    for seconds in (1.0, 14.0, 100.0):
        for since, until in day(tmp_path, seconds).outages():
            assert 0 < since < until < seconds


def test_the_faults_are_told_in_words(tmp_path: Path) -> None:
    """Each fault and each outage, as a person would say it."""
    told = day(tmp_path).told()
    assert told["lost reply"] == "10% of requests"
    assert told["latency seconds"] == "0.02 to 0.15 s"
    assert told["outage 1"] == "1.8 s after 2.8 s, refused"


def test_everything_lies_in_one_directory(tmp_path: Path) -> None:
    """Report, journal, logs and the exchange's own book."""
    assert all(Path(path).parent == tmp_path for path in day(tmp_path).files().values())
