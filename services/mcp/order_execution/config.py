"""Settings: what can be configured, read from a mapping, the environment, a ``.env`` and a TOML file.

The only reader of the environment. Precedence: mapping > environment > ``.env`` > TOML > defaults, key by key.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from .credentials import exchange_credentials
from .errors import ConfigurationError, ErrorCategory
from .paper_exchange.settings import PaperSettings

ENV_PREFIX: Final = "ORDER_EXECUTION_"
ENV_DELIMITER: Final = "__"
CONFIG_FILE_VARIABLE: Final = "ORDER_EXECUTION_CONFIG_FILE"
DEFAULT_TOML: Final = Path("order_execution.toml")
NOT_RETRYABLE: Final = frozenset(
    {
        ErrorCategory.CIRCUIT_OPEN,
        ErrorCategory.AUTHENTICATION,
        ErrorCategory.CANCELLED,
        ErrorCategory.INTERNAL,
    }
)
_SECRET: Final = ("api_key", "api_secret", "urls")
_MODEL: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False)


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")
    return value


def _split(value: object) -> object:
    """Let a list be written with commas, as environments do."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


Float = Annotated[float, BeforeValidator(_no_bool)]
Int = Annotated[int, BeforeValidator(_no_bool)]
Amount = Annotated[
    Decimal, BeforeValidator(lambda value: str(_no_bool(value)) if isinstance(value, float) else _no_bool(value))
]


class GatewaySettings(BaseModel):
    """Which exchange, and how it is reached."""

    model_config = _MODEL

    name: Literal["paper", "nobitex", "ccxt"] = "paper"
    """Which gateway."""
    exchange: str | None = None
    """ccxt's id of the exchange, with the gateway ccxt."""
    base_url: str | None = None
    """Another host: a test server, a proxy."""
    sandbox: bool = False
    """The exchange's own sandbox."""
    api_key: SecretStr | None = None
    """Also read from <EXCHANGE>_API_KEY, or the file that <EXCHANGE>_API_KEY_FILE names."""
    api_secret: SecretStr | None = None
    """Also read from <EXCHANGE>_API_SECRET, or the file that <EXCHANGE>_API_SECRET_FILE names."""
    timeout_seconds: Float = Field(default=15.0, gt=0, le=600)
    """How long one attempt may take."""
    rate_limit_share: Float = Field(default=0.8, gt=0, le=1)
    """How much of the exchange's documented limits this process may use."""
    settle_seconds: Float | None = Field(default=None, ge=0, le=86_400)
    """Overrides how long an order may be missing from lookups after its request could last arrive."""
    request_expiry_seconds: Float | None = Field(default=None, gt=0, le=86_400)
    """Overrides after how long the exchange refuses a request that was under way."""
    paper: PaperSettings = Field(default_factory=PaperSettings)
    """The paper exchange, with the faults to rehearse."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "ccxt" and not self.exchange:
            raise ValueError(
                "exchange: expected ccxt's id of an exchange, such as 'binance', with the gateway ccxt"
            )
        return self


class JournalSettings(BaseModel):
    """Where intents and events are made durable."""

    model_config = _MODEL

    url: str = "sqlite:///data/order_execution.db"
    """sqlite:///relative/path, sqlite:////absolute/path or postgresql://…"""
    max_lag_seconds: Float = Field(default=5.0, gt=0, le=3600)
    """Intents are refused while the journal is slower than this."""
    min_free_bytes: Int = Field(default=64 * 2**20, ge=0)
    """Intents are refused while less disk space than this is free."""
    lock_wait_seconds: Float = Field(default=5.0, ge=0, le=3600)
    """How long to wait for another process to let go of the journal."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        scheme, separator, rest = self.url.partition("://")
        if scheme == "sqlite" and separator and rest.startswith("/") and rest.strip("/") and rest != "/:memory:":
            return self
        if scheme in ("postgresql", "postgres") and rest:
            return self
        raise ValueError("url: expected sqlite:///PATH or postgresql://…")


class RetrySettings(BaseModel):
    """How often and how slowly an attempt is made again."""

    model_config = _MODEL

    max_retries: Int = Field(default=3, ge=0, le=1000)
    """Further attempts after the first one."""
    backoff_base: Float = Field(default=2.0, ge=1, le=100)
    """By what the delay grows with each attempt."""
    initial_delay: Float = Field(default=1.0, ge=0, le=3600)
    """Seconds before the first retry, at most: full jitter."""
    max_delay: Float = Field(default=30.0, ge=0, le=3600)
    """Seconds between retries, at most; an exchange's Retry-After may ask for more."""
    retryable_errors: Annotated[tuple[ErrorCategory, ...], BeforeValidator(_split)] = tuple(
        category for category in ErrorCategory if category not in NOT_RETRYABLE
    )
    """Which errors may be retried."""
    deadline_seconds: Float = Field(default=60.0, gt=0, le=86_400)
    """How long execute_order and cancel_order may take in all."""
    budget_tokens: Float = Field(default=10.0, ge=0, le=1_000_000)
    """Retries that all orders share; a retry takes one, a success gives a tenth back."""

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """Let names be written in any case, and the longest delay follow a longer first one."""
        if not isinstance(values, Mapping):
            return values
        prepared = dict(values)
        names = _split(prepared.get("retryable_errors"))
        if isinstance(names, (list, tuple, set, frozenset)):
            prepared["retryable_errors"] = [n.lower() if isinstance(n, str) else n for n in names]
        initial = prepared.get("initial_delay")
        if "max_delay" not in prepared and isinstance(initial, (int, float)) and 30 < initial <= 3600:
            prepared["max_delay"] = initial
        return prepared

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_delay < self.initial_delay:
            raise ValueError(f"max_delay: expected at least initial_delay ({self.initial_delay:g})")
        never = [category.value for category in self.retryable_errors if category in NOT_RETRYABLE]
        if never:
            raise ValueError(f"retryable_errors: {', '.join(never)} cannot be retried")
        return self


