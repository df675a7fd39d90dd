"""The exchange's counter: time that passes lazily, requests under way, lists, and several processes at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.mcp.order_execution.errors import ConfigurationError
from services.mcp.order_execution.models import OrderState, Side
from services.mcp.order_execution.paper_exchange import exchange as module
from services.mcp.order_execution.paper_exchange.exchange import PaperExchange
from services.mcp.order_execution.paper_exchange.market import USD_PRICES
from services.mcp.order_execution.paper_exchange.records import Funds, OrderReport, Refused, Trade
from services.mcp.order_execution.paper_exchange.requests import CancelRequest
from services.mcp.order_execution.paper_exchange.schema import ExchangeDown
from services.mcp.order_execution.paper_exchange.settings import PaperSettings
from tests.unit.paper_exchange.desk import BTC, D, Desk, ManualClock, check_books

ROOT = Path(__file__).resolve().parents[3]
RICH = {"USD": D(10_000_000), "BTC": D(1000)}


def ids(reports: object) -> list[str]:
    assert isinstance(reports, list)
    return [report.order.client_order_id for report in reports]


def trades(found: object) -> list[Trade]:
    assert isinstance(found, list)
    return found


# ---- funds and facts --------------------------------------------------------------------------------------


def test_an_account_starts_with_plenty_of_everything() -> None:
    """Common currencies are there at once, others from their first use."""
    desk = Desk()
    account = desk.exchange.balances()
    assert isinstance(account, dict)
    assert set(account) == set(USD_PRICES)
    assert account["USD"] == Funds(D(1_000_000))
    assert account["BTC"] == Funds(D(15))
    assert desk.exchange.rules("NEWCOIN/USD") is not None
    assert desk.funds("NEWCOIN").total > 0


def test_given_balances_are_all_there_is() -> None:
    """Whatever is asked for or traded."""
    desk = Desk(balances={"USD": "1000"})
    assert desk.exchange.rules("ETH/USD") is not None
    assert desk.exchange.balances() == {"USD": Funds(D(1000))}
    assert desk.refusal("sell", "1", symbol="ETH/USD") == "insufficient_funds"


def test_nothing_is_told_about_what_is_no_symbol() -> None:
    """No rules, no prices, no depth."""
    exchange = Desk().exchange
    assert exchange.rules("btc/usd") is exchange.quote("btc/usd") is exchange.depth("btc/usd") is None


# ---- time -------------------------------------------------------------------------------------------------


def test_a_reopened_exchange_goes_on_where_it_was(tmp_path: Path) -> None:
    """Orders, funds and ids outlive the process, and what happened meanwhile is caught up with."""
    path = tmp_path / "paper.db"
    before = Desk(path=path, balances=RICH, volatility=0.003)
    report = before.place("buy", "0.01", "64700")
    before.exchange.close()
    before.clock.advance(before.first_step(lambda price: price < D("64600")))
    after = Desk(before.clock, path=path, balances=None, volatility=0.003)
    filled = after.again(report).order
    assert filled.state is OrderState.FILLED
    assert report.order.created_at < filled.updated_at <= before.clock.now()
    assert after.place("buy", "0.01", "50000", client_id="next").order.id == 2
    check_books(after, RICH)
    after.exchange.close()


def test_a_year_of_absence_is_caught_up_with_in_bounded_work() -> None:
    """So many steps per symbol are looked at and no more; what rests is matched as it would be."""
    desk = Desk(balances=RICH, volatility=0.003)
    report = desk.place("sell", "0.5", "65100")
    looked_at: list[int] = []
    price = desk.exchange._markets.price

    def counted(symbol: str, step: int) -> object:
        looked_at.append(step)
        return price(symbol, step)

    desk.exchange._markets.price = counted  # type: ignore[assignment]
    desk.clock.advance(365 * 86_400)
    assert desk.again(report).order.state is OrderState.FILLED
    assert len(set(looked_at)) <= 241
    assert max(looked_at) == 365 * 86_400


def test_looking_often_or_seldom_gives_the_same_prices() -> None:
    """The price does not depend on who looks how often."""
    often, seldom = Desk(), Desk()
    for _ in range(50):
        often.clock.advance(3)
        often.exchange.quote("ETH/USD")
    seldom.clock.advance(150)
    assert often.exchange.quote("ETH/USD") == seldom.exchange.quote("ETH/USD")


def test_looking_every_step_or_at_the_end_gives_the_same_trades() -> None:
    """Within the steps that are looked at one by one, absence changes nothing."""
    desks = [Desk(balances=RICH, volatility=0.003) for _ in range(2)]
    for desk in desks:
        for price in ("64800", "64900"):
            desk.place("buy", "2", price)
        desk.place("sell", "2", "65150")
        desk.place("sell", "1", kind="stop_market", stop="64850")
        desk.place("buy", "1", "65500", kind="stop_limit", stop="65200")
    for _ in range(200):
        desks[0].clock.advance(1)
        desks[0].exchange.now()
    desks[1].clock.advance(200)
    first, second = (trades(desk.exchange.trades(desk.origin)) for desk in desks)
    assert len(first) > 3
    assert first == second


def test_a_wall_clock_that_goes_back_is_harmless() -> None:
    """Time within the exchange goes on from where it was; stamps say what the wall clock says."""
    desk = Desk(balances=RICH, volatility=0.003)
    report = desk.place("buy", "0.01", "64700")
    desk.clock.advance(5)
    assert desk.exchange.now() == desk.clock.now()
    desk.clock.jump(-7200)
    assert desk.exchange.now() == desk.clock.now()
    best = (desk.markets.levels(BTC, step, Side.BUY)[0].price for step in range(6, 10_000))
    step = next(step for step, ask in enumerate(best, start=6) if ask <= D("64700"))
    desk.clock.advance(step - 5 - 1)
    assert desk.again(report).order.is_open
    desk.clock.advance(1)
    filled = desk.again(report).order
    assert filled.state is OrderState.FILLED
    assert filled.updated_at == desk.clock.now()
    check_books(desk, RICH)


def test_a_wall_clock_that_leaps_ahead_and_comes_back_is_harmless() -> None:
    """A request under way is not put off by it."""
    desk = Desk()
    desk.clock.jump(3600)
    desk.exchange.now()
    desk.clock.jump(-3600)
    desk.exchange.submit_later(desk.request("buy", "0.01", "50000", client_id="late"), delay=1.0)
    desk.clock.advance(1.0)
    assert ids(desk.exchange.open_orders()) == ["late"]


# ---- requests under way -----------------------------------------------------------------------------------


def test_a_late_request_arrives_in_its_own_time() -> None:
    """Not before, exactly once, and as of the instant at which it arrives."""
    desk = Desk()
    desk.exchange.submit_later(desk.request("buy", "0.01", "50000", client_id="late"), delay=1.5, expiry=2.0)
    desk.clock.advance(1.4)
    assert desk.exchange.query(None, "late") is None
    desk.clock.advance(60)
    found = desk.exchange.query(None, "late")
    assert isinstance(found, OrderReport)
    assert found.order.created_at == desk.origin + timedelta(seconds=1.5)
    assert len(desk.exchange.all_orders()) == 1


def test_a_request_past_its_expiry_is_dropped() -> None:
    """Late or not; it is never booked."""
    desk = Desk()
    desk.exchange.submit_later(desk.request("buy", "0.01", "50000"), delay=2.1, expiry=2.0)
    desk.clock.advance(10)
    answer = desk.exchange.submit(desk.request("buy", "0.01", "50000"), age=2.1, expiry=2.0)
    assert answer == Refused("request_expired")
    assert desk.exchange.all_orders() == []
    assert isinstance(desk.exchange.submit(desk.request("buy", "0.01", "50000"), age=2.0, expiry=2.0), OrderReport)
    assert isinstance(desk.exchange.submit(desk.request("buy", "0.01", "50000"), age=900.0), OrderReport)


def test_a_late_duplicate_is_refused_like_any_other() -> None:
    """Also when both copies arrive at the same time."""
    desk = Desk()
    for _ in range(2):
        desk.exchange.submit_later(desk.request("buy", "0.01", "50000", client_id="one"), delay=1.0)
    desk.place("buy", "0.01", "50000", client_id="two")
    desk.exchange.submit_later(desk.request("buy", "0.01", "50000", client_id="two"), delay=1.0)
    desk.clock.advance(2)
    assert ids(desk.exchange.all_orders()) == ["two", "one"]


def test_a_late_cancel_arrives_too() -> None:
    """It cancels what it finds then, and is harmless where it finds nothing."""
    desk = Desk()
    report = desk.place("buy", "0.01", "50000")
    for request in (CancelRequest(str(report.order.id), ""), CancelRequest(None, "nobody")):
        desk.exchange.submit_later(request, delay=1.0, expiry=2.0)
    desk.clock.advance(5)
    after = desk.again(report).order
    assert after.state is OrderState.CANCELED
    assert after.updated_at == desk.origin + timedelta(seconds=1)


def test_late_requests_meet_the_market_of_their_own_instant() -> None:
    """A request that arrives before a crash of the price trades at the price before it."""
    desk = Desk(balances=RICH, volatility=0.003)
    desk.exchange.submit_later(desk.request("buy", "0.01", client_id="late"), delay=10.0)
    desk.clock.advance(5000)
    found = desk.exchange.query(None, "late")
    assert isinstance(found, OrderReport)
    assert found.trades[0].price == desk.markets.levels(BTC, 10, found.order.side)[0].price


def test_no_more_than_so_many_requests_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are lost on their way, as a network may."""
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 3)
    desk = Desk()
    for _ in range(5):
        desk.exchange.submit_later(desk.request("buy", "0.01", "50000"), delay=1.0)
    desk.clock.advance(2)
    assert ids(desk.exchange.all_orders()) == ["c1", "c2", "c3"]


