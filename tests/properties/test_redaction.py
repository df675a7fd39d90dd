"""Secrets of any shape are gone from whatever is written down."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from services.mcp.order_execution.redaction import MASK, SECRET_LENGTH_MIN, TEXT_LENGTH_MAX, Redactor

ALPHABET = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*")
secrets = st.lists(st.text(ALPHABET, min_size=SECRET_LENGTH_MIN, max_size=40), min_size=1, max_size=3)
texts = st.text(max_size=20)


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *_strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _survivors(value: Any, known: list[str]) -> list[str]:
    shown = _strings(value)
    return [secret for secret in known for text in shown if secret in text or quote(secret, safe="") in text]


@given(known=secrets, around=texts, between=texts)
def test_a_secret_is_gone_from_a_text_plain_or_percent_encoded(known: list[str], around: str, between: str) -> None:
    """Wherever it stands, however often, also when one secret is the beginning of another."""
    text = around
    for secret in known:
        text += secret + between + quote(secret, safe="") + around
    assert _survivors(Redactor(known).text(text), known) == []


@given(known=secrets, length=st.integers(TEXT_LENGTH_MAX - 50, TEXT_LENGTH_MAX + 50))
def test_the_cut_of_a_long_text_leaves_no_piece_of_a_secret(known: list[str], length: int) -> None:
    """A secret that would straddle the cut is masked whole."""
    secret = known[0]
    assume("." not in secret)
    shown = Redactor(known).text("." * length + secret)
    assert shown.rstrip("…").strip(".") in {"", "*", "**", MASK}


@st.composite
def hidden(draw: st.DrawFn) -> tuple[list[str], Any]:
    """Secrets, and a nest of containers (some deeper than is looked into) whose leaves and keys hold them."""
    known = draw(secrets)
    leaf = st.one_of(st.sampled_from(known), st.sampled_from(known).map(ValueError), texts, st.none())
    nest = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner),
            st.dictionaries(st.one_of(texts, st.sampled_from(known)), inner, max_size=3),
        ),
        max_leaves=8,
    )
    return known, draw(nest)


@given(case=hidden())
def test_a_secret_is_gone_from_any_nest_of_values(case: tuple[list[str], Any]) -> None:
    """As value, as key, inside an error, in lists and mappings; and the result is JSON."""
    known, value = case
    shown = Redactor(known).plain(value)
    assert _survivors(shown, known) == []
    orjson.dumps(shown)


NAMES = st.sampled_from(
    ["api_key", "apiSecret", "X-API-KEY", "password", "passphrase", "Authorization", "signature", "token", "Cookie"]
)
WORDS = st.text(st.sampled_from("abcdefXYZ0123456789+/=-_."), min_size=9, max_size=30)


@given(name=NAMES, unknown=WORDS, rest=st.sampled_from(["", "&side=buy", ", next", '"}', " end"]))
def test_a_secret_that_nobody_told_of_is_gone_by_its_name(name: str, unknown: str, rest: str) -> None:
    """As a field and as ``name=value`` or ``name: value`` in a text."""
    redactor = Redactor()
    assert redactor.plain({name: unknown}) == {name: MASK}
    for text in (f"{name}={unknown}{rest}", f"{name}: {unknown}{rest}", f'{{"{name}": "{unknown}{rest}'):
        assert unknown not in redactor.text(text)


@given(known=secrets)
def test_the_redactor_shows_no_secret_itself(known: list[str]) -> None:
    """Its own representation is fixed."""
    assert repr(Redactor(known)) == "Redactor(***)"
