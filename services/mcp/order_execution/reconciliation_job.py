"""ReconciliationJob: reconciles on a schedule, or once.

    python -m services.mcp.order_execution.reconciliation_job [--run-once] [--period P] [--config FILE] [--json]

Exit codes: 0 clean (a scheduled job that was told to stop: 0), 1 discrepancies found, 2 usage or configuration,
75 exchange unreachable (try again later).

Each run opens the journal and lets go of it afterwards. While a bot owns the journal, the run only reads, and
leaves repairs to the bot.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from .clock import Clock, SystemClock
from .config import load_settings
from .config_errors import translated
from .errors import ConfigurationError, ExchangeUnavailable, JournalLocked, OrderExecutionError
from .models import ReconciliationReport
from .reconciliation import PERIODS, AlertThresholds, Progress
from .reconciliation_report import ReportFile
from .reliable_executor import ReliableOrderExecutor

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

_logger = logging.getLogger(__name__)

EXIT_CLEAN: Final = 0
EXIT_DISCREPANCIES: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 75
STOP_SECONDS: Final = 10.0
"""How long a run that is under way may take to finish once the job is told to stop."""
LOCK_WAIT_SECONDS: Final = 0.5

_MODEL: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Runner = Callable[[str, Progress | None], Awaitable[ReconciliationReport]]


class ScheduleSettings(BaseModel):
    """When to reconcile, in UTC."""

    model_config = _MODEL

    interval: Literal["hourly", "daily", "weekly"] = "daily"
    """How often, and over which period."""
    time: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:00"
    """HH:MM; of an hourly schedule only the minutes count."""
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = "mon"
    """Of a weekly schedule."""


class ReportingSettings(BaseModel):
    """Where reports go."""

    model_config = _MODEL

    file: Path = Path("reconciliation_reports.json")
    """The file of reports."""
    history_days: int = Field(default=30, ge=1, le=36_500)
    """How long reports are kept."""


class ThresholdSettings(BaseModel):
    """Beyond which a report raises an alert."""

    model_config = _MODEL

    mismatch_percentage: float = Field(default=0.0, ge=0, le=100)
    missing_orders: int = Field(default=0, ge=0)
    extra_orders: int = Field(default=0, ge=0)


class JobSettings(BaseModel):
    """The job's configuration."""

    model_config = _MODEL

    executor: dict[str, Any] = Field(default_factory=dict)
    """The same as ReliableOrderExecutor's."""
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    reporting: ReportingSettings = Field(default_factory=ReportingSettings)
    alerts: ThresholdSettings = Field(default_factory=ThresholdSettings)
    run_on_start: bool = False
    """Whether to reconcile at once when the job starts."""


def load_job_settings(config: Mapping[str, Any] | None) -> JobSettings:
    """Validate whole, the executor's section included. Raises ConfigurationError, naming the field."""
    if config is not None and not isinstance(config, Mapping):
        raise ConfigurationError(f"configuration: expected a mapping, got {type(config).__name__}")
    try:
        settings = JobSettings(**dict(config or {}))
    except ValidationError as error:
        raise translated(error, JobSettings) from None
    except TypeError as error:
        raise ConfigurationError(f"configuration: {error}") from None
    try:
        load_settings(settings.executor)
    except ConfigurationError as error:
        raise ConfigurationError(f"executor.{error}", field=f"executor.{error.field}") from None
    return settings


