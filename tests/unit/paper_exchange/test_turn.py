"""Placing and matching: what the exchange books, trades, blocks and refuses."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mcp.order_execution.models import OrderState
from services.mcp.order_execution.paper_exchange.records import Depth, OrderReport, Quote, Refused
from services.mcp.order_execution.paper_exchange.requests import CancelRequest
from services.mcp.order_execution.paper_exchange.turn import MAX_STEPS, steps_between
from tests.unit.paper_exchange.desk import BTC, D, Desk, check_books

RICH = {"USD": D(10_000_000), "BTC": D(1000)}


def depth(desk: Desk) -> Depth:
    answer = desk.exchange.depth(BTC)
    assert isinstance(answer, Depth)
    return answer


def quote(desk: Desk) -> Quote:
    answer = desk.exchange.quote(BTC)
    assert isinstance(answer, Quote)
    return answer


# ---- market orders ----------------------------------------------------------------------------------------


def test_a_market_order_walks_the_book_level_by_level() -> None:
    """It pays each level's price for what rests there, and no more."""
    desk = Desk(balances=RICH)
    first, second = depth(desk).asks[:2]
    report = desk.place("buy", first.amount + D("0.001"))
    assert [(trade.price, trade.amount) for trade in report.trades] == [
        (first.price, first.amount),
        (second.price, D("0.001")),
    ]
    assert report.order.state is OrderState.FILLED
    check_books(desk, RICH)


def test_fees_are_taken_out_of_what_is_received() -> None:
    """A buyer pays in the base currency, a seller in the quote currency, at the taker's rate."""
    desk = Desk(balances=RICH, taker_fee="0.002")
    bought, sold = desk.place("buy", "0.01"), desk.place("sell", "0.01")
    assert (bought.order.fee_currency, bought.order.fee) == ("BTC", D("0.00002"))
    assert (sold.order.fee_currency, sold.order.fee) == ("USD", sold.order.cost * D("0.002"))
    assert not bought.trades[0].maker
    check_books(desk, RICH)


def test_a_market_order_that_exhausts_the_depth_is_canceled_for_the_rest() -> None:
    """Nothing rests, nothing stays blocked, and the fills are kept."""
    desk = Desk(balances=RICH)
    there = sum((level.amount for level in depth(desk).bids), D(0))
    report = desk.place("sell", there + 1)
    assert (report.order.state, report.order.reason) == (OrderState.CANCELED, "no_liquidity")
    assert report.order.filled == there
    check_books(desk, RICH)


def test_what_was_taken_is_gone_until_the_next_step() -> None:
    """The same depth is not sold twice; the next step brings new depth."""
    desk = Desk(balances=RICH)
    best = depth(desk).asks[0]
    desk.place("buy", best.amount)
    assert depth(desk).asks[0].price > best.price
    assert quote(desk).ask == depth(desk).asks[0].price
    desk.clock.advance(1)
    assert len(depth(desk).asks) == 12


def test_a_market_order_may_carry_the_worst_price_at_which_it_trades() -> None:
    """Levels beyond the price are left alone, and the rest is canceled."""
    desk = Desk(balances=RICH)
    first, second = depth(desk).asks[:2]
    report = desk.place("buy", first.amount + second.amount, first.price, kind="market")
    assert report.order.filled == first.amount
    assert (report.order.state, report.order.reason) == (OrderState.CANCELED, "no_liquidity")
    check_books(desk, RICH)


def test_an_emptied_book_still_has_a_price() -> None:
    """The deepest level's price stands in for a side on which nothing is left."""
    desk = Desk(balances=RICH)
    asks = depth(desk).asks
    desk.place("buy", sum((level.amount for level in asks), D(0)))
    assert depth(desk).asks == ()
    assert quote(desk).ask == asks[-1].price


# ---- limit orders -----------------------------------------------------------------------------------------


