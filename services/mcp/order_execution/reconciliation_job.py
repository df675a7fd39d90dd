"""ReconciliationJob: reconciles on a schedule, or once.

    python -m services.mcp.order_execution.reconciliation_job [--run-once] [--period P] [--config FILE] [--json]

Exit codes: 0 clean (a scheduled job that was told to stop: 0), 1 discrepancies found, 2 usage, configuration or
files: needs a human, 70 a defect, 75 exchange unreachable (try again later), 130 and 143 a single run that
SIGINT or SIGTERM broke off.

Each run opens the journal and lets go of it afterwards. While a bot owns the journal, the run only reads, and
leaves repairs to the bot.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .alerts import Alerts, Level
from .bootstrap import make_alerts, open_companion
from .clock import Clock, SystemClock
from .config import load_settings
from .errors import ConfigurationError, ExchangeUnavailable, JournalLocked, OrderExecutionError
from .models import ReconciliationReport
from .reconciliation import PERIODS, AlertThresholds, Progress
from .reconciliation_report import ReportFile
from .reconciliation_settings import JobSettings, load_job_settings, read_job_config
from .reliable_executor import ReliableOrderExecutor
from .standard_output import make_console, reader_may_leave

if TYPE_CHECKING:
    from apscheduler.events import JobExecutionEvent
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

__all__ = ["JobSettings", "ReconciliationJob", "main"]

_logger = logging.getLogger(__name__)

EXIT_CLEAN: Final = 0
EXIT_DISCREPANCIES: Final = 1
EXIT_USAGE: Final = 2
EXIT_DEFECT: Final = 70
EXIT_UNREACHABLE: Final = 75
EXIT_SIGNAL: Final = 128
"""Added to the signal's number."""
STOP_SECONDS: Final = 5.0
"""How long a run that is under way may take to finish once the job is told to stop."""
GIVE_UP_SECONDS: Final = 20.0
"""How long it may take to close what it has opened once it is broken off."""
LOCK_WAIT_SECONDS: Final = 0.5
SHOWN_DETAILS: Final = 20

