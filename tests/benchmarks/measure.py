"""How things are measured: rows of results, medians over interleaved rounds, and the disk's own floor."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
WORK: Final = ROOT / ".bench"
"""Environments, histories and the files of runs; git does not see it."""


@dataclass(slots=True)
class Row:
    """One line of the table. ``value`` is judged against ``limit`` (both in ``unit``)."""

    name: str
    what: str
    against: str
    """What it is measured against, and how."""
    value: float | None
    limit: float | None
    unit: str
    budget: str
    at_least: bool = False
    """The limit is a lower one."""
    goal: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether it is within its budget; None where it has none, or could not be measured."""
        if self.value is None or self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "ok": self.ok}


def row_from(data: Mapping[str, Any]) -> Row:
    """The row that ``to_dict`` wrote."""
    return Row(**{name: value for name, value in data.items() if name != "ok"})


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def ratios(values: Sequence[float], base: Sequence[float]) -> float:
    """The median of the ratios, round by round: what both rounds suffered alike cancels out."""
    return statistics.median(value / unit for value, unit in zip(values, base, strict=True))


def differences(values: Sequence[float], base: Sequence[float]) -> float:
    """The median of the differences, round by round."""
    return statistics.median(value - unit for value, unit in zip(values, base, strict=True))


def rounds(cases: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Measure every case once in each round, in turn; the garbage collector runs between them, not in them."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(count + 1):
        for name, case in cases.items():
            gc.collect()
            gc.disable()
            try:
                value = case()
            finally:
                gc.enable()
            if number:  # the first round only warms
                taken[name].append(value)
    return taken


def loop_case(call: Callable[[], object], times: int) -> Callable[[], float]:
    """Nanoseconds of CPU of one call, the loop around it included: the noise of others is not in it."""

    def case() -> float:
        clock, calls = time.thread_time_ns, range(times)
        began = clock()
        for _ in calls:
            call()
        return (clock() - began) / times

    return case


def async_case(
    loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[object]], times: int
) -> Callable[[], float]:
    """Nanoseconds of CPU of one awaited call, the loop around it included."""

    async def repeat() -> float:
        clock, calls = time.thread_time_ns, range(times)
        began = clock()
        for _ in calls:
            await call()
        return (clock() - began) / times

    return lambda: loop.run_until_complete(repeat())


def run_directory() -> Path:
    """A fresh directory on the disk that is measured."""
    (WORK / "run").mkdir(parents=True, exist_ok=True)
    ignore = WORK / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return Path(tempfile.mkdtemp(dir=WORK / "run"))


def sync_floor_us(directory: Path, times: int = 200) -> float:
    """Microseconds (p50) of this disk's cheapest durable record: 512 bytes appended to a log, and fdatasync."""
    path = directory / "floor.log"
    record = os.urandom(512)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    try:
        for _ in range(times):
            began = time.perf_counter_ns()
            os.write(descriptor, record)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter_ns() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(taken) / 1e3


def rss_mib() -> float:
    """Resident memory of this process now."""
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
