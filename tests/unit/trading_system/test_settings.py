"""The engine's configuration: every key of the seed means something to the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.errors import ConfigurationError
from trading_system.execution.settings import core_config, engine_words, load_engine_settings

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
    gateway = load_settings(core_config(load_engine_settings(given))).gateway
    assert (gateway.name, gateway.paper.path) == ("paper", Path("data/execution_engine_paper.db"))


def test_each_journal_has_a_paper_exchange_of_its_own() -> None:
    """One that is shared holds orders that the journal knows nothing of; who wants that says so."""
    given: dict[str, Any] = {"execution_engine": {"exchange_adapter": "mock", "journal_path": "here/mine.db"}}
    assert core_config(load_engine_settings(given))["gateway"]["paper"]["path"] == "here/mine_paper.db"
    given["core"] = {"gateway": {"paper": {"path": "shared.db"}}}
    assert core_config(load_engine_settings(given))["gateway"]["paper"]["path"] == "shared.db"


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
        ({"execution_engine": {"max_retries": True}}, "execution_engine.max_retries"),
        ({"execution_engine": {"retry_delay": True}}, "execution_engine.retry_delay"),
        ({"execution_engine": {"positions_path": ""}}, "execution_engine.positions_path"),
        ({"execution_engine": {"transaction_log_path": " "}}, "execution_engine.transaction_log_path"),
        ({"execution_engine": {"journal_path": ""}}, "execution_engine.journal_path"),
        ({"execution_engine": {"journal_path": "a?b#c.db"}}, "execution_engine.journal_path"),
        ({"execution_engine": {"journal_path": "data/"}}, "execution_engine.journal_path"),
        ({"execution_engine": 5}, "execution_engine"),
        ({"exchange": {"base_url": ""}}, "exchange.base_url"),
        ({"risk": {"max_position": {"btc-usdt": "0.001"}}}, "risk.max_position.btc-usdt"),
        ({"risk": {"max_position": {"BTC/USDT": "0.001"}}}, "risk.max_position.BTC/USDT"),
        ({"risk": {"max_position": {"btcusdt": "0.001"}}}, "risk.max_position"),
        ({"risk": {"max_position": {"": "1"}}}, "risk.max_position."),
        ({"risk": {"max_position": {"BTC": "-1"}}}, "risk.max_position.BTC"),
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


def test_a_key_that_is_not_there_is_answered_with_what_may_be_meant() -> None:
    """In words of ours, not of the library that reads it."""
    with pytest.raises(ConfigurationError) as caught:
        load_engine_settings({"excution_engine": {}})
    assert str(caught.value) == "excution_engine: there is no such setting; did you mean execution_engine?"


def test_a_limit_is_on_a_currency_however_it_is_written() -> None:
    """A name that ends like a quote currency, but has no room for a base, is a currency of its own."""
    limits = load_engine_settings({"risk": {"max_position": {"btc": "2", "USDT": 1, "wbtc": 3}}}).risk.max_position
    assert limits == {"BTC": 2, "USDT": 1, "WBTC": 3}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"exchange": {"base_url": "x"}}, "exchange.base_url"),
        ({"core": {"gateway": {"base_url": "x"}}}, "core.gateway.base_url"),
        ({"core": {"journal": {"url": ""}}}, "core.journal.url"),
        ({"core": {"nope": 1}}, "core.nope"),
        ({"core": {"retry": 5}}, "core.retry"),
    ],
)
def test_what_the_core_refuses_is_told_under_the_key_that_was_given(config: dict[str, Any], field: str) -> None:
    """The user of the engine never wrote the core's."""
    settings = load_engine_settings(config)
    with pytest.raises(ConfigurationError) as caught, engine_words(settings):
        load_settings(core_config(settings), environ={}, env_file=None)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_what_has_no_key_of_ours_is_told_as_it_is() -> None:
    """A variable of the environment, say."""
    with pytest.raises(ConfigurationError) as caught, engine_words(load_engine_settings(None)):
        raise ConfigurationError("environment variable X: there is no such setting", field="X")
    assert caught.value.field == "X"


def test_a_configuration_is_a_mapping() -> None:
    """Nothing at all is one too."""
    assert load_engine_settings(None).execution_engine.max_retries == 3
    with pytest.raises(ConfigurationError, match="expected a mapping, got list"):
        load_engine_settings([])  # type: ignore[arg-type]
