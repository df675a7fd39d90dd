"""Delays and budgets: within their bounds, whatever the policy and however long it goes on."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.retry import (
    POLL_SECONDS_MIN,
    Retryable,
    RetryBudget,
    RetryPolicy,
    poll_delay,
    run_with_retry,
)
from tests.virtual_time import VirtualClock, run_virtual

policies = st.builds(
    lambda initial, more, base, retries: RetryPolicy(
        max_retries=retries, backoff_base=base, initial_delay=initial, max_delay=initial + more
    ),
    st.floats(0, 100),
    st.floats(0, 1_000),
    st.floats(1, 100),
    st.integers(0, 8),
)
asked = st.one_of(st.none(), st.floats(-10, 10_000), st.just(math.nan))


@given(policy=policies, attempt=st.integers(0, 10**9), retry_after=asked, seed=st.integers(0, 2**32))
def test_a_delay_lies_between_what_the_exchange_asked_and_the_ceiling_above_it(
    policy: RetryPolicy, attempt: int, retry_after: float | None, seed: int
) -> None:
    """Never below Retry-After, never more than max_delay above it, finite for any number of attempts."""
    floor = retry_after if retry_after is not None and retry_after > 0 else 0.0
    delay = policy.delay(attempt, retry_after, Random(seed))
    assert floor <= delay <= floor + policy.max_delay
    assert 0 <= policy.ceiling(attempt) <= policy.max_delay
    poll = poll_delay(policy, attempt, Random(seed), retry_after)
    assert floor + POLL_SECONDS_MIN <= poll <= floor + max(policy.max_delay, POLL_SECONDS_MIN)


@given(policy=policies, attempt=st.integers(0, 40))
def test_ceilings_never_fall(policy: RetryPolicy, attempt: int) -> None:
    """Each further attempt may wait as long as the one before, or longer."""
    assert policy.ceiling(attempt + 1) >= policy.ceiling(attempt)


@given(
    capacity=st.floats(0, 50),
    per_success=st.floats(0, 2),
    steps=st.lists(st.booleans(), max_size=200),
)
def test_a_budget_is_never_overspent(capacity: float, per_success: float, steps: list[bool]) -> None:
    """What was spent is never more than the capacity and what successes gave back."""
    budget = RetryBudget(capacity, per_success=per_success)
    spent = successes = 0
    for spend in steps:
        if spend:
            before = budget.tokens
            taken = budget.try_spend()
            assert taken == (before >= 1)
            spent += taken
        else:
            budget.success()
            successes += 1
        assert 0 <= budget.tokens <= capacity + 0.001
    assert spent <= capacity + 0.001 + successes * (per_success + 0.001)


@given(
    policy=policies,
    failures=st.integers(0, 12),
    deadline=st.floats(0.1, 5_000),
    tokens=st.integers(0, 12),
    seconds=st.floats(0, 50),
)
def test_attempts_stay_within_retries_budget_and_deadline(
    policy: RetryPolicy, failures: int, deadline: float, tokens: int, seconds: float
) -> None:
    """The first attempt is always made; no retry begins at or after the deadline."""
    began: list[float] = []

    async def main() -> bool:
        import asyncio

        clock = VirtualClock()
        start = clock.monotonic()

        async def operation() -> str:
            began.append(clock.monotonic() - start)
            await asyncio.sleep(seconds)
            if len(began) <= failures:
                raise Retryable(ErrorCategory.CONNECTION)
            return "done"

        budget = RetryBudget(tokens)
        try:
            answer = await run_with_retry(operation, policy, budget, start + deadline, clock.monotonic, Random(1))
        except Retryable:
            return False
        return answer == "done"

    succeeded = run_virtual(main)
    assert 1 <= len(began) <= 1 + min(policy.max_retries, tokens)
    assert all(at < deadline for at in began[1:])
    assert succeeded == (len(began) > failures)
