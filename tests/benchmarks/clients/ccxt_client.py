"""ccxt's own binance class, pointed at the stub; its rate limiter is off, as it would only be waited for."""

from __future__ import annotations

import ccxt.async_support as ccxt
from worker import AMOUNT, KEY, PRICE, SECRET, SYMBOL, main


class CcxtClient:
    """``create_order``, as its manual shows it."""

    async def start(self, port: int, directory: str) -> None:
        """Load the markets from the stub."""
        self._exchange = exchange = ccxt.binance(
            {
                "apiKey": KEY,
                "secret": SECRET,
                "enableRateLimit": False,
                "options": {
                    "fetchCurrencies": False,
                    "fetchMarkets": {"types": ["spot"]},
                    "defaultType": "spot",
                    "fetchMargins": False,
                },
            }
        )
        for name, url in exchange.urls["api"].items():
            if isinstance(url, str):
                path = "/" + url.split("//", 1)[1].split("/", 1)[1] if "/" in url.split("//", 1)[1] else ""
                exchange.urls["api"][name] = f"http://127.0.0.1:{port}{path}"
        await exchange.load_markets()

    async def order(self) -> None:
        """Place it."""
        order = await self._exchange.create_order(SYMBOL, "limit", "buy", float(AMOUNT), float(PRICE))
        if order["id"] is None:
            raise RuntimeError("the stub refused")

    async def stop(self) -> None:
        """Close the session."""
        await self._exchange.close()


if __name__ == "__main__":
    main(CcxtClient())
