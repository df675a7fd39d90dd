"""The job: once or on a schedule, alone or beside a bot, from Python or from the command line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.mcp.order_execution import reconciliation_job
from services.mcp.order_execution.errors import (
    ConfigurationError,
    ErrorCategory,
    ExchangeUnavailable,
    JournalError,
)
from services.mcp.order_execution.models import Discrepancy, ReconciliationReport
from services.mcp.order_execution.reconciliation import Progress
from services.mcp.order_execution.reconciliation_job import ReconciliationJob, main
from services.mcp.order_execution.reliable_executor import ReliableOrderExecutor
from tests.unit.test_reconciliation_report import report

ROOT = Path(__file__).resolve().parents[2]
QUIET: dict[str, Any] = {"transaction_log": {"path": None}}
FOUND = Discrepancy("mismatched", "[red]id-1[/red]", "X1", "BTC/USD", {"state": ("open", "filled")}, True, "mended")
DOWN = ExchangeUnavailable("the exchange did not answer: silence", category=ErrorCategory.TIMEOUT)


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def now() -> ReconciliationReport:
    return report(datetime.now(UTC))


class Runs:
    """A runner that notes its runs; each ends as the script says, and the next one tells that it began."""

    def __init__(self, *script: ReconciliationReport | Exception | Callable[[], Awaitable[Any]]) -> None:
        self.script = list(script)
        self.periods: list[str] = []
        self.began = asyncio.Event()
        self.ended: list[str] = []

    async def __call__(self, period: str, progress: Progress | None) -> ReconciliationReport:
        self.periods.append(period)
        self.began.set()
        if progress is not None:
            progress(1, 2)
        step = self.script.pop(0) if self.script else now()
        try:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, ReconciliationReport):
                return step
            await step()
        except asyncio.CancelledError:
            self.ended.append("broken off")
            raise
        self.ended.append("finished")
        return now()


def patch_run(monkeypatch: pytest.MonkeyPatch, outcome: ReconciliationReport | Exception) -> list[str]:
    """Let every job's run end like this; returns the periods asked for."""
    runs = Runs(outcome)

    async def run(job: ReconciliationJob, period: str, progress: Progress | None) -> ReconciliationReport:
        return await runs(period, progress)

    monkeypatch.setattr(ReconciliationJob, "_reconcile", run)
    return runs.periods


# ---- once ---------------------------------------------------------------------------------------------------


async def test_one_run_gives_its_report_and_keeps_it() -> None:
    """Over the schedule's period, or another one."""
    runs = Runs()
    job = ReconciliationJob({"schedule": {"interval": "weekly"}}, runner=runs)
    await job.run_reconciliation()
    await job.run_reconciliation("hourly")
    assert runs.periods == ["weekly", "hourly"]
    assert len(job.reports.load()) == 2


async def test_a_run_without_a_journal_makes_one_and_is_clean(empty_directory: Path) -> None:
    """The first run in an empty directory."""
    job = ReconciliationJob({"executor": QUIET})
    outcome = await job.run_reconciliation()
    assert (outcome.total_orders, outcome.is_clean, outcome.read_only) == (0, True, False)
    assert (empty_directory / "data" / "order_execution.db").exists()


async def test_a_run_lets_go_of_the_journal() -> None:
    """A bot can start right after it."""
    await ReconciliationJob({"executor": QUIET}).run_reconciliation()
    async with ReliableOrderExecutor({**QUIET, "journal": {"lock_wait_seconds": 0}}) as executor:
        assert (await executor.get_execution_stats()).open_orders == 0


async def test_beside_a_bot_the_run_only_reads() -> None:
    """Repairs are left to the bot; its fresh orders are no discrepancy."""
    order = {"symbol": "BTC/USD", "side": "buy", "type": "market", "amount": "0.01"}
    async with ReliableOrderExecutor(QUIET) as bot:
        await bot.wait_for_order(await bot.execute_order(order), timeout=20)
        await bot.execute_order(order)
        outcome = await ReconciliationJob({"executor": QUIET}).run_reconciliation()
    assert (outcome.read_only, outcome.is_clean, outcome.total_orders) == (True, True, 2)


def test_a_bad_configuration_is_refused_at_once() -> None:
    """Not at midnight."""
    with pytest.raises(ConfigurationError, match=r"schedule\.interval"):
        ReconciliationJob({"schedule": {"interval": "yearly"}})


