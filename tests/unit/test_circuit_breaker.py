"""The circuit breaker opens exactly when it should, heals with few probes, and believes no old news."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.mcp.order_execution.circuit_breaker import (
    EVENTS_MAX,
    BreakerEvent,
    BreakerPolicy,
    CircuitBreaker,
    Permit,
)
from services.mcp.order_execution.errors import CircuitOpen, ConfigurationError
from services.mcp.order_execution.models import CircuitState

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
HALF_OPEN, FORCED_OPEN = CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN


class Hand:
    """A monotonic clock that is moved by hand."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Bench:
    """A breaker, its clock and the events that it told."""

    def __init__(self, *, rng: Random | None = None, **policy: Any) -> None:
        self.clock = Hand()
        self.breaker = CircuitBreaker("submit", BreakerPolicy(**policy), self.clock, rng=rng)
        self.events: list[BreakerEvent] = []
        self.breaker.subscribe(self.events.append)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.acquire().failure()

    def changes(self) -> list[tuple[CircuitState, CircuitState]]:
        return [(event.previous, event.state) for event in self.events if event.kind == "state"]

    def warnings(self) -> int:
        return sum(event.kind == "warning" for event in self.events)

    def admitted(self, callers: int) -> list[Permit]:
        permits = []
        for _ in range(callers):
            try:
                permits.append(self.breaker.acquire())
            except CircuitOpen:
                continue
        return permits


def small(**policy: Any) -> Bench:
    """Opens at 3 errors within 60 s, cools down for 10 s."""
    defaults = {"error_threshold": 3, "warning_threshold": 2, "window_seconds": 60, "cool_down_seconds": 10}
    return Bench(**(defaults | policy))


def opened(**policy: Any) -> Bench:
    bench = small(**policy)
    bench.fail(3)
    assert bench.breaker.state is OPEN
    return bench


# ---- the window ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    gaps=st.lists(st.one_of(st.floats(0, 30), st.sampled_from([0.0, 10.0, 20.0, 60.0])), max_size=60),
    per_minute=st.integers(1, 8),
    window=st.sampled_from([10.0, 60.0, 90.0]),
)
def test_it_opens_exactly_when_the_window_holds_k_errors(gaps: list[float], per_minute: int, window: float) -> None:
    """The bounded memory decides as a complete one would."""
    bench = Bench(error_threshold=per_minute, warning_threshold=per_minute, window_seconds=window)
    k = math.ceil(per_minute * window / 60)
    stamps: list[float] = []
    for gap in gaps:
        bench.clock.now += gap
        now = bench.clock.now
        bench.fail()
        stamps.append(now)
        in_window = sum(now - stamp < window for stamp in stamps)
        assert (bench.breaker.state is OPEN) == (in_window >= k)
        assert bench.breaker.error_rate_per_minute() == pytest.approx(in_window * 60 / window)
        if in_window >= k:
            return


def test_memory_is_bounded_by_k_however_many_errors_come() -> None:
    """A disabled breaker counts on for ever, in the room of K errors."""
    bench = small(enabled=False)
    bench.fail(10_000)
    assert bench.breaker.error_rate_per_minute() == 3
    assert len(bench.breaker._errors) == 3


@pytest.mark.parametrize(
    ("per_minute", "seconds", "k"), [(30, 300, 150), (1.1, 600, 11), (0.1, 60, 1), (10, 1, 1), (2.5, 60, 3)]
)
def test_k_is_the_rate_times_the_window_rounded_up(per_minute: float, seconds: float, k: int) -> None:
    """Rounding errors of floats do not add an error to the threshold."""
    policy = BreakerPolicy(error_threshold=per_minute, window_seconds=seconds)
    assert policy.errors_to_open == k


def test_successes_and_neutral_outcomes_never_open_it() -> None:
    """Only failures count; a cancelled attempt is no failure."""
    bench = small()
    for _ in range(100):
        bench.breaker.acquire().success()
        bench.breaker.acquire().neutral()
    assert bench.breaker.state is CLOSED
    assert bench.breaker.error_rate_per_minute() == 0
    assert bench.events == []


def test_half_of_all_attempts_failing_opens_it() -> None:
    """A success between two failures does not make the errors of the window forgotten."""
    bench = small()
    for _ in range(3):
        bench.breaker.acquire().success()
        bench.fail()
    assert bench.breaker.state is OPEN


