"""The reconciliation job's configuration."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .config import Float, Int, Settings, load_settings
from .config_errors import did_you_mean, translated
from .config_sources import ENV_PREFIX, normalised
from .errors import ConfigurationError

_MODEL: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _time_of_day(value: object) -> object:
    """HH:MM; TOML has times of its own."""
    text = value.strftime("%H:%M") if isinstance(value, time) else value
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError("a time of day as 'HH:MM'")
    return text


class ScheduleSettings(BaseModel):
    """When to reconcile, in UTC."""

    model_config = _MODEL

    interval: Literal["hourly", "daily", "weekly"] = "daily"
    """How often, and over which period."""
    time: Annotated[str, BeforeValidator(_time_of_day)] = "00:00"
    """HH:MM; of an hourly schedule only the minutes count."""
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = "mon"
    """Of a weekly schedule."""


class ReportingSettings(BaseModel):
    """Where reports go."""

    model_config = _MODEL

    file: Path = Path("reconciliation_reports.json")
    """The file of reports."""
    history_days: Int = Field(default=30, ge=1, le=36_500)
    """How long reports are kept."""


class ThresholdSettings(BaseModel):
    """Beyond which a report raises an alert."""

    model_config = _MODEL

    mismatch_percentage: Float = Field(default=0.0, ge=0, le=100)
    missing_orders: Int = Field(default=0, ge=0)
    extra_orders: Int = Field(default=0, ge=0)


class JobSettings(BaseModel):
    """The job's configuration."""

    model_config = _MODEL

    executor: dict[str, Any] = Field(default_factory=dict, repr=False)
    """The same as ReliableOrderExecutor's."""
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    reporting: ReportingSettings = Field(default_factory=ReportingSettings)
    alerts: ThresholdSettings = Field(default_factory=ThresholdSettings)
    run_on_start: bool = False
    """Whether to reconcile at once when the job starts."""


def load_job_settings(config: Mapping[str, Any] | None) -> JobSettings:
    """Validate whole, the executor's section included. Raises ConfigurationError, naming the field."""
    if config is not None and not isinstance(config, Mapping):
        raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
    given = normalised(config or {}, JobSettings, text=False)
    for key in given:
        if key not in JobSettings.model_fields:
            meant = did_you_mean(str(key), JobSettings)
            raise ConfigurationError(f"{key}: there is no such setting{meant}", field=str(key))
    executor = given.pop("executor", None) or {}
    try:
        settings = JobSettings(executor=dict(executor) if isinstance(executor, Mapping) else executor, **given)
    except ValidationError as error:
        raise translated(error, JobSettings) from None
    try:
        load_settings(settings.executor)
    except ConfigurationError as error:
        if error.field is None or error.field.upper().startswith(ENV_PREFIX):
            raise  # it is not this mapping that is wrong
        raise ConfigurationError(f"executor.{error}", field=f"executor.{error.field}") from None
    return settings


def read_job_config(path: Path) -> dict[str, Any]:
    """Read a TOML or JSON file. Raises ConfigurationError."""
    kind = "JSON" if path.suffix == ".json" else "TOML"
    try:
        content = path.read_text(encoding="utf-8")
        config = json.loads(content) if kind == "JSON" else tomllib.loads(content)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: not valid {kind}: {error}") from None
    if not isinstance(config, dict):
        raise ConfigurationError(f"{path}: expected a table of settings")
    if kind == "TOML" and isinstance(config.get("executor"), dict):
        config["executor"] = normalised(config["executor"], Settings, text=True)
    return config
