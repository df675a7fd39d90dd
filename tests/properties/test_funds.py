"""Funds set aside add up exactly and come back; steps are checked at any size; cancels always have their share."""

from __future__ import annotations

from decimal import Decimal, localcontext

from hypothesis import example, given
from hypothesis import strategies as st

from services.mcp.order_execution.errors import InvalidOrder
from services.mcp.order_execution.funds import Funds
from services.mcp.order_execution.gateways.base import Market
from services.mcp.order_execution.models import ZERO, OrderRequest, OrderType, Side
from services.mcp.order_execution.pretrade import quantise
from services.mcp.order_execution.rate_limit import RateLimiter
from services.mcp.order_execution.wire import Lane
from tests.virtual_time import VirtualClock, run_virtual
from tests.worlds import ORDER, World

coarse = st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(100_000), places=4)
fine = st.decimals(min_value=Decimal("1e-18"), max_value=Decimal("1e14"), places=18)


async def _unknown_balances(world: World) -> Funds:
    """Funds of an account whose balances nobody has told yet: nothing is refused, everything is counted."""
    await world.bot.execute_order(ORDER)
    core = world.bot._core
    assert core is not None
    return Funds(core.wire, VirtualClock())


def _reserve_and_release(amounts: list[Decimal], order: list[int]) -> None:
    async def main() -> None:
        world = World()
        funds = await _unknown_balances(world)
        funds.refresh = _never  # type: ignore[method-assign]
        held: dict[str, Decimal] = {}
        for number, amount in enumerate(amounts):
            await funds.reserve(f"o{number}", ("USD", amount))
            held[f"o{number}"] = amount
        for number in order:
            funds.release(f"o{number}")
            funds.release(f"o{number}")
            held.pop(f"o{number}", None)
            with localcontext() as exact:
                exact.prec = 100
                assert funds.reserved("USD") == sum(held.values(), ZERO)
        for order_id in list(held):
            funds.release(order_id)
        assert funds.reserved("USD") == 0
        assert not funds.reservations
        await world.bot.close()

    run_virtual(main)


async def _never(*, max_age: float = 0.0) -> bool:
    return False


@given(amounts=st.lists(coarse, min_size=1, max_size=6), order=st.lists(st.integers(0, 5), max_size=8))
def test_reservations_add_up_and_return_to_zero(amounts: list[Decimal], order: list[int]) -> None:
    """In any order of release, and when released twice."""
    _reserve_and_release(amounts, order)


@given(amounts=st.lists(fine, min_size=1, max_size=4), order=st.lists(st.integers(0, 3), max_size=4))
@example(amounts=[Decimal("999999999999999.1"), Decimal("0.123456789012345678")], order=[0])
def test_reservations_of_any_width_return_to_zero(amounts: list[Decimal], order: list[int]) -> None:
    """Price times amount easily has more than 28 digits beside another sum."""
    _reserve_and_release(amounts, order)


@given(amount=fine)
@example(amount=Decimal("12345678901234.5"))
def test_the_finest_step_and_the_largest_amount_are_judged(amount: Decimal) -> None:
    """Passed unchanged or refused by name; never an exception of the decimal module."""
    step = Decimal("1e-18")
    market = Market(symbol="A/B", base="A", quote="B", price_tick=step, amount_step=step)
    request = OrderRequest("o", "A/B", Side.BUY, OrderType.LIMIT, amount, Decimal(1))
    try:
        assert quantise(request, market).amount == amount
    except InvalidOrder as error:
        assert error.field == "amount"


@given(rate=st.integers(1, 20), burst=st.integers(10, 40), others=st.integers(1, 80))
def test_new_orders_never_use_up_the_share_of_cancels(rate: int, burst: int, others: int) -> None:
    """However many orders were sent at once, a cancel leaves without waiting."""

    async def main() -> None:
        clock = VirtualClock()
        limits = dict.fromkeys(Lane, (None, 1))
        limiter = RateLimiter(clock.monotonic, limits, share=1.0, shared=(float(rate), burst), cancel_reserve=0.2)
        now = clock.monotonic()
        sent = [await limiter.acquire(Lane.SUBMIT, now + 1e-6) for _ in range(others)]
        assert sum(sent) <= burst * 0.8 + 1e-6
        assert await limiter.acquire(Lane.CANCEL, now + 1e-6)

    run_virtual(main)
