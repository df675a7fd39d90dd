"""Prometheus metrics of one executor: every name, label and bucket stands here.

Names begin with ``order_execution_``, durations are in seconds, counters end in ``_total`` and start at 0 for
every label that is known beforehand. No label ever holds an order's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from platform import python_version
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from .errors import ConfigurationError, ErrorCategory
from .metric_families import Counters, Gauges, Histograms, Labels
from .models import CircuitState, ReconciliationReport, Side, Step

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

PREFIX: Final = "order_execution_"
DISTRIBUTION: Final = "reliable-order-execution"

OUTCOMES: Final = ("accepted", "rejected", "not_sent", "unresolved", "invalid", "failed")
SIDES: Final = tuple(side.value for side in Side)
LANES: Final = ("submit", "cancel", "query")
DISCREPANCIES: Final = ("mismatched", "missing", "extra", "fills", "balance")

ACK_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CALL_BUCKETS: Final = (0.0001, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)


class MetricsServer:
    """A running endpoint for Prometheus to scrape; also usable as a context manager."""

    def __init__(self, server: WSGIServer, thread: Thread) -> None:
        self._server = server
        self._thread = thread
        self.port: int = server.server_port

    def close(self) -> None:
        """Stop serving and free the port; takes up to half a second. Harmless when repeated."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Metrics:
    """What the executor counts and measures.

    ``registry`` is where the metrics are shown; without one they have a registry of their own, so that
    several executors in one process never clash. Pass ``prometheus_client.REGISTRY`` to show them with the
    process's other metrics: then one executor per process. Raises ConfigurationError when the registry
    already holds these metrics.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # Imported here: it takes time, and registers collectors of its own with its global registry.
        from prometheus_client import CollectorRegistry  # noqa: PLC0415

        self.registry = CollectorRegistry() if registry is None else registry
        make = _Maker()
        self._make_order_metrics(make)
        self._make_exchange_metrics(make)
        self._make_upkeep_metrics(make)
        make.register(self.registry)
        self._states: dict[str, CircuitState] = {}
        for lane in LANES:
            self.breaker_changed(lane, CircuitState.CLOSED)

    def _make_order_metrics(self, make: _Maker) -> None:
        self._orders = make.counters(
            "orders",
            "Calls of execute_order, by how they ended.",
            ("outcome", "side"),
            product(OUTCOMES, SIDES),
        )
        self._ack = make.histograms(
            "ack_duration_seconds", "From sending an order to the exchange's acknowledgement.", (), ACK_BUCKETS
        )
        self._open = make.gauges("orders_open", "Orders that are not final.")
        self._in_doubt = make.gauges("orders_in_doubt", "Orders that may or may not be on the exchange.")
        self._fills = make.counters("fills", "Trades booked.")
        self._steps = make.counters(
            "confirmation_steps",
            "Confirmation steps recorded; ok is yes or no.",
            ("step", "ok"),
            product((step.value for step in Step), ("yes", "no")),
        )

    def _make_exchange_metrics(self, make: _Maker) -> None:
        self._attempts = make.counters(
            "attempts",
            "Requests to the exchange.",
            ("lane", "outcome", "category"),
            (("submit", "accepted", "none"), ("cancel", "accepted", "none"), ("query", "found", "none")),
        )
        self._retries = make.counters(
            "retries",
            "Orders sent once more under their own id, by what failed.",
            ("category",),
            ((category.value,) for category in ErrorCategory),
        )
        self._breaker = make.gauges(
            "breaker_state", "1 for the state that the lane's breaker is in.", ("lane", "state")
        )
        lanes = [(lane,) for lane in LANES]
        self._trips = make.counters("breaker_trips", "How often the lane's breaker opened.", ("lane",), lanes)
        self._error_rate = make.gauges(
            "errors_per_minute", "Errors per minute, over the breaker's window.", ("lane",), lanes
        )

    def _make_upkeep_metrics(self, make: _Maker) -> None:
        self._reconciliations = make.counters("reconciliations", "Reconciliations that came to their end.")
        self._discrepancies = make.counters(
            "reconciliation_discrepancies",
            "Discrepancies found.",
            ("kind",),
            ((kind,) for kind in DISCREPANCIES),
        )
        self._repaired = make.counters("reconciliation_repaired", "Discrepancies repaired.")
        self._last_success = make.gauges(
            "reconciliation_last_success_timestamp_seconds", "End of the last reconciliation; 0: none yet."
        )
        self._mismatch = make.gauges(
            "reconciliation_mismatch_percentage", "Discrepant orders of all, in the last reconciliation."
        )
        self._lag = make.gauges("journal_lag_seconds", "How long the oldest entry waits to become durable.")
        self._calls = make.counters("calls", "Calls of functions under track_metrics.", ("function", "outcome"))
        self._durations = make.histograms("call_duration_seconds", "Their duration.", ("function",), CALL_BUCKETS)
        make.info("build", "What is running.", {"version": _version(), "python": python_version()})

    # ---- orders -------------------------------------------------------------------------------------------

    def order_finished(self, outcome: str, side: str) -> None:
        """Count one call of execute_order. ``side`` is "none" where the parameters name no valid one."""
        self._orders.add((outcome, side))

    def acknowledged(self, seconds: float) -> None:
        """Note how long the exchange took to acknowledge an order."""
        self._ack.observe(seconds)

    def set_open(self, count: int) -> None:
        """Note how many orders are not final."""
        self._open.set(count)

    def set_in_doubt(self, count: int) -> None:
        """Note how many orders may or may not be on the exchange."""
        self._in_doubt.set(count)

    def fill_booked(self) -> None:
        """Count a trade."""
        self._fills.add()

    def confirmed(self, step: str, ok: bool) -> None:
        """Count a confirmation step, and whether what was seen agreed."""
        self._steps.add((step, "yes" if ok else "no"))

    # ---- the exchange -------------------------------------------------------------------------------------

    def attempted(self, lane: str, outcome: str, category: str) -> None:
        """Count one request; ``category`` is an ErrorCategory, or "none"."""
        self._attempts.add((lane, outcome, category))

    def retried(self, category: str) -> None:
        """Count an order that is sent once more because of an error of this category."""
        self._retries.add((category,))

    def breaker_changed(self, lane: str, state: CircuitState) -> None:
        """Note the state of a lane's breaker; telling the same state again counts no second trip."""
        previous = self._states.get(lane)
        if previous is state:
            return
        self._states[lane] = state
        for other in CircuitState:
            self._breaker.set(other is state, (lane, other.value))
        if state is CircuitState.OPEN:
            self._trips.add((lane,))

    def set_error_rate(self, lane: str, per_minute: float) -> None:
        """Note the errors per minute of a lane."""
        self._error_rate.set(per_minute, (lane,))

    # ---- upkeep -------------------------------------------------------------------------------------------

    def reconciled(self, report: ReconciliationReport) -> None:
        """Note the outcome of a reconciliation that came to its end, whatever it found."""
        self._reconciliations.add()
        for discrepancy in report.details:
            self._discrepancies.add((discrepancy.kind,))
        self._repaired.add_many(report.repaired)
        self._mismatch.set(report.mismatch_percentage)
        self._last_success.set(report.finished_at.timestamp())

    def set_journal_lag(self, seconds: float) -> None:
        """Note how long the journal's oldest entry waits to become durable."""
        self._lag.set(seconds)

    def observe_call(self, function: str, outcome: str, seconds: float) -> None:
        """Count one call of a function, with its duration; ``outcome``: success, failure or cancelled."""
        self._calls.add((function, outcome))
        self._durations.observe(seconds, (function,))

    # ---- showing them -------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        from prometheus_client import generate_latest  # noqa: PLC0415

        return generate_latest(self.registry)

    def serve(self, port: int, host: str = "127.0.0.1") -> MetricsServer:
        """Serve them over HTTP from a daemon thread, on any free port when ``port`` is 0.

        Whoever can reach the port can read them: there is no authentication. Raises OSError when the port
        is taken.
        """
        from prometheus_client import start_http_server  # noqa: PLC0415

        return MetricsServer(*start_http_server(port, addr=host, registry=self.registry))


