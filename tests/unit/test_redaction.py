"""Secrets leave a record by the name of their field, by their value, and out of the middle of a text."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.models import Side
from services.mcp.order_execution.redaction import DEPTH_MAX, ITEMS_MAX, MASK, TEXT_LENGTH_MAX, Redactor


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "API-KEY",
        "X-MBX-APIKEY",
        "apiSecret",
        "secret",
        "Authorization",
        "password",
        "passphrase",
        "signature",
        "access_token",
        "private_key",
        "Set-Cookie",
    ],
)
def test_a_field_with_a_telling_name_loses_its_value(name: str) -> None:
    """Whatever the value is, nested values included."""
    redactor = Redactor()
    assert redactor.plain({name: "s3cr3t", "symbol": "BTC/USD"}) == {name: MASK, "symbol": "BTC/USD"}
    assert redactor.plain({"headers": [{name: {"deep": "s3cr3t"}}]}) == {"headers": [{name: MASK}]}


def test_what_an_order_consists_of_is_not_taken_for_a_secret() -> None:
    """Ids, currencies and amounts stay."""
    order = {"order_id": "a1", "exchange_order_id": "77", "fee_currency": "USD", "amount": "0.1", "client_id": "c"}
    assert Redactor().plain(order) == order


def test_none_stays_none_under_a_telling_name() -> None:
    """That there is no key is no secret, and worth knowing."""
    assert Redactor().plain({"api_key": None}) == {"api_key": None}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET /order?symbol=BTC&signature=abc123&side=buy failed", "side=buy"),
        ('{"apiKey": "abc123", "side": "buy"}', '"side": "buy"'),
        ("Authorization: Bearer abc123, next", "next"),
        ("Authorization: Token abc123", "Authorization"),
        ("api_key=abc123&x=1", "x=1"),
        ("connect to https://user:abc123@proxy.example:8080 refused", "proxy.example:8080 refused"),
    ],
)
def test_a_secret_within_a_text_is_taken_out(text: str, kept: str) -> None:
    """name=value, a header, JSON within a text and the user information of a URL; the rest stays."""
    shown = Redactor().text(text)
    assert "abc123" not in shown
    assert kept in shown
    assert MASK in shown


def test_a_known_secret_vanishes_wherever_it_stands() -> None:
    """In values, in keys, in the middle of words, percent-encoded, and where it begins another secret."""
    redactor = Redactor(["k/ey+1234", "k/ey+1234567", ""])
    shown = json.dumps(
        redactor.plain(
            {"a": "xxk/ey+1234yy", "k/ey+1234": 1, "url": "https://h/?q=k%2Fey%2B1234", "longer": ["k/ey+1234567"]}
        )
    )
    assert "ey+1234" not in shown
    assert "ey%2B1234" not in shown
    assert "567" not in shown
    assert "xx***yy" in shown


def test_a_known_secret_is_found_before_the_text_is_cut() -> None:
    """A cut through the middle of a secret would leave its first half."""
    shown = Redactor(["hunter2hunter2"]).text("x" * (TEXT_LENGTH_MAX - 5) + "hunter2hunter2")
    assert "hunter" not in shown
    assert len(shown) <= TEXT_LENGTH_MAX + 1


def test_a_very_short_secret_is_not_looked_for() -> None:
    """A password "1" would otherwise blot out every amount."""
    assert Redactor(["1"]).plain({"amount": "1.1"}) == {"amount": "1.1"}


def test_the_redactor_does_not_show_its_secrets() -> None:
    """Its repr may end up in a log."""
    assert "hunter2" not in repr(Redactor(["hunter2"]))


def test_values_become_plain() -> None:
    """Decimals without exponent, times in ISO 8601, enums as their values, sets as lists, the rest as text."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    plain = Redactor().plain(
        {
            "d": Decimal("1E-8"),
            "at": at,
            "side": Side.BUY,
            "set": {1},
            "big": 2**70,
            5: b"x",
            "float": 0.5,
            "n": True,
        }
    )
    assert plain == {
        "d": "0.00000001",
        "at": "2026-01-01T00:00:00+00:00",
        "side": "buy",
        "set": [1],
        "big": str(2**70),
        "5": "b'x'",
        "float": 0.5,
        "n": True,
    }


def test_what_cannot_be_shown_is_named() -> None:
    """A value whose text cannot be had does not stop the record."""

    class Stubborn:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert Redactor().plain([Stubborn()]) == ["<Stubborn: RuntimeError>"]


def test_everything_has_a_bound() -> None:
    """Depth, number of items and length of a text."""
    endless: list[Any] = []
    endless.append(endless)
    assert len(str(Redactor().plain(endless))) < 100 + 4 * DEPTH_MAX
    assert Redactor().text("é" * (TEXT_LENGTH_MAX + 1)) == "é" * TEXT_LENGTH_MAX + "…"
    assert len(Redactor().plain(list(range(ITEMS_MAX * 2)))) == ITEMS_MAX
    assert len(Redactor().plain({str(n): n for n in range(ITEMS_MAX * 2)})) == ITEMS_MAX


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.decimals(allow_nan=True)
    | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=10,
)


@given(_anything)
def test_whatever_comes_can_be_written_as_json(value: object) -> None:
    """The encoder takes every result: no lone surrogate, no integer too large, no foreign type."""
    orjson.dumps(Redactor(["secret-value"]).plain({"value": value}))


# ---- a glance at a finished line --------------------------------------------------------------------------

_TELLING = st.sampled_from(
    ["apiKey=", "token: x", "Set-Cookie", "http://", "u:p@", "hunter2/2", "hunter2%2F2", 'say "n\\o"\n', "=", ":"]
)
_SAID = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(_TELLING | st.text(max_size=3)).map("".join)


@given(st.dictionaries(st.sampled_from(["order_id", "reason", "detail", "symbol"]), _SAID))
def test_a_line_that_is_not_suspected_holds_nothing_to_be_hidden(record: dict[str, str]) -> None:
    """The glance may suspect in vain, but it overlooks nothing."""
    redactor = Redactor(["hunter2/2", 'say "n\\o"\n'])
    if not redactor.suspects(orjson.dumps(record), " ".join(record.values())):
        assert redactor.values(record) == record


@pytest.mark.parametrize(
    "text",
    ["X", "BTC/USDT:USDT", "insufficient balance: 5 < 6", "the order of 12:00 was key to it", "é" * 2_000],
)
def test_ordinary_words_are_not_suspected(text: str) -> None:
    """Or the glance would be one more cost, and no saving."""
    line = orjson.dumps({"order_id": text})
    assert Redactor(["hunter2"]).suspects(line, text) == ("key" in text)


def test_a_known_secret_and_a_long_line_are_suspected_whatever_the_words() -> None:
    """A secret may be a number, which nobody takes for words; and what is too long must be cut."""
    redactor = Redactor(["4711", 'quo"ted'])
    assert redactor.suspects(b'{"amount":"0.4711"}', "")
    assert redactor.suspects(orjson.dumps('a quo"ted word'), "")
    assert redactor.suspects(orjson.dumps("x" * TEXT_LENGTH_MAX), "")
    assert not redactor.suspects(b'{"amount":"0.1"}', "")
