"""What retries, circuits, limits and rates go by, as the settings say."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.mcp.order_execution import ConfigurationError
from services.mcp.order_execution.config import Settings, load_settings
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.policies import (
    LOOKING_COOL_DOWN_SECONDS,
    breaker_policy,
    check_policies,
    make_limiter,
    retry_policy,
    risk_limits,
)
from services.mcp.order_execution.wire import Lane
from tests.fakes import FOREVER, FakeExchange
from tests.virtual_time import VirtualClock, run_virtual


def settings(**sections: Any) -> Settings:
    """Settings with some sections given."""
    return load_settings(sections)


def test_retries_are_as_configured() -> None:
    """Each setting in its place."""
    section = settings(
        retry={
            "max_retries": 7,
            "backoff_base": 3.0,
            "initial_delay": 0.5,
            "max_delay": 12.0,
            "retryable_errors": ["timeout"],
        }
    ).retry
    policy = retry_policy(section)
    assert (policy.max_retries, policy.backoff_base, policy.initial_delay, policy.max_delay) == (7, 3.0, 0.5, 12.0)
    assert policy.retries(ErrorCategory.TIMEOUT)
    assert not policy.retries(ErrorCategory.CONNECTION)


def test_a_circuit_is_as_configured() -> None:
    """Minutes become seconds, and a probe may take as long as an attempt, and a little more."""
    policy = breaker_policy(
        settings(
            circuit_breaker={
                "error_threshold": 12,
                "warning_threshold": 4,
                "window_size_minutes": 2,
                "cool_down_seconds": 90,
                "max_cool_down_seconds": 400,
                "half_open_probes": 3,
                "failure_threshold": 9,
                "enabled": False,
            },
            gateway={"timeout_seconds": 8},
        )
    )
    assert (policy.error_threshold, policy.warning_threshold, policy.window_seconds) == (12, 4, 120)
    assert (policy.cool_down_seconds, policy.max_cool_down_seconds) == (90, 400)
    assert (policy.half_open_probes, policy.failure_threshold, policy.enabled) == (3, 9, False)
    assert policy.probe_lease_seconds > 8


@pytest.mark.parametrize("lane", [Lane.CANCEL, Lane.QUERY])
def test_cancels_and_queries_get_through_soon_after_the_exchange_is_back(lane: Lane) -> None:
    """Only the way of new orders stays shut for as long as is configured, and longer with each reopening."""
    long = settings(circuit_breaker={"cool_down_seconds": 60})
    assert breaker_policy(long, Lane.SUBMIT).cool_down(5) == 600
    assert breaker_policy(long, lane).cool_down(0) == LOOKING_COOL_DOWN_SECONDS
    assert breaker_policy(long, lane).cool_down(5) == LOOKING_COOL_DOWN_SECONDS
    short = settings(circuit_breaker={"cool_down_seconds": 3})
    assert breaker_policy(short, lane).cool_down(5) == 3


def test_limits_are_as_configured() -> None:
    """Each in its place, and none unless given."""
    given = {
        "max_order_notional": "1000",
        "max_open_orders": 5,
        "max_orders_per_minute": 6,
        "max_position": {"BTC": "0.5"},
        "price_collar_percent": "2.5",
    }
    limits = risk_limits(settings(risk=given).risk)
    assert limits.max_order_notional == Decimal(1000)
    assert (limits.max_open_orders, limits.max_orders_per_minute) == (5, 6)
    assert dict(limits.max_position) == {"BTC": Decimal("0.5")}
    assert limits.price_collar_percent == Decimal("2.5")
    none = risk_limits(settings().risk)
    assert (none.max_order_notional, none.max_open_orders, none.max_orders_per_minute) == (None, None, None)
    assert (dict(none.max_position), none.price_collar_percent) == ({}, None)


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({"retry": {"initial_delay": 9.0, "max_delay": 1.0}}, "max_delay"),
        ({"circuit_breaker": {"error_threshold": 1_000_000, "window_size_minutes": 1_440}}, "error_threshold"),
    ],
)
def test_settings_that_no_policy_can_be_made_of_are_refused(section: dict[str, Any], field: str) -> None:
    """Before they are in force, with the field named."""
    with pytest.raises(ConfigurationError, match=field):
        check_policies(settings(**section))


def test_settings_that_are_sound_come_back_as_they_are() -> None:
    """To be put in force."""
    sound = settings(retry={"max_retries": 1})
    assert check_policies(sound) is sound


def test_the_gateways_limits_are_shared() -> None:
    """Each lane has the gateway's own rate, of which this process takes its share; no limit where none is told."""

    async def main() -> None:
        clock = VirtualClock()
        traits = replace(
            FOREVER,
            order_requests_per_second=2.0,
            cancel_requests_per_second=10.0,
            read_requests_per_second=None,
            burst=1,
        )
        limiter = make_limiter(FakeExchange(clock, traits), settings(gateway={"rate_limit_share": 0.5}), clock)
        for lane, seconds in ((Lane.SUBMIT, 1.0), (Lane.CANCEL, 0.2), (Lane.QUERY, 0.0)):
            assert await limiter.acquire(lane)
            assert limiter.wait(lane) == pytest.approx(seconds)

    run_virtual(main)
