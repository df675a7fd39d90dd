"""Settings → policies: what retries, circuits, limits and rates go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .circuit_breaker import BreakerPolicy
from .clock import Clock
from .gateways.base import Gateway
from .pretrade import RiskLimits
from .rate_limit import RateLimiter
from .retry import RetryBudget, RetryPolicy
from .wire import Lane

if TYPE_CHECKING:
    from .config import CircuitBreakerSettings, RetrySettings, RiskSettings, Settings

LOOKING_COOL_DOWN_SECONDS = 10.0
"""The longest that the circuits of cancels and queries stay open between two probes."""


def retry_policy(settings: RetrySettings) -> RetryPolicy:
    """Settings → policy."""
    return RetryPolicy(
        max_retries=settings.max_retries,
        backoff_base=settings.backoff_base,
        initial_delay=settings.initial_delay,
        max_delay=settings.max_delay,
        retryable_errors=frozenset(settings.retryable_errors),
    )


def breaker_policy(settings: Settings, lane: Lane = Lane.SUBMIT) -> BreakerPolicy:
    """Settings → policy of one lane.

    Only the way of new orders stays shut for as long as is configured, and longer with each reopening: cancels
    and queries must get through soon after the exchange is back.
    """
    section: CircuitBreakerSettings = settings.circuit_breaker
    first, longest = section.cool_down_seconds, section.max_cool_down_seconds
    if lane is not Lane.SUBMIT:
        first = longest = min(first, LOOKING_COOL_DOWN_SECONDS)
    return BreakerPolicy(
        error_threshold=section.error_threshold,
        warning_threshold=section.warning_threshold,
        window_seconds=section.window_size_minutes * 60,
        cool_down_seconds=first,
        max_cool_down_seconds=longest,
        half_open_probes=section.half_open_probes,
        probe_lease_seconds=settings.gateway.timeout_seconds + 5,
        failure_threshold=section.failure_threshold,
        enabled=section.enabled,
    )


def check_policies(settings: Settings) -> Settings:
    """Refuse settings that no policy can be made of, before they are in force. Raises ConfigurationError."""
    retry_policy(settings.retry)
    RetryBudget(settings.retry.budget_tokens)
    breaker_policy(settings)
    risk_limits(settings.risk)
    return settings


def risk_limits(settings: RiskSettings) -> RiskLimits:
    """Settings → limits."""
    return RiskLimits(
        max_order_notional=settings.max_order_notional,
        max_open_orders=settings.max_open_orders,
        max_orders_per_minute=settings.max_orders_per_minute,
        max_position=settings.max_position,
        price_collar_percent=settings.price_collar_percent,
    )


def make_limiter(gateway: Gateway, settings: Settings, clock: Clock) -> RateLimiter:
    """The gateway's documented limits, of which this process takes its share."""
    traits = gateway.traits
    return RateLimiter(
        clock.monotonic,
        {
            Lane.SUBMIT: (traits.order_requests_per_second, traits.burst),
            Lane.CANCEL: (traits.cancel_requests_per_second, traits.burst),
            Lane.QUERY: (traits.read_requests_per_second, traits.burst),
        },
        share=settings.gateway.rate_limit_share,
    )
