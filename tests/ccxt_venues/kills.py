"""Kill bots that trade through the ccxt gateway: ``python -m tests.ccxt_venues.kills --kills 200``.

A bot is killed with SIGKILL at random moments while its requests meet faults at the wire. After its last life the
venue's own book is compared with what the bot's journal says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from tests.ccxt_venues.bot import Life, live
from tests.ccxt_venues.faults import Fate
from tests.ccxt_venues.process import Remote, make, venues
from tests.ccxt_venues.server import DIALECTS
from tests.kills.cases import Broken, end_of, start

EXCHANGES = tuple(DIALECTS)
FATES = ["rest", "rest", "fill", "part", "die"]
OPERATIONS = ("create", "cancel", "query", "open", "closed", "trades", "balances", "ticker")
"""What meets faults; a bot that cannot even learn the markets does nothing that could be judged."""
FAULTS = tuple(fate for fate in Fate if fate not in (Fate.DELIVERED, Fate.LIMITED))
"""Every one but the throttle without a word of how long: it makes bots wait for ten seconds."""
ORDERS = 12
FIRST_LIVES_SECONDS = 4.0
LAST_LIFE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Case:
    """What a seed decides."""

    exchange: str
    seed: int

    def __str__(self) -> str:
        return f"{self.exchange}:{self.seed}"


@dataclass(slots=True)
class Outcome:
    """What a case came to."""

    case: Case
    kills: int = 0
    orders: int = 0
    problem: str | None = None


def weather(rate: float, *, at_door: bool) -> dict[str, Any]:
    """Every fault alike, and one request in so many meets one."""
    return {
        "rates": {fate.value: rate / len(FAULTS) for fate in FAULTS},
        "only": OPERATIONS,
        "hang": 2.0,
        "late": [0.02, 0.3],
        "late_checked_at_door": at_door,
        "retry_after": "0",
    }


def intents_of(rng: random.Random, symbol: str, number: int) -> list[dict[str, Any]]:
    """What the bot wants."""
    made = []
    for index in range(number):
        limit = rng.random() < 0.8
        intent = {
            "client_order_id": f"o{index}",
            "symbol": symbol,
            "side": rng.choice(["buy", "sell"]),
            "type": "limit" if limit else "market",
            "amount": "0.01",
        }
        if limit:
            intent["price"] = "45000" if intent["side"] == "buy" else "55000"
        made.append(intent)
    return made


def run_case(control: str, case: Case, root: Path | None = None) -> Outcome:
    """Live, die, live again, and compare."""
    outcome = Outcome(case)
    rng = random.Random(str(case))
    remote = make(control, case.exchange, seed=case.seed, lag=0.03)
    remote.ask("fates", seed=case.seed, fates=FATES)
    remote.ask("faults", **weather(rng.choice([0.2, 0.5]), at_door=rng.random() < 0.5))
    directory = Path(tempfile.mkdtemp(prefix="ccxt-kill-", dir=root))
    life = Life(case.exchange, remote, directory, intents_of(rng, remote.symbol, ORDERS), cancel="o0")
    log = directory / "log.txt"
    try:
        for _ in range(rng.choice([1, 1, 3])):
            outcome.kills += _lives_and_dies(life, log, rng)
            if rng.random() < 0.5:
                remote.ask("fill", half=True)
        remote.ask("faults")
        _end_well(replace(life, last=True), log)
        book = remote.book()
        outcome.orders = len(book)
        compare(directory, book, remote)
    except Broken as error:
        outcome.problem = str(error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return outcome


def _end_well(life: Life, log: Path) -> None:
    code = end_of(start(partial(live, life), log), LAST_LIFE_SECONDS)
    if code:
        raise Broken(f"the last life ended with {code}: {log.read_text()[-1500:]}")


def _lives_and_dies(life: Life, log: Path, rng: random.Random) -> bool:
    """Whether it was killed: by the venue, some time after a request; else it came to its end."""
    child = start(partial(live, life), log)
    operation = rng.choice(["create", "create", "query" if life.exchange != "kraken" else "open", "cancel"])
    after = rng.randint(1, ORDERS) if operation == "create" else 1
    life.remote.ask("arm", pid=child, operation=operation, after=after, delay=rng.choice([0.0, 0.01, 0.1, 0.4]))
    try:
        return end_of(child, FIRST_LIVES_SECONDS) == -signal.SIGKILL
    except Broken:
        return True  # it had lived for too long, and was killed for that
    finally:
        life.remote.ask("dismiss")


def compare(directory: Path, book: list[dict[str, Any]], remote: Remote) -> None:
    """The venue's own book against the report of the last life. Raises Broken."""
    report = json.loads((directory / "report.json").read_text())
    told = [json.loads(line) for line in (directory / "told.jsonl").read_text().splitlines()]
    by_name = _once_each(book)
    for name, order in report["orders"].items():
        _same(name, order, by_name.get(name))
    for name in by_name.keys() - report["orders"].keys():
        raise Broken(f"{name} is at the exchange and not known here")
    for answer in told:
        _true(answer, by_name.get(answer["intent"]))
    _clean(report)
    for item in remote.ask("requests"):
        if item["operation"] == "create" and item["client_id"] not in report["orders"]:
            raise Broken(f"a request to place an order carries {item['client_id']}")


