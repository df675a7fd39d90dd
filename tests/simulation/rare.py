"""Rare branches: what a run must have met at least once, or it has proved less than it seems."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from services.mcp.order_execution.journals.codec import decode_event
from services.mcp.order_execution.models import FINAL_STATES, EventKind, OrderState
from tests.simulation.world import SimulatedWorld

RARE = (
    "resent under the same id",
    "proved absent, and refused as never arrived",
    "found by asking after its answer was lost",
    "refused as a duplicate, and looked up",
    "out of funds on a resend, and looked up",
    "never sent by an earlier life",
    "started afresh under its id",
    "canceled before it was sent",
    "a cancel was refused and the order went on",
    "canceled with a part filled",
    "a fill was learnt after the end",
    "the caller left while it was being sent",
    "provably not sent, and tried again",
    "the journal was opened anew",
    "the circuit refused an order",
    "the journal refused an order",
    "refused for a clock that is wrong",
    "refused while recovering",
    "out of funds before sending",
    "left unresolved, honestly",
    "told unresolved, and placed later",
    "a second writer was refused",
    "a companion reconciled",
    "a stop lost entries of the journal",
    "a stream told first",
    "ended by a kill",
)
_DETAILS = {
    "found at the exchange": "found by asking after its answer was lost",
    "refused as duplicate_client_order_id": "refused as a duplicate, and looked up",
    "refused as insufficient_funds": "out of funds on a resend, and looked up",
    "the process ended": "never sent by an earlier life",
    "the caller was cancelled": "the caller left while it was being sent",
    "journal reopened": "the journal was opened anew",
    "not_now": "a cancel was refused and the order went on",
}
_TOLD = {
    "CircuitOpen": "the circuit refused an order",
    "Journal": "the journal refused an order",
    "clock is": "refused for a clock that is wrong",
    "of an earlier life": "refused while recovering",
    "InsufficientFunds": "out of funds before sending",
}


def rare_of(world: SimulatedWorld) -> Counter[str]:
    """Count the rare branches that a world went through."""
    found = Counter(world.rare)
    for bodies in world.store.events.values():
        for body in bodies:
            found.update(_of_event(decode_event(body)))
    for life in world.lives:
        if life.bot._core is not None and life.bot._core.stream.hints:
            found["a stream told first"] += 1
    unresolved: set[str] = set()
    for told in world.told:
        found.update(name for text, name in _TOLD.items() if text in told.detail)
        if told.verdict == "unresolved":
            unresolved.add(told.intent)
        elif told.verdict == "placed" and told.intent in unresolved:
            found["told unresolved, and placed later"] += 1
    found["ended by a kill"] += sum(kind == "kill" for kind in world.dice.happened.values())
    return found


def _of_event(event: dict[str, Any]) -> list[str]:
    detail = str(event["detail"] or "")
    names = [name for text, name in _DETAILS.items() if text in detail]
    kind, reason = event["kind"], event["reason"]
    if kind == EventKind.RESEND:
        names.append("resent under the same id")
    if kind == EventKind.INTENT and event["version"] > 1:
        names.append("started afresh under its id")
    if kind == EventKind.NOT_SENT:
        names.append("provably not sent, and tried again")
    if kind == EventKind.REJECTED and reason == "never_arrived":
        names.append("proved absent, and refused as never arrived")
    if reason == "canceled_before_sending":
        names.append("canceled before it was sent")
    if kind == EventKind.FILL and event["previous"] in FINAL_STATES:
        names.append("a fill was learnt after the end")
    if kind == EventKind.CLOSED and event["state"] == OrderState.CANCELED and Decimal(event["filled"]):
        names.append("canceled with a part filled")
    return names
