"""Settings: what can be configured, read from a mapping, the environment, a ``.env`` and a TOML file.

The only reader of the environment. Precedence: mapping > environment > ``.env`` > TOML > defaults, key by key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .config_errors import did_you_mean, translated
from .config_sources import ENV_DELIMITER, ENV_PREFIX, from_variables, merge, normalised, read_dotenv, read_toml
from .credentials import exchange_credentials
from .errors import ConfigurationError, ErrorCategory
from .paper_exchange.settings import PaperSettings

NOT_RETRYABLE: Final = frozenset(
    {
        ErrorCategory.CIRCUIT_OPEN,
        ErrorCategory.AUTHENTICATION,
        ErrorCategory.CANCELLED,
        ErrorCategory.INTERNAL,
    }
)
RETRYABLE: Final = tuple(category for category in ErrorCategory if category not in NOT_RETRYABLE)
WARNING_THRESHOLD: Final = 10.0
_MODEL: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_CURRENCY: Final = re.compile(r"[A-Z0-9]{1,20}")
_PASSWORD: Final = re.compile(r"(?P<before>://[^/@:]*:)(?P<password>[^/@]+)(?=@)")


def _no_bool(value: object) -> object:
    if value is True or value is False:
        raise ValueError("a number, not true or false")
    return value


def _exact(value: object) -> object:
    """Read a float through ``str()``: 0.1 means one tenth."""
    return str(value) if isinstance(value, float) else _no_bool(value)


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _no_blank(value: object) -> object:
    """Refuse blank text in the place of a path: it would mean the working directory."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("a path; None, where there shall be none")
    return value


def _category(value: object) -> object:
    """Take an error's name in any case, if it may be retried at all."""
    if isinstance(value, str) and value.strip().lower() in RETRYABLE:
        return value.strip().lower()
    raise ValueError(f"one of {', '.join(RETRYABLE)}")