# ---- the schedule -------------------------------------------------------------------------------------------

FRIDAY = datetime(2026, 1, 2, 12, 34, 56, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "first", "step"),
    [
        ({}, datetime(2026, 1, 3, tzinfo=UTC), timedelta(days=1)),
        ({"time": "13:05"}, datetime(2026, 1, 2, 13, 5, tzinfo=UTC), timedelta(days=1)),
        (
            {"interval": "hourly", "time": "07:40"},
            datetime(2026, 1, 2, 12, 40, tzinfo=UTC),
            timedelta(hours=1),
        ),
        (
            {"interval": "weekly", "time": "06:00"},
            datetime(2026, 1, 5, 6, tzinfo=UTC),
            timedelta(weeks=1),
        ),
        (
            {"interval": "weekly", "weekday": "sun"},
            datetime(2026, 1, 4, tzinfo=UTC),
            timedelta(weeks=1),
        ),
    ],
)
async def test_the_schedule_means_what_it_says(schedule: dict[str, str], first: datetime, step: timedelta) -> None:
    """In UTC; a weekly one on its weekday, Monday unless given."""
    (scheduled,) = ReconciliationJob({"schedule": schedule}).make_scheduler().get_jobs()
    fires = scheduled.trigger.get_next_fire_time(None, FRIDAY)
    assert fires == first
    assert scheduled.trigger.get_next_fire_time(fires, fires + timedelta(seconds=1)) == first + step


async def test_runs_are_late_rather_than_lost_and_never_two_at_once() -> None:
    """APScheduler's defaults would drop a run that is a second late."""
    scheduler = ReconciliationJob(runner=Runs()).make_scheduler()
    scheduler.start(paused=True)
    (scheduled,) = scheduler.get_jobs()
    assert (scheduled.misfire_grace_time, scheduled.coalesce, scheduled.max_instances) == (None, True, 1)
    assert (scheduled.id, str(scheduler.timezone)) == ("reconciliation", "UTC")
    scheduler.shutdown(wait=False)
    await asyncio.sleep(0)


