"""Venues in a process of their own: ``python -m tests.ccxt_venues PARENT`` prints the port of its control door.

``POST /make {"exchange": …, "seed": …, "lag": …}`` there opens a venue and answers with its address and keys. It
goes on until standard input is closed or the parent ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import asdict

from aiohttp import web

from tests.ccxt_venues.server import Venue
from tests.kills.orphans import die_with_parent

VENUES_MAX = 2_000


async def serve() -> None:
    """Open the control door and wait."""
    die_with_parent(int(sys.argv[1]))
    venues: list[Venue] = []

    async def make(request: web.Request) -> web.Response:
        told = await request.json()
        if len(venues) >= VENUES_MAX:
            return web.json_response({"error": "too many venues"}, status=429)
        venue = Venue(told["exchange"], rng=random.Random(told.get("seed", 0)), lag=float(told.get("lag", 0.0)))
        await venue.start()
        venues.append(venue)
        return web.json_response({"url": venue.base_url, "symbol": venue.symbol, **asdict(venue.keys)})

    app = web.Application()
    app.router.add_post("/make", make)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for venue in venues:
        await venue.close()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
    os._exit(0)
