"""The job's configuration is validated whole, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.reconciliation_settings import load_job_settings, read_job_config


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_needs_to_be_configured() -> None:
    """Daily at midnight, UTC; a section given as None is its defaults."""
    settings = load_job_settings(None)
    assert (settings.schedule.interval, settings.schedule.time, settings.schedule.weekday) == (
        "daily",
        "00:00",
        "mon",
    )
    assert (settings.reporting.file, settings.reporting.history_days) == (Path("reconciliation_reports.json"), 30)
    assert (settings.run_on_start, settings.alerts.missing_orders, settings.alerts.mismatch_percentage) == (
        False,
        0,
        0,
    )
    assert load_job_settings({"executor": None, "schedule": None}) == settings == load_job_settings({})


def test_the_users_configuration_is_taken() -> None:
    """The seed's example, word for word."""
    settings = load_job_settings(
        {
            "executor": {"retry": {"max_retries": 3, "backoff_base": 2.0, "initial_delay": 1.0, "max_delay": 30.0}},
            "schedule": {"interval": "daily", "time": "00:00"},
            "reporting": {"file": "reconciliation_reports.json", "history_days": 30},
            "run_on_start": True,
        }
    )
    assert settings.run_on_start
    assert settings.executor["retry"]["max_retries"] == 3


@pytest.mark.parametrize(
    ("config", "field", "expected"),
    [
        ({"schedule": {"interval": "yearly"}}, "schedule.interval", "'hourly', 'daily' or 'weekly', got 'yearly'"),
        ({"schedule": {"time": "24:00"}}, "schedule.time", "'HH:MM', got '24:00'"),
        ({"schedule": {"time": "7:00"}}, "schedule.time", "'HH:MM'"),
        ({"schedule": {"time": 700}}, "schedule.time", "'HH:MM', got 700"),
        ({"schedule": {"weekday": "monday"}}, "schedule.weekday", "'mon', 'tue'"),
        ({"schedule": {"at": "07:00"}}, "schedule.at", "no such setting"),
        ({"reporting": {"history_days": 0}}, "reporting.history_days", "greater than or equal to 1"),
        ({"reporting": {"history_days": True}}, "reporting.history_days", "a number"),
        ({"alerts": {"mismatch_percentage": 101}}, "alerts.mismatch_percentage", "less than or equal to 100"),
        ({"alerts": {"extra_orders": -1}}, "alerts.extra_orders", "greater than or equal to 0"),
        ({"schedules": {}}, "schedules", "did you mean schedule"),
        ({5: {}}, "5", "no such setting"),
        ({"executor": "paper"}, "executor", "table of settings, got str"),
        ({"executor": {"retry": {"max_retries": -1}}}, "executor.retry.max_retries", "greater than or equal to 0"),
        ({"run_on_start": "perhaps"}, "run_on_start", "boolean"),
    ],
)
def test_a_bad_setting_is_refused_by_name(config: Any, field: str, expected: str) -> None:
    """The executor's section included."""
    with pytest.raises(ConfigurationError, match=expected) as caught:
        load_job_settings(config)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_a_configuration_that_is_no_mapping_is_refused() -> None:
    """It says what it got."""
    with pytest.raises(ConfigurationError, match="expected a mapping, got list"):
        load_job_settings([])  # type: ignore[arg-type]


def test_a_bad_variable_is_not_called_a_part_of_the_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the environment."""
    monkeypatch.setenv("ORDER_EXECUTION_RETRYS", "1")
    with pytest.raises(ConfigurationError, match=r"^environment variable ORDER_EXECUTION_RETRYS"):
        load_job_settings({})


def test_the_executors_keys_are_not_shown() -> None:
    """Neither here nor in what is derived of it."""
    assert "hunter2" not in repr(
        load_job_settings({"executor": {"gateway": {"name": "nobitex", "api_key": "hunter2"}}})
    )


def test_configuration_files_are_toml_or_json(empty_directory: Path) -> None:
    """TOML has times of its own, and no None."""
    toml, text = empty_directory / "job.toml", empty_directory / "job.json"
    toml.write_text('[schedule]\ntime = 07:30:00\n[executor.transaction_log]\npath = "none"\n')
    text.write_text('{"schedule": {"time": "07:30"}, "executor": {"transaction_log": {"path": null}}}')
    assert load_job_settings(read_job_config(toml)) == load_job_settings(read_job_config(text))
    assert load_job_settings(read_job_config(toml)).schedule.time == "07:30"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("job.toml", None, "No such file"),
        ("job.toml", b"schedule = [", "not valid TOML"),
        ("job.json", b"{", "not valid JSON"),
        ("job.json", b"\xff", "not valid JSON"),
        ("job.json", b"[]", "expected a table"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    empty_directory: Path, name: str, content: bytes | None, message: str
) -> None:
    """It names the file."""
    path = empty_directory / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{name}: .*{message}"):
        read_job_config(path)