class _Maker:
    """Makes metrics without showing them yet: a registry gets all of them or none."""

    def __init__(self) -> None:
        self._made: list[Collector] = []

    def counters(self, name: str, about: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Counters:
        """A counter; ``_total`` is added to its name."""
        metric = Counters(PREFIX + name, about, labels, known)
        self._made.append(metric)
        return metric

    def gauges(self, name: str, about: str, labels: Labels = (), known: Iterable[Labels] = ()) -> Gauges:
        """A gauge."""
        metric = Gauges(PREFIX + name, about, labels, known)
        self._made.append(metric)
        return metric

    def histograms(self, name: str, about: str, labels: Labels, bounds: tuple[float, ...]) -> Histograms:
        """A histogram."""
        metric = Histograms(PREFIX + name, about, labels, bounds)
        self._made.append(metric)
        return metric

    def info(self, name: str, about: str, values: Mapping[str, str]) -> None:
        """A constant; ``_info`` is added to its name."""
        from prometheus_client import Info  # noqa: PLC0415

        metric = Info(PREFIX + name, about, registry=None)
        metric.info(dict(values))
        self._made.append(metric)

    def register(self, registry: CollectorRegistry) -> None:
        """Show everything made so far. Raises ConfigurationError, and then shows nothing."""
        shown = []
        try:
            for metric in self._made:
                registry.register(metric)
                shown.append(metric)
        except ValueError as error:
            for metric in shown:
                registry.unregister(metric)
            raise ConfigurationError(
                "metrics: expected a registry without these metrics; each executor needs one of its own"
            ) from error


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
