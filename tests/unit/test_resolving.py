"""What became of an order whose answer never came: the exchange's word, and nothing less."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from services.mcp.order_execution import (
    CircuitOpen,
    ErrorCategory,
    ExecutorHalted,
    JournalUnavailable,
    OrderNotSent,
    OrderRejected,
    OrderState,
    OrderUnresolved,
)
from services.mcp.order_execution.gateways.base import (
    ExchangeTrade,
    LookupScope,
    NotFound,
    NotSent,
    OrderList,
    Rejected,
    Unavailable,
)
from services.mcp.order_execution.resolving import EARLY_SCANS
from tests.fakes import FOREVER, OPEN_ONLY
from tests.worlds import ORDER, REFUSED, World, scenario

MINE: dict[str, Any] = {**ORDER, "client_order_id": "mine"}
LISTS_ONLY = replace(OPEN_ONLY, lookup_scope=LookupScope.NONE)
TRADES_ONLY = replace(LISTS_ONLY, lists_closed_orders=False)


@pytest.mark.parametrize("traits", [FOREVER, OPEN_ONLY, LISTS_ONLY])
@pytest.mark.parametrize("end", ["open", "filled", "canceled"])
def test_an_order_is_found_wherever_the_exchange_shows_it(traits: Any, end: str) -> None:
    """By lookup, among the open orders, or among the closed ones."""

    @scenario(traits=traits)
    async def run(w: World) -> None:
        w.exchange.script.append("lost reply")

        def end_at_once(request: object) -> None:
            if end == "filled":
                asyncio.get_running_loop().call_later(0.015, w.exchange.fill, "X1", "0.1")
            elif end == "canceled":
                asyncio.get_running_loop().call_later(0.015, w.exchange.close_order, "X1")

        w.exchange.before_send = end_at_once
        w.exchange.latency = 0.01
        assert await w.bot.execute_order(MINE) == "mine"
        assert (await w.bot.get_order_status("mine")).state == end
        assert len(w.exchange.submits) == 1

    run()


@scenario(traits=TRADES_ONLY)
async def test_a_trade_proves_the_order_even_if_the_lookup_denies_it(w: World) -> None:
    """A denial that contradicts a trade is no answer."""
    w.exchange.script.append("lost reply")
    denials = [NotFound(), NotFound()]
    query = w.exchange.query

    async def deny(ref: Any) -> Any:
        return denials.pop() if denials else await query(ref)

    w.exchange.query = deny  # type: ignore[method-assign]

    def fill_at_once(request: Any) -> None:
        asyncio.get_running_loop().call_later(0.015, w.exchange.fill, "X1", "0.1")

    w.exchange.before_send = fill_at_once
    w.exchange.latency = 0.01
    assert await w.bot.execute_order(MINE) == "mine"
    assert denials == []
    assert (await w.bot.get_order_status("mine")).state is OrderState.FILLED


@scenario(traits=TRADES_ONLY)
async def test_trades_of_others_prove_nothing(w: World) -> None:
    """And without a list of closed orders there is no proof of absence."""
    placed = w.exchange.place(replace(_request(), client_order_id="theirs"))
    fill = w.exchange.fill(placed.exchange_order_id, "0.1")
    w.exchange.trades_listed = [ExchangeTrade("X1", "BTC/USD", placed.side, fill, "theirs")]
    w.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order({**MINE, "deadline_seconds": 30})
    await asyncio.sleep(1000)
    assert (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN
    assert len(w.exchange.submits) == 1


@pytest.mark.parametrize(
    ("second", "error", "state"),
    [
        (REFUSED, OrderNotSent, OrderState.EXPIRED),
        (NotSent(ErrorCategory.AUTHENTICATION, "key"), OrderNotSent, OrderState.EXPIRED),
        (Rejected("min_notional"), OrderRejected, OrderState.REJECTED),
        (Rejected("insufficient_funds"), OrderRejected, OrderState.REJECTED),
    ],
)
def test_a_resend_is_taken_for_what_its_answer_says(
    second: object, error: type[Exception], state: OrderState
) -> None:
    """Not sent, or refused; nothing rests in either case."""

    @scenario({"retry": {"max_retries": 1}})
    async def run(w: World) -> None:
        w.exchange.script.extend(["lost request", second, second])
        with pytest.raises(error):
            await w.bot.execute_order(MINE)
        assert (await w.bot.get_order_status("mine")).state is state
        assert w.exchange.named("mine") == []

    run()


@scenario()
async def test_insufficient_funds_on_a_resend_is_looked_up_before_it_is_believed(w: World) -> None:
    """It suggests that the first copy landed: and so it did."""
    w.exchange.script.extend(["lost request", Rejected("insufficient_funds")])

    def land(request: Any) -> None:
        if len(w.exchange.submits) == 1:
            w.exchange.place(request)

    w.exchange.before_send = land
    assert await w.bot.execute_order(MINE) == "mine"
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_a_duplicate_that_is_shown_nowhere_is_never_given_a_verdict(w: World) -> None:
    """An earlier copy may be what the exchange means."""
    w.exchange.script.extend(["lost request", Rejected("duplicate", duplicate_id=True)])
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order(MINE)
    await asyncio.sleep(1000)
    assert (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN
    assert len(w.exchange.submits) == 2


@scenario()
async def test_a_duplicate_on_the_only_attempt_is_a_refusal_when_nothing_is_found(w: World) -> None:
    """The exchange refused the one request that ever left."""
    w.exchange.script.append(Rejected("duplicate", duplicate_id=True))
    with pytest.raises(OrderRejected, match="duplicate"):
        await w.bot.execute_order(MINE)


@scenario({"retry": {"budget_tokens": 0}})
async def test_without_budget_nothing_is_sent_again(w: World) -> None:
    """Proven absent: never_arrived."""
    w.exchange.script.append("lost request")
    with pytest.raises(OrderRejected, match="never_arrived"):
        await w.bot.execute_order(MINE)
    assert len(w.exchange.submits) == 1


@scenario({"retry": {"retryable_errors": ["connection"]}})
async def test_only_retryable_errors_are_followed_by_a_resend(w: World) -> None:
    """A timeout is not among them here."""
    w.exchange.script.append("lost request")
    with pytest.raises(OrderRejected, match="never_arrived"):
        await w.bot.execute_order(MINE)


@pytest.mark.parametrize("obstacle", ["halt", "circuit", "journal"])
def test_a_resend_that_we_refuse_ourselves_closes_the_order(obstacle: str) -> None:
    """It is provably absent; the caller hears why, and may execute it again."""

    @scenario()
    async def run(w: World) -> None:
        w.exchange.script.append("lost request")
        placing = asyncio.create_task(w.bot.execute_order(MINE))
        await asyncio.sleep(1)
        if obstacle == "halt":
            await w.bot.halt("stop")
        elif obstacle == "circuit":
            await w.bot.force_circuit_open("stop")
        else:
            await w.journal.flush()
            w.journal.fail_next()
        errors = {"halt": (ExecutorHalted, OrderNotSent), "circuit": CircuitOpen}.get(obstacle, OrderNotSent)
        with pytest.raises(errors):  # type: ignore[arg-type]
            await placing
        assert (await w.bot.get_order_status("mine")).restartable
        if obstacle == "journal":
            with pytest.raises(JournalUnavailable):
                await w.bot.execute_order(MINE)
        await w.bot.resume()
        await w.bot.reset_circuit()
        assert await w.bot.execute_order(MINE) == "mine"
        assert len(w.exchange.named("mine")) == 1

    run()


@scenario()
async def test_a_defect_while_resolving_is_told_and_the_order_is_followed_all_the_same(w: World) -> None:
    """It is found once the defect is gone."""
    w.exchange.script.append("lost reply")
    await w.bot.open()
    core = w.bot._core
    assert core is not None
    look, failures = core.resolver.look, [RuntimeError("defect")]

    async def stumble(*asked: Any, **how: Any) -> Any:
        if failures:
            raise failures.pop()
        return await look(*asked, **how)

    core.resolver.look = stumble  # type: ignore[method-assign]
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order({**MINE, "deadline_seconds": 5})
    await asyncio.sleep(120)
    assert (await w.bot.get_order_status("mine")).state is OrderState.OPEN


def _request() -> Any:
    from services.mcp.order_execution.parameters import parse_request

    return parse_request(ORDER, "theirs")


@scenario()
async def test_another_order_under_our_id_is_never_taken_for_ours(w: World) -> None:
    """It differs in its amount: ours stays unresolved, nothing is sent again, and it is not adopted."""
    w.exchange.script.append("lost request")

    def usurp(request: Any) -> None:
        w.exchange.place(replace(request, amount=request.amount * 2))

    w.exchange.before_send = usurp
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order({**MINE, "deadline_seconds": 30})
    await asyncio.sleep(300)
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.exchange_order_id) == (OrderState.UNKNOWN, None)
    assert len(w.exchange.submits) == 1


@pytest.mark.parametrize(
    ("traits", "place"),
    [
        (FOREVER, "query"),
        (OPEN_ONLY, "query"),
        (OPEN_ONLY, "open_orders"),
        (OPEN_ONLY, "closed_orders"),
        (LISTS_ONLY, "open_orders"),
        (LISTS_ONLY, "closed_orders"),
    ],
)
def test_unavailable_is_never_not_found(traits: Any, place: str) -> None:
    """As long as one place where the order may be is silent, it is not sent again."""

    @scenario(traits=traits)
    async def run(w: World) -> None:
        w.exchange.script.append("lost request")
        answer = getattr(w.exchange, place)
        asked: list[object] = []

        async def silent(*given: object) -> object:
            asked.append(given)
            return Unavailable(ErrorCategory.SERVER_ERROR, "503")

        setattr(w.exchange, place, silent)
        call = asyncio.ensure_future(w.bot.execute_order({**MINE, "deadline_seconds": 600}))
        await asyncio.sleep(120)
        assert asked
        assert len(w.exchange.submits) == 1
        setattr(w.exchange, place, answer)
        assert await call == "mine"
        assert len(w.exchange.named("mine")) == 1

    run()


@scenario()
async def test_a_settle_wait_and_a_second_look_precede_the_resend(w: World) -> None:
    """Nothing is sent again before the request can no longer arrive; the order is looked at again by then."""
    w.exchange.script.append("lost request")
    sent: list[tuple[float, int]] = []
    w.exchange.before_send = lambda _: sent.append((w.clock.monotonic(), w.exchange.reads.count("query")))
    assert await w.bot.execute_order(MINE) == "mine"
    traits = w.exchange.traits
    (first, looks), (second, looks_by_then) = sent
    assert second - first >= traits.request_expiry + traits.settle
    assert looks_by_then - looks >= 2


SLOW_LISTS = replace(OPEN_ONLY, settle=60.0, lists_trades=False)


@scenario(traits=SLOW_LISTS)
async def test_lists_are_asked_for_seldom_until_they_can_prove_an_absence(w: World) -> None:
    """Some exchanges tell few of them in a minute; the looks that count are at all there is, and two."""
    w.exchange.script.append("lost request")
    call = asyncio.ensure_future(w.bot.execute_order({**MINE, "deadline_seconds": 600}))
    await asyncio.sleep(w.exchange.traits.unresolvable_for - 1)
    assert w.exchange.reads.count("query") > 6
    assert w.exchange.reads.count("closed_orders") <= len(EARLY_SCANS)
    w.exchange.reads.clear()
    assert await call == "mine"
    assert [read for read in w.exchange.reads if read in ("open_orders", "closed_orders")] == [
        "open_orders",
        "closed_orders",
    ] * 2


TOO_MANY = Unavailable(ErrorCategory.BAD_RESPONSE, "more than 2000 orders", local=True)
HELD_BACK = Unavailable(ErrorCategory.RATE_LIMITED, "our share is used up", retry_after=40.0, local=True)


@scenario(traits=SLOW_LISTS)
async def test_a_list_that_is_longer_than_we_ever_read_is_told_to_a_human(w: World) -> None:
    """Asking again will not help: new orders do not wait for it; it is looked for all the same, once a minute."""
    await w.bot.open()
    w.exchange.script.append("lost request")
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order({**MINE, "deadline_seconds": 5})
    bot = await w.crash()
    sink = await w.listen()
    closed = w.exchange.closed_orders
    asked: list[float] = []

    async def too_many(*given: object) -> Unavailable:
        asked.append(w.clock.monotonic())
        return TOO_MANY

    w.exchange.closed_orders = too_many  # type: ignore[method-assign,assignment]
    await asyncio.sleep(600)
    assert w.core.recovered
    assert "mine" in w.core.resolver.undecidable
    (alert,) = [alert for alert in sink.alerts if alert.key == "undecidable:mine"]
    assert "more than 2000 orders" in alert.body
    assert len(asked) <= 12
    assert (await bot.get_order_status("mine")).state is OrderState.UNKNOWN
    assert len(w.exchange.submits) == 1
    w.exchange.closed_orders = closed  # type: ignore[method-assign]
    await asyncio.sleep(300)
    assert (await bot.get_order_status("mine")).state is OrderState.REJECTED
    assert "mine" not in w.core.resolver.undecidable


@scenario(traits=SLOW_LISTS)
async def test_a_look_that_our_own_limits_hold_back_is_made_when_they_allow_it(w: World) -> None:
    """That is no reason to call a human."""
    sink = await w.listen()
    w.exchange.script.append("lost request")
    query, asked = w.exchange.query, list[float]()

    async def held_back(ref: Any) -> Any:
        asked.append(w.clock.monotonic())
        return HELD_BACK if len(asked) <= 3 else await query(ref)

    w.exchange.query = held_back  # type: ignore[method-assign]
    assert await w.bot.execute_order({**MINE, "deadline_seconds": 900}) == "mine"
    assert all(later - earlier >= 40 for earlier, later in pairwise(asked[:4]))
    assert not any(alert.key.startswith("undecidable") for alert in sink.alerts)
    assert len(w.exchange.named("mine")) == 1


@pytest.mark.parametrize("name", ["open_orders", "closed_orders"])
def test_a_list_that_does_not_tell_client_ids_proves_nothing(name: str) -> None:
    """The order may be any of its rows: unresolved, a human is told, and it is not sent again."""

    @scenario(traits=SLOW_LISTS)
    async def story(w: World) -> None:
        sink = await w.listen()
        listing = getattr(w.exchange, name)

        async def nameless(*given: object) -> object:
            return replace(await listing(*given), tells_client_ids=False)

        setattr(w.exchange, name, nameless)
        w.exchange.script.append("lost request")
        with pytest.raises(OrderUnresolved):
            await w.bot.execute_order({**MINE, "deadline_seconds": 300})
        await asyncio.sleep(1_000)
        assert (await w.bot.get_order_status("mine")).state is OrderState.UNKNOWN
        assert len(w.exchange.submits) == 1
        (alert,) = [alert for alert in sink.alerts if alert.key == "undecidable:mine"]
        assert "prove nothing" in alert.body

    story()


@scenario(traits=SLOW_LISTS)
async def test_an_id_that_such_a_list_does_tell_is_believed(w: World) -> None:
    """Some of its rows may lack theirs; this one does not."""
    closed = w.exchange.closed_orders

    async def sparse(*given: Any) -> object:
        listed = await closed(*given)
        assert isinstance(listed, OrderList)
        return replace(listed, tells_client_ids=False)

    w.exchange.closed_orders = sparse  # type: ignore[method-assign,assignment]
    w.exchange.script.append("lost reply")
    w.exchange.before_send = lambda _: asyncio.get_running_loop().call_soon(w.exchange.fill, "X1", "0.1")  # type: ignore[assignment]
    assert await w.bot.execute_order(MINE) == "mine"
    assert (await w.bot.get_order_status("mine")).state is OrderState.FILLED