def test_a_limit_order_away_from_the_market_rests_and_blocks_its_funds() -> None:
    """A buy at 50,000 rests at the start; canceling frees what it blocked."""
    desk = Desk(balances=RICH)
    buy, sell = desk.place("buy", "0.1", "50000"), desk.place("sell", "0.2", "80000")
    assert buy.order.state is sell.order.state is OrderState.OPEN
    assert desk.funds("USD").blocked == D(5000)
    assert desk.funds("BTC").blocked == D("0.2")
    canceled = desk.cancel(buy)
    assert isinstance(canceled, OrderReport)
    assert (canceled.order.state, canceled.order.reason) == (OrderState.CANCELED, "canceled_by_request")
    assert desk.funds("USD").blocked == 0
    check_books(desk, RICH)


def test_a_limit_order_takes_what_it_reaches_and_rests_with_the_remainder() -> None:
    """It pays the levels' own prices for what it takes; what it blocks shrinks to the remainder."""
    desk = Desk(balances=RICH)
    first, second = depth(desk).asks[:2]
    report = desk.place("buy", first.amount + 1, first.price)
    assert report.order.state is OrderState.PARTIALLY_FILLED
    assert report.order.filled == first.amount
    assert second.price > first.price
    assert desk.funds("USD").blocked == first.price
    check_books(desk, RICH)


def test_a_resting_order_fills_over_time_at_its_own_price_as_a_maker() -> None:
    """Each step in which the price reaches it brings a bounded amount, until it is filled."""
    desk = Desk(balances=RICH, volatility=0.003)
    limit = D("64700")
    report = desk.place("buy", "30", limit)
    assert report.order.state is OrderState.OPEN
    seen = []
    step = 0
    for _ in range(200):
        step = desk.first_step(lambda price: price < limit * D("0.999"), after=step)
        desk.go_to(step)
        report = desk.again(report)
        seen.append(report.order.filled)
        check_books(desk, RICH)
        if not report.order.is_open:
            break
    assert report.order.state is OrderState.FILLED
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert {trade.price for trade in report.trades} == {limit}
    assert all(trade.maker for trade in report.trades)
    assert report.order.fee == 30 * D("0.001")


def test_older_orders_at_the_same_price_are_served_first() -> None:
    """Time decides between equal prices: the younger gets something only once the older is filled."""
    desk = Desk(balances=RICH, volatility=0.003)
    older, younger = desk.place("sell", "20", "65300"), desk.place("sell", "20", "65300")
    step = 0
    for _ in range(50):
        step = desk.first_step(lambda price: price > D("65330"), after=step)
        desk.go_to(step)
        one, other = desk.again(older).order, desk.again(younger).order
        assert other.filled == 0 or one.filled == one.amount
        if not other.is_open:
            break
    assert desk.again(younger).order.state is OrderState.FILLED
    check_books(desk, RICH)


def test_the_better_price_is_served_first() -> None:
    """Price decides before time."""
    desk = Desk(balances=RICH, volatility=0.003)
    worse, better = desk.place("buy", "40", "64690"), desk.place("buy", "40", "64700")
    desk.go_to(desk.first_step(lambda price: price < D("64600")))
    assert desk.again(better).order.filled > 0
    worse_filled, better_left = desk.again(worse).order.filled, desk.again(better).order.remaining
    assert worse_filled == 0 or better_left == 0


def test_own_orders_do_not_trade_with_each_other() -> None:
    """A sell that meets an own resting buy passes it by and rests, or trades with the market alone."""
    desk = Desk(balances=RICH)
    price = quote(desk).last
    buy, sell = desk.place("buy", "0.1", price), desk.place("sell", "0.1", price)
    assert buy.order.state is sell.order.state is OrderState.OPEN
    check_books(desk, RICH)


def test_ioc_trades_what_it_can_and_is_canceled_for_the_rest() -> None:
    """Immediate or cancel never rests."""
    desk = Desk(balances=RICH)
    best = depth(desk).asks[0]
    report = desk.place("buy", best.amount + 1, best.price, tif="IOC")
    assert (report.order.state, report.order.reason) == (OrderState.CANCELED, "ioc_remainder")
    assert report.order.filled == best.amount
    filled = desk.place("buy", "0.01", "66000", tif="IOC")
    assert filled.order.state is OrderState.FILLED
    check_books(desk, RICH)


