"""The one chooser of implementations: what the settings name is what is made, and what is given is kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution import bootstrap
from services.mcp.order_execution.alerts import Alerts
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.config import Settings, load_settings
from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.gateways.paper import PaperGateway
from services.mcp.order_execution.journals.memory import MemoryJournal
from services.mcp.order_execution.journals.sqlite import SQLiteJournal
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.transaction_log import TransactionLog


def settings(config: dict[str, Any] | None = None) -> Settings:
    return load_settings(config, environ={}, env_file=None)


def test_the_defaults_need_nothing_from_elsewhere() -> None:
    """The paper exchange, a SQLite journal, a transaction log; making them touches neither disk nor network."""
    ports = bootstrap.make_ports(settings())
    assert isinstance(ports.gateway, PaperGateway)
    assert isinstance(ports.journal, SQLiteJournal)
    assert isinstance(ports.transaction_log, TransactionLog)


def test_making_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files appear when the executor is opened, not before."""
    monkeypatch.chdir(tmp_path)
    bootstrap.make_ports(settings())
    assert list(tmp_path.iterdir()) == []


def test_what_is_given_is_kept() -> None:
    """A test, or a user, may bring parts of their own."""
    clock, rng = SystemClock(), random.Random(1)
    journal, metrics, alerts = MemoryJournal(clock), Metrics(), Alerts([], clock)
    ports = bootstrap.make_ports(settings(), clock=clock, rng=rng, journal=journal, metrics=metrics, alerts=alerts)
    kept = (ports.clock, ports.rng, ports.journal, ports.metrics, ports.alerts)
    assert all(have is given for have, given in zip(kept, (clock, rng, journal, metrics, alerts), strict=True))


def test_a_transaction_log_can_be_done_without() -> None:
    """A path of None means none."""
    config = {"transaction_log": {"path": None}}
    assert bootstrap.make_transaction_log(settings(config), SystemClock()) is None


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"gateway": {"name": "ccxt", "exchange": "nowhere"}}, "gateway.exchange"),
        ({"journal": {"url": "postgresql://somewhere/orders"}}, "journal.url"),
    ],
)
def test_what_is_not_there_is_named(config: dict[str, Any], field: str) -> None:
    """With the setting that asked for it."""
    with pytest.raises(ConfigurationError) as refused:
        bootstrap.make_ports(settings(config))
    assert refused.value.field == field


def test_a_wrong_alert_url_is_told_without_showing_it() -> None:
    """The URL is a secret."""
    with pytest.raises(ConfigurationError) as refused:
        bootstrap.make_alerts(settings({"alerts": {"urls": ["nonsense://hunter2"]}}), SystemClock())
    assert refused.value.field == "alerts.urls"
    assert "hunter2" not in str(refused.value)
