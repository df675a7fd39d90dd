"""Settings are validated whole; a bad one is named, and secrets are never shown."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from services.mcp.order_execution.config import RETRYABLE, Settings, load_settings
from services.mcp.order_execution.errors import ConfigurationError, ErrorCategory

ROOT = Path(__file__).resolve().parents[2]


def load(config: Any = None, **variables: str) -> Settings:
    environ = {name if "API_" in name else f"ORDER_EXECUTION_{name}": value for name, value in variables.items()}
    return load_settings(config, environ=environ, env_file=None)


def refusal(config: Any = None, **variables: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(config, **variables)
    return caught.value


def test_nothing_needs_to_be_configured() -> None:
    """The paper exchange and a SQLite journal, with the design's defaults."""
    settings = load()
    assert (settings.gateway.name, settings.gateway.timeout_seconds, settings.gateway.rate_limit_share) == (
        "paper",
        15,
        0.8,
    )
    assert settings.journal.url == "sqlite:///data/order_execution.db"
    retry, breaker = settings.retry, settings.circuit_breaker
    assert (retry.max_retries, retry.backoff_base, retry.initial_delay, retry.max_delay) == (3, 2, 1, 30)
    assert set(retry.retryable_errors) == set(RETRYABLE)
    assert (breaker.error_threshold, breaker.warning_threshold, breaker.window_size_minutes) == (30, 10, 5)
    assert (breaker.cool_down_seconds, breaker.max_cool_down_seconds) == (60, 600)
    assert settings.transaction_log.path == Path("data/transactions")
    assert settings == load({}) == load({"retry": None, "gateway": {"paper": None}})


def test_the_users_configuration_is_taken() -> None:
    """The seed's example, word for word."""
    settings = load(
        {
            "retry": {"max_retries": 5, "backoff_base": 1.5, "initial_delay": 0.5, "max_delay": 10.0},
            "circuit_breaker": {
                "error_threshold": 20,
                "warning_threshold": 5,
                "window_size_minutes": 5,
                "cool_down_seconds": 30,
            },
        }
    )
    assert (settings.retry.max_retries, settings.circuit_breaker.warning_threshold) == (5, 5)
    assert settings.circuit_breaker.max_cool_down_seconds == 300


def test_mapping_over_environment_over_dotenv_over_toml(tmp_path: Path) -> None:
    """Key by key, not section by section."""
    toml, dotenv = tmp_path / "c.toml", tmp_path / ".env"
    toml.write_text(
        "[retry]\nmax_retries = 1\ninitial_delay = 1.5\nbackoff_base = 1.5\nmax_delay = 1.5\n", encoding="utf-8"
    )
    dotenv.write_text(
        "ORDER_EXECUTION_RETRY__MAX_RETRIES=2\nORDER_EXECUTION_RETRY__BACKOFF_BASE=2\n"
        "ORDER_EXECUTION_RETRY__MAX_DELAY=22\n",
        encoding="utf-8",
    )
    environ = {"ORDER_EXECUTION_RETRY__MAX_RETRIES": "3", "ORDER_EXECUTION_RETRY__MAX_DELAY": "33"}
    retry = load_settings({"retry": {"max_retries": 4}}, environ=environ, env_file=dotenv, toml_file=toml).retry
    assert (retry.max_retries, retry.max_delay, retry.backoff_base, retry.initial_delay) == (4, 33, 2, 1.5)


