"""Resets."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution.sandbox.resets import abort


async def test_the_other_side_sees_a_reset_not_an_end() -> None:
    """What was written and not yet sent is gone."""
    held: list[asyncio.StreamWriter] = []
    ready = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        ready.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"x")
        await ready.wait()
        abort(held[0].transport)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


def test_a_connection_that_is_gone_can_be_reset() -> None:
    """Nothing happens."""
    abort(None)
