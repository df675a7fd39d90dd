"""The circuit breaker against a model that remembers everything, under every interleaving that Hypothesis finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.mcp.order_execution.circuit_breaker import BreakerPolicy, CircuitBreaker, Permit
from services.mcp.order_execution.errors import CircuitOpen
from services.mcp.order_execution.models import CircuitState

LEASE = 7.0


class Model(RuleBasedStateMachine):
    """Attempts that begin, end and are forgotten, while time passes and operators interfere."""

    @initialize(
        threshold=st.integers(1, 6),
        probes=st.integers(1, 3),
        in_a_row=st.one_of(st.none(), st.integers(1, 4)),
        window=st.sampled_from([10.0, 60.0]),
    )
    def begin(self, threshold: int, probes: int, in_a_row: int | None, window: float) -> None:
        self.now = 1_000.0
        self.policy = BreakerPolicy(
            error_threshold=threshold * 60 / window,
            warning_threshold=max(1, threshold // 2) * 60 / window,
            window_seconds=window,
            cool_down_seconds=5.0,
            max_cool_down_seconds=20.0,
            half_open_probes=probes,
            probe_lease_seconds=LEASE,
            failure_threshold=in_a_row,
        )
        self.breaker = CircuitBreaker("submit", self.policy, lambda: self.now)
        self.open: list[tuple[Permit, int]] = []
        """Permits that have not reported, with the breaker's generation when they were given."""
        self.errors: list[float] = []
        """Every failure that counted since the errors were last forgotten: brute force."""
        self.in_a_row = 0
        self.opened_at = 0.0
        self.reopenings = 0

    # ---- what happens -------------------------------------------------------------------------------------

    @rule(seconds=st.floats(0.0, 30.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def acquire(self) -> None:
        before = self.breaker.state
        may = self.breaker.allows()
        try:
            permit = self.breaker.acquire()
        except CircuitOpen as error:
            assert not may
            assert before is not CircuitState.CLOSED
            assert (error.retry_after is None) == (before is CircuitState.FORCED_OPEN)
            return
        assert may
        if before is CircuitState.OPEN:
            assert self.now - self.opened_at >= self.policy.cool_down(self.reopenings)
        self.open.append((permit, self.breaker._generation))

    def _take(self, index: int) -> tuple[Permit, bool]:
        permit, generation = self.open.pop(index % len(self.open))
        stale = generation != self.breaker._generation or (permit.is_probe and permit not in self.breaker._probes)
        return permit, stale

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 100), outcome=st.sampled_from(["success", "failure", "neutral"]))
    def report(self, index: int, outcome: str) -> None:
        permit, stale = self._take(index)
        before = self._everything()
        state = self.breaker.state
        getattr(permit, outcome)()
        if stale:
            assert self._everything() == before, "a result of an earlier time changed something"
            return
        if state is CircuitState.CLOSED and outcome == "failure":
            self._expect_failure()
        elif state is CircuitState.CLOSED and outcome == "success":
            self.in_a_row = 0
        elif state is CircuitState.HALF_OPEN and outcome == "failure":
            assert self.breaker.state is CircuitState.OPEN
            self.reopenings += 1
            self._note_opening()
        elif state is CircuitState.HALF_OPEN and self.breaker.state is CircuitState.CLOSED:
            self.errors.clear()
            self.in_a_row = self.reopenings = 0
        getattr(permit, outcome)()  # a second report of the same attempt counts for nothing

    def _expect_failure(self) -> None:
        self.errors.append(self.now)
        self.in_a_row += 1
        recent = [at for at in self.errors if self.now - at < self.policy.window_seconds]
        limit = self.policy.failure_threshold
        must_open = len(recent) >= self.policy.errors_to_open or (limit is not None and self.in_a_row >= limit)
        assert (self.breaker.state is CircuitState.OPEN) == must_open, f"{len(recent)} errors in the window"
        if must_open:
            self._note_opening()

    def _note_opening(self) -> None:
        self.opened_at = self.now
        self.in_a_row = 0

    @rule()
    def an_operator_forces_it_open(self) -> None:
        self.breaker.force_open("drill")
        self.in_a_row = 0

    @rule()
    def an_operator_resets_it(self) -> None:
        self.breaker.reset()
        self.errors.clear()
        self.in_a_row = self.reopenings = 0

    # ---- what always holds --------------------------------------------------------------------------------

    def _everything(self) -> object:
        breaker = self.breaker
        return breaker.state, breaker._generation, list(breaker._errors), dict(breaker._probes), breaker.allows()

    @invariant()
    def probes_are_bounded(self) -> None:
        if hasattr(self, "breaker"):
            living = [at for at in self.breaker._probes.values() if at + LEASE > self.now]
            assert len(living) <= self.policy.half_open_probes

    @invariant()
    def only_an_operator_keeps_it_shut_for_ever(self) -> None:
        if hasattr(self, "breaker") and self.breaker.state is not CircuitState.FORCED_OPEN:
            now, self.now = self.now, self.now + 1_000.0
            assert self.breaker.allows(), "a permit has leaked"
            self.now = now


TestBreaker = Model.TestCase


@given(callers=st.integers(2, 200), probes=st.integers(1, 5))
def test_a_crowd_after_the_cool_down_makes_no_more_probes_than_configured(callers: int, probes: int) -> None:
    """Everybody else is refused until the probes have answered; then all may pass."""
    now = [0.0]
    policy = BreakerPolicy(failure_threshold=1, cool_down_seconds=10, half_open_probes=probes)
    breaker = CircuitBreaker("submit", policy, lambda: now[0])
    breaker.acquire().failure()
    now[0] = 11.0
    given_out = []
    for _ in range(callers):
        try:
            given_out.append(breaker.acquire())
        except CircuitOpen:
            continue
    assert len(given_out) == min(callers, probes)
    for permit in given_out:
        permit.success()
    if callers >= probes:
        assert breaker.state is CircuitState.CLOSED
        assert all(not breaker.acquire().is_probe for _ in range(callers))


@given(times=st.lists(st.floats(0, 1_000), min_size=1, max_size=60), errors=st.integers(1, 10))
def test_the_window_is_exact(times: list[float], errors: int) -> None:
    """It opens at the very failure at which so many lie within the window, and never before."""
    now = [0.0]
    policy = BreakerPolicy(error_threshold=errors, warning_threshold=1, window_seconds=60)
    breaker = CircuitBreaker("submit", policy, lambda: now[0])
    seen: list[float] = []
    for at in sorted(times):
        now[0] = at
        breaker.acquire().failure()
        seen.append(at)
        expected = sum(1 for earlier in seen if at - earlier < 60) >= errors
        assert (breaker.state is CircuitState.OPEN) == expected
        if expected:
            return
