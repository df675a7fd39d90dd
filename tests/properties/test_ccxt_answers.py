"""Whatever an exchange answers through ccxt: nothing is made up of it."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.mcp.order_execution.gateways.base import (
    Accepted,
    Found,
    NotFound,
    NotSent,
    OrderRef,
    Rejected,
    Unknown,
)
from services.mcp.order_execution.gateways.ccxt import classify
from services.mcp.order_execution.gateways.ccxt.rows import TABLE
from services.mcp.order_execution.gateways.ccxt.transport import Hop
from tests.unit.gateways.ccxt.captured import CLIENT_ID, CapturedGateway, Reply, Sent, gateway, order

KEYS = [
    "code",
    "msg",
    "data",
    "result",
    "error",
    "id",
    "orderId",
    "order_id",
    "status",
    "list",
    "label",
    "retCode",
    "success",
]
LEAVES = st.none() | st.booleans() | st.integers(-9_999, 99_999) | st.floats(allow_nan=False) | st.text(max_size=8)
ANSWERS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
EXCHANGES = st.sampled_from(sorted(TABLE))
STATUSES = st.sampled_from([200, 200, 200, 400, 404, 429, 500, 502])
ACCOUNTS = '{"status": "ok", "data": [{"id": 1, "type": "spot"}]}'


@cache
def made(exchange: str) -> CapturedGateway:
    return gateway(exchange)


def answering(exchange: str, text: str, status: int) -> CapturedGateway:
    def script(sent: Sent) -> Reply:
        if sent.path.endswith("/account/accounts"):
            return Reply(ACCOUNTS)
        return Reply(text, status=status)

    return made(exchange).answer(script)


def documented(exchange: str, text: str, status: int) -> bool:
    """Whether the row lists a refusal that this answer is."""
    wording = TABLE[exchange].wording
    hop = Hop("POST", status=status, data=json.loads(text))
    listed = wording.refusals + wording.duplicates + wording.throttles + wording.untimely + wording.credentials
    return classify.matching(hop, wording, listed + wording.not_found + wording.not_open) is not None


def recognised(exchange: str, text: str, status: int) -> bool:
    """Whether ccxt's class raises an error for it whose meaning is certain."""
    try:
        made(exchange).exchange.handle_errors(status, "", "http://x", "POST", {}, text, json.loads(text), {}, "")
    except Exception as error:  # noqa: BLE001 - ccxt raises anything
        return bool(classify.names(error) & (set(classify.CERTAIN) | {"AuthenticationError", "DuplicateOrderId"}))
    return False


@given(EXCHANGES, ANSWERS, STATUSES)
@settings(max_examples=150, deadline=None)
def test_no_answer_is_taken_for_more_than_it_says(exchange: str, answer: Any, status: int) -> None:
    """An order is accepted under an id that the answer carries, refused by a code that is listed, or unknown."""
    text = json.dumps(answer)
    outcome = asyncio.run(answering(exchange, text, status).submit(order()))
    if isinstance(outcome, Accepted):
        assert status == 200
        assert outcome.exchange_order_id in text
    elif isinstance(outcome, NotSent) and status == 429:
        assert outcome.retry_after
    elif isinstance(outcome, Rejected | NotSent):
        # What ccxt itself recognises for certain counts as well: a status of 401, or one of its own codes.
        assert documented(exchange, text, status) or recognised(exchange, text, status)
    else:
        assert isinstance(outcome, Unknown)


@given(EXCHANGES, ANSWERS, STATUSES)
@settings(max_examples=150, deadline=None)
def test_no_answer_makes_an_order_or_its_absence_up(exchange: str, answer: Any, status: int) -> None:
    """What is found bears the id that was asked for; what is not found was said so, or its list was empty."""
    text = json.dumps(answer)
    seen = asyncio.run(answering(exchange, text, status).query(OrderRef(CLIENT_ID, "BTC/USDT", "42")))
    if isinstance(seen, Found):
        assert seen.order.exchange_order_id == "42"
    if isinstance(seen, NotFound):
        assert documented(exchange, text, status) or (status == 200 and ("[]" in text or "{}" in text))
