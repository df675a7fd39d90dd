"""Configuration → implementations: the only place that chooses them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .alerts import Alerts, AlertSink, AppriseSink, Level, LogSink
from .clock import Clock, SystemClock
from .core import Ports
from .errors import ConfigurationError
from .gateways.base import Gateway
from .journals.base import Journal
from .metrics import Metrics
from .transaction_log import TransactionLog

if TYPE_CHECKING:
    from pydantic import SecretStr

    from .config import Settings
    from .reconciliation import AlertThresholds, Reconciler

_SQLITE = "sqlite:///"


def read_settings(config: Mapping[str, Any] | None) -> Settings:
    """The whole configuration, validated. Raises ConfigurationError.

    What reads and checks it is imported on first use: it takes longer to import than all else together.
    """
    from .config import load_settings  # noqa: PLC0415

    return load_settings(config)


def laid_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """One configuration over another, key by key."""
    from .config_sources import merge  # noqa: PLC0415

    return merge(lower, upper)


def make_gateway(settings: Settings, clock: Clock, rng: random.Random) -> Gateway:
    """The gateway that ``gateway.name`` names. Raises ConfigurationError."""
    section = settings.gateway
    if section.name == "paper":
        from .gateways.paper import PaperGateway  # noqa: PLC0415 - only what is used is imported

        return PaperGateway(
            section.paper,
            clock,
            rng,
            timeout_seconds=section.timeout_seconds,
            settle_seconds=section.settle_seconds,
            request_expiry_seconds=section.request_expiry_seconds,
        )
    if section.name == "nobitex":
        from .gateways.nobitex import NobitexGateway  # noqa: PLC0415
        from .gateways.nobitex.signing import make_signer  # noqa: PLC0415

        return NobitexGateway(
            make_signer(_secret(section.api_key), _secret(section.api_secret)),
            clock,
            timeout_seconds=section.timeout_seconds,
            base_url=section.base_url,
            sandbox=section.sandbox,
            rate_limit_share=section.rate_limit_share,
            settle_seconds=section.settle_seconds,
            request_expiry_seconds=section.request_expiry_seconds,
        )
    from .gateways.ccxt import CcxtGateway  # noqa: PLC0415

    return CcxtGateway(
        section.exchange or "",
        clock,
        api_key=_secret(section.api_key),
        api_secret=_secret(section.api_secret),
        password=_secret(section.password),
        uid=_secret(section.uid),
        timeout_seconds=section.timeout_seconds,
        base_url=section.base_url,
        sandbox=section.sandbox,
        rate_limit_share=section.rate_limit_share,
        settle_seconds=section.settle_seconds,
        request_expiry_seconds=section.request_expiry_seconds,
    )


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def make_journal(settings: Settings, clock: Clock, *, read_only: bool = False) -> Journal:
    """The journal that ``journal.url`` names. Raises ConfigurationError."""
    section = settings.journal
    if not section.url.startswith(_SQLITE):
        raise ConfigurationError(
            "journal.url: this version has the journal sqlite:///PATH; others are not there yet",
            field="journal.url",
        )
    from .journals.sqlite import SQLiteJournal  # noqa: PLC0415 - only what is used is imported

    return SQLiteJournal(
        Path(section.url.removeprefix(_SQLITE)),
        clock,
        read_only=read_only,
        max_lag_seconds=section.max_lag_seconds,
        min_free_bytes=section.min_free_bytes,
        lock_wait_seconds=section.lock_wait_seconds,
    )


def make_alerts(settings: Settings, clock: Clock) -> Alerts:
    """The log, and where ``alerts.urls`` are given, Apprise."""
    section = settings.alerts
    sinks: list[AlertSink] = [LogSink()]
    urls = [url.get_secret_value() for url in section.urls]
    if urls:
        sinks.append(AppriseSink(urls))
    return Alerts(
        sinks,
        clock,
        min_level=Level[section.min_level.upper()],
        min_interval_seconds=section.min_interval_seconds,
    )


def make_transaction_log(settings: Settings, clock: Clock) -> TransactionLog | None:
    """The transaction log, unless ``transaction_log.path`` is None."""
    path = settings.transaction_log.path
    return None if path is None else TransactionLog(path, clock, redact=settings.secrets())


def make_ports(
    settings: Settings,
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    gateway: Gateway | None = None,
    journal: Journal | None = None,
    metrics: Metrics | None = None,
    alerts: Alerts | None = None,
    transaction_log: TransactionLog | None = None,
) -> Ports:
    """Everything that the core needs: what is given, and what the settings name for the rest."""
    clock = clock or SystemClock()
    rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
    return Ports(
        gateway=gateway or make_gateway(settings, clock, rng),
        journal=journal or make_journal(settings, clock),
        clock=clock,
        rng=rng,
        metrics=metrics or Metrics(),
        alerts=alerts or make_alerts(settings, clock),
        transaction_log=transaction_log or make_transaction_log(settings, clock),
    )


@asynccontextmanager
async def open_companion(
    settings: Settings, thresholds: AlertThresholds | None = None
) -> AsyncIterator[Reconciler]:
    """A reconciler that only reads, for use beside the process that owns the journal."""
    from .reconciliation import Reconciler  # noqa: PLC0415 - the executor's import stays light

    clock = SystemClock()
    journal = make_journal(settings, clock, read_only=True)
    gateway = make_gateway(settings, clock, random.Random())  # noqa: S311 - jitter, not secrets
    await journal.open()
    try:
        await gateway.open()
        try:
            yield Reconciler(journal, gateway, clock, repairs=None, thresholds=thresholds)
        finally:
            await gateway.close()
    finally:
        await journal.close()
