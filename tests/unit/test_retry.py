"""Retries wait as they should, end when they must, and never outlive deadline, budget or cancellation."""

from __future__ import annotations

import ast
import asyncio
import gc
import logging
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.mcp.order_execution.retry as retry_module
from services.mcp.order_execution.errors import ConfigurationError, ErrorCategory
from services.mcp.order_execution.retry import (
    DEFAULT_RETRYABLE,
    NEVER_RETRIED,
    POLL_SECONDS_MIN,
    Retryable,
    RetryBudget,
    RetryPolicy,
    poll_delay,
    run_with_retry,
)
from tests.virtual_time import START, VirtualClock, run_virtual

CATEGORY = ErrorCategory
FAR = START + 1e6

policies = st.builds(
    lambda base, first, more: RetryPolicy(backoff_base=base, initial_delay=first, max_delay=first + more),
    st.floats(1, 10),
    st.floats(0, 100),
    st.floats(0, 1000),
)


class Highest(Random):
    """A source of randomness whose every draw is the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Script:
    """An operation that raises what it is told, one error per attempt, and then answers "done"."""

    def __init__(self, *errors: BaseException, takes: float = 0.0) -> None:
        self.errors = list(errors)
        self.takes = takes
        self.started: list[float] = []

    async def __call__(self) -> str:
        self.started.append(asyncio.get_running_loop().time() - START)
        if self.takes:
            await asyncio.sleep(self.takes)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def refused(category: ErrorCategory = CATEGORY.CONNECTION, retry_after: float | None = None) -> Retryable:
    return Retryable(category, "refused", retry_after)


async def run(
    script: Callable[[], Any],
    policy: RetryPolicy | None = None,
    *,
    budget: RetryBudget | None = None,
    deadline: float = FAR,
    on_retry: Callable[[int, float, Retryable], None] | None = None,
) -> Any:
    return await run_with_retry(
        script,
        policy or RetryPolicy(),
        budget or RetryBudget(),
        deadline,
        VirtualClock().monotonic,
        Highest(),
        on_retry=on_retry,
    )


# ---- the policy ------------------------------------------------------------------------------------------


@given(policy=policies, attempt=st.integers(0, 10**6), seed=st.integers(0, 99))
def test_a_delay_lies_between_zero_and_the_ceiling(policy: RetryPolicy, attempt: int, seed: int) -> None:
    """Whatever the attempt, without overflow, and never beyond max_delay."""
    delay = policy.delay(attempt, None, Random(seed))
    assert 0 <= delay <= policy.ceiling(attempt) <= policy.max_delay


@given(policy=policies, attempt=st.integers(0, 50), retry_after=st.floats(0.001, 1e6), seed=st.integers(0, 99))
def test_retry_after_is_a_floor_with_jitter_above_it(
    policy: RetryPolicy, attempt: int, retry_after: float, seed: int
) -> None:
    """Never earlier than the exchange asked, nor needlessly later."""
    delay = policy.delay(attempt, retry_after, Random(seed))
    assert retry_after <= delay <= retry_after + policy.ceiling(attempt)


@given(policy=policies, attempt=st.integers(0, 1000))
def test_the_ceiling_never_falls_from_one_attempt_to_the_next(policy: RetryPolicy, attempt: int) -> None:
    """Each retry may wait at least as long as the one before."""
    assert policy.ceiling(attempt) <= policy.ceiling(attempt + 1)


def test_the_ceiling_grows_by_the_base_up_to_the_maximum() -> None:
    """1, 2, 4, 8, 16, 30, 30."""
    policy = RetryPolicy()
    assert [policy.ceiling(attempt) for attempt in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert policy.ceiling(10**9) == 30
    assert RetryPolicy(initial_delay=0).ceiling(10**9) == 0


def test_full_jitter_uses_the_whole_range() -> None:
    """Callers that failed together do not return together."""
    rng = Random(1)
    delays = sorted(RetryPolicy().delay(3, None, rng) for _ in range(2_000))
    assert delays[0] < 0.1
    assert delays[-1] > 7.9
    assert 3.7 < sum(delays) / len(delays) < 4.3


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0, math.nan])
def test_a_senseless_retry_after_asks_for_nothing(retry_after: float | None) -> None:
    """It makes a delay neither negative nor NaN."""
    assert 0 <= RetryPolicy().delay(0, retry_after, Random(1)) <= 1


@given(policy=policies, attempt=st.integers(0, 10**6), seed=st.integers(0, 99))
def test_a_poll_never_spins_and_never_exceeds_the_ceiling(policy: RetryPolicy, attempt: int, seed: int) -> None:
    """Between half the ceiling and the ceiling, and never below the least pause."""
    ceiling = policy.ceiling(attempt)
    delay = poll_delay(policy, attempt, Random(seed))
    assert max(POLL_SECONDS_MIN, ceiling / 2) <= delay <= max(POLL_SECONDS_MIN, ceiling)


def test_a_poll_honours_retry_after_too() -> None:
    """As a floor."""
    assert poll_delay(RetryPolicy(), 0, Random(1), retry_after=60.0) >= 60.5


def test_what_is_retryable_can_be_chosen_except_for_what_never_is() -> None:
    """Every category stands on exactly one side."""
    assert {c for c in ErrorCategory if RetryPolicy().retries(c)} == DEFAULT_RETRYABLE
    assert {"circuit_open", "authentication", "cancelled", "internal"} == NEVER_RETRIED
    only = RetryPolicy(retryable_errors=frozenset({CATEGORY.TIMEOUT}))
    assert [c for c in ErrorCategory if only.retries(c)] == [CATEGORY.TIMEOUT]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_retries", -1),
        ("backoff_base", 0.5),
        ("backoff_base", math.inf),
        ("initial_delay", -1),
        ("initial_delay", math.nan),
        ("max_delay", 0.5),
        ("max_delay", math.inf),
        ("retryable_errors", frozenset({CATEGORY.TIMEOUT, CATEGORY.AUTHENTICATION})),
    ],
)
def test_a_policy_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    """The error names the setting."""
    values: dict[str, Any] = {field: value}
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**values)
    assert caught.value.field == f"retry.{field}"


# ---- the budget ------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 12))
def test_the_budget_stays_between_nothing_and_its_capacity(steps: list[bool], capacity: int) -> None:
    """And is exact: ten successes earn one retry."""
    budget, tenths = RetryBudget(capacity), capacity * 10
    for spend in steps:
        if spend:
            assert budget.try_spend() == (tenths >= 10)
            tenths -= 10 if tenths >= 10 else 0
        else:
            budget.success()
            tenths = min(capacity * 10, tenths + 1)
        assert budget.tokens == tenths / 10


@pytest.mark.parametrize("values", [{"capacity": -1}, {"capacity": math.inf}, {"per_success": -0.1}])
def test_a_senseless_budget_is_refused(values: dict[str, float]) -> None:
    """At configuration time."""
    with pytest.raises(ConfigurationError):
        RetryBudget(**values)


# ---- the loop --------------------------------------------------------------------------------------------


def test_it_retries_until_it_succeeds_and_reports_each_wait() -> None:
    """Attempts start after 0, 1 and 3 seconds, and the answer is handed on."""

    async def main() -> None:
        script, told = Script(refused(), refused(CATEGORY.TIMEOUT)), []
        answer = await run(script, on_retry=lambda *report: told.append(report))
        assert answer == "done"
        assert script.started == [0, 1, 3]
        assert [(n, delay, error.category) for n, delay, error in told] == [
            (0, 1, CATEGORY.CONNECTION),
            (1, 2, CATEGORY.TIMEOUT),
        ]

    run_virtual(main)


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_after_max_retries_the_last_error_is_raised(max_retries: int) -> None:
    """0 retries is one attempt, and not, as backoff would have it, any number."""

    async def main() -> None:
        errors = [refused() for _ in range(10)]
        script = Script(*errors)
        with pytest.raises(Retryable) as caught:
            await run(script, RetryPolicy(max_retries=max_retries))
        assert caught.value is errors[max_retries]
        assert len(script.started) == max_retries + 1

    run_virtual(main)


@pytest.mark.parametrize("category", sorted(NEVER_RETRIED))
def test_a_category_that_is_not_retryable_ends_at_once(category: ErrorCategory) -> None:
    """And costs the budget nothing."""

    async def main() -> None:
        script, budget = Script(refused(category)), RetryBudget()
        with pytest.raises(Retryable):
            await run(script, budget=budget)
        assert len(script.started) == 1
        assert budget.tokens == 10

    run_virtual(main)


def test_other_exceptions_pass_through_untouched() -> None:
    """A defect is not retried."""

    async def main() -> None:
        defect = ZeroDivisionError("defect")
        script = Script(refused(), defect)
        with pytest.raises(ZeroDivisionError) as caught:
            await run(script)
        assert caught.value is defect
        assert len(script.started) == 2

    run_virtual(main)


def test_the_exchanges_retry_after_is_waited_for() -> None:
    """As a floor, with the usual jitter on top, beyond max_delay if need be."""

    async def main() -> None:
        script = Script(refused(CATEGORY.RATE_LIMITED, 40.0))
        await run(script)
        assert script.started == [0, 41]

    run_virtual(main)


@pytest.mark.parametrize(("deadline", "attempts"), [(0.5, 1), (1.0, 1), (1.01, 2), (3.0, 2), (3.01, 3)])
def test_a_retry_whose_wait_would_reach_the_deadline_is_not_begun(deadline: float, attempts: int) -> None:
    """The error comes at once, not at the deadline, and no token is spent on it."""

    async def main() -> None:
        script, budget = Script(*[refused() for _ in range(9)]), RetryBudget()
        with pytest.raises(Retryable):
            await run(script, budget=budget, deadline=START + deadline)
        assert len(script.started) == attempts
        assert VirtualClock().monotonic() - START == script.started[-1]
        assert budget.tokens == 10 - (attempts - 1)

    run_virtual(main)


def test_an_endless_retry_after_ends_it_even_without_a_deadline() -> None:
    """An infinite wait reaches any deadline."""

    async def main() -> None:
        script = Script(refused(CATEGORY.MAINTENANCE, math.inf))
        with pytest.raises(Retryable):
            await run(script, deadline=math.inf)
        assert len(script.started) == 1

    run_virtual(main)


def test_a_retry_that_wakes_after_the_deadline_is_not_made() -> None:
    """A busy event loop may oversleep; the order's price is stale by then."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        error = refused()
        script = Script(error, refused())
        task = asyncio.ensure_future(run(script, deadline=START + 1.5))
        await asyncio.sleep(0.9)
        loop.virtual_now += 5  # the loop was blocked for 5 s
        with pytest.raises(Retryable) as caught:
            await task
        assert caught.value is error
        assert script.started == [0]

    run_virtual(main)


