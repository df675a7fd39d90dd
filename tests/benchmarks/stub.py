"""A stub exchange in its own process: Binance's spot shape, and an answer at once to everything.

It parses as little as it can and keeps nothing but a counter, so that the client is what is measured; how much
CPU it takes for an order is measured all the same (``GET /stub/cpu``), and the results say it.

    python tests/benchmarks/stub.py [PORT]      prints the port once it listens
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import time
from typing import Any, Final
from urllib.parse import parse_qs

SYMBOLS: Final = tuple(f"{base}USDT" for base in ("BTC", "ETH", "BNB"))
ZERO_ROWS: Final = {"BTC": "100.0", "ETH": "1000.0", "USDT": "1000000000.0"}
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_END: Final = b"\r\n\r\n"


def exchange_info() -> dict[str, Any]:
    """The rules of a few symbols, in the words that ccxt, NautilusTrader and freqtrade read."""
    return {
        "timezone": "UTC",
        "serverTime": _millis(),
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [_symbol(name) for name in SYMBOLS],
    }


def _symbol(name: str) -> dict[str, Any]:
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": name.removesuffix("USDT"),
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
            {"filterType": "ICEBERG_PARTS", "limit": 10},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.0", "maxQty": "100.0", "stepSize": "0.0"},
            {
                "filterType": "NOTIONAL",
                "minNotional": "5.0",
                "applyMinToMarket": True,
                "maxNotional": "9000000.0",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
    }


def account() -> dict[str, Any]:
    """Balances that never run out."""
    return {
        "makerCommission": 0,
        "takerCommission": 0,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": "0.001", "taker": "0.001", "buyer": "0", "seller": "0"},
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": _millis(),
        "accountType": "SPOT",
        "balances": [{"asset": name, "free": free, "locked": "0.0"} for name, free in ZERO_ROWS.items()],
        "permissions": ["SPOT"],
        "uid": 1,
    }


def fixed_answers() -> dict[bytes, bytes]:
    """Path → body, for everything but orders."""
    empty: list[object] = []
    return {
        b"/api/v3/ping": b"{}",
        b"/api/v3/exchangeInfo": json.dumps(exchange_info()).encode(),
        b"/api/v3/account": json.dumps(account()).encode(),
        b"/api/v3/openOrders": json.dumps(empty).encode(),
        b"/api/v3/allOrders": json.dumps(empty).encode(),
        b"/api/v3/myTrades": json.dumps(empty).encode(),
        b"/api/v3/userDataStream": json.dumps({"listenKey": "stub"}).encode(),
        b"/sapi/v1/capital/config/getall": b"[]",
        b"/sapi/v1/asset/tradeFee": json.dumps(
            [{"symbol": name, "makerCommission": "0.001", "takerCommission": "0.001"} for name in SYMBOLS]
        ).encode(),
        b"/api/v3/ticker/price": json.dumps({"symbol": "BTCUSDT", "price": "50000.00"}).encode(),
    }


def _millis() -> int:
    return time.time_ns() // 1_000_000


class Exchange:
    """What all connections share."""

    def __init__(self) -> None:
        self.orders = 0
        self.answers = fixed_answers()
        self.streams: set[Connection] = set()

    def order(self, query: bytes) -> bytes:
        """Accept one order, and tell the streams of it."""
        self.orders += 1
        number = self.orders
        told = {key.decode(): values[0].decode() for key, values in parse_qs(query).items()}
        now = _millis()
        client_id = told.get("newClientOrderId", f"stub{number}")
        body = (
            b'{"symbol":"%s","orderId":%d,"orderListId":-1,"clientOrderId":"%s","transactTime":%d,"price":"%s",'
            b'"origQty":"%s","executedQty":"0.00000000","origQuoteOrderQty":"0.00000000",'
            b'"cummulativeQuoteQty":"0.00000000","status":"NEW","timeInForce":"GTC","type":"LIMIT","side":"%s",'
            b'"workingTime":%d,"fills":[],"selfTradePreventionMode":"EXPIRE_MAKER"}'
        ) % (
            told.get("symbol", "BTCUSDT").encode(),
            number,
            client_id.encode(),
            now,
            told.get("price", "50000.00").encode(),
            told.get("quantity", "0.001").encode(),
            told.get("side", "BUY").encode(),
            now,
        )
        if self.streams:
            self._report(told, number, client_id, now)
        return body

    def _report(self, told: dict[str, str], number: int, client_id: str, now: int) -> None:
        data = {
            "e": "executionReport",
            "E": now,
            "s": told.get("symbol", "BTCUSDT"),
            "c": client_id,
            "S": told.get("side", "BUY"),
            "o": "LIMIT",
            "f": "GTC",
            "q": told.get("quantity", "0.001"),
            "p": told.get("price", "50000.00"),
            "P": "0.00000000",
            "F": "0.00000000",
            "g": -1,
            "C": "",
            "x": "NEW",
            "X": "NEW",
            "r": "NONE",
            "i": number,
            "l": "0.00000000",
            "z": "0.00000000",
            "L": "0.00000000",
            "n": "0",
            "N": None,
            "T": now,
            "t": -1,
            "I": number,
            "w": True,
            "m": False,
            "M": False,
            "O": now,
            "Z": "0.00000000",
            "Y": "0.00000000",
            "Q": "0.00000000",
            "W": now,
            "V": "EXPIRE_MAKER",
        }
        report = json.dumps({"stream": "stub", "data": data}).encode()
        for stream in self.streams:
            stream.push(report)


class Connection(asyncio.Protocol):
    """One connection: pipelined HTTP/1.1 until it asks to become a WebSocket."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._is_stream = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._exchange.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        if self._is_stream:
            self._read_frames()
            return
        while (end := data.find(_END)) >= 0:
            head = data[:end]
            length = _content_length(head)
            stop = end + 4 + length
            if len(data) < stop:
                break
            body, data = data[end + 4 : stop], data[stop:]
            self._answer(head, body)
        self._data = data

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.partition(b"?")
        lowered = head.lower() if b"pgrade: websocket" in head.lower() else b""
        if lowered:
            self._upgrade(head)
        elif path == b"/api/v3/order" and method == b"POST":
            self._write(self._exchange.order(body or query))
        elif path == b"/api/v3/time":
            self._write(b'{"serverTime":%d}' % _millis())
        elif path == b"/stub/cpu":
            self._write(json.dumps({"cpu": time.process_time(), "orders": self._exchange.orders}).encode())
        else:
            known = self._exchange.answers.get(path)
            self._write(b"{}" if known is None else known, b"200 OK" if known is not None else b"404 Not Found")

    def _write(self, body: bytes, status: bytes = b"200 OK") -> None:
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s"
            % (status, len(body), body)
        )

    # ---- WebSocket ----------------------------------------------------------------------------------------

    def _upgrade(self, head: bytes) -> None:
        key = next(
            line.split(b":", 1)[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + _END
        )
        self._is_stream = True
        self._exchange.streams.add(self)

    def push(self, text: bytes) -> None:
        """Send one text message."""
        self._frame(0x81, text)

    def _frame(self, first: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((first, size)) if size < 126 else bytes((first, 126)) + size.to_bytes(2, "big")
        if self._transport is not None:
            self._transport.write(head + payload)

    def _read_frames(self) -> None:
        """Answer pings and requests to subscribe; whatever else comes is dropped."""
        data = self._data
        while len(data) >= 6:
            size, start = data[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            stop = start + 4 + size
            if len(data) < stop:
                break
            mask, masked = data[start : start + 4], data[start + 4 : stop]
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
            self._take_frame(data[0] & 0x0F, payload)
            data = data[stop:]
        self._data = data

    def _take_frame(self, kind: int, payload: bytes) -> None:
        if kind == 9:
            self._frame(0x8A, payload)
        elif kind == 8:
            self._frame(0x88, payload)
        elif kind == 1:
            asked = json.loads(payload)
            if isinstance(asked, dict) and "id" in asked:
                self.push(json.dumps({"result": None, "id": asked["id"], "status": 200}).encode())


def _content_length(head: bytes) -> int:
    at = head.find(b"ontent-Length:")
    if at < 0:
        at = head.find(b"ontent-length:")
    if at < 0:
        return 0
    end = head.find(b"\r\n", at)
    return int(head[at + 14 : end if end >= 0 else None])


def say(text: object) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def serve(port: int) -> None:
    """Listen until the standard input ends."""
    loop = asyncio.get_running_loop()
    exchange = Exchange()
    server = await loop.create_server(lambda: Connection(exchange), "127.0.0.1", port, backlog=1024)
    say(server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
