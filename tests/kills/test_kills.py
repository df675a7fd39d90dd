"""A slice of the real kills: every third named point of one life, random moments, stops, and a watcher beside."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context

import pytest

from tests.kills.cases import Case, exchange, run_case

POINTS = [Case(step % 6, way, step) for step in range(1, 30, 3) for way in ("point", "again")]
MOMENTS = [Case(seed, way) for way in ("random", "twice", "stop", "beside") for seed in (1, 2)]


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with exchange() as address:
        yield address


def test_a_bot_killed_at_named_points_and_random_moments_keeps_the_promise(base: str) -> None:
    """One order per intent in the exchange's own book, each known here, a second reconciliation clean."""
    context = get_context("spawn")
    with context.Pool(3) as pool:
        outcomes = pool.starmap(run_case, [(base, case) for case in (*POINTS, *MOMENTS)])
    assert {str(item.case): item.problem for item in outcomes if item.problem} == {}
    assert sum(item.kills for item in outcomes) >= len(POINTS)


def test_a_life_that_nobody_kills_has_the_points(base: str) -> None:
    """So that the enumeration of points reaches the whole of it, in whichever way the order goes."""
    context = get_context("spawn")
    with context.Pool(3) as pool:
        outcomes = pool.starmap(run_case, [(base, Case(seed, "point", 10_000)) for seed in range(3)])
    assert [(item.problem, item.kills) for item in outcomes] == [(None, 0)] * 3
    assert min(item.steps for item in outcomes) >= 15
    assert max(item.steps for item in outcomes) <= 40
