"""Pre-commit: everything that can refuse an order before it is written down and sent."""

from __future__ import annotations

from .core import Core
from .models import OrderRequest
from .pretrade import check_traits, estimated_price, funds_needed, quantise


async def admit(core: Core, request: OrderRequest, deadline: float) -> OrderRequest:
    """Market rules, kill switch, funds, risk limits: nothing was written or sent when one refuses."""
    gateway, order_id = core.ports.gateway, request.client_order_id
    core.switch.check(order_id)
    check_traits(request, gateway.traits, gateway.name)
    market = core.kept_market(request.symbol) or await core.market(request.symbol, deadline)
    request = quantise(request, market)
    if not core.recovered:
        await core.wait_recovered(deadline)
    limits = core.guard.limits
    ticker = None
    price = estimated_price(request, None)
    if price is None or limits.need_price(request):
        ticker = await core.ticker(request.symbol, deadline)
        price = estimated_price(request, ticker)
    if market.base in limits.max_position:
        await core.funds.refresh()
    needed = funds_needed(request, market, price)
    if not core.funds.reserve_known(order_id, needed):
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
