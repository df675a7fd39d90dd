"""Every other exchange, through ccxt. ccxt is imported when a gateway is made, not before.

What holds on which exchange, and why: docs/reference/exchanges.md, from the table in ``rows``.
"""

from .gateway import CcxtGateway

__all__ = ["CcxtGateway"]
