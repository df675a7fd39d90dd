"""Reading frames: lines, pongs, and the difference between errors and ends."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings
from services.mcp.order_execution.sandbox.connections import Connection, Disconnect
from services.mcp.order_execution.sandbox.keys import stream_token
from tests.unit.sandbox.desk import NOON, HandClock


class Bench:
    """A connection without a socket."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.woken = 0
        self.keys = sandbox.keys
        unused: Any = None
        self.connection = Connection(sandbox.house(), unused, unused, "client-id", 300, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def token(self, seconds: int = 1200) -> str:
        now = int(NOON.timestamp())
        return stream_token(self.keys, issued=now, expires=now + seconds)


@pytest.fixture(name="bench")
def _bench() -> Iterator[Bench]:
    sandbox = Sandbox(SandboxSettings(path=Path(":memory:")), clock=HandClock(), rng=random.Random(0))
    sandbox._exchange.open()
    try:
        yield Bench(sandbox)
    finally:
        sandbox._exchange.close()


def test_several_commands_in_one_frame(bench: Bench) -> None:
    """One a line, empty lines ignored; the watch wakes before the first private channel."""
    channel = f"private:orders#{bench.keys.stream_parameter}"
    connect = {"id": 1, "connect": {"token": bench.token()}}
    subscribe = {"id": 2, "subscribe": {"channel": channel}}
    answers = bench.connection.read(f"{json.dumps(connect)}\n\n{json.dumps(subscribe)}\n")
    assert answers == [
        {
            "id": 1,
            "connect": {
                "client": "client-id",
                "version": "0.0.0 sandbox",
                "expires": True,
                "ttl": 1200,
                "ping": 25,
                "pong": True,
            },
        },
        {"id": 2, "subscribe": {}},
    ]
    assert (bench.woken, bench.connection.has_private, bench.connection.seconds_left()) == (1, True, 1200)


def test_an_empty_object_is_a_pong_and_has_no_answer(bench: Bench) -> None:
    """Even before the connection is made."""
    assert bench.connection.read("{}") == []
    assert bench.connection.ponged.is_set()


def test_without_a_token_a_connection_lasts(bench: Bench) -> None:
    """And hears public channels only."""
    assert "expires" not in bench.connection.read('{"id": 1, "connect": {}}')[0]["connect"]
    assert bench.connection.seconds_left() > 10**6
    answer = bench.connection.read('{"id": 2, "subscribe": {"channel": "public:orderbook-NOPE"}}')[0]
    assert answer["error"] == {"code": 102, "message": "unknown channel"}


@pytest.mark.parametrize("frame", ["[", "5", '{"id": "x", "connect": {}}', "[" * 100_000])
def test_what_is_no_command_ends_the_connection(bench: Bench, frame: str) -> None:
    """As a bad request."""
    with pytest.raises(Disconnect) as ended:
        bench.connection.read(frame)
    assert (ended.value.code, ended.value.reason) == (3501, "bad request")