def test_fok_trades_all_or_nothing() -> None:
    """Fill or kill that cannot be filled whole expires without a trade, and takes no depth."""
    desk = Desk(balances=RICH)
    best = depth(desk).asks[0]
    killed = desk.place("buy", best.amount + 1, best.price, tif="FOK")
    assert (killed.order.state, killed.order.reason) == (OrderState.EXPIRED, "fok_not_fillable")
    assert killed.trades == ()
    filled = desk.place("buy", best.amount, best.price, tif="FOK")
    assert filled.order.state is OrderState.FILLED
    check_books(desk, RICH)


def test_post_only_never_takes() -> None:
    """It is refused where it would trade at once, and rests where it would not."""
    desk = Desk(balances=RICH)
    best = depth(desk).asks[0]
    assert desk.refusal("buy", "0.01", best.price, post_only=True) == "post_only_would_take"
    report = desk.place("buy", "0.01", best.price - D("0.01"), post_only=True)
    assert report.order.state is OrderState.OPEN
    assert len(desk.exchange.all_orders()) == 1


# ---- stop orders ------------------------------------------------------------------------------------------


def test_a_sell_stop_sells_at_market_once_the_price_has_fallen() -> None:
    """It waits with its base blocked, and trades as a taker in the first step that touches its stop price."""
    desk = Desk(balances=RICH, volatility=0.003)
    report = desk.place("sell", "0.1", kind="stop_market", stop="64700")
    assert report.order.state is OrderState.OPEN
    assert desk.funds("BTC").blocked == D("0.1")
    step = desk.first_step(lambda price: price <= D("64700"))
    desk.go_to(step - 1)
    assert desk.again(report).order.state is OrderState.OPEN
    desk.go_to(step)
    after = desk.again(report)
    assert after.order.state is OrderState.FILLED
    assert after.trades[0].price < D("64700")
    assert after.order.updated_at == desk.clock.now()
    check_books(desk, RICH)


def test_a_buy_stop_limit_becomes_a_limit_order_once_the_price_has_risen() -> None:
    """Below the market it then rests at its limit price; its limit price is what it blocks."""
    desk = Desk(balances=RICH, volatility=0.003)
    report = desk.place("buy", "0.1", "65050", kind="stop_limit", stop="65300")
    assert desk.funds("USD").blocked == D("6505")
    desk.go_to(desk.first_step(lambda price: price >= D("65300")))
    woken = desk.again(report)
    assert woken.order.state is OrderState.OPEN
    assert not woken.order.waiting
    step = desk.first_step(lambda price: price < D("65000"), after=desk.first_step(lambda p: p >= D("65300")))
    desk.go_to(step)
    filled = desk.again(report)
    assert filled.order.state is OrderState.FILLED
    assert {trade.price for trade in filled.trades} == {D("65050")}
    check_books(desk, RICH)


def test_a_buy_stop_buys_as_far_as_the_funds_reach() -> None:
    """Its block may not cover what it costs by then: the rest is canceled, and nothing is overdrawn."""
    start = {"USD": D(6600), "BTC": D(0)}
    desk = Desk(balances=start, volatility=0.003)
    report = desk.place("buy", "0.1", kind="stop_market", stop="66000")
    desk.go_to(desk.first_step(lambda price: price >= D("66000")))
    after = desk.again(report).order
    assert (after.state, after.reason) == (OrderState.CANCELED, "insufficient_funds")
    assert D(0) < after.filled < after.amount
    check_books(desk, start)


def test_a_post_only_stop_limit_that_would_take_is_canceled_when_it_wakes() -> None:
    """It was accepted long ago, so the refusal takes the form of a cancel."""
    desk = Desk(balances=RICH, volatility=0.003)
    report = desk.place("buy", "0.1", "66000", kind="stop_limit", stop="65300", post_only=True)
    desk.go_to(desk.first_step(lambda price: price >= D("65300")))
    after = desk.again(report).order
    assert (after.state, after.reason, after.filled) == (OrderState.CANCELED, "post_only_would_take", 0)
    check_books(desk, RICH)


