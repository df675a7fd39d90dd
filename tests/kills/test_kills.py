"""A slice of the real kills: every named point of one life, the points of the life after, random moments, stops."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context

import pytest

from tests.kills.cases import NAMED, VERDICTS, Case, Outcome, exchange, run_case

JOBS = 4
POINTS = [Case(0, "named", step) for step in range(len(NAMED))]
AGAIN = [Case(step % 5, "again", step) for step in range(1, 14)]
TOLD = [Case(seed, "verdict", step) for step in range(len(VERDICTS)) for seed in (2, 4 if step == 2 else 0)]
MOMENTS = [Case(seed, way) for way in ("random", "twice", "stop", "beside") for seed in range(1, 5)]


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with exchange() as address:
        yield address


def outcomes_of(base: str, cases: list[Case]) -> list[Outcome]:
    """Run the cases side by side; none may break the promise."""
    with get_context("spawn").Pool(JOBS) as pool:
        outcomes = pool.starmap(run_case, [(base, case) for case in cases], chunksize=1)
    assert {str(item.case): item.problem for item in outcomes if item.problem} == {}
    return outcomes


def test_a_bot_killed_at_every_named_point_keeps_the_promise(base: str) -> None:
    """One order per intent in the exchange's own book, each known here, a second reconciliation clean."""
    outcomes = outcomes_of(base, [*POINTS, *AGAIN])
    assert [item.points for item in outcomes[: len(POINTS)]] == [[name] for name in NAMED]
    assert sum(item.kills for item in outcomes) >= len(POINTS) + len(AGAIN)


def test_what_a_caller_was_told_holds_after_a_kill(base: str) -> None:
    """Also what no exchange can tell again: that an order was refused, that a caller was told it is cancelled."""
    outcomes = outcomes_of(base, TOLD)
    assert sum(item.kills for item in outcomes) >= len(TOLD) - 2


def test_a_bot_killed_or_stopped_at_any_moment_keeps_the_promise(base: str) -> None:
    """Under many concurrent orders, more than once, after a stop, and with a reconciliation beside it."""
    outcomes = outcomes_of(base, MOMENTS)
    assert sum(item.kills for item in outcomes) >= len(MOMENTS)
