"""Settings of the paper exchange, the bad days that it can be told to have included."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0, le=86_400.0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Fee = Annotated[Decimal, Field(ge=0, le=Decimal("0.1"), max_digits=8)]
Amount = Annotated[Decimal, Field(ge=0, le=Decimal("1e15"), decimal_places=12)]


class PaperOutage(BaseModel):
    """A time in which nothing gets through, counted from the opening of the gateway."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after_seconds: Seconds
    for_seconds: Seconds
    kind: Literal["refused", "timeout", "server_error"] = "refused"
    """refused: no connection; timeout: requests vanish; server_error: 5xx, and nothing is carried out."""


class PaperFaults(BaseModel):
    """How bad the way to the exchange is. Each request meets at most one fault, chosen by these chances."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lost_request: Probability = 0.0
    """The request never arrives, and the caller hears nothing."""
    lost_reply: Probability = 0.0
    """The request is carried out, and the caller hears nothing."""
    late_arrival: Probability = 0.0
    """The caller hears nothing, and the request arrives later, even if the caller's process has died."""
    late_seconds_max: Seconds = 3.0
    """A late request is under way for up to this long; past its expiry the exchange drops it."""
    rate_limited: Probability = 0.0
    """429: refused before it was looked at."""
    retry_after_seconds: Seconds = 1.0
    """What a 429 asks to wait."""
    server_error: Probability = 0.0
    """5xx: as likely carried out as not."""
    garbled_reply: Probability = 0.0
    """The request is carried out, and the answer cannot be understood."""
    refused_connection: Probability = 0.0
    """No connection is made."""
    latency_seconds: tuple[Seconds, Seconds] = (0.0, 0.0)
    """The least and the most that one request and its answer take together."""
    hang_seconds: Seconds | None = 0.3
    """How long a caller that hears nothing waits until its connection breaks; None: until its timeout."""
    lookup_lag_seconds: Seconds = 0.0
    """For this long after it was booked an order is missing from lookups and lists."""
    outages: tuple[PaperOutage, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        chances = (
            self.lost_request
            + self.lost_reply
            + self.late_arrival
            + self.rate_limited
            + self.server_error
            + self.garbled_reply
            + self.refused_connection
        )
        if chances > 1.0 + 1e-9:
            raise ValueError(f"the chances of all faults together must be at most 1, they are {chances:g}")
        if self.latency_seconds[0] > self.latency_seconds[1]:
            raise ValueError("latency_seconds must be a pair: the least, the most")
        return self


class PaperRateLimits(BaseModel):
    """What the exchange allows per second, for all processes together; None: as much as one likes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_requests_per_second: Rate | None = None
    cancel_requests_per_second: Rate | None = None
    read_requests_per_second: Rate | None = None
    burst: Annotated[int, Field(ge=1, le=10_000)] = 10


class PaperSettings(BaseModel):
    """The paper exchange. ``seed`` to ``depth_usd`` and ``balances`` are fixed when its file is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Path("data/paper_exchange.db")
    """Its file; ``:memory:`` keeps it in the process."""
    seed: int = 0
    """Prices and depth follow from it."""
    step_seconds: Annotated[float, Field(ge=0.001, le=3600.0)] = 1.0
    """The price moves, and the depth is filled up again, once per step."""
    volatility: Annotated[float, Field(ge=0.0, le=0.005)] = 0.0003
    """How far the price of a coin moves in one step, as a fraction of it."""
    depth_usd: Annotated[float, Field(ge=1.0, le=1e9)] = 25_000.0
    """Worth of what rests on the best level; deeper levels hold more."""
    balances: dict[str, Amount] | None = None
    """What the account starts with, and nothing else; None: plenty of every currency."""
    maker_fee: Fee = Decimal("0.001")
    taker_fee: Fee = Decimal("0.002")
    client_ids: Literal["forever", "open", "none"] = "forever"
    """Among which orders a client order id is unique: all, the open ones, or not at all."""
    lookup: Literal["all", "open", "none"] = "all"
    """Which orders are found by client order id."""
    request_expiry_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] | None = 2.0
    """A request that arrives later than this after it was sent is dropped; None: never."""
    settle_seconds: Seconds = 0.25
    """How long an order may be missing from lookups after the request could last arrive."""
    rate_limits: PaperRateLimits = PaperRateLimits()
    faults: PaperFaults = PaperFaults()

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_faults(self.faults)
        return self

    def check_faults(self, faults: PaperFaults) -> None:
        """Refuse faults that would break what the exchange's traits promise. Raises ValueError."""
        if faults.lookup_lag_seconds > self.settle_seconds:
            raise ValueError("faults.lookup_lag_seconds must be at most settle_seconds")
        if self.request_expiry_seconds is None and faults.late_arrival > 0:
            slowest = faults.late_seconds_max + faults.lookup_lag_seconds
            if slowest > self.settle_seconds:
                raise ValueError(
                    "without request_expiry_seconds, settle_seconds must cover "
                    f"faults.late_seconds_max and faults.lookup_lag_seconds: {slowest:g}"
                )
