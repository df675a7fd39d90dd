"""Metrics count what happens, under stable names, from zero, and clash with nobody."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from services.mcp.order_execution import metrics as module
from services.mcp.order_execution.errors import ConfigurationError, ErrorCategory
from services.mcp.order_execution.metric_families import SERIES_MAX
from services.mcp.order_execution.metrics import OUTCOMES, PREFIX, Metrics
from services.mcp.order_execution.models import CircuitState, Discrepancy, ReconciliationReport, Step
from services.mcp.order_execution.monitoring import MetricsLike

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DONE = datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def report_of(*kinds: str, **changes: Any) -> ReconciliationReport:
    return ReconciliationReport(
        **{
            "period": "daily",
            "since": DONE,
            "until": DONE,
            "started_at": DONE,
            "finished_at": DONE,
            "total_orders": 10,
            "matched_orders": 9,
            "mismatched_orders": 1,
            "missing_orders": 0,
            "extra_orders": 0,
            "details": tuple(Discrepancy(kind, "a1", None, None) for kind in kinds),
            **changes,
        }
    )


def everything_that_happens(metrics: Metrics) -> None:
    """One of each update, and some twice."""
    for outcome, side in (("accepted", "buy"), ("accepted", "buy"), ("invalid", "none")):
        metrics.order_finished(outcome, side)
    for seconds in (0.005, 0.04, 0.3, 31):
        metrics.acknowledged(seconds)
    metrics.set_open(3)
    metrics.set_in_doubt(1)
    metrics.fill_booked()
    metrics.confirmed("receipt", True)
    metrics.confirmed(Step.BALANCE, False)
    metrics.attempted("submit", "accepted", "none")
    metrics.attempted("query", "failed", ErrorCategory.TIMEOUT)
    metrics.retried(ErrorCategory.CONNECTION)
    metrics.breaker_changed("submit", CircuitState.OPEN)
    metrics.breaker_changed("another", CircuitState.HALF_OPEN)
    metrics.set_error_rate("submit", 2.5)
    metrics.set_error_rate("another", 1)
    metrics.reconciled(report_of("mismatched", "fills", "unheard_of", repaired=2))
    metrics.set_journal_lag(0.25)
    metrics.observe_call("f", "success", 0.00005)
    metrics.observe_call("f", "cancelled", 100)
    metrics.observe_call('g"', "failure", 0.1)


def masked(exposition: bytes) -> str:
    """Without what differs from one moment or machine to the next."""
    lines = exposition.decode().splitlines()
    hidden = [re.sub(r"(_created(\{.*\})?) [\d.e+]+$", r"\1 *", line) for line in lines]
    return re.sub(r'(python|version)="[^"]*"', r'\1="*"', "\n".join(hidden)) + "\n"


def test_a_scrape_shows_what_it_always_showed(metrics: Metrics) -> None:
    """Every name, help, label and number, line by line: dashboards and alerts are built on them."""
    everything_that_happens(metrics)
    assert masked(metrics.exposition()) == (HERE / "metrics_exposition.txt").read_text(encoding="utf-8")


def test_orders_are_counted_by_outcome_and_side(metrics: Metrics) -> None:
    """From zero for each, so that the first rejection is an increase."""
    for outcome in OUTCOMES:
        assert value(metrics, "orders_total", outcome=outcome, side="sell") == 0
    metrics.order_finished("accepted", "buy")
    metrics.order_finished("accepted", "buy")
    metrics.order_finished("invalid", "none")
    assert value(metrics, "orders_total", outcome="accepted", side="buy") == 2
    assert value(metrics, "orders_total", outcome="invalid", side="none") == 1
    assert value(metrics, "orders_total", outcome="accepted", side="sell") == 0


def test_acknowledgements_are_a_histogram_in_seconds(metrics: Metrics) -> None:
    """Buckets from five milliseconds to half a minute."""
    metrics.acknowledged(0.04)
    metrics.acknowledged(2)
    assert value(metrics, "ack_duration_seconds_count") == 2
    assert value(metrics, "ack_duration_seconds_sum") == 2.04
    assert value(metrics, "ack_duration_seconds_bucket", le="0.05") == 1
    assert value(metrics, "ack_duration_seconds_bucket", le="30.0") == 2


def test_attempts_retries_fills_and_steps_are_counted(metrics: Metrics) -> None:
    """Each under its labels; enums are shown by their values."""
    metrics.attempted("submit", "unknown", ErrorCategory.TIMEOUT)
    metrics.attempted("submit", "accepted", "none")
    metrics.retried(ErrorCategory.CONNECTION)
    metrics.fill_booked()
    metrics.confirmed(Step.RECEIPT, True)
    metrics.confirmed(Step.BALANCE, False)
    assert value(metrics, "attempts_total", lane="submit", outcome="unknown", category="timeout") == 1
    assert value(metrics, "attempts_total", lane="submit", outcome="accepted", category="none") == 1
    assert value(metrics, "retries_total", category="connection") == 1
    assert value(metrics, "retries_total", category="timeout") == 0
    assert value(metrics, "fills_total") == 1
    assert value(metrics, "confirmation_steps_total", step="receipt", ok="yes") == 1
    assert value(metrics, "confirmation_steps_total", step="balance", ok="no") == 1


def test_where_things_stand_is_a_gauge(metrics: Metrics) -> None:
    """It can go down again."""
    for count in (3, 1):
        metrics.set_open(count)
        metrics.set_in_doubt(count + 1)
        metrics.set_journal_lag(count / 10)
        metrics.set_error_rate("submit", count * 2.5)
    assert value(metrics, "orders_open") == 1
    assert value(metrics, "orders_in_doubt") == 2
    assert value(metrics, "journal_lag_seconds") == 0.1
    assert value(metrics, "errors_per_minute", lane="submit") == 2.5


def test_a_breaker_is_in_one_state_and_each_trip_counts_once(metrics: Metrics) -> None:
    """A warning repeats the state: that is no second trip; a reopening is one."""

    def state(lane: str) -> list[str]:
        return [s for s in CircuitState if value(metrics, "breaker_state", lane=lane, state=s.value) == 1]

    assert state("submit") == state("query") == ["closed"]
    assert value(metrics, "breaker_trips_total", lane="submit") == 0
    for step in (CircuitState.OPEN, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.OPEN):
        metrics.breaker_changed("submit", step)
        assert state("submit") == [step]
    assert value(metrics, "breaker_trips_total", lane="submit") == 2
    metrics.breaker_changed("submit", CircuitState.FORCED_OPEN)
    assert value(metrics, "breaker_trips_total", lane="submit") == 2
    assert state("query") == ["closed"]


def test_a_reconciliation_is_told_by_kinds_time_and_percentage(metrics: Metrics) -> None:
    """The time stands at 0 until the first one has come to its end."""
    assert value(metrics, "reconciliation_last_success_timestamp_seconds") == 0
    assert value(metrics, "reconciliation_discrepancies_total", kind="balance") == 0
    metrics.reconciled(report_of("mismatched", "fills", "fills", repaired=2))
    assert value(metrics, "reconciliation_last_success_timestamp_seconds") == DONE.timestamp()
    assert value(metrics, "reconciliation_discrepancies_total", kind="mismatched") == 1
    assert value(metrics, "reconciliation_discrepancies_total", kind="fills") == 2
    assert value(metrics, "reconciliation_repaired_total") == 2
    assert value(metrics, "reconciliation_mismatch_percentage") == 10
    metrics.reconciled(report_of(mismatched_orders=0, matched_orders=10))
    assert value(metrics, "reconciliations_total") == 2
    assert value(metrics, "reconciliation_mismatch_percentage") == 0


def test_calls_are_counted_and_measured(metrics: Metrics) -> None:
    """What track_metrics needs."""
    observer: MetricsLike = metrics
    observer.observe_call("f", "success", 0.5)
    observer.observe_call("f", "success", 0.5)
    observer.observe_call("f", "failure", 1.5)
    assert value(metrics, "calls_total", function="f", outcome="success") == 2
    assert value(metrics, "calls_total", function="f", outcome="failure") == 1
    assert value(metrics, "call_duration_seconds_sum", function="f") == 2.5
    assert value(metrics, "call_duration_seconds_count", function="f") == 3


def test_labels_are_bounded(metrics: Metrics) -> None:
    """Whatever somebody passes as a name, the number of series stays finite; nothing goes uncounted."""
    for number in range(SERIES_MAX * 2):
        metrics.observe_call(f"f{number}", "success", 0)
    assert value(metrics, "calls_total", function="other", outcome="other") == SERIES_MAX
    assert value(metrics, "call_duration_seconds_count", function="other") == SERIES_MAX
    assert value(metrics, "calls_total", function=f"f{SERIES_MAX - 1}", outcome="success") == 1


def test_executors_in_one_process_do_not_clash() -> None:
    """Each has a registry of its own unless it is given one; the global one is not touched."""
    before = len(list(REGISTRY.collect()))
    one, other = Metrics(), Metrics()
    one.fill_booked()
    assert (value(one, "fills_total"), value(other, "fills_total")) == (1, 0)
    assert len(list(REGISTRY.collect())) == before


def test_a_registry_of_ones_own_shows_them() -> None:
    """Beside whatever else it holds."""
    registry = CollectorRegistry()
    Counter("mine", "Mine.", registry=registry)
    metrics = Metrics(registry)
    assert metrics.registry is registry
    assert b"mine_total" in metrics.exposition()
    assert b"order_execution_fills_total" in metrics.exposition()


def test_a_registry_that_is_taken_is_a_configuration_error_and_stays_as_it_was() -> None:
    """All or nothing: no half of the metrics is left in it."""
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ConfigurationError, match="registry"):
        Metrics(registry)
    partly = CollectorRegistry()
    Counter("order_execution_calls", "Somebody else's.", registry=partly)
    with pytest.raises(ConfigurationError, match="registry"):
        Metrics(partly)
    assert [family.name for family in partly.collect()] == ["order_execution_calls"]


def test_names_follow_the_conventions(metrics: Metrics) -> None:
    """One prefix, help for each, no label that could hold an order's id or a symbol."""
    metrics.attempted("submit", "unknown", "timeout")
    metrics.observe_call("f", "success", 1)
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    assert len(families) > 20
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    assert labels == {
        "category", "function", "kind", "lane", "le", "ok", "outcome", "python", "side", "state", "step", "version"
    }  # fmt: skip
    for family in families:
        assert family.name.startswith(PREFIX)
        assert family.documentation


@pytest.mark.parametrize("name", ["pytest", "never-installed"])
def test_build_info_says_what_is_running(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a source tree that was never installed."""
    monkeypatch.setattr(module, "DISTRIBUTION", name)
    (sample,) = (
        sample
        for family in Metrics().registry.collect()
        for sample in family.samples
        if "build_info" in sample.name
    )
    assert sample.labels["python"] == sys.version.split()[0]
    assert (sample.labels["version"] == "unknown") == (name == "never-installed")


def test_they_are_served_over_http(metrics: Metrics) -> None:
    """On a free port of this machine alone, until closed; the port is free again then."""
    metrics.fill_booked()
    with metrics.serve(0) as server:
        with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
            assert b"order_execution_fills_total 1.0" in answer.read()
        with pytest.raises(OSError, match="in use"):
            Metrics().serve(server.port)
    server.close()
    with Metrics().serve(server.port) as again:
        assert again.port == server.port


def test_importing_the_module_does_not_import_prometheus() -> None:
    """The package's import stays cheap, and the global registry untouched."""
    script = "import sys, services.mcp.order_execution.metrics; print('prometheus_client' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "False"
