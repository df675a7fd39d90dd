"""Order streams are hints: whatever they tell, however often and in whatever order, nothing wrong comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

from services.mcp.order_execution import OrderState
from tests.fakes import FOREVER, OPEN_ONLY
from tests.worlds import ORDER, World, scenario

STREAMING = replace(FOREVER, streams_orders=True)
SLOW = {"confirmation": {"poll_interval_seconds": 3_000}, "retry": {"deadline_seconds": 1_000}}


@scenario(SLOW, STREAMING)
async def test_a_hint_brings_an_order_up_to_date_between_two_polls(world: World) -> None:
    """Fills show as soon as the stream tells of them."""
    order_id = await world.bot.execute_order(ORDER)
    world.exchange.fill("X1", "0.1")
    world.exchange.hints.put_nowait(world.exchange.orders["X1"])
    final = await world.bot.wait_for_order(order_id, timeout=1)
    assert (final.state, final.filled, len(final.fills)) == (OrderState.FILLED, Decimal("0.1"), 1)


@scenario(SLOW, STREAMING)
async def test_hints_that_are_repeated_and_out_of_order_change_nothing(world: World) -> None:
    """Fills are booked once each, and an end stays an end."""
    order_id = await world.bot.execute_order(ORDER)
    told = [world.exchange.orders["X1"]]
    for amount in ("0.04", "0.06"):
        world.exchange.fill("X1", amount)
        told.append(world.exchange.orders["X1"])
    for number in (2, 0, 1, 2, 1, 0):
        world.exchange.hints.put_nowait(told[number])
    await asyncio.sleep(1)
    order = await world.bot.get_order_status(order_id)
    assert (order.state, order.filled, len(order.fills)) == (OrderState.FILLED, Decimal("0.1"), 2)
    assert order.version < 12


@scenario(SLOW, STREAMING)
async def test_a_hint_that_ends_an_order_without_its_trades_only_makes_us_look(world: World) -> None:
    """Streams mistake the volume of the last trade for all that was filled: the exchange's own answer counts."""
    order_id = await world.bot.execute_order(ORDER)
    world.exchange.fill("X1", "0.04")
    world.exchange.fill("X1", "0.06")
    wrong = replace(
        world.exchange.orders["X1"],
        state=OrderState.CANCELED,
        filled=Decimal("0.06"),
        fills=None,
        average_price=None,
    )
    world.exchange.hints.put_nowait(wrong)
    final = await world.bot.wait_for_order(order_id, timeout=200)
    assert (final.state, final.filled) == (OrderState.FILLED, Decimal("0.1"))


@scenario(SLOW, STREAMING)
async def test_a_hint_that_contradicts_what_was_sent_only_makes_us_look(world: World) -> None:
    """Also where it bears the exchange's own id: one puts what was filled where the amount should stand."""
    order_id = await world.bot.execute_order(ORDER)
    world.exchange.fill("X1", "0.04")
    wrong = replace(world.exchange.orders["X1"], state=OrderState.FILLED, amount=Decimal("0.04"))
    world.exchange.hints.put_nowait(wrong)
    await asyncio.sleep(200)
    order = await world.bot.get_order_status(order_id)
    assert (order.state, order.filled) == (OrderState.PARTIALLY_FILLED, Decimal("0.04"))


@scenario(SLOW, STREAMING)
async def test_a_hint_that_overtakes_the_receipt_answers_the_call(world: World) -> None:
    """The reply is lost, the stream tells: nobody has to wait for the request to expire."""
    world.exchange.script.append("placed, hang")
    call = asyncio.ensure_future(world.bot.execute_order({**ORDER, "client_order_id": "o1"}))
    await asyncio.sleep(0.5)
    world.exchange.hints.put_nowait(world.exchange.orders["X1"])
    await asyncio.sleep(0.1)
    assert (await world.bot.get_order_status("o1")).state is OrderState.OPEN
    assert await call == "o1"
    assert len(world.exchange.placed) == 1


@scenario(SLOW, STREAMING)
async def test_another_order_under_our_id_is_not_taken_for_ours(world: World) -> None:
    """A hint that contradicts what we sent decides nothing."""
    world.exchange.script.append("hang")
    call = asyncio.ensure_future(world.bot.execute_order({**ORDER, "client_order_id": "o1"}))
    await asyncio.sleep(0.5)
    order = await world.bot.get_order_status("o1")
    foreign = world.exchange.place(replace(_request(), client_order_id="o1", amount=Decimal(7)))
    world.exchange.hints.put_nowait(foreign)
    await asyncio.sleep(0.5)
    assert (await world.bot.get_order_status("o1")).state is order.state
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


def _request() -> object:
    from services.mcp.order_execution.parameters import parse_request

    return parse_request(ORDER, new_id="x")


@scenario(SLOW, replace(OPEN_ONLY, streams_orders=True))
async def test_hints_of_other_peoples_orders_are_ignored(world: World) -> None:
    """They are a reconciliation's affair."""
    await world.bot.open()
    world.exchange.hints.put_nowait(world.exchange.place(replace(_request(), client_order_id="theirs")))
    await asyncio.sleep(1)
    assert world.bot._core is not None
    assert world.bot._core.stream.hints == 1
    assert world.bot._core.registry.get("theirs") is None


@scenario(SLOW, STREAMING)
async def test_a_stream_that_breaks_is_begun_anew_and_the_lists_are_read(world: World) -> None:
    """What was told while the stream was down is learnt from the lists at once, not at the next poll."""
    order_id = await world.bot.execute_order(ORDER)
    world.exchange.hints.put_nowait(ConnectionResetError("gone"))
    await asyncio.sleep(0.01)
    world.exchange.fill("X1", "0.1")
    final = await world.bot.wait_for_order(order_id, timeout=400)
    assert final.state is OrderState.FILLED
    world.exchange.hints.put_nowait(None)
    await asyncio.sleep(60)
    assert world.exchange.connects == 3


@scenario({**SLOW, "retry": {"initial_delay": 1.0, "max_delay": 30.0}}, STREAMING)
async def test_a_stream_that_never_stands_is_tried_with_growing_pauses(world: World) -> None:
    """A gateway that refuses every connection is not hammered."""
    for _ in range(1_000):
        world.exchange.hints.put_nowait(None)
    await world.bot.open()
    await asyncio.sleep(600)
    assert 10 <= world.exchange.connects <= 100


@scenario()
async def test_without_a_stream_nothing_is_followed(world: World) -> None:
    """A gateway whose traits promise no stream is not asked for one."""
    await world.bot.open()
    await asyncio.sleep(60)
    assert world.exchange.connects == 0


@scenario(SLOW, STREAMING)
async def test_any_iterator_serves_as_a_stream(world: World) -> None:
    """A gateway may give an object of its own that needs no closing, or none for the time being."""

    class Hints:
        def __init__(self) -> None:
            self.left = 1

        def __aiter__(self) -> Hints:
            return self

        async def __anext__(self) -> object:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return world.exchange.orders["X1"]

    streams: list[object] = [Hints(), None]
    order_id = await world.bot.execute_order(ORDER)
    world.exchange.fill("X1", "0.1")
    world.exchange.stream = lambda: streams.pop(0) if streams else None  # type: ignore[assignment,method-assign]
    world.exchange.hints.put_nowait(None)
    await asyncio.sleep(100)
    assert (await world.bot.get_order_status(order_id)).state is OrderState.FILLED
    assert streams == []
