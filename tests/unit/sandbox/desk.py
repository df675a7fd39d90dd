"""What the tests of the sandbox share: a running one, a clock in the hand, and a client that speaks its API."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yarl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ADD = "/market/orders/add"
STATUS = "/market/orders/status"
LIST = "/market/orders/list"
CANCEL = "/market/orders/update-status"


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds


@dataclass
class Answer:
    """One answer; ``body`` is JSON where it is any, else text."""

    status: int
    body: Any
    headers: Any


class Desk:
    """A client of a running sandbox that uses the session token, or signs."""

    def __init__(self, sandbox: Sandbox, clock: HandClock, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.session = session

    @property
    def token(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.sandbox.keys.token}"}

    def signed(self, method: str, target: str, body: bytes = b"", *, ahead: float = 0.0) -> dict[str, str]:
        """The headers of the API-key scheme, made here independently of the sandbox's own code."""
        stamp = str(int(self.clock.now().timestamp() + ahead))
        secret = self.sandbox.keys.api_secret
        assert secret is not None
        key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(secret))
        signature = key.sign(f"{stamp}{method}{target}".encode() + body)
        return {
            "Nobitex-Key": self.sandbox.keys.api_key or "",
            "Nobitex-Timestamp": stamp,
            "Nobitex-Signature": base64.urlsafe_b64encode(signature).decode(),
        }

    async def ask(
        self,
        method: str,
        target: str,
        body: dict[str, Any] | bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 5.0,
    ) -> Answer:
        """One request, with the token unless other headers are given."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {**(self.token if headers is None else headers)}
        if raw:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(
            method,
            yarl.URL(self.sandbox.base_url + target, encoded=True),
            data=raw or None,
            headers=sent,
            timeout=aiohttp.ClientTimeout(total=timeout),
        ) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return Answer(response.status, json.loads(text) if is_json else text, response.headers)

    async def post(self, target: str, body: dict[str, Any] | None = None) -> Answer:
        return await self.ask("POST", target, body or {})

    async def get(self, target: str) -> Answer:
        return await self.ask("GET", target)

    async def add(self, **changes: Any) -> Answer:
        """Place an order: by default one that rests, 0.01 BTC at 60,000 USDT while the market is at 65,000."""
        order = {
            "type": "buy",
            "execution": "limit",
            "srcCurrency": "btc",
            "dstCurrency": "usdt",
            "amount": "0.01",
            "price": "60000",
            "pro": "yes",
            **changes,
        }
        return await self.post(ADD, {name: value for name, value in order.items() if value is not None})

    async def market(self, **changes: Any) -> Answer:
        """A market order, which fills at once."""
        return await self.add(**{"execution": "market", "price": None, **changes})

    def codes(self, answer: Answer) -> tuple[int, Any, Any]:
        return answer.status, answer.body.get("status"), answer.body.get("code")


@asynccontextmanager
async def desk(*, path: Path | str = ":memory:", **settings: Any) -> AsyncIterator[Desk]:
    """A running sandbox on a free port, with the clock at noon, and a client without kept-alive connections."""
    clock = HandClock()
    wanted = SandboxSettings.model_validate({"path": path, "port": 0, **settings})
    async with (
        Sandbox(wanted, clock=clock) as sandbox,
        aiohttp.ClientSession(
            headers={"User-Agent": "TraderBot/tests"}, connector=aiohttp.TCPConnector(force_close=True)
        ) as session,
    ):
        yield Desk(sandbox, clock, session)
