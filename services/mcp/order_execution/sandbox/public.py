"""The public counter: options with the precisions, order books, statistics."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from ..paper_exchange.records import Depth, Level, Quote, to_us
from .calls import Call, Reply, failed
from .house import House, bad_request, fits, plain
from .markets import CODES, NAMES, QUOTES, MarketInfo
from .unthrottled import unthrottled

BOOK_SECONDS: Final = 1.0
"""Order books are cached for so long."""


class PublicCounter:
    """Answers what needs no keys."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._books: dict[str, tuple[float, dict[str, Any]]] = {}

    def options(self, _: Call) -> Reply:
        """``GET /v2/options``: currencies, the least worth of an order, steps of amounts and prices."""
        markets = list(self._house.markets)
        minimums = {code: plain(least) for code, least in self._house.markets.minimums.items()}
        coins: list[dict[str, Any]] = [
            {
                "coin": code,
                "name": name,
                "defaultNetwork": "FIAT_MONEY" if code == "rls" else code.upper(),
                "displayPrecision": "10" if code == "rls" else "0.000001",
                "stdName": name,
                "withdrawMax": "4_000_0.00000000",
                "networkList": {},
            }
            for code, name in NAMES.items()
        ]
        nobitex = {
            "allCurrencies": list(NAMES),
            "activeCurrencies": list(NAMES),
            "xchangeCurrencies": [],
            "topCurrencies": ["btc"],
            "testingCurrencies": [],
            "withdrawLimits": {},
            "minOrders": {**minimums, "2": minimums["rls"], "13": minimums["usdt"]},
            "amountPrecisions": {info.path: plain(info.amount_step) for info in markets},
            "pricePrecisions": {info.path: plain(info.price_step) for info in markets},
        }
        features = {"fcmEnabled": True, "enabledFeatures": ["StopLoss"], "betaFeatures": []}
        return Reply({"status": "ok", "features": features, "coins": coins, "nobitex": nobitex})

    def book(self, call: Call) -> Reply:
        """``GET /v3/orderbook/SYMBOL`` or ``/all``; answers within a second are the same."""
        name = call.path.rpartition("/")[2]
        if name == "all":
            books = {info.path: self._book(info) for info in self._house.markets}
            return Reply({"status": "ok", **books})
        info = self._house.markets.by_path(name)
        return _no_symbol() if info is None else Reply({"status": "ok", **self._book(info)})

    def book_of(self, name: str) -> dict[str, Any] | None:
        """The book of a path symbol, as the stream shows it; None for an unknown one."""
        info = self._house.markets.by_path(name)
        return None if info is None else self._book(info)

    def _book(self, info: MarketInfo) -> dict[str, Any]:
        now = self._house.clock.monotonic()
        known = self._books.get(info.path)
        if known is not None and now - known[0] < BOOK_SECONDS:
            return known[1]
        depth, quote = self._house.exchange.depth(info.symbol), self._quote(info)
        sides = depth if isinstance(depth, Depth) else Depth(info.symbol, (), ())
        book = {
            "lastUpdate": self._now_ms(),
            "lastTradePrice": plain(quote.last),
            "asks": _levels(sides.asks),
            "bids": _levels(sides.bids),
        }
        self._books[info.path] = (now, book)
        return book

    def depth(self, call: Call) -> Reply:
        """``GET /v2/depth/SYMBOL``: as the book, with ``lastUpdate`` as a string."""
        info = self._house.markets.by_path(call.path.rpartition("/")[2])
        if info is None:
            return _no_symbol()
        book = self._book(info)
        return Reply({"status": "ok", **book, "lastUpdate": str(book["lastUpdate"])})

    def trades(self, call: Call) -> Reply:
        """``GET /v2/trades/SYMBOL``: what trades now; the sandbox has no public past."""
        info = self._house.markets.by_path(call.path.rpartition("/")[2])
        if info is None:
            return _no_symbol()
        price = plain(self._quote(info).last)
        trade = {"time": self._now_ms(), "price": price, "volume": plain(info.amount_step * 1000), "type": "buy"}
        return Reply({"status": "ok", "trades": [trade]})

    def stats(self, call: Call) -> Reply:
        """``GET /market/stats``; both currencies may be lists with commas."""
        query = call.query()
        sources = query["srcCurrency"].split(",") if "srcCurrency" in query else [None]
        targets = query["dstCurrency"].split(",") if "dstCurrency" in query else [None]
        if not {*sources, *targets} <= {*CODES, None} or not set(targets) <= {*QUOTES, None}:
            raise bad_request("srcCurrency, dstCurrency: codes with commas between them")
        stats = {
            info.dashed: self._stats(info)
            for info in self._house.markets
            if any(fits(info, src, dst) for src in sources for dst in targets)
        }
        return Reply({"status": "ok", "stats": stats})

    def _stats(self, info: MarketInfo) -> dict[str, Any]:
        quote = self._quote(info)
        last = plain(quote.last)
        return {
            "isClosed": info.dashed in self._house.faults.closed_markets,
            "bestSell": plain(quote.ask),
            "bestBuy": plain(quote.bid),
            "volumeSrc": "0",
            "volumeDst": "0",
            "latest": last,
            "mark": last,
            "dayLow": last,
            "dayHigh": last,
            "dayOpen": last,
            "dayClose": last,
            "dayChange": "0",
        }

    def history(self, _: Call) -> Reply:
        """``GET /market/udf/history``: the sandbox keeps no candles."""
        return Reply({"s": "no_data"})

    def _quote(self, info: MarketInfo) -> Quote:
        quote = unthrottled(self._house.exchange.quote(info.symbol))
        if quote is None:
            return Quote(info.symbol, Decimal(0), Decimal(0), Decimal(0))
        return quote

    def _now_ms(self) -> int:
        return to_us(self._house.clock.now()) // 1000


def _levels(levels: Iterable[Level]) -> list[list[str]]:
    return [[plain(level.price), plain(level.amount)] for level in levels]


def _no_symbol() -> Reply:
    return failed("InvalidSymbol", "The symbol is not valid")
