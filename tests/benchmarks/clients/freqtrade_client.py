"""freqtrade's own exchange class (synchronous ccxt beneath), pointed at the stub; fifty at once are threads."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from freqtrade.enums import CandleType, RunMode
from freqtrade.resolvers import ExchangeResolver
from worker import AMOUNT, KEY, PRICE, SECRET, SYMBOL, main

AT_ONCE = 50


class FreqtradeClient:
    """``Exchange.create_order``, as its bot calls it."""

    async def start(self, port: int, directory: str) -> None:
        """Make the exchange in a thread of its own: it runs a loop itself."""
        logging.disable(logging.CRITICAL)
        self._threads = ThreadPoolExecutor(AT_ONCE)
        await asyncio.get_running_loop().run_in_executor(self._threads, self._make, port)

    def _make(self, port: int) -> None:
        options = {
            "enableRateLimit": False,
            "options": {"fetchCurrencies": False, "fetchMarkets": {"types": ["spot"]}, "fetchMargins": False},
            "urls": {"api": _addresses(port)},
        }
        config = {
            "exchange": {
                "name": "binance", "key": KEY, "secret": SECRET, "ccxt_config": options,
                "ccxt_async_config": options, "pair_whitelist": [SYMBOL], "pair_blacklist": [],
            },
            "runmode": RunMode.LIVE, "dry_run": False,
            "stake_currency": "USDT", "stake_amount": 100, "trading_mode": "spot",
            "margin_mode": "", "timeframe": "5m", "candle_type_def": CandleType.SPOT,
            "entry_pricing": {"price_side": "same", "use_order_book": False},
            "exit_pricing": {"price_side": "same", "use_order_book": False},
        }  # fmt: skip
        self._exchange = ExchangeResolver.load_exchange(config, validate=False, load_leverage_tiers=False)
        self._exchange.reload_markets(True)

    async def order(self) -> None:
        """Place it in a thread, as nothing of it is asynchronous."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._place)

    def _place(self) -> None:
        order = self._exchange.create_order(
            pair=SYMBOL, ordertype="limit", side="buy", amount=float(AMOUNT), rate=float(PRICE), leverage=1.0,
            time_in_force="GTC",
        )  # fmt: skip
        if order["id"] is None:
            raise RuntimeError("the stub refused")

    async def stop(self) -> None:
        """The process ends right after this."""


def _addresses(port: int) -> dict[str, str]:
    import ccxt

    addresses = {}
    for name, url in ccxt.binance().urls["api"].items():
        if isinstance(url, str):
            host, _, path = url.split("//", 1)[1].partition("/")
            addresses[name] = f"http://127.0.0.1:{port}/{path}" if host else url
    return addresses


if __name__ == "__main__":
    main(FreqtradeClient())
