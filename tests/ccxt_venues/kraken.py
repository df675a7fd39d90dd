"""Kraken spot, as its REST documentation describes it: forms with a nonce, errors in HTTP 200."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tests.ccxt_venues.book import Book, Order, Refusal, Refused, Status, Trade
from tests.ccxt_venues.dialect import Answer, Call, Dialect, Endpoint, Keys, Stop, listing, number_of, plain

PAGE: Final = 50
DEADLINE_MAX: Final = 60.0
"""At most so many seconds from now a deadline may be."""
REFUSALS: Final = {
    Refusal.SYMBOL: "EQuery:Unknown asset pair",
    Refusal.FUNDS: "EOrder:Insufficient funds",
    Refusal.NOTIONAL: "EOrder:Cost minimum not met",
    Refusal.AMOUNT: "EOrder:Order minimum not met",
    Refusal.PRICE: "EOrder:Invalid price:Invalid price argument",
    Refusal.DUPLICATE: "EOrder:cl_ord_id already in use",
    Refusal.WOULD_TAKE: "EOrder:Post only order",
    Refusal.UNKNOWN: "EOrder:Unknown order",
}
"""The documentation does not spell out what a repeated cl_ord_id is answered with; the rest is from it."""
STATUSES: Final = {Status.OPEN: "open", Status.FILLED: "closed", Status.CANCELED: "canceled"}
ASSETS: Final = {"BTC": ("XXBT", "XBT"), "ETH": ("XETH", "ETH"), "USD": ("ZUSD", "USD")}
"""Kraken's own names of currencies, old and alternative."""
_CLIENT_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|[ -~]{1,18}")


def failure(*errors: str) -> Answer:
    return Answer({"error": list(errors)})


def success(result: Any) -> Answer:
    return Answer({"error": [], "result": result})


