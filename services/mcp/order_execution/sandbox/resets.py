"""Breaking connections the hard way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from aiohttp import web


def reset(request: web.BaseRequest) -> None:
    """Reset the request's connection: what has not been sent never is, and the caller sees a reset."""
    abort(request.transport)


def abort(transport: asyncio.BaseTransport | None) -> None:
    """Reset a connection; harmless where it is gone."""
    if not isinstance(transport, asyncio.Transport):
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
