"""Prometheus metrics of one executor: every name, label and bucket stands here.

Names begin with ``order_execution_``, durations are in seconds, counters end in ``_total`` and start at 0 for
every label that is known beforehand. No label ever holds an order's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from platform import python_version
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from .errors import ConfigurationError, ErrorCategory
from .models import CircuitState, ReconciliationReport, Side, Step

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX: Final = "order_execution_"
DISTRIBUTION: Final = "reliable-order-execution"

OUTCOMES: Final = ("accepted", "rejected", "not_sent", "unresolved", "invalid", "failed")
SIDES: Final = tuple(side.value for side in Side)
LANES: Final = ("submit", "cancel", "query")
DISCREPANCIES: Final = ("mismatched", "missing", "extra", "fills", "balance")

ACK_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CALL_BUCKETS: Final = (0.0001, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0)

SERIES_MAX: Final = 500
"""Label combinations per metric; what comes beyond is counted under ``other``."""

M = TypeVar("M", "Counter", "Gauge", "Histogram")


class _Series(Generic[M]):
    """One metric with labels. Finding a child by its labels is one dictionary look-up, once it is known."""

    __slots__ = ("_children", "_metric")

    _metric: M

    def __init__(self, metric: M, known: Iterable[tuple[str, ...]] = ()) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], M] = {}
        for labels in known:
            self(*labels)

    def __call__(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is not None:
            return child
        beyond = len(self._children) >= SERIES_MAX
        made: M = self._metric.labels(*(["other"] * len(labels) if beyond else labels))
        if not beyond:
            self._children[labels] = made
        return made


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
        self._observers: dict[tuple[str, str], tuple[Callable[[], None], Callable[[float], None]]] = {}
        for lane in LANES:
            self.breaker_changed(lane, CircuitState.CLOSED)

    def _make_order_metrics(self, make: _Maker) -> None:
        self._orders = _Series(
            make.counter("orders", "Calls of execute_order, by how they ended.", ("outcome", "side")),
            product(OUTCOMES, SIDES),
        )
        self._ack = make.histogram(
            "ack_duration_seconds", "From sending an order to the exchange's acknowledgement.", (), ACK_BUCKETS
        )
        self._open = make.gauge("orders_open", "Orders that are not final.")
        self._in_doubt = make.gauge("orders_in_doubt", "Orders that may or may not be on the exchange.")
        self._fills = make.counter("fills", "Trades booked.")
        self._steps = _Series(
            make.counter("confirmation_steps", "Confirmation steps recorded; ok is yes or no.", ("step", "ok")),
            product((step.value for step in Step), ("yes", "no")),
        )

    def _make_exchange_metrics(self, make: _Maker) -> None:
        self._attempts = _Series(
            make.counter("attempts", "Requests to the exchange.", ("lane", "outcome", "category")),
            (("submit", "accepted", "none"), ("cancel", "accepted", "none"), ("query", "found", "none")),
        )
        self._retries = _Series(
            make.counter("retries", "Orders sent once more under their own id, by what failed.", ("category",)),
            ((category.value,) for category in ErrorCategory),
        )
        self._breaker = _Series(
            make.gauge("breaker_state", "1 for the state that the lane's breaker is in.", ("lane", "state"))
        )
        self._trips = _Series(
            make.counter("breaker_trips", "How often the lane's breaker opened.", ("lane",)),
            ((lane,) for lane in LANES),
        )
        self._error_rate = _Series(
            make.gauge("errors_per_minute", "Errors per minute, over the breaker's window.", ("lane",)),
            ((lane,) for lane in LANES),
        )

    def _make_upkeep_metrics(self, make: _Maker) -> None:
        self._reconciliations = make.counter("reconciliations", "Reconciliations that came to their end.")
        self._discrepancies = _Series(
            make.counter("reconciliation_discrepancies", "Discrepancies found.", ("kind",)),
            ((kind,) for kind in DISCREPANCIES),
        )
        self._repaired = make.counter("reconciliation_repaired", "Discrepancies repaired.")
        self._last_success = make.gauge(
            "reconciliation_last_success_timestamp_seconds", "End of the last reconciliation; 0: none yet."
        )
        self._mismatch = make.gauge(
            "reconciliation_mismatch_percentage", "Discrepant orders of all, in the last reconciliation."
        )
        self._lag = make.gauge("journal_lag_seconds", "How long the oldest entry waits to become durable.")
        self._calls = _Series(
            make.counter("calls", "Calls of functions under track_metrics.", ("function", "outcome"))
        )
        self._durations = _Series(
            make.histogram("call_duration_seconds", "Their duration.", ("function",), CALL_BUCKETS)
        )
        make.info("build", "What is running.", {"version": _version(), "python": python_version()})

    # ---- orders -------------------------------------------------------------------------------------------

    def order_finished(self, outcome: str, side: str) -> None:
        """Count one call of execute_order. ``side`` is "none" where the parameters name no valid one."""
        self._orders(outcome, side).inc()

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
        self._fills.inc()

    def confirmed(self, step: str, ok: bool) -> None:
        """Count a confirmation step, and whether what was seen agreed."""
        self._steps(step, "yes" if ok else "no").inc()

    # ---- the exchange -------------------------------------------------------------------------------------

    def attempted(self, lane: str, outcome: str, category: str) -> None:
        """Count one request; ``category`` is an ErrorCategory, or "none"."""
        self._attempts(lane, outcome, category).inc()

    def retried(self, category: str) -> None:
        """Count an order that is sent once more because of an error of this category."""
        self._retries(category).inc()

    def breaker_changed(self, lane: str, state: CircuitState) -> None:
        """Note the state of a lane's breaker; telling the same state again counts no second trip."""
        previous = self._states.get(lane)
        if previous is state:
            return
        self._states[lane] = state
        for other in CircuitState:
            self._breaker(lane, other.value).set(other is state)
        if state is CircuitState.OPEN:
            self._trips(lane).inc()

    def set_error_rate(self, lane: str, per_minute: float) -> None:
        """Note the errors per minute of a lane."""
        self._error_rate(lane).set(per_minute)

    # ---- upkeep -------------------------------------------------------------------------------------------

    def reconciled(self, report: ReconciliationReport) -> None:
        """Note the outcome of a reconciliation that came to its end, whatever it found."""
        self._reconciliations.inc()
        for discrepancy in report.details:
            self._discrepancies(discrepancy.kind).inc()
        self._repaired.inc(report.repaired)
        self._mismatch.set(report.mismatch_percentage)
        self._last_success.set(report.finished_at.timestamp())

    def set_journal_lag(self, seconds: float) -> None:
        """Note how long the journal's oldest entry waits to become durable."""
        self._lag.set(seconds)

    def observe_call(self, function: str, outcome: str, seconds: float) -> None:
        """Count one call of a function, with its duration; ``outcome``: success, failure or cancelled."""
        # One look-up for both: this runs at every call of a decorated function.
        known = self._observers.get((function, outcome))
        if known is None:
            known = self._calls(function, outcome).inc, self._durations(function).observe
            if len(self._observers) < SERIES_MAX:
                self._observers[function, outcome] = known
        count, observe = known
        count()
        observe(seconds)

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
        self._made: list[Any] = []

    def counter(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Counter:
        """A counter; ``_total`` is added to its name."""
        from prometheus_client import Counter  # noqa: PLC0415

        metric = Counter(PREFIX + name, about, labels, registry=None)
        self._made.append(metric)
        return metric

    def gauge(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A gauge."""
        from prometheus_client import Gauge  # noqa: PLC0415

        metric = Gauge(PREFIX + name, about, labels, registry=None)
        self._made.append(metric)
        return metric

    def histogram(self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        """A histogram."""
        from prometheus_client import Histogram  # noqa: PLC0415

        metric = Histogram(PREFIX + name, about, labels, buckets=buckets, registry=None)
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
