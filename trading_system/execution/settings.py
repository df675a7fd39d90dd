"""The engine's configuration, as its users know it, and what it means to the core."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from services.mcp.order_execution.config import Address, Float, Int, RiskSettings
from services.mcp.order_execution.config_errors import translated
from services.mcp.order_execution.config_sources import merge
from services.mcp.order_execution.errors import ConfigurationError

_MODEL: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_PAIR: Final = re.compile(r"[A-Z0-9]{2,}(USDT|USDC|IRT|RLS)")
"""A pair that is written without a separator; no currency of Nobitex has such a name."""


def _named(path: object) -> object:
    """Refuse blank text: SQLite would keep it in a file that vanishes, the log in the working directory."""
    if isinstance(path, str) and not path.strip():
        raise ValueError("a path, not blank text")
    return path


def _journal_file(path: str) -> str:
    """Refuse what the core's address of a journal cannot hold."""
    if re.search(r"[?#]", path) or path.endswith("/") or path == ":memory:":
        raise ValueError("the path of a file, without ? and #")
    return path


File = Annotated[str, BeforeValidator(_named)]


class EngineSection(BaseModel):
    """The section ``execution_engine``."""

    model_config = _MODEL

    exchange_adapter: Literal["nobitex", "mock"] = "nobitex"
    """Nobitex, or a paper exchange of our own for tests."""
    max_retries: Int = Field(default=3, ge=0, le=1_000)
    """How often an order is sent once more, where that is safe."""
    retry_delay: Float = Field(default=2.0, ge=0, le=3_600)
    """Seconds before the first retry; it doubles with each further one."""
    order_update_interval: Float = Field(default=5.0, gt=0, le=3_600)
    """Seconds between two looks at open orders."""
    order_timeout: Float = Field(default=60.0, gt=0, le=86_400)
    """Seconds that execute_order and cancel_order may take in all."""
    confirmation_timeout: Float = Field(default=10.0, gt=0, le=86_400)
    """Seconds that execute_order waits for an order that trades at once to be final."""
    stop_timeout: Float = Field(default=10.0, ge=0, le=3_600)
    """Seconds that stop() gives to what is in flight."""
    transaction_log_path: File | None = "data/transactions"
    """Directory of the transaction log; None: none."""
    journal_path: Annotated[File, AfterValidator(_journal_file)] = "data/execution_engine.db"
    """The journal: which orders there are, durable before they leave."""
    positions_path: File | None = "data/positions.db"
    """Where positions are kept; None: in memory."""
    circuit_breaker_enabled: bool = True
    """Whether the circuit opens at all."""
    failure_threshold: Int = Field(default=3, ge=1, le=1_000_000)
    """Consecutive failures that open it."""
    circuit_open_timeout: Float = Field(default=300.0, gt=0, le=86_400)
    """Seconds that it stays open."""


class ExchangeSection(BaseModel):
    """The section ``exchange``."""

    model_config = _MODEL

    api_key: SecretStr | None = None
    """Unless given: NOBITEX_API_KEY, or the file that NOBITEX_API_KEY_FILE names."""
    api_secret: SecretStr | None = None
    timeout: Float = Field(default=15.0, gt=0, le=600)
    """Seconds that one request may take."""
    max_retries: Int = Field(default=3, ge=0, le=1_000)
    """How often a request that only reads is made again."""
    base_url: Address = None
    """Another host: the sandbox, a proxy. None, and never blank text: the real Nobitex."""
    sandbox: bool = False


class RiskSection(RiskSettings):
    """The section ``risk``: the core's limits, consulted before every order. None: no limit.

    The keys of ``max_position`` are base currencies (``BTC``), not pairs: the limit is on what the account holds.
    """

    @field_validator("max_position")
    @classmethod
    def _no_pairs(cls, limits: Mapping[str, object]) -> Mapping[str, object]:
        """Refuse a pair without a separator: such a limit would never be looked at."""
        for name in limits:
            if _PAIR.fullmatch(name):
                raise ValueError(f"base currencies such as BTC, {name} is a pair")
        return limits