def _once_each(book: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    by_name: dict[str, dict[str, Any]] = {}
    for entry in book:
        if entry["client_id"] is None:
            raise Broken(f"{entry['id']} has no client id")
        if entry["client_id"] in by_name:
            raise Broken(f"{entry['client_id']} exists twice")
        by_name[entry["client_id"]] = entry
    return by_name


def _clean(report: dict[str, Any]) -> None:
    if report["undecidable"]:
        raise Broken(f"undecidable: {report['undecidable']}")
    if any(item["kind"] != "balance" for item in report["first"]):
        raise Broken(f"a reconciliation finds {report['first']}")
    if report["second"] or report["repaired"]:
        raise Broken(f"a second reconciliation finds {report['second']}")


def _same(name: str, order: dict[str, Any], entry: dict[str, Any] | None) -> None:
    if entry is None:
        if order["state"] not in ("rejected", "expired", "canceled") or Decimal(order["filled"]):
            raise Broken(f"{name} is {order['state']} and does not exist")
        return
    states = {
        "open": ("open", "partially_filled"),
        "filled": ("filled",),
        "canceled": ("canceled",),
        "expired": ("expired", "canceled"),
    }
    if order["state"] not in states[entry["status"]]:
        raise Broken(f"{name} is {order['state']} here and {entry['status']} at the exchange")
    if order["exchange_order_id"] != entry["id"]:
        raise Broken(f"{name} is {order['exchange_order_id']} here and {entry['id']} at the exchange")
    if Decimal(order["filled"]) != Decimal(entry["filled"]):
        raise Broken(f"{name}: filled {order['filled']} here and {entry['filled']} at the exchange")
    if sum((Decimal(fill["amount"]) for fill in order["fills"]), Decimal(0)) != Decimal(entry["filled"]):
        raise Broken(f"{name}: the fills do not add up to {entry['filled']}")


def _true(answer: dict[str, Any], entry: dict[str, Any] | None) -> None:
    """What a caller was told, in whatever life, still holds."""
    name, verdict = answer["intent"], answer["verdict"]
    if verdict == "placed" and entry is None:
        raise Broken(f"{name} was told to be placed and does not exist")
    if verdict == "OrderRejected" and entry is not None:
        raise Broken(f"{name} was told to be rejected and exists")
    silent = verdict in ("placed", "canceled", "not canceled", "OrderUnresolved")
    if not silent and entry is not None and entry["created"] / 1000 <= answer["at"]:
        raise Broken(f"{name} was told {verdict}, when it was out already")


# ---- the command ------------------------------------------------------------------------------------------


def cases(first: int) -> Iterable[Case]:
    """Each exchange in turn."""
    return (Case(exchange, seed) for seed in count(first) for exchange in EXCHANGES)


def _run(given: tuple[str, Case]) -> Outcome:
    return run_case(*given)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. 0: no violation, 1: a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.ccxt_venues.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many")
    parser.add_argument("--cases", type=int, help="so many cases, however many bots die in them")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="bots at once")
    parser.add_argument("--case", help="run this one alone, such as kraken:7")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if given.case is not None:
        exchange, seed = given.case.split(":")
        wanted: list[Case] = [Case(exchange, int(seed))]
    else:
        wanted = list(islice(cases(given.first), given.cases or 2 * given.kills))
    kills: Counter[str] = Counter()
    broken = orders = 0
    with venues() as control, multiprocessing.get_context("fork").Pool(given.jobs) as pool:
        for outcome in pool.imap_unordered(_run, [(control, case) for case in wanted]):
            kills[outcome.case.exchange] += outcome.kills
            orders += outcome.orders
            if outcome.problem:
                broken += 1
                sys.stdout.write(f"{outcome.case}: {outcome.problem}\n")
            if kills.total() >= given.kills and not given.cases:
                pool.terminate()
                break
    summary = {"kills": dict(kills), "orders": orders, "violations": broken}
    sys.stdout.write(json.dumps(summary) + "\n" if given.json else f"{summary}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
