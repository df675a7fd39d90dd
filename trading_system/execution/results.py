"""What the engine answers: a third outcome beside success and failure, since silence is neither."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class ExecutionPhase(Enum):
    """The phases of the three-phase commit."""

    PRE_COMMIT = "pre_commit"
    """Validation, risk limits, funds: nothing was sent."""
    COMMIT = "commit"
    """The order is durable and on its way to the exchange."""
    POST_COMMIT = "post_commit"
    """The exchange has it; fills, balances and positions follow."""


class ExecutionOutcome(Enum):
    """What became of an order, as far as its caller needs to know."""

    SUCCESS = "success"
    """The exchange has accepted it."""
    FAILED = "failed"
    """Nothing of it rests at the exchange, and nothing will."""
    UNRESOLVED = "unresolved"
    """It MAY be at the exchange. The engine goes on finding out; execute the same order again to ask. Never place
    the same wish under another id. Also told where the id belongs to a placed order with other parameters."""


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """The answer to ``execute_order``. ``execution_time`` is in seconds."""

    success: bool
    order_id: str
    exchange_order_id: str | None
    error_message: str | None
    phase: ExecutionPhase
    """How far the order came."""
    retry_count: int
    """How often it was sent once more, under its one id."""
    execution_time: float
    outcome: ExecutionOutcome

    @property
    def unresolved(self) -> bool:
        """True when an order under this id may be at the exchange although this one was not acknowledged."""
        return self.outcome is ExecutionOutcome.UNRESOLVED

    @property
    def failed(self) -> bool:
        """True when provably nothing of the order rests at the exchange."""
        return self.outcome is ExecutionOutcome.FAILED

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "phase": self.phase.value, "outcome": self.outcome.value}
