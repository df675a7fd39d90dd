"""How a rehearsal shows itself: a live picture on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..models import CircuitState, OrderState

STYLES: Final[Mapping[OrderState, str]] = {
    OrderState.PENDING: "bright_black",
    OrderState.SENDING: "cyan",
    OrderState.UNKNOWN: "bold yellow",
    OrderState.OPEN: "blue",
    OrderState.PARTIALLY_FILLED: "bright_cyan",
    OrderState.CANCELING: "magenta",
    OrderState.FILLED: "green",
    OrderState.CANCELED: "bright_black",
    OrderState.EXPIRED: "bright_black",
    OrderState.REJECTED: "red",
}
CIRCUIT_STYLES: Final[Mapping[CircuitState, str]] = {
    CircuitState.CLOSED: "green",
    CircuitState.HALF_OPEN: "yellow",
    CircuitState.OPEN: "bold red",
    CircuitState.FORCED_OPEN: "bold red",
}
EVENTS_SHOWN: Final = 10
UNRESOLVED_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a rehearsal stands. Times and ages are in seconds."""

    elapsed: float
    phase: str
    planned: int
    answered: int
    """How many orders have an answer of some kind."""
    states: Mapping[OrderState, int]
    unresolved: Sequence[tuple[str, float]]
    """Orders whose fate is open, with the time since that began; oldest first."""
    circuits: Mapping[str, CircuitState]
    attempts: int
    resends: int
    ever_unknown: int
    outage: bool
    last_events: Sequence[tuple[float, str, OrderState | None]]


class View(Protocol):
    """Something that a rehearsal can be seen on."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show where it stands now; called several times a second."""
        ...


class LiveView:
    """A picture that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._live.update(draw(snapshot), refresh=True)


class LineView:
    """One line every few seconds, for logs and pipes."""

    def __init__(self, console: Console, *, every: float = 2.0) -> None:
        self._console = console
        self._every = every
        self._next = 0.0
        self._phase = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        """Print a line when it is time for one, or when a new phase has begun."""
        if snapshot.elapsed < self._next and snapshot.phase == self._phase:
            return
        self._next = snapshot.elapsed + self._every
        self._phase = snapshot.phase
        self._console.print(describe(snapshot), highlight=False, markup=False, soft_wrap=True)


def describe(snapshot: Snapshot) -> str:
    """Put a snapshot on one line."""
    states = ", ".join(f"{number} {state}" for state, number in snapshot.states.items() if number)
    parts = [
        f"{snapshot.elapsed:5.1f} s  {snapshot.phase}",
        f"{snapshot.answered}/{snapshot.planned} answered",
        states or "nothing sent yet",
        f"{snapshot.resends} sent again",
        f"circuit {snapshot.circuits.get('submit', CircuitState.CLOSED)}",
    ]
    if snapshot.unresolved:
        parts.append(f"oldest unresolved {snapshot.unresolved[0][1]:.1f} s")
    if snapshot.outage:
        parts.append("OUTAGE")
    return " | ".join(parts)


def draw(snapshot: Snapshot) -> RenderableType:
    """Lay a snapshot out for a terminal."""
    columns = Table.grid(expand=True, padding=(0, 1))
    columns.add_column(ratio=1)
    columns.add_column(ratio=1)
    columns.add_row(_states(snapshot), _unresolved(snapshot))
    return Panel(
        Group(_progress(snapshot), columns, _numbers(snapshot), _events(snapshot)),
        title="Rehearsal of bad days",
        subtitle="[bold red]the exchange is out[/]" if snapshot.outage else None,
        border_style="red" if snapshot.outage else "bright_black",
    )


def _progress(snapshot: Snapshot) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column()
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    bar = ProgressBar(total=max(snapshot.planned, 1), completed=snapshot.answered)
    grid.add_row(f"{snapshot.phase}", bar, f"{snapshot.answered}/{snapshot.planned}  {snapshot.elapsed:.0f} s")
    return grid


def _states(snapshot: Snapshot) -> RenderableType:
    widest = max([*snapshot.states.values(), 1])
    table = Table(title="Orders", box=None, expand=True, title_justify="left", show_header=False)
    table.add_column(width=17)
    table.add_column(justify="right", width=4)
    table.add_column(ratio=1)
    for state in OrderState:
        number = snapshot.states.get(state, 0)
        bar = "█" * round(18 * number / widest)
        table.add_row(Text(state, STYLES[state]), str(number), Text(bar, STYLES[state]))
    return table


def _unresolved(snapshot: Snapshot) -> RenderableType:
    table = Table(title="Unresolved", box=None, expand=True, title_justify="left", show_header=False)
    table.add_column(ratio=1)
    table.add_column(justify="right")
    for order_id, age in snapshot.unresolved[:UNRESOLVED_SHOWN]:
        table.add_row(Text(order_id, "yellow"), f"{age:.1f} s")
    rest = len(snapshot.unresolved) - UNRESOLVED_SHOWN
    if rest > 0:
        table.add_row(Text(f"and {rest} more", "bright_black"), "")
    if not snapshot.unresolved:
        table.add_row(Text("none", "green"), "")
    return table


def _numbers(snapshot: Snapshot) -> RenderableType:
    text = Text("\nCircuits ")
    for lane, state in snapshot.circuits.items():
        text.append(f" {lane} ").append(state, CIRCUIT_STYLES[state])
    text.append(f"   attempts {snapshot.attempts}   sent again {snapshot.resends}")
    text.append(f"   fate unknown for a while {snapshot.ever_unknown}\n")
    return text


def _events(snapshot: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="bright_black", no_wrap=True)
    table.add_column(no_wrap=True)
    for at, words, state in snapshot.last_events[-EVENTS_SHOWN:]:
        table.add_row(f"{at:.2f} s", Text(words, STYLES[state] if state else ""))
    for _ in range(EVENTS_SHOWN - len(snapshot.last_events[-EVENTS_SHOWN:])):
        table.add_row("", "")
    return table
