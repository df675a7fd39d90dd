"""The paper exchange as a gateway: its answers as outcomes, and the bad weather on the way to it.

The exchange lives in a file beside this process and cannot really be lost on the way, so this gateway acts the
network: a request that "is lost" is not handed over, or its answer is kept back, and the caller waits as it
would for a real exchange. What the exchange does meanwhile is real.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from ..clock import Clock
from ..errors import ErrorCategory, ExchangeUnavailable, InvalidOrder
from ..models import Fill, OrderRequest, OrderType, TimeInForce
from ..paper_exchange.admission import CLIENT_ID_MAX_LENGTH
from ..paper_exchange.exchange import PaperExchange
from ..paper_exchange.faults import Fate, Passage, Weather
from ..paper_exchange.records import OrderReport, Refused, Throttled, Trade
from ..paper_exchange.requests import CancelRequest, Request
from ..paper_exchange.schema import ExchangeDown
from ..paper_exchange.settings import PaperFaults, PaperSettings
from .base import (
    Accepted,
    Balance,
    Balances,
    ExchangeOrder,
    ExchangeTrade,
    Found,
    Gateway,
    GatewayTraits,
    IdScope,
    LookupScope,
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

T = TypeVar("T")

OPEN_TRIES: Final = 50
OPEN_PAUSE_SECONDS: Final = 0.02
"""Two processes that make the same file at once: the second waits for the first."""

_GARBLED: Final = "the answer was cut short"
_CARRIED_OUT: Final = frozenset({Fate.DELIVERED, Fate.LOST_REPLY, Fate.ERROR_AFTER, Fate.GARBLED})
_UNHEARD: Final = frozenset({Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.LATE})


class PaperGateway(Gateway):
    """One account on the paper exchange. ``exchange`` is its counter without the network in between."""

    name = "paper"

    def __init__(
        self,
        settings: PaperSettings,
        clock: Clock,
        rng: random.Random,
        *,
        timeout_seconds: float = 15.0,
        settle_seconds: float | None = None,
        request_expiry_seconds: float | None = None,
    ) -> None:
        self.exchange = PaperExchange(settings, clock)
        self.traits = _traits(settings, settle_seconds, request_expiry_seconds)
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._timeout = timeout_seconds
        self._weather = Weather(settings.faults, clock, rng)
        self._markets: dict[str, Market] = {}

    def set_faults(self, faults: PaperFaults) -> None:
        """Change the weather from now on; outages count from now. Raises ValueError, see PaperSettings."""
        self._settings.check_faults(faults)
        self._weather = Weather(faults, self._clock, self._rng)

    async def open(self) -> None:
        """Open the exchange's file. Raises ConfigurationError, or ExchangeUnavailable while it stays busy."""
        tries = 1
        while not self._try_open(last=tries == OPEN_TRIES):
            tries += 1
            await asyncio.sleep(OPEN_PAUSE_SECONDS)
        self._weather = Weather(self._settings.faults, self._clock, self._rng)

    def _try_open(self, *, last: bool) -> bool:
        try:
            self.exchange.open()
        except ExchangeDown as error:
            if last:
                raise ExchangeUnavailable(str(error), category=ErrorCategory.CONNECTION) from error
            return False
        return True

    async def close(self) -> None:
        """Close the exchange's file; harmless when repeated."""
        self.exchange.close()

    # ---- writes -------------------------------------------------------------------------------------------

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Send the order once."""
        return await self._write(request)

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        """Ask for a cancel, once. Rejected as ``not_open`` or ``order_not_found``."""
        return await self._write(CancelRequest(ref.exchange_order_id, ref.client_order_id))

    async def _write(self, request: Request) -> Accepted | Rejected | NotSent | Unknown:
        passage = self._weather.passage()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._carry(request, passage)
        except TimeoutError:
            return Unknown(ErrorCategory.TIMEOUT, f"no answer within {self._timeout:g} s")
        except ExchangeDown as error:
            return Unknown(ErrorCategory.SERVER_ERROR, str(error))

    async def _carry(self, request: Request, passage: Passage) -> Accepted | Rejected | NotSent | Unknown:
        fate = passage.fate
        expiry = self.traits.request_expiry
        if fate is Fate.REFUSED:
            return NotSent(ErrorCategory.CONNECTION, "connection refused")
        sent = self._clock.monotonic()
        if fate is Fate.LATE:
            self.exchange.submit_later(request, delay=passage.delay, expiry=expiry)
        await asyncio.sleep(passage.there)
        if fate is Fate.LIMITED:
            return NotSent(ErrorCategory.RATE_LIMITED, "429: too many requests", self._retry_after())
        answer: OrderReport | Refused | Throttled | None = None
        if fate in _CARRIED_OUT:
            answer = self.exchange.submit(request, age=self._clock.monotonic() - sent, expiry=expiry)
        if fate in _UNHEARD:
            await self._hang()
            return Unknown(ErrorCategory.RESET, "the connection broke before an answer came")
        await asyncio.sleep(passage.back)
        if fate is Fate.GARBLED:
            return Unknown(ErrorCategory.BAD_RESPONSE, _GARBLED)
        if fate is not Fate.DELIVERED or answer is None:
            return Unknown(ErrorCategory.SERVER_ERROR, "502: bad gateway")
        if isinstance(answer, Throttled):
            return NotSent(ErrorCategory.RATE_LIMITED, "429: too many requests", answer.retry_after)
        if isinstance(answer, Refused):
            return Rejected(answer.reason, duplicate_id=answer.duplicate_id)
        return Accepted(str(answer.order.id), _order(answer))

    async def _hang(self) -> None:
        """Keep a caller that hears nothing waiting until its connection breaks or its time is up."""
        hang = self._weather.faults.hang_seconds
        await asyncio.sleep(self._timeout + 1.0 if hang is None else hang)

    def _retry_after(self) -> float:
        return self._weather.faults.retry_after_seconds

    # ---- reads --------------------------------------------------------------------------------------------

    async def _read(self, ask: Callable[[], T | Throttled]) -> T | Unavailable:
        passage = self._weather.passage()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._fetch(ask, passage)
        except TimeoutError:
            return Unavailable(ErrorCategory.TIMEOUT, f"no answer within {self._timeout:g} s")
        except ExchangeDown as error:
            return Unavailable(ErrorCategory.SERVER_ERROR, str(error))

    async def _fetch(self, ask: Callable[[], T | Throttled], passage: Passage) -> T | Unavailable:
        if passage.fate is Fate.REFUSED:
            return Unavailable(ErrorCategory.CONNECTION, "connection refused")
        await asyncio.sleep(passage.there)
        if passage.fate is Fate.LIMITED:
            return Unavailable(ErrorCategory.RATE_LIMITED, "429: too many requests", self._retry_after())
        if passage.fate in _UNHEARD:
            await self._hang()
            return Unavailable(ErrorCategory.RESET, "the connection broke before an answer came")
        if passage.fate is Fate.GARBLED:
            return Unavailable(ErrorCategory.BAD_RESPONSE, _GARBLED)
        if passage.fate is not Fate.DELIVERED:
            return Unavailable(ErrorCategory.SERVER_ERROR, "502: bad gateway")
        answer = ask()
        await asyncio.sleep(passage.back)
        if isinstance(answer, Throttled):
            return Unavailable(ErrorCategory.RATE_LIMITED, "429: too many requests", answer.retry_after)
        return answer

    @property
    def _lag(self) -> float:
        return self._weather.faults.lookup_lag_seconds

    async def market(self, symbol: str) -> Market | Unavailable:
        """Rules of a symbol. Any ``BASE/QUOTE`` trades; raises InvalidOrder("symbol", …) for what is none."""
        if symbol not in self._markets:
            rules = await self._read(lambda: self.exchange.rules(symbol))
            if isinstance(rules, Unavailable):
                return rules
            if rules is None:
                raise _no_symbol(symbol)
            self._markets[symbol] = Market(
                symbol=symbol,
                base=rules.base,
                quote=rules.quote,
                price_tick=rules.price_tick,
                amount_step=rules.amount_step,
                min_amount=rules.amount_step,
                max_amount=rules.max_amount,
                min_notional=rules.min_notional,
            )
        return self._markets[symbol]

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look one order up, its trades included."""
        answer = await self._read(
            lambda: self.exchange.query(ref.exchange_order_id, ref.client_order_id, lag=self._lag)
        )
        if isinstance(answer, Unavailable):
            return answer
        return NotFound() if answer is None else Found(_order(answer))

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """All open orders, their trades included."""
        return _orders(await self._read(lambda: self.exchange.open_orders(symbol, lag=self._lag)))

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """All final orders that were created or closed in the period, their trades included."""
        return _orders(await self._read(lambda: self.exchange.closed_orders(since, until, symbol, lag=self._lag)))

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """All own trades since then, oldest first."""
        answer = await self._read(lambda: self.exchange.trades(since, symbol))
        if isinstance(answer, Unavailable):
            return answer
        return TradeList(
            tuple(
                ExchangeTrade(str(trade.order_id), trade.symbol, trade.side, _fill(trade), trade.client_order_id)
                for trade in answer
            )
        )

    async def balances(self) -> Balances | Unavailable:
        """The account's balances."""
        answer = await self._read(self.exchange.balances)
        if isinstance(answer, Unavailable):
            return answer
        return Balances({currency: Balance(funds.free, funds.blocked) for currency, funds in answer.items()})

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        """Present prices. Raises InvalidOrder("symbol", …) for what is no symbol."""
        quote = await self._read(lambda: self.exchange.quote(symbol))
        if isinstance(quote, Unavailable):
            return quote
        if quote is None:
            raise _no_symbol(symbol)
        return Ticker(symbol, bid=quote.bid, ask=quote.ask, last=quote.last)

    async def ping(self) -> Unavailable | None:
        """Ask the exchange for its time."""
        answer = await self._read(self.exchange.now)
        return answer if isinstance(answer, Unavailable) else None