def test_failures_in_a_row_open_it_where_that_is_configured() -> None:
    """The optional second threshold answers a burst at once, and a success starts its count anew."""
    bench = Bench(failure_threshold=3)
    bench.fail(2)
    bench.breaker.acquire().success()
    bench.fail(2)
    assert bench.breaker.state is CLOSED
    bench.fail()
    assert bench.breaker.state is OPEN
    assert bench.events[-1].reason == "3 failures in a row"


# ---- the warning -----------------------------------------------------------------------------------------


def test_it_warns_once_and_again_only_after_the_errors_fell_below_half() -> None:
    """The warning is edge-triggered: at 4 errors, re-armed below 2."""
    bench = Bench(error_threshold=100, warning_threshold=4, window_seconds=60)
    bench.fail(3)
    assert bench.warnings() == 0
    bench.fail(6)
    assert bench.warnings() == 1
    warning = bench.events[0]
    assert (warning.lane, warning.previous, warning.state) == ("submit", CLOSED, CLOSED)
    assert warning.error_rate == 4
    bench.clock.now += 59
    bench.fail(2)
    bench.clock.now += 1.5  # two errors are left: not below half
    bench.fail(3)
    assert bench.warnings() == 1
    bench.clock.now += 61
    bench.fail(4)
    assert bench.warnings() == 2


def test_the_error_that_opens_it_does_not_warn_as_well() -> None:
    """With equal thresholds the change of state says it all."""
    bench = small(warning_threshold=3)
    bench.fail(3)
    assert [event.kind for event in bench.events] == ["state"]


# ---- open ------------------------------------------------------------------------------------------------


def test_open_refuses_at_once_and_says_when_to_come_back() -> None:
    """Every way of asking agrees; asking changes nothing."""
    bench = opened()
    bench.clock.now += 4
    assert not bench.breaker.allows()
    with pytest.raises(CircuitOpen) as refused:
        bench.breaker.acquire()
    assert refused.value.lane == "submit"
    assert refused.value.retry_after == pytest.approx(6)
    with pytest.raises(CircuitOpen) as checked:
        bench.breaker.check()
    assert checked.value.retry_after == pytest.approx(6)
    assert bench.breaker.state is OPEN


def test_asking_whether_a_probe_would_be_let_through_takes_no_probe() -> None:
    """allows() and check() may be called any number of times."""
    bench = opened()
    bench.clock.now += 10
    for _ in range(5):
        assert bench.breaker.allows()
        bench.breaker.check()
    assert bench.breaker.state is OPEN
    assert bench.breaker.acquire().is_probe
    assert bench.breaker.state is HALF_OPEN


def test_the_cool_down_doubles_with_each_reopening_up_to_its_cap_and_starts_anew_after_closing() -> None:
    """10, 20, 40, 45, 45, then 10 again."""
    bench = opened(max_cool_down_seconds=45)
    for expected in (10, 20, 40, 45, 45):
        with pytest.raises(CircuitOpen) as refused:
            bench.breaker.acquire()
        assert refused.value.retry_after == pytest.approx(expected)
        bench.clock.now += expected
        bench.breaker.acquire().failure()
    bench.clock.now += 45
    bench.breaker.acquire().success()
    assert bench.breaker.state is CLOSED
    bench.fail(3)
    with pytest.raises(CircuitOpen) as refused:
        bench.breaker.acquire()
    assert refused.value.retry_after == pytest.approx(10)


def test_a_cool_down_above_the_cap_is_kept_and_never_overflows() -> None:
    """The cap ends the doubling; it does not shorten what was configured."""
    policy = BreakerPolicy(cool_down_seconds=1800, max_cool_down_seconds=600)
    assert policy.cool_down(0) == policy.cool_down(10_000) == 1800


def test_jitter_lengthens_the_cool_down_by_at_most_a_tenth() -> None:
    """Two processes that opened together do not probe together."""
    waits = set()
    for seed in range(20):
        bench = opened(rng=Random(seed))
        with pytest.raises(CircuitOpen) as refused:
            bench.breaker.acquire()
        assert refused.value.retry_after is not None
        assert 10 <= refused.value.retry_after <= 11
        waits.add(refused.value.retry_after)
    assert len(waits) == 20


