"""Planted bugs: each of them must make worlds fail, or the simulation proves nothing.

Every one is what somebody could write by mistake in one line, and what some executor somewhere does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from services.mcp.order_execution import cancelling, core, lifecycle, resolving, submission
from services.mcp.order_execution.calls import Calls
from services.mcp.order_execution.circuit_breaker import ProbePermit
from services.mcp.order_execution.confirmation import Confirmer
from services.mcp.order_execution.errors import ErrorCategory, JournalError
from services.mcp.order_execution.funds import Funds
from services.mcp.order_execution.gateways.base import GatewayTraits, NotFound, Rejected, Unavailable, Unknown
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from services.mcp.order_execution.models import Order, OrderEvent, OrderState
from services.mcp.order_execution.registry import OrderRegistry
from services.mcp.order_execution.resolving import Resolver
from services.mcp.order_execution.streaming import StreamFollower
from services.mcp.order_execution.submission import Submission
from services.mcp.order_execution.tracking import Tracker

Change = tuple[Any, str, Any]
_MISSING = object()
SABOTAGES: dict[str, Callable[[], Iterable[Change]]] = {}


def sabotage(name: str) -> Callable[[Callable[[], Iterable[Change]]], Callable[[], Iterable[Change]]]:
    """Add a planted bug to the list."""

    def add(make: Callable[[], Iterable[Change]]) -> Callable[[], Iterable[Change]]:
        SABOTAGES[name] = make
        return make

    return add


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have one bug in the code."""
    changes = list(SABOTAGES[name]())
    before = [(owner, attribute, vars(owner).get(attribute, _MISSING)) for owner, attribute, _ in changes]
    for owner, attribute, value in changes:
        if not hasattr(owner, attribute) and not isinstance(value, property):  # which hides an instance's own
            raise AttributeError(f"{owner} has no {attribute}: the bug {name!r} is planted nowhere")
        setattr(owner, attribute, value)
    try:
        yield
    finally:
        for owner, attribute, value in before:
            if value is _MISSING:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, value)


@sabotage("the intent is not synced before the order is sent")
def _no_fsync() -> Iterable[Change]:
    async def append(self: MemoryJournal, event: OrderEvent) -> None:
        self.enqueue(event)

    yield MemoryJournal, "commit", append


@sabotage("resent without asking")
def _resend_blindly() -> Iterable[Change]:
    async def certain(self: Resolver, order_id: str, doubt: object) -> bool:
        return True

    yield Resolver, "_look_until_certain", certain


@sabotage("no settle wait: not found counts at once")
def _no_settle() -> Iterable[Change]:
    yield GatewayTraits, "unresolvable_for", property(lambda self: 0.0)
    yield resolving, "ABSENT_LOOKS", 1


@sabotage("an unavailable exchange is read as not found")
def _unavailable_is_not_found() -> Iterable[Change]:
    look = Resolver.look

    async def careless(self: Resolver, order: Order) -> object:
        answer = await look(self, order)
        return NotFound() if isinstance(answer, Unavailable) else answer

    yield Resolver, "look", careless


@sabotage("a new client order id on a resend")
def _new_id() -> Iterable[Change]:
    request_of = lifecycle.request_of

    def renamed(order: Order) -> object:
        request = request_of(order)
        if order.attempts > 1:
            return replace(request, client_order_id=f"{request.client_order_id}-{order.attempts}")
        return request

    yield lifecycle, "request_of", renamed


@sabotage("a cancellation is swallowed")
def _swallowed() -> Iterable[Change]:
    doubt_of = Submission._doubt

    def forget(self: Submission, order: Order, doubt: submission.Doubt, detail: str) -> Order:
        return order if doubt.category is ErrorCategory.CANCELLED else doubt_of(self, order, doubt, detail)

    yield Submission, "_doubt", forget


@sabotage("a fill is booked each time it is told")
def _fills_twice() -> Iterable[Change]:
    def book(order: Order, seen: Any, now: Any, events: list[OrderEvent]) -> Order:
        for fill in seen.fills or ():
            order = lifecycle.book_fill(order, fill, now, events)
        return order

    yield lifecycle, "_book_fills", book