Runner = Callable[[str, Progress | None], Awaitable[ReconciliationReport]]


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
        self._stopped: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        reporting = self.settings.reporting
        if reporting.file.is_dir():  # so is blank text: the working directory
            raise _no_report_file(reporting.file, "a directory")
        self.reports = ReportFile(reporting.file, self._clock, history_days=reporting.history_days)

    # ---- once -------------------------------------------------------------------------------------------------

    async def run_reconciliation(
        self, period: str | None = None, *, progress: Progress | None = None
    ) -> ReconciliationReport:
        """Reconcile once, over the schedule's period unless another is given, and keep the report.

        Raises ExchangeUnavailable when the exchange does not answer, JournalError, ConfigurationError (also where
        no report could be written, before anything is asked), and OSError when the report cannot be written.
        """
        await asyncio.to_thread(_make_directory, self.reports.path)
        report = await self._runner(period or self.settings.schedule.interval, progress)
        await self.reports.append(report)
        return report

    async def _reconcile(self, period: str, progress: Progress | None) -> ReconciliationReport:
        thresholds = AlertThresholds(**self.settings.alerts.model_dump())
        executor = ReliableOrderExecutor(_with_short_lock_wait(self.settings.executor))
        try:
            await executor.open()
            return await executor.reconcile_orders(period, progress=progress, thresholds=thresholds)
        except JournalLocked:
            _logger.info("another process owns the journal; this run only reports")
        finally:
            await executor.close()
        return await self._report_only(period, progress, thresholds)

    async def _report_only(
        self, period: str, progress: Progress | None, thresholds: AlertThresholds
    ) -> ReconciliationReport:
        """Compare beside the process that owns the journal; repairs are left to it."""
        settings = load_settings(self.settings.executor)
        async with self._alerting() as alerts, open_companion(settings, thresholds) as reconciler:
            reconciler.alerts = alerts
            # What the owner has not asked for yet is no discrepancy.
            reconciler.catch_up_seconds = (
                2 * settings.confirmation.poll_interval_seconds + settings.gateway.timeout_seconds
            )
            return await reconciler.run(period, progress=progress)

    @contextlib.asynccontextmanager
    async def _alerting(self) -> AsyncIterator[Alerts]:
        alerts = make_alerts(load_settings(self.settings.executor), self._clock)
        alerts.start()
        try:
            yield alerts
        finally:
            await alerts.close()

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
        """End ``serve()``: no further run begins, and one that is under way may finish, within limits.

        May be called from any thread, as ``start()`` blocks its own.
        """
        loop, stopped = self._loop, self._stopped
        if loop is not None and stopped is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and the job with it
                loop.call_soon_threadsafe(stopped.set)

    async def serve(self) -> None:
        """Run the schedule until ``stop()``, SIGTERM or SIGINT."""
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        scheduler = self.make_scheduler()
        with _on_signals(lambda number: self.stop()):
            scheduler.start()
            try:
                _logger.info("next reconciliation: %s", scheduler.get_jobs()[0].next_run_time)
                if self.settings.run_on_start:
                    await self._scheduled_run()
                await self._stopped.wait()
            finally:
                self._stopped.set()
                scheduler.pause()
                await self._drain()
                # shutdown() cancels what runs; by now nothing does.
                scheduler.shutdown(wait=False)
                await asyncio.sleep(0)  # it shuts down in the loop's next turn

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
        # UTC as an object: its name would need a time zone database, which slim systems lack.
        scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        scheduler.add_job(
            self._scheduled_run,
            CronTrigger(timezone=UTC, **fields),
            id="reconciliation",
            name="reconciliation",
            replace_existing=True,
        )
        scheduler.add_listener(_hear, EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        return scheduler

    async def _scheduled_run(self) -> None:
        """Run once, in a task of our own that the scheduler cannot cancel; a failed run does not end the job."""
        if self._stopped is None or self._stopped.is_set():
            return
        if self._running is not None:
            _logger.warning("the last reconciliation is still running; this one is left out")
            return
        loop = asyncio.get_running_loop()
        self._running = loop.create_task(self._run_and_log(), name="reconciliation")
        stopped = loop.create_task(self._stopped.wait(), name="stop")
        try:
            await asyncio.wait({self._running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    async def _run_and_log(self) -> None:
        try:
            report = await self.run_reconciliation()
        except (OrderExecutionError, OSError) as error:
            _logger.error("reconciliation failed: %s: %s", type(error).__name__, error)  # noqa: TRY400
            await self._alert_failure(error)
        except Exception as error:
            _logger.exception("reconciliation failed by a defect")
            await self._alert_failure(error)
        else:
            _logger.info("reconciliation: %s", summary_line(report))
        finally:
            self._running = None

    async def _alert_failure(self, error: Exception) -> None:
        async with self._alerting() as alerts:
            title = "a scheduled reconciliation failed"
            alerts.raise_alert(Level.ERROR, "reconciliation failed", title, f"{type(error).__name__}: {error}")

    async def _drain(self) -> None:
        """Let a run finish, then break it off, within limits."""
        if self._running is None:
            return
        running = {self._running}
        _, late = await asyncio.wait(running, timeout=STOP_SECONDS)
        for task in late:
            _logger.warning("the reconciliation that is under way is broken off; the next one makes up for it")
            task.cancel()
        if late:
            _, late = await asyncio.wait(late, timeout=GIVE_UP_SECONDS)
        if late:
            _logger.error("the reconciliation that was under way does not end")


def _make_directory(file: Path) -> None:
    """See that a report can be written, before a reconciliation is made for it. Raises ConfigurationError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_report_file(file, error.strerror or type(error).__name__) from error
    if not os.access(file.parent, os.W_OK | os.X_OK) or (file.exists() and not os.access(file, os.R_OK)):
        raise _no_report_file(file, "no permission")


def _no_report_file(file: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"reporting.file: {file} cannot be written: {why}", field="reporting.file")


def _hear(event: JobExecutionEvent) -> None:
    """Tell what the scheduler would keep to itself; the job's own failures are told by the job."""
    error = getattr(event, "exception", None)
    _logger.error("scheduled reconciliation: scheduler event %s", event.code, exc_info=error)


def _with_short_lock_wait(config: Mapping[str, Any]) -> dict[str, Any]:
    """Do not wait for a bot to stop: it holds the journal for as long as it runs."""
    journal = dict(config.get("journal") or {})
    journal.setdefault("lock_wait_seconds", LOCK_WAIT_SECONDS)
    return {**config, "journal": journal}


@contextlib.contextmanager
def _on_signals(call: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Call once for the first SIGTERM or SIGINT; what closes then is not disturbed by a second one."""
    loop = asyncio.get_running_loop()
    numbers: list[signal.Signals] = []
    heard: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        heard.append(number)
        if len(heard) == 1:
            call(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        # Outside the main thread there are no signals to be had; stop() serves there.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, hear, number)
            numbers.append(number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


# ---- the command ----------------------------------------------------------------------------------------------


class _BrokenOff(Exception):
    """A signal ended a single run."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"{number.name}: the run was broken off")
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Raises SystemExit(2) for a wrong usage."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.WARNING if options.run_once else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        job = ReconciliationJob({} if options.config is None else read_job_config(options.config))
        if not options.run_once:
            job.start()
            return EXIT_CLEAN
        report = asyncio.run(_run_once(job, options.period))
    except ExchangeUnavailable as error:
        return _fail(str(error), EXIT_UNREACHABLE)
    except ConfigurationError as error:
        return _fail(str(error), EXIT_USAGE)
    except (OrderExecutionError, OSError) as error:
        return _fail(f"{type(error).__name__}: {error}", EXIT_USAGE)
    except _BrokenOff as error:
        return _fail(str(error), EXIT_SIGNAL + error.number)
    except Exception:
        # Python would exit with 1, which means something else here.
        _logger.exception("a defect")
        return EXIT_DEFECT
    with reader_may_leave():
        if options.json:
            sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n")
        else:
            show(report, job.settings.reporting.file)
    return EXIT_CLEAN if report.is_clean else EXIT_DISCREPANCIES


async def _run_once(job: ReconciliationJob, period: str | None) -> ReconciliationReport:
    """Run once. A signal cancels the run, which leaves the journal clean. Raises _BrokenOff then."""
    signals: list[signal.Signals] = []
    task = asyncio.get_running_loop().create_task(_with_progress(job, period), name="reconciliation")

    def break_off(number: signal.Signals) -> None:
        signals.append(number)
        task.cancel()

    with _on_signals(break_off):
        try:
            return await task
        except asyncio.CancelledError:
            if not signals:
                raise
            raise _BrokenOff(signals[0]) from None


async def _with_progress(job: ReconciliationJob, period: str | None) -> ReconciliationReport:
    """Show progress on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        return await job.run_reconciliation(period)
    from rich.progress import Progress as Bar  # noqa: PLC0415 - only for people

    with Bar(console=make_console(stderr=True), transient=True) as bar:
        line = bar.add_task("Comparing orders", total=None)
        return await job.run_reconciliation(
            period, progress=lambda done, total: bar.update(line, completed=done, total=total)
        )


def summary_line(report: ReconciliationReport) -> str:
    """The report in one line."""
    return (
        f"{report.total_orders} orders, {report.matched_orders} matched, {report.mismatched_orders} mismatched, "
        f"{report.missing_orders} missing, {report.extra_orders} extra, {report.unresolved_orders} unresolved, "
        f"{report.repaired} repaired"
    )


def show(report: ReconciliationReport, file: Path) -> None:
    """Print the report for people."""
    from rich.table import Table  # noqa: PLC0415 - only for people

    # What exchanges and users named is text, never markup, and a path is not broken into lines.
    console = make_console(markup=False, highlight=False, soft_wrap=True, emoji=False)
    table = Table(title=f"Reconciliation, {report.period}", show_header=False)
    for name in ("total", "matched", "mismatched", "missing", "extra", "unresolved"):
        table.add_row(name, str(getattr(report, f"{name}_orders")))
    table.add_row("repaired", str(report.repaired))
    table.add_row("discrepant", f"{report.mismatch_percentage:.2f} %")
    console.print(table)
    for item in report.details[:SHOWN_DETAILS]:
        changes = ", ".join(f"{name}: {ours} → {theirs}" for name, (ours, theirs) in item.differences.items())
        who = item.order_id or item.exchange_order_id or "account"
        console.print(f"{item.kind}: {who}: {changes} ({item.action or 'not repaired'})")
    if len(report.details) > SHOWN_DETAILS:
        console.print(f"… and {len(report.details) - SHOWN_DETAILS} more in the report")
    if report.read_only:
        console.print("Another process owns the journal: nothing was repaired, that is left to it.")
    if report.unresolved_orders:
        console.print(f"In flight or undecided: {report.unresolved_orders}; a later run tells more.")
    verdict = "Everything is accounted for." if report.is_clean else "There were discrepancies."
    console.print(f"{verdict} Report: {file}")


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"reconciliation_job: {message}\n")
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.mcp.order_execution.reconciliation_job",
        description="Compare the journal with the exchange, on a schedule or once.",
        epilog="exit codes: 0 clean, 1 discrepancies found, 2 usage or configuration, 75 exchange unreachable",
    )
    parser.add_argument("--run-once", action="store_true", help="reconcile once and exit")
    parser.add_argument("--period", choices=list(PERIODS), help="with --run-once: over the last hour, day or week")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the job's configuration, TOML or JSON")
    parser.add_argument("--json", action="store_true", help="with --run-once: print the report as JSON")
    options = parser.parse_args(arguments)
    if not options.run_once and (options.json or options.period):
        parser.error("--json and --period go with --run-once")
    return options


if __name__ == "__main__":
    sys.exit(main())
