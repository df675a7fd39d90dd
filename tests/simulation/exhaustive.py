"""Every single fault, and every pair of faults, at every numbered step of one order's life: enumerated, not drawn.

The life: an order is placed, filled in part, canceled; another one trades at once; the process stops and starts
again, and both are executed once more. Steps are wire calls, durable writes, and callbacks of the event loop (the
finest moments at which a process can die or a caller give up). Each case is one world with a plan of one or two
faults. After the first fault of a pair the life goes another way, so the second is chosen from what happened then.

    python -m tests.simulation.exhaustive [--pairs] [--kind …] [--jobs N] [--share i/n] [--plan submit#1=garbage,…]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress

from services.mcp.order_execution.errors import JournalError
from tests.simulation.dice import Dice
from tests.simulation.disk import JOURNAL_FAULTS
from tests.simulation.network import READ_FAULTS, WRITE_FAULTS
from tests.simulation.oracle import reckon
from tests.simulation.world import KINDS, Life, SimulatedWorld
from tests.virtual_time import run_virtual

T = TypeVar("T")
Plan = tuple[tuple[str, str], ...]
"""Which fault happens at which step."""

STEP_FAULTS = ("kill", "cancel")
PAIR_KINDS = tuple(KINDS)[:3]
MAX_LIVES = 6
LIMIT: dict[str, Any] = {
    "client_order_id": "o0",
    "symbol": "BTC/USD",
    "side": "buy",
    "type": "limit",
    "amount": "0.1",
    "price": "50000",
}
MARKET: dict[str, Any] = {
    "client_order_id": "o1",
    "symbol": "BTC/USD",
    "side": "sell",
    "type": "market",
    "amount": "0.05",
}
_FIXED: dict[str, object] = {
    "streams": 1.0,
    "index lag": 0.2,
    "carry fills": 0.0,
    "commit": 0.002,
    "timeout": 0.5,
    "latency": (0.01, 0.02),
    "deadline": 8,
    "retries": 2,
    "poll": 5,
    "wait for": "accepted",
    "cool down": 1,
    "nervous breaker": 1.0,
    "close": 3,
    "fate:o0": "rest",
    "fate:o1": "rest",
}


class PlannedDice(Dice):
    """Nothing is left to chance: the world is fixed, and the plan says which faults happen."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(0)
        self.plan = dict(plan)
        self.met: list[tuple[str, tuple[str, ...]]] = []
        """Every step that came by, with the faults that are possible there."""

    def number(self, key: str) -> float:
        """Draw as ever, except for what makes the world."""
        fixed = _FIXED.get(key)
        return fixed if isinstance(fixed, float) else super().number(key)

    def pick(self, key: str, choices: Sequence[T]) -> T:
        """Take what is fixed; draw the rest."""
        return _FIXED[key] if key in _FIXED else super().pick(key, choices)  # type: ignore[return-value]

    def whole(self, key: str, low: int, high: int) -> int:
        """Take what is fixed; draw the rest."""
        fixed = _FIXED.get(key)
        return fixed if isinstance(fixed, int) else super().whole(key, low, high)

    def fault(self, site: str, kinds: Sequence[str], probability: float) -> tuple[str, str | None]:
        """Note the step, and do what the plan says."""
        key = self.next_key(site)
        if self.good or site not in ("journal", "submit", "cancel", *_READS):
            return key, None
        self.met.append((key, _possible(site)))
        return key, self._planned(key)

    def step(self, number: int) -> str | None:
        """Note a callback of the loop, and say what happens before it."""
        if self.good:
            return None
        self.met.append((f"step#{number}", STEP_FAULTS))
        return self._planned(f"step#{number}")

    def _planned(self, key: str) -> str | None:
        kind = self.plan.get(key)
        if kind is not None:
            self.happened[key] = kind
        return kind


_READS = ("query", "open_orders", "closed_orders", "trades", "balances", "ticker", "ping")


