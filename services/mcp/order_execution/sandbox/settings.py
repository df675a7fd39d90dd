"""Settings of the sandbox, the faults at its wire included."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ..paper_exchange.settings import Amount, Fee, PaperFaults, PaperSettings, Probability, Seconds
from .markets import CODES, paper_currency

Permission = Literal["READ", "TRADE", "WITHDRAW"]

AddCode = Literal[
    "ParseError", "InvalidOrderPrice", "BadPrice", "PriceConditionFailed", "OverValueOrder", "SmallOrder",
    "DuplicateOrder", "InvalidMarketPair", "MarketClosed", "TradingUnavailable", "FeatureUnavailable",
    "DuplicateClientOrderId", "TradeLimitation", "UnexpectedMarketPrice", "InsufficientBalance", "TryAgainLater",
]  # fmt: skip
"""The documented refusals of an order."""


class WireFaults(PaperFaults):
    """The paper exchange's faults, acted out at the wire, and those that only a wire can have.

    ``lost_request`` and ``lost_reply`` reset the connection after ``hang_seconds`` of silence (None: they hang),
    ``refused_connection`` at once. ``garbled_reply`` cuts the body short or breaks it. Each request meets at most
    one fault, chosen by these chances.
    """

    hang: Probability = 0.0
    """No answer until the caller gives up; as likely carried out as not."""
    bare_429: Probability = 0.0
    """429 as a page, without ``backOff``."""
    late_seconds_min: Seconds = 0.0
    """A late request is under way for at least this long."""
    late_past_expiry: bool = False
    """Signatures are checked at the front: a late request is carried out though its signature is stale by then."""
    only: tuple[str, ...] = ()
    """Only requests to paths that begin with one of these meet faults; empty: all."""
    new_seconds: Seconds = 0.0
    """For this long an order shows as ``New`` and cannot be cancelled."""
    system_cancel: Probability = 0.0
    """An order that was accepted and rests is taken off the book by the system right away."""
    cancel_lag_seconds: Seconds = 0.0
    """A cancel is said to be done and takes so long: until then the order rests, and may still fill."""
    refuse_adds: AddCode | None = None
    """Every order is refused with this code."""
    closed_markets: tuple[str, ...] = ()
    """Markets that take no orders, such as ``btc-rls``."""
    clock_offset_seconds: Annotated[float, Field(ge=-86_400, le=86_400, allow_inf_nan=False)] = 0.0
    """How far the sandbox's wall clock is ahead of the machine's."""
    lost_event: Probability = 0.0
    """An event is not published on the stream."""
    doubled_event: Probability = 0.0
    """An event is published twice."""
    stream_reset: Probability = 0.0
    """The stream's connection breaks instead of carrying an event."""

    @model_validator(mode="after")
    def _check_wire(self) -> Self:
        chances = (
            self.lost_request
            + self.lost_reply
            + self.late_arrival
            + self.rate_limited
            + self.server_error
            + self.garbled_reply
            + self.refused_connection
            + self.hang
            + self.bare_429
        )
        if chances > 1.0 + 1e-9:
            raise ValueError(f"the chances of all faults together must be at most 1, they are {chances:g}")
        if self.late_seconds_min > self.late_seconds_max:
            raise ValueError("late_seconds_min must be at most late_seconds_max")
        return self


class SandboxSettings(BaseModel):
    """The sandbox. ``seed`` to ``depth_usd`` and ``balances`` are fixed when its file is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8765
    """0: a free one."""
    path: Path = Path("data/nobitex_sandbox.db")
    """The exchange's file; ``:memory:`` keeps it in the process."""
    seed: int = 0
    """Prices, depth and the demo keys follow from it."""
    step_seconds: Annotated[float, Field(ge=0.001, le=3600.0)] = 1.0
    volatility: Annotated[float, Field(ge=0.0, le=0.005)] = 0.0003
    depth_usd: Annotated[float, Field(ge=1.0, le=1e9)] = 25_000.0
    balances: dict[str, Amount] | None = None
    """By Nobitex's code, such as ``rls``; None: plenty of every currency."""
    maker_fee: Fee = Decimal("0.002")
    taker_fee: Fee = Decimal("0.002")
    token: SecretStr | None = None
    """The session token that is accepted, 40 hex digits; None: one that follows from the seed."""
    api_keys: bool = True
    """Whether the Ed25519 scheme is offered; it needs the package cryptography."""
    api_key: str | None = None
    """The public key that is accepted; None: the demo pair that follows from the seed."""
    permissions: frozenset[Permission] = frozenset({"READ", "TRADE"})
    """What the API key may do."""
    key_lists_keys: bool = False
    """Whether an API key that may read may list the keys; the documentation asks for a user and says no more."""
    signature_window_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """How far a signed request's timestamp may be from the sandbox's clock."""
    duplicate_seconds: Seconds = 10.0
    """Within this time a second order of the same specification is refused."""
    limits: Annotated[float, Field(gt=0, le=1000)] | None = 1.0
    """The documented rate limits times this; None: none."""
    block_seconds: Seconds = 120.0
    """How long the account is blocked everywhere once it has ignored ``backOff`` five times."""
    shapes: Literal["varied", "old", "new"] = "varied"
    """Which of the documented shapes answers have."""
    wallet_method: Literal["GET", "POST"] = "GET"
    """The sources differ about the method of the wallet lists; one is accepted."""
    ws_token_seconds: Annotated[int, Field(ge=1, le=86_400)] = 1200
    ping_seconds: Annotated[float, Field(gt=0, le=600)] = 25.0
    pong_seconds: Annotated[float, Field(gt=0, le=600)] = 25.0
    """A stream that leaves a ping unanswered for so long is cut off."""
    stream_seconds: Annotated[float, Field(ge=0.01, le=60)] = 0.2
    """How often the stream looks for what the market did to orders."""
    faults: WireFaults = WireFaults()

    @field_validator("token")
    @classmethod
    def _hex40(cls, token: SecretStr | None) -> SecretStr | None:
        text = "0" * 40 if token is None else token.get_secret_value()
        if len(text) != 40 or set(text) - set("0123456789abcdef"):
            raise ValueError("expected 40 hex digits in lower case")
        return token

    @field_validator("balances")
    @classmethod
    def _known(cls, balances: dict[str, Amount] | None) -> dict[str, Amount] | None:
        unknown = sorted(set(balances or ()) - CODES)
        if unknown:
            raise ValueError(f"not traded here: {', '.join(unknown)}")
        return balances

    def paper(self) -> PaperSettings:
        """The exchange below: ids are unique and found among open orders only, and nothing expires by itself."""
        balances = self.balances
        return PaperSettings(
            path=self.path,
            seed=self.seed,
            step_seconds=self.step_seconds,
            volatility=self.volatility,
            depth_usd=self.depth_usd,
            balances=None if balances is None else {paper_currency(code): own for code, own in balances.items()},
            maker_fee=self.maker_fee,
            taker_fee=self.taker_fee,
            client_ids="open",
            lookup="open",
            request_expiry_seconds=None,
        )
