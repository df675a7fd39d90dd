"""The engine's metrics are the core's: fed by every order, kept over a restart, and served to Prometheus."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from services.mcp.order_execution import ReliableOrderExecutor
from services.mcp.order_execution.gateways.base import Rejected
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.models import CircuitState
from tests.unit.trading_system.engine_world import EngineWorld, limit
from trading_system.execution import NobitexExecutionEngine, Order, OrderSide, OrderType

ORDERS = "order_execution_orders_total"


def mock_engine(directory: Path, **options: Any) -> NobitexExecutionEngine:
    """An engine on a paper exchange of its own."""
    section = {
        "exchange_adapter": "mock",
        "journal_path": str(directory / "journal.db"),
        "positions_path": None,
        "transaction_log_path": None,
    }
    core = {"gateway": {"paper": {"path": str(directory / "paper.db")}}}
    return NobitexExecutionEngine({"execution_engine": section, "core": core}, **options)


def buy(order_id: str) -> Order:
    return Order("btc-usd", OrderSide.BUY, OrderType.MARKET, "0.001", order_id=order_id)


def value(engine: NobitexExecutionEngine, name: str, **labels: str) -> float | None:
    return engine.metrics.registry.get_sample_value(name, labels)


def test_every_order_counts_under_its_outcome(tmp_path: Path) -> None:
    """Accepted, invalid; requests, fills and acknowledgements with them."""
    with mock_engine(tmp_path) as engine:
        assert engine.execute_order(buy("a")).success
        assert engine.execute_order(limit("b", quantity="0.00000000001")).failed
        assert value(engine, ORDERS, outcome="accepted", side="buy") == 1
        assert value(engine, ORDERS, outcome="invalid", side="buy") == 1
        attempts = {"lane": "submit", "outcome": "accepted", "category": "none"}
        assert value(engine, "order_execution_attempts_total", **attempts) == 1
        assert value(engine, "order_execution_ack_duration_seconds_count") == 1
        assert (value(engine, "order_execution_fills_total") or 0) >= 1
        engine.reconcile("hourly")
        assert value(engine, "order_execution_reconciliations_total") == 1


def test_a_refusal_counts_as_one(world: EngineWorld) -> None:
    """Also on a core that was given: its metrics are the engine's."""
    world.exchange.script.append(Rejected("min_notional"))
    engine = world.engine()
    assert engine.execute_order(limit()).failed
    assert value(engine, ORDERS, outcome="rejected", side="buy") == 1


def test_they_count_on_over_a_restart_with_closed_circuits(tmp_path: Path) -> None:
    """Counters never fall, and a new core's circuits are not shown as open because an earlier one's were."""
    engine = mock_engine(tmp_path)
    with engine:
        assert engine.execute_order(buy("a")).success
    engine.metrics.breaker_changed("submit", CircuitState.OPEN)
    with engine:
        assert engine.execute_order(buy("b")).success
        assert value(engine, ORDERS, outcome="accepted", side="buy") == 2
        assert value(engine, "order_execution_breaker_state", lane="submit", state="open") == 0
        assert value(engine, "order_execution_breaker_state", lane="submit", state="closed") == 1


def test_they_can_share_the_registry_of_the_process(tmp_path: Path) -> None:
    """Given metrics are used; otherwise each engine has its own, and two never clash."""
    registry = CollectorRegistry()
    with mock_engine(tmp_path, metrics=Metrics(registry)) as engine:
        assert engine.execute_order(buy("a")).success
    assert registry.get_sample_value(ORDERS, {"outcome": "accepted", "side": "buy"}) == 1
    one, other = mock_engine(tmp_path), mock_engine(tmp_path)
    assert one.metrics.registry is not other.metrics.registry


def test_a_core_that_is_given_keeps_its_metrics() -> None:
    """The engine shows those that are fed."""
    executor = ReliableOrderExecutor({"transaction_log": {"path": None}})
    engine = NobitexExecutionEngine({"execution_engine": {"exchange_adapter": "mock"}}, executor=executor)
    assert engine.metrics is executor.metrics


def test_prometheus_reads_them_while_the_engine_runs(tmp_path: Path) -> None:
    """Over HTTP, and no order's id is in them."""
    with mock_engine(tmp_path) as engine, engine.metrics.serve(0) as server:
        assert engine.execute_order(buy("marked-order-id")).success
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as reply:
            page = reply.read().decode()
    assert 'order_execution_orders_total{outcome="accepted",side="buy"} 1.0' in page
    assert "marked-order-id" not in page
