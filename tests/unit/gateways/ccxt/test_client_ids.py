"""Client ids on their way: what is sent is what comes back, or is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mcp.order_execution.gateways.ccxt import client_ids
from services.mcp.order_execution.gateways.ccxt.client_ids import (
    IdForm,
    Remembered,
    Travel,
    derived_number,
    pack,
    unpack,
)

PACKED = IdForm(32, r"[0-9a-f]{32}|(?!h\.)[A-Za-z0-9_.-]{1,26}", Travel.PACKED, prefix="t-")
NUMBER = IdForm(64, r".+", Travel.NUMBER)


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_every_id_of_ours_survives_packing(number: int) -> None:
    """All 128 bits, in 24 characters."""
    hexadecimal = format(number, "032x")
    packed = pack(hexadecimal)
    assert unpack(packed) == hexadecimal
    assert len(packed) == 24


def test_what_packing_never_makes_is_no_id() -> None:
    """22 characters can say more than 128 bits."""
    assert unpack("h." + "z" * 22) is None
    assert PACKED.decode("t-h." + "z" * 22) is None


@pytest.mark.parametrize("client_id", ["2ec3f699e9694191a4c6be5fdc1ab987", "trade1", "a" * 26, "h-1"])
def test_a_packed_id_comes_back(client_id: str) -> None:
    """Behind its prefix, within what the exchange takes."""
    sent = PACKED.encode(client_id)
    assert len(sent) <= 28
    assert PACKED.decode(sent) == client_id


def test_what_has_no_prefix_is_not_ours() -> None:
    """An exchange shows words of its own there."""
    assert PACKED.decode("apiv4") is None
    assert PACKED.decode("t-") is None
    assert Remembered(PACKED).decode("apiv4") == "apiv4"


def test_an_id_as_it_is_stays_so() -> None:
    """Nothing is done to it."""
    plain = Remembered(IdForm(36, r".+"))
    assert plain.encode("abc") == "abc"
    assert plain.decode("abc") == "abc"
    assert plain.tells


def test_a_number_is_the_same_at_every_start() -> None:
    """It depends on nothing but the id, and has 45 bits."""
    assert derived_number("contract-1") == derived_number("contract-1")
    assert NUMBER.encode("contract-1") == str(derived_number("contract-1"))
    numbers = {derived_number(str(number)) for number in range(20_000)}
    assert len(numbers) == 20_000
    assert all(0 < number < 2**45 for number in numbers)


def test_a_number_is_remembered_and_else_tells_nothing() -> None:
    """No list of numbers proves an id absent."""
    ids = Remembered(NUMBER)
    sent = ids.encode("mine")
    assert ids.decode(sent) == "mine"
    assert Remembered(NUMBER).decode(sent) is None
    assert not ids.tells
    assert NUMBER.decode(sent) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(client_ids, "REMEMBERED_MAX", 2)
    ids = Remembered(NUMBER)
    sent = [ids.encode(name) for name in ("one", "two", "three")]
    assert [ids.decode(number) for number in sent] == [None, "two", "three"]


def test_nothing_is_no_id() -> None:
    """An empty text and none at all."""
    assert Remembered(PACKED).decode(None) is None
    assert Remembered(PACKED).decode("") is None
