"""ccxt behind the gateway contract: every answer says by its type what happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

from ...clock import Clock
from ...errors import ErrorCategory, InvalidOrder
from ...models import OrderRequest, OrderType, Side, TimeInForce, plain_decimal
from ..base import (
    Accepted,
    Balances,
    ExchangeOrder,
    Found,
    Gateway,
    Market,
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
from . import classify, parsing
from .adapter import PREPARING_SHARE, make_exchange
from .client_ids import Remembered
from .conservative import PLAIN, ConservativeReader, lost_promises
from .listing import stamp
from .parsing import NotUnderstood
from .readiness import Readiness
from .reading import Reader, guarded
from .row import window
from .rows import TABLE
from .stream import follow
from .traits import traits_of
from .transport import HttpSession, Trace, tracing

_logger = logging.getLogger(__name__)
R = TypeVar("R")
ENDED_SHARE: Final = 0.1
"""Of the documented rate of reads: what a stream's orders that have ended are asked for with."""
ENDED_WAIT_SECONDS: Final = 2.0
"""For so long one of them waits for its turn; beyond, the lists will tell."""


class CcxtGateway(Gateway):
    """One account at one of ccxt's exchanges, spot. ``exchange`` is ccxt's id of it.

    ``base_url`` moves every REST address to another host, with the path of each; there are no streams then.
    ``rate_limit_share`` is the executor's: its limiter takes that share of the limits in ``traits``.
    Raises ConfigurationError.
    """

    def __init__(
        self,
        exchange: str,
        clock: Clock,
        *,
        api_key: str | None,
        api_secret: str | None,
        password: str | None = None,
        uid: str | None = None,
        timeout_seconds: float = 15.0,
        base_url: str | None = None,
        sandbox: bool = False,
        rate_limit_share: float = 0.8,
        settle_seconds: float | None = None,
        request_expiry_seconds: float | None = None,
    ) -> None:
        self.row = TABLE.get(exchange)
        self.rate_limit_share = rate_limit_share
        self._clock = clock
        self._http = HttpSession(clock, timeout_seconds=timeout_seconds)
        self._window = window(None if self.row is None else self.row.expiry, request_expiry_seconds)
        self.exchange = make_exchange(
            exchange,
            self.row,
            self._http,
            credentials={"apiKey": api_key, "secret": api_secret, "password": password, "uid": uid},
            timeout_seconds=timeout_seconds,
            expiry_seconds=self._window,
            base_url=base_url,
            sandbox=sandbox,
        )
        self.name = exchange
        self._ids = Remembered(PLAIN if self.row is None else self.row.ids)
        streams = base_url is None and self.row is not None and bool(self.exchange.has.get("watchOrders"))
        self.traits = traits_of(
            self.row,
            self.exchange,
            streams=streams,
            settle_seconds=settle_seconds,
            request_expiry_seconds=request_expiry_seconds,
        )
        self._next_ended = 0.0
        self._ended_pause = 1.0 / ((self.traits.read_requests_per_second or 1.0) * ENDED_SHARE)
        self._reader: Reader | ConservativeReader = (
            ConservativeReader(self.exchange, self._ids)
            if self.row is None
            else Reader(self.row, self.exchange, self._ids, self._exchange_now)
        )
        self._preparing_seconds = timeout_seconds * PREPARING_SHARE
        self.readiness = Readiness(self.row, self.exchange, clock, self._measured)

    def __repr__(self) -> str:
        return f"CcxtGateway({self.name!r})"

    @property
    def clock_error(self) -> float | None:  # type: ignore[override]
        """Seconds by which our wall clock is ahead of the exchange's, by its clock or its Date headers."""
        return self._http.remote.error

    def _measured(self, theirs: datetime, seconds: float) -> None:
        self._http.measured(theirs, seconds)

    def _exchange_now(self) -> datetime:
        return self._http.remote.now()

    async def open(self) -> None:
        """Make the session; nothing is asked yet. Says what is lost where the exchange has no row."""
        await self._http.open()
        if self.row is None:
            for loss in lost_promises(self.name):
                _logger.warning("%s: %s", self.name, loss)

    async def close(self) -> None:
        """Close the sessions; harmless when repeated."""
        await self.readiness.close()
        await self._http.close()
        await self.exchange.close()

    # ---- markets --------------------------------------------------------------------------------------

    async def market(self, symbol: str) -> Market | Unavailable:
        """Rules of a symbol. Raises InvalidOrder for one that is no spot market of the exchange."""
        problem = await self.readiness.ready()
        if problem is not None:
            return problem
        told = self._spot(symbol)
        try:
            return parsing.market(told, self.exchange.precisionMode)
        except NotUnderstood as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, f"the rules of {symbol} are not understood: {error}")

    def _spot(self, symbol: str) -> dict[str, Any]:
        """Find ccxt's market of a symbol. Raises InvalidOrder."""
        told: dict[str, Any] | None = self.exchange.markets.get(symbol)
        if told is None or not told.get("spot"):
            raise InvalidOrder("symbol", f"a spot symbol of {self.name}, such as BTC/USDT", got=symbol)
        return told

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        """Present prices. Raises InvalidOrder for an unknown symbol."""
        problem = await self.readiness.ready()
        if problem is not None:
            return problem
        self._spot(symbol)

        async def ask() -> Ticker:
            told = await self.exchange.fetch_ticker(symbol)
            if told.get("bid") is None and told.get("last") is None:
                book = await self.exchange.fetch_order_book(symbol)
                told = {"bid": book["bids"][0][0], "ask": book["asks"][0][0]}
            return parsing.ticker(symbol, told)

        return await guarded(self.row, ask)

    async def ping(self) -> Unavailable | None:
        """Make the cheapest read there is: the exchange's clock, else one price, else the markets."""

        async def ask() -> None:
            if self.exchange.has.get("fetchTime"):
                await self.exchange.fetch_time()
            elif self.exchange.markets:
                spot = next((name for name, told in self.exchange.markets.items() if told.get("spot")), None)
                await self.exchange.fetch_ticker(spot or next(iter(self.exchange.markets)))
            else:
                await self.readiness.read_markets()

        return await guarded(self.row, ask)

    # ---- writes -------------------------------------------------------------------------------------------

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Place the order, once."""
        problem = await self.readiness.ready_within(self._preparing_seconds)
        if problem is not None:
            return NotSent(problem.category, problem.message, problem.retry_after, local=problem.local)
        refused = self._unplaceable(request)
        if refused is not None:
            return refused
        row = self.row
        trace = Trace(headers=self._expiry_stamp("header"), write=True)
        with tracing(trace):
            try:
                answer = await self.exchange.create_order(
                    request.symbol,
                    "limit" if request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) else "market",
                    request.side.value,
                    Quantity(plain_decimal(request.amount)),
                    None if request.price is None else Quantity(plain_decimal(request.price)),
                    self._order_params(request),
                )
            except Exception as error:  # noqa: BLE001 - ccxt raises anything; the trace says what happened
                outcome = classify.failed_write(trace, error, row, cancel=False)
                self._heed(outcome)
                return outcome
        return self._acknowledged(answer, trace, request.client_order_id)

    def _unplaceable(self, request: OrderRequest) -> Rejected | None:
        """Refuse what would leave as something else than was asked for."""
        try:
            self._spot(request.symbol)
        except InvalidOrder:
            return Rejected("invalid_symbol")
        if request.type not in self.traits.order_types:
            # What ccxt's class makes of others differs: a sum for an amount, a limit order without a price.
            return Rejected("order_type_not_offered")
        market_buy = request.side is Side.BUY and request.type in (OrderType.MARKET, OrderType.STOP_MARKET)
        if market_buy and self.row is not None and not self.row.market_buys:
            return Rejected("market_buy_by_amount_not_offered")
        with tracing(Trace()):
            try:
                amount = Decimal(self.exchange.amount_to_precision(request.symbol, plain_decimal(request.amount)))
                prices = [
                    (price, Decimal(self.exchange.price_to_precision(request.symbol, plain_decimal(price))))
                    for price in (request.price, request.stop_price)
                    if price is not None
                ]
            except InvalidOperation:
                return Rejected("invalid_precision")
            except Exception as error:  # noqa: BLE001 - nothing is sent by these
                # A market without a precision: what leaves is what was asked for.
                return Rejected("invalid_precision") if "BaseError" in classify.names(error) else None
        if amount != request.amount:
            return Rejected("invalid_amount")
        return Rejected("invalid_price") if any(one != other for one, other in prices) else None

    def _order_params(self, request: OrderRequest) -> dict[str, Any]:
        row = self.row
        params: dict[str, Any] = {}
        if request.time_in_force is not TimeInForce.GTC:
            params["timeInForce"] = request.time_in_force.value
        if request.post_only:
            params["postOnly"] = True
        if row is None:
            return params
        sent_as = self._ids.encode(request.client_order_id)
        params |= {**row.order_params, row.create_param: int(sent_as) if row.numeric_id else sent_as}
        if request.stop_price is not None:
            params[row.stop_param] = plain_decimal(request.stop_price)
        return params | self._expiry_stamp("param")

    def _expiry_stamp(self, way: str) -> dict[str, Any]:
        """The moment from which on the exchange is to refuse the order, where it is told in this way."""
        expiry = None if self.row is None else self.row.expiry
        name = None if expiry is None else getattr(expiry, way)
        if expiry is None or name is None or self._window is None:
            return {}
        return {name: str(stamp(self._exchange_now() + timedelta(seconds=self._window), expiry.stamp))}

    def _acknowledged(self, answer: Any, trace: Trace, client_order_id: str) -> Accepted | Unknown:
        """An acknowledgement without an id acknowledges nothing; nor does one of another order."""
        told = answer if isinstance(answer, dict) else {}
        shown = told.get("clientOrderId")
        try:
            order_id = parsing.text(told.get("id"), "id")
        except NotUnderstood:
            order_id = None
        if order_id is None or not self._is_one_request(trace, order_id):
            told_of = classify.code_of(trace.last, classify.NO_WORDING)
            return Unknown(ErrorCategory.BAD_RESPONSE, f"{told_of}, no id")
        if self.row is not None and shown and self._ids.decode(str(shown)) != client_order_id:
            return Unknown(ErrorCategory.BAD_RESPONSE, "it acknowledged another order")
        # What else it says is not taken over: acknowledgements are not always whole.
        return Accepted(order_id)

    def _is_one_request(self, trace: Trace, order_id: str) -> bool:
        """Whether one request was the write.

        An exchange without a row may write by whatever method it likes, and POST what it reads: there the last
        request counts, if its answer has the id.
        """
        if len(trace.writes) == 1:
            return True
        hop = trace.last
        if self.row is not None or hop is None:
            return False
        return not trace.writes or classify.mentions(hop.data, {order_id})

    def _heed(self, outcome: Rejected | NotSent | Unknown) -> None:
        """Read the exchange's clock anew after it has refused a timestamp."""
        if isinstance(outcome, NotSent) and outcome.category is ErrorCategory.BAD_RESPONSE:
            self.readiness.clock_doubtful = True

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        """Ask for a cancel, once: by the exchange's id where it is known, else by ours where that is possible."""
        problem = await self.readiness.ready_within(self._preparing_seconds)
        if problem is not None:
            return NotSent(problem.category, problem.message, problem.retry_after, local=problem.local)
        params: dict[str, Any] = {}
        order_id = ref.exchange_order_id
        if order_id is None:
            if self.row is None or self.row.cancel_param is None:
                return Rejected("only the exchange's own id can be cancelled here")
            sent_as = self._ids.encode(ref.client_order_id)
            if self.row.cancel_param == "@id":
                order_id = sent_as
            else:
                params[self.row.cancel_param] = sent_as
        trace = Trace(write=True)
        with tracing(trace):
            try:
                await self.exchange.cancel_order(order_id, ref.symbol, params)
            except Exception as error:  # noqa: BLE001 - ccxt raises anything; the trace says what happened
                return classify.failed_write(trace, error, self.row, cancel=True)
        hop = trace.last
        if hop is None or not self._is_one_request(trace, order_id or ""):
            return Unknown(ErrorCategory.BAD_RESPONSE, "the cancel was not one request")
        success = None if self.row is None else self.row.success
        if success is not None and classify.at(hop.data, success[0]) != success[1]:
            return classify.failed_write(trace, ValueError("no success"), self.row, cancel=True)
        count = () if self.row is None else self.row.cancel_count
        told = classify.at(hop.data, count) if count else None
        if told is not None and not _positive(told):
            return Rejected("not_open")
        pending = bool(self.row and self.row.cancel_pending and classify.at(hop.data, self.row.cancel_pending))
        if (
            told is None
            and not pending
            and not classify.mentions(hop.data, {str(order_id), *map(str, params.values())})
        ):
            return Unknown(ErrorCategory.BAD_RESPONSE, "the answer names no order that was cancelled")
        return Accepted(ref.exchange_order_id or "")

    # ---- reads --------------------------------------------------------------------------------------------

    async def _read(self, ask: Callable[[], Awaitable[R]]) -> R | Unavailable:
        problem = await self.readiness.ready()
        if problem is not None:
            return problem
        return await guarded(self.row, ask)

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look one order up, by the exchange's id where it is known, else by ours."""
        return await self._read(lambda: self._reader.query(ref))

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """All open orders of the account, or of one symbol."""
        return await self._read(lambda: self._reader.open_orders(symbol))

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """All final orders of the period, client ids included."""
        return await self._read(lambda: self._reader.closed_orders(since, until, symbol))

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """All own trades since then."""
        return await self._read(lambda: self._reader.trades(since, symbol))

    async def balances(self) -> Balances | Unavailable:
        """The balances of the spot account."""

        async def ask() -> Balances | Unavailable:
            params = {} if self.row is None else dict(self.row.balance_params)
            told = parsing.balances(await self.exchange.fetch_balance(params))
            if not told:  # an empty account, or an answer with nothing in it: no order is refused for either
                return Unavailable(ErrorCategory.BAD_RESPONSE, "the balance of no currency was told", local=True)
            return Balances(told)

        return await self._read(ask)

    async def _ended(self, hint: ExchangeOrder) -> ExchangeOrder | None:
        """The order as the exchange has it of whose end a stream has told; None where that cannot be had now.

        The executor's limiter does not see these requests, nor are all of these orders ours: they take a part of
        what it leaves over.
        """
        now = self._clock.monotonic()
        wait = self._next_ended - now
        if wait > ENDED_WAIT_SECONDS:
            return None
        self._next_ended = max(now, self._next_ended) + self._ended_pause
        if wait > 0:
            await asyncio.sleep(wait)
        known = hint.client_order_id or ""
        answer = await self.query(OrderRef(known, hint.symbol, hint.exchange_order_id))
        return answer.order if isinstance(answer, Found) else None

    def stream(self) -> AsyncIterator[ExchangeOrder] | None:
        """Order updates as they happen, where ccxt has them."""
        if not self.traits.streams_orders:
            return None
        return follow(self.exchange, self._ids.decode, self.readiness.ready, self._ended)


class Quantity(str):
    """An exact number for ccxt, which takes text and yet, here and there, compares it with 0."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return Decimal(self) < Decimal(str(other))

    def __le__(self, other: object) -> bool:
        return Decimal(self) <= Decimal(str(other))

    def __gt__(self, other: object) -> bool:
        return Decimal(self) > Decimal(str(other))

    def __ge__(self, other: object) -> bool:
        return Decimal(self) >= Decimal(str(other))


def _positive(value: object) -> bool:
    try:
        return Decimal(str(value)) > 0
    except InvalidOperation:
        return True  # it does not count
