"""The vocabulary of rows."""

from __future__ import annotations

from services.mcp.order_execution.gateways.ccxt.row import Pager, PagerKind, Refusal, coded


def test_one_meaning_under_several_codes() -> None:
    """Each code becomes a refusal of its own."""
    assert coded("throttled", "1", "2", words="soon") == (
        Refusal("1", "throttled", "soon"),
        Refusal("2", "throttled", "soon"),
    )


def test_pages_are_counted_from_one() -> None:
    """Unless a row says otherwise."""
    assert Pager(kind=PagerKind.NUMBERED, param="page").first == 1
