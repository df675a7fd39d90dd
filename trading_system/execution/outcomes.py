"""What a caller is told of an order: FAILED only where it is proved that nothing of it rests or may arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.mcp.order_execution.calls import check_same
from services.mcp.order_execution.errors import (
    CircuitOpen,
    DuplicateOrder,
    InvalidOrder,
    JournalUnavailable,
    OrderExecutionError,
    OrderNotSent,
    OrderRejected,
    OrderUnresolved,
)
from services.mcp.order_execution.models import Order as CoreOrder
from services.mcp.order_execution.models import OrderState
from services.mcp.order_execution.parameters import parse_request
from services.mcp.order_execution.submission import verdict

from .results import ExecutionOutcome, ExecutionPhase
from .risk import OrderForbidden

_PROOFS: Final = (OrderNotSent, OrderRejected)
"""The core's own word that nothing of an order is at the exchange."""
_REFUSALS: Final = (InvalidOrder, OrderForbidden)
"""Why a call did nothing. They say nothing of an order that was placed before under the same id."""
_FIELDS: Final[Mapping[str, str]] = {"amount": "quantity", "type": "order_type"}
"""What an order's fields are called at the core → what the engine calls them."""
_COMMIT_ERRORS: Final = (CircuitOpen, JournalUnavailable, OrderRejected)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an id at the moment of the answer."""

    order: CoreOrder | None = None
    told: bool = False
    """Whether the core answered: only then does no order mean that there is none."""
    alone: bool = True
    """Whether no other call executes the same id: such a call may be about to send it."""

    @property
    def decides(self) -> bool:
        """Whether an order stands under the id that a further execution would only join, never start afresh."""
        return self.order is not None and not (self.order.state.is_final and self.order.restartable)


def nothing_rests(order: CoreOrder) -> bool:
    """Whether an order is over without ever having been in the book: refused, never sent, or never arrived."""
    if not order.state.is_final or order.filled or order.fills:
        return False
    return order.state is OrderState.REJECTED or order.exchange_order_id is None


def standing(order: CoreOrder, params: Mapping[str, Any]) -> OrderExecutionError | None:
    """What executing a known order again would tell, without doing it: None where the exchange has accepted it.

    ``params`` are the core's, of the order that is asked about: another one under the same id is a DuplicateOrder.
    """
    try:
        check_same(order, parse_request(params, new_id=order.order_id))
        if order.state.is_unresolved or order.state is OrderState.PENDING:
            return OrderUnresolved(order.order_id, "it is still being found out")
        verdict(order)
    except OrderExecutionError as error:
        return error
    return None


def outcome_of(error: Exception | None, known: Known) -> ExecutionOutcome:
    """Decide by the record first, and by the error's type only where there is none."""
    if error is None:
        return ExecutionOutcome.SUCCESS
    return ExecutionOutcome.FAILED if _is_proved(error, known) else ExecutionOutcome.UNRESOLVED


def _is_proved(error: Exception, known: Known) -> bool:
    if isinstance(error, OrderUnresolved) or not (known.alone or known.decides):
        return False
    if known.order is not None:
        return nothing_rests(known.order)
    if isinstance(error, _PROOFS):
        return True
    return known.told and isinstance(error, _REFUSALS) and not isinstance(error, DuplicateOrder)


def phase_of(error: Exception | None, known: Known, outcome: ExecutionOutcome) -> ExecutionPhase:
    """How far the order came."""
    if outcome is ExecutionOutcome.SUCCESS:
        return ExecutionPhase.POST_COMMIT
    if outcome is ExecutionOutcome.UNRESOLVED or isinstance(error, _COMMIT_ERRORS):
        return ExecutionPhase.COMMIT
    if isinstance(error, _REFUSALS) or known.order is None or not known.order.attempts:
        return ExecutionPhase.PRE_COMMIT
    return ExecutionPhase.COMMIT


def message_of(error: Exception | None, outcome: ExecutionOutcome) -> str | None:
    """The error in words that fit the outcome: a refusal alone would read as if nothing could be there."""
    if error is None:
        return None
    text = str(error)
    if isinstance(error, InvalidOrder) and error.field in _FIELDS:
        text = _FIELDS[error.field] + text.removeprefix(error.field)
    if outcome is ExecutionOutcome.UNRESOLVED and not isinstance(error, OrderUnresolved):
        return f"{text}; an order under this id is, or may be, at the exchange"
    return text
