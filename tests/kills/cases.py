"""One case: a bot's lives and deaths on one account, and the comparison of its record with the exchange's book."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from tests.kills import bot
from tests.kills.bot import Plan
from tests.kills.kinds import TRAITS
from tests.kills.orphans import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
LIFE_SECONDS = 40.0
LIFE = (
    *("balances", "committing intent", "submit", "appending accepted", "appending fill", "telling placed"),
    *("committing cancel_requested", "cancel", "query", "appending closed", "telling canceled"),
)
NAMED = tuple(f"{when} {what}" for what in LIFE for when in ("before", "after"))
"""The points of one order's life by name, since their numbers shift a little with what runs at the same time."""
VERDICTS = (
    "after telling OrderRejected",
    "before telling OrderRejected",
    "after telling OrderUnresolved",
    "after telling placed",
    "after telling canceled",
    "after committing cancel_requested",
)
"""Points that some lives alone have. What a caller was told there must hold after the bot was killed there."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a seed and a way of dying decide."""

    seed: int
    way: str
    """named (a point of NAMED); point (by number); again (a point of the life after one that was killed); random;
    twice; stop; beside (random, with a reconciliation beside it); or verdict (a point of VERDICTS)."""
    step: int = 0

    def __str__(self) -> str:
        return f"{self.way}:{self.seed}:{self.step}"


@dataclass(slots=True)
class Outcome:
    """What a case came to."""

    case: Case
    kills: int = 0
    steps: int = 0
    """How many steps the life had that was not killed."""
    points: list[str] = field(default_factory=list)
    """The named points at which the bot died."""
    problem: str | None = None


class Broken(AssertionError):
    """The promise was broken."""


