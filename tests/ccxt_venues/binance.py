"""Binance spot, as its REST documentation describes it: GET and DELETE sign the query, POST signs the form."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tests.ccxt_venues.book import Order, Refusal, Refused, Status, Trade
from tests.ccxt_venues.dialect import Answer, Call, Dialect, Endpoint, Keys, Stop, listing, number_of, plain

DAY_MS: Final = 86_400_000
AHEAD_MS: Final = 1_000
"""So far a timestamp may be ahead."""
STATUSES: Final = {Status.FILLED: "FILLED", Status.CANCELED: "CANCELED", Status.EXPIRED: "EXPIRED"}
REFUSALS: Final = {
    Refusal.SYMBOL: (-1121, "Invalid symbol."),
    Refusal.FUNDS: (-2010, "Account has insufficient balance for requested action."),
    Refusal.NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    Refusal.AMOUNT: (-1013, "Filter failure: LOT_SIZE"),
    Refusal.PRICE: (-1013, "Filter failure: PRICE_FILTER"),
    Refusal.DUPLICATE: (-2010, "Duplicate order sent."),
    Refusal.WOULD_TAKE: (-2010, "Order would immediately match and take."),
}


def failure(code: int, message: str, status: int = 400) -> Answer:
    return Answer({"code": code, "msg": message}, status)


def missing(name: str) -> Answer:
    return failure(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


class Binance(Dialect):
    """Client ids are unique among open orders; lookups by them find the newest of any state."""

    name = "binance"
    listings = [  # noqa: RUF012
        listing("BTC", "USDT", "50000", tick="0.01", step="0.00001", least="0.00001", notional="5"),
        listing("ETH", "USDT", "2500", tick="0.01", step="0.0001", least="0.0001", notional="5"),
    ]
    keys = Keys("binance-key", "binance-secret")

    def make_endpoints(self) -> dict[tuple[str, str], Endpoint]:
        api, sapi = "/api/v3", "/sapi/v1"
        return {
            ("GET", f"{api}/ping"): Endpoint("ping", lambda call: Answer({}), private=False),
            ("GET", f"{api}/time"): Endpoint("time", self._time, private=False),
            ("GET", f"{api}/exchangeInfo"): Endpoint("markets", self._markets, private=False),
            ("GET", "/fapi/v1/exchangeInfo"): Endpoint("markets", self._no_markets, private=False),
            ("GET", "/dapi/v1/exchangeInfo"): Endpoint("markets", self._no_markets, private=False),
            ("GET", f"{sapi}/capital/config/getall"): Endpoint("currencies", self._currencies),
            ("GET", f"{sapi}/margin/allPairs"): Endpoint("markets", lambda call: Answer([])),
            ("GET", f"{sapi}/margin/isolated/allPairs"): Endpoint("markets", lambda call: Answer([])),
            ("GET", f"{api}/ticker/24hr"): Endpoint("ticker", self._ticker, private=False),
            ("GET", f"{api}/ticker/bookTicker"): Endpoint("ticker", self._ticker, private=False),
            ("GET", f"{api}/account"): Endpoint("balances", self._account),
            ("POST", f"{api}/order"): Endpoint("create", self._create),
            ("DELETE", f"{api}/order"): Endpoint("cancel", self._cancel),
            ("GET", f"{api}/order"): Endpoint("query", self._query),
            ("GET", f"{api}/openOrders"): Endpoint("open", self._open),
            ("GET", f"{api}/allOrders"): Endpoint("closed", self._all),
            ("GET", f"{api}/myTrades"): Endpoint("trades", self._trades),
        }

    # ---- who may ------------------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        if call.headers.get("X-MBX-APIKEY") != self.keys.api_key:
            raise Stop(failure(-2015, "Invalid API-key, IP, or permissions for action.", 401))
        payload, _, signature = f"{call.query}{call.text}".rpartition("&signature=")
        expected = hmac.new(self.keys.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, expected):
            raise Stop(failure(-1022, "Signature for this request is not valid."))
        form = call.form()
        if "timestamp" not in form:
            raise Stop(
                failure(-1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
            )
        age = self.book.now() - number_of(form["timestamp"])
        window = number_of(form.get("recvWindow", "5000"))
        if window > 60_000:
            raise Stop(failure(-1131, "recvWindow must be less than 60000"))
        if age < -AHEAD_MS:
            message = "Timestamp for this request was 1000ms ahead of the server's time."
            raise Stop(failure(-1021, message))
        if age > window and not call.checked:
            raise Stop(failure(-1021, "Timestamp for this request is outside of the recvWindow."))

    def refused(self, refused: Refused, call: Call, operation: str) -> Answer:
        if refused.why is Refusal.UNKNOWN:
            return failure(-2011 if operation == "cancel" else -2013, _unknown(operation))
        return failure(*REFUSALS[refused.why])

    def limited(self, retry_after: str) -> Answer:
        message = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
        return Answer({"code": -1003, "msg": message}, 429, {"Retry-After": retry_after})

    def doubt(self) -> Answer:
        message = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
        return failure(-1007, message, 408)

    def hollow(self) -> Answer:
        return Answer({})

    # ---- markets ------------------------------------------------------------------------------------------

    def _time(self, call: Call) -> Answer:
        return Answer({"serverTime": self.book.now()})

    def _no_markets(self, call: Call) -> Answer:
        return Answer({"timezone": "UTC", "symbols": []})

    def _markets(self, call: Call) -> Answer:
        symbols = [
            {
                "symbol": item.base + item.quote,
                "status": "TRADING",
                "baseAsset": item.base,
                "baseAssetPrecision": 8,
                "quoteAsset": item.quote,
                "quotePrecision": 8,
                "quoteAssetPrecision": 8,
                "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"],
                "quoteOrderQtyMarketAllowed": True,
                "isSpotTradingAllowed": True,
                "isMarginTradingAllowed": False,
                "filters": [
                    _filter("PRICE_FILTER", minPrice=item.tick, maxPrice=1_000_000, tickSize=item.tick),
                    _filter("LOT_SIZE", minQty=item.min_amount, maxQty=9000, stepSize=item.step),
                    _filter("MARKET_LOT_SIZE", minQty=0, maxQty=100, stepSize=0),
                    _filter("NOTIONAL", minNotional=item.min_notional, maxNotional=9_000_000),
                ],
                "permissions": [],
                "permissionSets": [["SPOT"]],
            }
            for item in self.listings
        ]
        limits = [{"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100}]
        return Answer({"timezone": "UTC", "serverTime": self.book.now(), "rateLimits": limits, "symbols": symbols})

    def _currencies(self, call: Call) -> Answer:
        return Answer(
            [{"coin": name, "name": name, "trading": True, "networkList": []} for name in self.book.funds]
        )

    def _symbol(self, call: Call) -> str:
        wanted = call.form().get("symbol")
        for item in self.listings:
            if item.base + item.quote == wanted:
                return item.symbol
        raise Refused(Refusal.SYMBOL)

    def _ticker(self, call: Call) -> Answer:
        item = self.book.listings[self._symbol(call)]
        price = plain(item.price, 8)
        return Answer(
            {
                "symbol": item.base + item.quote,
                "priceChange": "0.00000000",
                "lastPrice": price,
                "bidPrice": plain(item.bid, 8),
                "bidQty": "1.00000000",
                "askPrice": plain(item.ask, 8),
                "askQty": "1.00000000",
                "openPrice": price,
                "volume": "100.00000000",
                "quoteVolume": "100.00000000",
                "openTime": self.book.now() - DAY_MS,
                "closeTime": self.book.now(),
            }
        )

    def _account(self, call: Call) -> Answer:
        balances = [
            {
                "asset": name,
                "free": plain(self.book.free(name), 8),
                "locked": plain(self.book.blocked(name), 8),
            }
            for name in self.book.funds
        ]
        return Answer({"canTrade": True, "accountType": "SPOT", "updateTime": 123456789, "balances": balances})

    # ---- orders -------------------------------------------------------------------------------------------

    def order_id(self, number: int) -> str:
        return str(7_000_000_000 + number)

    def client_id(self, call: Call) -> str | None:
        return call.form().get("newClientOrderId")

    def _create(self, call: Call) -> Answer:
        form, symbol = call.form(), self._symbol(call)
        kind, client_id = form.get("type"), form.get("newClientOrderId")
        if kind not in ("LIMIT", "MARKET", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT") or form.get(
            "side"
        ) not in ("BUY", "SELL"):
            raise Stop(failure(-1116, "Invalid orderType."))
        if client_id is not None and not (0 < len(client_id) <= 36 and _legal(client_id)):
            raise Stop(
                failure(
                    -1100,
                    "Illegal characters found in parameter 'newClientOrderId'; "
                    "legal range is '^[a-zA-Z0-9-_]{1,36}$'.",
                )
            )
        order = self.book.place(
            symbol,
            client_id=client_id or f"venue{len(self.book.orders) + 1}",
            buys=form["side"] == "BUY",
            amount=_decimal(form, "quantity"),
            price=None if kind in ("MARKET", "STOP_LOSS") else _decimal(form, "price"),
            stop_price=_decimal(form, "stopPrice") if kind.startswith("STOP_LOSS") else None,
            time_in_force=form.get("timeInForce", "GTC"),
            post_only=kind == "LIMIT_MAKER",
        )
        fills = [
            {
                "price": plain(trade.price, 8),
                "qty": plain(trade.amount, 8),
                "commission": plain(trade.fee, 8),
                "commissionAsset": trade.fee_currency,
                "tradeId": trade.number,
            }
            for trade in order.trades
        ]
        return Answer(self._common(order) | {"transactTime": order.created, "fills": fills})

    def _common(self, order: Order) -> dict[str, Any]:
        kind = "MARKET" if order.market else "LIMIT_MAKER" if order.post_only else "LIMIT"
        if order.stop_price is not None:
            kind = "STOP_LOSS" if order.market else "STOP_LOSS_LIMIT"
        status = STATUSES.get(order.status) or ("PARTIALLY_FILLED" if order.filled else "NEW")
        return {
            "symbol": order.listing.base + order.listing.quote,
            "orderId": int(self.order_id(order.number)),
            "orderListId": -1,
            "clientOrderId": order.client_id,
            "price": plain(order.price or Decimal(0), 8),
            "origQty": plain(order.amount, 8),
            "executedQty": plain(order.filled, 8),
            "origQuoteOrderQty": "0.00000000",
            "cummulativeQuoteQty": plain(order.cost, 8),
            "status": status,
            "timeInForce": order.time_in_force,
            "type": kind,
            "side": "BUY" if order.buys else "SELL",
            "selfTradePreventionMode": "NONE",
        }

    def _order(self, order: Order) -> dict[str, Any]:
        return self._common(order) | {
            "stopPrice": plain(order.stop_price or Decimal(0), 8),
            "icebergQty": "0.00000000",
            "time": order.created,
            "updateTime": order.updated,
            "isWorking": True,
            "workingTime": order.created,
        }

    def _wanted(self, call: Call, *, only_open: bool = False) -> Order:
        """By ``orderId``, else by ``origClientOrderId``. A cancel sees an order before lookups do."""
        form = call.form()
        if "orderId" in form:
            order = self.book.find(number_of(form["orderId"]) - 7_000_000_000)
        elif only_open:
            order = self.book.resting(form.get("origClientOrderId", ""))
        else:
            order = self.book.named(form.get("origClientOrderId", ""))
        if order is None or order.listing.symbol != self._symbol(call):
            raise Refused(Refusal.UNKNOWN)
        return order

    def _cancel(self, call: Call) -> Answer:
        order = self.book.cancel(self._wanted(call, only_open=True))
        # The cancel has a client id of its own, and the answer carries the order's as the original one.
        names = {"origClientOrderId": order.client_id, "clientOrderId": f"cancel{order.number}"}
        return Answer(self._common(order) | names | {"transactTime": order.updated})

    def _query(self, call: Call) -> Answer:
        order = self._wanted(call)
        if not self.book.is_seen(order):
            raise Refused(Refusal.UNKNOWN)
        return Answer(self._order(order))

    def _open(self, call: Call) -> Answer:
        symbol = self._symbol(call) if "symbol" in call.form() else None
        rests = (order for order in self.book.seen() if order.status is Status.OPEN)
        return Answer([self._order(order) for order in rests if symbol in (None, order.listing.symbol)])

    def _all(self, call: Call) -> Answer:
        """Every order of one symbol in a period of a day at most, the oldest first; without one, the newest."""
        symbol, (since, until) = self._symbol(call), self._period(call)
        found = [
            order
            for order in self.book.seen()
            if order.listing.symbol == symbol and since <= order.created <= until
        ]
        first = number_of(call.form().get("orderId", "")) - 7_000_000_000
        if first > 0:
            found = [order for order in found if order.number >= first]
        limit = self._limit(call)
        chosen = found[:limit] if since or first > 0 else found[-limit:]
        return Answer([self._order(order) for order in chosen])

    def _period(self, call: Call) -> tuple[int, int]:
        form = call.form()
        since, until = number_of(form.get("startTime", "")), number_of(form.get("endTime", ""))
        if since and until and until - since > DAY_MS:
            raise Stop(failure(-1127, "More than 24 hours between startTime and endTime."))
        return since, until or 1 << 62

    def _limit(self, call: Call) -> int:
        return min(1000, number_of(call.form().get("limit", "")) or 500)

    def _trades(self, call: Call) -> Answer:
        symbol, (since, until) = self._symbol(call), self._period(call)
        form = call.form()
        only, first = number_of(form.get("orderId", "")) - 7_000_000_000, number_of(form.get("fromId", ""))
        told = [
            (order, trade)
            for order in self.book.seen()
            for trade in order.trades
            if order.listing.symbol == symbol
            and since <= trade.at <= until
            and trade.number >= first
            and (only <= 0 or order.number == only)
        ]
        told.sort(key=lambda pair: pair[1].number)
        limit = self._limit(call)
        chosen = told[:limit] if since or first else told[-limit:]
        return Answer([self._trade(order, trade) for order, trade in chosen])

    def _trade(self, order: Order, trade: Trade) -> dict[str, Any]:
        return {
            "symbol": order.listing.base + order.listing.quote,
            "id": trade.number,
            "orderId": int(self.order_id(order.number)),
            "orderListId": -1,
            "price": plain(trade.price, 8),
            "qty": plain(trade.amount, 8),
            "quoteQty": plain(trade.price * trade.amount, 8),
            "commission": plain(trade.fee, 8),
            "commissionAsset": trade.fee_currency,
            "time": trade.at,
            "isBuyer": order.buys,
            "isMaker": trade.maker,
            "isBestMatch": True,
        }


def _filter(kind: str, **values: Decimal | int) -> dict[str, str]:
    return {"filterType": kind} | {name: plain(Decimal(value), 8) for name, value in values.items()}


def _unknown(operation: str) -> str:
    return "Unknown order sent." if operation == "cancel" else "Order does not exist."


def _legal(text: str) -> bool:
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def _decimal(form: dict[str, str], name: str) -> Decimal:
    try:
        return Decimal(form[name])
    except (KeyError, InvalidOperation) as error:
        raise Stop(missing(name)) from error