def _names(value: object) -> object:
    """Let names be written with commas."""
    return [name for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _addresses(value: object) -> object:
    """Let addresses be written with commas; a comma within an address stays."""
    if isinstance(value, str):
        return [item.strip() for item in re.split(r",\s*(?=[A-Za-z][\w+.-]*://)", value) if item.strip()]
    return value


def _currency(name: object) -> str:
    """Read a currency, upper case however it is written; a pair would limit nothing, since orders have none."""
    text = str(name).strip().upper()
    if not _CURRENCY.fullmatch(text):
        raise ValueError("a base currency such as BTC")
    return text


def _currencies(value: object) -> object:
    """Refuse a currency that is given twice, as BTC and as btc: one of the two limits would not hold."""
    if isinstance(value, Mapping):
        names = [str(name).strip().upper() for name in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"each currency once, {name} is given twice")
    return value


def _host(value: object) -> object:
    """Refuse blank text: it is what a variable that is not set becomes, and would mean the real exchange."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("http://… or https://…; None stands for the exchange's own host")
    return value


def _is_address(url: str) -> bool:
    """Whether a base address can be connected to, its port included."""
    try:
        return re.match(r"https?://[^/\s]", url) is not None and urlsplit(url).port != 0
    except ValueError:
        return False


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _without_password(url: str) -> str:
    return _PASSWORD.sub(r"\g<before>***", url)


def _passwords(url: str | None) -> tuple[str, ...]:
    """The password within an address, as it is written and as it is meant."""
    found = _PASSWORD.search(url or "")
    return () if found is None else (found["password"], unquote(found["password"]))


Float = Annotated[float, BeforeValidator(_no_bool)]
Int = Annotated[int, BeforeValidator(_no_bool)]
Amount = Annotated[Decimal, BeforeValidator(_exact)]
Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_none)]
Address = Annotated[str | None, BeforeValidator(_host)]
Currency = Annotated[str, BeforeValidator(_currency)]


class _Section(BaseModel):
    """A part of the configuration. Its repr shows no password."""

    model_config = _MODEL

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _without_password(value) if isinstance(value, str) else value


class GatewaySettings(_Section):
    """Which exchange, and how it is reached."""

    name: Literal["paper", "nobitex", "ccxt"] = "paper"
    """Which gateway."""
    exchange: str | None = None
    """ccxt's id of the exchange, with the gateway ccxt."""
    base_url: Address = None
    """Another host: a test server, a proxy."""
    sandbox: bool = False
    """The exchange's own sandbox."""
    api_key: Secret = None
    """Also read from <EXCHANGE>_API_KEY, or the file that <EXCHANGE>_API_KEY_FILE names."""
    api_secret: Secret = None
    """Also read from <EXCHANGE>_API_SECRET, or the file that <EXCHANGE>_API_SECRET_FILE names."""
    password: Secret = None
    """The passphrase that some want besides, with the gateway ccxt. Also read from <EXCHANGE>_API_PASSWORD."""
    uid: Secret = None
    """The user's id, which a few want besides, with the gateway ccxt. Also read from <EXCHANGE>_API_UID."""
    timeout_seconds: Float = Field(default=15.0, gt=0, le=600)
    """How long one attempt may take."""
    rate_limit_share: Float = Field(default=0.8, gt=0, le=1)
    """How much of the exchange's documented limits this process may use."""
    settle_seconds: Float | None = Field(default=None, ge=0, le=86_400)
    """Overrides how long an order may be missing from lookups after its request could last arrive."""
    request_expiry_seconds: Float | None = Field(default=None, gt=0, le=86_400)
    """Overrides after how long the exchange refuses a request that was under way."""
    read_retries: Int | None = Field(default=None, ge=0, le=1000)
    """How often the rules of a symbol are asked for again before an order is refused; None: retry.max_retries."""
    paper: PaperSettings = Field(default_factory=PaperSettings)
    """The paper exchange, with the faults to rehearse."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "ccxt" and not self.exchange:
            raise ValueError(
                "exchange: expected ccxt's id of an exchange, such as 'binance', with the gateway ccxt"
            )
        alone = [name for name in ("exchange", "base_url", "sandbox", "api_key") if getattr(self, name)]
        if alone and "name" not in self.model_fields_set:
            # Orders would go to the paper exchange, unnoticed.
            raise ValueError(f"name: expected nobitex or ccxt beside {alone[0]}; paper, where that is meant")
        if self.base_url is not None and not _is_address(self.base_url):
            raise ValueError("base_url: expected http://… or https://…")
        return self


class JournalSettings(_Section):
    """Where intents and events are made durable."""

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
        scheme, _, rest = self.url.partition("://")
        if scheme == "sqlite" and re.fullmatch(r"/[^?#]*[^/?#]", rest) and rest != "/:memory:":
            return self
        if scheme in ("postgresql", "postgres") and rest:
            return self
        raise ValueError("url: expected sqlite:///PATH or postgresql://…")


class RetrySettings(_Section):
    """How often and how slowly an attempt is made again."""

    max_retries: Int = Field(default=3, ge=0, le=1000)
    """Further attempts after the first one."""
    backoff_base: Float = Field(default=2.0, ge=1, le=100)
    """By what the delay grows with each attempt."""
    initial_delay: Float = Field(default=1.0, ge=0, le=3600)
    """Seconds before the first retry, at most: full jitter."""
    max_delay: Float = Field(default=30.0, ge=0, le=3600)
    """Seconds between retries, at most; an exchange's Retry-After may ask for more."""
    retryable_errors: Annotated[
        tuple[Annotated[ErrorCategory, BeforeValidator(_category)], ...], BeforeValidator(_names)
    ] = RETRYABLE
    """Which errors may be retried."""
    deadline_seconds: Float = Field(default=60.0, gt=0, le=86_400)
    """How long execute_order and cancel_order may take in all."""
    budget_tokens: Float = Field(default=10.0, ge=0, le=1_000_000)
    """Retries that all orders share; a retry takes one, a success gives a tenth back."""

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """Let the longest delay follow a longer first one, unless it is given."""
        if not isinstance(values, Mapping):
            return values
        prepared = dict(values)
        initial = _number(prepared.get("initial_delay"))
        if "max_delay" not in prepared and initial is not None and 30 < initial <= 3600:
            prepared["max_delay"] = initial
        return prepared

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_delay < self.initial_delay:
            raise ValueError(f"max_delay: expected at least initial_delay ({self.initial_delay:g})")
        return self


class CircuitBreakerSettings(_Section):
    """When to stop asking an exchange that fails."""

    error_threshold: Float = Field(default=30.0, gt=0, le=1_000_000)
    """Errors a minute, over the window, that open the circuit."""
    warning_threshold: Float = Field(default=WARNING_THRESHOLD, gt=0, le=1_000_000)
    """Errors a minute, over the window, that raise a warning; unless given, at most a third of error_threshold."""
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
        if "warning_threshold" not in prepared and threshold is not None and threshold > 0:
            prepared["warning_threshold"] = min(WARNING_THRESHOLD, threshold / 3)
        if prepared.get("max_cool_down_seconds") is None:
            prepared.pop("max_cool_down_seconds", None)
            if cool_down is not None and 0 < cool_down <= 86_400:
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


class ConfirmationSettings(_Section):
    """How orders are followed after the exchange has accepted them."""

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


class RiskSettings(_Section):
    """Limits that are consulted before every order. None: no limit."""

    max_order_notional: Amount | None = Field(default=None, gt=0)
    """Amount × price of one order, in its quote currency."""
    max_open_orders: Int | None = Field(default=None, ge=1)
    """Orders that are not final."""
    max_orders_per_minute: Int | None = Field(default=None, ge=1)
    """Orders placed in any 60 seconds."""
    max_position: Annotated[dict[Currency, Annotated[Amount, Field(ge=0)]], BeforeValidator(_currencies)] = Field(
        default_factory=dict
    )
    """Base currency, such as BTC and never a pair → most that the account may hold, open buys included."""
    price_collar_percent: Amount | None = Field(default=None, gt=0)
    """How far a limit price may be from the last price."""


class TransactionLogSettings(_Section):
    """The JSON lines for people and audits."""

    path: Annotated[Path | None, BeforeValidator(_no_blank)] = Path("data/transactions")
    """Directory of the files; None: no transaction log."""


class AlertSettings(_Section):
    """Who is told when something needs a human."""

    urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_addresses)] = ()
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
        gateway = self.gateway
        hidden = [gateway.api_key, gateway.api_secret, gateway.password, gateway.uid, *self.alerts.urls]
        values = [value.get_secret_value() for value in hidden if value is not None]
        values += [*_passwords(self.journal.url), *_passwords(self.gateway.base_url)]
        return tuple(dict.fromkeys(value for value in values if value))


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
    dotenv = read_dotenv(env_file)
    environment = dict(os.environ if environ is None else environ)
    variables = {**dotenv, **environment}
    merged: dict[str, Any] = {}
    for layer in (
        read_toml(toml_file, variables, Settings),
        from_variables(dotenv, Settings),
        from_variables(environment, Settings),
        normalised(config or {}, Settings, text=False),
    ):
        merged = merge(merged, layer)
    _check_sections(merged)
    _add_credentials(merged, variables)
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise translated(error, Settings) from None


def _check_sections(merged: Mapping[Any, Any]) -> None:
    """Refuse unknown sections before pydantic-settings takes one for an argument of its own."""
    for key in merged:
        if key not in Settings.model_fields:
            meant = did_you_mean(str(key), Settings)
            raise ConfigurationError(f"{key}: there is no such setting{meant}", field=str(key))


def _add_credentials(merged: dict[str, Any], variables: Mapping[str, str]) -> None:
    """Take the exchange's keys from its own variables where no setting gives them."""
    gateway = merged.get("gateway") or {}
    if not isinstance(gateway, Mapping):
        return
    found = exchange_credentials(gateway.get("name"), gateway.get("exchange"), variables)
    given = {key: value for key, value in gateway.items() if key not in found or _blank_is_none(value) is not None}
    if found:
        merged["gateway"] = {**found, **given}
