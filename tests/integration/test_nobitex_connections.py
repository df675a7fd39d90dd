"""Where a request broke: before a connection stood nothing was sent, and afterwards nobody can know."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from services.mcp.order_execution import ErrorCategory, OrderNotSent, OrderUnresolved, ReliableOrderExecutor
from services.mcp.order_execution.clock import SystemClock
from services.mcp.order_execution.gateways.base import Accepted, NotSent, OrderRef, Unavailable, Unknown
from services.mcp.order_execution.gateways.nobitex import NobitexGateway
from services.mcp.order_execution.gateways.nobitex.signing import make_signer
from services.mcp.order_execution.models import OrderRequest, OrderState, OrderType, Side
from services.mcp.order_execution.sandbox import Sandbox, SandboxSettings

REQUEST = OrderRequest("o1", "BTC/USDT", Side.BUY, OrderType.LIMIT, Decimal("0.01"), Decimal(60_000))
REF = OrderRef("o1", "BTC/USDT", "7")
SECONDS = 0.4
"""The gateway's time limit; half of it is for the connection."""


@contextmanager
def listening(backlog: int) -> Iterator[tuple[socket.socket, str]]:
    """A port on which nobody ever accepts a connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def unanswered() -> Iterator[str]:
    """A port whose queue is full, so that the kernel leaves every further SYN without an answer."""
    with listening(0) as (listener, url):
        waiting: list[socket.socket] = []
        try:
            for _ in range(8):
                caller = socket.socket()
                waiting.append(caller)
                caller.settimeout(0.1)
                try:
                    caller.connect(listener.getsockname())
                except TimeoutError:
                    break
            else:
                pytest.skip("this kernel answers every SYN")
            yield url
        finally:
            for caller in waiting:
                caller.close()


@contextmanager
def refused() -> Iterator[str]:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it meanwhile
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def gateway_at(url: str, token: str = "0" * 40) -> AsyncIterator[NobitexGateway]:
    gateway = NobitexGateway(
        make_signer(token, None), SystemClock(), timeout_seconds=SECONDS, base_url=url, streams=False
    )
    await gateway.open()
    try:
        yield gateway
    finally:
        await gateway.close()


async def nothing_is_sent(url: str) -> None:
    """Neither an order, nor a cancel, nor a question."""
    async with gateway_at(url) as gateway:
        for outcome in (await gateway.submit(REQUEST), await gateway.cancel(REF)):
            assert isinstance(outcome, NotSent), outcome
            assert outcome.category is ErrorCategory.CONNECTION
        read = await gateway.balances()
        assert isinstance(read, Unavailable)
        assert read.category is ErrorCategory.CONNECTION


async def test_a_syn_without_an_answer_sends_nothing() -> None:
    """The connection did not come to be within its half of the time."""
    with unanswered() as url:
        await nothing_is_sent(url)


async def test_a_closed_port_is_told_as_nothing_sent() -> None:
    """Refused at once."""
    with refused() as url:
        await nothing_is_sent(url)


async def test_a_name_that_is_not_known_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to send it to."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    await nothing_is_sent("http://exchange.invalid")


async def test_after_the_connection_stood_nobody_can_know() -> None:
    """The kernel made the connection and took the request's bytes; whoever reads them later may carry them out."""
    with listening(5) as (listener, url):
        async with gateway_at(url) as gateway:
            outcome = await gateway.submit(REQUEST)
        assert isinstance(outcome, Unknown), outcome
        assert outcome.category is ErrorCategory.TIMEOUT
        caller, _ = listener.accept()
        with caller:
            assert caller.recv(65_536).startswith(b"POST /market/orders/add HTTP/1.1")


async def test_a_connection_that_is_kept_and_then_dead_is_unknown() -> None:
    """The second request of a connection whose other end is gone: its bytes left, so it may have been read."""
    async with (
        Sandbox(SandboxSettings(path=Path(":memory:"), port=0, limits=None)) as sandbox,
        gateway_at(sandbox.base_url, sandbox.keys.token) as gateway,
    ):
        assert isinstance(await gateway.submit(REQUEST), Accepted)
        sandbox.say("lost_request", "/market/orders/add")
        outcome = await gateway.submit(REQUEST)
        assert isinstance(outcome, Unknown), outcome


async def test_an_order_without_a_connection_is_told_as_not_sent(tmp_path: Path) -> None:
    """Through the whole executor: the exchange's port closes, and the caller may simply try again later."""
    async with Sandbox(SandboxSettings(path=Path(":memory:"), port=0, limits=None)) as sandbox:
        config = executor_config(tmp_path, sandbox)
        async with ReliableOrderExecutor(config) as bot:
            await bot.execute_order({**ORDER, "client_order_id": "first"})
            await sandbox._running.listener.shut()
            with pytest.raises(OrderNotSent):
                await bot.execute_order({**ORDER, "amount": "0.002", "client_order_id": "second"})
            await sandbox._running.listener.open()
            await bot.execute_order({**ORDER, "amount": "0.002", "client_order_id": "second"})
        assert [report.order.client_order_id for report in sandbox.book()] == ["first", "second"]


async def test_an_order_whose_answer_never_comes_is_told_as_unresolved(tmp_path: Path) -> None:
    """The connection stood: until the request has expired nobody can say, and it is not sent again."""
    async with (
        Sandbox(SandboxSettings(path=Path(":memory:"), port=0, limits=None)) as sandbox,
        ReliableOrderExecutor(executor_config(tmp_path, sandbox)) as bot,
    ):
        await bot.execute_order({**ORDER, "client_order_id": "first"})
        sandbox.say("hang_before", "/market/orders/add")
        with pytest.raises(OrderUnresolved):
            await bot.execute_order({**ORDER, "amount": "0.002", "client_order_id": "second"})
        order = await bot.get_order_status("second")
        assert (order.state, order.attempts) == (OrderState.UNKNOWN, 1)


ORDER = {"symbol": "BTC/USDT", "side": "buy", "type": "limit", "amount": "0.001", "price": "60000"}


def executor_config(directory: Path, sandbox: Sandbox) -> dict[str, object]:
    return {
        "gateway": {
            "name": "nobitex",
            "base_url": sandbox.base_url,
            "api_key": sandbox.keys.api_key,
            "api_secret": sandbox.keys.api_secret,
            "timeout_seconds": SECONDS,
        },
        "journal": {"url": f"sqlite:///{directory / 'journal.db'}"},
        "transaction_log": {"path": None},
        "retry": {"max_retries": 2, "initial_delay": 0.02, "max_delay": 0.1, "deadline_seconds": 1},
        "confirmation": {"close_timeout_seconds": 0.1},
        "circuit_breaker": {"error_threshold": 10_000},
    }