# ---- half-open -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [1, 3])
def test_of_a_hundred_callers_after_the_cool_down_only_the_probes_get_through(probes: int) -> None:
    """No stampede onto an exchange that is just getting up."""
    bench = opened(half_open_probes=probes)
    bench.clock.now += 10
    permits = bench.admitted(100)
    assert len(permits) == probes
    assert all(permit.is_probe for permit in permits)
    assert not bench.breaker.allows()
    for permit in permits[:-1]:
        permit.success()
        assert bench.breaker.state is HALF_OPEN
    permits[-1].success()
    assert bench.breaker.state is CLOSED
    assert len(bench.admitted(100)) == 100


def test_closing_forgets_the_errors_from_before() -> None:
    """One failure after the recovery does not open it again."""
    bench = opened()
    bench.clock.now += 10
    bench.breaker.acquire().success()
    bench.fail(2)
    assert bench.breaker.state is CLOSED
    assert bench.breaker.error_rate_per_minute() == 2


def test_one_failed_probe_opens_it_again_and_the_other_probes_count_for_nothing() -> None:
    """A success that arrives after the reopening does not close it."""
    bench = opened(half_open_probes=2)
    bench.clock.now += 10
    first, second = bench.admitted(2)
    first.failure()
    assert bench.breaker.state is OPEN
    second.success()
    assert bench.breaker.state is OPEN
    assert bench.events[-1].reason == "a probe failed"


def test_a_cancelled_probe_frees_its_place() -> None:
    """Neutral neither closes nor opens; the next caller probes."""
    bench = opened()
    bench.clock.now += 10
    bench.breaker.acquire().neutral()
    assert bench.breaker.state is HALF_OPEN
    bench.breaker.acquire().success()
    assert bench.breaker.state is CLOSED


def test_a_probe_that_never_reports_loses_its_lease() -> None:
    """The circuit cannot be stuck half-open, and the lost probe's late word counts for nothing."""
    bench = opened(probe_lease_seconds=30)
    bench.clock.now += 10
    lost = bench.breaker.acquire()
    bench.clock.now += 25
    with pytest.raises(CircuitOpen) as refused:
        bench.breaker.acquire()
    assert refused.value.retry_after == pytest.approx(5)
    bench.clock.now += 5
    probe = bench.breaker.acquire()
    lost.failure()
    assert bench.breaker.state is HALF_OPEN
    probe.success()
    assert bench.breaker.state is CLOSED


def test_with_several_probes_out_the_wait_is_that_of_the_lease_that_frees_a_place() -> None:
    """After the number of probes was lowered, more than one lease must end first."""
    bench = opened(half_open_probes=3, probe_lease_seconds=30)
    bench.clock.now += 10
    for _ in range(3):
        bench.breaker.acquire()
        bench.clock.now += 1
    bench.breaker.reconfigure(
        BreakerPolicy(error_threshold=3, window_seconds=60, half_open_probes=2, probe_lease_seconds=30)
    )
    with pytest.raises(CircuitOpen) as refused:
        bench.breaker.acquire()
    assert refused.value.retry_after == pytest.approx(28)  # the second of the three


# ---- permits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["success", "failure", "neutral"])
@pytest.mark.parametrize("first", ["success", "failure", "neutral"])
@pytest.mark.parametrize("state", [CLOSED, HALF_OPEN])
def test_only_the_first_word_of_a_permit_counts(state: CircuitState, first: str, second: str) -> None:
    """Reporting twice, by a finally clause say, changes nothing."""
    once, twice = small(), small()
    for bench, words in ((once, [first]), (twice, [first, second, second, second])):
        if state is HALF_OPEN:
            bench.fail(3)
            bench.clock.now += 10
        permit = bench.breaker.acquire()
        for word in words:
            getattr(permit, word)()
    assert once.events == twice.events
    assert once.breaker.state is twice.breaker.state
    assert once.breaker.error_rate_per_minute() == twice.breaker.error_rate_per_minute()


@pytest.mark.parametrize("word", ["success", "failure"])
def test_results_of_attempts_from_before_a_change_of_state_are_inert(word: str) -> None:
    """An overhanging success does not close an open circuit, an overhanging failure does not reopen."""
    bench = small()
    before = [bench.breaker.acquire() for _ in range(10)]
    bench.fail(3)
    getattr(before.pop(), word)()
    assert bench.breaker.state is OPEN
    bench.clock.now += 10
    probe = bench.breaker.acquire()
    getattr(before.pop(), word)()
    assert bench.breaker.state is HALF_OPEN
    probe.success()
    for permit in before:
        getattr(permit, word)()
    assert bench.breaker.state is CLOSED
    assert bench.breaker.error_rate_per_minute() == 0


