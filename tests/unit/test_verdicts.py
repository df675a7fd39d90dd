"""What a caller is told holds after a restart; where the journal cannot promise that, it is not told as settled."""

from __future__ import annotations

import asyncio

import pytest

from services.mcp.order_execution import JournalUnavailable, OrderNotSent, OrderRejected, OrderUnresolved
from services.mcp.order_execution.gateways.base import Rejected
from tests.worlds import ORDER, REFUSED, World, scenario

MINE = {**ORDER, "client_order_id": "mine"}
NO_RETRY = {"retry": {"max_retries": 0, "deadline_seconds": 5}}


@scenario(NO_RETRY)
async def test_a_refusal_that_the_journal_cannot_keep_is_unresolved(w: World) -> None:
    """The exchange refuses, the write of that fails: no verdict; once the journal is back it is told."""
    await w.bot.open()
    w.exchange.script.append(Rejected("min_notional"))
    w.exchange.before_send = lambda _: w.journal.fail_next()
    with pytest.raises(OrderUnresolved, match=r"min_notional.*journal"):
        await w.bot.execute_order(MINE)
    with pytest.raises(OrderUnresolved, match=r"min_notional.*journal"):
        await w.bot.execute_order(MINE)
    await w.bot.resume()
    with pytest.raises(OrderRejected, match="min_notional"):
        await w.bot.execute_order(MINE)
    await w.crash()
    with pytest.raises(OrderRejected, match="min_notional"):
        await w.bot.execute_order(MINE)
    assert len(w.exchange.submits) == 1


@scenario(NO_RETRY)
async def test_a_refusal_that_is_on_disk_is_told_though_the_journal_fails_later(w: World) -> None:
    """The failure concerns another order."""
    w.exchange.script.append(Rejected("min_notional"))
    with pytest.raises(OrderRejected):
        await w.bot.execute_order(MINE)
    await w.bot.execute_order(ORDER)
    w.journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(ORDER)
    with pytest.raises(OrderRejected, match="min_notional"):
        await w.bot.execute_order(MINE)


@scenario(NO_RETRY)
async def test_a_disk_that_hangs_does_not_hold_the_caller_for_ever(w: World) -> None:
    """After the caller's deadline the refusal is unresolved; when the disk goes on, it is told."""
    await w.bot.open()
    w.exchange.script.append(Rejected("min_notional"))
    w.exchange.before_send = lambda _: w.journal.pause()
    started = w.clock.monotonic()
    with pytest.raises(OrderUnresolved):
        await w.bot.execute_order(MINE)
    assert w.clock.monotonic() - started < 10
    w.journal.resume()
    with pytest.raises(OrderRejected, match="min_notional"):
        await w.bot.execute_order(MINE)


@scenario(NO_RETRY)
async def test_a_cancel_of_an_order_that_never_left_is_not_true_while_the_journal_fails(w: World) -> None:
    """After a restart the id could start afresh, so that is not promised; True once durable."""
    w.exchange.script.append(REFUSED)
    with pytest.raises(OrderNotSent):
        await w.bot.execute_order(MINE)
    await w.bot.execute_order(ORDER)
    w.journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(ORDER)
    assert await w.bot.cancel_order("mine") is False
    await w.bot.resume()
    assert await w.bot.cancel_order("mine") is True
    await w.crash()
    with pytest.raises(OrderRejected):
        await w.bot.execute_order(MINE)
    assert w.exchange.named("mine") == []


@scenario(NO_RETRY)
async def test_a_cancel_that_the_exchange_can_tell_again_is_true_while_the_journal_fails(w: World) -> None:
    """A failing journal stops new orders, never a cancel."""
    await w.bot.execute_order(MINE)
    w.journal.fail_next()
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(ORDER)
    assert await w.bot.cancel_order("mine") is True


@scenario(NO_RETRY)
async def test_a_cancel_that_waits_while_the_journal_is_opened_anew_is_for_good(w: World) -> None:
    """The intent was written though reported as failed; it is closed beneath the cancel, for good."""
    await w.bot.open()
    w.journal.fail_next(written=True)
    with pytest.raises(JournalUnavailable):
        await w.bot.execute_order(MINE)
    cancel = asyncio.create_task(w.bot.cancel_order("mine"))
    await asyncio.sleep(0.5)
    assert not cancel.done()
    await w.bot.resume()
    assert await cancel is True
    with pytest.raises(OrderRejected):
        await w.bot.execute_order(MINE)
    await w.crash()
    with pytest.raises(OrderRejected):
        await w.bot.execute_order(MINE)
    assert w.exchange.submits == []