async def test_what_the_scheduler_would_keep_to_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Errors, missed runs, runs left out."""
    from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent

    error = RuntimeError("deep inside")
    event = JobExecutionEvent(EVENT_JOB_ERROR, "reconciliation", "default", FRIDAY, exception=error)
    reconciliation_job._hear(event)
    assert "deep inside" in caplog.text


async def serving(job: ReconciliationJob) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(job.serve())
    await asyncio.sleep(0)
    return task


async def test_a_run_on_start_comes_first_and_stop_ends_the_job() -> None:
    """The report is kept."""
    runs = Runs()
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    task = await serving(job)
    await runs.began.wait()
    job.stop()
    async with asyncio.timeout(5):
        await task
    assert (runs.periods, len(job.reports.load())) == (["daily"], 1)


async def test_without_run_on_start_nothing_runs_before_its_time() -> None:
    """stop() before serve() changes nothing."""
    runs = Runs()
    job = ReconciliationJob(runner=runs)
    job.stop()
    task = await serving(job)
    job.stop()
    await task
    assert runs.periods == []


async def test_a_job_can_serve_again() -> None:
    """After it was stopped."""
    runs = Runs()
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    for _ in range(2):
        runs.began.clear()
        task = await serving(job)
        await runs.began.wait()
        job.stop()
        await task
    assert len(runs.periods) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_job_once_the_run_has_finished(number: signal.Signals) -> None:
    """A second signal does not disturb the ending; the process's own handlers are back afterwards."""
    release = asyncio.Event()
    runs = Runs(release.wait)
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    task = await serving(job)
    await runs.began.wait()
    for _ in range(2):
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
    assert not task.done()
    release.set()
    async with asyncio.timeout(5):
        await task
    assert runs.ended == ["finished"]
    assert not asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_run_that_does_not_end_is_broken_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a few seconds, so that SIGTERM is not answered by SIGKILL."""
    monkeypatch.setattr(reconciliation_job, "STOP_SECONDS", 0.01)
    runs = Runs(asyncio.Event().wait)
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    task = await serving(job)
    await runs.began.wait()
    job.stop()
    async with asyncio.timeout(5):
        await task
    assert runs.ended == ["broken off"]
    assert "broken off" in caplog.text


async def test_a_run_that_cannot_be_broken_off_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every wait has its limit, this one too."""
    monkeypatch.setattr(reconciliation_job, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(reconciliation_job, "GIVE_UP_SECONDS", 0.01)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    runs = Runs(stubborn)
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    task = await serving(job)
    await runs.began.wait()
    job.stop()
    running = job._running
    assert running is not None
    async with asyncio.timeout(5):
        await task
    assert "does not end" in caplog.text
    release.set()
    await running


@pytest.mark.parametrize("failure", [DOWN, JournalError("disk"), OSError(28, "No space"), RuntimeError("defect")])
async def test_a_failed_run_is_told_and_does_not_end_the_job(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The next one may succeed; whoever is told of alerts is told of it."""
    runs = Runs(failure)
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    task = await serving(job)
    await runs.began.wait()
    assert job._running is not None
    await job._running
    assert not task.done()
    await job._scheduled_run()
    assert len(job.reports.load()) == 1
    job.stop()
    await task
    assert "a scheduled reconciliation failed" in caplog.text
    assert type(failure).__name__ in caplog.text


async def test_two_runs_never_overlap(caplog: pytest.LogCaptureFixture) -> None:
    """Whichever way they were begun."""
    release = asyncio.Event()
    runs = Runs(release.wait)
    job = ReconciliationJob({"run_on_start": True}, runner=runs)
    task = await serving(job)
    await runs.began.wait()
    await job._scheduled_run()
    assert "still running" in caplog.text
    release.set()
    job.stop()
    await task
    await job._scheduled_run()
    assert runs.periods == ["daily"]


async def test_start_inside_a_running_loop_says_what_to_do() -> None:
    """It would block the loop."""
    with pytest.raises(RuntimeError, match=r"await job\.serve\(\)"):
        ReconciliationJob(runner=Runs()).start()


def test_start_blocks_until_the_job_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """It brings its own loop."""

    async def run(period: str, progress: Progress | None) -> ReconciliationReport:
        job.stop()
        return now()

    job = ReconciliationJob({"run_on_start": True}, runner=run)
    with caplog.at_level(logging.INFO):
        job.start()
    assert len(job.reports.load()) == 1
    assert "next reconciliation: " in caplog.text
    assert "reconciliation: 0 orders, 0 matched" in caplog.text


def test_stop_is_heard_from_another_thread() -> None:
    """As start() blocks its own, there is no other place to call it from."""
    job = ReconciliationJob({"schedule": {"interval": "weekly"}}, runner=Runs())
    thread = threading.Thread(target=job.start, daemon=True)
    thread.start()
    end = time.monotonic() + 10
    while thread.is_alive():
        assert time.monotonic() < end, "it goes on until the next run, in a week"
        job.stop()
        thread.join(0.05)
    job.stop()


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_report_needs_a_file(path: str) -> None:
    """Told before anything is compared, by the name of the setting."""
    with pytest.raises(ConfigurationError, match=r"^reporting\.file: .* a directory") as caught:
        ReconciliationJob({"reporting": {"file": path}})
    assert caught.value.field == "reporting.file"


async def test_a_report_that_cannot_be_written_is_not_made(empty_directory: Path) -> None:
    """No exchange is asked for it."""
    (empty_directory / "taken").touch()
    runs = Runs(now())
    for path in (empty_directory / "taken" / "x.json", Path("/proc/none/x.json")):
        with pytest.raises(ConfigurationError, match=r"^reporting\.file: .* cannot be written"):
            await ReconciliationJob({"reporting": {"file": path}}, runner=runs).run_reconciliation()
    assert runs.periods == []


async def test_a_file_without_permission_is_told_before_the_run(
    empty_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may do everything is asked all the same."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != empty_directory)
    job = ReconciliationJob({"reporting": {"file": empty_directory / "r.json"}}, runner=Runs(now()))
    with pytest.raises(ConfigurationError, match="no permission"):
        await job.run_reconciliation()


def test_start_works_outside_the_main_thread() -> None:
    """There are no signals there; stop() serves."""

    async def run(period: str, progress: Progress | None) -> ReconciliationReport:
        job.stop()
        return now()

    job = ReconciliationJob({"run_on_start": True}, runner=run)
    asyncio.run(asyncio.to_thread(job.start))
    assert len(job.reports.load()) == 1


# ---- the command --------------------------------------------------------------------------------------------


def test_a_clean_run_exits_with_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary is for people, on stdout; nothing on stderr."""
    periods = patch_run(monkeypatch, now())
    assert main(["--run-once", "--period", "weekly"]) == 0
    said = capsys.readouterr()
    assert "Everything is accounted for. Report: reconciliation_reports.json" in said.out
    assert (said.err, periods) == ("", ["weekly"])


def test_discrepancies_exit_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What differs is told, as text whatever it contains, up to a bound."""
    many = replace(now(), mismatched_orders=30, total_orders=30, details=(FOUND,) * 30, unresolved_orders=2)
    patch_run(monkeypatch, replace(many, read_only=True))
    assert main(["--run-once"]) == 1
    out = capsys.readouterr().out
    assert out.count("mismatched: [red]id-1[/red]: state: open → filled (mended)") == 20
    assert "10 more in the report" in out
    assert "nothing was repaired" in out
    assert "In flight or undecided: 2" in out
    assert "There were discrepancies." in out


def test_json_prints_the_report_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For machines."""
    patch_run(monkeypatch, now())
    assert main(["--run-once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_clean"] is True


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (DOWN, 75),
        (ConfigurationError("gateway.name: no"), 2),
        (JournalError("broken"), 2),
        (PermissionError(13, "Permission denied"), 2),
    ],
)
def test_failures_exit_with_their_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception, code: int
) -> None:
    """One line on stderr, nothing on stdout."""
    patch_run(monkeypatch, failure)
    assert main(["--run-once", "--json"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("reconciliation_job: ")
    assert said.err.count("\n") == 1


def test_a_defect_is_not_taken_for_discrepancies(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python's own exit code would be 1."""
    patch_run(monkeypatch, RuntimeError("deep inside"))
    assert main(["--run-once"]) == 70
    assert "deep inside" in caplog.text


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--json"], ["--period", "daily"], ["--period", "x"]])
def test_a_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And says how to use it."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m services.mcp.order_execution.reconciliation_job" in capsys.readouterr().err


def test_a_configuration_file_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty_directory: Path
) -> None:
    """And refused by the name of what is wrong."""
    patch_run(monkeypatch, now())
    good, bad = empty_directory / "good.toml", empty_directory / "bad.json"
    good.write_text('[reporting]\nfile = "here.json"\n')
    bad.write_text('{"reporting": {"file": 5}}')
    assert main(["--run-once", "--config", str(good)]) == 0
    assert (empty_directory / "here.json").exists()
    assert main(["--run-once", "--config", str(bad)]) == 2
    assert "reporting.file: expected" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, so that stdout stays what was asked for."""
    patch_run(monkeypatch, now())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["--run-once", "--json"]) == 0
    said = capsys.readouterr()
    assert "Comparing orders" in said.err
    assert json.loads(said.out)["total_orders"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_breaks_a_single_run_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """What the run opened is closed, undisturbed by a second signal; no report is written."""
    closed = []

    async def run(job: ReconciliationJob, period: str, progress: Progress | None) -> ReconciliationReport:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
            closed.append("closed")
        return now()

    monkeypatch.setattr(ReconciliationJob, "_reconcile", run)
    assert main(["--run-once"]) == 128 + number
    assert (closed, Path("reconciliation_reports.json").exists()) == (["closed"], False)
    assert f"{number.name}: the run was broken off" in capsys.readouterr().err


async def test_a_run_that_is_cancelled_by_others_is_cancelled() -> None:
    """Only a signal of ours becomes an exit code."""
    job = ReconciliationJob(runner=Runs(asyncio.Event().wait))
    task = asyncio.get_running_loop().create_task(reconciliation_job._run_once(job, None))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_command_serves_until_it_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is no failure."""
    started: list[ReconciliationJob] = []
    monkeypatch.setattr(ReconciliationJob, "start", lambda job: started.extend([job]))
    assert main([]) == 0
    assert len(started) == 1


def test_importing_the_job_is_cheap() -> None:
    """The scheduler and the terminal's library come when they are needed."""
    script = (
        "import sys; from services.mcp.order_execution import reconciliation_job\n"
        "print([n for n in ('apscheduler', 'rich', 'aiohttp', 'apprise', 'ccxt') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
