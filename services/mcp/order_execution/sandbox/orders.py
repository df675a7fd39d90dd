"""The order counter: placing, looking up and cancelling, one order at a time or several."""

from __future__ import annotations

import uuid
from typing import Any, Final

from ..models import OrderRequest
from ..paper_exchange.records import BookedOrder, OrderReport, Refused
from ..paper_exchange.requests import CancelRequest
from .calls import Call, Refusal, Reply, detail, failed
from .house import ANONYMOUS, CLIENT_ID, House, bad_request, choice, currency, fits
from .intents import EXECUTION_WORDS, BadOrder, Intent, read_intent, read_pro
from .rate_limits import Limit
from .shapes import Shapes
from .unthrottled import unthrottled

ORDER_POOL: Final = Limit("orders/add", 300, 600.0)
BATCH_MAX: Final = 20
RECENT_MAX: Final = 10_000
"""So many specifications are remembered for the duplicate guard."""

_REFUSALS: Final = {
    "insufficient_funds": "OverValueOrder",
    "min_notional": "SmallOrder",
    "amount_range": "SmallOrder",
    "price_range": "BadPrice",
    "stop_price_crossed": "PriceConditionFailed",
    "duplicate_client_order_id": "DuplicateClientOrderId",
    "unknown_symbol": "InvalidMarketPair",
}


