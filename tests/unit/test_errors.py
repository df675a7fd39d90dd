"""The tree of errors: its types answer whether an order may be on the exchange, and none of them is ambiguous."""

from __future__ import annotations

import inspect
import re

import pytest

from services.mcp.order_execution import errors
from services.mcp.order_execution.errors import (
    CircuitOpen,
    ConfigurationError,
    DuplicateOrder,
    ErrorCategory,
    ExchangeUnavailable,
    ExecutorHalted,
    InsufficientFunds,
    InvalidOrder,
    JournalFull,
    JournalLagging,
    JournalUnavailable,
    OrderExecutionError,
    OrderNotFound,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
    RiskLimitExceeded,
)

NOTHING_LEFT = [
    CircuitOpen("submit", retry_after=3.0, order_id="a"),
    ExecutorHalted("drill", order_id="a"),
    RiskLimitExceeded("max_open_orders", "5 orders are open", order_id="a"),
    InsufficientFunds("100 USD needed", order_id="a"),
    JournalUnavailable("disk", order_id="a"),
    JournalLagging("slow", order_id="a"),
    JournalFull("full", order_id="a"),
]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each class stands in the drawing, as deep as it is derived."""
    drawn = re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    depths = {name: len(indent) // 4 + 1 for indent, name in drawn}
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    below = {kind for kind in classes if kind is not OrderExecutionError}
    assert depths == {kind.__name__: kind.__mro__.index(OrderExecutionError) for kind in below}


@pytest.mark.parametrize("error", NOTHING_LEFT, ids=lambda error: type(error).__name__)
def test_what_never_left_says_so_by_its_type(error: OrderNotSent) -> None:
    """It may be executed again: it is OrderNotSent, neither rejected nor unresolved, and carries id and reason."""
    assert isinstance(error, OrderNotSent)
    assert not isinstance(error, OrderRejected | OrderUnresolved)
    assert error.order_id == "a"
    assert error.reason
    assert str(error)


def test_the_three_verdicts_are_apart() -> None:
    """No error is at once not sent, rejected or unresolved."""
    verdicts = (OrderNotSent, OrderRejected, OrderUnresolved, InvalidOrder)
    for one in verdicts:
        assert [other for other in verdicts if issubclass(one, other)] == [one]


def test_an_open_circuit_says_when_to_come_back() -> None:
    """In seconds; one that is forced open waits for its operator."""
    assert "until 3.0 s have passed" in str(CircuitOpen("submit", retry_after=3.0))
    assert "until an operator closes it" in str(CircuitOpen("submit", retry_after=None))


def test_a_wrong_field_is_named_with_what_was_expected() -> None:
    """And what came instead, cut short, since it may be anything."""
    error = InvalidOrder("amount", "a number above zero", got="x" * 500)
    assert (error.field, error.expected) == ("amount", "a number above zero")
    assert len(str(error)) < 150
    assert str(InvalidOrder("price", "a number")) == "price: expected a number"
    assert isinstance(error, ValueError)
    assert ConfigurationError("x", field="retry.max_retries").field == "retry.max_retries"


def test_a_duplicate_names_the_differences() -> None:
    """So that the caller sees which of two orders it meant."""
    error = DuplicateOrder("a", ("side", "amount"))
    assert "'a'" in str(error)
    assert "side, amount" in str(error)
    assert (error.order_id, error.field) == ("a", "client_order_id")


def test_an_unknown_id_reads_as_a_sentence() -> None:
    """Though it is a KeyError, whose message would be shown in quotes."""
    error = OrderNotFound("a")
    assert isinstance(error, KeyError)
    assert str(error) == "no order has the id 'a'"


def test_an_unresolved_order_is_never_called_failed() -> None:
    """Its words say that it may be there."""
    error = OrderUnresolved("a", "no answer within 2 s")
    assert "may be on the exchange" in str(error)
    assert (error.order_id, error.detail) == ("a", "no answer within 2 s")


def test_a_silent_exchange_says_nothing_about_orders() -> None:
    """It carries why, and how long to wait where that was said."""
    error = ExchangeUnavailable("503", category=ErrorCategory.SERVER_ERROR, retry_after=2.0)
    assert (error.category, error.retry_after) == (ErrorCategory.SERVER_ERROR, 2.0)
    assert not isinstance(error, OrderNotSent | OrderRejected | OrderUnresolved)


def test_a_rejection_carries_its_reason() -> None:
    """The exchange's words, or ours."""
    error = OrderRejected("a", "min_notional")
    assert (error.order_id, error.reason) == ("a", "min_notional")
