"""Funds: two orders never spend the same balance, and what fills should have moved is known to the digit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from services.mcp.order_execution import lifecycle
from services.mcp.order_execution.errors import ErrorCategory, InsufficientFunds
from services.mcp.order_execution.funds import Funds
from services.mcp.order_execution.gateways.base import Balance, Balances, Unavailable
from services.mcp.order_execution.models import Fill, Order, OrderEvent, OrderRequest, OrderType, Side
from services.mcp.order_execution.wire import Wire
from tests.virtual_time import VirtualClock, run_virtual

D = Decimal
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Account:
    """The exchange's side: balances that the test sets, behind a wire that can be silent."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.held: dict[str, Balance] = {"USD": Balance(D(100)), "BTC": Balance(D(2))}
        self.silent = False
        self.asked = 0
        self.gateway = self
        self.funds = Funds(cast(Wire, self), self.clock)

    async def balances(self) -> Balances | Unavailable:
        self.asked += 1
        held = dict(self.held)
        await asyncio.sleep(0.1)
        return Unavailable(ErrorCategory.TIMEOUT, "no answer") if self.silent else Balances(held)

    async def read(self, call: Callable[[], Awaitable[Any]], deadline: float) -> Any:
        return await call()


def scenario(test: Callable[[Account], Awaitable[None]]) -> Callable[[], None]:
    """Run the test in virtual time with an account of its own."""

    def run() -> None:
        async def main() -> None:
            account = Account()
            try:
                await test(account)
            finally:
                await account.funds.close()

        run_virtual(main)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def sending(order_id: str, side: Side = Side.BUY) -> Order:
    request = OrderRequest(order_id, "BTC/USD", side, OrderType.LIMIT, D(1), D(60))
    return lifecycle.intend(lifecycle.new_order(request, NOW), NOW).order


def traded(order: Order, price: str, amount: str, fee: str = "0", currency: str = "USD") -> OrderEvent:
    events: list[OrderEvent] = []
    lifecycle.book_fill(order, Fill("t-1", D(price), D(amount), D(fee), currency, NOW), NOW, events)
    return events[-1]


@scenario
async def test_two_orders_cannot_spend_the_same_balance(account: Account) -> None:
    """The second one is refused, and is told what is there and what is reserved."""
    await account.funds.reserve("a", ("USD", D(60)))
    with pytest.raises(InsufficientFunds, match=r"60 USD needed, 40 available \(60 reserved") as refused:
        await account.funds.reserve("b", ("USD", D(60)))
    assert refused.value.order_id == "b"
    assert account.funds.reservations == {"a": D(60)}


@scenario
async def test_what_is_known_to_be_there_is_set_aside_at_once(account: Account) -> None:
    """Without asking the exchange; nothing is set aside where that may not suffice, or nothing is known."""
    funds = account.funds
    assert not funds.reserve_known("a", ("USD", D(60)))
    await funds.refresh()
    assert funds.reserve_known("a", ("USD", D(60)))
    assert not funds.reserve_known("b", ("USD", D("40.01")))
    assert not funds.reserve_known("b", ("EUR", D(1)))
    assert funds.reserve_known("b", None)
    assert funds.reservations == {"a": D(60)}
    assert account.asked == 1


@scenario
async def test_concurrent_orders_cannot_either(account: Account) -> None:
    """However they interleave while the balance is being asked for, which happens once."""
    answers = await asyncio.gather(
        *(account.funds.reserve(str(n), ("USD", D(40))) for n in range(5)), return_exceptions=True
    )
    assert [type(answer) for answer in answers].count(InsufficientFunds) == 3
    assert account.funds.reserved("USD") == D(80)
    assert account.funds.available("USD") == D(20)
    assert account.asked == 1


@scenario
async def test_what_is_exactly_there_can_be_spent(account: Account) -> None:
    """To the last digit, and a currency that is not listed has nothing."""
    await account.funds.reserve("a", ("USD", D(100)))
    assert account.funds.available("USD") == 0
    with pytest.raises(InsufficientFunds):
        await account.funds.reserve("b", ("EUR", D("0.01")))