@contextmanager
def exchange() -> Iterator[str]:
    """The exchange, in a process of its own; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kills.server", str(os.getpid())],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.kill()  # forked bots may still hold the other end of its input
        process.wait(10)
        process.stdout.close()


def ask(url: str, method: str, **body: Any) -> dict[str, Any]:
    """An operator's request, on which nothing goes wrong."""
    request = urllib.request.Request(f"{url}/{method}", data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    return answer


def intents_of(rng: random.Random, count: int, *, limit_only: bool) -> list[dict[str, Any]]:
    """What the bot wants."""
    made = []
    for number in range(count):
        limit = rng.random() < 0.7 or limit_only
        made.append(
            {
                "client_order_id": f"o{number}",
                "symbol": "BTC/USD",
                "side": rng.choice(["buy", "sell"]),
                "type": "limit" if limit else "market",
                "amount": "0.01",
                **({"price": "50000"} if limit else {}),
            }
        )
    return made


# ---- lives ------------------------------------------------------------------------------------------------


def start(work: Callable[[], Any], log: Path) -> int:
    """Run a coroutine in a process of its own, made by a fork so that its start costs nothing."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        die_with_parent(parent)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 2)
        logging.disable(logging.CRITICAL)
        asyncio.run(work())
        code = 0
    except BaseException as error:  # noqa: BLE001 - it goes to the log and the exit code
        import traceback

        traceback.print_exception(error)
    finally:
        sys.stderr.flush()
        os._exit(code)


def end_of(child: int, seconds: float = LIFE_SECONDS) -> int:
    """Wait for a process: its exit code, or minus the signal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise Broken(f"a life did not end within {seconds:g} s")


def run_case(base: str, case: Case, root: Path | None = None) -> Outcome:
    """Live, die, live again, and compare. The bot's files are below ``root``, or among temporary ones."""
    outcome = Outcome(case)
    rng = random.Random(f"{case.way}{case.seed}")
    directory = Path(tempfile.mkdtemp(prefix="kill-", dir=root))
    url = f"{base}/{case.way}-{case.seed}-{case.step}-{os.getpid()}"
    single = case.way in ("named", "point", "again", "verdict")
    kind = list(TRAITS)[case.seed % len(TRAITS)] if single else rng.choice(list(TRAITS))
    calm = case.way in ("named", "point", "again") and case.seed < len(TRAITS)
    rate = 0.0 if calm else rng.choice([0.1, 0.3])
    # An order that trades a part and then rests has all of a life: fills to book, and something to cancel.
    fate = "part" if calm or case.way == "verdict" else None
    ask(url, "make", kind=kind, seed=case.seed, rate=rate, fate=fate)
    count = 1 if single else 50 if case.seed % 10 == 0 else 12
    plan = Plan(url, kind, directory, intents_of(rng, count, limit_only=fate is not None), cancel="o0")
    try:
        _deaths(plan, case, rng, outcome)
        ask(url, "weather", rate=0.0)
        code = end_of(start(lambda: bot.live(replace(plan, last=True)), directory / "log.txt"))
        _ended_well(code, "the last life", directory / "log.txt")
        outcome.steps = _steps_of_first_life(directory / "steps.txt")
        outcome.points = _deadly_points(directory / "steps.txt")
        compare(plan, ask(url, "book")["entries"])
    except Broken as error:
        outcome.problem = str(error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return outcome


def _deaths(plan: Plan, case: Case, rng: random.Random, outcome: Outcome) -> None:
    if case.way in ("named", "verdict", "point", "again"):
        for life in _lives_to_a_point(plan, case, rng):
            code = end_of(start(partial(bot.live, life), plan.directory / "log.txt"))
            outcome.kills += code == -signal.SIGKILL
        if rng.random() < 0.5:
            ask(plan.url, "trade")
    else:
        _deaths_at_any_moment(plan, case, rng, outcome)


def _lives_to_a_point(plan: Plan, case: Case, rng: random.Random) -> list[Plan]:
    """The lives that end at a point, in their order."""
    if case.way == "named":
        return [replace(plan, die_when=NAMED[case.step], in_turn=True)]
    if case.way == "verdict":
        # Each copy of the order is lost on its way, so that its caller is told what no exchange can tell again.
        lost = case.step < 3
        ask(plan.url, "weather", rate=float(lost), faults=["reset before"], methods=["submit"])
        return [replace(plan, die_when=VERDICTS[case.step], cancel=None if lost else plan.cancel)]
    lives = [replace(plan, die_at=case.step)]
    return [replace(plan, die_at=rng.randint(4, 9)), *lives] if case.way == "again" else lives


def _deaths_at_any_moment(plan: Plan, case: Case, rng: random.Random, outcome: Outcome) -> None:
    log = plan.directory / "log.txt"
    watcher = None
    if case.way == "beside":
        watcher = start(lambda: bot.watch(plan, 1.0), log)
    for _ in range(3 if case.way == "twice" else 1):
        child = start(lambda: bot.live(plan), log)
        time.sleep(rng.uniform(0.0, 0.25) if case.way == "twice" else rng.uniform(0.0, 0.6))
        if case.way == "stop":
            os.kill(child, signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 1.2))
            os.kill(child, signal.SIGCONT)
            time.sleep(rng.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        outcome.kills += end_of(child) == -signal.SIGKILL
        if rng.random() < 0.5:
            ask(plan.url, "trade")
    if watcher is not None:
        _ended_well(end_of(watcher), "the reconciliation beside the bot", log)


def _ended_well(code: int, who: str, log: Path) -> None:
    if code:
        raise Broken(f"{who} ended with {code}: {log.read_text()[-1500:]}")


def _steps_of_first_life(log: Path) -> int:
    points = log.read_text().splitlines()
    ends = [number for number, point in enumerate(points, 1) if point.endswith((" the end", ": killed"))]
    return ends[0] if ends else len(points)


def _deadly_points(log: Path) -> list[str]:
    lines = log.read_text().splitlines()
    return [line.split(" ", 1)[1].removesuffix(": killed") for line in lines if line.endswith(": killed")]


# ---- the comparison ---------------------------------------------------------------------------------------


def compare(plan: Plan, entries: list[dict[str, Any]]) -> None:
    """The exchange's own book against the report of the last life. Raises Broken."""
    report = json.loads((plan.directory / "report.json").read_text())
    told = [json.loads(line) for line in (plan.directory / "told.jsonl").read_text().splitlines()]
    book: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry["intent"] in book:
            raise Broken(f"{entry['intent']} exists twice")
        book[entry["intent"]] = entry["order"]
    undecidable = set() if TRAITS[plan.kind].can_resolve else set(report["undecidable"])
    for name, order in report["orders"].items():
        # Where the exchange cannot be asked, the order is reported so, and not guessed.
        if name not in undecidable:
            _same(name, order, book.get(name))
        elif order["state"] != "unknown":
            raise Broken(f"{name} is {order['state']} and reported as undecidable")
    for name in book.keys() - report["orders"].keys():
        raise Broken(f"{name} is at the exchange and not known here")
    _nothing_false_was_told(told, {entry["intent"]: entry["left_at"] for entry in entries})
    if report["second"] or report["repaired"]:
        raise Broken(f"a second reconciliation finds {report['second']}")
    if not undecidable and any(item["kind"] != "balance" for item in report["first"]):
        raise Broken(f"a reconciliation finds {report['first']}")


def _nothing_false_was_told(told: list[dict[str, Any]], left_at: dict[str, float]) -> None:
    """What callers were told, in any life, against when the orders that exist left. Raises Broken."""
    births = [answer["at"] for answer in told if not answer["intent"]]
    for answer in told:
        name, verdict, at = answer["intent"], answer["verdict"], answer["at"]
        left = left_at.get(name)
        if verdict == "placed" and left is None:
            raise Broken(f"{name} was told to be placed and does not exist")
        if verdict == "OrderRejected" and left is not None:
            raise Broken(f"{name} was told to be rejected and exists")
        if left is None:
            continue
        if verdict not in ("placed", "canceled", "not canceled", "OrderUnresolved") and left <= at:
            raise Broken(f"{name} was told {verdict}, when it was out already")
        # A later life executes the order again; the life that was told that it is canceled does not.
        if verdict == "canceled" and at < left < min(
            (birth for birth in births if birth > at), default=float("inf")
        ):
            raise Broken(f"{name} was told to be canceled and was sent after that")


def _same(name: str, order: dict[str, Any], seen: dict[str, Any] | None) -> None:
    if order["state"] in ("unknown", "sending", "pending"):
        raise Broken(f"{name} is still {order['state']}")
    if seen is None:
        if order["state"] not in ("rejected", "expired", "canceled") or Decimal(order["filled"]):
            raise Broken(f"{name} is {order['state']} and does not exist")
        return
    for part in ("exchange_order_id", "state", "filled"):
        ours, theirs = order[part], seen[part]
        same = Decimal(ours) == Decimal(theirs) if part == "filled" else ours == theirs
        if not same:
            raise Broken(f"{name}: {part} is {ours} here and {theirs} at the exchange")
    trades = [[fill["trade_id"] for fill in side["fills"]] for side in (order, seen)]
    if sorted(trades[0]) != sorted(trades[1]) or len(set(trades[0])) != len(trades[0]):
        raise Broken(f"{name}: the fills are {trades[0]} here and {trades[1]} at the exchange")