def test_code_without_permits_can_record_and_heals_the_circuit_too() -> None:
    """record_* is acquire and report in one; while the circuit refuses, it does nothing."""
    bench = small()
    for _ in range(3):
        bench.breaker.record_failure()
    assert bench.breaker.state is OPEN
    bench.breaker.record_success()
    bench.breaker.record_failure()
    assert bench.breaker.state is OPEN
    bench.clock.now += 10
    bench.breaker.record_failure()
    assert bench.breaker.state is OPEN
    assert not bench.breaker.allows()
    bench.clock.now += 20
    bench.breaker.record_success()
    assert bench.breaker.state is CLOSED


# ---- operators -------------------------------------------------------------------------------------------


def test_forced_open_never_heals_by_itself() -> None:
    """Not by time, not by successes in flight; only an operator closes it."""
    bench = small()
    flying = bench.breaker.acquire()
    bench.breaker.force_open("maintenance tonight")
    bench.breaker.force_open("again")
    flying.success()
    bench.clock.now += 1e9
    bench.breaker.record_success()
    assert not bench.breaker.allows()
    with pytest.raises(CircuitOpen) as refused:
        bench.breaker.acquire()
    assert refused.value.retry_after is None
    with pytest.raises(CircuitOpen):
        bench.breaker.check()
    assert [event.reason for event in bench.events] == ["maintenance tonight"]
    bench.breaker.close()
    assert bench.breaker.allows()
    bench.breaker.check()
    assert bench.changes() == [(CLOSED, FORCED_OPEN), (FORCED_OPEN, CLOSED)]


def test_reset_closes_an_open_circuit_and_forgets_its_errors_and_what_is_in_flight() -> None:
    """Also where it was closed: nothing from before counts any more, and nobody is told of no change."""
    bench = opened()
    bench.breaker.reset("fixed")
    assert bench.events[-1].reason == "fixed"
    bench.fail(2)
    flying = bench.breaker.acquire()
    bench.breaker.reset()
    flying.failure()
    assert bench.breaker.error_rate_per_minute() == 0
    assert bench.changes() == [(CLOSED, OPEN), (OPEN, CLOSED)]


def test_a_disabled_breaker_lets_everything_through_yet_counts_and_warns() -> None:
    """It never opens by itself; an operator's word still holds."""
    bench = small(enabled=False, failure_threshold=1)
    bench.fail(50)
    assert bench.breaker.state is CLOSED
    assert bench.breaker.error_rate_per_minute() == 3
    assert bench.warnings() == 1
    bench.breaker.force_open("no")
    assert not bench.breaker.allows()


# ---- reconfiguring ---------------------------------------------------------------------------------------


def policy(**changes: Any) -> BreakerPolicy:
    defaults: dict[str, Any] = {"error_threshold": 3, "window_seconds": 60, "cool_down_seconds": 10}
    return BreakerPolicy(**(defaults | changes))


def test_reconfiguring_keeps_the_known_errors() -> None:
    """A higher threshold counts on from what is known; a lower one opens at once where it is reached."""
    bench = small()
    bench.fail(2)
    bench.breaker.reconfigure(policy(error_threshold=5))
    assert bench.breaker.policy.errors_to_open == 5
    bench.fail(2)
    assert bench.breaker.state is CLOSED
    bench.breaker.reconfigure(policy(error_threshold=4))
    assert bench.breaker.state is OPEN
    assert bench.events[-1].reason == "4 errors within 60 s"


def test_reconfiguring_to_a_shorter_window_forgets_what_lies_outside() -> None:
    """Errors older than the new window do not count against the new threshold."""
    bench = small()
    bench.fail(2)
    bench.clock.now += 20
    bench.breaker.reconfigure(policy(window_seconds=15, error_threshold=8))
    assert bench.breaker.error_rate_per_minute() == 0
    assert bench.breaker.state is CLOSED


def test_reconfiguring_an_open_circuit_applies_the_new_cool_down() -> None:
    """The time that it has been open already counts."""
    bench = opened()
    bench.clock.now += 4
    bench.breaker.reconfigure(policy(cool_down_seconds=30))
    with pytest.raises(CircuitOpen) as refused:
        bench.breaker.acquire()
    assert refused.value.retry_after == pytest.approx(26)
    bench.breaker.reconfigure(policy(cool_down_seconds=3))
    assert bench.breaker.allows()


