"""A journal that failed, opened anew."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.mcp.order_execution import JournalError, JournalUnavailable, OrderState, lifecycle, reopening
from services.mcp.order_execution.models import ZERO, Order
from services.mcp.order_execution.repairs import RegistryRepairs
from tests.worlds import ORDER, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}


async def fail(w: World) -> None:
    """Let the journal fail by one refused order."""
    w.journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order({**ORDER, "client_order_id": "victim"})


@scenario()
async def test_what_happened_meanwhile_is_written_afterwards(w: World) -> None:
    """A cancel and a fill during the failure are on disk after resume()."""
    ids = [await w.bot.execute_order(ORDER) for _ in range(3)]
    await fail(w)
    assert await w.bot.cancel_order(ids[0])
    w.exchange.fill("X2", "0.1")
    await w.bot.wait_for_order(ids[1], 30)
    await w.bot.resume()
    for order_id in ids:
        assert w.on_disk(order_id) == await w.bot.get_order_status(order_id)
    await w.crash()
    assert (await w.bot.get_order_status(ids[0])).state is OrderState.CANCELED
    assert (await w.bot.get_order_status(ids[1])).state is OrderState.FILLED


@scenario()
async def test_an_intent_that_was_written_although_it_was_reported_failed_was_not_sent(w: World) -> None:
    """It is closed as never sent, and may be executed again."""
    await w.bot.execute_order(ORDER)
    await w.journal.flush()
    w.journal.fail_next(written=True)
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(MINE)
    await w.bot.resume()
    order = await w.bot.get_order_status("mine")
    assert (order.state, order.reason) == (OrderState.EXPIRED, "never_sent")
    assert await w.bot.execute_order(MINE) == "mine"
    assert len(w.exchange.named("mine")) == 1


@scenario()
async def test_a_resend_whose_record_failed_goes_on_from_what_the_disk_holds(w: World) -> None:
    """The order stays unresolved in memory and is settled after the journal is back."""
    w.exchange.script.append("lost request")
    placing = asyncio.create_task(w.bot.execute_order(MINE))
    await asyncio.sleep(0.5)
    w.journal.fail_next(written=True)
    await asyncio.gather(placing, return_exceptions=True)
    await w.bot.resume()
    assert w.on_disk("mine") == await w.bot.get_order_status("mine")
    assert w.exchange.named("mine") == []


@scenario()
async def test_events_while_it_is_opened_do_not_break_it_again(w: World) -> None:
    """Orders go on changing; nothing conflicts, nothing is sent before it is done."""
    ids = [await w.bot.execute_order(ORDER) for _ in range(5)]
    await fail(w)
    w.journal.commit_seconds = 0.5
    resuming = asyncio.create_task(w.bot.resume())
    cancelling = asyncio.gather(*(w.bot.cancel_order(order_id) for order_id in ids))
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(ORDER)
    await resuming
    assert await cancelling == [True] * 5
    await w.journal.flush()
    for order_id in ids:
        assert w.on_disk(order_id) == await w.bot.get_order_status(order_id)
    await w.bot.execute_order(ORDER)


@scenario()
async def test_a_journal_that_still_fails_keeps_orders_stopped(w: World) -> None:
    """resume() says so, and may be tried again."""
    await w.bot.execute_order(ORDER)
    w.journal.fail_forever()
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(MINE)
    with pytest.raises(JournalError):
        await w.bot.resume()
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(MINE)
    w.journal.repair()
    await w.bot.resume()
    assert await w.bot.execute_order(MINE) == "mine"


@scenario()
async def test_an_intent_that_a_failing_disk_lost_altogether_is_written_when_it_is_back(w: World) -> None:
    """The order is at the exchange and known in memory alone: the disk gets all of it, as one event."""
    await w.bot.open()
    core = w.bot._core
    assert core is not None
    w.store.orders.clear()
    order_id = await w.bot.execute_order(MINE)
    await w.journal.flush()
    w.store.orders.pop(order_id)
    w.store.events.pop(order_id)
    w.store.open_ids.pop(order_id, None)
    await fail(w)
    await w.bot.resume()
    assert w.on_disk(order_id) == await w.bot.get_order_status(order_id)


@scenario()
async def test_a_journal_that_cannot_even_be_closed_is_opened_anew_all_the_same(w: World) -> None:
    """Memory knows what the failed close lost, and writes it again."""
    order_id = await w.bot.execute_order(MINE)
    await fail(w)
    close = w.journal.close

    async def broken() -> None:
        await close()
        raise JournalError("the last entries are lost")

    w.journal.close = broken  # type: ignore[method-assign]
    await w.bot.resume()
    w.journal.close = close  # type: ignore[method-assign]
    assert w.journal.health().failure is None
    assert w.on_disk(order_id) == await w.bot.get_order_status(order_id)


@scenario()
async def test_an_order_that_is_adopted_while_the_journal_is_read_is_written_too(w: World) -> None:
    """A look at the disk takes time; what becomes known during it reaches the disk like the rest."""
    await w.stop_following()
    await w.bot.execute_order(MINE)
    await fail(w)
    core = w.bot._core
    assert core is not None
    repairs = RegistryRepairs(core.registry, core.resolver, w.journal, w.clock)
    ours = w.exchange.orders["X1"]
    for number in (8, 9):
        exchange_order_id = f"X{number}"
        w.exchange.orders[exchange_order_id] = replace(
            ours, exchange_order_id=exchange_order_id, client_order_id=f"theirs{number}"
        )
    # Known in memory only, so that the disk is asked for it.
    await repairs.adopt(w.exchange.orders["X8"])
    asked: list[str] = []
    get = w.journal.get

    async def slow(order_id: str) -> Order | None:
        asked.append(order_id)
        await asyncio.sleep(0.1)
        return await get(order_id)

    w.journal.get = slow  # type: ignore[method-assign]
    resuming = asyncio.create_task(w.bot.resume())
    await asyncio.sleep(0.05)
    assert len(asked) == 1
    for event in lifecycle.adopt_external(w.exchange.orders["X9"], "theirs9", w.clock.now()):
        core.registry.record(event)
    await resuming
    for order_id in ("mine", "theirs8", "theirs9"):
        assert w.on_disk(order_id) == core.registry.get(order_id) is not None
    assert w.journal.health().failure is None


@scenario()
async def test_an_order_that_is_let_go_while_the_journal_is_read_is_not_written(w: World) -> None:
    """An order that another process took over meanwhile is not ours to write."""
    await w.stop_following()
    await w.bot.execute_order(MINE)
    await fail(w)
    core = w.bot._core
    assert core is not None
    repairs = RegistryRepairs(core.registry, core.resolver, w.journal, w.clock)
    ours = w.exchange.orders["X1"]
    await repairs.adopt(replace(ours, exchange_order_id="X8", client_order_id="theirs8"))
    get = w.journal.get

    async def slow(order_id: str) -> Order | None:
        await asyncio.sleep(0.1)
        return await get(order_id)

    w.journal.get = slow  # type: ignore[method-assign]
    resuming = asyncio.create_task(w.bot.resume())
    await asyncio.sleep(0.05)
    for event in lifecycle.adopt_external(replace(ours, exchange_order_id="X9"), "theirs9", w.clock.now()):
        core.registry.record(event)
    core.registry.forget("theirs9")
    await resuming
    assert w.on_disk("theirs8") is not None
    assert w.on_disk("theirs9") is None


@scenario()
async def test_a_settled_order_that_changes_while_the_journal_is_read_keeps_its_version(w: World) -> None:
    """B is settled on disk; late truth repairs it while resume() still reads A: the disk follows."""
    await w.stop_following()
    core = w.bot._core
    assert core is not None
    w.exchange.script.append("fill")
    await w.bot.execute_order({**ORDER, "client_order_id": "B"})
    await w.journal.flush()
    assert (await w.bot.get_order_status("B")).is_settled
    await fail(w)
    repairs = RegistryRepairs(core.registry, core.resolver, w.journal, w.clock)
    theirs = replace(
        w.exchange.orders["X1"],
        exchange_order_id="X9",
        client_order_id="A",
        state=OrderState.OPEN,
        filled=ZERO,
        fills=(),
    )
    w.exchange.orders["X9"] = theirs
    await repairs.adopt(theirs)  # known to memory alone: it is read from the disk one by one
    get, claim = w.journal.get, w.journal.claim

    async def slow_get(order_id: str) -> Order | None:
        await asyncio.sleep(0.1)
        return await get(order_id)

    async def slow_claim() -> list[Order]:
        await asyncio.sleep(0.1)
        return list(await claim())

    w.journal.get, w.journal.claim = slow_get, slow_claim  # type: ignore[method-assign]
    resuming = asyncio.create_task(w.bot.resume())
    await asyncio.sleep(0.15)
    await repairs.repair("B", w.exchange.orders["X1"], "late truth")
    await resuming
    await w.journal.flush()
    assert w.journal.health().failure is None
    assert w.on_disk("B") == core.registry.get("B")
    assert w.on_disk("A") == core.registry.get("A")


@scenario()
async def test_orders_that_change_without_end_do_not_keep_it_from_ending(w: World) -> None:
    """The reading of orders one by one is bounded; what is too much is said."""
    await w.bot.execute_order(ORDER)
    await w.journal.flush()
    await fail(w)
    core = w.bot._core
    assert core is not None
    core.registry.changed_since_failure = lambda: {f"o{number}" for number in range(5)}  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reopening, "MAX_ORDERS", 3)
        with pytest.raises(JournalError, match="3 orders changed"):
            await reopening.reopen(w.journal, core.registry, w.clock, core.take_over)