def test_a_stop_that_is_touched_already_is_refused() -> None:
    """A buy stop at or below the price, and a sell stop at or above it."""
    desk = Desk(balances=RICH)
    assert desk.refusal("buy", "0.1", kind="stop_market", stop="65000") == "stop_price_crossed"
    assert desk.refusal("sell", "0.1", "64000", kind="stop_limit", stop="65000") == "stop_price_crossed"


# ---- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "amount", "price"),
    [("buy", "1", "50000"), ("buy", "1", None), ("sell", "2", "80000"), ("sell", "2", None)],
)
def test_what_the_funds_do_not_cover_is_refused(side: str, amount: str, price: str | None) -> None:
    """Free funds decide, limit or market, either side; nothing is booked."""
    desk = Desk(balances={"USD": "49999", "BTC": "1"})
    assert desk.refusal(side, amount, price) == "insufficient_funds"
    assert desk.exchange.all_orders() == []
    check_books(desk, {"USD": D(49999), "BTC": D(1)})


def test_blocked_funds_cannot_be_spent_twice() -> None:
    """A second order that fits the total but not what is free is refused."""
    desk = Desk(balances={"USD": "1000"})
    desk.place("buy", "0.01", "60000")
    assert desk.refusal("buy", "0.01", "60000") == "insufficient_funds"


def test_a_stop_order_blocks_too() -> None:
    """Its stop price stands in for a price that it does not have."""
    desk = Desk(balances={"USD": "1000"})
    desk.place("buy", "0.01", kind="stop_market", stop="70000")
    assert desk.funds("USD").blocked == D(700)
    assert desk.refusal("buy", "0.01", kind="stop_market", stop="70000") == "insufficient_funds"


def test_the_least_worth_is_measured_at_the_market_for_a_market_order() -> None:
    """Both kinds below five dollars are refused."""
    desk = Desk(balances=RICH)
    assert desk.refusal("buy", "0.00001") == "min_notional"
    assert desk.refusal("buy", "0.00009", "50000") == "min_notional"


@pytest.mark.parametrize("symbol", ["btc/usd", "BTCUSD", "B/USD", "BTC/BTC", "BTC/USD:USD", ""])
def test_what_is_no_symbol_is_refused(symbol: str) -> None:
    """Anything but BASE/QUOTE in capitals."""
    assert Desk().refusal("buy", "1", symbol=symbol) == "unknown_symbol"


def test_malformed_orders_are_refused_by_their_code() -> None:
    """The rules of test_admission.py are in force."""
    assert Desk().refusal("buy", "0.01", "50000.001") == "price_tick"


# ---- client ids -------------------------------------------------------------------------------------------


def test_a_client_id_is_unique_forever_by_default() -> None:
    """A duplicate is refused as one, whether the first is open or closed."""
    desk = Desk()
    first = desk.place("buy", "0.01", "50000", client_id="one")
    answer = desk.exchange.submit(desk.request("buy", "0.02", "50000", client_id="one"))
    assert answer == Refused("duplicate_client_order_id", duplicate_id=True)
    desk.cancel(first)
    assert desk.refusal("buy", "0.01", "50000", client_id="one") == "duplicate_client_order_id"
    assert len(desk.exchange.all_orders()) == 1


def test_a_client_id_may_be_unique_among_open_orders_alone() -> None:
    """Once the first is closed, the id may be used again."""
    desk = Desk(client_ids="open")
    first = desk.place("buy", "0.01", "50000", client_id="one")
    assert desk.refusal("buy", "0.01", "50000", client_id="one") == "duplicate_client_order_id"
    desk.cancel(first)
    assert desk.place("buy", "0.01", "50000", client_id="one").order.id == 2


def test_client_ids_may_not_be_unique_at_all() -> None:
    """Then a second order under the same id is simply a second order."""
    desk = Desk(client_ids="none")
    assert [desk.place("buy", "0.01", "50000", client_id="one").order.id for _ in range(2)] == [1, 2]