class Kraken(Dialect):
    """Client ids are unique among open orders, and filter the lists of open and of closed orders."""

    name = "kraken"
    symbol = "BTC/USD"
    listings = [  # noqa: RUF012
        listing("BTC", "USD", "50000", tick="0.1", step="0.00000001", least="0.00005", notional="5"),
        listing("ETH", "USD", "2500", tick="0.01", step="0.00000001", least="0.002", notional="5"),
    ]
    fees_in_quote = True
    keys = Keys("kraken-key", base64.b64encode(b"the secret of kraken, which is said in base64").decode())

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self._nonce = 0

    def make_endpoints(self) -> dict[tuple[str, str], Endpoint]:
        public, private = "/0/public", "/0/private"
        return {
            ("GET", f"{public}/Time"): Endpoint("time", self._time, private=False),
            ("GET", f"{public}/SystemStatus"): Endpoint("ping", self._status, private=False),
            ("GET", f"{public}/AssetPairs"): Endpoint("markets", self._markets, private=False),
            ("GET", f"{public}/Assets"): Endpoint("currencies", self._assets, private=False),
            ("GET", f"{public}/Ticker"): Endpoint("ticker", self._ticker, private=False),
            ("POST", f"{private}/BalanceEx"): Endpoint("balances", self._balances),
            ("POST", f"{private}/AddOrder"): Endpoint("create", self._create),
            ("POST", f"{private}/CancelOrder"): Endpoint("cancel", self._cancel),
            ("POST", f"{private}/QueryOrders"): Endpoint("query", self._query),
            ("POST", f"{private}/OpenOrders"): Endpoint("open", self._open),
            ("POST", f"{private}/ClosedOrders"): Endpoint("closed", self._closed),
            ("POST", f"{private}/TradesHistory"): Endpoint("trades", self._history),
            ("POST", f"{private}/QueryTrades"): Endpoint("trades", self._query_trades),
        }

    # ---- who may ------------------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        if call.headers.get("API-Key") != self.keys.api_key:
            raise Stop(failure("EAPI:Invalid key"))
        nonce = call.form().get("nonce", "")
        digest = hashlib.sha256(nonce.encode() + call.body).digest()
        signed = hmac.new(base64.b64decode(self.keys.secret), call.path.encode() + digest, hashlib.sha512)
        expected = base64.b64encode(signed.digest()).decode()
        if not hmac.compare_digest(call.headers.get("API-Sign", ""), expected):
            raise Stop(failure("EAPI:Invalid signature"))
        if call.checked:
            return  # the nonce was taken when the request was sent
        if number_of(nonce) <= self._nonce:
            raise Stop(failure("EAPI:Invalid nonce"))
        self._nonce = number_of(nonce)

    def refused(self, refused: Refused, call: Call, operation: str) -> Answer:
        return failure(REFUSALS[refused.why])

    def limited(self, retry_after: str) -> Answer:
        return failure("EAPI:Rate limit exceeded")

    def doubt(self) -> Answer:
        return failure("EGeneral:Internal error")

    def hollow(self) -> Answer:
        return success({})

    # ---- markets ------------------------------------------------------------------------------------------

    def _time(self, call: Call) -> Answer:
        return success({"unixtime": self.book.now() // 1000, "rfc1123": "Sat, 21 Nov 26 08:00:00 +0000"})

    def _status(self, call: Call) -> Answer:
        return success({"status": "online", "timestamp": self.book.clock.now().isoformat()})

    def _markets(self, call: Call) -> Answer:
        pairs = {}
        for item in self.listings:
            (base, base_alt), (quote, quote_alt) = ASSETS[item.base], ASSETS[item.quote]
            pairs[base + quote] = {
                "altname": base_alt + quote_alt,
                "wsname": f"{base_alt}/{quote_alt}",
                "aclass_base": "currency",
                "base": base,
                "aclass_quote": "currency",
                "quote": quote,
                "pair_decimals": _decimals(item.tick),
                "cost_decimals": 5,
                "lot_decimals": _decimals(item.step),
                "lot_multiplier": 1,
                "leverage_buy": [],
                "leverage_sell": [],
                "fees": [[0, 0.1]],
                "fees_maker": [[0, 0.1]],
                "fee_volume_currency": "ZUSD",
                "ordermin": plain(item.min_amount),
                "costmin": plain(item.min_notional),
                "tick_size": plain(item.tick),
                "status": "online",
            }
        return success(pairs)

    def _assets(self, call: Call) -> Answer:
        names = [ASSETS[name] for name in self.book.funds]
        return success(
            {
                name: {
                    "aclass": "currency",
                    "altname": alt,
                    "decimals": 10,
                    "display_decimals": 5,
                    "status": "enabled",
                }
                for name, alt in names
            }
        )

    def _pair(self, wanted: str | None) -> str:
        for item in self.listings:
            (base, base_alt), (quote, quote_alt) = ASSETS[item.base], ASSETS[item.quote]
            if wanted in (base + quote, base_alt + quote_alt, f"{base_alt}/{quote_alt}"):
                return item.symbol
        raise Refused(Refusal.SYMBOL)

    def _ticker(self, call: Call) -> Answer:
        item = self.book.listings[self._pair(call.form().get("pair"))]
        bid, ask, last = plain(item.bid, 5), plain(item.ask, 5), plain(item.price, 5)
        told = {
            "a": [ask, "1", "1.000"],
            "b": [bid, "1", "1.000"],
            "c": [last, "0.10000000"],
            "v": ["100.00000000", "200.00000000"],
            "p": [last, last],
            "t": [100, 200],
            "l": [last, last],
            "h": [last, last],
            "o": last,
        }
        return success({ASSETS[item.base][0] + ASSETS[item.quote][0]: told})

    def _balances(self, call: Call) -> Answer:
        return success(
            {
                ASSETS[name][0]: {
                    "balance": plain(total, 10),
                    "hold_trade": plain(self.book.blocked(name), 10),
                }
                for name, total in self.book.funds.items()
            }
        )

    # ---- orders -------------------------------------------------------------------------------------------

    def order_id(self, number: int) -> str:
        return f"O{number:05d}-VENUE-KRAKEN"

    def client_id(self, call: Call) -> str | None:
        return call.form().get("cl_ord_id")

    def _create(self, call: Call) -> Answer:
        form = call.form()
        client_id, kind, side = form.get("cl_ord_id"), form.get("ordertype"), form.get("type")
        if kind not in ("limit", "market") or side not in ("buy", "sell"):
            raise Stop(failure("EGeneral:Invalid arguments:ordertype"))
        if client_id is not None and (not _CLIENT_ID.fullmatch(client_id) or "userref" in form):
            raise Stop(failure("EGeneral:Invalid arguments:cl_ord_id"))
        self._check_deadline(form)
        order = self.book.place(
            self._pair(form.get("pair")),
            client_id=client_id,
            buys=side == "buy",
            amount=_decimal(form, "volume"),
            price=None if kind == "market" else _decimal(form, "price"),
            time_in_force=form.get("timeinforce", "GTC"),
            post_only="post" in form.get("oflags", ""),
        )
        return success({"txid": [self.order_id(order.number)], "descr": {"order": self._words(order)}})

    def _check_deadline(self, form: dict[str, str]) -> None:
        if "deadline" not in form:
            return
        try:
            deadline = datetime.fromisoformat(form["deadline"])
        except ValueError as error:
            raise Stop(failure("EGeneral:Invalid arguments:deadline")) from error
        if deadline.tzinfo is None or (deadline - self.book.clock.now()).total_seconds() > DEADLINE_MAX:
            raise Stop(failure("EGeneral:Invalid arguments:deadline"))
        if deadline < self.book.clock.now():
            raise Stop(failure("EService:Deadline elapsed"))

    def _words(self, order: Order) -> str:
        pair = ASSETS[order.listing.base][1] + ASSETS[order.listing.quote][1]
        how = "market" if order.price is None else f"limit {plain(order.price)}"
        return f"{'buy' if order.buys else 'sell'} {plain(order.amount, 8)} {pair} @ {how}"

    def _order(self, order: Order) -> dict[str, Any]:
        price = plain(order.price) if order.price is not None else "0"
        told: dict[str, Any] = {
            "refid": None,
            "userref": None,
            "cl_ord_id": order.client_id,
            "status": STATUSES.get(order.status, "canceled"),
            "opentm": order.created / 1000,
            "starttm": 0,
            "expiretm": 0,
            "descr": {
                "pair": ASSETS[order.listing.base][1] + ASSETS[order.listing.quote][1],
                "aclass": "forex",
                "type": "buy" if order.buys else "sell",
                "ordertype": "market" if order.market else "limit",
                "price": price,
                "price2": "0",
                "leverage": "none",
                "order": self._words(order),
                "close": "",
            },
            "vol": plain(order.amount, 8),
            "vol_exec": plain(order.filled, 8),
            "cost": plain(order.cost, 10),
            "fee": plain(order.fee, 8),
            "price": plain(order.average, 10),
            "stopprice": "0.00000",
            "limitprice": "0.00000",
            "misc": "",
            "oflags": "fciq,post" if order.post_only else "fciq",
        }
        if order.trades:
            told["trades"] = [_trade_id(trade) for trade in order.trades]
        if order.status is not Status.OPEN:
            told["reason"] = "User requested" if order.status is Status.CANCELED else None
            told["closetm"] = order.updated / 1000
        return told

    def _find(self, txid: str) -> Order | None:
        found = self.book.find(number_of(txid[1:6]))
        return found if found is not None and self.order_id(found.number) == txid else None

    def _cancel(self, call: Call) -> Answer:
        form = call.form()
        named = form.get("cl_ord_id")
        self.book.cancel(self._find(form.get("txid", "")) if named is None else self.book.resting(named))
        return success({"count": 1})

    def _query(self, call: Call) -> Answer:
        """By txid alone, which must be given; what is not there is left out."""
        names = [name for name in call.form().get("txid", "").split(",") if name]
        if not names:
            raise Stop(failure("EGeneral:Invalid arguments"))
        seen = {self.order_id(order.number): order for order in self.book.seen()}
        if not all(re.fullmatch(r"[OT][A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{6}", name) for name in names):
            raise Stop(failure("EOrder:Invalid order"))
        return success({name: self._order(seen[name]) for name in names if name in seen})

    def _open(self, call: Call) -> Answer:
        named = call.form().get("cl_ord_id")
        rests = [
            order for order in self.book.seen() if order.status is Status.OPEN and named in (None, order.client_id)
        ]
        return success({"open": {self.order_id(order.number): self._order(order) for order in rests}})

    def _closed(self, call: Call) -> Answer:
        """Fifty at a time, the newest first; a period counts from opening or closing, as ``closetime`` says."""
        form = call.form()
        named, (since, until), which = form.get("cl_ord_id"), _period(form), form.get("closetime", "both")
        found = []
        for order in self.book.seen():
            if order.status is Status.OPEN or named not in (None, order.client_id):
                continue
            times = {"open": [order.created], "close": [order.updated]}.get(which, [order.created, order.updated])
            if any(since <= time / 1000 <= until for time in times):
                found.append(order)
        found.sort(key=lambda order: (order.updated, order.number), reverse=True)
        first = number_of(form.get("ofs", ""))
        page = {self.order_id(order.number): self._order(order) for order in found[first : first + PAGE]}
        return success({"closed": page, "count": len(found)})

    def _all_trades(self) -> list[tuple[Order, Trade]]:
        pairs = [(order, trade) for order in self.book.seen() for trade in order.trades]
        return sorted(pairs, key=lambda pair: pair[1].number, reverse=True)

    def _history(self, call: Call) -> Answer:
        form = call.form()
        since, until = _period(form)
        found = [pair for pair in self._all_trades() if since <= pair[1].at / 1000 <= until]
        first = number_of(form.get("ofs", ""))
        page = {_trade_id(trade): self._trade(order, trade) for order, trade in found[first : first + PAGE]}
        return success({"trades": page, "count": len(found)})

    def _query_trades(self, call: Call) -> Answer:
        wanted = call.form().get("txid", "").split(",")
        return success(
            {
                _trade_id(trade): self._trade(order, trade)
                for order, trade in self._all_trades()
                if _trade_id(trade) in wanted
            }
        )

    def _trade(self, order: Order, trade: Trade) -> dict[str, Any]:
        return {
            "ordertxid": self.order_id(order.number),
            "postxid": "TKH2SE-M7IF5-CFI7LT",
            "pair": ASSETS[order.listing.base][0] + ASSETS[order.listing.quote][0],
            "time": trade.at / 1000,
            "type": "buy" if order.buys else "sell",
            "ordertype": "market" if order.market else "limit",
            "price": plain(trade.price, 5),
            "cost": plain(trade.price * trade.amount, 10),
            "fee": plain(trade.fee, 8),
            "vol": plain(trade.amount, 8),
            "margin": "0.00000",
            "leverage": "0",
            "misc": "",
            "trade_id": trade.number,
            "maker": trade.maker,
        }


def _trade_id(trade: Trade) -> str:
    return f"T{trade.number:05d}-VENUE-KRAKEN"


def _decimals(unit: Decimal) -> int:
    return len(plain(unit).partition(".")[2])


def _period(form: dict[str, str]) -> tuple[float, float]:
    """Seconds since 1970."""
    return float(form.get("start") or 0), float(form.get("end") or 1e12)


def _decimal(form: dict[str, str], name: str) -> Decimal:
    try:
        return Decimal(form[name])
    except (KeyError, InvalidOperation) as error:
        raise Stop(failure(f"EGeneral:Invalid arguments:{name}")) from error
