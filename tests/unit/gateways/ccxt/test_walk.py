"""A walk over all of ccxt's exchanges: each can be configured, and none drops a client id without saying so."""

from __future__ import annotations

import asyncio
import importlib

import pytest

from services.mcp.order_execution.gateways.base import Accepted, LookupScope, NotSent, Rejected, Unknown
from services.mcp.order_execution.gateways.ccxt.rows import TABLE
from tests.unit.gateways.ccxt.captured import CLIENT_ID, CapturedGateway, Reply, Script, Sent, gateway, order

EXCHANGES: list[str] = importlib.import_module("ccxt").exchanges
ANSWERS_AT_MOST = 20


async def placed(exchange: str, script: Script | str | Reply) -> tuple[CapturedGateway, object]:
    """Submit one order; what left stands in the gateway's line."""
    made = gateway(exchange).answer(script)
    await made.open()
    try:
        async with asyncio.timeout(5):
            return made, await made.submit(order())
    finally:
        await made.close()


def test_the_walk_is_over_all_of_them() -> None:
    """The table's exchanges are ccxt's, and the others are many."""
    assert set(TABLE) <= set(EXCHANGES)
    assert len(EXCHANGES) > 90


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_exchange_gets_the_id_or_no_promise(exchange: str) -> None:
    """Its request carries the client id, or its traits promise nothing that would need one."""

    def script(sent: Sent) -> str:
        if sent.path == "/v1/account/accounts":
            return '{"status":"ok","data":[{"id":1,"type":"spot","subtype":"","state":"working"}]}'
        return "{}"

    made, outcome = await placed(exchange, script)
    traits = made.traits
    if exchange not in TABLE:
        assert (traits.accepts_client_ids, traits.can_resolve, traits.cancels_by_client_id) == (False,) * 3
        assert traits.lookup_scope is LookupScope.NONE
        assert (traits.lists_closed_orders, traits.lists_trades) == (False, False)
        assert not isinstance(outcome, Accepted)
        return
    (write,) = made.line.writes
    assert made._ids.encode(CLIENT_ID) in write.text
    assert TABLE[exchange].wire_field in write.text
    assert traits.can_resolve
    assert isinstance(outcome, Unknown)


GARBAGE = {
    "nothing": Reply(""),
    "a page": Reply("<html><body>502</body></html>"),
    "a page with an error status": Reply("<html></html>", status=403),
    "a list": Reply("[]"),
    "a bad gateway": Reply("<html></html>", status=502),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_answer_without_meaning_means_nothing(exchange: str) -> None:
    """Once a request has left, no such answer is taken for an acceptance, a refusal or a proof of anything."""
    made = gateway(exchange)
    for name, reply in GARBAGE.items():
        outcome = await made.answer(reply).submit(order())
        if made.line.writes or (made.line.sent and exchange not in TABLE):
            assert isinstance(outcome, Unknown), (name, outcome)
        else:
            assert isinstance(outcome, NotSent | Rejected), (name, outcome)
            break  # it never gets as far as the order: another page would not change that
    await made.close()


@pytest.mark.parametrize("exchange", sorted(TABLE))
async def test_what_is_known_of_an_exchange_writes_by_no_get(exchange: str) -> None:
    """In a row's exchange a GET changes nothing: that is what makes a failed one before the order harmless."""
    made, _ = await placed(exchange, '{"status":"ok","data":[{"id":1,"type":"spot"}]}')
    assert [sent.method for sent in made.line.writes] in (["POST"], ["PUT"])
    assert len(made.line.sent) <= ANSWERS_AT_MOST


async def test_a_get_that_places_an_order_is_never_called_unsent() -> None:
    """Deribit's does; without a row nothing is taken for a mere read."""
    made, outcome = await placed("deribit", "<html></html>")
    assert [sent.method for sent in made.line.sent] == ["GET"]
    assert "private/buy" in made.line.sent[0].path
    assert isinstance(outcome, Unknown)
