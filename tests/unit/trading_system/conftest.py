"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.trading_system.engine_world import EngineWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[EngineWorld]:
    """A fake exchange and a disk; every engine on them is stopped at the end."""
    made = EngineWorld(tmp_path)
    yield made
    made.stop()
