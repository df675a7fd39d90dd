"""From a request to its answer: which endpoint, who may, how often, and what it says. Free of sockets."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..paper_exchange.schema import ExchangeDown
from .account import AccountCounter
from .calls import Call, Refusal, Reply, detail, page
from .door import Door
from .house import House
from .lists import ListCounter
from .orders import ORDER_POOL, OrderCounter
from .public import PublicCounter
from .rate_limits import Limit, too_many
from .shapes import Shapes

BOT_AGENT: Final = "TraderBot/"
SESSION_ONLY: Final = "SESSION"
"""What no API key is permitted."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One documented address. ``permission`` None: public. ``limit`` None: not stated in the documentation."""

    method: str
    path: str
    handle: Callable[[Call], Reply]
    permission: str | None
    limit: Limit | None = None


class Counter:
    """Serves requests one after the other; each is carried out whole before the next."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._door = Door(house.settings, house.keys, house.clock)
        self.shapes = Shapes(house)
        self.tally: Tally[str] = Tally()
        """How many requests each path and HTTP status had."""
        self.public = PublicCounter(house)
        self._endpoints = {endpoint.path: endpoint for endpoint in self._all()}

    def _all(self) -> list[Endpoint]:
        orders, lists = OrderCounter(self._house, self.shapes), ListCounter(self._house, self.shapes)
        account, public, wallet_method = (
            AccountCounter(self._house),
            self.public,
            self._house.settings.wallet_method,
        )
        listing = self._house.settings.key_lists_keys
        add = Endpoint("POST", "/market/orders/add", orders.add, "TRADE", ORDER_POOL)
        return [
            add,
            _limited("POST", "/market/orders/batch-add", orders.add_batch, "TRADE", 300, 600),
            _limited("POST", "/market/orders/status", orders.status, "READ", 300, 60),
            _limited("GET", "/market/orders/list", lists.orders, "READ", 30, 60),
            _limited("POST", "/market/orders/update-status", orders.update_status, "TRADE", 90, 60),
            _limited("POST", "/market/orders/cancel-old", orders.cancel_old, "TRADE", 30, 60),
            _limited("POST", "/market/orders/cancel-batch", orders.cancel_batch, "TRADE", 10, 60),
            _limited("GET", "/market/orders/open-count", orders.open_count, "READ", 15, 60),
            _limited("GET", "/market/trades/list", lists.trades, "READ", 30, 60),
            _limited(wallet_method, "/users/wallets/list", account.wallet_list, "READ", 20, 120),
            _limited(wallet_method, "/v2/wallets", account.wallets, "READ", 15, 60),
            _limited("POST", "/users/wallets/balance", account.balance, "READ", 60, 120),
            Endpoint("GET", "/users/profile", account.profile, "READ"),
            Endpoint(wallet_method, "/users/limitations", account.limitations, "READ"),
            Endpoint("GET", "/apikeys/list", account.key_list, "READ" if listing else SESSION_ONLY),
            Endpoint("GET", "/auth/ws/token/", account.stream_token, "READ"),
            Endpoint("GET", "/v2/options", public.options, None),
            _limited("GET", "/v3/orderbook/", public.book, None, 300, 60),
            _limited("GET", "/v2/depth/", public.depth, None, 300, 60),
            _limited("GET", "/v2/trades/", public.trades, None, 60, 60),
            _limited("GET", "/market/stats", public.stats, None, 20, 60),
            Endpoint("GET", "/market/udf/history", public.history, None),
        ]

    def endpoint(self, path: str) -> Endpoint | None:
        """The endpoint of a path; those of one symbol are known by what comes before it."""
        found = self._endpoints.get(path)
        if found is not None and path.endswith("/") and found.permission is None:
            return None  # an address of one symbol, without a symbol
        return found or self._endpoints.get(path.rpartition("/")[0] + "/" if _ends_in_symbol(path) else "")

    def serve(self, call: Call) -> Reply:
        """Carry a request out."""
        endpoint = self.endpoint(call.path)
        reply = self._serve(call, endpoint)
        self.tally[f"{'other' if endpoint is None else endpoint.path} {reply.status}"] += 1
        return reply

    def _serve(self, call: Call, endpoint: Endpoint | None) -> Reply:
        if endpoint is None:
            return page(404, "Not Found")
        try:
            self._door.check_address(call.remote)
            if call.method != endpoint.method:
                return detail(f'Method "{call.method}" not allowed.', 405)
            private = endpoint.permission is not None
            if endpoint.permission is not None:
                self._door.admit(call, endpoint.permission)
            known_bot = call.headers.get("User-Agent", "").startswith(BOT_AGENT)
            limit = endpoint.limit or Limit(endpoint.path, 10**9, 60.0)
            self._house.limits.take(limit, private=private, known_bot=known_bot)
            return endpoint.handle(call)
        except Refusal as refusal:
            return refusal.reply
        except ExchangeDown:
            return page(500, "Internal Server Error")

    def is_fresh(self, call: Call) -> bool:
        """Whether the timestamp of a signed request is near enough to the present."""
        return self._door.is_fresh(call)

    def back_off(self, call: Call, seconds: float) -> Reply:
        """A 429 that is meant: calls to the same endpoint are refused for so long."""
        endpoint = self.endpoint(call.path)
        limit = Limit(call.path, 60, 60.0) if endpoint is None or endpoint.limit is None else endpoint.limit
        if endpoint is not None:
            self._house.limits.hold(limit.pool, seconds, limit.count)
        return too_many(seconds, limit.count)


def _limited(
    method: str, path: str, handle: Callable[[Call], Reply], permission: str | None, count: int, seconds: float
) -> Endpoint:
    return Endpoint(method, path, handle, permission, Limit(path, count, seconds))


def _ends_in_symbol(path: str) -> bool:
    return path.startswith(("/v3/orderbook/", "/v2/depth/", "/v2/trades/")) and path.count("/") == 3
