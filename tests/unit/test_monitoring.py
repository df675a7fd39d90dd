"""The four decorators, on functions and methods, sync and async: what they tell whom."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.mcp.order_execution.alerts import Level
from services.mcp.order_execution.circuit_breaker import BreakerPolicy, CircuitBreaker
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import (
    CircuitOpen,
    ConfigurationError,
    ErrorCategory,
    ExchangeUnavailable,
    ExecutorHalted,
    InvalidOrder,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
)
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.models import CircuitState
from services.mcp.order_execution.monitoring import (
    alert_on_failure,
    circuit_breaker_aware,
    log_execution_time,
    track_metrics,
)

SECRET = "t0ps3cr3t"
ALL = (log_execution_time, track_metrics, circuit_breaker_aware, alert_on_failure)


class TickingClock(SystemClock):
    """Each reading is ``step`` seconds after the one before."""

    def __init__(self, step: float = 0.25) -> None:
        self.step = step
        self.reading = 100.0

    def monotonic(self) -> float:
        self.reading += self.step
        return self.reading


class RecordingMetrics:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    def observe_call(self, function: str, outcome: str, seconds: float) -> None:
        self.calls.append((function, outcome, seconds))


class RecordingBreaker:
    """Lets everything through until told otherwise, and notes what it is told."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.is_open = False

    def acquire(self) -> RecordingBreaker:
        if self.is_open:
            raise CircuitOpen("submit", retry_after=5)
        return self

    def success(self) -> None:
        self.reports.append("success")

    def failure(self) -> None:
        self.reports.append("failure")

    def neutral(self) -> None:
        self.reports.append("neutral")


class RecordingAlerts:
    def __init__(self) -> None:
        self.raised: list[tuple[Level, str, str, str]] = []
        self.cleared: list[str] = []

    def raise_alert(self, level: Level, key: str, title: str, body: str = "") -> None:
        self.raised.append((level, key, title, body))

    def clear(self, key: str) -> None:
        self.cleared.append(key)


class AlertsThatCannotClear:
    def __init__(self) -> None:
        self.raised = 0

    def raise_alert(self, level: Level, key: str, title: str, body: str = "") -> None:
        self.raised += 1


class Bot:
    """A user's class: its observers lie where the decorators look for them."""

    def __init__(self) -> None:
        self.metrics = RecordingMetrics()
        self.circuit_breaker = RecordingBreaker()
        self.alerts = RecordingAlerts()
        self.clock = TickingClock()
        self.error: BaseException | None = None

    def act(self) -> str:
        if self.error is not None:
            raise self.error
        return "done"

    @log_execution_time
    def logged(self, api_key: str = SECRET) -> str:
        return self.act()

    @log_execution_time(level=logging.INFO, slow_seconds=1.0)
    async def logged_async(self, api_key: str = SECRET) -> str:
        return self.act()

    @track_metrics
    def tracked(self) -> str:
        return self.act()

    @track_metrics(name="bot")
    async def tracked_async(self) -> str:
        return self.act()

    @circuit_breaker_aware
    def guarded(self) -> str:
        return self.act()

    @circuit_breaker_aware(counts=(KeyError,))
    async def guarded_async(self) -> str:
        return self.act()

    @alert_on_failure
    def watched(self) -> str:
        return self.act()

    @alert_on_failure(threshold=2, level=Level.CRITICAL, ignore=(KeyError,))
    async def watched_async(self) -> str:
        return self.act()

    @log_execution_time
    @track_metrics
    @circuit_breaker_aware
    @alert_on_failure(threshold=1)
    async def everything(self, amount: int, *, side: str = "buy") -> str:
        """Trade."""
        return f"{side} {amount} {self.act()}"


class Bare:
    """A class without any observer."""

    @log_execution_time
    @track_metrics
    @alert_on_failure(threshold=1)
    def run(self) -> str:
        return "done"

    @alert_on_failure(threshold=1)
    async def fail(self) -> None:
        raise OSError("x")

    @circuit_breaker_aware
    async def guarded(self) -> None: ...


