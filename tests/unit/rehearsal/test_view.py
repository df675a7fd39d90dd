"""What a rehearsal shows, on a terminal and in a pipe."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from services.mcp.order_execution.models import CircuitState, OrderState
from services.mcp.order_execution.rehearsal.view import LineView, LiveView, Snapshot, describe, draw


def snapshot(**changes: Any) -> Snapshot:
    usual: dict[str, Any] = {
        "elapsed": 3.0,
        "phase": "placing",
        "planned": 80,
        "answered": 20,
        "states": {OrderState.OPEN: 4, OrderState.UNKNOWN: 2},
        "unresolved": [("a", 2.5), ("b", 1.0)],
        "circuits": {"submit": CircuitState.OPEN, "cancel": CircuitState.CLOSED},
        "attempts": 30,
        "resends": 3,
        "ever_unknown": 5,
        "outage": False,
        "last_events": [(1.0, "a  intent → sending", OrderState.SENDING), (2.0, "caller is told", None)],
    }
    return Snapshot(**{**usual, **changes})


def pictured(shown: Snapshot) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    console.print(draw(shown))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_picture_shows_what_matters() -> None:
    """Orders by state, the unresolved with their age, breakers, attempts and the last events."""
    shown = pictured(snapshot())
    for words in ("20/80", "unknown", "2.5 s", "submit open", "cancel closed", "attempts 30", "sent again 3"):
        assert words in shown
    assert "a  intent → sending" in shown
    assert "the exchange is out" not in shown


def test_the_picture_keeps_its_height() -> None:
    """However many are unresolved, and however many events there were, nothing jumps."""
    few = pictured(snapshot(unresolved=[], last_events=[]))
    many = pictured(snapshot(unresolved=[(f"o-{n}", 1.0) for n in range(50)], last_events=[(1.0, "x", None)] * 50))
    assert len(few.splitlines()) == len(many.splitlines())
    assert "none" in few
    assert "and 42 more" in many


def test_an_outage_is_plain_to_see() -> None:
    """The frame says it, and the line does."""
    assert "the exchange is out" in pictured(snapshot(outage=True))
    assert describe(snapshot(outage=True)).endswith("OUTAGE")


def test_a_line_says_it_in_one() -> None:
    """For logs and pipes; states that nothing is in are left out."""
    assert describe(snapshot(states={OrderState.OPEN: 4, OrderState.FILLED: 0})) == (
        "  3.0 s  placing | 20/80 answered | 4 open | 3 sent again | circuit open | oldest unresolved 2.5 s"
    )
    assert "nothing sent yet" in describe(snapshot(states={}))


def test_lines_come_every_few_seconds_and_with_each_phase() -> None:
    """A pipe is not flooded: one line per interval, and one when a new phase begins."""
    out = io.StringIO()
    with LineView(Console(file=out, width=200), every=2.0) as view:
        for elapsed, phase in (
            (0.0, "placing"),
            (1.0, "placing"),
            (1.5, "resolving"),
            (2.0, "resolving"),
            (3.6, "resolving"),
        ):
            view.show(snapshot(elapsed=elapsed, phase=phase))
    assert [line.split("|")[0].split() for line in out.getvalue().splitlines()] == [
        ["0.0", "s", "placing"],
        ["1.5", "s", "resolving"],
        ["3.6", "s", "resolving"],
    ]


def test_the_live_picture_leaves_the_terminal_as_it_was() -> None:
    """After the end the cursor is shown again, also when something failed."""
    out = io.StringIO()
    with LiveView(Console(file=out, width=120, height=40, force_terminal=True)) as view:
        view.show(snapshot())
    assert "Rehearsal of bad days" in out.getvalue()
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("Rehearsal")
