"""The face of a gateway that only reads: through limiter, breaker and time limit, and it never writes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from services.mcp.order_execution import ErrorCategory
from services.mcp.order_execution.circuit_breaker import BreakerPolicy, CircuitBreaker
from services.mcp.order_execution.gateways.base import (
    Found,
    NotFound,
    NotSent,
    OrderRef,
    Unavailable,
)
from services.mcp.order_execution.guarded_gateway import GuardedGateway
from services.mcp.order_execution.lifecycle import request_of
from services.mcp.order_execution.metrics import Metrics
from services.mcp.order_execution.models import OrderState
from services.mcp.order_execution.rate_limit import RateLimiter
from services.mcp.order_execution.wire import Lane, Wire
from tests.fakes import FakeExchange
from tests.unit.test_lifecycle import order_in
from tests.virtual_time import VirtualClock, run_virtual

REQUEST = request_of(order_in(OrderState.OPEN))


def _bench() -> tuple[FakeExchange, GuardedGateway, dict[Lane, CircuitBreaker]]:
    clock = VirtualClock()
    exchange = FakeExchange(clock)
    policy = BreakerPolicy(failure_threshold=2, cool_down_seconds=10)
    breakers = {lane: CircuitBreaker(lane, policy, clock.monotonic) for lane in Lane}
    limiter = RateLimiter(clock.monotonic, dict.fromkeys(Lane, (None, 1)), share=1.0)
    wire = Wire(exchange, clock, limiter, breakers, Metrics(), timeout=5.0)
    return exchange, GuardedGateway(wire, clock, timeout=30.0), breakers


def test_it_writes_nothing() -> None:
    """Neither an order nor a cancel reaches the exchange, and the answer says so by its type."""

    async def main() -> None:
        exchange, gateway, _ = _bench()
        await gateway.open()
        ref = OrderRef("o", "BTC/USD")
        assert isinstance(await gateway.submit(REQUEST), NotSent)
        assert isinstance(await gateway.cancel(ref), NotSent)
        await gateway.close()
        assert exchange.submits == []
        assert exchange.cancels == []

    run_virtual(main)


def test_every_read_says_what_the_exchange_says() -> None:
    """Unchanged, for each of them."""

    async def main() -> None:
        exchange, gateway, _ = _bench()
        exchange.place(REQUEST)
        exchange.fill("X1", "0.01")
        now = exchange.clock.now()
        ref = OrderRef(REQUEST.client_order_id, REQUEST.symbol)
        assert await gateway.query(ref) == Found(exchange.orders["X1"])
        assert await gateway.query(OrderRef("other", REQUEST.symbol)) == NotFound()
        assert await gateway.open_orders() == await exchange.open_orders()
        exchange.close_order("X1")
        since = now - timedelta(hours=1)
        assert await gateway.closed_orders(since, now + timedelta(hours=1)) == await exchange.closed_orders(
            since, now
        )
        assert await gateway.trades(since) == await exchange.trades(since)
        assert await gateway.balances() == await exchange.balances()
        assert await gateway.ticker("BTC/USD") == await exchange.ticker("BTC/USD")
        assert await gateway.market("BTC/USD") == await exchange.market("BTC/USD")
        assert await gateway.ping() is None
        assert gateway.traits is exchange.traits
        assert gateway.name == exchange.name

    run_virtual(main)


def test_its_failures_count_on_the_query_lane_alone() -> None:
    """Reads that fail open the circuit of queries, and orders go on."""

    async def main() -> None:
        exchange, gateway, breakers = _bench()
        exchange.down = "503"
        for _ in range(2):
            assert await gateway.ping() == Unavailable(ErrorCategory.SERVER_ERROR, "503")
        exchange.down = None
        refused = await gateway.balances()
        assert isinstance(refused, Unavailable)
        assert refused.category is ErrorCategory.CIRCUIT_OPEN
        assert breakers[Lane.SUBMIT].acquire().generation == 0

    run_virtual(main)


def test_a_read_that_hangs_is_unavailable_in_time() -> None:
    """The time limit of one attempt holds for it too."""

    async def main() -> None:
        exchange, gateway, _ = _bench()
        exchange.latency = 100.0
        answer = await gateway.ticker("BTC/USD")
        assert isinstance(answer, Unavailable)
        assert answer.category is ErrorCategory.TIMEOUT
        assert exchange.clock.monotonic() == 1_000_005
        assert exchange.free["USD"] == Decimal(1_000_000)

    run_virtual(main)
