"""The account counter: wallets, profile, keys and the stream's token."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ..models import ZERO
from ..paper_exchange.records import Funds
from .calls import Call, Reply, failed
from .house import House, bad_request, plain
from .keys import stream_token
from .markets import NAMES, paper_currency
from .unthrottled import unthrottled


class AccountCounter:
    """Answers what concerns the account as a whole."""

    def __init__(self, house: House) -> None:
        self._house = house

    def _funds(self) -> dict[str, Funds]:
        """By code; a currency that the account never had is missing."""
        account = unthrottled(self._house.exchange.balances())
        return {code: account[paper_currency(code)] for code in NAMES if paper_currency(code) in account}

    def wallets(self, call: Call) -> Reply:
        """``/v2/wallets``: only wallets that exist, under names in capitals."""
        wanted = call.query().get("currencies")
        codes = set(NAMES) if wanted is None else set(wanted.split(","))
        if not codes <= set(NAMES):
            raise bad_request("currencies: codes with commas between them")
        margin = call.query().get("type", "spot") == "margin"
        wallets = {
            code.upper(): {"id": _wallet_id(code), "balance": _balance(own.total), "blocked": plain(own.blocked)}
            for code, own in self._funds().items()
            if code in codes and own.total and not margin
        }
        return Reply({"status": "ok", "wallets": wallets})

    def wallet_list(self, _: Call) -> Reply:
        """``/users/wallets/list``."""
        rows = [self._row(code, own) for code, own in self._funds().items()]
        return Reply({"status": "ok", "wallets": rows})

    def _row(self, code: str, own: Funds) -> dict[str, Any]:
        worth = int(own.total * self._rials(code))
        return {
            "id": _wallet_id(code),
            "currency": code,
            "balance": _balance(own.total),
            "blockedBalance": plain(own.blocked) if own.blocked else "0",
            "activeBalance": plain(own.free),
            "rialBalance": worth,
            "rialBalanceSell": worth,
            "depositInfo": {},
            "depositAddress": None,
        }

    def _rials(self, code: str) -> Decimal:
        if code == "rls":
            return Decimal(1)
        quote = unthrottled(self._house.exchange.quote(f"{paper_currency(code)}/RLS"))
        return ZERO if quote is None else quote.last

    def balance(self, call: Call) -> Reply:
        """``POST /users/wallets/balance``: the whole balance, what is blocked included."""
        code = str(call.json().get("currency"))
        if code not in NAMES:
            return failed("ParseError", "currency: a code")
        own = self._funds().get(code, Funds(ZERO))
        return Reply({"balance": f"{own.total:.10f}", "status": "ok"})

    def profile(self, _: Call) -> Reply:
        """``GET /users/profile``. The suffix of private channels stands in either of two places."""
        percent = plain(self._house.settings.taker_fee * 100)
        profile = {
            "id": 1,
            "username": "demo@sandbox.invalid",
            "email": "demo@sandbox.invalid",
            "level": 46,
            "options": {"fee": percent, "feeUsdt": percent, "isManualFee": False, "tfa": True},
        }
        parameter = {"websocketAuthParam": self._house.keys.stream_parameter}
        top, inside = self._house.varied((parameter, {}), ({}, parameter))
        statistics = {"monthTradesTotal": "0", "monthTradesCount": 0}
        return Reply({"status": "ok", "profile": {**profile, **inside}, "tradeStats": statistics, **top})

    def limitations(self, _: Call) -> Reply:
        """``/users/limitations``."""
        features = {"crypto_trade": True, "rial_trade": True, "coin_deposit": False, "rial_deposit": False}
        return Reply({"status": "ok", "limitations": {"userLevel": "level2", "features": features}})

    def key_list(self, _: Call) -> Reply:
        """``GET /apikeys/list``; only its field names are documented, from the answer to a creation."""
        key = self._house.keys.api_key
        keys: list[dict[str, Any]] = [
            {
                "key": key,
                "name": "demo",
                "description": "",
                "permissions": ",".join(sorted(self._house.settings.permissions)),
                "ipAddressesWhitelist": [],
                "expirationDate": None,
            }
        ]
        return Reply({"status": "ok", "keys": [] if key is None else keys})

    def stream_token(self, _: Call) -> Reply:
        """``GET /auth/ws/token/``."""
        issued = int(self._house.clock.now().timestamp())
        expires = issued + self._house.settings.ws_token_seconds
        return Reply({"token": stream_token(self._house.keys, issued=issued, expires=expires), "status": "ok"})


def _wallet_id(code: str) -> int:
    return 133_700 + list(NAMES).index(code)


def _balance(total: Decimal) -> str:
    return plain(total) if total else "0E-10"