@pytest.mark.parametrize(("lookup", "open_found", "closed_found"), [
    ("all", True, True), ("open", True, False), ("none", False, False),
])  # fmt: skip
def test_lookup_by_client_id_covers_what_the_setting_says(
    lookup: str, open_found: bool, closed_found: bool
) -> None:
    """By the exchange's own id every order is found all the same."""
    desk = Desk(lookup=lookup)
    report = desk.place("buy", "0.01", "50000", client_id="one")
    assert (desk.exchange.query(None, "one") is not None) is open_found
    desk.cancel(report)
    assert (desk.exchange.query(None, "one") is not None) is closed_found
    assert desk.again(report).order.state is OrderState.CANCELED


def test_of_several_orders_under_one_id_the_open_one_is_found() -> None:
    """Then the newest."""
    desk = Desk(client_ids="none")
    reports = [desk.place("buy", "0.01", "50000", client_id="one") for _ in range(3)]
    desk.cancel(reports[2])
    found = desk.exchange.query(None, "one")
    assert isinstance(found, OrderReport)
    assert found.order.id == 2


@pytest.mark.parametrize("exchange_id", ["", "0", "01", "-1", "x", "١", "9" * 30, "1 OR 1"])
def test_an_id_that_the_exchange_never_gave_finds_nothing(exchange_id: str) -> None:
    """Whatever it looks like."""
    desk = Desk()
    desk.place("buy", "0.01", "50000")
    assert desk.exchange.query(exchange_id, "c1") is None


def test_only_open_orders_can_be_canceled() -> None:
    """A final order and an unknown one are refused apart; a cancel by client id works where ids are looked up."""
    desk = Desk()
    assert desk.exchange.submit(CancelRequest(None, "nobody")) == Refused("order_not_found")
    report = desk.place("buy", "0.01", "50000", client_id="one")
    assert isinstance(desk.exchange.submit(CancelRequest(None, "one")), OrderReport)
    assert desk.cancel(report) == Refused("not_open")


# ---- time and sums ----------------------------------------------------------------------------------------


def test_few_steps_are_all_looked_at_and_many_are_sampled() -> None:
    """The number of steps after an absence is bounded; the last one is always the present."""
    assert steps_between(3, 3) == []
    assert steps_between(3, 6) == [4, 5, 6]
    year = steps_between(10, 10 + 31_536_000)
    assert len(year) == MAX_STEPS
    assert year[-1] == 10 + 31_536_000
    assert year == sorted(set(year))


_orders = st.tuples(
    st.sampled_from(["buy", "sell"]),
    st.sampled_from(["market", "limit", "stop_market", "stop_limit"]),
    st.sampled_from(["GTC", "IOC", "FOK"]),
    st.integers(1, 400),
    st.integers(-40, 40),
    st.integers(-40, 40),
    st.booleans(),
)
_moves = st.one_of(
    _orders,
    st.tuples(st.just("wait"), st.floats(0.1, 900)),
    st.tuples(st.just("cancel"), st.integers(1, 12)),
    st.tuples(st.just("jump"), st.floats(-500, 500)),
)


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(_moves, min_size=1, max_size=14), seed=st.integers(0, 5))
def test_no_sequence_of_events_makes_or_loses_money(moves: list[tuple[Decimal]], seed: int) -> None:
    """Totals change by trades and fees alone; blocked is what open orders need, never more than there is."""
    start = {"USD": D(400_000), "BTC": D(5)}
    desk = Desk(balances=start, seed=seed, volatility=0.0008, depth_usd=20_000.0)
    for move in moves:
        match tuple(move):
            case ("wait", seconds):
                desk.clock.advance(float(seconds))
            case ("jump", seconds):
                desk.clock.jump(float(seconds))
            case ("cancel", number):
                desk.exchange.submit(CancelRequest(str(number), ""))
            case (side, kind, tif, size, away, stop_away, post_only):
                last = quote(desk).last
                price = (last + last * int(away) / 2000).quantize(D("0.01"))
                stop = (last + last * int(stop_away) / 2000).quantize(D("0.01"))
                desk.exchange.submit(
                    desk.request(
                        side, D(int(size)) / 100, price if "limit" in kind else None,
                        kind=kind, stop=stop if "stop" in kind else None, tif=tif, post_only=bool(post_only),
                    )
                )  # fmt: skip
        check_books(desk, start)
