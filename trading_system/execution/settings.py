"""The engine's configuration, as its users know it, and what it means to the core."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from services.mcp.order_execution.config_sources import merge
from services.mcp.order_execution.errors import ConfigurationError

_MODEL: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EngineSection(BaseModel):
    """The section ``execution_engine``."""

    model_config = _MODEL

    exchange_adapter: Literal["nobitex", "mock"] = "nobitex"
    """Nobitex, or a paper exchange of our own for tests."""
    max_retries: int = Field(default=3, ge=0, le=1_000)
    """How often an order is sent once more, where that is safe."""
    retry_delay: float = Field(default=2.0, ge=0, le=3_600)
    """Seconds before the first retry; it doubles with each further one."""
    order_update_interval: float = Field(default=5.0, gt=0, le=3_600)
    """Seconds between two looks at open orders."""
    order_timeout: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds that execute_order and cancel_order may take in all."""
    confirmation_timeout: float = Field(default=10.0, gt=0, le=86_400)
    """Seconds that execute_order waits for an order that trades at once to be final."""
    stop_timeout: float = Field(default=10.0, ge=0, le=3_600)
    """Seconds that stop() gives to what is in flight."""
    transaction_log_path: str | None = "data/transactions"
    """Directory of the transaction log; None: none."""
    journal_path: str = "data/execution_engine.db"
    """The journal: which orders there are, durable before they leave."""
    positions_path: str | None = "data/positions.db"
    """Where positions are kept; None: in memory."""
    circuit_breaker_enabled: bool = True
    """Whether the circuit opens at all."""
    failure_threshold: int = Field(default=3, ge=1, le=1_000_000)
    """Consecutive failures that open it."""
    circuit_open_timeout: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds that it stays open."""


class ExchangeSection(BaseModel):
    """The section ``exchange``."""

    model_config = _MODEL

    api_key: SecretStr | None = None
    """Unless given: NOBITEX_API_KEY, or the file that NOBITEX_API_KEY_FILE names."""
    api_secret: SecretStr | None = None
    timeout: float = Field(default=15.0, gt=0, le=600)
    """Seconds that one request may take."""
    max_retries: int = Field(default=3, ge=0, le=1_000)
    """How often a request that only reads is made again."""
    base_url: str | None = None
    """Another host: the sandbox, a proxy."""
    sandbox: bool = False


class RiskSection(BaseModel):
    """The section ``risk``: limits that are consulted before every order. None: no limit."""

    model_config = _MODEL

    max_order_notional: Decimal | None = Field(default=None, gt=0)
    max_open_orders: int | None = Field(default=None, ge=1)
    max_orders_per_minute: int | None = Field(default=None, ge=1)
    max_position: dict[str, Decimal] = Field(default_factory=dict)
    price_collar_percent: Decimal | None = Field(default=None, gt=0)


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
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{key}: {first['msg']}", field=key) from None


def core_config(settings: EngineSettings) -> dict[str, Any]:
    """The same for the core."""
    engine, exchange = settings.execution_engine, settings.exchange
    gateway: dict[str, Any] = {"timeout_seconds": exchange.timeout, "read_retries": exchange.max_retries}
    if engine.exchange_adapter == "mock":
        gateway["name"] = "paper"
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


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value() or None
