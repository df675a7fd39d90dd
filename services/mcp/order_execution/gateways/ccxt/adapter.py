"""Makes ccxt's object for an exchange: its class with our HTTP, our limits and text for numbers."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ...errors import ConfigurationError
from .row import Row
from .transport import HttpSession, OwnHttp

_logger: Final = logging.getLogger(__name__)

PREPARING_SHARE: Final = 1 / 3
"""Of the time limit of a request: how much of it may pass before it leaves. Beyond, it is not sent."""


def load_class(exchange: str, *, streams: bool) -> type[Any]:
    """Load ccxt's class for the exchange, with its streams where it has any. Raises ConfigurationError."""
    try:
        ccxt = importlib.import_module("ccxt.async_support")
    except ImportError as error:
        raise ConfigurationError(
            "gateway.name: the gateway ccxt needs the package ccxt; install '.[ccxt]'", field="gateway.name"
        ) from error
    if exchange not in ccxt.exchanges:
        raise ConfigurationError(
            f"gateway.exchange: ccxt {ccxt.__version__} has no exchange {exchange[:40]!r}", field="gateway.exchange"
        )
    if streams:
        pro = importlib.import_module("ccxt.pro")
        if exchange in pro.exchanges:
            ccxt = pro
    found: type[Any] = getattr(ccxt, exchange)
    return found


def make_exchange(
    exchange: str,
    row: Row | None,
    http: HttpSession,
    *,
    credentials: Mapping[str, str | None],
    timeout_seconds: float,
    expiry_seconds: float | None,
    base_url: str | None,
    sandbox: bool,
) -> Any:
    """The object through which the exchange is spoken to. Raises ConfigurationError."""
    parent = load_class(exchange, streams=base_url is None and row is not None)
    kind = type(exchange, (OwnHttp, parent), {"__module__": __name__})
    made = kind(_config(row, credentials, timeout_seconds, expiry_seconds))
    made.http = http
    if row is not None and row.one_at_a_time:
        made.turn, made.read_turn = asyncio.Lock(), asyncio.Lock()
    made.turn_seconds = timeout_seconds * PREPARING_SHARE
    _give_keys(made, credentials)
    if sandbox:
        _use_sandbox(made)
    if base_url is not None:
        made.urls["api"] = elsewhere(made.urls["api"], base_url)
    return made


def _config(
    row: Row | None, credentials: Mapping[str, str | None], timeout_seconds: float, expiry_seconds: float | None
) -> dict[str, Any]:
    options: dict[str, Any] = {"defaultType": "spot", "adjustForTimeDifference": False}
    config: dict[str, Any] = {
        "number": str,
        "enableRateLimit": False,
        "maxRetriesOnFailure": 0,
        "timeout": int(timeout_seconds * 1_000),
        "timeout_on_exit": 0,
        "verbose": False,
        "enableLastHttpResponse": False,
        "enableLastJsonResponse": False,
        "enableLastResponseHeaders": False,
        **{name: value for name, value in credentials.items() if value is not None},
    }
    if row is not None:
        options |= row.options
        config["has"] = {"fetchCurrencies": False}  # asks with the key for what no order needs
        if row.expiry is not None and row.expiry.option is not None and expiry_seconds is not None:
            options[row.expiry.option] = int(expiry_seconds * 1_000)
    return {**config, "options": {**options, "maxRetriesOnFailure": 0}}


def _give_keys(made: Any, credentials: Mapping[str, str | None]) -> None:
    """Exchanges that are signed for with a wallet take its address and key. Raises ConfigurationError."""
    needs = made.requiredCredentials
    if needs.get("walletAddress"):
        made.walletAddress = credentials["apiKey"]
    if needs.get("privateKey"):
        made.privateKey = credentials["secret"]
    for name, setting in (("password", "password"), ("uid", "uid"), ("secret", "api_secret")):
        if credentials["apiKey"] and needs.get(name) and not credentials[name]:
            raise ConfigurationError(
                f"gateway.{setting}: expected a value, since {made.id} signs with it", field=f"gateway.{setting}"
            )


def _use_sandbox(made: Any) -> None:
    if not made.urls.get("test"):
        raise ConfigurationError(
            f"gateway.sandbox: expected false, since {made.id} has no sandbox", field="gateway.sandbox"
        )
    made.set_sandbox_mode(True)


def elsewhere(urls: Any, base_url: str) -> Any:
    """Every REST address of an exchange, moved to another host; the path of each stays."""
    if isinstance(urls, dict):
        return {name: elsewhere(value, base_url) for name, value in urls.items()}
    if isinstance(urls, str) and urls.startswith(("http://", "https://")):
        return base_url.rstrip("/") + urlsplit(urls).path
    return urls
