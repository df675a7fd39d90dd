"""OKX v5 spot, as its documentation describes it: signed headers, JSON bodies, a code for each order."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tests.ccxt_venues.book import Order, Refusal, Refused, Status, Trade
from tests.ccxt_venues.dialect import Answer, Call, Dialect, Endpoint, Keys, Stop, listing, number_of, plain

WINDOW_SECONDS: Final = 30.0
PAGE: Final = 100
ID_BASE: Final = 3_000_000_000_000_000_000
BAD_SYMBOL: Final = "Instrument ID, Instrument ID code, or Spread ID doesn't exist."
REFUSALS: Final = {
    Refusal.FUNDS: ("51008", "Order failed. Insufficient USDT balance in account."),
    Refusal.NOTIONAL: ("51020", "Your order should meet or exceed the minimum order amount."),
    Refusal.AMOUNT: ("51121", "Order quantity must be a multiple of the lot size."),
    Refusal.PRICE: ("51006", "Order price is not within the price limit."),
    Refusal.DUPLICATE: ("51016", "Client order ID already exists."),
    Refusal.WOULD_TAKE: ("51124", "You can only place limit orders after call auction starts."),
    Refusal.UNKNOWN: ("51400", "Cancellation failed as the order has been filled, canceled or does not exist."),
}


def success(data: list[Any]) -> Answer:
    return Answer({"code": "0", "msg": "", "data": data})


def failure(code: str, message: str, status: int = 200) -> Answer:
    return Answer({"code": code, "msg": message, "data": []}, status)


def row_of(code: str, message: str, client_id: object = "") -> dict[str, str]:
    """What is said of one order that failed: the code that counts stands here."""
    return {"clOrdId": str(client_id or ""), "ordId": "", "tag": "", "sCode": code, "sMsg": message}


def of_order(code: str, message: str, client_id: object = "") -> Answer:
    """A failure of one order."""
    return Answer({"code": "1", "msg": "All operations failed", "data": [row_of(code, message, client_id)]})


class Okx(Dialect):
    """Client ids are unique among open orders; of several orders a lookup finds the newest."""

    name = "okx"
    listings = [  # noqa: RUF012
        listing("BTC", "USDT", "50000", tick="0.1", step="0.00000001", least="0.00001", notional="0"),
        listing("ETH", "USDT", "2500", tick="0.01", step="0.000001", least="0.0001", notional="0"),
    ]
    canceled_kept = 7_200.0
    keys = Keys("okx-key", "okx-secret", "okx-passphrase")

    def make_endpoints(self) -> dict[tuple[str, str], Endpoint]:
        api = "/api/v5"
        return {
            ("GET", f"{api}/public/time"): Endpoint("time", self._time, private=False),
            ("GET", f"{api}/public/instruments"): Endpoint("markets", self._markets, private=False),
            ("GET", f"{api}/market/ticker"): Endpoint("ticker", self._ticker, private=False),
            ("GET", f"{api}/asset/currencies"): Endpoint("currencies", self._currencies),
            ("GET", f"{api}/account/balance"): Endpoint("balances", self._balances),
            ("POST", f"{api}/trade/order"): Endpoint("create", self._create),
            ("POST", f"{api}/trade/batch-orders"): Endpoint("create", self._create),
            ("POST", f"{api}/trade/cancel-order"): Endpoint("cancel", self._cancel),
            ("GET", f"{api}/trade/order"): Endpoint("query", self._query),
            ("GET", f"{api}/trade/orders-pending"): Endpoint("open", self._pending),
            ("GET", f"{api}/trade/orders-history"): Endpoint("closed", self._history),
            ("GET", f"{api}/trade/fills"): Endpoint("trades", self._fills),
            ("GET", f"{api}/trade/fills-history"): Endpoint("trades", self._fills),
        }

    # ---- who may ------------------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        headers = call.headers
        if headers.get("OK-ACCESS-KEY") != self.keys.api_key:
            raise Stop(failure("50111", "Invalid OK-ACCESS-KEY", 401))
        if headers.get("OK-ACCESS-PASSPHRASE") != self.keys.passphrase:
            raise Stop(failure("50105", "Request header OK-ACCESS-PASSPHRASE incorrect.", 401))
        stamp = headers.get("OK-ACCESS-TIMESTAMP", "")
        payload = f"{stamp}{call.method}{call.target}{call.text}"
        digest = hmac.new(self.keys.secret.encode(), payload.encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(headers.get("OK-ACCESS-SIGN", ""), base64.b64encode(digest).decode()):
            raise Stop(failure("50113", "Invalid Sign", 401))
        try:
            age = (self.book.clock.now() - datetime.fromisoformat(stamp)).total_seconds()
        except (ValueError, TypeError) as error:
            raise Stop(failure("50112", "Invalid OK-ACCESS-TIMESTAMP", 401)) from error
        if abs(age) > WINDOW_SECONDS and not call.checked:
            raise Stop(failure("50102", "Timestamp request expired", 401))

    def refused(self, refused: Refused, call: Call, operation: str) -> Answer:
        if refused.why is Refusal.SYMBOL:
            return failure("51001", BAD_SYMBOL)
        if operation == "query":
            return failure("51603", "Order does not exist")
        return of_order(*REFUSALS[refused.why], call.json().get("clOrdId"))

    def limited(self, retry_after: str) -> Answer:
        return failure("50011", "Too Many Requests", 429)

    def doubt(self) -> Answer:
        message = "API endpoint request timeout (does not indicate success or failure of order, check order status)"
        return failure("50004", message, 400)

    def hollow(self) -> Answer:
        return Answer({"code": "0", "msg": ""})

    # ---- markets ------------------------------------------------------------------------------------------

    def _time(self, call: Call) -> Answer:
        return success([{"ts": str(self.book.now())}])

    def _markets(self, call: Call) -> Answer:
        if call.form().get("instType") != "SPOT":
            return success([])
        return success(
            [
                {
                    "instType": "SPOT",
                    "instId": f"{item.base}-{item.quote}",
                    "baseCcy": item.base,
                    "quoteCcy": item.quote,
                    "settleCcy": "",
                    "uly": "",
                    "instFamily": "",
                    "ctVal": "",
                    "lever": "",
                    "lotSz": plain(item.step),
                    "minSz": plain(item.min_amount),
                    "tickSz": plain(item.tick),
                    "maxLmtSz": "9999999999",
                    "maxMktSz": "1000000",
                    "maxLmtAmt": "20000000",
                    "maxMktAmt": "1000000",
                    "listTime": "1606468572000",
                    "expTime": "",
                    "state": "live",
                }
                for item in self.listings
            ]
        )

    def _currencies(self, call: Call) -> Answer:
        names = self.book.funds
        return success([{"ccy": name, "chain": f"{name}-Test", "name": name, "canDep": True} for name in names])

    def _symbol(self, wanted: object) -> str:
        for item in self.listings:
            if f"{item.base}-{item.quote}" == wanted:
                return item.symbol
        raise Refused(Refusal.SYMBOL)

    def _ticker(self, call: Call) -> Answer:
        item = self.book.listings[self._symbol(call.form().get("instId"))]
        return success(
            [
                {
                    "instType": "SPOT",
                    "instId": f"{item.base}-{item.quote}",
                    "last": plain(item.price),
                    "lastSz": "0.1",
                    "askPx": plain(item.ask),
                    "askSz": "1",
                    "bidPx": plain(item.bid),
                    "bidSz": "1",
                    "open24h": plain(item.price),
                    "vol24h": "20",
                    "volCcy24h": "1000000",
                    "ts": str(self.book.now()),
                }
            ]
        )

    def _balances(self, call: Call) -> Answer:
        details = [
            {
                "ccy": name,
                "eq": plain(total),
                "cashBal": plain(total),
                "availBal": plain(self.book.free(name)),
                "availEq": "",
                "frozenBal": plain(self.book.blocked(name)),
                "ordFrozen": plain(self.book.blocked(name)),
                "uTime": str(self.book.now()),
            }
            for name, total in self.book.funds.items()
        ]
        return success([{"uTime": str(self.book.now()), "totalEq": "1", "details": details}])

    # ---- orders -------------------------------------------------------------------------------------------

    def order_id(self, number: int) -> str:
        return str(ID_BASE + number)

    def client_id(self, call: Call) -> str | None:
        found = call.json().get("clOrdId")
        return None if found is None else str(found)

    def _create(self, call: Call) -> Answer:
        """One order, or each of a batch; the whole says whether all, some or none of them was placed."""
        until = number_of(call.headers.get("expTime", ""))
        if until and self.book.now() > until:
            return of_order("51149", "Order timed out. Please try again later.", self.client_id(call))
        rows = [self._place(told) for told in call.rows()]
        failed = sum(row["sCode"] != "0" for row in rows)
        if not failed:
            return success(rows)
        code, message = ("1", "All operations failed") if failed == len(rows) else ("2", "Bulk operation partially")
        return Answer({"code": code, "msg": message, "data": rows})

    def _place(self, told: dict[str, Any]) -> dict[str, str]:
        kind, client_id = told.get("ordType"), told.get("clOrdId")
        if told.get("tdMode") != "cash" or kind not in ("limit", "market", "post_only", "ioc", "fok"):
            return row_of("51000", "Parameter ordType error", client_id)
        if client_id is not None and not _legal(client_id):
            return row_of("51000", "Parameter clOrdId error", client_id)
        buys, amount, price = told.get("side") == "buy", _decimal(told, "sz"), _decimal(told, "px")
        if amount is None or (price is None) is not (kind == "market"):
            return row_of("51000", "Parameter sz or px error", client_id)
        if kind == "market" and buys and told.get("tgtCcy") != "base_ccy":
            return row_of("51000", "this venue buys at the market by the base currency alone", client_id)
        try:
            order = self.book.place(
                self._symbol(told.get("instId")),
                client_id=client_id,
                buys=buys,
                amount=amount,
                price=price,
                time_in_force=kind.upper() if kind in ("ioc", "fok") else "GTC",
                post_only=kind == "post_only",
            )
        except Refused as refused:
            if refused.why is Refusal.SYMBOL:
                return row_of("51001", BAD_SYMBOL, client_id)
            return row_of(*REFUSALS[refused.why], client_id)
        return self._ack(order, "Order placed")

    def _ack(self, order: Order, message: str = "") -> dict[str, str]:
        return {
            "clOrdId": order.client_id or "",
            "ordId": self.order_id(order.number),
            "tag": "",
            "ts": str(self.book.now()),
            "sCode": "0",
            "sMsg": message,
        }

    def _order(self, order: Order) -> dict[str, str]:
        states = {Status.FILLED: "filled", Status.CANCELED: "canceled", Status.EXPIRED: "canceled"}
        live = "partially_filled" if order.filled else "live"
        kind = "market" if order.market else "post_only" if order.post_only else "limit"
        last = order.trades[-1] if order.trades else None
        return {
            "instType": "SPOT",
            "instId": f"{order.listing.base}-{order.listing.quote}",
            "tgtCcy": "base_ccy" if order.market else "",
            "ccy": "",
            "ordId": self.order_id(order.number),
            "clOrdId": order.client_id or "",
            "tag": "",
            "px": plain(order.price) if order.price is not None else "",
            "sz": plain(order.amount),
            "ordType": order.time_in_force.lower() if order.time_in_force in ("IOC", "FOK") else kind,
            "side": "buy" if order.buys else "sell",
            "tdMode": "cash",
            "accFillSz": plain(order.filled),
            "fillPx": plain(last.price) if last else "",
            "fillSz": plain(last.amount) if last else "0",
            "fillTime": str(last.at) if last else "",
            "tradeId": str(last.number) if last else "",
            "avgPx": plain(order.average.quantize(Decimal("0.00000001"))) if order.filled else "",
            "state": states.get(order.status, live),
            "fee": plain(-order.fee) if order.trades else "0",
            "feeCcy": order.fee_currency or "",
            "rebate": "0",
            "rebateCcy": "",
            "reduceOnly": "false",
            "cancelSource": "",
            "cTime": str(order.created),
            "uTime": str(order.updated),
        }

    def _wanted(self, told: dict[str, Any], *, only_open: bool = False) -> Order | None:
        symbol = self._symbol(told.get("instId"))
        if told.get("ordId"):
            order = self.book.find(number_of(told["ordId"]) - ID_BASE)
        elif only_open:
            order = self.book.resting(str(told.get("clOrdId", "")))
        else:
            order = self.book.named(str(told.get("clOrdId", "")))
        return order if order is not None and order.listing.symbol == symbol else None

    def _cancel(self, call: Call) -> Answer:
        order = self.book.cancel(self._wanted(call.json(), only_open=True))
        return success([self._ack(order)])

    def _query(self, call: Call) -> Answer:
        form = call.form()
        if "ordId" not in form and not _legal(form.get("clOrdId", "")):
            raise Stop(failure("51000", "Parameter clOrdId error"))
        order = self._wanted(form)
        if order is None or not self.book.is_seen(order):
            raise Refused(Refusal.UNKNOWN)
        return success([self._order(order)])

    def _pending(self, call: Call) -> Answer:
        return self._listed(call, [order for order in self.book.seen() if order.status is Status.OPEN])

    def _history(self, call: Call) -> Answer:
        """Closed orders of a week, the newest first; a period counts from creation."""
        form, week = call.form(), 7 * 86_400_000
        if form.get("instType") != "SPOT":
            raise Stop(failure("51000", "Parameter instType error"))
        since = max(number_of(form.get("begin", "")), self.book.now() - week)
        until = number_of(form.get("end", "")) or 1 << 62
        closed = [
            order
            for order in self.book.seen()
            if order.status is not Status.OPEN and since <= order.created <= until
        ]
        wanted = form.get("state")
        if wanted is not None:
            closed = [order for order in closed if self._order(order)["state"] == wanted]
        return self._listed(call, closed)

    def _listed(self, call: Call, orders: list[Order]) -> Answer:
        """One page: those before the one that ``after`` names, the newest first."""
        form = call.form()
        if "instId" in form:
            symbol = self._symbol(form["instId"])
            orders = [order for order in orders if order.listing.symbol == symbol]
        after, before = number_of(form.get("after", "")), number_of(form.get("before", ""))
        if after:
            orders = [order for order in orders if ID_BASE + order.number < after]
        if before:
            orders = [order for order in orders if ID_BASE + order.number > before]
        limit = min(PAGE, number_of(form.get("limit", "")) or PAGE)
        newest = sorted(orders, key=lambda order: order.number, reverse=True)
        return success([self._order(order) for order in newest[:limit]])

    def _fills(self, call: Call) -> Answer:
        form = call.form()
        since, until = number_of(form.get("begin", "")), number_of(form.get("end", "")) or 1 << 62
        symbol = self._symbol(form["instId"]) if "instId" in form else None
        pairs = [
            (order, trade)
            for order in self.book.seen()
            for trade in order.trades
            if since <= trade.at <= until
            and symbol in (None, order.listing.symbol)
            and form.get("ordId") in (None, self.order_id(order.number))
        ]
        after = number_of(form.get("after", ""))
        pairs = [pair for pair in pairs if not after or ID_BASE + pair[1].number < after]
        pairs.sort(key=lambda pair: pair[1].number, reverse=True)
        limit = min(PAGE, number_of(form.get("limit", "")) or PAGE)
        return success([self._trade(*pair) for pair in pairs[:limit]])

    def _trade(self, order: Order, trade: Trade) -> dict[str, str]:
        return {
            "instType": "SPOT",
            "instId": f"{order.listing.base}-{order.listing.quote}",
            "tradeId": str(trade.number),
            "ordId": self.order_id(order.number),
            "clOrdId": order.client_id or "",
            "billId": str(ID_BASE + trade.number),
            "fillPx": plain(trade.price),
            "fillSz": plain(trade.amount),
            "side": "buy" if order.buys else "sell",
            "execType": "M" if trade.maker else "T",
            "feeCcy": trade.fee_currency,
            "fee": plain(-trade.fee),
            "ts": str(trade.at),
            "fillTime": str(trade.at),
        }


def _legal(client_id: object) -> bool:
    return isinstance(client_id, str) and client_id.isascii() and client_id.isalnum() and len(client_id) <= 32


def _decimal(told: dict[str, Any], name: str) -> Decimal | None:
    try:
        return Decimal(str(told[name]))
    except (KeyError, InvalidOperation):
        return None
