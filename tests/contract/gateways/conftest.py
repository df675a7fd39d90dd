"""The gateways on which the contract suite runs. Add one: a bench, and a line in BENCHES."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.gateways.paper import PaperGateway
from services.mcp.order_execution.paper_exchange.settings import PaperFaults, PaperSettings
from tests.ccxt_venues.server import DIALECTS
from tests.contract.gateways import ccxt_bench, nobitex_bench
from tests.contract.gateways.bench import Bench, Entry, Run, Scenario, Trouble
from tests.virtual_time import VirtualClock, run_virtual


class PaperBench(Bench):
    """The paper exchange in memory, in virtual time."""

    timeout = 5.0
    troubles = frozenset(Trouble)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.clock = VirtualClock()
        given = PaperSettings(path=Path(":memory:"), **settings)
        self.gateway: PaperGateway = PaperGateway(given, self.clock, random.Random(1), timeout_seconds=self.timeout)

    def cause(self, trouble: Trouble) -> None:
        late = 0.0 if trouble is Trouble.LATE else 100.0
        ways = {
            Trouble.NONE: PaperFaults(),
            Trouble.REFUSED: PaperFaults(refused_connection=1),
            Trouble.RATE_LIMITED: PaperFaults(rate_limited=1),
            Trouble.LOST_REQUEST: PaperFaults(lost_request=1),
            Trouble.LOST_REPLY: PaperFaults(lost_reply=1),
            Trouble.SILENCE: PaperFaults(lost_request=1, hang_seconds=None),
            Trouble.SERVER_ERROR: PaperFaults(server_error=1),
            Trouble.GARBAGE: PaperFaults(garbled_reply=1),
            Trouble.LATE: PaperFaults(
                late_arrival=1, late_seconds_max=late, latency_seconds=(2, 2), hang_seconds=0
            ),
            Trouble.TOO_LATE: PaperFaults(
                late_arrival=1, late_seconds_max=late, latency_seconds=(50, 50), hang_seconds=0
            ),
        }
        self.gateway.set_faults(ways[trouble])

    async def book(self) -> list[Entry]:
        return [
            Entry(report.order.client_order_id, str(report.order.id), report.order.state, report.order.filled)
            for report in self.gateway.exchange.all_orders()
        ]

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _play(make: Callable[[], Bench], scenario: Scenario) -> None:
    async def main() -> None:
        bench = make()
        await bench.gateway.open()
        try:
            await scenario(bench)
        finally:
            await bench.gateway.close()

    run_virtual(main)


BENCHES: dict[str, Run] = {
    "paper": partial(_play, PaperBench),
    "paper: ids unique and found among open orders": partial(
        _play, partial(PaperBench, client_ids="open", lookup="open")
    ),
    "paper: ids neither unique nor found": partial(_play, partial(PaperBench, client_ids="none", lookup="none")),
    "paper: requests never expire": partial(
        _play, partial(PaperBench, request_expiry_seconds=None, settle_seconds=200.0)
    ),
    "nobitex: API key": partial(nobitex_bench.play, token=False),
    "nobitex: session token": partial(nobitex_bench.play, token=True),
    **{f"ccxt: {exchange}": partial(ccxt_bench.play, exchange=exchange) for exchange in DIALECTS},
}


@pytest.fixture(params=list(BENCHES.values()), ids=list(BENCHES))
def run(request: pytest.FixtureRequest) -> Run:
    """Plays a scenario on one gateway."""
    play: Run = request.param
    return play
