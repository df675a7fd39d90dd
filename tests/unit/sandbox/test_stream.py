"""The private stream as it is heard over a websocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.mcp.order_execution.paper_exchange.schema import ExchangeDown
from services.mcp.order_execution.sandbox import WireFaults
from services.mcp.order_execution.sandbox import stream as stream_module
from services.mcp.order_execution.sandbox.watch import Watch
from tests.unit.sandbox.desk import CANCEL, Desk, desk

BAD_REQUEST = 3501


class Listener:
    """A raw client of the protocol: sends commands, collects what comes, answers pings."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.lines: list[dict[str, Any]] = []
        self.pings = 0
        self.pongs = True

    async def send(self, *commands: dict[str, Any]) -> None:
        await self.socket.send_str("\n".join(json.dumps(command) for command in commands))

    async def next(self) -> dict[str, Any]:
        """The next line that is no ping. Raises EOFError at the end of the connection."""
        async with asyncio.timeout(5):
            while not self.lines:
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise EOFError(self.socket.close_code)
                for line in message.data.split("\n"):
                    if line == "{}":
                        self.pings += 1
                        if self.pongs:
                            await self.socket.send_str("{}")
                    else:
                        self.lines.append(json.loads(line))
        return self.lines.pop(0)

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next publication: the channel's kind, and its data."""
        push = (await self.next())["push"]
        data = push["pub"]["data"]
        return push["channel"].partition("#")[0], json.loads(data) if isinstance(data, str) else data

    async def end(self) -> int | None:
        """The code with which the connection ends."""
        for _ in range(100):
            try:
                await self.next()
            except EOFError:
                return self.socket.close_code
        pytest.fail("it did not end")


async def later(seconds: float, client: Desk) -> None:
    await asyncio.sleep(seconds)
    await client.add()


async def token_of(client: Desk) -> str:
    return str((await client.get("/auth/ws/token/")).body["token"])


@asynccontextmanager
async def raw(client: Desk) -> AsyncIterator[Listener]:
    async with client.session.ws_connect(client.sandbox.stream_url, autoping=False) as socket:
        yield Listener(socket)


@asynccontextmanager
async def listening(client: Desk, *kinds: str) -> AsyncIterator[Listener]:
    """Connected with a token, and subscribed to the private channels."""
    async with raw(client) as listener:
        await listener.send({"id": 1, "connect": {"token": await token_of(client)}})
        assert (await listener.next())["connect"]["expires"] is True
        for number, kind in enumerate(kinds or ("orders",), start=2):
            channel = f"private:{kind}#{client.sandbox.keys.stream_parameter}"
            await listener.send({"id": number, "subscribe": {"channel": channel}})
            assert await listener.next() == {"id": number, "subscribe": {}}
        yield listener


async def test_orders_are_heard_from_the_first_to_the_last_state() -> None:
    """Under the stream's own names, with the clientOrderId in the last event too."""
    async with desk() as client, listening(client) as listener:
        await client.add(clientOrderId="mine")
        channel, event = await listener.event()
        assert channel == "private:orders"
        assert event == {
            "amount": "0.01",
            "avgFilledPrice": "0",
            "clientOrderId": "mine",
            "dstCurrency": "usdt",
            "eventTime": 1767268800000,
            "fee": "0",
            "filledAmount": "0",
            "lastFillTime": None,
            "marketType": "Spot",
            "orderId": 1,
            "orderType": "Limit",
            "param1": None,
            "price": "60000",
            "side": "Buy",
            "srcCurrency": "btc",
            "status": "Active",
            "tradeAmount": None,
            "tradeId": None,
            "tradePrice": None,
        }
        await client.post(CANCEL, {"order": 1, "status": "canceled"})
        _, event = await listener.event()
        assert (event["status"], event["clientOrderId"]) == ("Canceled", "mine")


async def test_a_fill_names_the_trade_and_so_does_the_channel_of_trades() -> None:
    """The market's price is null there, and trades carry no clientOrderId."""
    async with desk() as client, listening(client, "orders", "trades") as listener:
        await client.market(clientOrderId="mine")
        events = dict([await listener.event(), await listener.event()])
        order, trade = events["private:orders"], events["private:trades"]
        assert (order["status"], order["price"], order["tradeId"]) == ("Done", None, 1)
        assert order["orderType"] == "Market"
        assert order["lastFillTime"] == 1767268800000
        assert (trade["id"], trade["orderId"], trade["srcCurrency"], trade["dstCurrency"]) == (1, 1, "btc", "usdt")
        assert "clientOrderId" not in trade


async def test_what_the_market_does_is_heard_without_any_request() -> None:
    """A resting order that fills as time passes."""
    async with desk(volatility=0.005, stream_seconds=0.01) as client:
        await client.add(price="64990", amount="0.001")
        async with listening(client) as listener:
            for _ in range(300):
                client.clock.advance(5)
                await asyncio.sleep(0.02)
                if not client.sandbox.book()[0].order.is_open:
                    break
            _, event = await listener.event()
            assert (event["status"], event["filledAmount"]) == ("Done", "0.001")


