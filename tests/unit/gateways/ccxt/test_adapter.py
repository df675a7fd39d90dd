"""How ccxt's objects are made: with our HTTP, our limits, text for numbers, and mistakes told at once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest

from services.mcp.order_execution.bootstrap import make_gateway
from services.mcp.order_execution.config import load_settings
from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.gateways.ccxt import CcxtGateway
from services.mcp.order_execution.gateways.ccxt.adapter import elsewhere, load_class
from services.mcp.order_execution.gateways.ccxt.row import Expiry, window
from tests.unit.gateways.ccxt.captured import FixedClock, gateway


def made(exchange: str, **settings: Any) -> CcxtGateway:
    keys: dict[str, Any] = {"api_key": "k", "api_secret": "s", **settings}
    return CcxtGateway(exchange, FixedClock(), **keys)


def test_ccxt_is_imported_when_a_gateway_is_made() -> None:
    """The package alone does not bring it in."""
    code = (
        "import json, sys\n"
        "from services.mcp.order_execution.gateways.ccxt import CcxtGateway\n"
        "from services.mcp.order_execution import bootstrap, exchanges\n"
        "print(json.dumps('ccxt' in sys.modules))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(told.stdout) is False


def test_its_own_retries_and_limits_are_off() -> None:
    """And numbers are text, the timeout ours, nothing of an answer is kept in common."""
    exchange = made("binance", timeout_seconds=7.0).exchange
    assert exchange.number is str
    assert (exchange.enableRateLimit, exchange.maxRetriesOnFailure, exchange.timeout) == (False, 0, 7_000)
    assert exchange.options["recvWindow"] == 5_000
    assert (exchange.enableLastHttpResponse, exchange.enableLastResponseHeaders) == (False, False)


def test_an_unknown_exchange_is_named() -> None:
    """With the setting."""
    with pytest.raises(ConfigurationError, match="nobitex") as refused:
        made("nobitex")
    assert refused.value.field == "gateway.exchange"


def test_without_ccxt_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than a module."""
    monkeypatch.setitem(sys.modules, "ccxt.async_support", None)
    with pytest.raises(ConfigurationError, match=r"\.\[ccxt\]") as refused:
        load_class("binance", streams=False)
    assert refused.value.field == "gateway.name"


def test_a_missing_passphrase_is_named_at_once() -> None:
    """Not with the first order. Without any key the exchange can still be read."""
    with pytest.raises(ConfigurationError) as refused:
        made("okx")
    assert refused.value.field == "gateway.password"
    assert made("okx", password="p").name == "okx"
    assert made("okx", api_key=None, api_secret=None).name == "okx"
    with pytest.raises(ConfigurationError) as refused:
        made("binance", api_secret=None)
    assert refused.value.field == "gateway.api_secret"


def test_a_wallet_takes_the_keys() -> None:
    """Address and private key, where an exchange is signed for with them."""
    exchange = made("hyperliquid", api_key="0xabc", api_secret="0xdef").exchange
    assert (exchange.walletAddress, exchange.privateKey) == ("0xabc", "0xdef")


def test_the_sandbox_is_the_exchanges_own() -> None:
    """Where there is none, that is a mistake of the configuration."""
    assert "testnet" in made("binance", sandbox=True).exchange.urls["api"]["private"]
    with pytest.raises(ConfigurationError) as refused:
        made("kraken", sandbox=True)
    assert refused.value.field == "gateway.sandbox"


def test_another_host_keeps_the_paths() -> None:
    """In every shape that ccxt writes addresses in; sockets are left alone."""
    urls = {
        "spot": {"public": "https://api.{hostname}/api/v3", "ws": "wss://stream.example/ws"},
        "v2": "https://example.com",
        "odd": None,
    }
    assert elsewhere(urls, "http://127.0.0.1:8080/proxy/") == {
        "spot": {"public": "http://127.0.0.1:8080/proxy/api/v3", "ws": "wss://stream.example/ws"},
        "v2": "http://127.0.0.1:8080/proxy",
        "odd": None,
    }
    assert elsewhere("https://example.com/v1", "http://localhost") == "http://localhost/v1"


def test_another_host_has_no_stream() -> None:
    """Its sockets are elsewhere."""
    assert made("binance").traits.streams_orders
    assert not made("binance", base_url="http://127.0.0.1:9").traits.streams_orders
    assert made("binance", base_url="http://127.0.0.1:9").stream() is None


def test_the_settings_make_the_gateway() -> None:
    """Every one of them that concerns ccxt; its keys come from the exchange's own variables."""
    given = {
        "name": "ccxt",
        "exchange": "okx",
        "password": "phrase",
        "timeout_seconds": 3,
        "base_url": "http://127.0.0.1:9",
        "settle_seconds": 1,
        "request_expiry_seconds": 2,
        "rate_limit_share": 0.5,
    }
    environ = {"OKX_API_KEY": "the-key", "OKX_API_SECRET": "the-secret"}
    settings = load_settings({"gateway": given}, environ=environ, env_file=None)
    gateway = make_gateway(settings, FixedClock(), random.Random(1))
    assert isinstance(gateway, CcxtGateway)
    exchange = gateway.exchange
    assert (exchange.apiKey, exchange.secret, exchange.password) == ("the-key", "the-secret", "phrase")
    assert (exchange.timeout, exchange.urls["api"]["rest"]) == (3_000, "http://127.0.0.1:9")
    assert (gateway.traits.settle, gateway.traits.request_expiry, gateway.rate_limit_share) == (1.0, 4.5, 0.5)
    assert {"the-key", "the-secret", "phrase"} <= set(settings.secrets())
    assert "phrase" not in repr(settings)


def test_a_window_is_never_longer_than_the_rows() -> None:
    """An override may shorten what the exchange is told, to a second at the least."""
    expiry = Expiry(seconds=5.0, option="recvWindow")
    assert [window(expiry, value) for value in (None, 60.0, 2.0, 0.1)] == [5.0, 5.0, 1.5, 1.0]
    assert window(None, 3.0) is None
    assert window(Expiry(seconds=5.0), 2.0) == 5.0  # it cannot be told
    assert window(Expiry(seconds=5.0, param="deadline", least=3.0), 2.0) == 3.0
    assert made("binance", request_expiry_seconds=2.0).exchange.options["recvWindow"] == 1_500


async def test_nothing_secret_is_shown() -> None:
    """Neither by the gateway nor by ccxt's object."""
    shown = gateway("okx", api_key="the-key", api_secret="the-secret", password="the-phrase")
    assert repr(shown) == "CcxtGateway('okx')"
    assert not any(secret in repr(shown.exchange) for secret in ("the-key", "the-secret", "the-phrase"))