class OrderCounter:
    """Carries out what changes orders, and looks up single ones."""

    def __init__(self, house: House, shapes: Shapes) -> None:
        self._house = house
        self._shapes = shapes
        self._recent: dict[tuple[object, ...], float] = {}

    # ---- placing ------------------------------------------------------------------------------------------

    def add(self, call: Call) -> Reply:
        """``POST /market/orders/add``."""
        body = call.json()
        return self._place(body, body.get("pro"))

    def add_batch(self, call: Call) -> Reply:
        """``POST /market/orders/batch-add``. Past the shared limit the rest is not looked at."""
        body = call.json()
        data = body.get("data")
        if not isinstance(data, list) or not 0 < len(data) <= BATCH_MAX:
            raise bad_request(f"data: a list of 1 to {BATCH_MAX} orders")
        results: list[Any] = []
        for item in data:
            try:
                self._house.limits.take(ORDER_POOL, private=True)
            except Refusal:
                break
            if isinstance(item, dict):
                results.append(self._place(item, body.get("pro")).body)
            else:
                results.append(failed("ParseError", clientOrderId=None).body)
        return Reply({"status": "ok", "results": results})

    def _place(self, body: dict[str, Any], pro: object) -> Reply:
        given = body.get("clientOrderId")
        try:
            report = self._book(read_intent(body, self._house), given, pro=read_pro(pro))
        except BadOrder as error:
            return failed(error.code, error.message, clientOrderId=given if isinstance(given, str) else None)
        reply = Reply({"status": "ok", "order": self._shapes.placed(report.order)})
        if report.order.is_open and self._house.weather.chance(self._house.faults.system_cancel):
            self._house.exchange.submit(CancelRequest(str(report.order.id), ""))
        return reply

    def _book(self, intent: Intent, given: str | None, *, pro: bool) -> OrderReport:
        """Check an order against guard and market, and book it. Raises BadOrder."""
        faults = self._house.faults
        if faults.refuse_adds is not None:
            raise BadOrder(faults.refuse_adds)
        if intent.market.dashed in faults.closed_markets:
            raise BadOrder("MarketClosed")
        self._guard(intent, pro=pro)
        quote = unthrottled(self._house.exchange.quote(intent.market.symbol))
        if quote is None:
            raise BadOrder("InvalidMarketPair")
        limit = intent.checked_price(quote.last)
        answer = self._house.exchange.submit(
            OrderRequest(
                client_order_id=given or f"{ANONYMOUS}{uuid.uuid4().hex}",
                symbol=intent.market.symbol,
                side=intent.side,
                type=intent.type,
                amount=intent.amount,
                price=limit,
                stop_price=intent.stop_price,
            )
        )
        if isinstance(answer, Refused):
            raise BadOrder(_REFUSALS.get(answer.reason, "ParseError"), answer.reason)
        return unthrottled(answer)

    def _guard(self, intent: Intent, *, pro: bool) -> None:
        """Refuse what was specified so a moment ago. The first one counts even where it is refused later on."""
        now = self._house.clock.monotonic()
        oldest = now - self._house.settings.duplicate_seconds
        for key in [key for key, at in self._recent.items() if at <= oldest]:
            del self._recent[key]
        key = intent.specification
        if key in self._recent and not pro:
            raise BadOrder("DuplicateOrder")
        if len(self._recent) < RECENT_MAX:
            self._recent[key] = now

    # ---- looking up ---------------------------------------------------------------------------------------

    def status(self, call: Call) -> Reply:
        """``POST /market/orders/status``: the id is called ``id`` here."""
        order = self._find(call.json(), "id")
        return (
            self._not_found() if order is None else Reply({"status": "ok", "order": self._shapes.looked_up(order)})
        )

    def open_count(self, call: Call) -> Reply:
        """``GET /market/orders/open-count``."""
        margin = call.query().get("tradeType") == "margin"
        return Reply({"status": "ok", "count": 0 if margin else len(self._open())})

    def _find(self, body: dict[str, Any], id_field: str) -> BookedOrder | None:
        order_id, given = body.get(id_field), body.get("clientOrderId")
        if order_id is None and given is None:
            raise Refusal(failed("NullIdAndClientOrderId", "an id or a clientOrderId is needed"))
        if order_id is not None and (not isinstance(order_id, int) or isinstance(order_id, bool)):
            raise bad_request(f"{id_field}: a whole number")
        if order_id is None and (not isinstance(given, str) or CLIENT_ID.fullmatch(given) is None):
            return None
        wanted = None if order_id is None else str(order_id)
        found = self._house.exchange.query(wanted, given or "", lag=self._house.lag)
        if not isinstance(found, OrderReport) or not self._house.markets.knows(found.order.symbol):
            return None
        return found.order

    def _not_found(self) -> Reply:
        """Undocumented, so each way that was ever reported."""
        coded = failed("NotFound", "Order not found", status=404)
        return self._house.rng.choice(
            {
                "varied": (coded, failed("NotFound", "Order not found"), detail("Not found.", 404)),
                "old": (detail("Not found.", 404),),
                "new": (coded,),
            }[self._house.settings.shapes]
        )

    def _open(self) -> list[BookedOrder]:
        reports = unthrottled(self._house.exchange.open_orders(lag=self._house.lag))
        return [report.order for report in reports if self._house.markets.knows(report.order.symbol)]

    # ---- cancelling ---------------------------------------------------------------------------------------

    def update_status(self, call: Call) -> Reply:
        """``POST /market/orders/update-status``: the id is called ``order`` here."""
        body = call.json()
        order = self._find(body, "order")
        wanted = body.get("status")
        if wanted not in ("canceled", "active"):
            raise bad_request("status: canceled")
        if order is None:
            return self._not_found()
        if wanted == "active" or not order.is_open or self._shapes.is_new(order):
            return self._unchanged(order)
        after = self._cancel(order.id)
        if isinstance(after, Refused):
            return self._unchanged(order)
        shown = {} if after is None else {"order": self._shapes.canceled(after.order)}
        return Reply({"status": "ok", "updatedStatus": "Canceled", **self._house.varied({}, shown)})

    def _cancel(self, order_id: int) -> OrderReport | Refused | None:
        """Cancel an order, now or, with a lag, later: then None. What is not open is refused in either case."""
        request, lag = CancelRequest(str(order_id), ""), self._house.faults.cancel_lag_seconds
        if lag > 0:
            found = unthrottled(self._house.exchange.query(str(order_id), ""))
            if found is None or not found.order.is_open:
                return Refused("not_open")
            self._house.exchange.submit_later(request, delay=lag)
            return None
        answer = self._house.exchange.submit(request)
        return answer if isinstance(answer, Refused) else unthrottled(answer)

    def _unchanged(self, order: BookedOrder) -> Reply:
        """A transition that is refused; how that is said is undocumented."""
        said = failed(None, updatedStatus=self._shapes.status(order), message="Order status could not be changed")
        return self._house.varied(failed(None), said)  # type: ignore[no-any-return]

    def cancel_old(self, call: Call) -> Reply:
        """``POST /market/orders/cancel-old``: all that match, untriggered stop orders apart."""
        body = call.json()
        if "hours" in body:
            raise bad_request("hours: the documentation leaves its meaning open, so the sandbox refuses it")
        execution = choice(body, "execution", tuple(EXECUTION_WORDS))
        margin = choice(body, "tradeType", ("spot", "margin")) == "margin"
        src, dst = currency(body, "srcCurrency"), currency(body, "dstCurrency")
        for order in self._open() if not margin else ():
            kind_fits = execution is None or EXECUTION_WORDS[execution] is order.type
            if kind_fits and not order.waiting and fits(self._house.markets.by_symbol(order.symbol), src, dst):
                self._cancel(order.id)
        return Reply({"status": "ok"})

    def cancel_batch(self, call: Call) -> Reply:
        """``POST /market/orders/cancel-batch``."""
        ids = call.json().get("orderIds")
        if not isinstance(ids, list) or not ids:
            return failed(None, message="Order_ids list is empty")
        if len(ids) > BATCH_MAX:
            return failed(None, message=f"The maximum number of orderIds should be {BATCH_MAX}")
        for item in ids:
            if not isinstance(item, int) or isinstance(item, bool):
                return failed(None, message=f'Invalid integer value: "{str(item)[:40]}"')
        orders: dict[str, Any] = {}
        for order_id in ids:
            well = not isinstance(self._cancel(order_id), Refused)
            orders[str(order_id)] = {"status": "ok"} if well else {"status": "failed", "message": "Order not open"}
        queued = "Orders are queued to be cancelled" if self._house.faults.cancel_lag_seconds else ""
        return Reply({"status": "ok", "message": queued, "orders": orders})