async def test_who_subscribes_hears_no_past() -> None:
    """There is no snapshot."""
    async with desk() as client:
        await client.add(clientOrderId="before")
        async with listening(client) as listener:
            await client.add(clientOrderId="after")
            assert (await listener.event())[1]["clientOrderId"] == "after"


async def test_data_is_mostly_json_in_a_string() -> None:
    """One in five is an object; offsets count up."""
    async with desk() as client, listening(client) as listener:
        kinds = []
        for number in range(1, 6):
            await client.add()
            pub = (await listener.next())["push"]["pub"]
            assert pub["offset"] == number
            kinds.append(type(pub["data"]))
        assert kinds == [str, str, str, str, dict]


@pytest.mark.parametrize(
    "frame", ['{"id": 1, "subscribe": {"channel": "x"}}', "x", "[]", '{"connect": {}}', '{"id": 0, "connect": {}}']
)
async def test_the_first_frame_must_connect(frame: str) -> None:
    """Anything else is a bad request, and the end."""
    async with desk() as client, raw(client) as listener:
        await listener.socket.send_str(frame)
        assert await listener.end() == BAD_REQUEST


async def test_binary_frames_are_a_bad_request() -> None:
    """The protocol here is JSON."""
    async with desk() as client, raw(client) as listener:
        await listener.socket.send_bytes(b"{}")
        assert await listener.end() == BAD_REQUEST


async def test_private_channels_need_a_token_and_the_accounts_suffix() -> None:
    """Otherwise: permission denied."""
    async with desk() as client:
        parameter = client.sandbox.keys.stream_parameter
        async with raw(client) as listener:
            await listener.send(
                {"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": f"private:orders#{parameter}"}}
            )
            assert (await listener.next())["id"] == 1
            assert (await listener.next())["error"]["code"] == 103
        async with listening(client) as listener:
            await listener.send({"id": 9, "subscribe": {"channel": "private:orders#other"}})
            assert (await listener.next())["error"]["code"] == 103


async def test_a_forged_token_ends_the_connection_and_a_stale_one_is_an_error() -> None:
    """Codes 3500 and 109, as Centrifugo has them."""
    async with desk() as client:
        token = await token_of(client)
        async with raw(client) as listener:
            await listener.send({"id": 1, "connect": {"token": token + "x"}})
            assert await listener.end() == 3500
        client.clock.advance(1201)
        async with raw(client) as listener:
            await listener.send({"id": 1, "connect": {"token": token}})
            assert (await listener.next())["error"]["code"] == 109


async def test_a_connection_ends_with_its_token_unless_that_is_refreshed() -> None:
    """A refresh is answered with the new time."""
    async with desk(ping_seconds=0.02) as client, listening(client) as listener:
        client.clock.advance(600)
        await listener.send({"id": 5, "refresh": {"token": await token_of(client)}})
        assert (await listener.next())["refresh"]["ttl"] == 1200
        client.clock.advance(700)
        await client.add()
        assert (await listener.event())[1]["status"] == "Active"
        client.clock.advance(501)
        assert await listener.end() == 3005


async def test_a_ping_is_empty_and_wants_an_answer() -> None:
    """Who gives none is cut off."""
    async with desk(ping_seconds=0.05, pong_seconds=0.1) as client, listening(client) as listener:
        adding = asyncio.create_task(later(0.3, client))
        await listener.event()
        await adding
        assert listener.pings >= 2
        listener.pongs = False
        assert await listener.end() == 3012
        assert listener.pings >= 1


