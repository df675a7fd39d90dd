"""The gateway of the measurements alone, without the executor: what of an order is HTTP and not this library.

It speaks aiohttp more sparingly than the baseline: no cookies, no time limits of its own, a request put together
as text.
"""

from __future__ import annotations

import uuid
from decimal import Decimal

from worker import AMOUNT, KEY, PRICE, SECRET, SYMBOL, main

from services.mcp.order_execution.gateways.base import Accepted
from services.mcp.order_execution.models import OrderRequest, OrderType, Side
from tests.benchmarks.gateway import HttpGateway


class GatewayClient:
    """``Gateway.submit``."""

    async def start(self, port: int, directory: str) -> None:
        """Make the session."""
        self._gateway = HttpGateway(port, KEY, SECRET)
        await self._gateway.open()

    async def order(self) -> None:
        """Send one, and see it accepted."""
        request = OrderRequest(uuid.uuid4().hex, SYMBOL, Side.BUY, OrderType.LIMIT, Decimal(AMOUNT), Decimal(PRICE))
        outcome = await self._gateway.submit(request)
        if type(outcome) is not Accepted:
            raise RuntimeError("the stub refused")

    async def stop(self) -> None:
        """Close the session."""
        await self._gateway.close()


if __name__ == "__main__":
    main(GatewayClient())