class EngineSettings(BaseModel):
    """Everything that the engine can be told. ``core`` is handed to the core as it is, over all else."""

    model_config = _MODEL

    execution_engine: EngineSection = Field(default_factory=EngineSection)
    exchange: ExchangeSection = Field(default_factory=ExchangeSection)
    risk: RiskSection = Field(default_factory=RiskSection)
    core: dict[str, Any] = Field(default_factory=dict)


def load_engine_settings(config: Mapping[str, Any] | None) -> EngineSettings:
    """Validate a configuration whole. Raises ConfigurationError, which names the key and shows no secret."""
    if config is not None and not isinstance(config, Mapping):
        raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
    try:
        return EngineSettings.model_validate(dict(config or {}))
    except ValidationError as error:
        raise translated(error, EngineSettings) from None


def core_config(settings: EngineSettings) -> dict[str, Any]:
    """The same for the core."""
    engine, exchange = settings.execution_engine, settings.exchange
    gateway: dict[str, Any] = {"timeout_seconds": exchange.timeout, "read_retries": exchange.max_retries}
    if engine.exchange_adapter == "mock":
        # Of its own for each journal: one that is shared holds orders that the journal knows nothing of.
        journal = PurePath(engine.journal_path)
        gateway |= {"name": "paper", "paper": {"path": str(journal.with_name(f"{journal.stem}_paper.db"))}}
    else:
        gateway |= {
            "name": "nobitex",
            "api_key": _secret(exchange.api_key),
            "api_secret": _secret(exchange.api_secret),
            "base_url": exchange.base_url,
            "sandbox": exchange.sandbox,
        }
    config = {
        "gateway": {name: value for name, value in gateway.items() if value is not None},
        "journal": {"url": f"sqlite:///{engine.journal_path}"},
        "retry": {
            "max_retries": engine.max_retries,
            "initial_delay": engine.retry_delay,
            "max_delay": max(30.0, engine.retry_delay),
            "deadline_seconds": engine.order_timeout,
        },
        "circuit_breaker": {
            "enabled": engine.circuit_breaker_enabled,
            "failure_threshold": engine.failure_threshold,
            "cool_down_seconds": engine.circuit_open_timeout,
            "max_cool_down_seconds": engine.circuit_open_timeout,
        },
        "confirmation": {
            "poll_interval_seconds": engine.order_update_interval,
            "timeout_seconds": engine.confirmation_timeout,
            "close_timeout_seconds": engine.stop_timeout,
        },
        "risk": settings.risk.model_dump(exclude_none=True),
        "transaction_log": {"path": engine.transaction_log_path},
    }
    return merge(config, settings.core)


_ENGINE_NAMES: Final[Mapping[str, str]] = {
    "gateway.api_key": "exchange.api_key",
    "gateway.api_secret": "exchange.api_secret",
    "gateway.base_url": "exchange.base_url",
    "gateway.sandbox": "exchange.sandbox",
    "journal.url": "execution_engine.journal_path",
    "transaction_log.path": "execution_engine.transaction_log_path",
}
"""What the engine's users call those of the core's settings that may be refused only when they are used."""


@contextmanager
def engine_words(settings: EngineSettings) -> Iterator[None]:
    """Tell what the core refuses by the name of the setting that was given: the engine's own, or ``core.…``."""
    try:
        yield
    except ConfigurationError as error:
        field = error.field
        name = None if field is None else _engine_name(field, settings.core)
        if field is None or name == field:
            raise
        text = re.sub(rf"(^|; ){re.escape(field)}(?=:)", lambda found: f"{found[1]}{name}", str(error))
        raise ConfigurationError(text, field=name) from error.__cause__


def _engine_name(field: str, core: Mapping[str, Any]) -> str:
    section, *rest = field.split(".")
    given: object = core
    for part in (section, *rest):
        if not isinstance(given, Mapping) or part not in given:
            return _ENGINE_NAMES.get(field, field)
        given = given[part]
    return f"core.{field}"


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value() or None
