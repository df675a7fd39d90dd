"""Outages that refuse connections."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from services.mcp.order_execution.sandbox import WireFaults
from services.mcp.order_execution.sandbox import listener as listener_module
from tests.unit.sandbox.desk import Desk, desk


def outage(after: float, lasting: float) -> WireFaults:
    return WireFaults.model_validate(
        {"outages": [{"after_seconds": after, "for_seconds": lasting, "kind": "refused"}]}
    )


async def answers(client: Desk) -> bool:
    """Whether a connection is taken."""
    try:
        await client.get("/v2/options")
    except aiohttp.ClientConnectorError:
        return False
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        return True  # taken, and broken afterwards
    return True


async def wait_until_it(client: Desk, *, taken: bool) -> None:
    for _ in range(1000):
        if await answers(client) is taken:
            return
        await asyncio.sleep(0.005)
    pytest.fail("nothing changed for five seconds")


async def test_connections_are_refused_for_so_long_and_then_taken_on_the_same_port() -> None:
    """As by a machine on which nothing listens."""
    async with desk() as client:
        port = client.sandbox.port
        client.sandbox.set_faults(outage(0, 0.2))
        await wait_until_it(client, taken=False)
        await wait_until_it(client, taken=True)
        assert client.sandbox.port == port


async def test_other_faults_end_an_outage() -> None:
    """The socket listens again at once."""
    async with desk() as client:
        client.sandbox.set_faults(outage(0, 3600))
        await wait_until_it(client, taken=False)
        client.sandbox.set_faults(WireFaults())
        await wait_until_it(client, taken=True)
        client.sandbox.set_faults(outage(0, 3600))
        await wait_until_it(client, taken=False)


async def test_whoever_is_connected_when_an_outage_begins_is_reset() -> None:
    """A stream, for instance."""
    async with desk() as client, client.session.ws_connect(client.sandbox.stream_url) as socket:
        client.sandbox.set_faults(outage(0, 3600))
        async with asyncio.timeout(5):
            message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)


async def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    """And leaves nothing open."""
    async with desk() as client:
        with pytest.raises(Exception, match=f"cannot listen on 127.0.0.1:{client.sandbox.port}"):
            async with desk(port=client.sandbox.port):
                pass


async def test_a_port_that_somebody_took_meanwhile_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And in the end the log says that it is lost."""
    monkeypatch.setattr(listener_module, "REOPEN_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(listener_module, "REOPEN_TRIES", 30)
    async with desk() as client:
        port = client.sandbox.port
        client.sandbox.set_faults(outage(0, 0.2))
        await wait_until_it(client, taken=False)
        with socket.create_server(("127.0.0.1", port)):
            for _ in range(1000):
                if caplog.messages:
                    break
                await asyncio.sleep(0.005)
        assert caplog.messages == [f"the port {port} was taken by somebody else during an outage"]
        client.sandbox.set_faults(WireFaults())
        await wait_until_it(client, taken=True)
