"""The operator's counter: changes the weather and shows the whole book, which is the truth tests compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from ..paper_exchange.records import OrderReport, Trade
from .calls import Call, Refusal
from .counter import Counter
from .faults import SCRIPT_MAX, Fate
from .house import House, plain
from .settings import WireFaults
from .shapes import Shapes, client_id
from .unthrottled import unthrottled


class Operator:
    """Answers below ``/sandbox/``. These calls meet no faults and no limits."""

    def __init__(
        self,
        house: House,
        counter: Counter,
        set_faults: Callable[[WireFaults], None],
        under_way: Callable[[], int],
    ) -> None:
        self._house = house
        self._counter = counter
        self._set_faults = set_faults
        self._under_way = under_way

    async def faults(self, request: web.Request) -> web.Response:
        """``GET`` shows the faults; ``POST`` puts others in their place: what it does not name is off.

        ``"script": [{"fate": "lost_reply", "path": "/market/orders/add"}, …]`` says beforehand what the next
        requests to such paths meet.
        """
        if request.method == "POST":
            try:
                self._change(Call("POST", request.path, request.headers, await request.read()).json())
            except Refusal as refusal:
                return web.json_response(refusal.reply.body, status=400)
            except ValueError as error:
                why = _problems(error) if isinstance(error, ValidationError) else str(error)
                return web.json_response({"status": "failed", "message": why}, status=400)
        return web.json_response({"status": "ok", "faults": self._house.faults.model_dump(mode="json")})

    def _change(self, wanted: dict[str, Any]) -> None:
        script = wanted.pop("script", [])
        if not isinstance(script, list) or len(script) > SCRIPT_MAX:
            raise ValueError("script: a list of fates")
        said = []
        for item in script:
            if not isinstance(item, dict) or set(item) - {"fate", "path"}:
                raise ValueError('script: expected {"fate": …, "path": …}')
            said.append((Fate(str(item.get("fate"))), str(item.get("path", ""))))
        faults = WireFaults.model_validate(wanted)
        self._set_faults(faults)
        for fate, path in said:
            self._house.weather.say(fate, path)

    async def book(self, _: web.Request) -> web.Response:
        """``GET /sandbox/book``: every order ever booked with its trades, the funds, and the requests so far."""
        return web.json_response(self.whole_book())

    def whole_book(self) -> dict[str, Any]:
        """What :meth:`book` answers."""
        exchange = self._house.exchange
        funds = unthrottled(exchange.balances())
        return {
            "status": "ok",
            "orders": [_order(report, self._counter.shapes) for report in exchange.all_orders()],
            "funds": {
                currency: {"total": plain(own.total), "blocked": plain(own.blocked)}
                for currency, own in funds.items()
            },
            "under_way": self._under_way(),
            "requests": dict(self._counter.tally),
        }


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


def _order(report: OrderReport, shapes: Shapes) -> dict[str, Any]:
    order = report.order
    return {
        "id": order.id,
        "clientOrderId": client_id(order),
        "symbol": order.symbol,
        "side": order.side.value,
        "type": order.type.value,
        "amount": plain(order.amount),
        "price": None if order.price is None else plain(order.price),
        "stopPrice": None if order.stop_price is None else plain(order.stop_price),
        "status": shapes.status(order),
        "filled": plain(order.filled),
        "cost": plain(order.cost),
        "fee": plain(order.fee),
        "feeCurrency": order.fee_currency,
        "reason": order.reason,
        "created_at": order.created_at.isoformat(),
        "updated_at": order.updated_at.isoformat(),
        "trades": [_trade(trade) for trade in report.trades],
    }


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.id,
        "price": plain(trade.price),
        "amount": plain(trade.amount),
        "fee": plain(trade.fee),
        "at": trade.at.isoformat(),
    }