def test_without_budget_there_is_no_retry_and_successes_earn_it_back() -> None:
    """An outage is not answered with a flood; each run that succeeds gives a tenth."""

    async def main() -> None:
        budget = RetryBudget(2)
        script = Script(*[refused() for _ in range(9)])
        with pytest.raises(Retryable):
            await run(script, budget=budget)
        assert len(script.started) == 3
        for _ in range(9):
            await run(Script(), budget=budget)
        alone = Script(refused())
        with pytest.raises(Retryable):
            await run(alone, budget=budget)
        assert len(alone.started) == 1
        await run(Script(), budget=budget)
        assert await run(Script(refused()), budget=budget) == "done"
        assert budget.tokens == 0.1

    run_virtual(main)


@pytest.mark.parametrize("moment", [0.5, 1.5, 2.5])
def test_cancellation_passes_through_wherever_it_strikes(moment: float) -> None:
    """In an attempt, in the wait, in the next attempt: nothing is attempted after it."""

    async def main() -> None:
        script = Script(refused(), takes=1.0)
        budget = RetryBudget()
        task = asyncio.ensure_future(run(script, budget=budget))
        await asyncio.sleep(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        before = len(script.started)
        await asyncio.sleep(60)
        assert len(script.started) == before
        assert budget.tokens <= 10

    run_virtual(main)


def test_a_cancellation_that_an_operation_raises_is_not_retried() -> None:
    """CancelledError is no error of the exchange."""

    async def main() -> None:
        script = Script(asyncio.CancelledError())
        with pytest.raises(asyncio.CancelledError):
            await run(script)
        assert len(script.started) == 1

    run_virtual(main)


def test_a_raising_callback_does_not_take_the_place_of_the_retry(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the retry is made."""

    async def main() -> None:
        def broken(attempt: int, delay: float, error: Retryable) -> None:
            raise RuntimeError("callback defect")

        script = Script(refused())
        with caplog.at_level(logging.ERROR):
            assert await run(script, on_retry=broken) == "done"
        assert "the on_retry callback failed" in caplog.text

    run_virtual(main)


def test_runs_do_not_disturb_each_other_even_where_they_share_an_error_or_are_nested() -> None:
    """Each run counts its own retries, with its own deadline."""

    async def main() -> None:
        shared = refused()
        scripts = [Script(*[shared] * n) for n in range(4)]
        answers = await asyncio.gather(*(run(script) for script in scripts))
        assert answers == ["done"] * 4
        assert [script.started for script in scripts] == [[0], [0, 1], [0, 1, 3], [0, 1, 3, 7]]

        inner = Script(refused(), refused(), refused(), refused())

        async def outer() -> Any:
            return await run(inner, RetryPolicy(max_retries=1))

        assert await run(outer, RetryPolicy(max_retries=2)) == "done"
        assert len(inner.started) == 5

    run_virtual(main)


def test_a_finished_run_keeps_nothing_alive() -> None:
    """Neither the operation nor its errors hang in a reference cycle that only the collector finds."""

    async def main() -> None:
        script = Script(refused())
        gone = weakref.ref(script)
        gc.disable()
        try:
            await run(script)
            del script
            assert gone() is None
        finally:
            gc.enable()

    run_virtual(main)


def test_an_error_says_its_category_when_it_has_no_words() -> None:
    """A log line is never empty."""
    assert str(Retryable(CATEGORY.RESET)) == "reset"
    assert str(Retryable(CATEGORY.RESET, "cut")) == "cut"


def test_no_other_module_imports_backoff() -> None:
    """The package is confined, so that it can be replaced."""
    folder = Path(str(retry_module.__file__)).parent
    users = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "backoff" for name in names):
                users.add(path.name)
    assert users == {"retry.py"}
