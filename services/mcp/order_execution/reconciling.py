"""One reconciliation of a living executor: over its own wire, with repairs that go through its registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .core import Core
from .errors import ErrorCategory, ExchangeUnavailable, OrderNotSent
from .guarded_gateway import GuardedGateway
from .models import ReconciliationReport
from .repairs import RegistryRepairs

if TYPE_CHECKING:
    from .reconciliation import AlertThresholds

READ_SECONDS = 300.0
RECOVERY_SECONDS = 60.0


async def reconcile(
    core: Core,
    period: str,
    *,
    progress: Callable[[int, int], None] | None,
    thresholds: AlertThresholds | None,
) -> ReconciliationReport:
    """Compare journal and exchange over a period once recovery is done, and repair the record.

    Raises ConfigurationError for an unknown period, ExchangeUnavailable when the exchange does not answer.
    """
    from .reconciliation import Reconciler, since_of  # noqa: PLC0415 - the package's import stays light

    since_of(period, core.clock.now())
    try:
        await core.wait_recovered(core.clock.monotonic() + RECOVERY_SECONDS)
    except OrderNotSent as error:
        raise ExchangeUnavailable(str(error), category=ErrorCategory.TIMEOUT) from None
    reconciler = Reconciler(
        core.ports.journal,
        GuardedGateway(core.wire, core.clock, timeout=READ_SECONDS),
        core.clock,
        repairs=RegistryRepairs(core.registry, core.resolver, core.ports.journal, core.clock),
        metrics=core.ports.metrics,
        alerts=core.ports.alerts,
        thresholds=thresholds,
        balance_check=core.confirmer.deviations,
    )
    await core.tracker.round()  # what following orders would tell next is no discrepancy
    return await reconciler.run(period, progress=progress)
