"""One case: a bot's lives and deaths on one local Nobitex, and the comparison with the exchange's own book."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from services.mcp.order_execution.sandbox import SandboxSettings
from tests.kills.cases import Broken, end_of, start
from tests.nobitex_kills import bot
from tests.nobitex_kills.bot import Plan, Times
from tests.nobitex_kills.exchange import pause, served
from tests.nobitex_kills.intents import draw_intents, prices

AUTHS = ("key", "token")
LAST = 99
"""The number of the last life."""
LAST_LIFE_SECONDS = 150.0
LOOKUP_LAG_SECONDS = 0.2
DUPLICATE_SECONDS = 1.0
SKEW_SECONDS = 20.0
SHARES = {
    "lost_request": 1, "lost_reply": 2, "late_arrival": 3, "rate_limited": 1, "bare_429": 1, "server_error": 1,
    "garbled_reply": 1, "refused_connection": 1, "hang": 1,
}  # fmt: skip
"""Every fault of the wire, by its part of all faults: what doubles orders comes more often."""
WRITES = ["/market/orders/add", "/market/orders/update-status"]
FINAL = {"Done": "filled", "Canceled": "canceled"}


@dataclass(frozen=True, slots=True)
class Case:
    """What a seed and a scheme of authentication decide."""

    auth: str
    seed: int

    def __str__(self) -> str:
        return f"{self.auth}:{self.seed}"

    @property
    def skewed(self) -> bool:
        """The exchange's clock is off ours, so that signing depends on what its Date header tells."""
        return self.seed % 4 == 3

    @property
    def twins(self) -> bool:
        """Some orders come twice under two ids, which Nobitex refuses."""
        return self.seed % 2 == 1


@dataclass(slots=True)
class Outcome:
    """What a case came to."""

    case: Case
    kills: int = 0
    orders: int = 0
    """How many the exchange booked."""
    requests: int = 0
    unresolved: int = 0
    """How often a caller was told so."""
    seconds: float = 0.0
    problem: str | None = None


def times_of(case: Case) -> Times:
    """Nobitex's times, some ten times shorter. Where clocks differ, a whole-second header needs a wider window."""
    if case.auth == "token":
        return Times(window=3.0, late_max=1.2, settle=2.2)
    window = 5.5 if case.skewed else 4.0
    return Times(window=window, late_max=window + 1.0, settle=0.4)


def settings_of(case: Case) -> SandboxSettings:
    """The sandbox of a case; its market moves, and its times are those of the bot's configuration."""
    return SandboxSettings(
        path=Path(":memory:"),
        port=0,
        seed=case.seed,
        limits=None,
        signature_window_seconds=times_of(case).window,
        duplicate_seconds=DUPLICATE_SECONDS,
        block_seconds=0.5,
        stream_seconds=0.05,
    )


def weather_of(case: Case, rng: random.Random) -> dict[str, Any]:
    """Every fault of the wire at once, in different strengths; in a third of the cases writes alone meet them."""
    only = rng.random() < 0.34
    rate = rng.choice((0.4, 0.7) if only else (0.15, 0.35)) / sum(SHARES.values())
    faults: dict[str, Any] = {name: part * rate for name, part in SHARES.items()}
    faults |= {
        "only": WRITES if only else [],
        "late_seconds_max": times_of(case).late_max,
        "hang_seconds": 0.1,
        "retry_after_seconds": 0.05,
        "latency_seconds": [0.0, rng.choice((0.02, 0.15))],
        "lookup_lag_seconds": LOOKUP_LAG_SECONDS,
        "new_seconds": 0.1,
        "cancel_lag_seconds": rng.choice((0.0, 0.3)),
        "system_cancel": 0.03,
        "lost_event": 0.2,
        "doubled_event": 0.2,
        "stream_reset": 0.05,
        **calm_of(case),
    }
    if rng.random() < 0.4:
        kinds = ["refused", "timeout", "server_error"]
        outage = {"after_seconds": rng.uniform(0.1, 1.0), "for_seconds": 0.6, "kind": rng.choice(kinds)}
        faults["outages"] = [outage]
    return faults


def calm_of(case: Case) -> dict[str, Any]:
    """Good weather: no fault; a clock that is off stays so."""
    return {"clock_offset_seconds": random.Random(case.seed).choice((-1, 1)) * SKEW_SECONDS if case.skewed else 0.0}


