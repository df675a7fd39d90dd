"""Nobitex behind the gateway contract: every answer says by its type what happened."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from ...clock import Clock
from ...errors import ConfigurationError, ErrorCategory, ExchangeUnavailable, InvalidOrder
from ...models import OrderRequest, OrderType, plain_decimal
from ..base import (
    Accepted,
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
from . import answers, classify, parsing, symbols
from .answers import PAGE_SIZE
from .limits import EndpointLimits
from .markets import RELOAD_SECONDS, Markets, read_markets
from .parsing import NotUnderstood
from .signing import Signer
from .stream import follow, stream_url
from .transport import Lost, Reply, Transport

_logger = logging.getLogger(__name__)
R = TypeVar("R")

PRODUCTION: Final = "https://apiv2.nobitex.ir"
TESTNET: Final = "https://testnetapiv2.nobitex.ir"
SIGNATURE_SECONDS: Final = 30.0
"""How old a signed timestamp may be (documentation of API keys)."""
CLOCK_MARGIN_SECONDS: Final = 3.0
SETTLE_SECONDS: Final = 10.0
"""How long a booked order may be missing from lookups and lists: an assumption, the documentation says nothing."""
TOKEN_SETTLE_SECONDS: Final = 60.0
"""A session token signs nothing, so a late request is never refused: an assumption about the network."""
MAX_PAGES: Final = 20


class NobitexGateway(Gateway):
    """One account. A first 401 stops every private request: Nobitex bans addresses that go on with a bad key."""

    name = "nobitex"

    def __init__(
        self,
        signer: Signer,
        clock: Clock,
        *,
        timeout_seconds: float,
        base_url: str | None = None,
        sandbox: bool = False,
        rate_limit_share: float = 0.8,
        settle_seconds: float | None = None,
        request_expiry_seconds: float | None = None,
        streams: bool = True,
    ) -> None:
        base_url = base_url or (TESTNET if sandbox else PRODUCTION)
        self._clock = clock
        self._signer = signer
        self._transport = Transport(base_url, signer, clock, timeout_seconds=timeout_seconds)
        self._stream_url = stream_url(base_url, None)
        self.limits = EndpointLimits(clock.monotonic, share=rate_limit_share)
        self._markets: Markets | None = None
        self._locked: str | None = None
        self._tells_ids = True
        self._excused_at: float | None = None
        expiry = SIGNATURE_SECONDS + CLOCK_MARGIN_SECONDS if signer.expires else None
        settle = SETTLE_SECONDS if signer.expires else TOKEN_SETTLE_SECONDS
        self.traits = GatewayTraits(
            client_id_scope=IdScope.OPEN_ORDERS,
            lookup_scope=LookupScope.OPEN_ORDERS,
            lists_closed_orders=True,
            lists_trades=True,
            request_expiry=expiry if request_expiry_seconds is None else request_expiry_seconds,
            settle=settle if settle_seconds is None else settle_seconds,
            streams_orders=streams,
            client_id_max_length=32,
            client_id_pattern=r"[A-Za-z0-9-]+",
            order_types=frozenset(OrderType),
            order_requests_per_second=0.5,
            cancel_requests_per_second=1.5,
            read_requests_per_second=5.0,
            burst=30,
        )

    @property
    def clock_error(self) -> float | None:  # type: ignore[override]
        """Seconds by which our clock is ahead of the exchange's, by its Date headers."""
        return self._transport.theirs.error

    async def open(self) -> None:
        """Make the session; nothing is asked yet."""
        await self._transport.open()

    async def close(self) -> None:
        """Close the session."""
        await self._transport.close()

    # ---- requests -----------------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        private: bool = True,
        optional: bool = False,
    ) -> Reply | Lost:
        """Make one request, unless it is known to be refused. ``optional``: a 401 is no word on the credentials."""
        if private and self._locked is not None:
            return Lost(ErrorCategory.AUTHENTICATION, self._locked, sent=False)
        wait = self.limits.take("/v3/orderbook" if path.startswith("/v3/orderbook") else path)
        if wait:
            return Lost(ErrorCategory.RATE_LIMITED, f"our share of {path} is used up", sent=False, retry_after=wait)
        used, left_at = self.clock_error, self._clock.monotonic()
        answer = await self._transport.call(method, path, query=query, body=body, private=private)
        if isinstance(answer, Reply):
            self._heed(answer, used, left_at, private=private and not optional)
        return answer

    def _heed(self, reply: Reply, used_error: float | None, left_at: float, *, private: bool) -> None:
        """Obey what concerns the whole account: a request to slow down, and keys that are not accepted."""
        seconds = classify.throttled(reply)
        if seconds is not None:
            self.limits.back_off(seconds)
        if private and classify.is_ok(reply):
            self._excused_at = None
        if private and reply.status == 401:
            learnt = self.clock_error or 0.0
            moved = abs(learnt - (used_error or 0.0)) > SIGNATURE_SECONDS / 2
            first = self._excused_at is None
            if self._signer.expires and moved and (first or left_at < (self._excused_at or 0.0)):
                # Once, with all that were under way then: it may be the clock, and the next request tells.
                self._excused_at = self._clock.monotonic() if first else self._excused_at
                _logger.warning("our clock was %.0f s off the exchange's; it is allowed for from now on", learnt)
                return
            self._locked = (
                "Nobitex does not accept the credentials; it bans addresses that go on, so nothing is sent"
            )
            _logger.error(self._locked)

    async def _read(self, answer: Reply | Lost, read: Callable[[Mapping[str, Any]], R]) -> R | Unavailable:
        """What a good answer says; Unavailable for any other, and for one that is not understood."""
        if isinstance(answer, Lost) or not classify.is_ok(answer) or answer.data is None:
            return classify.failed_read(answer)
        try:
            return read(answer.data)
        except NotUnderstood as error:
            return Unavailable(ErrorCategory.BAD_RESPONSE, f"not understood: {error}")

    # ---- markets ------------------------------------------------------------------------------------------

    async def _loaded(self) -> Markets | Unavailable:
        known = self._markets
        now = self._clock.monotonic()
        if known is not None and now - known.read_at < RELOAD_SECONDS:
            return known
        answer = await self._call("GET", "/v2/options", private=False)
        loaded = await self._read(answer, lambda data: read_markets(data, now))
        if isinstance(loaded, Markets):
            self._markets = loaded
        return loaded if known is None or isinstance(loaded, Markets) else known

    async def market(self, symbol: str) -> Market | Unavailable:
        """Rules of a symbol, from ``/v2/options``. Raises InvalidOrder for one that the exchange has not."""
        markets = await self._loaded()
        if isinstance(markets, Unavailable):
            return markets
        found = markets.by_symbol.get(symbol)
        if found is None:
            raise InvalidOrder("symbol", "a symbol of Nobitex, such as BTC/USDT or BTC/IRT", got=symbol)
        return found

    async def ticker(self, symbol: str) -> Ticker | Unavailable:
        """Best prices, from the order book. Raises InvalidOrder for an unknown symbol."""
        market = await self.market(symbol)
        if isinstance(market, Unavailable):
            return market
        answer = await self._call("GET", f"/v3/orderbook/{symbols.path_symbol(symbol)}", private=False)
        return await self._read(answer, lambda data: answers.ticker(symbol, data))

    async def ping(self) -> Unavailable | None:
        """Make the cheapest read there is: a book that its cache answers."""
        answer = await self._call("GET", "/v3/orderbook/USDTIRT", private=False)
        read = await self._read(answer, lambda data: True)
        return read if isinstance(read, Unavailable) else None

    # ---- writes -------------------------------------------------------------------------------------------

    async def submit(self, request: OrderRequest) -> Accepted | Rejected | NotSent | Unknown:
        """Place the order, once."""
        src, dst = symbols.codes(request.symbol)
        body = {
            "type": request.side.value,
            "execution": request.type.value,
            "srcCurrency": src,
            "dstCurrency": dst,
            "amount": plain_decimal(request.amount),
            "clientOrderId": request.client_order_id,
        }
        if request.price is not None:
            body["price"] = plain_decimal(request.price)
        if request.stop_price is not None:
            body["stopPrice"] = plain_decimal(request.stop_price)
        if self._signer.expires and self.clock_error is None:
            # A timestamp ahead of the exchange's clock would keep a late copy good for longer than traits say.
            await self.ping()
        answer = await self._call("POST", "/market/orders/add", body=body)
        if isinstance(answer, Lost) or not classify.is_ok(answer) or answer.data is None:
            return classify.failed_submit(answer)
        return answers.accepted(answer.data.get("order"), request.client_order_id)

    async def cancel(self, ref: OrderRef) -> Accepted | Rejected | NotSent | Unknown:
        """Ask for a cancel, once: by the exchange's id where it is known, else by ours."""
        body = {"status": "canceled", **answers.named(ref, "order")}
        answer = await self._call("POST", "/market/orders/update-status", body=body)
        if isinstance(answer, Lost) or not classify.is_ok(answer) or answer.data is None:
            return classify.failed_cancel(answer)
        if str(answer.data.get("updatedStatus", "canceled")).lower() != "canceled":
            return Unknown(ErrorCategory.BAD_RESPONSE, "it answered a cancel with another status")
        return Accepted(ref.exchange_order_id or "")

    async def cancel_all(self, symbol: str | None = None) -> Accepted | Rejected | NotSent | Unknown:
        """Cancel everything that rests, or one symbol's; orders that wait for a trigger are not touched by it."""
        body: dict[str, Any] = {"tradeType": "spot"}
        if symbol is not None:
            body["srcCurrency"], body["dstCurrency"] = symbols.codes(symbol)
        answer = await self._call("POST", "/market/orders/cancel-old", body=body)
        if isinstance(answer, Lost) or not classify.is_ok(answer):
            return classify.failed_cancel(answer)
        return Accepted("")

    # ---- reads --------------------------------------------------------------------------------------------

    async def query(self, ref: OrderRef) -> Found | NotFound | Unavailable:
        """Look one order up. By our id Nobitex looks among open orders alone."""
        names = await self._names()
        if isinstance(names, Unavailable):
            return names
        answer = await self._call("POST", "/market/orders/status", body=answers.named(ref, "id"))
        if classify.says_not_found(answer):
            return NotFound()
        seen = await self._read(answer, lambda data: parsing.order(data.get("order"), names, ref.symbol))
        if isinstance(seen, Unavailable):
            return seen
        wanted = ref.exchange_order_id
        if (wanted is not None and seen.exchange_order_id != wanted) or (
            wanted is None and seen.client_order_id != ref.client_order_id
        ):
            return Unavailable(ErrorCategory.BAD_RESPONSE, "it answered with another order")
        return Found(seen)

    async def _names(self) -> Mapping[str, str] | Unavailable:
        markets = await self._loaded()
        return markets if isinstance(markets, Unavailable) else markets.names

    async def open_orders(self, symbol: str | None = None) -> OrderList | Unavailable:
        """All open orders: walked by id, upwards, so that none slips between two pages."""
        names = await self._names()
        if isinstance(names, Unavailable):
            return names
        found: dict[str, ExchangeOrder] = {}
        last = 0
        for _ in range(MAX_PAGES):
            page = await self._page({"status": "open", "order": "id", "fromId": str(last)}, names, symbol)
            if isinstance(page, Unavailable):
                return page
            found.update((order.exchange_order_id, order) for order in page)
            if len(page) < PAGE_SIZE:
                live = tuple(order for order in found.values() if not order.state.is_final)
                return OrderList(live, tells_client_ids=self._tells_ids)
            if not answers.is_sorted(page):
                return Unavailable(ErrorCategory.BAD_RESPONSE, "the list is not in the order that was asked for")
            last = int(page[-1].exchange_order_id)
        return answers.too_many(f"more than {MAX_PAGES * PAGE_SIZE} open orders")

    async def closed_orders(
        self, since: datetime, until: datetime, symbol: str | None = None
    ) -> OrderList | Unavailable:
        """Orders that were created in the period, open ones too; Nobitex does not tell when an order ended.

        Walked through all orders, the newest first: none ever leaves that list, so a page can only repeat some.
        """
        names = await self._names()
        if isinstance(names, Unavailable):
            return names
        found: dict[str, ExchangeOrder] = {}
        for number in range(1, MAX_PAGES + 1):
            page = await self._page({"status": "all", "order": "-id", "page": str(number)}, names, symbol)
            if isinstance(page, Unavailable):
                return page
            found.update((order.exchange_order_id, order) for order in page)
            if len(page) >= PAGE_SIZE and not answers.is_sorted(page[::-1]):
                return Unavailable(ErrorCategory.BAD_RESPONSE, "the list is not in the order that was asked for")
            if len(page) < PAGE_SIZE or page[-1].created_at < since:
                # One that the open list does not show yet (Nobitex's "New") is kept: it is there.
                within = tuple(order for order in found.values() if since <= order.created_at < until)
                return OrderList(within, tells_client_ids=self._tells_ids)
        return answers.too_many(f"more than {MAX_PAGES * PAGE_SIZE} orders since {since}")

    async def _page(
        self, query: dict[str, str], names: Mapping[str, str], symbol: str | None
    ) -> list[ExchangeOrder] | Unavailable:
        asked = {**query, "details": "2", "tradeType": "spot", "pageSize": str(PAGE_SIZE)}
        if symbol is not None:
            asked["srcCurrency"], asked["dstCurrency"] = symbols.codes(symbol)
        answer = await self._call("GET", "/market/orders/list", query=asked)

        def read(data: Mapping[str, Any]) -> list[ExchangeOrder]:
            rows = data.get("orders")
            if not isinstance(rows, list):
                raise NotUnderstood("orders")
            if data.get("hasNext") is True and len(rows) < PAGE_SIZE:
                raise NotUnderstood("hasNext")  # pages that are shorter than asked for would end the walk too soon
            if any(isinstance(row, dict) and "clientOrderId" not in row for row in rows):
                self._tells_ids = False  # as observed, not as documented: such a list proves no order absent
            return [parsing.order(row, names, symbol) for row in rows]

        return await self._read(answer, read)

    async def trades(self, since: datetime, symbol: str | None = None) -> TradeList | Unavailable:
        """Own trades since then; the exchange tells those of the last three days."""
        names = await self._names()
        if isinstance(names, Unavailable):
            return names
        found: dict[str, ExchangeTrade] = {}
        for number in range(1, MAX_PAGES + 1):
            query = {"page": str(number), "pageSize": str(PAGE_SIZE)}
            if symbol is not None:
                query["srcCurrency"], query["dstCurrency"] = symbols.codes(symbol)
            answer = await self._call("GET", "/market/trades/list", query=query)
            page = await self._read(answer, lambda data: answers.trades(data, names, symbol))
            if isinstance(page, Unavailable):
                return page
            rows, more = page
            found.update((row.fill.trade_id, row) for row in rows)
            if not more or (rows and max(row.fill.at for row in rows) < since):
                return TradeList(tuple(row for row in found.values() if row.fill.at >= since))
        return answers.too_many(f"more than {MAX_PAGES * PAGE_SIZE} trades since {since}")

    async def balances(self) -> Balances | Unavailable:
        """The spot wallets. A wallet that is missing has never held anything."""
        answer = await self._call("GET", "/v2/wallets", query={"type": "spot"})
        return await self._read(answer, lambda data: Balances(parsing.wallets(data)))

    def stream(self) -> AsyncIterator[ExchangeOrder] | None:
        """Order updates as they happen."""
        names = {} if self._markets is None else self._markets.names
        return follow(self._transport, self._call, self._stream_url, names)

    async def key_permissions(self) -> tuple[str, ...]:
        """What the key may do, as far as the exchange tells it; nothing is asked that changes anything.

        Empty for a session token, which may do everything, and where the list of keys is kept from the key itself.
        Raises ConfigurationError when the key is not accepted, ExchangeUnavailable when there is no answer.
        """
        accepted = await self._call("GET", "/users/profile")
        if isinstance(accepted, Lost) or not classify.is_ok(accepted):
            failure = classify.failed_read(accepted)
            if failure.category is ErrorCategory.AUTHENTICATION:
                raise ConfigurationError(f"gateway.api_key: {failure.message}", field="gateway.api_key")
            raise ExchangeUnavailable(failure.message, category=failure.category, retry_after=failure.retry_after)
        if self._signer.public_key is None:
            return ()
        listed = await self._call("GET", "/apikeys/list", optional=True)
        return answers.permissions(listed, self._signer.public_key)