# ---- lists ------------------------------------------------------------------------------------------------


def test_lists_tell_open_from_closed_and_keep_to_the_period() -> None:
    """Closed orders are listed when they were created or closed within it, both ends included."""
    desk = Desk()
    at = desk.clock.now
    begin = at()
    long_lived = desk.place("buy", "0.01", "50000", client_id="long")
    desk.place("buy", "0.1", "2000", client_id="other", symbol="ETH/USD")
    desk.place("buy", "0.01", client_id="filled")
    desk.clock.advance(100)
    middle = at()
    desk.cancel(long_lived)
    desk.clock.advance(100)
    minute = timedelta(seconds=60)
    exchange = desk.exchange
    assert ids(exchange.open_orders()) == ["other"]
    assert ids(exchange.open_orders(BTC)) == []
    assert ids(exchange.open_orders("ETH/USD")) == ["other"]
    assert ids(exchange.closed_orders(begin, at())) == ["long", "filled"]
    assert ids(exchange.closed_orders(begin, at(), "ETH/USD")) == []
    assert ids(exchange.closed_orders(middle, middle)) == ["long"]
    assert ids(exchange.closed_orders(begin, begin)) == ["long", "filled"]
    assert ids(exchange.closed_orders(begin + minute, middle - timedelta(seconds=1))) == []
    assert ids(exchange.all_orders()) == ["long", "other", "filled"]