class CircuitBreakerSettings(BaseModel):
    """When to stop asking an exchange that fails."""

    model_config = _MODEL

    error_threshold: Float = Field(default=30.0, gt=0, le=1_000_000)
    """Errors a minute, over the window, that open the circuit."""
    warning_threshold: Float = Field(default=10.0, gt=0, le=1_000_000)
    """Errors a minute, over the window, that raise a warning; a third of error_threshold if only that is given."""
    window_size_minutes: Float = Field(default=5.0, gt=0, le=1440)
    """Over how long errors are counted."""
    cool_down_seconds: Float = Field(default=60.0, gt=0, le=86_400)
    """How long the circuit stays open before it is probed; doubles with each reopening."""
    max_cool_down_seconds: Float = Field(default=600.0, gt=0, le=864_000)
    """How far that doubling goes; ten times cool_down_seconds unless given."""
    half_open_probes: Int = Field(default=1, ge=1, le=100)
    """Probes at once, and successes that close the circuit."""
    failure_threshold: Int | None = Field(default=None, ge=1)
    """Consecutive failures that open the circuit as well; None: not counted."""
    enabled: bool = True
    """Whether the circuit opens at all."""

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """Let defaults that were not given follow the thresholds that were."""
        if not isinstance(values, Mapping):
            return values
        prepared = dict(values)
        threshold, cool_down = _number(prepared.get("error_threshold")), _number(prepared.get("cool_down_seconds"))
        if "warning_threshold" not in prepared and threshold is not None and 0 < threshold <= 30:
            prepared["warning_threshold"] = threshold / 3
        if "max_cool_down_seconds" not in prepared and cool_down is not None:
            prepared["max_cool_down_seconds"] = cool_down * 10
        return prepared

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warning_threshold >= self.error_threshold:
            raise ValueError(f"warning_threshold: expected less than error_threshold ({self.error_threshold:g})")
        if self.max_cool_down_seconds < self.cool_down_seconds:
            raise ValueError(
                f"max_cool_down_seconds: expected at least cool_down_seconds ({self.cool_down_seconds:g})"
            )
        return self


