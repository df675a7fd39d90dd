"""The paper exchange's settings: what they take, and which combinations they refuse."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.mcp.order_execution.paper_exchange.settings import PaperFaults, PaperRateLimits, PaperSettings


def test_the_defaults_are_a_good_day() -> None:
    """Nothing goes wrong unless it is asked for, and the file lies under data/."""
    settings = PaperSettings()
    assert settings.path == Path("data/paper_exchange.db")
    assert settings.faults == PaperFaults()
    assert PaperFaults().model_dump(include={"lost_request", "lost_reply", "late_arrival", "server_error"}) == {
        "lost_request": 0.0,
        "lost_reply": 0.0,
        "late_arrival": 0.0,
        "server_error": 0.0,
    }


def test_settings_are_read_from_plain_values() -> None:
    """Strings and numbers as they come from TOML, JSON or the environment."""
    settings = PaperSettings.model_validate(
        {
            "path": ":memory:",
            "balances": {"USD": "1000", "BTC": 1},
            "maker_fee": "0.0005",
            "faults": {"latency_seconds": [0.01, 0.05], "outages": [{"after_seconds": 1, "for_seconds": 2}]},
        }
    )
    assert settings.balances == {"USD": Decimal(1000), "BTC": Decimal(1)}
    assert settings.maker_fee == Decimal("0.0005")
    assert settings.faults.outages[0].kind == "refused"


@pytest.mark.parametrize(
    "wrong",
    [
        {"unknown": 1},
        {"volatility": 0.05},
        {"step_seconds": 0},
        {"maker_fee": "0.5"},
        {"taker_fee": "-0.1"},
        {"balances": {"USD": "-1"}},
        {"balances": {"USD": "NaN"}},
        {"client_ids": "sometimes"},
        {"request_expiry_seconds": 0},
        {"settle_seconds": -1},
        {"rate_limits": {"burst": 0}},
        {"rate_limits": {"read_requests_per_second": 0}},
        {"faults": {"lost_reply": 1.1}},
        {"faults": {"lost_reply": -0.1}},
        {"faults": {"unknown": 0.1}},
        {"faults": {"outages": [{"after_seconds": 0, "for_seconds": 1, "kind": "flood"}]}},
    ],
)
def test_a_wrong_value_is_refused(wrong: dict[str, object]) -> None:
    """Unknown keys and values out of their range."""
    with pytest.raises(ValidationError):
        PaperSettings.model_validate(wrong)


def test_the_chances_of_all_faults_together_are_at_most_one() -> None:
    """Each request meets at most one fault, so the chances add up."""
    assert PaperFaults(lost_request=0.1, lost_reply=0.2, server_error=0.7).server_error == 0.7
    with pytest.raises(ValidationError, match=r"at most 1, they are 1\.2"):
        PaperFaults(lost_request=0.5, lost_reply=0.7)


def test_the_latency_is_a_least_and_a_most() -> None:
    """In this order."""
    with pytest.raises(ValidationError, match="the least, the most"):
        PaperFaults(latency_seconds=(0.2, 0.1))


def test_orders_are_hidden_no_longer_than_the_exchange_promises() -> None:
    """A lookup lag beyond the settle time would make a liar of the traits."""
    assert PaperSettings(faults=PaperFaults(lookup_lag_seconds=0.25)).faults.lookup_lag_seconds == 0.25
    with pytest.raises(ValidationError, match="lookup_lag_seconds must be at most settle_seconds"):
        PaperSettings(faults=PaperFaults(lookup_lag_seconds=0.3))


def test_without_an_expiry_late_requests_arrive_within_the_settle_time() -> None:
    """Otherwise "not there" could never be believed."""
    late = PaperFaults(late_arrival=0.1, late_seconds_max=2.0)
    assert PaperSettings(request_expiry_seconds=None, settle_seconds=2.0, faults=late).settle_seconds == 2.0
    with pytest.raises(ValidationError, match="settle_seconds must cover"):
        PaperSettings(request_expiry_seconds=None, settle_seconds=1.0, faults=late)


def test_rate_limits_are_off_unless_given() -> None:
    """As much as one likes."""
    limits = PaperRateLimits()
    assert limits.order_requests_per_second is limits.cancel_requests_per_second is None
    assert limits.read_requests_per_second is None
