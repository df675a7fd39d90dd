"""How many examples: few and always the same in the tests, more with PROPERTY_EXAMPLES=10000."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

_EXAMPLES = os.environ.get("PROPERTY_EXAMPLES")
settings.register_profile(
    "tests",
    max_examples=int(_EXAMPLES or 100),
    derandomize=_EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Arbitrary input makes arbitrary noise."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