class ConfirmationSettings(BaseModel):
    """How orders are followed after the exchange has accepted them."""

    model_config = _MODEL

    wait_for: Literal["accepted", "visible", "final"] = "accepted"
    """Until when execute_order waits."""
    timeout_seconds: Float = Field(default=10.0, gt=0, le=86_400)
    """How long it waits for that at most."""
    poll_interval_seconds: Float = Field(default=5.0, gt=0, le=3600)
    """How often open orders are asked for."""
    close_timeout_seconds: Float = Field(default=10.0, ge=0, le=3600)
    """How long close() lets what is in flight finish."""
    max_finished_in_memory: Int = Field(default=10_000, ge=0, le=10_000_000)
    """Finished orders that are answered from memory; older ones come from the journal."""


class RiskSettings(BaseModel):
    """Limits that are consulted before every order. None: no limit."""

    model_config = _MODEL

    max_order_notional: Amount | None = Field(default=None, gt=0)
    """Amount × price of one order, in its quote currency."""
    max_open_orders: Int | None = Field(default=None, ge=1)
    """Orders that are not final."""
    max_orders_per_minute: Int | None = Field(default=None, ge=1)
    """Orders placed in any 60 seconds."""
    max_position: dict[str, Amount] = {}
    """Base currency → most that the account may hold, open buys included."""
    price_collar_percent: Amount | None = Field(default=None, gt=0)
    """How far a limit price may be from the last price."""


class TransactionLogSettings(BaseModel):
    """The JSON lines for people and audits."""

    model_config = _MODEL

    path: Path | None = Path("data/transactions")
    """Directory of the files; None: no transaction log."""


class AlertSettings(BaseModel):
    """Who is told when something needs a human."""

    model_config = _MODEL

    urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = ()
    """Apprise URLs, with the extra [alerts]."""
    min_level: Literal["info", "warning", "error", "critical"] = "warning"
    """The least level that is told."""
    min_interval_seconds: Float = Field(default=300.0, ge=0, le=86_400)
    """The same alert is told once in this time."""


class Settings(BaseSettings):
    """The whole configuration. Every section and key is optional."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        nested_model_default_partial_update=False,
        allow_inf_nan=False,
    )

    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    circuit_breaker: CircuitBreakerSettings = Field(default_factory=CircuitBreakerSettings)
    confirmation: ConfirmationSettings = Field(default_factory=ConfirmationSettings)
    risk: RiskSettings = Field(default_factory=RiskSettings)
    transaction_log: TransactionLogSettings = Field(default_factory=TransactionLogSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what ``load_settings`` has gathered, from whichever environment it was given."""
        return (init_settings,)

    def secrets(self) -> tuple[str, ...]:
        """Every secret value, for redaction."""
        values = [self.gateway.api_key, self.gateway.api_secret, *self.alerts.urls]
        return tuple(value.get_secret_value() for value in values if value is not None)


class _Environment(EnvSettingsSource):
    """pydantic-settings' reading of an environment that is passed to it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {key.lower(): value for key, value in environ.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """Let a list be written with commas rather than in JSON."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def load_settings(
    config: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = Path(".env"),
    toml_file: Path | None = None,
) -> Settings:
    """Gather, merge and validate the whole configuration.

    ``toml_file`` defaults to ``order_execution.toml`` where there is one, or what ORDER_EXECUTION_CONFIG_FILE
    names. Raises ConfigurationError, which names every wrong field and what was expected.
    """
    if config is not None and not isinstance(config, Mapping):
        raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
    environment = dict(os.environ if environ is None else environ)
    dotenv = _read_dotenv(env_file)
    layers = [
        _read_toml(toml_file, {**dotenv, **environment}),
        _from_environment(dotenv),
        _from_environment(environment),
        _plain(config or {}),
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer)
    _add_credentials(merged, {**dotenv, **environment})
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise translated(error, Settings) from None
    except TypeError as error:
        raise ConfigurationError(f"configuration: {error}") from None


