"""A paper exchange in memory under a clock that the test moves, and the sums that must always be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from services.mcp.order_execution.models import OrderRequest, OrderType, Side, TimeInForce
from services.mcp.order_execution.paper_exchange.exchange import PaperExchange
from services.mcp.order_execution.paper_exchange.market import Markets
from services.mcp.order_execution.paper_exchange.records import Funds, OrderReport, Refused
from services.mcp.order_execution.paper_exchange.requests import CancelRequest
from services.mcp.order_execution.paper_exchange.settings import PaperSettings

BTC = "BTC/USD"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
D = Decimal


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at
        self.elapsed = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.elapsed += seconds

    def jump(self, seconds: float) -> None:
        """Move wall time alone."""
        self.at += timedelta(seconds=seconds)


class Desk:
    """An open exchange with short ways to say what a test wants."""

    def __init__(self, clock: ManualClock | None = None, **settings: Any) -> None:
        self.settings = PaperSettings(**{"path": Path(":memory:"), **settings})
        self.clock = clock or ManualClock()
        self.exchange = PaperExchange(self.settings, self.clock)
        self.exchange.open()
        self.markets = Markets(
            self.settings.seed, volatility=self.settings.volatility, depth_usd=self.settings.depth_usd
        )
        self.origin = self.clock.now()
        self._numbers = count(1)

    def request(
        self,
        side: str = "buy",
        amount: str | Decimal = "0.01",
        price: str | Decimal | None = None,
        *,
        kind: str | None = None,
        stop: str | Decimal | None = None,
        tif: str = "GTC",
        post_only: bool = False,
        client_id: str | None = None,
        symbol: str = BTC,
    ) -> OrderRequest:
        return OrderRequest(
            client_order_id=client_id or f"c{next(self._numbers)}",
            symbol=symbol,
            side=Side(side),
            type=OrderType(kind or ("market" if price is None else "limit")),
            amount=D(amount),
            price=None if price is None else D(price),
            stop_price=None if stop is None else D(stop),
            time_in_force=TimeInForce(tif),
            post_only=post_only,
        )

    def place(self, *args: Any, **kwargs: Any) -> OrderReport:
        answer = self.exchange.submit(self.request(*args, **kwargs))
        assert isinstance(answer, OrderReport), answer
        return answer

    def refusal(self, *args: Any, **kwargs: Any) -> str:
        answer = self.exchange.submit(self.request(*args, **kwargs))
        assert isinstance(answer, Refused), answer
        return answer.reason

    def cancel(self, report: OrderReport) -> OrderReport | Refused:
        answer = self.exchange.submit(CancelRequest(str(report.order.id), report.order.client_order_id))
        assert isinstance(answer, OrderReport | Refused)
        return answer

    def again(self, report: OrderReport) -> OrderReport:
        """The order as it stands now."""
        answer = self.exchange.query(str(report.order.id), "")
        assert isinstance(answer, OrderReport)
        return answer

    def funds(self, currency: str) -> Funds:
        account = self.exchange.balances()
        assert isinstance(account, dict)
        return account.get(currency, Funds(D(0)))

    def price(self, step: int, symbol: str = BTC) -> Decimal:
        return self.markets.price(symbol, step)

    def first_step(self, wanted: Callable[[Decimal], bool], *, after: int = 0) -> int:
        """The first step whose price is as wanted."""
        return next(step for step in range(after + 1, after + 100_000) if wanted(self.price(step)))

    def go_to(self, step: int) -> None:
        """Move the clock to the beginning of a step."""
        to = self.origin + timedelta(seconds=step * self.settings.step_seconds)
        self.clock.advance((to - self.clock.now()).total_seconds())


def check_books(desk: Desk, start: dict[str, Decimal]) -> None:
    """Every sum that must hold at any moment, whatever happened before."""
    totals: Counter[str] = Counter(start)  # type: ignore[assignment]
    blocked: Counter[str] = Counter()
    for report in desk.exchange.all_orders():
        order, trades = report.order, report.trades
        assert sum((trade.amount for trade in trades), D(0)) == order.filled <= order.amount
        assert sum((trade.price * trade.amount for trade in trades), D(0)) == order.cost
        assert sum((trade.fee for trade in trades), D(0)) == order.fee
        assert order.is_open or order.blocked == 0
        sign = 1 if order.side is Side.BUY else -1
        totals[order.base] += sign * order.filled
        totals[order.quote] -= sign * order.cost
        totals[order.fee_currency] -= order.fee
        blocked[order.blocked_currency] += order.blocked
    account = desk.exchange.balances()
    assert isinstance(account, dict)
    for currency, funds in account.items():
        assert funds.total == totals[currency], currency
        assert funds.blocked == blocked[currency], currency
        assert 0 <= funds.blocked <= funds.total, currency