def run_case(case: Case, root: Path | None = None) -> Outcome:
    """Live, die, live again with the same list, and compare. Files are below ``root``, or among temporary ones."""
    outcome = Outcome(case)
    rng = random.Random(str(case))
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="nobitex-kill-", dir=root))
    try:
        with served(settings_of(case), directory / "sandbox.txt") as exchange:
            exchange.set_faults(calm_of(case))
            intents = draw_intents(rng, rng.choice((6, 12, 20)), prices(exchange), twins=case.twins)
            plan = Plan(exchange, case.auth, times_of(case), directory, intents)
            _deaths(plan, case, rng, outcome)
            exchange.set_faults(calm_of(case))
            _last_life(replace(plan, life=LAST, last=True), outcome)
    except Broken as error:
        outcome.problem = str(error)
    except Exception:  # noqa: BLE001 - a case that cannot be judged is told with its name, and the others go on
        outcome.problem = traceback.format_exc()
    outcome.seconds = time.monotonic() - started
    if outcome.problem is None or os.environ.get("KEEP_KILLS") != "1":
        shutil.rmtree(directory, ignore_errors=True)
    else:
        outcome.problem += f" ({directory})"
    return outcome


def _last_life(plan: Plan, outcome: Outcome) -> None:
    """Live in good weather to the end, and hold the book against what is known and was told. Raises Broken."""
    code = end_of(start(partial(bot.live, plan), plan.directory / "log.txt"), LAST_LIFE_SECONDS)
    if code:
        raise Broken(f"the last life ended with {code}: {_log(plan)}")
    report = json.loads((plan.directory / "report.json").read_text())
    told = [json.loads(line) for line in (plan.directory / "told.jsonl").read_text().splitlines()]
    outcome.orders = len(report["book"]["orders"])
    outcome.requests = sum(report["book"]["requests"].values())
    outcome.unresolved = sum(item["verdict"] == "OrderUnresolved" for item in told)
    compare(outcome.case, {intent.name: intent.kind for intent in plan.intents}, report, told)


def _log(plan: Plan) -> str:
    return (plan.directory / "log.txt").read_text()[-1500:]


def _deaths(plan: Plan, case: Case, rng: random.Random, outcome: Outcome) -> None:
    """Lives in bad weather, each ended by SIGKILL: early, amid it all, or while an earlier life is resolved."""
    for life in range(1, rng.randint(1, 4) + 1):
        plan.exchange.set_faults(weather_of(case, rng))
        child = start(partial(bot.live, replace(plan, life=life)), plan.directory / "log.txt")
        pause(child, rng.uniform(*rng.choice(((0.02, 0.5), (0.3, 1.2), (1.0, 4.0)))))
        os.kill(child, signal.SIGKILL)
        code = end_of(child)
        if code != -signal.SIGKILL:
            raise Broken(f"life {life} ended with {code}: {_log(plan)}")
        outcome.kills += 1


# ---- the comparison ---------------------------------------------------------------------------------------


def compare(case: Case, kinds: dict[str, str], report: dict[str, Any], told: list[dict[str, Any]]) -> None:
    """The exchange's own book against the journal and against what callers were told. Raises Broken."""
    if report["locked"]:
        raise Broken("the gateway takes its keys for bad ones")
    book = _only_copies(kinds, report)
    for name, order in report["orders"].items():
        _same(f"{name} ({kinds[name]})", order, book.get(name))
    skew = _skew_of(case)
    for item in told:
        _true(f"{item['intent']} ({kinds[item['intent']]})", item, book.get(item["intent"]), skew)
    if report["second"] or report["repaired"]:
        raise Broken(f"a second reconciliation finds {report['second']}, and repairs {report['repaired']}")
    if report["first"]:
        raise Broken(f"a reconciliation finds {report['first']}")
    if report["undecidable"] or report["unsettled"]:
        raise Broken(f"undecidable: {report['undecidable']}, not settled: {report['unsettled']}")
    _answered(kinds, told, book)


