"""Where the order stream is; that it tells of orders is in test_gateway.py, on the sandbox."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.gateways.nobitex.stream import stream_url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://apiv2.nobitex.ir", "wss://ws.nobitex.ir/connection/websocket"),
        ("https://testnetapiv2.nobitex.ir", "wss://testnetws.nobitex.ir/connection/websocket"),
        ("http://127.0.0.1:8765", "ws://127.0.0.1:8765/connection/websocket"),
        ("https://proxy.example:8443", "wss://proxy.example:8443/connection/websocket"),
    ],
)
def test_the_stream_is_found_beside_the_api(base: str, url: str) -> None:
    """Production and testnet have hosts of their own; any other host serves both."""
    assert stream_url(base, None) == url
    assert stream_url(base, "ws://given") == "ws://given"
