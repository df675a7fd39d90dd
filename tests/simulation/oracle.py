"""The reckoning: the exchange's own book against everything that was said and written here."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from services.mcp.order_execution import OrderNotFound, ReconciliationReport
from services.mcp.order_execution.errors import ExchangeUnavailable
from services.mcp.order_execution.journals.codec import decode_order
from services.mcp.order_execution.models import CircuitState, EventKind, Order, OrderState, Side
from tests.simulation.exchange import FEE, START, Entry
from tests.simulation.world import Life, SimulatedWorld, Violation

NOT_PLACED = (OrderState.REJECTED, OrderState.EXPIRED, OrderState.CANCELED)


async def reckon(world: SimulatedWorld, life: Life) -> None:
    """Raise Violation if the promise was broken in this world."""
    _nothing_is_doubled(world)
    _nothing_false_was_told(world)
    _money_adds_up(world)
    for intent in world.params:
        await _one_order(world, life, intent)
    await _a_reconciliation_finds_nothing(world, life)
    _events_have_no_gaps(life)
    await _everything_is_at_rest(world, life)
    _the_disk_holds_it(world, life)


def _require(condition: object, message: str) -> None:
    if not condition:
        raise Violation(message)


def entries_of(world: SimulatedWorld, intent: str) -> list[Entry]:
    """Every order that ever existed for an intent."""
    return [entry for entry in world.exchange.entries if entry.intent == intent]


def _nothing_is_doubled(world: SimulatedWorld) -> None:
    for intent in world.params:
        _require(len(entries_of(world, intent)) <= 1, f"{intent} exists {len(entries_of(world, intent))} times")


def _nothing_false_was_told(world: SimulatedWorld) -> None:
    """A verdict holds for every message that had left by then."""
    for told in world.told:
        entries = entries_of(world, told.intent)
        if told.verdict == "placed":
            _require(entries, f"{told.intent} was told to be placed and never existed")
        elif told.verdict == "rejected":
            _require(not entries, f"{told.intent} was told to be rejected ({told.detail}) and exists")
        elif told.verdict == "not_sent":
            early = [entry for entry in entries if entry.left_at <= told.at]
            _require(not early, f"{told.intent} was told to be {told.verdict} ({told.detail}) and exists")
        elif told.verdict == "canceled":
            for entry in entries:
                _require(entry.left_at <= told.at, f"{told.intent} was told to be canceled and was sent afterwards")
                closed = entry.closed_at
                _require(closed is not None, f"{told.intent} was told to be canceled and rests")
                _require(closed is not None and closed <= told.at, f"{told.intent} traded on after its cancel")


def _money_adds_up(world: SimulatedWorld) -> None:
    """The book's balances are what its fills alone say."""
    money = dict(START)
    for entry in world.exchange.entries:
        base, quote = entry.request.symbol.split("/")
        for fill in entry.fills:
            sign = 1 if entry.request.side is Side.BUY else -1
            money[base] += sign * fill.amount
            money[quote] -= sign * fill.amount * fill.price + fill.amount * fill.price * FEE
    _require(money == world.exchange.money, f"the exchange's money does not add up: {money}")


async def _one_order(world: SimulatedWorld, life: Life, intent: str) -> None:
    entries = entries_of(world, intent)
    try:
        order: Order = await world.inside(life, life.bot.get_order_status(intent))
    except OrderNotFound:
        _require(not entries, f"{intent} is at the exchange, and nothing is known of it here")
        return
    if order.state.is_unresolved:
        await _is_honestly_unresolved(world, life, order)
        return
    if not entries:
        _require(order.state in NOT_PLACED, f"{intent} is {order.state} and never existed")
        _require(order.filled == 0, f"{intent} traded and never existed")
        return
    entry = entries[0]
    seen = entry.order
    _require(order.exchange_order_id == seen.exchange_order_id, f"{intent} is at the exchange, and not known here")
    _require(order.state is seen.state, f"{intent} is {seen.state} at the exchange and {order.state} here")
    _require(order.filled == seen.filled, f"{intent}: {seen.filled} filled at the exchange, {order.filled} here")
    if world.exchange.carry_fills or world.exchange.traits.lists_trades:
        ours = {fill.trade_id: (fill.price, fill.amount, fill.fee) for fill in order.fills}
        theirs = {fill.trade_id: (fill.price, fill.amount, fill.fee) for fill in entry.fills}
        _require(ours == theirs, f"{intent} has the fills {theirs} at the exchange and {ours} here")
        _require(len(order.fills) == len(ours), f"{intent} has a fill booked twice")
        fees = sum((fill.fee for fill in entry.fills), Decimal(0))
        _require(sum(order.fees.values(), Decimal(0)) == fees, f"{intent}: the fees are {fees}, {order.fees} here")