def test_reconfiguring_leaves_permits_in_flight_valid() -> None:
    """A failure that began under the old policy counts under the new one."""
    bench = small()
    flying = bench.breaker.acquire()
    bench.breaker.reconfigure(policy(error_threshold=1))
    flying.failure()
    assert bench.breaker.state is OPEN


def test_disabling_closes_an_open_circuit_but_not_a_forced_one() -> None:
    """And enabling again finds the errors that were counted meanwhile."""
    bench = opened()
    bench.breaker.reconfigure(policy(enabled=False))
    assert bench.breaker.state is CLOSED
    bench.breaker.reconfigure(policy(enabled=True))
    assert bench.breaker.state is OPEN
    bench.breaker.force_open("no")
    bench.breaker.reconfigure(policy(enabled=False))
    assert bench.breaker.state is FORCED_OPEN


def test_a_raised_warning_threshold_warns_anew_when_it_is_reached() -> None:
    """The warning that was given belonged to the old threshold."""
    bench = Bench(error_threshold=100, warning_threshold=2, window_seconds=60)
    bench.fail(2)
    bench.breaker.reconfigure(policy(error_threshold=100, warning_threshold=4))
    bench.fail(2)
    assert bench.warnings() == 2


# ---- listeners -------------------------------------------------------------------------------------------


def test_listeners_hear_of_a_change_after_it_is_complete() -> None:
    """What a listener reads from the breaker agrees with the event."""
    bench = small()
    seen: list[tuple[CircuitState, CircuitState, bool]] = []
    bench.breaker.subscribe(lambda event: seen.append((event.state, bench.breaker.state, bench.breaker.allows())))
    bench.fail(3)
    bench.clock.now += 10
    probe = bench.breaker.acquire()
    probe.success()
    states = [entry for entry in seen if entry[0] is not CLOSED or entry[1] is not CLOSED]
    assert states == [(OPEN, OPEN, False), (HALF_OPEN, HALF_OPEN, False)]
    assert bench.changes() == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
    opening = next(event for event in bench.events if event.kind == "state")
    assert opening == BreakerEvent("submit", "state", CLOSED, OPEN, 1_000.0, 3.0, "3 errors within 60 s")


def test_a_raising_listener_is_logged_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the breaker, nor the caller, nor the listeners after it."""
    bench = small()
    heard: list[CircuitState] = []

    def broken(event: BreakerEvent) -> None:
        raise RuntimeError("listener defect")

    bench.breaker.subscribe(broken)
    bench.breaker.subscribe(lambda event: heard.append(event.state))
    with caplog.at_level(logging.ERROR):
        bench.fail(3)
    assert bench.breaker.state is OPEN
    assert heard[-1] is OPEN
    assert "a listener of the submit circuit failed" in caplog.text


def test_an_ended_subscription_hears_nothing_more() -> None:
    """Ending it twice is harmless."""
    bench = small()
    heard: list[BreakerEvent] = []
    end = bench.breaker.subscribe(heard.append)
    end()
    end()
    bench.fail(3)
    assert heard == []
    assert bench.events != []


def test_a_listener_may_change_the_circuit_and_all_hear_the_changes_in_order() -> None:
    """Events caused by an event are told after it."""
    bench = small()
    order: list[CircuitState] = []

    def operator(event: BreakerEvent) -> None:
        if event.state is OPEN:
            bench.breaker.force_open("it opened")

    bench.breaker.subscribe(operator)
    bench.breaker.subscribe(lambda event: order.append(event.state))
    bench.fail(3)
    assert order[-2:] == [OPEN, FORCED_OPEN]
    assert bench.changes() == [(CLOSED, OPEN), (OPEN, FORCED_OPEN)]


def on_half_open(bench: Bench, action: Callable[[], None]) -> None:
    def listen(event: BreakerEvent) -> None:
        if event.state is HALF_OPEN:
            action()

    bench.breaker.subscribe(listen)


def test_a_listener_that_forces_it_open_stops_the_probe_that_it_was_told_of() -> None:
    """The operator's word is the latest."""
    bench = opened()
    on_half_open(bench, lambda: bench.breaker.force_open("not yet"))
    bench.clock.now += 10
    with pytest.raises(CircuitOpen):
        bench.breaker.acquire()
    assert bench.breaker.state is FORCED_OPEN


