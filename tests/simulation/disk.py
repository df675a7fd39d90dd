"""The simulated disk: each durable write is a numbered step at which it can fail, or its process can die."""

from __future__ import annotations

from collections.abc import Callable

from services.mcp.order_execution.clock import Clock
from services.mcp.order_execution.journals import memory
from services.mcp.order_execution.journals.memory import MemoryJournal, MemoryStore
from tests.simulation.dice import Dice

JOURNAL_FAULTS = ("write fails", "write fails, though written", "killed before writing", "killed after writing")


class NumberedJournal(MemoryJournal):
    """The journal in memory; its writes are steps of the world. ``on_kill`` and ``on_failure``: what they cause."""

    def __init__(self, dice: Dice, clock: Clock, store: MemoryStore, *, commit_seconds: float) -> None:
        super().__init__(clock, store=store, commit_seconds=commit_seconds)
        self.dice = dice
        self.fault_rate = 0.0
        self.on_kill: Callable[[], None] = lambda: None
        self.on_failure: Callable[[], None] = lambda: None

    def _write_batch(self, batch: list[memory._Entry]) -> None:
        _, kind = self.dice.fault("journal", JOURNAL_FAULTS, self.fault_rate)
        if kind in ("write fails", "write fails, though written"):
            self.store.fault = memory.Fault(kind, written=kind.endswith("though written"))
            self.on_failure()
        if kind != "killed before writing":
            super()._write_batch(batch)
        if kind in ("killed before writing", "killed after writing"):
            # Whoever waits for this batch hears nothing: the process is dead before any of them runs.
            self.on_kill()
