"""One request, sent once: what was answered, or how far it came."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.nobitex.signing import TokenSigner
from services.mcp.order_execution.gateways.nobitex.transport import Lost, Transport, read_json


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b"{", b"<html>", b"\xff", b"[" * 100_000, b'{"a":' * 5_000])
def test_only_an_object_is_an_answer(text: bytes) -> None:
    """Whatever else comes is none, however deep or broken."""
    assert read_json(text) is None


def test_numbers_stay_exact() -> None:
    """No float comes of an amount."""
    assert read_json(b'{"a": 0.1, "b": 12345678901234567890}') == {"a": Decimal("0.1"), "b": 12345678901234567890}


def test_a_refused_connection_was_not_sent() -> None:
    """Nothing can have left."""

    async def main() -> None:
        transport = Transport("http://127.0.0.1:9", TokenSigner("t"), SystemClock(), timeout_seconds=2.0)
        await transport.open()
        answer = await transport.call("GET", "/x")
        assert isinstance(answer, Lost)
        assert (answer.category, answer.sent) == (ErrorCategory.CONNECTION, False)
        await transport.close()
        await transport.close()
        with pytest.raises(RuntimeError):
            _ = transport.session

    asyncio.run(main())