def _plain(config: Mapping[Any, Any]) -> dict[str, Any]:
    """Copy a mapping; a section given as None stands for its defaults."""
    for key in config:
        if not isinstance(key, str):
            raise ConfigurationError(f"configuration: expected names as keys, got {type(key).__name__}")
    plain = dict(config)
    for section in Settings.model_fields:
        if plain.get(section, ...) is None:
            del plain[section]
    return plain


def _read_toml(path: Path | None, environment: Mapping[str, str]) -> dict[str, Any]:
    named = environment.get(CONFIG_FILE_VARIABLE)
    chosen = path or (Path(named) if named else None)
    if chosen is None:
        if not DEFAULT_TOML.is_file():
            return {}
        chosen = DEFAULT_TOML
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"configuration file {chosen}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"configuration file {chosen}: not valid TOML: {error}") from None


def _read_dotenv(path: Path | None) -> dict[str, str]:
    if path is None or not path.is_file():
        return {}
    return {key: value for key, value in dotenv_values(path, interpolate=False).items() if value is not None}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    relevant = {
        key: value
        for key, value in environ.items()
        if key.upper().startswith(ENV_PREFIX) and key.upper() != CONFIG_FILE_VARIABLE
    }
    for key in relevant:
        _check_variable(key)
    try:
        return dict(_Environment(relevant)())
    except ValueError as error:
        raise ConfigurationError(f"environment: {error}") from None


def _check_variable(key: str) -> None:
    """Refuse a variable of ours that no setting reads: a typing error would otherwise pass unseen."""
    parts = key.upper().removeprefix(ENV_PREFIX).lower().split(ENV_DELIMITER)
    model: Any = Settings
    for depth, part in enumerate(parts):
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return
        if part not in model.model_fields:
            names = [ENV_PREFIX + ENV_DELIMITER.join([*parts[:depth], name]).upper() for name in model.model_fields]
            raise ConfigurationError(
                f"environment variable {key}: there is no such setting{_suggest(key.upper(), names)}", field=key
            )
        model = model.model_fields[part].annotation


def _add_credentials(merged: dict[str, Any], environ: Mapping[str, str]) -> None:
    gateway = merged.get("gateway") or {}
    if not isinstance(gateway, Mapping):
        return
    found = exchange_credentials(gateway.get("name"), gateway.get("exchange"), environ)
    if found:
        merged["gateway"] = {**found, **{k: v for k, v in gateway.items() if v is not None or k not in found}}


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(before, value) if both else value  # type: ignore[arg-type]
    return merged


# ---- errors ---------------------------------------------------------------------------------------------------


def translated(error: ValidationError, model: type[BaseModel]) -> ConfigurationError:
    """Make one error that names each wrong field, what was expected and what was got, secrets apart."""
    lines = list(_describe(error, model))
    first = next(iter(error.errors(include_url=False)))
    return ConfigurationError("; ".join(lines), field=".".join(str(part) for part in first["loc"]) or None)


def _describe(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        loc = [str(part) for part in problem["loc"]]
        path = ".".join(loc) or "configuration"
        if problem["type"] == "extra_forbidden":
            yield f"{path}: there is no such setting{_suggest(path, list(_names(model)))}"
            continue
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "value_error" and ": " in message.split(" ")[0] + " ":
            yield f"{path}.{message}"
            continue
        got = ""
        if not any(part in _SECRET for part in loc) and not isinstance(problem["input"], (dict, BaseModel)):
            got = f", got {str(problem['input'])[:60]!r}"
        yield f"{path}: expected {_expected(message)}{got}"


def _expected(message: str) -> str:
    for prefix in ("Input should be ", "Input should "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    return message[:1].lower() + message[1:]


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _names(inner, f"{prefix}{name}.")


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