def test_trades_are_listed_since_a_time() -> None:
    """Of all symbols or of one, oldest first, with the order that they belong to."""
    desk = Desk()
    one = desk.place("buy", "0.01")
    desk.clock.advance(10)
    later = desk.clock.now()
    two = desk.place("sell", "1", symbol="ETH/USD")
    assert [trade.order_id for trade in trades(desk.exchange.trades(desk.origin))] == [1, 2]
    assert [trade.order_id for trade in trades(desk.exchange.trades(later))] == [2]
    assert trades(desk.exchange.trades(desk.origin, BTC)) == list(one.trades)
    assert trades(desk.exchange.trades(desk.origin, "ETH/USD")) == list(two.trades)


def test_new_orders_stay_hidden_for_the_lag_that_is_asked_for() -> None:
    """From lookups and lists, not from a duplicate check or a cancel."""
    desk = Desk()
    desk.place("buy", "0.01", "50000", client_id="one")
    desk.place("buy", "0.01", client_id="two")
    exchange, now = desk.exchange, desk.clock.now()
    assert exchange.query(None, "one", lag=0.2) is exchange.query("1", "one", lag=0.2) is None
    assert exchange.open_orders(lag=0.2) == exchange.closed_orders(now, now, lag=0.2) == []
    assert desk.refusal("buy", "0.01", "50000", client_id="one") == "duplicate_client_order_id"
    desk.clock.advance(0.2)
    assert exchange.query(None, "one", lag=0.2) is not None
    assert ids(exchange.open_orders(lag=0.2)) == ["one"]
    assert ids(exchange.closed_orders(now, now, lag=0.2)) == ["two"]


