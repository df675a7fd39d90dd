"""How a world goes: a bad day of several lives, a good one, and the reckoning."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from decimal import Decimal

from services.mcp.order_execution.models import OrderState
from tests.simulation.oracle import reckon
from tests.simulation.world import INTENTS, Life, SimulatedWorld, Violation
from tests.virtual_time import run_virtual

PATIENCE = 2_000.0
"""Seconds of good weather within which everything must be settled."""


def run_world(seed: int, only: Collection[str] | None = None, *, trace: bool = False) -> SimulatedWorld:
    """Live one world through. Raises whatever is wrong with it."""
    world = SimulatedWorld(seed, only, trace=trace)
    try:
        run_virtual(lambda: _live(world), seed=seed, shuffle=True)
    except BaseException as error:
        error.world = world  # type: ignore[attr-defined]
        raise
    return world


async def _live(world: SimulatedWorld) -> None:
    _market(world)
    world.exchange.refuses_to_cancel = lambda entry: (
        not world.dice.good and world.dice.chance(f"stubborn {entry.number}", 0.1)
    )
    lives = world.dice.whole("lives", 1, 3)
    life = world.start()
    for number in range(lives):
        if number:
            life = world.start()
        await _bad_time(world, life)
        life = await _end_of_life(world, life, last=number == lives - 1)
    await _good_time(world, life)
    await reckon(world, world.lives[-1])


async def _bad_time(world: SimulatedWorld, life: Life) -> None:
    """Callers place and cancel; some give up; the disk, the clock and the exchange have their moods."""
    dice = world.dice
    loop = world.loop
    for number in range(INTENTS):
        intent = f"o{number}"
        key = dice.next_key(f"call {intent}")
        if dice.chance(key, 0.8):
            start = dice.between(f"{key}:at", 0.0, 1.0)
            loop.call_later(start, _call, world, life, intent, key)
        if dice.chance(f"{key}:cancel", 0.25):
            loop.call_later(dice.between(f"{key}:cancel at", 0.0, 4.0), _spawn, life, world.cancel, world, intent)
    _disk_faults(world, life)
    _weather(world)
    key = dice.next_key("beside")
    if dice.chance(key, 0.2):
        loop.call_later(dice.between(f"{key}:at", 0, 3), lambda: _spawn_reconcile(world, life))
    if dice.chance(f"{key}:companion", 0.15):
        companion = asyncio.get_running_loop().call_later
        companion(dice.between(f"{key}:companion at", 0, 3), lambda: _background(world.companion()))
    await asyncio.sleep(dice.between(f"{key}:long", 0.0, 1.0) ** 3 * 40)


def _background(work: object) -> None:
    asyncio.get_running_loop().create_task(work, name="companion")  # type: ignore[arg-type]


def _spawn(life: Life, call: object, world: SimulatedWorld, intent: str) -> None:
    if not life.process.dead:
        life.process.spawn(call(life, intent))  # type: ignore[operator]


def _spawn_reconcile(world: SimulatedWorld, life: Life) -> None:
    if not life.process.dead:
        life.process.spawn(world.reconcile(life))


def _call(world: SimulatedWorld, life: Life, intent: str, key: str) -> None:
    """One caller; some are cancelled while they wait."""
    if life.process.dead:
        return
    task = life.process.spawn(world.place(life, intent), name=f"place {intent}")
    life.callers.append(task)
    fault, kind = world.dice.fault("caller", ("cancelled",), 0.25)
    if kind is not None:
        world.loop.call_later(world.dice.between(f"{fault}:at", 0.0, 1.5) ** 2, task.cancel)


def _disk_faults(world: SimulatedWorld, life: Life) -> None:
    key, kind = world.dice.fault("disk", ("fails once", "fails once, written", "fails", "slow", "full"), 0.25)
    if kind is None:
        return
    at = world.dice.between(f"{key}:at", 0.0, 3.0)
    lasts = world.dice.between(f"{key}:lasts", 0.1, 8.0)

    def begin() -> None:
        if world.dice.good:
            return
        world.log(f"the disk {kind}")
        if kind == "slow":
            life.journal.pause()
        elif kind == "full":
            world.store.full = True
        elif kind == "fails":
            life.journal.fail_forever()
        else:
            life.journal.fail_next(written=kind.endswith("written"))

    def end() -> None:
        life.journal.resume()
        life.journal.repair()
        world.store.full = False
        world.repair(life)

    world.loop.call_later(at, begin)
    world.loop.call_later(at + lasts, end)


def _weather(world: SimulatedWorld) -> None:
    """Outages, and a wall clock that jumps."""
    key, kind = world.dice.fault("weather", ("outage", "clock jumps ahead", "clock jumps back"), 0.3)
    if kind is None:
        return
    at = world.dice.between(f"{key}:at", 0.0, 3.0)
    if kind == "outage":
        world.loop.call_later(at, _set_down, world, True)
        world.loop.call_later(at + world.dice.between(f"{key}:lasts", 1.0, 90.0), _set_down, world, False)
        return
    sign = 1 if kind.endswith("ahead") else -1
    world.loop.call_later(at, _jump, world, sign * world.dice.between(f"{key}:far", 1.0, 7_200.0))


def _set_down(world: SimulatedWorld, down: bool) -> None:
    world.log("the exchange is down" if down else "the exchange is back")
    world.network.conditions.down = down and not world.dice.good


def _jump(world: SimulatedWorld, seconds: float) -> None:
    if world.dice.good:
        return
    world.log(f"the wall clock jumps by {seconds:.0f} s")
    world.clock.jump(seconds)
    world.network.conditions.clock_error = world.clock.offset.total_seconds()


def _market(world: SimulatedWorld) -> None:
    """Others trade: resting orders are filled in parts, some only in part, and some are ended by the exchange."""

    def tick(number: int) -> None:
        if number > 40 or world.dice.good:
            return
        for entry in list(world.exchange.resting()):
            key = f"market {number} {entry.number}"
            if world.dice.chance(key, 0.12):
                part = world.dice.pick(f"{key}:part", (Decimal("0.25"), Decimal("0.5"), Decimal(1)))
                world.exchange.fill(entry, entry.request.amount * part)
            elif world.dice.chance(f"{key}:ended", 0.02):
                world.exchange.close(entry, OrderState.EXPIRED)
        world.network.later(1.0, tick, number + 1)

    world.network.later(1.0, tick, 0)


async def _end_of_life(world: SimulatedWorld, life: Life, *, last: bool) -> Life:
    """Most lives end by a kill, some by a stop that lets what is in flight finish; the last may just go on."""
    key = world.dice.next_key("end")
    way = world.dice.pick(key, ("kill", "close", "go on", "go on") if last else ("kill", "kill", "kill", "close"))
    if world.dice.only is not None and key not in world.dice.only:
        way = "close" if way == "kill" else way
    if way == "kill":
        world.dice.happened[key] = "kill"
        world.kill(life)
        await asyncio.sleep(world.dice.between(f"{key}:pause", 0.0, 1.0))
    elif way == "close":
        await world.inside(life, _close(world, life))
    return life


async def _close(world: SimulatedWorld, life: Life) -> None:
    from services.mcp.order_execution.errors import JournalError

    world.log(f"{life.process.name} is told to stop")
    try:
        await life.bot.close()
    except JournalError:
        world.rare["a stop lost entries of the journal"] += 1
    world.log(f"{life.process.name} has stopped")
    await asyncio.sleep(0.5)
    waiting = [task.get_name() for task in life.callers if not task.done()]
    if waiting:
        raise Violation(f"{waiting} still wait for an executor that is closed")


async def _good_time(world: SimulatedWorld, life: Life) -> None:
    """No faults any more: everything is executed again, and must come to rest."""
    world.dice.good = True
    world.network.conditions.down = False
    world.clock.jump(-world.clock.offset.total_seconds())
    world.network.conditions.clock_error = 0.0
    world.store.full = False
    life.journal.resume()
    life.journal.repair()
    if life.process.dead or life.bot._closed:
        world.kill(life)
        life = world.start()
    elif life.journal.health().failure is not None:
        await asyncio.sleep(5)
        await world.inside(life, world.reopen(life))
    world.log("the good day begins")
    for number in range(INTENTS):
        life.callers.append(life.process.spawn(_insist(world, life, f"o{number}"), name=f"place o{number}"))
    waited = 0.0
    while waited < PATIENCE and not _at_rest(world, life):
        await asyncio.sleep(10)
        waited += 10
    await asyncio.sleep(70)


async def _insist(world: SimulatedWorld, life: Life, intent: str) -> None:
    """Execute until there is a verdict, as a bot does after a bad day; some things stay refused by ourselves."""
    for _ in range(5):
        before = len(world.told)
        await world.place(life, intent)
        if all(told.intent != intent or told.verdict in ("placed", "rejected") for told in world.told[before:]):
            return
        await asyncio.sleep(30)


def _at_rest(world: SimulatedWorld, life: Life) -> bool:
    core = life.bot._core
    if core is None or not all(task.done() for task in life.callers):
        return False
    if any(order.state is OrderState.CANCELING for order in core.registry.live()) or core.registry.unsettled():
        return False
    return core.recovered and not core.resolver.busy and not core.canceller._tasks