def test_the_process_environment_is_read_only_when_none_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passing one replaces it."""
    monkeypatch.setenv("ORDER_EXECUTION_RETRY__MAX_RETRIES", "7")
    assert load_settings(env_file=None).retry.max_retries == 7
    assert load().retry.max_retries == 3


@pytest.mark.parametrize(
    ("config", "field", "expected"),
    [
        ({"retry": {"max_retries": -1}}, "retry.max_retries", "greater than or equal to 0, got -1"),
        ({"retry": {"max_retries": True}}, "retry.max_retries", "a number, not true or false"),
        ({"retry": {"max_retries": 1.5}}, "retry.max_retries", "integer"),
        ({"retry": {"backoff_base": 0.5}}, "retry.backoff_base", "greater than or equal to 1"),
        ({"retry": {"initial_delay": float("nan")}}, "retry.initial_delay", "finite"),
        ({"retry": {"initial_delay": "inf"}}, "retry.initial_delay", "finite"),
        ({"retry": {"initial_delay": 5, "max_delay": 2}}, "retry.max_delay", r"at least initial_delay \(5\)"),
        ({"retry": {"retryable_errors": ["tmeout"]}}, "retry.retryable_errors.0", "one of connection, timeout"),
        ({"retry": {"retryable_errors": ["circuit_open"]}}, "retry.retryable_errors.0", "got 'circuit_open'"),
        ({"retry": {"max_retry": 1}}, "retry.max_retry", "did you mean retry.max_retries"),
        ({"retry": 5}, "retry", "table of settings, got int"),
        ({"circuit_breaker": "on"}, "circuit_breaker", "table of settings, got str"),
        ({"retries": {}}, "retries", "did you mean retry"),
        ({"max_retries": 5}, "max_retries", "did you mean retry.max_retries"),
        ({"_env_file": "x"}, "_env_file", "no such setting"),
        ({5: {}}, "5", "no such setting"),
        ({"circuit_breaker": {"error_threshold": 0}}, "circuit_breaker.error_threshold", "greater than 0"),
        (
            {"circuit_breaker": {"error_threshold": 5, "warning_threshold": 5}},
            "circuit_breaker.warning_threshold",
            r"less than error_threshold \(5\)",
        ),
        (
            {"circuit_breaker": {"cool_down_seconds": 50, "max_cool_down_seconds": 40}},
            "circuit_breaker.max_cool_down_seconds",
            "at least cool_down_seconds",
        ),
        ({"gateway": {"name": "kraken"}}, "gateway.name", "'paper', 'nobitex' or 'ccxt', got 'kraken'"),
        ({"gateway": {"name": "ccxt"}}, "gateway.exchange", "ccxt's id"),
        ({"gateway": {"timeout_seconds": 0}}, "gateway.timeout_seconds", "greater than 0"),
        ({"gateway": {"rate_limit_share": 1.1}}, "gateway.rate_limit_share", "less than or equal to 1"),
        ({"gateway": {"name": "nobitex", "base_url": "nowhere"}}, "gateway.base_url", "http"),
        ({"gateway": {"name": "nobitex", "base_url": "http://127.0.0.1:99999"}}, "gateway.base_url", "http"),
        ({"gateway": {"name": "nobitex", "base_url": "http://[::1"}}, "gateway.base_url", "http"),
        (
            {"gateway": {"name": "nobitex", "base_url": ""}},
            "gateway.base_url",
            "None stands for the exchange's own",
        ),
        ({"gateway": {"exchange": "binance"}}, "gateway.name", "nobitex or ccxt beside exchange"),
        ({"gateway": {"api_key": "k"}}, "gateway.name", "nobitex or ccxt beside api_key"),
        ({"gateway": {"sandbox": True}}, "gateway.name", "nobitex or ccxt beside sandbox"),
        ({"transaction_log": {"path": ""}}, "transaction_log.path", "a path"),
        ({"gateway": {"paper": {"faults": {"lost_reply": 2}}}}, "gateway.paper.faults.lost_reply", "or equal to 1"),
        ({"journal": {"max_lag_seconds": 0}}, "journal.max_lag_seconds", "greater than 0"),
        ({"risk": {"max_order_notional": "Infinity"}}, "risk.max_order_notional", "finite"),
        ({"risk": {"max_position": {"BTC": -1}}}, "risk.max_position.BTC", "or equal to 0"),
        (
            {"risk": {"max_position": {"btc-usdt": 1}}},
            "risk.max_position.btc-usdt",
            "base currency such as BTC, got",
        ),
        (
            {"risk": {"max_position": {"BTC/USDT": 1}}},
            "risk.max_position.BTC/USDT",
            "base currency such as BTC, got",
        ),
        ({"risk": {"max_position": {"": 1}}}, "risk.max_position.", "base currency such as BTC, got"),
        (
            {"risk": {"max_position": {"btc": 1, "BTC ": 2}}},
            "risk.max_position",
            "each currency once, BTC is given twice",
        ),
        ({"risk": {"max_position": 5}}, "risk.max_position", "table of settings, got int"),
        ({"confirmation": {"wait_for": "filled"}}, "confirmation.wait_for", "'accepted', 'visible' or 'final'"),
        ({"alerts": {"min_level": "loud"}}, "alerts.min_level", "'info', 'warning'"),
    ],
)
def test_a_bad_setting_is_refused_by_name(config: Any, field: str, expected: str) -> None:
    """The field by its dotted path, what was expected and what was got."""
    error = refusal(config)
    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    assert re.search(expected, str(error))


def test_a_configuration_that_is_no_mapping_is_refused() -> None:
    """It says what it got."""
    assert "expected a mapping, got list" in str(refusal([]))


@pytest.mark.parametrize(("threshold", "warning"), [(5, 5 / 3), ("6", 2.0), (30, 10.0), (300, 10.0)])
def test_the_default_warning_follows_a_low_threshold(threshold: object, warning: float) -> None:
    """A user who gives one number need not know the default of another."""
    assert load({"circuit_breaker": {"error_threshold": threshold}}).circuit_breaker.warning_threshold == warning


@pytest.mark.parametrize("delay", [45, "45"])
def test_the_default_longest_delay_follows_a_longer_first_one(delay: object) -> None:
    """The same for the delays of retries."""
    assert load({"retry": {"initial_delay": delay}}).retry.max_delay == 45


def test_the_longest_cool_down_is_ten_times_the_first() -> None:
    """Unless it is given; None means the default."""
    section = {"cool_down_seconds": 7, "max_cool_down_seconds": None}
    assert load({"circuit_breaker": section}).circuit_breaker.max_cool_down_seconds == 70
    assert load({"circuit_breaker": {"max_cool_down_seconds": 80}}).circuit_breaker.max_cool_down_seconds == 80


def test_derived_defaults_do_not_hide_what_is_wrong() -> None:
    """A threshold that is no number is named itself."""
    assert refusal({"circuit_breaker": {"error_threshold": "many"}}).field == "circuit_breaker.error_threshold"
    assert refusal({"circuit_breaker": {"cool_down_seconds": []}}).field == "circuit_breaker.cool_down_seconds"


def test_errors_are_named_in_any_case() -> None:
    """As a list or with commas."""
    expected = (ErrorCategory.TIMEOUT, ErrorCategory.RESET)
    for names in (["Timeout", ErrorCategory.RESET], "TIMEOUT, reset"):
        assert load({"retry": {"retryable_errors": names}}).retry.retryable_errors == expected


def test_a_configuration_for_an_exchange_may_be_tried_on_paper() -> None:
    """Where the paper exchange is asked for by name, by whichever source."""
    section = {"exchange": "binance", "sandbox": True, "api_key": "k"}
    assert load({"gateway": {**section, "name": "paper"}}).gateway.name == "paper"
    assert load({"gateway": section}, GATEWAY__NAME="paper").gateway.name == "paper"


def test_a_blank_variable_is_none_at_all() -> None:
    """As for every setting that is read from the environment."""
    assert load(GATEWAY__BASE_URL="", GATEWAY__NAME="nobitex").gateway.base_url is None


def test_money_is_exact_and_numbers_may_be_text() -> None:
    """A float is read through str()."""
    risk = load({"risk": {"max_order_notional": 0.1, "max_position": {"btc": "2.50"}, "max_open_orders": "3"}}).risk
    assert risk.max_order_notional == Decimal("0.1")
    assert risk.max_position == {"BTC": Decimal("2.50")}
    assert risk.max_open_orders == 3
    assert load(RISK__MAX_POSITION__BTC="1").risk.max_position == {"BTC": Decimal(1)}


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite:////var/a.db", "postgresql://u:pw@h/db", "postgres://h/db"]
)
def test_journals_are_named_by_address(url: str) -> None:
    """A relative path, an absolute one, a server."""
    assert load({"journal": {"url": url}}).journal.url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite://:memory:",
        "sqlite:///:memory:",
        "sqlite:///data/",
        "sqlite:///a.db?timeout=5",
        "mysql://root:hunter2@h/db",
        "postgresql://",
    ],
)
def test_an_address_that_keeps_no_journal_is_refused(url: str) -> None:
    """A journal in memory would be no promise; a password in it is not shown."""
    error = refusal({"journal": {"url": url}})
    assert error.field == "journal.url"
    assert "hunter2" not in str(error)


def test_exchange_keys_come_from_the_exchanges_variables() -> None:
    """Unless a setting gives them; an empty one counts as none."""
    found = {"NOBITEX_API_KEY": "env-key", "NOBITEX_API_SECRET": "env-secret"}
    gateway = load({"gateway": {"name": "nobitex", "api_key": None, "api_secret": ""}}, **found).gateway
    assert gateway.api_key is not None
    assert gateway.api_secret is not None
    assert (gateway.api_key.get_secret_value(), gateway.api_secret.get_secret_value()) == ("env-key", "env-secret")
    given = load({"gateway": {"name": "nobitex", "api_key": "given"}}, **found).gateway
    assert given.api_key is not None
    assert given.api_key.get_secret_value() == "given"
    assert load({"gateway": {"api_key": ""}}, **found).gateway.api_key is None
    assert refusal({"gateway": 5}, **found).field == "gateway"


def test_exchange_keys_may_stand_in_dotenv(tmp_path: Path) -> None:
    """Which is where people keep them."""
    file = tmp_path / ".env"
    file.write_text("BINANCE_API_KEY=abc\n", encoding="utf-8")
    settings = load_settings({"gateway": {"name": "ccxt", "exchange": "binance"}}, environ={}, env_file=file)
    assert settings.secrets() == ("abc",)


def test_secrets_are_told_to_redaction_and_to_nobody_else() -> None:
    """Keys, addresses of alerts, and passwords within addresses, as written and as meant."""
    settings = load(
        {
            "gateway": {
                "name": "nobitex",
                "api_key": "KEY",
                "api_secret": "SECRET",
                "base_url": "https://me:proxypw@proxy",
            },
            "journal": {"url": "postgresql://me:p%40ss@h/db"},
            "alerts": {"urls": "tgram://TOKEN/a,b, mailto://x"},
        }
    )
    secrets = ("KEY", "SECRET", "tgram://TOKEN/a,b", "mailto://x", "p%40ss", "p@ss", "proxypw")
    assert settings.secrets() == secrets
    shown = repr(settings) + str(settings)
    assert [secret for secret in secrets if secret in shown.replace("'api_key'", "")] == []
    assert "postgresql://me:***@h/db" in shown
    assert load().secrets() == ()


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        ({"gateway": {"api_key": ["hunter2"]}}, {}),
        ({"gateway": {"api_secret": {"a": "hunter2"}}}, {}),
        ({"gateway": {"api_keyy": "hunter2"}}, {}),
        ({"alerts": {"urls": [{"hunter2": 1}]}}, {}),
        ({"alerts": "tgram://hunter2"}, {}),
        ({"gateway": {"base_url": "x://a:hunter2@b"}}, {}),
        ({}, {"GATEWAY": '{"api_key": "hunter2"'}),
    ],
)
def test_a_wrong_secret_is_not_shown(config: Any, variables: dict[str, str]) -> None:
    """Not even when it stands in the wrong place."""
    assert "hunter2" not in str(refusal(config, **variables))


def test_settings_cannot_be_changed() -> None:
    """What is in force was validated whole."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.retry.max_retries = 5
    with pytest.raises(ValidationError):
        settings.retry = settings.retry


def test_any_mapping_will_do() -> None:
    """Frozen ones too."""
    assert load(MappingProxyType({"retry": MappingProxyType({"max_retries": 9})})).retry.max_retries == 9


def test_reading_settings_imports_nothing_heavy() -> None:
    """No HTTP client, scheduler, exchange library or alert library."""
    script = (
        "import sys; from services.mcp.order_execution import config\n"
        "print([n for n in ('aiohttp', 'apscheduler', 'ccxt', 'apprise', 'rich') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