@scenario
async def test_a_silent_exchange_refuses_nothing(account: Account) -> None:
    """Where balances cannot be had, or the cost is not known, the exchange decides."""
    account.silent = True
    await account.funds.reserve("a", ("USD", D(10**9)))
    await account.funds.reserve("b", None)
    assert account.funds.total("USD") is None
    assert account.funds.available("USD") is None
    assert account.funds.deviations() == {}
    assert account.funds.reservations == {"a": D(10**9)}


@scenario
async def test_an_order_that_never_left_gives_its_funds_back(account: Account) -> None:
    """Its end without an id at the exchange is proof enough."""
    order = sending("a")
    await account.funds.reserve("a", ("USD", D(60)))
    account.funds.hear(lifecycle.rejected(order, NOW, "no"))
    assert account.funds.reserved("USD") == 0
    account.funds.release("a")
    assert account.funds.reserved("USD") == 0


@scenario
async def test_an_unknown_order_keeps_its_funds(account: Account) -> None:
    """It may be at the exchange."""
    await account.funds.reserve("a", ("USD", D(60)))
    account.funds.hear(lifecycle.unknown(sending("a"), NOW, "no answer"))
    await asyncio.sleep(1)
    await account.funds.refresh(max_age=0)
    assert account.funds.reserved("USD") == D(60)


@scenario
async def test_an_accepted_order_is_reserved_until_the_exchange_blocks_it(account: Account) -> None:
    """Until a balance asked for after the acceptance; one that was under way before does not count."""
    order = sending("a")
    await account.funds.reserve("a", ("USD", D(60)))
    await asyncio.sleep(1)
    under_way = asyncio.create_task(account.funds.refresh())
    await asyncio.sleep(0.05)
    account.funds.hear(lifecycle.accepted(order, NOW, "x-1"))
    account.held["USD"] = Balance(D(40), blocked=D(60))
    await under_way
    assert account.funds.reserved("USD") == D(60)
    await asyncio.sleep(1)
    await account.funds.refresh()
    assert account.funds.reserved("USD") == 0
    assert account.funds.available("USD") == D(40)


@scenario
async def test_reserving_anew_replaces_what_was_reserved(account: Account) -> None:
    """An order that starts afresh is counted once."""
    await account.funds.reserve("a", ("USD", D(60)))
    await account.funds.reserve("a", ("BTC", D(1)))
    assert (account.funds.reserved("USD"), account.funds.reserved("BTC")) == (0, D(1))


@scenario
async def test_a_young_balance_is_not_asked_for_again(account: Account) -> None:
    """Requests are dear."""
    assert await account.funds.refresh()
    assert await account.funds.refresh()
    assert account.asked == 1
    await asyncio.sleep(1)
    account.silent = True
    assert not await account.funds.refresh()
    assert account.funds.total("USD") == D(100)


@scenario
async def test_fills_move_the_balance_as_they_say(account: Account) -> None:
    """What is bought comes in, its cost and its fee go out; then nothing deviates."""
    await account.funds.refresh()
    account.funds.rebase()
    account.funds.hear(traded(sending("a"), "60", "0.5", fee="0.1"))
    account.held = {"USD": Balance(D("69.9")), "BTC": Balance(D("2.5"))}
    await account.funds.refresh(max_age=0)
    assert account.funds.deviations() == {}


@scenario
async def test_a_balance_that_moved_otherwise_is_told(account: Account) -> None:
    """With what was expected and what the exchange says; taken for right, it deviates no more."""
    await account.funds.refresh()
    account.funds.rebase()
    account.funds.hear(traded(sending("a", Side.SELL), "60", "0.5", fee="0.01", currency="BTC"))
    account.held = {"USD": Balance(D(130))}
    await account.funds.refresh(max_age=0)
    assert account.funds.deviations() == {"BTC": (D("1.49"), D(0))}
    account.funds.rebase()
    assert account.funds.deviations() == {}
