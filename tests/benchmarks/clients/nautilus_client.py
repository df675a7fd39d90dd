"""NautilusTrader's live node with its Binance spot client: ``submit_order`` until its own OrderAccepted comes.

As it comes, it hears of its orders by the user-data stream. Its logging is off and its quotas are lifted, so that
neither is measured; reconciliation at the start is off, since the stub keeps no orders.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any, ClassVar

from nautilus_trader.adapters.binance import factories
from nautilus_trader.adapters.binance.config import BinanceExecClientConfig
from nautilus_trader.config import InstrumentProviderConfig, LoggingConfig
from nautilus_trader.core.nautilus_pyo3 import Quota
from nautilus_trader.live.config import LiveExecEngineConfig, LiveRiskEngineConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import OrderSide, TimeInForce
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.trading.strategy import Strategy
from worker import AMOUNT, KEY, PRICE, SECRET, main


class _NoQuota:
    """Quotas that nobody reaches."""

    @staticmethod
    def rate_per_minute(rate: int) -> Quota:
        """A million a second, whatever was asked for."""
        return Quota.rate_per_second(1_000_000)


class Factory(factories.BinanceLiveExecClientFactory):
    """Makes the client, and keeps it at hand: without a data client nobody puts its instruments into the cache."""

    made: ClassVar[list[Any]] = []

    @staticmethod
    def create(*args: Any, **kwargs: Any) -> Any:
        """The client as it comes."""
        client = factories.BinanceLiveExecClientFactory.create(*args, **kwargs)
        Factory.made.append(client)
        return client


class Placing(Strategy):
    """Submits orders, and knows who waits for which."""

    def on_start(self) -> None:
        """Begin."""
        self.waiting: dict[object, asyncio.Future[None]] = {}

    def on_order_accepted(self, event: object) -> None:
        """The exchange has it."""
        waiter = self.waiting.pop(event.client_order_id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_order_rejected(self, event: object) -> None:
        """The exchange does not want it: the measurement is worth nothing."""
        self.waiting.pop(event.client_order_id).set_exception(RuntimeError(str(event)))

    on_order_denied = on_order_rejected


class NautilusClient:
    """``Strategy.submit_order`` in a running node."""

    async def start(self, port: int, directory: str) -> None:
        """Run a node with one strategy."""
        factories.Quota = _NoQuota
        self._instrument = InstrumentId.from_str("BTCUSDT.BINANCE")
        provider = InstrumentProviderConfig(load_ids=frozenset({self._instrument}))
        config = TradingNodeConfig(
            logging=LoggingConfig(log_level="ERROR"),
            exec_engine=LiveExecEngineConfig(reconciliation=False),
            risk_engine=LiveRiskEngineConfig(bypass=False, max_order_submit_rate="1000000/00:00:01"),
            exec_clients={
                "BINANCE": BinanceExecClientConfig(
                    api_key=KEY,
                    api_secret=SECRET,
                    base_url_http=f"http://127.0.0.1:{port}",
                    base_url_ws=f"ws://127.0.0.1:{port}",
                    instrument_provider=provider,
                )
            },
        )
        loop = asyncio.get_running_loop()
        self._node = node = TradingNode(config=config, loop=loop)
        self._strategy = strategy = Placing()
        node.trader.add_strategy(strategy)
        node.add_exec_client_factory("BINANCE", Factory)
        node.build()
        self._running = loop.create_task(node.run_async())
        async with asyncio.timeout(60):
            while not (strategy.is_running and hasattr(strategy, "waiting")):  # noqa: ASYNC110 - not ours
                await asyncio.sleep(0.05)
        for known in Factory.made[0]._instrument_provider.list_all():
            node.cache.add_instrument(known)
        instrument = node.cache.instrument(self._instrument)
        self._amount = instrument.make_qty(Decimal(AMOUNT))
        self._price = instrument.make_price(Decimal(PRICE))

    async def order(self) -> None:
        """Place it."""
        strategy = self._strategy
        order = strategy.order_factory.limit(
            self._instrument, OrderSide.BUY, self._amount, self._price, time_in_force=TimeInForce.GTC
        )
        accepted = asyncio.get_running_loop().create_future()
        strategy.waiting[order.client_order_id] = accepted
        strategy.submit_order(order)
        async with asyncio.timeout(10):
            await accepted

    async def stop(self) -> None:
        """The process ends right after this; nothing of the node is to be kept."""


if __name__ == "__main__":
    main(NautilusClient())
