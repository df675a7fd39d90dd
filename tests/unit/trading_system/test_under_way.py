"""Which calls execute which order right now."""

from __future__ import annotations

from trading_system.execution.under_way import UnderWay


def test_a_single_call_is_alone() -> None:
    """Then what it looked up still holds."""
    calls = UnderWay()
    with calls.call("a"), calls.call("b"):
        assert calls.alone_since("a", calls.begun("a"))


def test_a_call_beside_it_is_noticed() -> None:
    """Also one that began before the mark."""
    calls = UnderWay()
    with calls.call("a"), calls.call("a"):
        assert not calls.alone_since("a", calls.begun("a"))


def test_a_call_that_came_and_went_since_is_noticed() -> None:
    """It may have sent the order after it was looked up."""
    calls = UnderWay()
    with calls.call("a"):
        mark = calls.begun("a")
        with calls.call("a"):
            pass
        assert not calls.alone_since("a", mark)
        assert calls.alone_since("a", calls.begun("a"))


def test_nothing_is_kept_of_calls_that_are_over() -> None:
    """Nor of a call for what is no id."""
    calls = UnderWay()
    with calls.call("a"), calls.call(None):
        pass
    assert calls._calls == {}
    assert calls.begun("a") == 0
    assert calls.alone_since("a", 0)
