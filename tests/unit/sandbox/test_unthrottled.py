"""Answers of the exchange below."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.paper_exchange.records import Throttled
from services.mcp.order_execution.paper_exchange.schema import ExchangeDown
from services.mcp.order_execution.sandbox.unthrottled import unthrottled


def test_a_throttle_is_a_failure_of_the_exchange() -> None:
    """Anything else passes, None too."""
    assert unthrottled([1]) == [1]
    assert unthrottled(None) is None
    with pytest.raises(ExchangeDown):
        unthrottled(Throttled(1.0))
