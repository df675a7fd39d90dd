"""The interface that every executor implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from .models import ExecutionStats, Order, OrderEvent, ReconciliationReport


class OrderExecutionInterface(ABC):
    """Places, follows and cancels orders on one exchange account.

    Whatever implements it keeps one promise: an order is placed exactly once, or reported honestly as
    unresolved (:class:`~services.mcp.order_execution.errors.OrderUnresolved`).
    """

    @abstractmethod
    async def configure(self, config: Mapping[str, Any]) -> None:
        """Put a configuration in force, whole or not at all.

        Raises ConfigurationError, which names the field and what was expected; the old one then stays.
        """

    @abstractmethod
    async def execute_order(self, order_params: Mapping[str, Any]) -> str:
        """Place an order and return its id once the exchange has accepted it.

        Idempotent: ``client_order_id`` in the parameters makes a repeated call give the same answer.

        Raises InvalidOrder, OrderNotSent (and what is below it), OrderRejected or OrderUnresolved.
        """

    @abstractmethod
    async def get_order_status(self, order_id: str) -> Order:
        """Return the order as it is known now. Raises OrderNotFound."""

    @abstractmethod
    async def cancel_order(self, order_id: str) -> bool:
        """Cancel an order. True means that it will trade no further, whatever it traded before.

        False means that it may still trade: the exchange refused to cancel, or did not answer in time.
        Raises OrderNotFound.
        """

    @abstractmethod
    async def wait_for_order(self, order_id: str, timeout: float | None = None) -> Order:
        """Wait until the order is final. Raises OrderNotFound, and TimeoutError after ``timeout`` seconds."""

    @abstractmethod
    async def get_execution_stats(self) -> ExecutionStats:
        """Return counts since the start and the present condition."""

    @abstractmethod
    async def reconcile_orders(self, period: str = "daily") -> ReconciliationReport:
        """Compare our record with the exchange over the last hour, day or week ("hourly" …)."""

    @abstractmethod
    def events(self) -> AsyncIterator[OrderEvent]:
        """Every state change and fill from now on, in order."""

    @abstractmethod
    async def halt(self, reason: str) -> None:
        """Refuse new orders until ``resume()``; cancels and queries go on."""

    @abstractmethod
    async def resume(self) -> None:
        """Lift ``halt()``."""

    @abstractmethod
    async def close(self) -> None:
        """Stop accepting, let what is in flight finish within a deadline, release everything."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