def _only_copies(kinds: dict[str, str], report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The book by our ids: one order each, all of them known and wanted. Raises Broken."""
    copies: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in report["book"]["orders"]:
        copies[entry["clientOrderId"]].append(entry)
    for name, entries in copies.items():
        if name not in kinds:
            raise Broken(f"{name} is at the exchange, and nobody wanted it")
        if len(entries) > 1:
            raise Broken(f"{name} ({kinds[name]}) exists {len(entries)} times")
        if name not in report["orders"]:
            raise Broken(f"{name} ({kinds[name]}) is at the exchange, and not in the journal")
    return {name: entries[0] for name, entries in copies.items()}


def _skew_of(case: Case) -> float:
    """By how much the exchange's timestamps are ahead of ours."""
    return float(calm_of(case)["clock_offset_seconds"])


def _same(name: str, order: dict[str, Any], seen: dict[str, Any] | None) -> None:
    """One order in the journal and in the book. Raises Broken."""
    if order["state"] in ("unknown", "sending", "pending", "canceling"):
        raise Broken(f"{name} is still {order['state']}")
    if seen is None:
        if order["state"] not in ("rejected", "expired", "canceled") or Decimal(order["filled"]):
            raise Broken(f"{name} is {order['state']} and does not exist")
        return
    filled = Decimal(seen["filled"])
    state = FINAL.get(seen["status"], "partially_filled" if filled else "open")
    if (order["state"], order["exchange_order_id"]) != (state, str(seen["id"])):
        ours = f"{order['state']} as {order['exchange_order_id']}"
        raise Broken(f"{name} is {ours} here, and {state} as {seen['id']} at the exchange")
    fills = {fill["trade_id"]: Decimal(fill["amount"]) for fill in order["fills"]}
    theirs = {f"{trade['id']}-{seen['id']}": Decimal(trade["amount"]) for trade in seen["trades"]}
    if fills != theirs or len(order["fills"]) != len(fills) or Decimal(order["filled"]) != filled:
        raise Broken(f"{name}: {order['filled']} by {fills} here, and {filled} by {theirs} at the exchange")


def _true(name: str, told: dict[str, Any], seen: dict[str, Any] | None, skew: float) -> None:
    """What one caller was told, in whichever life, still holds at the end. Raises Broken."""
    verdict = told["verdict"]
    who = f"{name} was told {verdict} in life {told['life']}"
    if verdict == "placed" and seen is None:
        raise Broken(f"{who} and does not exist")
    if verdict == "OrderRejected" and seen is not None:
        raise Broken(f"{who} and exists")
    if verdict == "canceled" and seen is not None:
        booked = datetime.fromisoformat(seen["created_at"]).timestamp() - skew
        if seen["status"] not in FINAL or booked > told["at"]:
            raise Broken(f"{who}, and is {seen['status']}, booked {booked - told['at']:.3f} s after that")
        last = max((datetime.fromisoformat(trade["at"]).timestamp() for trade in seen["trades"]), default=0.0)
        if last - skew > told["at"]:
            raise Broken(f"{who}, and traded {last - skew - told['at']:.3f} s after that")
    if verdict == "final" and told["state"] != "rejected":
        known = None if seen is None else (FINAL.get(seen["status"]), Decimal(seen["filled"]))
        nothing = seen is None and told["state"] in ("expired", "canceled") and not Decimal(told["filled"])
        if known != (told["state"], Decimal(told["filled"])) and not nothing:
            raise Broken(f"{who}: {told['state']}, {told['filled']} filled, and it is {known}")


def _answered(kinds: dict[str, str], told: list[dict[str, Any]], book: dict[str, Any]) -> None:
    """In the last life, in good weather, every order was placed or refused for good; and nothing lacks a reason."""
    last = {item["intent"]: item for item in told if item["life"] == LAST and item["verdict"] not in _ASIDE}
    for name, kind in kinds.items():
        verdict = last.get(name, {}).get("verdict")
        canceled = any(item["intent"] == name and item["verdict"] == "canceled" for item in told)
        refusable = kind in ("crossed stop", "twin") or canceled
        if verdict != "placed" and not (verdict == "OrderRejected" and refusable):
            raise Broken(f"{name} ({kind}) was told {last.get(name)} in good weather")
        if (verdict == "placed") != (name in book):
            raise Broken(f"{name} ({kind}) was told {verdict} and is {'' if name in book else 'not '}in the book")


_ASIDE = frozenset({"canceled", "not canceled", "final"})