async def test_a_connection_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame has a deadline; later silence is for pings to judge."""
    monkeypatch.setattr(stream_module, "HELLO_SECONDS", 0.1)
    async with desk() as client:
        async with raw(client) as listener:
            assert await listener.end() == 3502
        async with listening(client) as listener:
            await asyncio.sleep(0.2)
            await client.add()
            assert (await listener.event())[1]["status"] == "Active"


async def test_commands_and_their_errors() -> None:
    """Twice the same channel, an unknown one, a command that does not exist, and leaving a channel."""
    async with desk() as client, listening(client) as listener:
        channel = f"private:orders#{client.sandbox.keys.stream_parameter}"
        await listener.send(
            {"id": 11, "subscribe": {"channel": channel}},
            {"id": 12, "subscribe": {"channel": "public:nothing"}},
            {"id": 13, "rpc": {}},
            {"id": 14, "unsubscribe": {"channel": channel}},
        )
        errors = [(await listener.next()).get("error", {}).get("code") for _ in range(4)]
        assert errors == [105, 102, 104, None]


@pytest.mark.parametrize(
    "command",
    [{"id": 9, "connect": {}}, {"id": 9, "subscribe": {}}, {"id": 9, "subscribe": 5}, {"id": 9, "refresh": {}}],
)
async def test_commands_that_end_the_connection(command: dict[str, Any]) -> None:
    """A second connect, no channel, no object, no token."""
    async with desk() as client, listening(client) as listener:
        await listener.send(command)
        assert await listener.end() in (BAD_REQUEST, 3500)


async def test_there_is_an_end_to_channels_and_to_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """As documented, though with smaller numbers here."""
    monkeypatch.setattr(stream_module, "CHANNELS_MAX", 1)
    monkeypatch.setattr(stream_module, "CONNECTIONS_MAX", 1)
    async with desk() as client, listening(client) as listener:
        await listener.send({"id": 9, "subscribe": {"channel": "public:orderbook-BTCIRT"}})
        assert (await listener.next())["error"]["code"] == 106
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with raw(client):
                pass


async def test_the_public_book_of_a_market() -> None:
    """Without a token; whole, and again when it has changed."""
    async with desk(stream_seconds=0.01, volatility=0.005) as client, raw(client) as listener:
        await listener.send(
            {"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "public:orderbook-BTCUSDT"}}
        )
        assert [(await listener.next())["id"], (await listener.next())["id"]] == [1, 2]
        channel, first = await listener.event()
        assert channel == "public:orderbook-BTCUSDT"
        assert set(first) == {"lastUpdate", "lastTradePrice", "asks", "bids"}
        client.clock.advance(10)
        assert (await listener.event())[1] != first


async def test_events_can_be_lost_doubled_or_break_the_connection() -> None:
    """The stream is a hint, and these are the reasons."""
    async with desk() as client:
        async with listening(client) as listener:
            client.sandbox.set_faults(WireFaults(lost_event=1.0))
            await client.add(clientOrderId="lost")
            await asyncio.sleep(0.05)
            client.sandbox.set_faults(WireFaults(doubled_event=1.0))
            await client.add(clientOrderId="doubled")
            first, second = await listener.event(), await listener.event()
            assert first == second
            assert first[1]["clientOrderId"] == "doubled"
            client.sandbox.set_faults(WireFaults(stream_reset=1.0))
            await client.add()
            await listener.end()
        client.sandbox.set_faults(WireFaults())
        async with listening(client) as listener:
            client.sandbox.reset_streams()
            await listener.end()


async def test_a_file_that_fails_silences_the_stream_only_for_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and what happened meanwhile is heard afterwards."""
    async with desk(stream_seconds=0.01) as client, listening(client) as listener:

        def broken(_: Watch) -> None:
            raise ExchangeDown("busy")

        with monkeypatch.context() as patch:
            patch.setattr(Watch, "news", broken)
            await client.add(clientOrderId="mine")
            for _ in range(1000):
                if caplog.messages:
                    break
                await asyncio.sleep(0.005)
        assert caplog.messages[0] == "the stream says nothing for now: busy"
        assert (await listener.event())[1]["clientOrderId"] == "mine"


async def test_a_listener_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And delays nobody for long."""
    monkeypatch.setattr(stream_module, "SEND_SECONDS", 0.05)
    async with desk() as client, listening(client) as listener, listening(client) as other:

        async def stuck(self: web.WebSocketResponse, text: str, compress: int | None = None) -> None:
            await asyncio.sleep(10)

        with monkeypatch.context() as patch:
            patch.setattr(web.WebSocketResponse, "send_str", stuck)
            await client.add()
            assert await listener.end() == 1006
            assert await other.end() == 1006


async def test_at_the_end_of_the_sandbox_one_is_told() -> None:
    """Code 3001: reconnect later."""
    async with desk() as client, listening(client) as listener:
        closing = asyncio.create_task(client.sandbox.close())
        assert await listener.end() == 3001
        await closing


async def test_a_maintained_client_library_can_use_it() -> None:
    """centrifuge-python connects, subscribes, and hears an order."""
    centrifuge = pytest.importorskip("centrifuge")
    heard: asyncio.Queue[Any] = asyncio.Queue()

    class Events(centrifuge.SubscriptionEventHandler):  # type: ignore[misc,name-defined]
        async def on_publication(self, context: Any) -> None:
            heard.put_nowait(context.pub.data)

    async with desk() as client:

        async def token() -> str:
            return await token_of(client)

        user = centrifuge.Client(client.sandbox.stream_url, get_token=token)
        channel = f"private:orders#{client.sandbox.keys.stream_parameter}"
        subscription = user.new_subscription(channel, Events())
        await user.connect()
        await subscription.subscribe()
        await subscription.ready(timeout=5)
        await client.add(clientOrderId="mine")
        async with asyncio.timeout(5):
            data = await heard.get()
        assert json.loads(data)["clientOrderId"] == "mine"
        await user.disconnect()