class ReconciliationJob:
    """Reconciles on a schedule. ``start()`` blocks; ``await run_reconciliation()`` runs once.

    Raises ConfigurationError for a bad configuration.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        clock: Clock | None = None,
        runner: Runner | None = None,
    ) -> None:
        self.settings = load_job_settings(config)
        self._clock = clock or SystemClock()
        self._runner = runner or self._reconcile
        self._stop = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self.reports = ReportFile(
            self.settings.reporting.file, self._clock, history_days=self.settings.reporting.history_days
        )

    # ---- once -------------------------------------------------------------------------------------------------

    async def run_reconciliation(
        self, period: str | None = None, *, progress: Progress | None = None
    ) -> ReconciliationReport:
        """Reconcile once, over the schedule's period unless another is given, and keep the report.

        Raises ExchangeUnavailable when the exchange does not answer, JournalError, ConfigurationError.
        """
        report = await self._runner(period or self.settings.schedule.interval, progress)
        await asyncio.to_thread(self.reports.append, report)
        return report

    async def _reconcile(self, period: str, progress: Progress | None) -> ReconciliationReport:
        config = _with_short_lock_wait(self.settings.executor)
        executor = ReliableOrderExecutor(config)
        thresholds = AlertThresholds(**self.settings.alerts.model_dump())
        try:
            await executor.open()
        except JournalLocked:
            await executor.close()
            return await self._report_only(period, progress, thresholds)
        try:
            return await executor.reconcile_orders(period, progress=progress, thresholds=thresholds)
        finally:
            await executor.close()

    async def _report_only(
        self, period: str, progress: Progress | None, thresholds: AlertThresholds
    ) -> ReconciliationReport:
        """Compare beside the process that owns the journal; repairs are left to it."""
        from .bootstrap import open_companion  # noqa: PLC0415 - needed beside a bot only

        async with open_companion(load_settings(self.settings.executor), thresholds) as reconciler:
            return await reconciler.run(period, progress=progress)

    # ---- on a schedule ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the schedule until SIGTERM or SIGINT. Blocks; inside a running loop await ``serve()`` instead."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self.serve())
        else:
            raise RuntimeError("start() blocks, and an event loop is running here: await job.serve() instead")

    def stop(self) -> None:
        """End ``serve()``: no further run begins, and one that is under way may finish, within limits."""
        self._stop.set()

    async def serve(self) -> None:
        """Run the schedule until ``stop()``, SIGTERM or SIGINT."""
        scheduler = self.make_scheduler()
        with _stop_on_signals(self.stop):
            scheduler.start()
            try:
                if self.settings.run_on_start:
                    await self._scheduled_run()
                await self._stop.wait()
            finally:
                scheduler.pause()
                await self._drain()
                # shutdown() cancels what runs; by now nothing does.
                scheduler.shutdown(wait=False)

    def make_scheduler(self) -> AsyncIOScheduler:
        """The scheduler with its one job: in UTC, late rather than never, never two at once."""
        from apscheduler.events import (  # noqa: PLC0415 - the package's import stays light
            EVENT_JOB_ERROR,
            EVENT_JOB_MAX_INSTANCES,
            EVENT_JOB_MISSED,
        )
        from apscheduler.schedulers.asyncio import AsyncIOScheduler  # noqa: PLC0415
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415

        schedule = self.settings.schedule
        hour, minute = schedule.time.split(":")
        fields: dict[str, Any] = {"minute": int(minute), "second": 0}
        if schedule.interval != "hourly":
            fields["hour"] = int(hour)
        if schedule.interval == "weekly":
            fields["day_of_week"] = schedule.weekday
        scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        scheduler.add_job(
            self._scheduled_run,
            CronTrigger(timezone="UTC", **fields),
            id="reconciliation",
            name="reconciliation",
            replace_existing=True,
        )
        scheduler.add_listener(
            lambda event: _logger.error("scheduled reconciliation: event %s", event.code),
            EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES,
        )
        return scheduler

    async def _scheduled_run(self) -> None:
        """Run once, in a task of our own that the scheduler cannot cancel; a failed run does not end the job."""
        if self._running or self._stop.is_set():
            return
        task = asyncio.get_running_loop().create_task(self._run_and_log(), name="reconciliation")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        stopped = asyncio.get_running_loop().create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    async def _run_and_log(self) -> None:
        try:
            report = await self.run_reconciliation()
        except (OrderExecutionError, OSError) as error:
            _logger.error("reconciliation failed: %s: %s", type(error).__name__, error)  # noqa: TRY400
        else:
            _logger.info("reconciliation: %s", summary_line(report))

    async def _drain(self) -> None:
        running = set(self._running)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _with_short_lock_wait(config: Mapping[str, Any]) -> dict[str, Any]:
    """Do not wait for a bot to stop: it holds the journal for as long as it runs."""
    journal = dict(config.get("journal") or {})
    journal.setdefault("lock_wait_seconds", LOCK_WAIT_SECONDS)
    return {**config, "journal": journal}


@contextlib.contextmanager
def _stop_on_signals(stop: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    installed = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Outside the main thread there are no signals to be had; stop() serves there.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, stop)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)


# ---- the command ----------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if not options.run_once else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        job = ReconciliationJob(read_config(options.config))
        if not options.run_once:
            job.start()
            return EXIT_CLEAN
        report = asyncio.run(_run_once(job, options.period, show_progress=not options.json))
    except ConfigurationError as error:
        return _fail(str(error), EXIT_USAGE)
    except ExchangeUnavailable as error:
        return _fail(str(error), EXIT_UNREACHABLE)
    except OrderExecutionError as error:
        return _fail(f"{type(error).__name__}: {error}", EXIT_USAGE)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    if options.json:
        sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n")
    else:
        show(report, job.settings.reporting.file)
    return EXIT_CLEAN if report.is_clean else EXIT_DISCREPANCIES


async def _run_once(job: ReconciliationJob, period: str | None, *, show_progress: bool) -> ReconciliationReport:
    """Run once; SIGTERM cancels it, and the journal is left clean."""
    task = asyncio.ensure_future(_with_progress(job, period, show_progress=show_progress))
    with _stop_on_signals(task.cancel):
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _with_progress(
    job: ReconciliationJob, period: str | None, *, show_progress: bool
) -> ReconciliationReport:
    if not show_progress or not sys.stderr.isatty():
        return await job.run_reconciliation(period)
    from rich.console import Console  # noqa: PLC0415 - only for people
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("Comparing orders", total=None)
        return await job.run_reconciliation(
            period, progress=lambda done, total: bar.update(line, completed=done, total=total)
        )


def read_config(path: Path | None) -> dict[str, Any]:
    """Read a TOML or JSON file. Raises ConfigurationError."""
    if path is None:
        return {}
    try:
        content = path.read_text(encoding="utf-8")
        config = json.loads(content) if path.suffix == ".json" else tomllib.loads(content)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: not valid {path.suffix.lstrip('.') or 'TOML'}: {error}") from None
    if not isinstance(config, dict):
        raise ConfigurationError(f"{path}: expected a table of settings")
    return config


def summary_line(report: ReconciliationReport) -> str:
    """The report in one line."""
    return (
        f"{report.total_orders} orders, {report.matched_orders} matched, {report.mismatched_orders} mismatched, "
        f"{report.missing_orders} missing, {report.extra_orders} extra, {report.unresolved_orders} unresolved, "
        f"{report.repaired} repaired"
    )


def show(report: ReconciliationReport, file: Path) -> None:
    """Print the report for people."""
    from rich.console import Console  # noqa: PLC0415 - only for people
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    table = Table(title=f"Reconciliation, {report.period}", show_header=False)
    for name in ("total", "matched", "mismatched", "missing", "extra", "unresolved"):
        table.add_row(name, str(getattr(report, f"{name}_orders")))
    table.add_row("repaired", str(report.repaired))
    table.add_row("discrepant", f"{report.mismatch_percentage:.2f} %")
    console.print(table)
    for item in report.details[:20]:
        changes = ", ".join(f"{name}: {ours} → {theirs}" for name, (ours, theirs) in item.differences.items())
        console.print(
            f"{item.kind}: {item.order_id or item.exchange_order_id}: {changes} ({item.action or 'not repaired'})"
        )
    if len(report.details) > 20:
        console.print(f"… and {len(report.details) - 20} more in the report")
    if report.read_only:
        console.print("Another process owns the journal: nothing was repaired, that is left to it.")
    console.print(
        "Everything is accounted for." if report.is_clean else "There were discrepancies.", f"Report: {file}"
    )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"reconciliation_job: {message}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.mcp.order_execution.reconciliation_job",
        description="Compare the journal with the exchange, on a schedule or once.",
        epilog="exit codes: 0 clean, 1 discrepancies found, 2 usage or configuration, 75 exchange unreachable",
    )
    parser.add_argument("--run-once", action="store_true", help="reconcile once and exit")
    parser.add_argument("--period", choices=list(PERIODS), help="with --run-once: over the last hour, day or week")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the job's configuration, TOML or JSON")
    parser.add_argument("--json", action="store_true", help="with --run-once: print the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
