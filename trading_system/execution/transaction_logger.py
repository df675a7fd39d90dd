"""The transaction log with the engine's face: JSON lines for orders, fills and errors, one file a day (UTC)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from services.mcp.order_execution.clock import Clock, SystemClock
from services.mcp.order_execution.transaction_log import TransactionLog, TransactionLogReader

from .orders import Order, OrderFill
from .results import ExecutionPhase, ExecutionResult
from .translation import client_order_id

CATCH_UP_SECONDS: Final = 1.0


class TransactionLogger:
    """Writes down what happens to orders, and gives one order's history back.

    Usable alone (``TransactionLogger("data/transactions")``: each entry is written by the caller), or on the log
    that an engine keeps. ``secrets`` never reach the disk. Raises ConfigurationError for a path that cannot be
    written to.
    """

    def __init__(
        self,
        path: Path | str = "data/transactions",
        *,
        log: TransactionLog | None = None,
        clock: Clock | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self._own = log is None
        self._log = log or TransactionLog(path, clock or SystemClock(), redact=secrets, inline=True)
        self._log.open()

    @property
    def path(self) -> Path:
        """The directory of the files."""
        return self._log.path

    def log_order_creation(self, order: Order) -> None:
        """An order was made; nothing was sent yet."""
        self._note(order.order_id, "created", order.to_dict())

    def log_order_update(self, order: Order) -> None:
        """An order changed."""
        self._note(order.order_id, "updated", order.to_dict())

    def log_order_submission(self, order: Order, exchange_order_id: str | None = None) -> None:
        """An order was handed to the exchange; with its id there, once that is known."""
        self._note(order.order_id, "submitted", {"exchange_order_id": exchange_order_id})

    def log_order_fill(self, order: Order, fill: OrderFill) -> None:
        """An order traded, in part or whole."""
        detail = {"symbol": order.symbol, "side": order.side.value, **fill.to_dict()}
        self._log.record_note(client_order_id(order.order_id), "fill", detail, stream="fills")

    def log_phase(
        self,
        order_id: str,
        phase: ExecutionPhase,
        detail: Mapping[str, Any] | None = None,
        *,
        at: datetime | None = None,
    ) -> None:
        """An order entered a phase of its execution; now, unless it is told later than it was (``at``, UTC)."""
        self._note(order_id, f"phase:{phase.value}", detail, at)

    def log_retry(self, order_id: str, attempt: int, reason: str, *, at: datetime | None = None) -> None:
        """An order is sent once more, under its one id. ``attempt`` counts from 1; ``at`` as for a phase."""
        self._note(order_id, "retry", {"attempt": attempt, "reason": reason}, at)

    def log_result(self, result: ExecutionResult) -> None:
        """What the caller was told."""
        self._note(result.order_id, f"result:{result.outcome.value}", result.to_dict())

    def log_error(
        self, order_id: str | None, phase: ExecutionPhase | str, error: BaseException | str, **detail: object
    ) -> None:
        """Something went wrong, with an order or (None) with no single one."""
        where = phase.value if isinstance(phase, ExecutionPhase) else phase
        name = error if isinstance(error, str) else type(error).__name__
        if isinstance(error, BaseException):
            detail = {"message": str(error), **detail}
        known = None if order_id is None else client_order_id(order_id)
        self._log.record_error(known, where, name, detail)

    def get_order_history(self, order_id: str) -> list[dict[str, Any]]:
        """Everything known of one order in time order, each entry with its ``log``: orders, fills or errors.

        Waits a moment for what is still being written. Raises OSError when a file cannot be read.
        """
        self._log.catch_up(CATCH_UP_SECONDS)
        return TransactionLogReader(self.path).history(client_order_id(order_id))

    def close(self) -> None:
        """Make everything durable. A log that belongs to an engine is closed by the engine."""
        if self._own:
            self._log.close_inline()

    def _note(self, order_id: str, kind: str, detail: Mapping[str, Any] | None, at: datetime | None = None) -> None:
        self._log.record_note(client_order_id(order_id), kind, detail, at=at)