async def _is_honestly_unresolved(world: SimulatedWorld, life: Life, order: Order) -> None:
    """Only where the exchange cannot be asked, and said aloud."""
    traits = world.exchange.traits
    core = life.bot._core
    assert core is not None
    undecidable = not traits.can_resolve or order.exchange_order_id is not None
    conflicting = order.attempts > 1
    _require(undecidable or conflicting, f"{order.order_id} is {order.state} although the exchange can be asked")
    _require(
        order.order_id in core.resolver.undecidable,
        f"{order.order_id} is {order.state} and not reported as undecidable",
    )
    world.rare["left unresolved, honestly"] += 1


async def _a_reconciliation_finds_nothing(world: SimulatedWorld, life: Life) -> None:
    if not world.exchange.traits.can_resolve:
        return
    first = await world.inside(life, _reconciled(life))
    _require(first.is_clean, f"a reconciliation finds {first.details}")
    second = await world.inside(life, life.bot.reconcile_orders())
    _require(second.is_clean and not second.repaired, f"a second reconciliation finds {second.details}")


async def _reconciled(life: Life) -> ReconciliationReport:
    """Reconcile, once a circuit that nobody needed for a while lets reads through again."""
    for _ in range(5):
        try:
            return await life.bot.reconcile_orders()
        except ExchangeUnavailable:
            await asyncio.sleep(100)
    return await life.bot.reconcile_orders()


def _events_have_no_gaps(life: Life) -> None:
    """Whoever listened was told of every version of every order, once and in order."""
    last: dict[str, int] = {}
    for event in life.events:
        before = last.get(event.order_id)
        version = event.order.version
        anew = event.kind is EventKind.REPAIRED  # a journal opened anew goes on from what it holds
        _require(
            before is None or version == before + 1 or anew, f"{event.order_id}: event {version} follows {before}"
        )
        last[event.order_id] = version


async def _everything_is_at_rest(world: SimulatedWorld, life: Life) -> None:
    core = life.bot._core
    assert core is not None
    unresolved = {order.order_id for order in core.registry.unresolved()}
    await world.inside(life, core.funds.refresh(max_age=0.0))
    _require(set(core.funds.reservations) <= unresolved, f"funds stay reserved: {dict(core.funds.reservations)}")
    for lane, breaker in core.breakers.items():
        _require(not breaker._probes, f"permits of the {lane} circuit have leaked")
        if breaker.state is not CircuitState.CLOSED:
            world.rare["a circuit was not closed at the end, for want of traffic"] += 1
            await asyncio.sleep(700)
            _require(breaker.allows(), f"the {lane} circuit stays open for ever")
    _require(not core.registry._wanted, f"somebody still wants {core.registry._wanted}")
    _require(not core.registry._waiters, f"somebody still waits for {core.registry._waiters}")
    _require(not life.bot._calls._placing, f"{life.bot._calls._placing} is still being placed")
    _require(not core.canceller._tasks, f"{core.canceller._tasks} are still being cancelled")
    _require(set(core.resolver._tasks) <= unresolved, f"{core.resolver._tasks} are still being resolved")
    await world.inside(life, life.bot.close())
    left = [
        task for task in world.loop.living_tasks() if task.get_name() not in ("main", "companion", "end of a life")
    ]
    _require(not left, f"tasks are left over: {left}")


def _the_disk_holds_it(world: SimulatedWorld, life: Life) -> None:
    """After the end the journal, read from the disk, agrees with the book, and with what the process knew."""
    core = life.bot._core
    assert core is not None
    for intent in world.params:
        content = world.store.orders.get(intent)
        entries = entries_of(world, intent)
        if not entries:
            continue
        _require(content is not None, f"{intent} is at the exchange and not on disk")
        assert content is not None
        order = decode_order(content)
        known = core.registry.get(intent)
        _require(known in (None, order), f"{intent} is {order} on disk and {known} in memory")
        if order.state.is_unresolved:
            continue
        seen = entries[0].order
        _require(
            (order.state, order.filled) == (seen.state, seen.filled),
            f"{intent} is {order.state} on disk, {seen.state}",
        )
