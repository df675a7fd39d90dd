"""From a world that fails to the shortest trace of it that still does."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.day import run_world
from tests.simulation.world import SimulatedWorld

MAX_RUNS = 400


def failure_of(seed: int, only: tuple[str, ...] | None = None) -> str | None:
    """The name of what goes wrong in a world; None if nothing does."""
    try:
        run_world(seed, only)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        return type(error).__name__
    return None


def faults_of(seed: int) -> tuple[str, ...]:
    """Every fault that happens in a world, in the order of their happening."""
    try:
        world = run_world(seed)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        world = error.world  # type: ignore[attr-defined]
    return tuple(world.dice.happened)


def shrink(seed: int) -> tuple[str, ...]:
    """The faults without any of which the world no longer fails in the same way."""
    wanted = failure_of(seed)
    return smallest(faults_of(seed), lambda faults: failure_of(seed, faults) == wanted)


def smallest(items: tuple[str, ...], fails: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """Leave out halves, then quarters, …, then single items, as long as what is left still fails."""
    runs = 0
    size = max(1, len(items) // 2)
    while items and runs < MAX_RUNS:
        left_out = False
        start = 0
        while start < len(items) and runs < MAX_RUNS:
            candidate = items[:start] + items[start + size :]
            runs += 1
            if fails(candidate):
                items, left_out = candidate, True
            else:
                start += size
        if size == 1 and not left_out:
            break
        if not left_out:
            size = max(1, size // 2)
    return items


def replay_line(seed: int, only: tuple[str, ...] | None = None) -> str:
    """The one line with which anyone sees it again."""
    chosen = "" if only is None else f" --only {','.join(only) or 'none'}"
    return f"python -m tests.simulation --seed {seed}{chosen}"


def traced(seed: int, only: tuple[str, ...] | None) -> tuple[SimulatedWorld, Exception | None]:
    """Run a world and keep what happens in it."""
    try:
        return run_world(seed, only, trace=True), None
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        world: SimulatedWorld = error.world  # type: ignore[attr-defined]
        return world, error