@pytest.fixture
def bot() -> Bot:
    return Bot()


def attempt(call: Callable[[], Any]) -> None:
    """Call, and let whatever it raises pass by."""
    with pytest.raises(BaseException):  # noqa: B017, PT011 - which one is not the point here
        call()


# ---- all of them ------------------------------------------------------------------------------------------


async def test_all_four_together_observe_one_call(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    """In any order, one over the other, with arguments of every kind."""
    with caplog.at_level(logging.DEBUG):
        assert await bot.everything(3, side="sell") == "sell 3 done"
        bot.error = OSError(SECRET)
        with pytest.raises(OSError, match=SECRET) as caught:
            await bot.everything(3)
    assert caught.value is bot.error
    assert [call[:2] for call in bot.metrics.calls] == [
        ("Bot.everything", "success"),
        ("Bot.everything", "failure"),
    ]
    assert bot.circuit_breaker.reports == ["success", "failure"]
    assert [alert[2] for alert in bot.alerts.raised] == ["Bot.everything failed 1 times in a row"]
    assert [record.message.split(" s: ")[1] for record in caplog.records] == ["ok", "OSError"]
    assert SECRET not in caplog.text + str(bot.alerts.raised)


def test_a_decorated_function_looks_as_it_was_written() -> None:
    """Name, docstring, signature, and being a coroutine function."""
    assert Bot.everything.__name__ == "everything"
    assert Bot.everything.__doc__ == "Trade."
    assert list(inspect.signature(Bot.everything).parameters) == ["self", "amount", "side"]
    assert inspect.iscoroutinefunction(Bot.everything)
    assert inspect.iscoroutinefunction(Bot.logged_async)
    assert not inspect.iscoroutinefunction(Bot.logged)


async def test_without_observers_the_function_is_simply_called() -> None:
    """On a class that has none, and on a plain function."""
    assert Bare().run() == "done"
    with pytest.raises(OSError, match="x"):
        await Bare().fail()

    @track_metrics
    @alert_on_failure
    async def plain() -> str:
        return "done"

    assert await plain() == "done"


@pytest.mark.parametrize("decorator", ALL)
def test_a_generator_is_refused(decorator: Any) -> None:
    """At once, rather than measured wrongly for ever."""

    def numbers(self: object) -> Any:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        decorator(numbers)


@pytest.mark.parametrize("decorator", ALL)
def test_an_option_by_position_is_refused(decorator: Any) -> None:
    """A level or a threshold is not a function."""
    with pytest.raises(TypeError, match="options go by name"):
        decorator(10)


@pytest.mark.parametrize("decorator", ALL)
async def test_cancellation_passes_and_counts_for_nothing(
    decorator: Any, bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither success nor failure, wherever one looks."""
    started = asyncio.Event()

    async def act(self: Bot) -> None:
        started.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.DEBUG):
        task = asyncio.create_task(decorator(act)(bot))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    logged = [record.message for record in caplog.records if "took" in record.message]
    assert [message.endswith("s: cancelled") for message in logged] == [True] * len(logged)
    assert [call[1] for call in bot.metrics.calls] in ([], ["cancelled"])
    assert bot.circuit_breaker.reports in ([], ["neutral"])
    assert bot.alerts.raised == []
    seen = len(logged) + len(bot.metrics.calls) + len(bot.circuit_breaker.reports)
    assert seen == (0 if decorator is alert_on_failure else 1)


# ---- log_execution_time -----------------------------------------------------------------------------------


async def test_the_time_and_the_outcome_are_logged_and_no_argument(
    bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    """With the module's logger at debug level, or as the options say."""
    with caplog.at_level(logging.DEBUG):
        bot.logged(api_key=SECRET)
        await bot.logged_async(SECRET)
        bot.error = ValueError(SECRET)
        attempt(bot.logged)
    assert caplog.record_tuples == [
        (__name__, logging.DEBUG, "Bot.logged took 0.250000 s: ok"),
        (__name__, logging.INFO, "Bot.logged_async took 0.250000 s: ok"),
        (__name__, logging.DEBUG, "Bot.logged took 0.250000 s: ValueError"),
    ]
    assert SECRET not in caplog.text


async def test_a_slow_call_is_a_warning_even_when_the_level_is_off(
    bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    """From the threshold on."""
    bot.clock.step = 0.9
    with caplog.at_level(logging.WARNING):
        await bot.logged_async()
        assert caplog.records == []
        bot.clock.step = 1.0
        await bot.logged_async()
    assert caplog.record_tuples == [(__name__, logging.WARNING, "Bot.logged_async took 1.000000 s: ok")]


def test_nothing_is_measured_when_nobody_listens(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    """The clock is not even read."""
    with caplog.at_level(logging.INFO):
        bot.logged()
    assert bot.clock.reading == 100.0


def test_logger_and_clock_can_be_given(caplog: pytest.LogCaptureFixture) -> None:
    """For plain functions; a callable without a module of its own has the root logger."""

    @log_execution_time(logger=logging.getLogger("mine"), level=logging.ERROR, clock=TickingClock(2.0))
    def plain() -> None: ...

    plain()
    assert caplog.record_tuples == [
        ("mine", logging.ERROR, f"{plain.__qualname__} took 2.000000 s: ok"),
    ]
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        log_execution_time(functools.partial(int, "3"))()
    assert [record.message.split(" took")[0] for record in caplog.records] == ["partial"]


# ---- track_metrics ----------------------------------------------------------------------------------------


async def test_calls_are_counted_with_their_latency(bot: Bot) -> None:
    """Success and failure, under the qualified name or the one that is given."""
    bot.tracked()
    await bot.tracked_async()
    bot.error = ValueError("x")
    attempt(bot.tracked)
    assert bot.metrics.calls == [
        ("Bot.tracked", "success", 0.25),
        ("bot", "success", 0.25),
        ("Bot.tracked", "failure", 0.25),
    ]


async def test_plain_functions_take_their_metrics_by_option() -> None:
    """Here the real ones: the duration is in seconds."""
    metrics = Metrics()

    @track_metrics(metrics=metrics, name="plain", clock=TickingClock())
    async def plain(fail: bool = False) -> None:
        if fail:
            raise OSError("x")

    await plain()
    with pytest.raises(OSError, match="x"):
        await plain(fail=True)
    sample = metrics.registry.get_sample_value
    assert sample("order_execution_calls_total", {"function": "plain", "outcome": "success"}) == 1
    assert sample("order_execution_calls_total", {"function": "plain", "outcome": "failure"}) == 1
    assert sample("order_execution_call_duration_seconds_sum", {"function": "plain"}) == 0.5


# ---- circuit_breaker_aware --------------------------------------------------------------------------------

UNRESOLVED = OrderUnresolved("a1", "timeout")


@pytest.mark.parametrize(
    ("error", "report"),
    [
        (None, "success"),
        (OSError("x"), "failure"),
        (ConnectionResetError(), "failure"),
        (TimeoutError(), "failure"),
        (ExchangeUnavailable("x", category=ErrorCategory.TIMEOUT), "failure"),
        (UNRESOLVED, "failure"),
        (OrderRejected("a1", "insufficient_funds"), "success"),
        (ValueError("x"), "success"),
        (CircuitOpen("submit", retry_after=1), "neutral"),
        (OrderNotSent("x"), "neutral"),
        (ExecutorHalted("x"), "neutral"),
        (InvalidOrder("amount", "a number"), "neutral"),
        (KeyboardInterrupt(), "neutral"),
    ],
)
def test_the_breaker_hears_what_a_call_says_of_the_exchange(
    bot: Bot, error: BaseException | None, report: str
) -> None:
    """An answer is health, trouble is failure, and what was never asked says nothing."""
    bot.error = error
    if error is None:
        assert bot.guarded() == "done"
    else:
        with pytest.raises(type(error)) as caught:
            bot.guarded()
        assert caught.value is error
    assert bot.circuit_breaker.reports == [report]


@pytest.mark.parametrize(
    ("error", "report"),
    [(KeyError("x"), "failure"), (OSError("x"), "success"), (CircuitOpen("x", retry_after=None), "neutral")],
)
async def test_what_counts_can_be_chosen(bot: Bot, error: Exception, report: str) -> None:
    """Instead of the default; an open inner circuit never counts."""
    bot.error = error
    with pytest.raises(type(error)):
        await bot.guarded_async()
    assert bot.circuit_breaker.reports == [report]


async def test_an_open_circuit_refuses_the_call(bot: Bot) -> None:
    """The function is not called, and there is nothing to report."""
    bot.circuit_breaker.is_open = True
    bot.error = AssertionError("it was called")
    for call in (bot.guarded, bot.guarded_async):
        with pytest.raises(CircuitOpen) as caught:
            await call()  # type: ignore[misc]
        assert caught.value.retry_after == 5
    assert bot.circuit_breaker.reports == []


async def test_it_works_with_the_real_breaker() -> None:
    """Failures open it, and from then on nothing gets through."""
    breaker = CircuitBreaker("submit", BreakerPolicy(failure_threshold=2), TickingClock(0.001).monotonic)
    calls = 0

    @circuit_breaker_aware(breaker=breaker)
    async def send() -> None:
        nonlocal calls
        calls += 1
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await send()
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpen):
        await send()
    assert calls == 2


async def test_a_breaker_that_is_missing_is_an_error_and_none_is_a_decision(bot: Bot) -> None:
    """A protection that is silently absent would be worse than none."""
    with pytest.raises(ConfigurationError, match=r"Bare.guarded needs self.circuit_breaker"):
        await Bare().guarded()
    bot.circuit_breaker = None  # type: ignore[assignment]
    assert bot.guarded() == "done"
    with pytest.raises(ConfigurationError, match="needs breaker="):

        @circuit_breaker_aware
        def plain() -> None: ...


def test_a_breaker_that_fails_to_take_its_report_harms_nobody(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    """The result stands; the failure is logged."""

    class Broken(RecordingBreaker):
        def success(self) -> None:
            raise RuntimeError("x")

    bot.circuit_breaker = Broken()
    assert bot.guarded() == "done"
    assert "an observer of Bot.guarded failed: RuntimeError" in caplog.text


# ---- alert_on_failure -------------------------------------------------------------------------------------


def test_every_third_failure_in_a_row_raises_an_alert(bot: Bot) -> None:
    """The default threshold; the message of a foreign error, which may hold a secret, is left out."""
    bot.error = OSError(SECRET)
    for _ in range(7):
        attempt(bot.watched)
    assert bot.alerts.raised == [
        (Level.ERROR, "failing:Bot.watched", "Bot.watched failed 3 times in a row", "OSError"),
        (Level.ERROR, "failing:Bot.watched", "Bot.watched failed 6 times in a row", "OSError"),
    ]


async def test_level_and_threshold_can_be_chosen_and_our_own_errors_say_why(bot: Bot) -> None:
    """Messages of this library hold no secrets."""
    bot.error = UNRESOLVED
    for _ in range(2):
        with pytest.raises(OrderUnresolved):
            await bot.watched_async()
    assert bot.alerts.raised == [
        (
            Level.CRITICAL,
            "failing:Bot.watched_async",
            "Bot.watched_async failed 2 times in a row",
            f"OrderUnresolved: {UNRESOLVED}",
        )
    ]


def test_a_success_begins_anew_and_clears_the_alert(bot: Bot) -> None:
    """Only where there had been one."""
    for fails in (2, 3):
        bot.error = OSError("x")
        for _ in range(fails):
            attempt(bot.watched)
        bot.error = None
        bot.watched()
    assert len(bot.alerts.raised) == 1
    assert bot.alerts.cleared == ["failing:Bot.watched"]


@pytest.mark.parametrize("error", [InvalidOrder("x", "y"), OrderRejected("a1", "x"), KeyboardInterrupt()])
def test_what_is_ignored_counts_neither_way(bot: Bot, error: BaseException) -> None:
    """An order that was at fault neither adds to the row nor breaks it."""
    for step in (OSError("x"), error, OSError("x"), error, error, OSError("x")):
        bot.error = step
        attempt(bot.watched)
    assert [alert[2] for alert in bot.alerts.raised] == ["Bot.watched failed 3 times in a row"]


async def test_what_is_ignored_can_be_chosen(bot: Bot) -> None:
    """Instead of the default."""
    bot.error = KeyError("x")
    for _ in range(5):
        with pytest.raises(KeyError):
            await bot.watched_async()
    assert bot.alerts.raised == []


def test_each_instance_and_each_function_has_its_own_row(bot: Bot) -> None:
    """Two bots that fail twice are not one that fails four times."""
    other = Bot()
    for which in (bot, other):
        which.error = OSError("x")
        attempt(which.watched)
        attempt(which.watched)
        with pytest.raises(OSError, match="x"):
            asyncio.run(which.watched_async())  # type: ignore[arg-type]
    assert bot.alerts.raised == other.alerts.raised == []


@dataclass
class Unhashable:
    """Equal to every other one, and not hashable."""

    alerts: RecordingAlerts = field(default_factory=RecordingAlerts, compare=False)

    @alert_on_failure(threshold=2)
    def fail(self) -> None:
        raise OSError("x")


class Slotted:
    """Cannot be weakly referenced."""

    __slots__ = ("alerts",)

    def __init__(self, alerts: RecordingAlerts) -> None:
        self.alerts = alerts

    @alert_on_failure(threshold=2)
    def act(self, fail: bool) -> None:
        if fail:
            raise OSError("x")


def test_instances_are_told_apart_by_identity() -> None:
    """Being equal is not being the same; nothing has to be hashable."""
    one, other = Unhashable(), Unhashable()
    assert one == other
    for which in (one, other, one):
        attempt(which.fail)
    assert (len(one.alerts.raised), len(other.alerts.raised)) == (1, 0)


def test_instances_are_not_kept_alive_and_leave_nothing_behind() -> None:
    """A failing instance that is gone takes its count with it, also when another has its place in memory."""
    alerts = RecordingAlerts()
    for _ in range(50):
        attempt(Unhashable(alerts).fail)
    gc.collect()
    assert alerts.raised == []


def test_instances_without_weak_references_share_a_count() -> None:
    """Documented; a success of any begins anew."""
    alerts = RecordingAlerts()
    one, other = Slotted(alerts), Slotted(alerts)
    attempt(lambda: one.act(True))
    other.act(False)
    attempt(lambda: one.act(True))
    assert alerts.raised == []
    attempt(lambda: other.act(True))
    assert len(alerts.raised) == 1


def test_plain_functions_take_their_alerts_by_option() -> None:
    """Alerts that know no clear() are fine."""
    alerts = AlertsThatCannotClear()
    fails = True

    @alert_on_failure(threshold=1, alerts=alerts)
    def plain() -> None:
        if fails:
            raise OSError("x")

    attempt(plain)
    attempt(plain)
    fails = False
    plain()
    assert alerts.raised == 2


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_below_one_is_refused(threshold: int) -> None:
    """At once."""
    with pytest.raises(ConfigurationError, match="threshold"):
        alert_on_failure(threshold=threshold)
