"""Documented limits: our share of each, in any window, and a back-off for the whole account."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.gateways.nobitex.limits import DOCUMENTED, EndpointLimits


@pytest.mark.parametrize("endpoint", DOCUMENTED)
def test_no_window_sees_more_than_our_share(endpoint: str) -> None:
    """Half an hour of asking as fast as it goes: at most 80 % of the documented limit in any window."""
    now = [0.0]
    limits = EndpointLimits(lambda: now[0], share=0.8)
    left: list[float] = []
    while now[0] < 1_800:
        wait = limits.take(endpoint)
        if wait:
            now[0] += wait
        else:
            left.append(now[0])
    count, seconds = DOCUMENTED[endpoint]
    for start, at in enumerate(left):
        within = sum(1 for later in left[start : start + count + 1] if later < at + seconds)
        assert within <= 0.8 * count
    assert len(left) >= 0.7 * count * 1_800 / seconds


def test_a_back_off_is_never_shortened() -> None:
    """The longest one counts, and endpoints without a limit obey it too."""
    now = [0.0]
    limits = EndpointLimits(lambda: now[0], share=0.8)
    limits.back_off(10.0)
    limits.back_off(2.0)
    assert limits.take("/users/profile") == 10.0
    now[0] = 10.0
    assert limits.take("/users/profile") == 0.0