# ---- processes --------------------------------------------------------------------------------------------

TRADER = """
import json, os, signal, sys
from decimal import Decimal
from pathlib import Path
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from services.mcp.order_execution.paper_exchange.exchange import PaperExchange
from services.mcp.order_execution.paper_exchange.records import OrderReport
from services.mcp.order_execution.paper_exchange.requests import CancelRequest
from services.mcp.order_execution.paper_exchange.settings import PaperSettings

path, name, number, late = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), len(sys.argv) > 4
clock = SystemClock()
exchange = PaperExchange(PaperSettings(path=path, balances={"USD": 1000000, "BTC": 10}), clock)
exchange.open()
print("ready", flush=True)
sys.stdin.readline()
placed = []
for i in range(number):
    side = Side.BUY if i % 2 else Side.SELL
    resting = i % 3 == 0 or late
    price = Decimal(50000 if side is Side.BUY else 80000) if resting else None
    kind = OrderType.LIMIT if resting else OrderType.MARKET
    order = OrderRequest(f"{name}-{i}", "BTC/USD", side, kind, Decimal("0.001"), price)
    if late:
        exchange.submit_later(order, delay=1.0, expiry=2.0)
        continue
    report = exchange.submit(order)
    assert isinstance(report, OrderReport), report
    placed.append(report.order.id)
    if i % 6 == 0:
        exchange.submit(CancelRequest(str(report.order.id), ""))
print(json.dumps({"ids": placed, "now": clock.now().isoformat()}), flush=True)
if late:
    os.kill(os.getpid(), signal.SIGKILL)
exchange.close()
"""


def trader(path: Path, name: str, number: int, *late: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TRADER, str(path), name, str(number), *late],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_share_one_exchange(tmp_path: Path) -> None:
    """Three make and trade on the same file at once: every order is booked once, and all sums are right."""
    path = tmp_path / "paper.db"
    processes = [trader(path, name, 60) for name in ("a", "b", "c")]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    numbers = [number for answer in answers for number in answer["ids"]]
    assert sorted(numbers) == list(range(1, 181))
    clock = ManualClock(max(datetime.fromisoformat(answer["now"]) for answer in answers))
    desk = Desk(clock, path=path)
    reports = desk.exchange.all_orders()
    assert sorted(ids(reports)) == sorted(f"{name}-{number}" for name in "abc" for number in range(60))
    check_books(desk, {"USD": D(1_000_000), "BTC": D(10)})
    desk.exchange.close()


def test_a_late_request_lands_after_its_sender_was_killed(tmp_path: Path) -> None:
    """What is under way lies in the exchange's file, not in the process that sent it."""
    path = tmp_path / "paper.db"
    process = trader(path, "dead", 3, "late")
    out, _ = process.communicate("go\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    sent = datetime.fromisoformat(json.loads(out.splitlines()[1])["now"])
    clock = ManualClock(sent)
    desk = Desk(clock, path=path)
    assert desk.exchange.all_orders() == []
    clock.advance(5)
    assert ids(desk.exchange.all_orders()) == ["dead-0", "dead-1", "dead-2"]
    check_books(desk, {"USD": D(1_000_000), "BTC": D(10)})
    desk.exchange.close()


def test_an_exchange_that_another_process_holds_too_long_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation says so, and works again afterwards."""
    monkeypatch.setattr("services.mcp.order_execution.paper_exchange.schema.BUSY_SECONDS", 0.0)
    one, other = (Desk(path=tmp_path / "paper.db") for _ in range(2))
    with one.exchange._store.transaction(), pytest.raises(ExchangeDown, match="locked"):
        other.place("buy", "0.01", "50000")
    assert other.place("buy", "0.01", "50000").order.id == 1
    one.exchange.close()
    other.exchange.close()


def test_the_same_file_with_another_seed_is_refused(tmp_path: Path) -> None:
    """Prices would jump under resting orders."""
    Desk(path=tmp_path / "paper.db", seed=1).exchange.close()
    other = PaperExchange(PaperSettings(path=tmp_path / "paper.db", seed=2), ManualClock())
    with pytest.raises(ConfigurationError, match=r"gateway\.paper\.seed"):
        other.open()
