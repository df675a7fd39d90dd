"""Restart, two processes at once, SIGTERM, and the job's command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.mcp.order_execution import JournalLocked, OrderState, ReliableOrderExecutor
from tests.integration.bot import config, params
from tests.integration.processes import ROOT, book, bot, job, lines


def wait_for(process: subprocess.Popen[str], word: str) -> list[str]:
    """Read until a line begins with the word."""
    read = []
    for line in lines(process):
        read.append(line)
        if line.startswith(word):
            return read
    pytest.fail(f"never said {word}: {read}")


async def test_a_restart_gives_the_same_answers(tmp_path: Path) -> None:
    """Order, fills and refusals come from the journal."""
    async with ReliableOrderExecutor(config(tmp_path, {})) as executor:
        order_id = await executor.execute_order(params(0))
        market = {"symbol": "ETH/USD", "side": "buy", "type": "market", "amount": "0.1", "client_order_id": "m"}
        await executor.execute_order(market)
        before = await executor.wait_for_order("m", timeout=10)
    async with ReliableOrderExecutor(config(tmp_path, {})) as executor:
        assert await executor.execute_order(params(0)) == order_id
        assert await executor.execute_order(market) == "m"
        after = await executor.get_order_status("m")
        assert (after.state, after.fills, after.fees) == (before.state, before.fills, dict(before.fees))
        assert (await executor.order_history("m"))[0]["kind"] == "intent"
    assert {name: len(found) for name, found in book(tmp_path).items()} == {order_id: 1, "m": 1}


def test_sigterm_ends_a_bot_cleanly(tmp_path: Path) -> None:
    """Within seconds, with everything accounted for, and the next life has nothing to resolve."""
    with bot(tmp_path, 20, {"lost_reply": 0.3, "latency_seconds": [0.0, 0.2]}, "--hold") as process:
        wait_for(process, "open")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 143, (out, err)
        assert "Traceback" not in err

    async def look() -> None:
        async with ReliableOrderExecutor(config(tmp_path, {})) as executor:
            assert (await executor.get_execution_stats()).unresolved_orders == 0
            assert (await executor.reconcile_orders()).is_clean

    asyncio.run(look())


def test_a_second_writer_is_refused_and_a_job_only_reports(tmp_path: Path) -> None:
    """The error names the journal; the job beside a running bot compares, and leaves repairs to it."""
    with bot(tmp_path, 5, {}, "--hold") as process:
        wait_for(process, "done")

        async def second() -> None:
            executor = ReliableOrderExecutor(config(tmp_path, {}))
            with pytest.raises(JournalLocked, match=str(process.pid)):
                await executor.open()
            await executor.close()

        asyncio.run(second())
        result = job(tmp_path, "--run-once", "--json", config={"executor": config(tmp_path, {})})
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        assert (report["read_only"], report["total_orders"], report["matched_orders"]) == (True, 5, 5)


def test_the_job_works_in_an_empty_directory(tmp_path: Path) -> None:
    """No configuration needed; the report file is there afterwards."""
    result = job(tmp_path, "--run-once")
    assert result.returncode == 0, result.stderr
    assert "Everything is accounted for" in result.stdout
    assert len(json.loads((tmp_path / "reconciliation_reports.json").read_text())) == 1
    assert result.stderr == ""


async def test_the_job_finds_and_repairs_what_differs(tmp_path: Path) -> None:
    """Exit code 1, and 0 the next time."""
    async with ReliableOrderExecutor(config(tmp_path, {})) as executor:
        order_id = await executor.execute_order(params(0))
    journal = {"journal": {"url": f"sqlite:///{tmp_path / 'other.db'}"}}
    other = {"executor": {**config(tmp_path, {}), **journal}}
    first = await asyncio.to_thread(job, tmp_path, "--run-once", "--json", config=other)
    assert first.returncode == 1, first.stderr
    assert json.loads(first.stdout)["details"][0]["order_id"] == order_id
    assert (await asyncio.to_thread(job, tmp_path, "--run-once", config=other)).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "config", "code", "words"),
    [
        (["--nonsense"], None, 2, "usage"),
        (["--run-once"], {"schedule": {"interval": "yearly"}}, 2, "schedule.interval"),
        (["--run-once"], {"executor": {"retry": {"max_retries": -1}}}, 2, "executor.retry.max_retries"),
        (["--run-once", "--config", "missing.toml"], None, 2, "missing.toml"),
        (
            ["--run-once"],
            {"executor": {"gateway": {"paper": {"faults": {"refused_connection": 1.0}}}}},
            75,
            "did not answer",
        ),
    ],
)
def test_exit_codes_mean_something(
    tmp_path: Path, arguments: list[str], config: dict[str, object] | None, code: int, words: str
) -> None:
    """2 for usage and configuration, 75 for an exchange that is out of reach."""
    result = job(tmp_path, *arguments, config=config)
    assert result.returncode == code, (result.stdout, result.stderr)
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_sigterm_ends_the_scheduled_job(tmp_path: Path) -> None:
    """Within seconds, with exit code 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.mcp.order_execution.reconciliation_job"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Scheduler started" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "Traceback" not in err


async def test_an_order_can_be_followed_to_its_end(tmp_path: Path) -> None:
    """Cancelled at the real paper exchange."""
    async with ReliableOrderExecutor(config(tmp_path, {"lost_reply": 0.5})) as executor:
        order_id = await executor.execute_order(params(0))
        assert await executor.cancel_order(order_id)
        assert (await executor.get_order_status(order_id)).state is OrderState.CANCELED
