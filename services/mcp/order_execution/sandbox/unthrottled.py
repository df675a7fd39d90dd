"""Answers of the exchange below, which is made without rate limits of its own: those are kept at the counter."""

from __future__ import annotations

from typing import TypeVar

from ..paper_exchange.records import Throttled
from ..paper_exchange.schema import ExchangeDown

T = TypeVar("T")


def unthrottled(answer: T | Throttled) -> T:
    """The answer. Raises ExchangeDown where it is a throttle after all."""
    if isinstance(answer, Throttled):
        raise ExchangeDown("the exchange below throttles")
    return answer