def _possible(site: str) -> tuple[str, ...]:
    if site == "journal":
        return JOURNAL_FAULTS
    return WRITE_FAULTS if site in ("submit", "cancel") else READ_FAULTS


# ---- one case ---------------------------------------------------------------------------------------------


def run_case(plan: Plan, kind: str, *, trace: bool = False) -> SimulatedWorld:
    """Live one life under a plan. Raises whatever is wrong."""
    world = SimulatedWorld(0, dice=PlannedDice(plan), kind=kind, trace=trace)
    world.repair_seconds = 0.1
    world.params = {"o0": LIMIT, "o1": MARKET}
    world.config["confirmation"]["poll_interval_seconds"] = 5
    world.config["circuit_breaker"] = {"failure_threshold": 3, "cool_down_seconds": 1}
    try:
        run_virtual(lambda: _life(world))
    except BaseException as error:
        error.world = world  # type: ignore[attr-defined]
        raise
    return world


async def _life(world: SimulatedWorld) -> None:
    dice = world.dice
    assert isinstance(dice, PlannedDice)
    world.loop.call_later(1.0, _fill_half, world)
    calls: list[asyncio.Task[None]] = []

    def on_step(number: int) -> None:
        kind = dice.step(number)
        if kind == "kill":
            world.kill(world.lives[-1])
        elif kind == "cancel" and calls and not calls[-1].done():
            calls[-1].cancel()

    world.loop.on_step = on_step
    stops = 0
    for _ in range(MAX_LIVES):
        life = world.start()
        program = life.process.spawn(_program(world, life, calls))
        ended = asyncio.get_running_loop().create_task(life.ended.wait(), name="end of a life")
        await asyncio.wait({program, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if program.done():
            program.result()
            stops += 1
            if stops == 2:  # it stopped, started again and stopped: the life is over
                break
        await asyncio.sleep(0.3)
    dice.good = True
    world.loop.on_step = None
    await _come_to_rest(world)
    await reckon(world, world.lives[-1])


async def _program(world: SimulatedWorld, life: Life, calls: list[asyncio.Task[None]]) -> None:
    """What the bot does from its start to its end; after a kill it begins again."""

    async def call(work: Any) -> None:
        calls.append(life.process.spawn(work))
        await asyncio.wait({calls[-1]})

    await call(world.place(life, "o0"))
    await asyncio.sleep(max(0.0, 1_000_002.0 - world.clock.monotonic()))
    await call(world.cancel(life, "o0"))
    await call(world.place(life, "o1"))
    try:
        await life.bot.close()
    except JournalError:
        world.log("the stop lost entries of the journal")


def _fill_half(world: SimulatedWorld) -> None:
    for entry in world.exchange.resting():
        if entry.intent == "o0":
            world.exchange.fill(entry, entry.request.amount / 2)


async def _come_to_rest(world: SimulatedWorld) -> None:
    from tests.simulation.day import _at_rest, _insist

    world.store.fault = None
    world.kill(world.lives[-1])
    life = world.start()
    for intent in world.params:
        life.callers.append(life.process.spawn(_insist(world, life, intent)))
    for _ in range(2_000):
        await asyncio.sleep(2)
        if _at_rest(world, life):
            break
    await asyncio.sleep(5)


# ---- enumeration ------------------------------------------------------------------------------------------


def steps_after(world: SimulatedWorld, plan: Plan) -> list[tuple[str, str]]:
    """Every fault that was possible after the last one of the plan."""
    dice = world.dice
    assert isinstance(dice, PlannedDice)
    keys = [key for key, _ in dice.met]
    start = keys.index(plan[-1][0]) + 1 if plan and plan[-1][0] in keys else 0
    return [(key, kind) for key, kinds in dice.met[start:] for kind in kinds]


def attempt(plan: Plan, kind: str) -> tuple[list[tuple[str, str]], str | None]:
    """Run a case: the faults possible after it, and what went wrong."""
    try:
        world, problem = run_case(plan, kind), None
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        world, problem = error.world, f"{type(error).__name__}: {error}"  # type: ignore[attr-defined]
    return steps_after(world, plan), problem


def singles(kind: str) -> list[Plan]:
    """Every plan of one fault."""
    return [(step,) for step in attempt((), kind)[0]]


def run_single(plan: Plan, kind: str, pairs: bool, share: tuple[int, int]) -> tuple[int, list[tuple[Plan, str]]]:
    """Run a single, and where wanted every pair (or a share of them) that begins with it: cases, failures."""
    logging.disable(logging.CRITICAL)
    following, problem = attempt(plan, kind)
    failures = [] if problem is None else [(plan, problem)]
    cases = 1
    part, parts = share
    offset = sum(map(ord, plan[0][0] + plan[0][1]))
    for number, step in enumerate(following if pairs else ()):
        if (number + offset) % parts != part:
            continue
        cases += 1
        _, problem = attempt((*plan, step), kind)
        if problem is not None:
            failures.append(((*plan, step), problem))
    return cases, failures


def enumerate_all(
    kinds: Sequence[str], *, pairs: bool, share: tuple[int, int], jobs: int, tell: Callable[[int, int, int], None]
) -> tuple[int, list[tuple[str, Plan, str]]]:
    """Run every case of these kinds of exchange; ``tell`` hears (singles done, of how many, cases)."""
    work = [(plan, kind) for kind in kinds for plan in singles(kind)]
    cases, failures = len(kinds), []
    with ProcessPoolExecutor(jobs) as pool:
        runs = [(kind, pool.submit(run_single, plan, kind, pairs, share)) for plan, kind in work]
        for done, (kind, future) in enumerate(runs, 1):
            ran, found = future.result()
            cases += ran
            failures += [(kind, plan, problem) for plan, problem in found]
            tell(done, len(runs), cases)
    return cases, failures


def written(plan: Plan) -> str:
    """A plan as the command line takes it."""
    return ",".join(f"{key}={kind}" for key, kind in plan)


def read(text: str) -> Plan:
    """The plan that ``written`` wrote."""
    return tuple((key, kind) for key, _, kind in (item.partition("=") for item in text.split(",") if item))


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: no violation, 1: a violation, 2: usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.exhaustive", description=__doc__)
    parser.add_argument("--pairs", action="store_true", help="pairs too, not single faults alone")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="kinds of exchange; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--share", default="0/1", help="i/n: only each n-th pair, from the i-th on")
    parser.add_argument("--plan", help="run this one case, and print what happens in it")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else 160)
    kinds = given.kind or (list(PAIR_KINDS) if given.pairs else list(KINDS))
    if given.plan is not None:
        return _show(read(given.plan), kinds[0], console)
    part, _, parts = given.share.partition("/")
    started = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("single faults", total=None)

        def tell(done: int, total: int, cases: int) -> None:
            progress.update(bar, completed=done, total=total, description=f"{cases:,} cases")

        cases, failures = enumerate_all(
            kinds, pairs=given.pairs, share=(int(part), int(parts)), jobs=given.jobs, tell=tell
        )
    for kind, plan, problem in failures[:20]:
        console.print(
            f"{problem[:300]}\n  python -m tests.simulation.exhaustive --kind '{kind}' --plan '{written(plan)}'"
        )
    console.print(
        f"{cases:,} cases on {len(kinds)} kinds of exchange in {time.monotonic() - started:,.0f} s: "
        f"{len(failures)} violations"
    )
    return 1 if failures else 0


def _show(plan: Plan, kind: str, console: Console) -> int:
    try:
        world, problem = run_case(plan, kind, trace=True), None
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        world, problem = error.world, error  # type: ignore[attr-defined]
    for line in _with_faults(world):
        console.print(line, markup=False, highlight=False)
    console.print(f"{problem or 'no violation'}", markup=False)
    return 1 if problem else 0


def _with_faults(world: SimulatedWorld) -> Iterator[str]:
    yield from world.trace or []
    yield f"faults: {world.dice.happened}"


if __name__ == "__main__":
    sys.exit(main())