def _traits(
    settings: PaperSettings, settle_seconds: float | None, request_expiry_seconds: float | None
) -> GatewayTraits:
    expiry = settings.request_expiry_seconds if request_expiry_seconds is None else request_expiry_seconds
    limits = settings.rate_limits
    return GatewayTraits(
        client_id_scope=IdScope(settings.client_ids),
        lookup_scope=LookupScope(settings.lookup),
        lists_closed_orders=True,
        lists_trades=True,
        request_expiry=expiry,
        settle=settings.settle_seconds if settle_seconds is None else settle_seconds,
        cancels_by_client_id=settings.lookup != "none",
        client_id_max_length=CLIENT_ID_MAX_LENGTH,
        order_types=frozenset(OrderType),
        times_in_force=frozenset(TimeInForce),
        post_only=True,
        order_requests_per_second=limits.order_requests_per_second,
        cancel_requests_per_second=limits.cancel_requests_per_second,
        read_requests_per_second=limits.read_requests_per_second,
        burst=limits.burst,
    )


def _no_symbol(symbol: str) -> InvalidOrder:
    return InvalidOrder("symbol", "BASE/QUOTE in capitals, such as BTC/USD", got=symbol)


def _orders(answer: list[OrderReport] | Unavailable) -> OrderList | Unavailable:
    if isinstance(answer, Unavailable):
        return answer
    return OrderList(tuple(_order(report) for report in answer))


def _order(report: OrderReport) -> ExchangeOrder:
    order = report.order
    return ExchangeOrder(
        exchange_order_id=str(order.id),
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        amount=order.amount,
        state=order.state,
        filled=order.filled,
        created_at=order.created_at,
        updated_at=order.updated_at,
        price=order.price,
        stop_price=order.stop_price,
        time_in_force=order.time_in_force,
        post_only=order.post_only,
        average_price=order.cost / order.filled if order.filled else None,
        fees={order.fee_currency: order.fee} if order.fee else {},
        fills=tuple(_fill(trade) for trade in report.trades),
        reason=order.reason,
    )


def _fill(trade: Trade) -> Fill:
    return Fill(str(trade.id), trade.price, trade.amount, trade.fee, trade.fee_currency, trade.at)
