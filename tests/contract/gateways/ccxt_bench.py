"""The ccxt gateway on the real ccxt classes, against local venues that speak four exchanges' wire formats."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Final

from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import Market
from services.mcp.order_execution.gateways.ccxt import CcxtGateway
from services.mcp.order_execution.models import OrderState
from tests.ccxt_venues.book import Order, Status
from tests.ccxt_venues.faults import Fate, Faults
from tests.ccxt_venues.server import Venue
from tests.contract.gateways.bench import Bench, Entry, Scenario, Trouble

STATES: Final = {
    Status.FILLED: OrderState.FILLED,
    Status.CANCELED: OrderState.CANCELED,
    Status.EXPIRED: OrderState.EXPIRED,
}
LATE_SECONDS: Final = 0.3
FAULTS: Final = {
    Trouble.NONE: Faults(),
    Trouble.RATE_LIMITED: Faults(rates={Fate.LIMITED: 1.0}, retry_after="1"),
    Trouble.LOST_REQUEST: Faults(rates={Fate.LOST_REQUEST: 1.0}),
    Trouble.LOST_REPLY: Faults(rates={Fate.LOST_REPLY: 1.0}),
    Trouble.SILENCE: Faults(rates={Fate.HANG_BEFORE: 1.0}),
    Trouble.SERVER_ERROR: Faults(rates={Fate.ERROR_BEFORE: 0.5, Fate.ERROR_AFTER: 0.5}),
    # Checked when it was sent: by the time it lands kraken has seen higher nonces.
    Trouble.LATE: Faults(rates={Fate.LATE: 1.0}, late=(LATE_SECONDS, LATE_SECONDS), late_checked_at_door=True),
    Trouble.GARBAGE: Faults(rates={Fate.CUT: 0.25, Fate.HALF: 0.25, Fate.EMPTY: 0.25, Fate.PAGE: 0.25}),
}


class CcxtBench(Bench):
    """A gateway with short times, on a venue of its own."""

    def __init__(self, venue: Venue) -> None:
        super().__init__()
        self.venue = venue
        self.clock = SystemClock()
        self.symbol = venue.symbol
        self.unknown_symbol = "NOPE/USDT"
        self.keeps_ids_longer = venue.book.ids_forever
        self.nobody = self.name(0)
        # Waiting for a timeout is shown once here; tests/integration/test_ccxt_faults.py does it on every exchange.
        waits = venue.dialect.name == "binance"
        self.troubles = frozenset(FAULTS) - (set() if waits else {Trouble.SILENCE})
        self.timeout = 0.5 if waits else 5.0
        self.gateway: CcxtGateway = gateway(venue, timeout_seconds=self.timeout)

    def name(self, number: int) -> str:
        return f"contract{number}" if self.venue.dialect.name == "okx" else f"contract-{number}"

    def cause(self, trouble: Trouble) -> None:
        self.venue.set_faults(FAULTS[trouble])

    async def book(self) -> list[Entry]:
        return [self._entry(order) for order in self.venue.book.orders]

    def _entry(self, order: Order) -> Entry:
        at_rest = OrderState.PARTIALLY_FILLED if order.filled else OrderState.OPEN
        state = STATES.get(order.status, at_rest)
        return Entry(order.client_id, self.venue.dialect.order_id(order.number), state, Decimal(order.filled))

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, LATE_SECONDS + 0.1))


def gateway(
    venue: Venue,
    *,
    timeout_seconds: float = 5.0,
    settle_seconds: float = 0.05,
    request_expiry_seconds: float | None = None,
) -> CcxtGateway:
    """A gateway to a venue, with the account's keys."""
    keys = venue.keys
    return CcxtGateway(
        venue.dialect.name,
        SystemClock(),
        api_key=keys.api_key,
        api_secret=keys.secret,
        password=keys.passphrase,
        timeout_seconds=timeout_seconds,
        base_url=venue.base_url,
        settle_seconds=settle_seconds,
        request_expiry_seconds=request_expiry_seconds,
    )


async def _learn_the_markets(bench: CcxtBench) -> None:
    """Several times if need be: a slow machine may take longer for it than a short timeout allows."""
    for _ in range(10):
        if isinstance(await bench.gateway.market(bench.symbol), Market):
            return


def play(scenario: Scenario, *, exchange: str) -> None:
    """Run one scenario of the suite on a fresh venue."""

    async def main() -> None:
        async with Venue(exchange, rng=random.Random(1)) as venue:
            bench = CcxtBench(venue)
            await bench.gateway.open()
            try:
                await _learn_the_markets(bench)
                await scenario(bench)
            finally:
                await bench.gateway.close()

    asyncio.run(main())
