"""The simulated time, and the death of simulated processes: what the other proofs stand on."""

from __future__ import annotations

import asyncio

import pytest

from tests.virtual_time import Deadlock, Process, Spinning, VirtualLoop, in_no_process, run_virtual


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def test_a_killed_process_runs_nothing_any_more() -> None:
    """No finally, no except, no child task, no timer; the rest of the world goes on."""
    seen: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(5)
            seen.append("child went on")
        finally:
            seen.append("child's finally")

    async def work() -> None:
        task = asyncio.get_running_loop().create_task(child())
        try:
            await task
        except BaseException:
            seen.append("except")
            raise
        finally:
            seen.append("finally")

    async def main() -> list[str]:
        process = Process("bot")
        process.spawn(work())
        asyncio.get_running_loop().call_later(3, seen.append, "the world goes on")
        await asyncio.sleep(1)
        _loop().kill(process)
        await asyncio.sleep(10)
        assert len(_loop().living_tasks()) == 1
        return list(seen)

    assert run_virtual(main) == ["the world goes on"]


def test_a_message_outlives_its_sender() -> None:
    """What is on the wire arrives, whoever dies."""
    arrived: list[str] = []

    async def send() -> None:
        in_no_process(asyncio.get_running_loop().call_later, 2.0, arrived.append, "order")
        await asyncio.sleep(100)

    async def main() -> None:
        process = Process()
        process.spawn(send())
        await asyncio.sleep(1)
        _loop().kill(process)
        await asyncio.sleep(5)

    run_virtual(main)
    assert arrived == ["order"]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_process_can_die_between_any_two_callbacks(shuffle: bool) -> None:
    """Stepwise, every callback is a moment of its own, and the kill hits exactly there."""
    reached = set()
    for at in range(1, 30):
        done: list[int] = []

        async def work(done: list[int] = done) -> None:
            for number in range(5):
                await asyncio.sleep(0)
                done.append(number)

        async def main(at: int = at) -> None:
            loop, process = _loop(), Process()
            loop.on_step = lambda step: loop.kill(process) if step == at and not process.dead else None
            process.spawn(work())
            process.spawn(work())
            await asyncio.sleep(10)

        run_virtual(main, seed=3, shuffle=shuffle)
        reached.add(len(done))
    assert reached == set(range(11))


def test_a_loop_without_timers_is_a_deadlock_and_one_without_time_spins() -> None:
    """Both are errors rather than a test that hangs."""

    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - the very mistake
            await asyncio.sleep(0)

    with pytest.raises(Deadlock):
        run_virtual(wait)
    with pytest.raises(Spinning):
        run_virtual(spin)


def test_the_same_seed_gives_the_same_order() -> None:
    """Shuffled, and repeatable."""

    async def main() -> list[int]:
        order: list[int] = []

        async def work(number: int) -> None:
            await asyncio.sleep(1)
            order.append(number)

        await asyncio.gather(*(work(number) for number in range(20)))
        return order

    first, again, other = (run_virtual(main, seed=seed, shuffle=True) for seed in (1, 1, 2))
    assert first == again != other
