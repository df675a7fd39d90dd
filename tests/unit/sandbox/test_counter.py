"""Addresses, methods, and failures below."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings
from services.mcp.order_execution.sandbox.calls import Call
from services.mcp.order_execution.sandbox.counter import Counter
from tests.unit.sandbox.desk import ADD, LIST, HandClock, desk


@pytest.mark.parametrize(
    "path",
    [
        "/", "/nope", "/market/orders/add/", "/market/orders/list/", "/auth/ws/token", "/v3/orderbook/",
        "/v3/orderbook/BTCIRT/", "/v3/orderbook/a/b", "/v2/trades", "/sandbox/nope",
    ],
)  # fmt: skip
async def test_an_unknown_address_is_an_html_404(path: str) -> None:
    """Slashes matter: each address is known in its documented form only."""
    async with desk() as client:
        answer = await client.get(path)
        assert answer.status == 404
        assert "<h1>Not Found</h1>" in answer.body


async def test_another_method_is_405() -> None:
    """With a detail."""
    async with desk() as client:
        answer = await client.get(ADD)
        assert (answer.status, set(answer.body)) == (405, {"detail"})


async def test_requests_are_counted_by_path_and_status() -> None:
    """So that a test can hold a client to its limits."""
    async with desk() as client:
        await client.add()
        await client.add()
        await client.get("/nope")
        await client.get("/v3/orderbook/BTCIRT")
        assert client.sandbox.requests == {f"{ADD} 200": 2, "other 404": 1, "/v3/orderbook/ 200": 1}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1", "0.01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
FIELDS = st.sampled_from(
    [
        "type", "execution", "mode", "srcCurrency", "dstCurrency", "amount", "price", "stopPrice", "clientOrderId",
        "pro", "id", "order", "status", "hours", "tradeType", "orderIds", "data", "currency",
    ]
)  # fmt: skip
GOOD = {"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.01", "price": "60000", "order": 1}
POSTS = [
    ADD, "/market/orders/batch-add", "/market/orders/status", "/market/orders/update-status",
    "/market/orders/cancel-old", "/market/orders/cancel-batch", "/users/wallets/balance",
]  # fmt: skip


@given(data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_body_breaks_it(data: st.DataObject) -> None:
    """Whatever is sent: an answer that can be written, with a status of the documented ones."""
    sandbox = Sandbox(SandboxSettings(path=Path(":memory:"), limits=None), clock=HandClock(), rng=random.Random(0))
    with closing(sandbox._exchange) as exchange:
        exchange.open()
        counter = Counter(sandbox.house())
        headers = {"Authorization": f"Token {sandbox.keys.token}", "Content-Type": "application/json"}
        for _ in range(3):
            wild = data.draw(st.dictionaries(FIELDS, JSON_VALUES, max_size=4))
            body = {**data.draw(st.sampled_from([{}, GOOD])), **wild}
            path = data.draw(st.sampled_from(POSTS))
            reply = counter.serve(Call("POST", path, headers, json.dumps(body).encode()))
            assert reply.status in (200, 400, 404)
            assert reply.encoded()


@given(
    query=st.dictionaries(
        st.sampled_from(
            ["status", "type", "execution", "tradeType", "srcCurrency", "dstCurrency", "details", "fromId", "order",
             "page", "pageSize", "currencies"]
        ),
        st.text(max_size=6) | st.sampled_from(["all", "1", "-1", "btc", "rls", "id", "9" * 18]),
        max_size=4,
    ),
    path=st.sampled_from([LIST, "/market/trades/list", "/v2/wallets", "/market/stats"]),
)  # fmt: skip
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_query_breaks_it(query: dict[str, str], path: str) -> None:
    """The same for what stands in addresses."""
    sandbox = Sandbox(SandboxSettings(path=Path(":memory:"), limits=None), clock=HandClock(), rng=random.Random(0))
    with closing(sandbox._exchange) as exchange:
        exchange.open()
        counter = Counter(sandbox.house())
        headers = {"Authorization": f"Token {sandbox.keys.token}"}
        reply = counter.serve(Call("GET", f"{path}?{urlencode(query, errors='replace')}", headers))
        assert reply.status in (200, 400)
        assert reply.encoded()


async def test_when_its_file_fails_it_says_500() -> None:
    """As a page; nothing is known of what happened."""
    sandbox = Sandbox(SandboxSettings(path=":memory:", port=0), clock=HandClock(), rng=random.Random(0))
    async with sandbox:
        counter = Counter(sandbox.house())
    reply = counter.serve(Call("GET", "/v3/orderbook/BTCIRT", {}))
    assert (reply.status, reply.content_type) == (500, "text/html")
