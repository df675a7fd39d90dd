"""What can be set, and what cannot."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from services.mcp.order_execution.sandbox import SandboxSettings


def test_the_exchange_below_is_nobitexs_kind() -> None:
    """Ids unique and found among open orders, no expiry of its own, balances under its own names."""
    paper = SandboxSettings.model_validate({"balances": {"1m_pepe": "5"}, "seed": 4}).paper()
    assert (paper.client_ids, paper.lookup, paper.request_expiry_seconds) == ("open", "open", None)
    assert paper.balances == {"1MPEPE": Decimal(5)}
    assert paper.seed == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "short"},
        {"token": "G" * 40},
        {"balances": {"gold": 1}},
        {"port": 70_000},
        {"permissions": ["ADMIN"]},
        {"shapes": "round"},
        {"unknown": 1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """By name."""
    with pytest.raises(ValidationError):
        SandboxSettings.model_validate(wrong)


def test_a_given_token_is_not_shown() -> None:
    """Neither in repr nor in str."""
    settings = SandboxSettings.model_validate({"token": "ab" * 20})
    assert "abab" not in repr(settings)
    assert settings.token is not None
