"""The Nobitex gateway against the sandbox, over real HTTP, for both of its auth schemes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.gateways.nobitex.signing import make_signer
from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings, WireFaults
from tests.contract.gateways.bench import Bench, Entry, Scenario, Trouble


class NobitexBench(Bench):
    """A gateway with short times, on a sandbox of its own."""

    symbol = "BTC/USDT"
    unknown_symbol = "NOPE/USDT"
    timeout = 0.5
    tells_stop_prices = False
    troubles = frozenset(
        {
            Trouble.NONE,
            Trouble.RATE_LIMITED,
            Trouble.LOST_REQUEST,
            Trouble.LOST_REPLY,
            Trouble.SILENCE,
            Trouble.SERVER_ERROR,
            Trouble.LATE,
            Trouble.GARBAGE,
        }
    )

    def __init__(self, sandbox: Sandbox, *, token: bool) -> None:
        super().__init__()
        self.sandbox = sandbox
        self.clock = SystemClock()
        keys = sandbox.keys
        signer = make_signer(keys.token, None) if token else make_signer(keys.api_key, keys.api_secret)
        self.gateway: NobitexGateway = NobitexGateway(
            signer, self.clock, timeout_seconds=self.timeout, base_url=sandbox.base_url, settle_seconds=0.3
        )

    def cause(self, trouble: Trouble) -> None:
        ways: dict[Trouble, Any] = {
            Trouble.NONE: {},
            Trouble.RATE_LIMITED: {"rate_limited": 1, "retry_after_seconds": 0},
            Trouble.LOST_REQUEST: {"lost_request": 1, "hang_seconds": 0.05},
            Trouble.LOST_REPLY: {"lost_reply": 1, "hang_seconds": 0.05},
            Trouble.SILENCE: {"lost_request": 1, "hang_seconds": None},
            Trouble.SERVER_ERROR: {"server_error": 1},
            Trouble.LATE: {"late_arrival": 1, "late_seconds_max": 0.2, "hang_seconds": 0.05},
            Trouble.GARBAGE: {"garbled_reply": 1},
        }
        self.sandbox.set_faults(WireFaults(**ways[trouble]))

    async def book(self) -> list[Entry]:
        return [
            Entry(report.order.client_order_id, str(report.order.id), report.order.state, report.order.filled)
            for report in self.sandbox.book()
        ]

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 1.0))


def play(scenario: Scenario, *, token: bool) -> None:
    """Run one scenario of the suite on a fresh sandbox."""

    async def main() -> None:
        settings = SandboxSettings(path=Path(":memory:"), port=0, limits=None, duplicate_seconds=0.0)
        async with Sandbox(settings, rng=random.Random(1)) as sandbox:
            bench = NobitexBench(sandbox, token=token)
            await bench.gateway.open()
            try:
                await scenario(bench)
            finally:
                await bench.gateway.close()

    asyncio.run(main())
