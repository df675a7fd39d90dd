"""The baseline, 1×: aiohttp, an HMAC signature, JSON read by orjson. No record, no retry, no limit."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from urllib.parse import urlencode

import aiohttp
import orjson
import yarl
from worker import AMOUNT, KEY, PRICE, SECRET, main


class RawClient:
    """The least that any program has to do to place an order."""

    async def start(self, port: int, directory: str) -> None:
        """Make the session."""
        self._url = yarl.URL(f"http://127.0.0.1:{port}/api/v3/order")
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._secret = SECRET.encode()

    async def order(self) -> None:
        """Sign, send, read."""
        query = urlencode(
            {
                "symbol": "BTCUSDT",
                "side": "BUY",
                "type": "LIMIT",
                "timeInForce": "GTC",
                "quantity": AMOUNT,
                "price": PRICE,
                "newClientOrderId": uuid.uuid4().hex,
                "timestamp": time.time_ns() // 1_000_000,
            }
        )
        signature = hmac.new(self._secret, query.encode(), hashlib.sha256).hexdigest()
        body = f"{query}&signature={signature}".encode()
        headers = {"X-MBX-APIKEY": KEY, "Content-Type": "application/x-www-form-urlencoded"}
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            data = orjson.loads(await answer.read())
        if answer.status != 200 or not data["orderId"]:
            raise RuntimeError("the stub refused")

    async def stop(self) -> None:
        """Close the session."""
        await self._session.close()


if __name__ == "__main__":
    main(RawClient())