def test_a_listener_that_resets_it_gives_the_caller_an_ordinary_permit() -> None:
    """The circuit is closed by then, so the permit is no probe."""
    bench = opened()
    on_half_open(bench, bench.breaker.reset)
    bench.clock.now += 10
    assert not bench.breaker.acquire().is_probe
    assert bench.breaker.state is CLOSED


def test_listeners_that_answer_each_other_for_ever_are_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """There is a limit on the events told in one go, and the breaker works on."""
    bench = small()

    def toggle(event: BreakerEvent) -> None:
        if event.state is FORCED_OPEN:
            bench.breaker.reset()
        else:
            bench.breaker.force_open("toggle")

    end = bench.breaker.subscribe(toggle)
    with caplog.at_level(logging.ERROR):
        bench.breaker.force_open("go")
    assert len(bench.events) == EVENTS_MAX
    assert "keep changing it" in caplog.text
    end()
    bench.breaker.reset()
    bench.fail(3)
    assert bench.events[-1].state is OPEN


# ---- configuration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("error_threshold", 0),
        ("error_threshold", math.nan),
        ("error_threshold", 1e9),
        ("warning_threshold", -1),
        ("window_seconds", math.inf),
        ("cool_down_seconds", 0),
        ("max_cool_down_seconds", 0),
        ("probe_lease_seconds", -1),
        ("half_open_probes", 0),
        ("failure_threshold", 0),
    ],
)
def test_a_policy_out_of_range_is_refused_by_name(field: str, value: float) -> None:
    """The error names the setting."""
    values: dict[str, Any] = {field: value}
    with pytest.raises(ConfigurationError) as refused:
        BreakerPolicy(**values)
    assert refused.value.field == f"circuit_breaker.{field}"


# ---- any sequence of events ------------------------------------------------------------------------------


class AnySequence(RuleBasedStateMachine):
    """Whatever callers do, probes stay bounded, permits do not leak, and forced open holds."""

    PROBES = 2

    def __init__(self) -> None:
        super().__init__()
        self.bench = small(half_open_probes=self.PROBES, probe_lease_seconds=5)
        self.out: list[tuple[Permit, float]] = []
        self.used: list[Permit] = []

    def last_generation(self) -> int:
        return self.bench.breaker._generation

    @rule()
    def acquire(self) -> None:
        allowed = self.bench.breaker.allows()
        try:
            self.out.append((self.bench.breaker.acquire(), self.bench.clock.now))
        except CircuitOpen:
            assert not allowed
        else:
            assert allowed

    @precondition(lambda self: self.out)
    @rule(data=st.data(), word=st.sampled_from(["success", "failure", "neutral"]))
    def report(self, data: st.DataObject, word: str) -> None:
        index = data.draw(st.integers(0, len(self.out) - 1))
        permit, _ = self.out.pop(index)
        before = (self.bench.breaker.state, len(self.bench.breaker._errors))
        stale = permit.generation != self.last_generation()
        getattr(permit, word)()
        self.used.append(permit)
        if stale:
            assert (self.bench.breaker.state, len(self.bench.breaker._errors)) == before

    @precondition(lambda self: self.used)
    @rule(word=st.sampled_from(["success", "failure", "neutral"]))
    def report_again(self, word: str) -> None:
        before = (self.bench.breaker.state, len(self.bench.breaker._errors), self.last_generation())
        getattr(self.used[-1], word)()
        after = (self.bench.breaker.state, len(self.bench.breaker._errors), self.last_generation())
        assert after == before

    @precondition(lambda self: self.out)
    @rule()
    def lose_a_permit(self) -> None:
        self.out.pop()

    @rule(seconds=st.sampled_from([0.5, 4.0, 5.0, 11.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.bench.clock.now += seconds

    @rule()
    def force_open(self) -> None:
        self.bench.breaker.force_open("by hand")

    @rule()
    def reset(self) -> None:
        self.bench.breaker.reset()

    @invariant()
    def probes_in_flight_are_bounded(self) -> None:
        now, current = self.bench.clock.now, self.last_generation()
        flying = [
            permit
            for permit, since in self.out
            if permit.is_probe and permit.generation == current and since + 5 > now
        ]
        assert len(flying) <= self.PROBES

    @invariant()
    def it_heals_unless_it_is_forced_open(self) -> None:
        """However many permits were lost, a caller gets through once cool-down and leases are over."""
        clock, breaker = self.bench.clock, self.bench.breaker
        before = clock.now
        clock.now += 10_000
        assert breaker.allows() == (breaker.state is not FORCED_OPEN)
        clock.now = before


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
