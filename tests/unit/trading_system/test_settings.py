"""The engine's configuration: every key of the seed means something to the core."""

from __future__ import annotations

from typing import Any

import pytest

from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.errors import ConfigurationError
from trading_system.execution.settings import core_config, load_engine_settings

SEED: dict[str, Any] = {
    "execution_engine": {
        "exchange_adapter": "nobitex",
        "max_retries": 5,
        "retry_delay": 2.5,
        "order_update_interval": 7.0,
        "transaction_log_path": "logs/here",
        "circuit_breaker_enabled": True,
        "failure_threshold": 4,
        "circuit_open_timeout": 120,
    },
    "exchange": {"api_key": "your_api_key", "api_secret": "your_api_secret", "timeout": 11, "max_retries": 2},
}


def test_every_key_of_the_seed_reaches_the_core() -> None:
    """With its meaning."""
    core = load_settings(core_config(load_engine_settings(SEED)))
    assert core.gateway.name == "nobitex"
    assert core.gateway.api_key is not None
    assert core.gateway.api_key.get_secret_value() == "your_api_key"
    assert (core.gateway.timeout_seconds, core.gateway.read_retries) == (11, 2)
    assert (core.retry.max_retries, core.retry.initial_delay) == (5, 2.5)
    assert core.confirmation.poll_interval_seconds == 7
    assert str(core.transaction_log.path) == "logs/here"
    breaker = core.circuit_breaker
    assert (breaker.enabled, breaker.failure_threshold) == (True, 4)
    assert (breaker.cool_down_seconds, breaker.max_cool_down_seconds) == (120, 120)


def test_the_mock_adapter_is_the_paper_exchange() -> None:
    """And needs no keys; missing ones from the environment are None."""
    given = {"execution_engine": {"exchange_adapter": "mock"}, "exchange": {"api_key": None, "api_secret": None}}
    assert load_settings(core_config(load_engine_settings(given))).gateway.name == "paper"


def test_everything_else_of_the_core_can_be_said_too() -> None:
    """Over what the engine's own keys mean."""
    core = {"retry": {"max_retries": 9}, "gateway": {"settle_seconds": 3}}
    settings = load_settings(core_config(load_engine_settings({**SEED, "core": core})))
    assert (settings.retry.max_retries, settings.retry.initial_delay) == (9, 2.5)
    assert settings.gateway.settle_seconds == 3
    risk = {"risk": {"max_order_notional": "1000", "max_position": {"BTC": "2"}}}
    limited = load_settings(core_config(load_engine_settings({**SEED, **risk})))
    assert limited.risk.max_order_notional == 1_000
    assert limited.risk.max_position == {"BTC": 2}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"execution_engine": {"exchange_adapter": "binance"}}, "execution_engine.exchange_adapter"),
        ({"execution_engine": {"max_retries": -1}}, "execution_engine.max_retries"),
        ({"execution_engine": {"max_retrys": 1}}, "execution_engine.max_retrys"),
        ({"exchange": {"timeout": 0}}, "exchange.timeout"),
        ({"exchnage": {}}, "exchnage"),
    ],
)
def test_a_bad_key_is_named(config: dict[str, Any], field: str) -> None:
    """And nothing of a secret shows."""
    secret = {"exchange": {"api_key": "TOP-SECRET", **config.get("exchange", {})}}
    with pytest.raises(ConfigurationError) as caught:
        load_engine_settings({**config, **secret} if "exchange" in config else config)
    assert caught.value.field == field
    assert "TOP-SECRET" not in str(caught.value)


def test_a_configuration_is_a_mapping() -> None:
    """Nothing at all is one too."""
    assert load_engine_settings(None).execution_engine.max_retries == 3
    with pytest.raises(ConfigurationError, match="expected a mapping, got list"):
        load_engine_settings([])  # type: ignore[arg-type]
