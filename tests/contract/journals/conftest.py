"""Runs the journal suite on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.journals.backends import BACKENDS, Backend, backend_on


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A fresh storage of each kind."""
    async with backend_on(request.param, tmp_path) as fresh:
        yield fresh