@sabotage("a timeout is a rejection")
def _silence_is_rejection() -> Iterable[Change]:
    take = Submission._take

    def reject(self: Submission, sending: Order, outcome: Any, started: float) -> Order:
        if isinstance(outcome, Unknown) and outcome.category is ErrorCategory.TIMEOUT:
            outcome = Rejected("timeout")
        return take(self, sending, outcome, started)

    yield Submission, "_take", reject


@sabotage("the permit of a half-open circuit is leaked")
def _leaked_permit() -> Iterable[Change]:
    yield ProbePermit, "success", lambda self: None
    yield ProbePermit, "_settle", lambda self, outcome: None


@sabotage("reservations are not released")
def _reserved_for_ever() -> Iterable[Change]:
    yield Funds, "release", lambda self, order_id: None


@sabotage("a duplicate id is a rejection")
def _duplicate_is_rejection() -> Iterable[Change]:
    take = Submission._take

    def reject(self: Submission, sending: Order, outcome: Any, started: float) -> Order:
        if isinstance(outcome, Rejected) and outcome.duplicate_id:
            outcome = Rejected(outcome.reason)
        return take(self, sending, outcome, started)

    yield Submission, "_take", reject


@sabotage("what was being sent at the crash counts as never sent")
def _sending_never_left() -> Iterable[Change]:
    def take_over(self: core.Core, claimed: Iterable[Order]) -> None:
        left = list(claimed)
        self.registry.load(left)
        for order in left:
            if order.state in (OrderState.SENDING, OrderState.PENDING):
                self.registry.record(lifecycle.never_left(order, self.clock.now(), lifecycle.NEVER_SENT))

    yield core.Core, "take_over", take_over


@sabotage("a cancel counts as done once it is asked for")
def _cancel_on_request() -> Iterable[Change]:
    yield cancelling, "_is_answered", lambda order: True
    final = cancelling.Canceller.cancel

    async def at_once(self: cancelling.Canceller, order: Order, deadline: float) -> bool:
        await final(self, order, deadline)
        return True

    yield cancelling.Canceller, "cancel", at_once


@sabotage("fills that come after the end are dropped")
def _late_fills_dropped() -> Iterable[Change]:
    yield lifecycle, "_late_fills", lambda order, seen, now, read: []
    yield Tracker, "_lacking_fills", lambda self, followed: []


@sabotage("a failing journal is ignored")
def _journal_ignored() -> Iterable[Change]:
    commit = MemoryJournal.commit

    async def shrug(self: MemoryJournal, event: OrderEvent) -> None:
        try:
            await commit(self, event)
        except JournalError:
            return

    yield MemoryJournal, "commit", shrug


@sabotage("events are told before earlier ones are durable")
def _out_of_order() -> Iterable[Change]:
    def record(self: OrderRegistry, event: OrderEvent) -> Order:
        self._note_unwritten(event.order_id)
        if not self._suspended:
            self._journal.enqueue(event)
        self._keep(event.order)
        self._publish(event)
        return event.order

    yield OrderRegistry, "record", record


@sabotage("orders are placed by a clock that is wrong")
def _no_clock_check() -> Iterable[Change]:
    async def believe(self: Submission, deadline: float) -> None:
        return

    yield Submission, "_check_clock", believe


@sabotage("a close leaves callers waiting")
def _callers_left() -> Iterable[Change]:
    async def nothing(self: Calls) -> None:
        return

    yield Calls, "end", nothing


@sabotage("what a failed journal lost is not written again")
def _not_rewritten() -> Iterable[Change]:
    yield OrderRegistry, "changed_since_failure", lambda self: set()


@sabotage("the stream is believed, whatever it says")
def _stream_reopens() -> Iterable[Change]:
    def take(self: StreamFollower, seen: Any) -> None:
        order = self._registry.get(seen.client_order_id or "")
        if order is not None:
            after = replace(order, state=seen.state, filled=seen.filled, version=order.version + 1)
            event = OrderEvent(after, lifecycle.EventKind.UPDATED, order.state, self._clock.now())
            self._registry.record(event)

    yield StreamFollower, "_take", take


@sabotage("two processes write to one journal")
def _two_writers() -> Iterable[Change]:
    yield MemoryStore, "writer", property(lambda self: None, lambda self, value: None)


@sabotage("balances are expected from a snapshot taken at any moment")
def _naive_baseline() -> Iterable[Change]:
    async def once(self: Confirmer) -> None:
        if await self._funds.refresh():
            self._funds.rebase()

    yield Confirmer, "find_baseline", once
