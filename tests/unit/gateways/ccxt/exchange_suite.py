"""What every row of the table is held to, by the answers of its exchange: one subclass for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from services.mcp.order_execution.errors import ErrorCategory
from services.mcp.order_execution.gateways.base import (
    Accepted,
    Balances,
    ExchangeOrder,
    Found,
    NotFound,
    NotSent,
    OrderList,
    OrderRef,
    Rejected,
    Ticker,
    TradeList,
    Unavailable,
    Unknown,
)
from services.mcp.order_execution.gateways.ccxt.row import PagerKind, Rates
from services.mcp.order_execution.gateways.ccxt.rows import TABLE
from services.mcp.order_execution.models import OrderState, OrderType, Side
from tests.unit.gateways.ccxt.captured import (
    CLIENT_ID,
    NOW,
    CapturedGateway,
    Reply,
    Sent,
    gateway,
    market,
    order,
)

HOUR = timedelta(hours=1)
PAGE = 3
CREATED_MS = int((NOW - timedelta(minutes=5)).timestamp() * 1_000)
Json = Any


class ExchangeSuite:
    """Give the shapes; the promises are the same everywhere. ``@ID`` in a row becomes the client id as sent."""

    exchange: ClassVar[str]
    symbol: ClassVar[str] = "BTC/USDT"
    market_id: ClassVar[str] = "BTCUSDT"
    order_id: ClassVar[str] = "42"
    acknowledged: ClassVar[Json]
    cancelled: ClassVar[Json] = {}
    before: ClassVar[Mapping[str, Json]] = {}
    """Answers of requests that come before an order, by the end of their paths."""
    missing: ClassVar[tuple[int, Json]]
    gone: ClassVar[tuple[int, Json]]
    """What a cancel of an order that is no longer open is answered with."""
    refusals: ClassVar[Mapping[str, tuple[int, Json]]]
    """Our names of refusals, and answers that mean them."""
    duplicate: ClassVar[tuple[int, Json] | None] = None
    throttled: ClassVar[tuple[int, Json]]
    untimely: ClassVar[tuple[int, Json] | None] = None
    bad_keys: ClassVar[tuple[int, Json]]
    ambiguous: ClassVar[tuple[int, Json]]
    """A refusal in form that says nothing about the order."""
    ticker_json: ClassVar[Json]
    balance_json: ClassVar[Json]
    fill_has_fee: ClassVar[bool] = True
    pages: ClassVar[bool] = True
    """Whether a list of closed orders is walked page by page."""

    # ---- shapes that a subclass gives ---------------------------------------------------------------------

    def row(self, number: int = 42, *, state: str = "open", filled: str = "0") -> Json:
        """An order of 0.00012 at 20000.5; state is open, filled or canceled."""
        raise NotImplementedError

    def one(self, row: Json) -> Json:
        """The answer to a lookup."""
        raise NotImplementedError

    def opened(self, rows: list[Json]) -> Json:
        """The answer to a list of open orders."""
        raise NotImplementedError

    def closed(self, rows: list[Json], *, more: bool = False) -> Json:
        """The answer to a list of closed orders."""
        raise NotImplementedError

    def trade(self, number: int = 7) -> Json:
        """A trade of 0.00005 at 20000 of the order."""
        raise NotImplementedError

    def traded(self, rows: list[Json]) -> Json:
        """The answer to a list of trades."""
        return self.closed(rows)

    # ---- helpers ------------------------------------------------------------------------------------------

    def made(self) -> CapturedGateway:
        made = gateway(self.exchange)
        base, _, quote = self.symbol.partition("/")
        told = market(made.exchange, self.symbol, id=self.market_id, baseId=base, quoteId=quote)
        if made.exchange.precisionMode == 3:
            told["precision"] = {"amount": 8, "price": 6}
        return made.know(told)

    def answering(self, answer: Json, status: int = 200, **reply: Any) -> CapturedGateway:
        """A gateway whose every request is answered so, but for those that come before an order."""
        made = self.made()
        text = json.dumps(self.with_id(made, answer))

        def script(sent: Sent) -> Reply:
            early = [told for end, told in self.before.items() if sent.path.endswith(end)]
            return Reply(json.dumps(early[0])) if early else Reply(text, status=status, **reply)

        return made.answer(script)

    def with_id(self, made: CapturedGateway, answer: Json) -> Json:
        sent_as = made._ids.encode(CLIENT_ID)
        text = json.dumps(answer)
        if made.row is not None and made.row.numeric_id:
            return json.loads(text.replace('"@ID"', sent_as))
        return json.loads(text.replace("@ID", sent_as))

    def ref(self, exchange_order_id: str | None = None) -> OrderRef:
        return OrderRef(CLIENT_ID, self.symbol, exchange_order_id, NOW - timedelta(minutes=1))

    def request(self, **changes: Any) -> Any:
        return order(self.symbol, **changes)

    def check(self, seen: ExchangeOrder) -> None:
        """The order that every row here describes."""
        assert (seen.exchange_order_id, seen.client_order_id) == (self.order_id, CLIENT_ID)
        assert (seen.symbol, seen.side, seen.type) == (self.symbol, Side.BUY, OrderType.LIMIT)
        assert (seen.amount, seen.price) == (Decimal("0.00012"), Decimal("20000.5"))
        assert abs(seen.created_at - NOW) < HOUR

    # ---- placing ------------------------------------------------------------------------------------------

    async def test_an_order_is_placed_under_its_id(self) -> None:
        """One request carries id, exact amount and price; the acknowledgement gives the exchange's id."""
        made = self.answering(self.acknowledged)
        assert await made.submit(self.request()) == Accepted(self.order_id)
        (write,) = made.line.writes
        for part in (made._ids.encode(CLIENT_ID), "0.00012", "20000.5"):
            assert part in write.text, part
        self.check_request(write)

    def check_request(self, write: Sent) -> None:
        """What only this exchange's request has."""

    async def test_an_acknowledgement_of_another_order_is_none(self) -> None:
        """Where an acknowledgement carries the client id, it has to be ours."""
        if "@ID" not in json.dumps(self.acknowledged):
            pytest.skip("its acknowledgements carry no client id")
        made = self.answering(self.acknowledged)
        other = replace(self.request(), client_order_id="f" * 32)
        assert isinstance(await made.submit(other), Unknown)

    async def test_known_refusals_have_their_names(self) -> None:
        """By code and words, each as a stable name."""
        for reason, (status, answer) in self.refusals.items():
            outcome = await self.answering(answer, status).submit(self.request())
            assert outcome == Rejected(reason), (reason, outcome)

    async def test_a_repeated_id_says_so(self) -> None:
        """Such a refusal is no verdict: the order is looked up."""
        if self.duplicate is None:
            pytest.skip("no answer for a repeated id is known")
        status, answer = self.duplicate
        outcome = await self.answering(answer, status).submit(self.request())
        assert isinstance(outcome, Rejected)
        assert outcome.duplicate_id

    async def test_a_throttle_is_not_sent(self) -> None:
        """By the exchange's own word or HTTP 429, with its Retry-After."""
        status, answer = self.throttled
        outcome = await self.answering(answer, status).submit(self.request())
        assert isinstance(outcome, NotSent), outcome
        assert outcome.category is ErrorCategory.RATE_LIMITED
        assert outcome.retry_after == 10.0
        limited = self.answering(answer, 429, retry_after=3.0)
        told = await limited.submit(self.request())
        assert isinstance(told, NotSent), told
        assert told.retry_after == 3.0

    async def test_a_refused_timestamp_is_not_sent(self) -> None:
        """And the clock is read anew before the next order."""
        if self.untimely is None:
            pytest.skip("no code for it is known")
        status, answer = self.untimely
        made = self.answering(answer, status)
        outcome = await made.submit(self.request())
        assert isinstance(outcome, NotSent), outcome
        assert outcome.category is ErrorCategory.BAD_RESPONSE
        made.line.sent.clear()
        await made.submit(self.request())
        assert len(made.line.sent) == (2 if made.exchange.has["fetchTime"] else 1)

    async def test_refused_keys_are_not_sent(self) -> None:
        """They are never retried."""
        status, answer = self.bad_keys
        outcome = await self.answering(answer, status).submit(self.request())
        assert isinstance(outcome, NotSent), outcome
        assert outcome.category is ErrorCategory.AUTHENTICATION

    async def test_an_unknown_fate_is_told_as_one(self) -> None:
        """Codes that say so, codes that nobody listed, bad gateways, pages, half an answer, no answer."""
        status, answer = self.ambiguous
        assert isinstance(await self.answering(answer, status).submit(self.request()), Unknown)
        text = json.dumps(self.acknowledged)
        replies = [
            Reply(text[: len(text) // 2]),
            Reply("<html></html>"),
            Reply("<html></html>", status=403),
            Reply("", status=502),
            Reply(failure=ErrorCategory.RESET),
            Reply(failure=ErrorCategory.TIMEOUT),
        ]
        for reply in replies:
            made = self.made().answer(self.after_early(reply))
            assert isinstance(await made.submit(self.request()), Unknown), reply

    def after_early(self, reply: Reply) -> Any:
        def script(sent: Sent) -> Reply:
            early = [told for end, told in self.before.items() if sent.path.endswith(end)]
            return Reply(json.dumps(early[0])) if early else reply

        return script

    async def test_a_connection_that_never_was_is_not_sent(self) -> None:
        """The one failure of a network that proves it."""
        reply = Reply(failure=ErrorCategory.CONNECTION, sent=False)
        outcome = await self.made().answer(self.after_early(reply)).submit(self.request())
        assert outcome == NotSent(ErrorCategory.CONNECTION, "lost")

    async def test_a_market_buy_is_for_an_amount_or_not_made(self) -> None:
        """Where market buys spend a sum, none is sent; a sell always is."""
        for side in Side:
            made = self.answering(self.acknowledged)
            outcome = await made.submit(self.request(side=side, type=OrderType.MARKET, price=None))
            if side is Side.BUY and not TABLE[self.exchange].market_buys:
                assert outcome == Rejected("market_buy_by_amount_not_offered")
                assert made.line.sent == []
            else:
                assert outcome == Accepted(self.order_id)
                assert "0.00012" in made.line.writes[0].text

    # ---- cancelling ---------------------------------------------------------------------------------------

    async def test_an_order_is_cancelled_by_the_exchanges_id(self) -> None:
        """One request names it."""
        made = self.answering(self.cancelled)
        assert await made.cancel(self.ref(self.order_id)) == Accepted(self.order_id)
        assert self.order_id in made.line.writes[0].text

    async def test_an_order_is_cancelled_by_our_id_where_that_is_offered(self) -> None:
        """Elsewhere nothing leaves."""
        made = self.answering(self.cancelled)
        outcome = await made.cancel(self.ref())
        if made.traits.cancels_by_client_id:
            assert isinstance(outcome, Accepted), outcome
            assert made._ids.encode(CLIENT_ID) in made.line.writes[0].text
        else:
            assert isinstance(outcome, Rejected)
            assert made.line.sent == []

    async def test_a_cancel_of_what_is_gone_is_refused(self) -> None:
        """By a known code; anything else leaves open what became of it."""
        status, answer = self.gone
        outcome = await self.answering(answer, status).cancel(self.ref(self.order_id))
        assert isinstance(outcome, Rejected), outcome
        lost = self.made().answer(Reply(failure=ErrorCategory.RESET))
        assert isinstance(await lost.cancel(self.ref(self.order_id)), Unknown)
        status, answer = self.ambiguous
        told = await self.answering(answer, status).cancel(self.ref(self.order_id))
        assert isinstance(told, Unknown), told

    # ---- looking up ---------------------------------------------------------------------------------------

    async def test_an_order_is_found_by_the_exchanges_id(self) -> None:
        """As it was placed."""
        made = self.answering(self.one(self.row()))
        found = await made.query(self.ref(self.order_id))
        assert isinstance(found, Found), found
        self.check(found.order)
        assert (found.order.state, found.order.filled) == (OrderState.OPEN, 0)
        assert self.order_id in made.line.sent[0].text

    async def test_an_order_is_found_by_our_id(self) -> None:
        """By lookup, or in the lists."""
        made = self.finding(self.row())
        found = await made.query(self.ref())
        assert isinstance(found, Found), found
        self.check(found.order)

    def finding(self, row: Json) -> CapturedGateway:
        """A gateway whose lookups, or lists where there is no lookup, have this row."""
        made = self.made()
        assert made.row is not None
        by_lookup = any(lookup.by_client_id for lookup in made.row.lookups)
        answer = self.one(row) if by_lookup else self.opened([row])
        return self.answering(answer)

    async def test_a_missing_order_is_not_found(self) -> None:
        """By an explicit word of the exchange, for either id."""
        status, answer = self.missing
        made = self.answering(answer, status)
        assert await made.query(self.ref("999")) == NotFound()
        assert made.row is not None
        if any(lookup.by_client_id for lookup in made.row.lookups):
            assert await made.query(self.ref()) == NotFound()

    async def test_no_answer_is_no_absence(self) -> None:
        """A page, a half answer, another order and a broken connection say nothing."""
        text = json.dumps(self.one(self.row()))
        replies = [
            Reply("<html></html>", status=404),
            Reply("<html></html>"),
            Reply(""),
            Reply("{}"),
            Reply(text[: len(text) // 2]),
            Reply(failure=ErrorCategory.RESET),
        ]
        for reply in replies:
            for ref in (self.ref("999"), self.ref()):
                answer = await self.made().answer(reply).query(ref)
                assert isinstance(answer, Unavailable), (reply, ref, answer)
        other = await self.answering(self.one(self.row())).query(self.ref("999"))
        assert isinstance(other, Unavailable), other

    # ---- lists --------------------------------------------------------------------------------------------

    async def test_open_orders_are_listed(self) -> None:
        """With their client ids; a row that is not understood makes the list unavailable."""
        listed = await self.answering(self.opened([self.row()])).open_orders(self.symbol)
        assert isinstance(listed, OrderList), listed
        (seen,) = listed.orders
        self.check(seen)
        none = await self.answering(self.opened([])).open_orders(self.symbol)
        assert isinstance(none, OrderList)
        assert none.orders == ()
        odd = json.loads(json.dumps(self.row(43)).replace('"0.00012', '"abc').replace(" 0.00012", ' "abc"'))
        assert isinstance(
            await self.answering(self.opened([self.row(), odd])).open_orders(self.symbol), Unavailable
        )

    async def test_closed_orders_are_listed_by_time(self) -> None:
        """Final ones of the period, with what they traded."""
        rows = [self.row(), self.row(43, state="filled", filled="0.00012"), self.row(44, state="canceled")]
        listed = await self.answering(self.closed(rows)).closed_orders(NOW - HOUR, NOW + HOUR, self.symbol)
        assert isinstance(listed, OrderList), listed
        states = {seen.exchange_order_id: (seen.state, seen.filled) for seen in listed.orders}
        assert states == {
            self.id_of(43): (OrderState.FILLED, Decimal("0.00012")),
            self.id_of(44): (OrderState.CANCELED, Decimal(0)),
        }

    def id_of(self, number: int) -> str:
        """The exchange's id of a row."""
        return self.order_id.replace("42", str(number))

    async def test_a_list_is_walked_to_its_end(self) -> None:
        """A full page has another one behind it; a list whose end is not reached is none."""
        if not self.pages:
            pytest.skip("it is told in one answer")
        row = TABLE[self.exchange]
        rising = any(call.pager.kind is PagerKind.LATER for call in row.closed_orders)
        numbers = range(PAGE) if rising else reversed(range(PAGE))
        first = [self.row(100 + number, state="canceled") for number in numbers]
        pages = [self.closed(first, more=True), self.closed([self.row(99, state="canceled")])]
        made = self.with_small_pages(self.made())

        def script(sent: Sent) -> str:
            number = min(len(made.line.sent), len(pages)) - 1
            return json.dumps(self.with_id(made, pages[number]))

        listed = await made.answer(script).closed_orders(NOW - HOUR, NOW + HOUR, self.symbol)
        assert isinstance(listed, OrderList), listed
        assert len(listed.orders) == PAGE + 1
        one, other = made.line.sent[0], made.line.sent[1]
        assert one.text != other.text
        endless = self.with_small_pages(self.answering(self.closed(first, more=True)))
        assert isinstance(await endless.closed_orders(NOW - HOUR, NOW + HOUR, self.symbol), Unavailable)

    def with_small_pages(self, made: CapturedGateway) -> CapturedGateway:
        """The same row with pages of a few: how they lead on does not depend on their size."""
        assert made.row is not None
        small = tuple(replace(call, limit=PAGE) for call in made.row.closed_orders)
        made._reader._row = replace(made.row, closed_orders=small, rates=Rates())  # type: ignore[union-attr]
        return made

    async def test_trades_are_listed(self) -> None:
        """With the order that each belongs to, and its fee."""
        listed = await self.answering(self.traded([self.trade()])).trades(NOW - HOUR, self.symbol)
        assert isinstance(listed, TradeList), listed
        (seen,) = listed.trades
        assert (seen.exchange_order_id, seen.symbol, seen.side) == (self.order_id, self.symbol, Side.BUY)
        assert (seen.fill.price, seen.fill.amount) == (Decimal(20000), Decimal("0.00005"))
        if self.fill_has_fee:
            assert seen.fill.fee == Decimal("0.0000001")
            assert seen.fill.fee_currency == "BTC"

    async def test_lists_beyond_the_exchanges_memory_are_unavailable(self) -> None:
        """What it no longer tells is not told as empty."""
        made = self.answering(self.closed([]))
        assert made.row is not None
        long_ago = NOW - timedelta(days=400)
        listed = await made.closed_orders(long_ago, NOW, self.symbol)
        forgets = all(call.memory is not None for call in made.row.closed_orders)
        assert isinstance(listed, Unavailable) or not forgets

    # ---- the rest -----------------------------------------------------------------------------------------

    async def test_prices_and_balances_are_exact(self) -> None:
        """Decimals, from whatever the exchange writes."""
        priced = await self.answering(self.ticker_json).ticker(self.symbol)
        assert priced == Ticker(self.symbol, Decimal("20000.1"), Decimal("20000.3"), Decimal("20000.2"))
        held = await self.answering_balance().balances()
        assert isinstance(held, Balances), held
        assert held.currencies["BTC"].total == Decimal("0.3")
        assert held.currencies["BTC"].free == Decimal("0.2")

    def answering_balance(self) -> CapturedGateway:
        return self.answering(self.balance_json)

    async def test_traits_are_the_rows(self) -> None:
        """An explicit "not there" can be had, and ids of the executor's own making are taken."""
        made = self.made()
        assert made.traits.can_resolve
        assert made.traits.settle > 0
        import re

        assert re.fullmatch(made.traits.client_id_pattern, CLIENT_ID)
        assert len(CLIENT_ID) <= made.traits.client_id_max_length
        assert (made.traits.request_expiry is None) == (TABLE[self.exchange].expiry is None)
