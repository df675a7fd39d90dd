"""Bybit v5 spot on a unified account, as its documentation describes it: signed headers, errors in HTTP 200."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tests.ccxt_venues.book import Order, Refusal, Refused, Status, Trade
from tests.ccxt_venues.dialect import Answer, Call, Dialect, Endpoint, Keys, Stop, listing, number_of, plain

WEEK_MS: Final = 7 * 86_400_000
AHEAD_MS: Final = 1_000
RECENT_MAX: Final = 500
"""So many closed orders can be looked up among the real-time ones."""
ID_BASE: Final = 2_000_000_000_000_000_000
REFUSALS: Final = {
    Refusal.SYMBOL: (170121, "Invalid symbol."),
    Refusal.FUNDS: (170131, "Insufficient balance."),
    Refusal.NOTIONAL: (170140, "Order value exceeded lower limit."),
    Refusal.AMOUNT: (170136, "Order quantity exceeded lower limit."),
    Refusal.PRICE: (170134, "Order price has too many decimals."),
    Refusal.DUPLICATE: (170141, "Duplicate clientOrderId"),
    Refusal.WOULD_TAKE: (170218, "The LIMIT-MAKER order is rejected due to invalid price."),
    Refusal.UNKNOWN: (170213, "Order does not exist."),
}


class Bybit(Dialect):
    """Client ids are always unique; they are looked up among real-time orders and in the history."""

    name = "bybit"
    listings = [  # noqa: RUF012
        listing("BTC", "USDT", "50000", tick="0.01", step="0.000001", least="0.000011", notional="5"),
        listing("ETH", "USDT", "2500", tick="0.01", step="0.00001", least="0.0001", notional="5"),
    ]
    ids_forever = True
    keys = Keys("bybit-key", "bybit-secret")

    def make_endpoints(self) -> dict[tuple[str, str], Endpoint]:
        return {
            ("GET", "/v5/market/time"): Endpoint("time", self._time, private=False),
            ("GET", "/v5/market/instruments-info"): Endpoint("markets", self._markets, private=False),
            ("GET", "/v5/market/tickers"): Endpoint("ticker", self._ticker, private=False),
            ("GET", "/v5/asset/coin/query-info"): Endpoint("currencies", self._coins),
            ("GET", "/v5/user/query-api"): Endpoint("account", self._key),
            ("GET", "/v5/account/info"): Endpoint("account", self._info),
            ("GET", "/v5/account/wallet-balance"): Endpoint("balances", self._balances),
            ("POST", "/v5/order/create"): Endpoint("create", self._create),
            ("POST", "/v5/order/cancel"): Endpoint("cancel", self._cancel),
            ("GET", "/v5/order/realtime"): Endpoint("open", self._realtime),
            ("GET", "/v5/order/history"): Endpoint("closed", self._history),
            ("GET", "/v5/execution/list"): Endpoint("trades", self._executions),
        }

    def operation(self, call: Call) -> str:
        """Real-time orders are a lookup where they are asked for by an id."""
        found = super().operation(call)
        named = {"orderId", "orderLinkId"} & call.form().keys()
        return "query" if found == "open" and named else found

    def _say(self, result: Any, code: int = 0, message: str = "OK") -> Answer:
        return Answer(
            {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": self.book.now()}
        )

    def _fail(self, code: int, message: str) -> Answer:
        return self._say({}, code, message)

    # ---- who may ------------------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        headers = call.headers
        if headers.get("X-BAPI-API-KEY") != self.keys.api_key:
            raise Stop(self._fail(10003, "API key is invalid."))
        stamp, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "5000")
        payload = stamp + self.keys.api_key + window + (call.text if call.method == "POST" else call.query)
        expected = hmac.new(self.keys.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(headers.get("X-BAPI-SIGN", ""), expected):
            raise Stop(self._fail(10004, "error sign! origin_string[...]"))
        now = self.book.now()
        ahead, age = number_of(stamp) - now, now - number_of(stamp)
        if ahead >= AHEAD_MS or (age > number_of(window) and not call.checked):
            message = (
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{stamp}],server_timestamp[{now}],recv_window[{window}]"
            )
            raise Stop(self._fail(10002, message))

    def refused(self, refused: Refused, call: Call, operation: str) -> Answer:
        return self._fail(*REFUSALS[refused.why])

    def limited(self, retry_after: str) -> Answer:
        told = self._fail(10006, "Too many visits. Exceeded the API Rate Limit.")
        reset = str(self.book.now() + 10)
        return Answer(told.body, 200, {"X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": reset})

    def doubt(self) -> Answer:
        return self._fail(10016, "Internal server error.")

    def hollow(self) -> Answer:
        return self._say({})

    # ---- markets ------------------------------------------------------------------------------------------

    def _time(self, call: Call) -> Answer:
        now = self.book.now()
        return self._say({"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)})

    def _markets(self, call: Call) -> Answer:
        category = call.form().get("category")
        found = [
            {
                "symbol": item.base + item.quote,
                "baseCoin": item.base,
                "quoteCoin": item.quote,
                "innovation": "0",
                "status": "Trading",
                "marginTrading": "none",
                "lotSizeFilter": {
                    "basePrecision": plain(item.step),
                    "quotePrecision": "0.0000001",
                    "minOrderQty": plain(item.min_amount),
                    "maxOrderQty": "83",
                    "minOrderAmt": plain(item.min_notional),
                    "maxOrderAmt": "4000000",
                },
                "priceFilter": {"tickSize": plain(item.tick)},
            }
            for item in self.listings
        ]
        return self._say({"category": category, "list": found if category == "spot" else []})

    def _coins(self, call: Call) -> Answer:
        return self._say({"rows": [{"name": name, "coin": name, "chains": []} for name in self.book.funds]})

    def _key(self, call: Call) -> Answer:
        return self._say({"id": "1", "readOnly": 0, "unified": 0, "uta": 1, "permissions": {"Spot": ["SpotTrade"]}})

    def _info(self, call: Call) -> Answer:
        return self._say({"unifiedMarginStatus": 5, "marginMode": "REGULAR_MARGIN"})

    def _symbol(self, wanted: object) -> str:
        for item in self.listings:
            if item.base + item.quote == wanted:
                return item.symbol
        raise Refused(Refusal.SYMBOL)

    def _ticker(self, call: Call) -> Answer:
        form = call.form()
        if form.get("category") != "spot":
            raise Stop(self._fail(10001, "params error: Category is invalid"))
        item = self.book.listings[self._symbol(form.get("symbol"))]
        told = {
            "symbol": item.base + item.quote,
            "bid1Price": plain(item.bid),
            "bid1Size": "1",
            "ask1Price": plain(item.ask),
            "ask1Size": "1",
            "lastPrice": plain(item.price),
            "prevPrice24h": plain(item.price),
            "price24hPcnt": "0",
            "turnover24h": "1000000",
            "volume24h": "20",
        }
        return self._say({"category": "spot", "list": [told]})

    def _balances(self, call: Call) -> Answer:
        if call.form().get("accountType") != "UNIFIED":
            raise Stop(self._fail(10001, "accountType only support UNIFIED."))
        coins = [
            {
                "coin": name,
                "equity": plain(total),
                "walletBalance": plain(total),
                "locked": plain(self.book.blocked(name)),
                "availableToWithdraw": "",
                "borrowAmount": "0",
                "accruedInterest": "0",
                "totalOrderIM": "0",
                "totalPositionIM": "0",
            }
            for name, total in self.book.funds.items()
        ]
        return self._say({"list": [{"accountType": "UNIFIED", "coin": coins}]})

    # ---- orders -------------------------------------------------------------------------------------------

    def order_id(self, number: int) -> str:
        return str(ID_BASE + number)

    def client_id(self, call: Call) -> str | None:
        found = call.json().get("orderLinkId")
        return None if found is None else str(found)

    def _create(self, call: Call) -> Answer:
        told = call.json()
        kind, client_id = told.get("orderType"), told.get("orderLinkId")
        if told.get("category") != "spot" or kind not in ("Limit", "Market"):
            raise Stop(self._fail(10001, "params error: orderType"))
        if client_id is not None and not (0 < len(client_id) <= 36 and _legal(client_id)):
            raise Stop(self._fail(10001, "params error: OrderLinkId invalid"))
        buys = told.get("side") == "Buy"
        if kind == "Market" and buys and told.get("marketUnit") != "baseCoin":
            raise Stop(self._fail(10001, "this venue buys at the market by the amount of the base coin alone"))
        force = str(told.get("timeInForce", "GTC"))
        order = self.book.place(
            self._symbol(told.get("symbol")),
            client_id=client_id,
            buys=buys,
            amount=self._decimal(told, "qty"),
            price=None if kind == "Market" else self._decimal(told, "price"),
            time_in_force="GTC" if force == "PostOnly" else force,
            post_only=force == "PostOnly",
        )
        return self._say({"orderId": self.order_id(order.number), "orderLinkId": client_id or ""})

    def _decimal(self, told: dict[str, Any], name: str) -> Decimal:
        try:
            return Decimal(str(told[name]))
        except (KeyError, InvalidOperation) as error:
            raise Stop(self._fail(10001, f"params error: {name}")) from error

    def _status(self, order: Order) -> str:
        if order.status is Status.OPEN:
            return "PartiallyFilled" if order.filled else "New"
        if order.status is Status.FILLED:
            return "Filled"
        return "PartiallyFilledCanceled" if order.filled else "Cancelled"

    def _order(self, order: Order) -> dict[str, Any]:
        return {
            "orderId": self.order_id(order.number),
            "orderLinkId": order.client_id or "",
            "blockTradeId": "",
            "symbol": order.listing.base + order.listing.quote,
            "price": plain(order.price or Decimal(0)),
            "qty": plain(order.amount),
            "marketUnit": "baseCoin" if order.market else "",
            "side": "Buy" if order.buys else "Sell",
            "isLeverage": "0",
            "positionIdx": 0,
            "orderStatus": self._status(order),
            "cancelType": "CancelByUser" if order.status is Status.CANCELED else "UNKNOWN",
            "rejectReason": "EC_NoError",
            "avgPrice": plain(order.average.quantize(Decimal("0.00000001"))) if order.filled else "",
            "leavesQty": plain(order.left if order.status is Status.OPEN else Decimal(0)),
            "leavesValue": "0",
            "cumExecQty": plain(order.filled),
            "cumExecValue": plain(order.cost),
            "cumExecFee": plain(order.fee),
            "cumFeeDetail": {order.fee_currency: plain(order.fee)} if order.fee_currency else {},
            "timeInForce": "PostOnly" if order.post_only else order.time_in_force,
            "orderType": "Market" if order.market else "Limit",
            "stopOrderType": "",
            "triggerPrice": "0.00",
            "takeProfit": "",
            "stopLoss": "",
            "reduceOnly": False,
            "createdTime": str(order.created),
            "updatedTime": str(order.updated),
        }

    def _cancel(self, call: Call) -> Answer:
        told = call.json()
        if "orderId" in told:
            order = self.book.find(number_of(told["orderId"]) - ID_BASE)
        else:
            order = self.book.resting(str(told.get("orderLinkId", "")))
        self.book.cancel(order)
        assert order is not None
        return self._say({"orderId": self.order_id(order.number), "orderLinkId": order.client_id or ""})

    def _chosen(self, call: Call, orders: list[Order]) -> list[Order]:
        """Those that are asked for: by orderId, else by orderLinkId, else by symbol."""
        form = call.form()
        if form.get("category") != "spot":
            raise Stop(self._fail(10001, "params error: Category is invalid"))
        if "symbol" in form:
            symbol = self._symbol(form["symbol"])
            orders = [order for order in orders if order.listing.symbol == symbol]
        if "orderId" in form:
            return [order for order in orders if self.order_id(order.number) == form["orderId"]]
        if "orderLinkId" in form:
            return [order for order in orders if order.client_id == form["orderLinkId"]]
        return orders

    def _realtime(self, call: Call) -> Answer:
        """Open orders; by an id the recently closed ones too."""
        seen = list(self.book.seen())
        named = {"orderId", "orderLinkId"} & call.form().keys()
        closed = [order for order in seen if order.status is not Status.OPEN]
        recent = {order.number for order in sorted(closed, key=lambda order: order.updated)[-RECENT_MAX:]}
        shown = [order for order in seen if order.status is Status.OPEN or (named and order.number in recent)]
        return self._page(call, [self._order(order) for order in self._chosen(call, shown)[::-1]], 20, 50)

    def _history(self, call: Call) -> Answer:
        """Closed orders of a week at most, the newest first."""
        since, until = self._period(call)
        closed = [
            order
            for order in self.book.seen()
            if order.status is not Status.OPEN and since <= order.created <= until
        ]
        chosen = self._chosen(call, closed)
        wanted = call.form().get("orderStatus")
        told = [self._order(order) for order in chosen if wanted in (None, self._status(order))]
        return self._page(call, told[::-1], 20, 50)

    def _executions(self, call: Call) -> Answer:
        since, until = self._period(call)
        pairs = [(order, trade) for order in self._chosen(call, list(self.book.seen())) for trade in order.trades]
        told = [self._trade(*pair) for pair in pairs if since <= pair[1].at <= until]
        told.sort(key=lambda row: int(row["execId"]), reverse=True)
        return self._page(call, told, 50, 100)

    def _period(self, call: Call) -> tuple[int, int]:
        form, now = call.form(), self.book.now()
        since, until = number_of(form.get("startTime", "")), number_of(form.get("endTime", ""))
        since = since or (until or now) - WEEK_MS
        until = until or since + WEEK_MS
        if until - since > WEEK_MS:
            raise Stop(self._fail(10001, "The time range between startTime and endTime cannot exceed 7 days."))
        return since, until

    def _page(self, call: Call, rows: list[dict[str, Any]], default: int, most: int) -> Answer:
        form = call.form()
        limit = min(most, number_of(form.get("limit", "")) or default)
        first = number_of(form.get("cursor", ""))
        more = str(first + limit) if first + limit < len(rows) else ""
        return self._say({"category": "spot", "list": rows[first : first + limit], "nextPageCursor": more})

    def _trade(self, order: Order, trade: Trade) -> dict[str, Any]:
        return {
            "symbol": order.listing.base + order.listing.quote,
            "orderId": self.order_id(order.number),
            "orderLinkId": order.client_id or "",
            "side": "Buy" if order.buys else "Sell",
            "orderPrice": plain(order.price or Decimal(0)),
            "orderQty": plain(order.amount),
            "orderType": "Market" if order.market else "Limit",
            "execFee": plain(trade.fee),
            "feeCurrency": trade.fee_currency,
            "feeRate": plain(self.book.fee),
            "execId": str(ID_BASE + trade.number),
            "execPrice": plain(trade.price),
            "execQty": plain(trade.amount),
            "execType": "Trade",
            "execValue": plain(trade.price * trade.amount),
            "execTime": str(trade.at),
            "isMaker": trade.maker,
        }


def _legal(text: str) -> bool:
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()
