"""A local exchange with Nobitex's API shape over HTTP and websocket, on top of the paper exchange.

``python -m services.mcp.order_execution.sandbox`` runs it; tests start it in-process with :class:`Sandbox`.
"""

from .server import Sandbox
from .settings import SandboxSettings, WireFaults

__all__ = ["Sandbox", "SandboxSettings", "WireFaults"]
