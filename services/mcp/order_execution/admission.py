"""Pre-commit: everything that can refuse an order before it is written down and sent."""

from __future__ import annotations

from .core import Core
from .models import OrderRequest
from .pretrade import check_traits, estimated_price, funds_needed, quantise


async def admit(core: Core, request: OrderRequest, deadline: float) -> OrderRequest:
    """Market rules, kill switch, funds, risk limits: nothing was written or sent when one refuses."""
    core.switch.check(request.client_order_id)
    check_traits(request, core.ports.gateway.traits, core.ports.gateway.name)
    market = await core.market(request.symbol, deadline)
    request = quantise(request, market)
    await core.wait_recovered(deadline)
    limits = core.guard.limits
    ticker = None
    if limits.need_price(request) or estimated_price(request, None) is None:
        ticker = await core.ticker(request.symbol, deadline)
    if market.base in limits.max_position:
        await core.funds.refresh()
    order_id = request.client_order_id
    needed = funds_needed(request, market, estimated_price(request, ticker))
    await core.funds.reserve(order_id, needed)
    try:
        # From here to the order's place among the admitted there is no await: limits hold for concurrent calls.
        position = core.funds.total(market.base)
        core.guard.check(request, market, ticker, core.registry.live(), position)
    except BaseException:
        core.funds.release(order_id)
        raise
    core.guard.admit(request)
    return request
