"""What a rehearsal writes down while it runs, and the verdict on it: nothing lost, nothing doubled.

The verdict believes nobody's word. It holds what the callers were told and what the executor's journal says
against the exchange's own book.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..gateways.base import ExchangeOrder
from ..models import EventKind, Order, OrderEvent, OrderState
from .plan import PlannedOrder


class Answer(StrEnum):
    """What one call of ``execute_order`` came back with."""

    ACCEPTED = "accepted"
    REJECTED = "rejected by the exchange"
    NEVER_ARRIVED = "never arrived"
    REFUSED = "refused here"
    NOT_SENT = "not sent"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to an order. ``at`` is in seconds since the rehearsal began."""

    at: float
    what: str
    state: OrderState | None
    detail: str | None = None


@dataclass(slots=True)
class Trace:
    """One planned order and all that became of it."""

    planned: PlannedOrder
    moments: list[Moment] = field(default_factory=list)
    answers: list[tuple[float, Answer, str]] = field(default_factory=list)
    """When, what and in which words each call was answered."""
    order: Order | None = None
    """The executor's latest record; None while it has none."""
    was_unknown: bool = False
    resends: int = 0

    @property
    def answer(self) -> Answer | None:
        """The last answer to the caller."""
        return self.answers[-1][1] if self.answers else None

    def note(self, event: OrderEvent, at: float) -> None:
        """Take one event of the executor down."""
        detail = event.detail or event.order.reason
        if event.fill is not None:
            detail = f"{event.fill.amount:f} at {event.fill.price:f}"
        elif event.kind is EventKind.CONFIRMED:
            detail = ", ".join(confirmation.step for confirmation in event.order.confirmations)
        self.moments.append(Moment(at, event.kind.value, event.state, detail))
        self.order = event.order
        self.was_unknown |= event.state is OrderState.UNKNOWN
        self.resends += event.kind is EventKind.RESEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of a rehearsal, by order id."""

    doubled: tuple[str, ...]
    """More than one order stands under this id in the exchange's book."""
    lost: tuple[str, ...]
    """The exchange has it and the journal does not, or the journal has it there and the exchange does not."""
    misjudged: tuple[str, ...]
    """What the caller was told last ("rejected", "accepted", …) is not what the exchange's book says."""
    unresolved: tuple[str, ...]
    """Still unknown when the rehearsal ended."""
    discrepancies: int
    """What the closing reconciliation found."""

    @property
    def ok(self) -> bool:
        """True when the promise was kept."""
        found = (self.doubled, self.lost, self.misjudged, self.unresolved, self.discrepancies)
        return not any(found)


def judge(
    traces: Iterable[Trace],
    records: Mapping[str, Order],
    book: Iterable[ExchangeOrder],
    *,
    discrepancies: int,
) -> Verdict:
    """Compare what was told and journalled (``records``, by order id) with the exchange's ``book``."""
    book = list(book)
    copies = Counter(order.client_order_id for order in book if order.client_order_id is not None)
    known = {order.exchange_order_id for order in records.values()}
    lost = [seen.client_order_id or seen.exchange_order_id for seen in book if seen.exchange_order_id not in known]
    lost += [name for name, order in records.items() if order.exchange_order_id and name not in copies]
    misjudged = [
        trace.planned.order_id
        for trace in traces
        if (trace.planned.order_id in copies) != _should_be_there(trace, records)
    ]
    return Verdict(
        doubled=tuple(sorted(name for name, number in copies.items() if number > 1)),
        lost=tuple(sorted(set(lost))),
        misjudged=tuple(sorted(misjudged)),
        unresolved=tuple(sorted(name for name, order in records.items() if order.state.is_unresolved)),
        discrepancies=discrepancies,
    )


def _should_be_there(trace: Trace, records: Mapping[str, Order]) -> bool:
    """Whether the exchange should have the order, going by what the caller knows in the end."""
    if trace.answer is Answer.UNRESOLVED:
        record = records.get(trace.planned.order_id)
        return record is not None and record.exchange_order_id is not None
    return trace.answer is Answer.ACCEPTED
